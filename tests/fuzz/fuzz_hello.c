/* The reply to Hello, as the dendrite reads it: src/dendrite/hello.c. */
#include <proto/neuron.pb-c.h>
#include <string.h>

#include "dendrite/hello.h"
#include "fuzz/buffers.h"

static void seed(FuzzSeeds *seeds, const char *key, uint64_t limit, size_t somas)
{
    Neuron__ServedSoma soma = NEURON__SERVED_SOMA__INIT, *list[2] = {&soma, &soma};
    Neuron__HelloReply reply = NEURON__HELLO_REPLY__INIT;
    uint8_t bytes[512] = {0};
    soma.synapse_key = (char *)(uintptr_t) "soma";
    soma.serving = true;
    reply.version = (char *)(uintptr_t) "0.1.0";
    reply.neuron_key = (char *)(uintptr_t)key;
    reply.max_message_bytes = limit;
    reply.n_somas = somas;
    reply.somas = list;
    size_t size = neuron__hello_reply__pack(&reply, bytes);
    fuzz_seed(seeds, bytes, size + 2); /* in one piece, status OK */
}

void fuzz_seeds(FuzzSeeds *seeds)
{
    seed(seeds, "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 64 << 20, 1);
    seed(seeds, "\x1b[2J", 1, 2);
    seed(seeds, "", UINT64_MAX, 0);
    seed(seeds, "neuron", 0, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size};
    FuzzPieces pieces;
    FuzzBuffer buffer;
    UnaryCall call;
    uint64_t limit = 0;
    char key[KEY_SIZE];
    fuzz_done_call(&input, &pieces, &buffer, &call);
    bool good = hello_read(&call, &limit, key);
    REQUIRE(strnlen(key, sizeof key) < sizeof key);
    REQUIRE(*key == '\0' || (good && key_check("key", key, strlen(key), NULL) == STATUS_OK));
    REQUIRE(!good || limit > 0);
    REQUIRE(call.code != GRPC_STATUS_UNIMPLEMENTED || (good && limit == HELLO_REFERENCE_BYTES));
    if (good && call.code == GRPC_STATUS_OK) {
        Neuron__HelloReply *truth = neuron__hello_reply__unpack(NULL, input.size, fuzz_copy(input.bytes, input.size));
        REQUIRE(truth && truth->max_message_bytes == limit && (!*key || strcmp(key, truth->neuron_key) == 0));
        neuron__hello_reply__free_unpacked(truth, NULL);
    }
    fuzz_rooms_clear();
    return 0;
}
