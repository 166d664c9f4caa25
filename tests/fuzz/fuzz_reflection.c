/* A ServerReflectionRequest and what answers it: src/axon/reflection.c. */
#include <string.h>

#include "axon/service_call.h"
#include "fuzz/fuzz.h"
#include "proto/descriptors.h"

static const char services[][KEY_SIZE] = {"Bittensor", "grpc.health.v1.Health"};

enum { SERVICES = sizeof services / sizeof *services };

static void seed(FuzzSeeds *seeds, uint32_t field, const char *text)
{
    FieldWriter writer = {0};
    field_put_bytes(&writer, 1, "localhost", 9);
    field_put_bytes(&writer, field, text, strlen(text));
    fuzz_seed(seeds, writer.data, writer.size);
    free(writer.data);
}

void fuzz_seeds(FuzzSeeds *seeds)
{
    static const char *const symbols[] = {"Bittensor",
                                          "Bittensor.Forward",
                                          "Tensor.buffer",
                                          "FLOAT32",
                                          "neuron.Neuron",
                                          "grpc.health.v1.HealthCheckResponse.ServingStatus",
                                          "grpc.health.v1.HealthCheckResponse.SERVING",
                                          "neuron",
                                          "neuron.PeerReport.state."};
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        seed(seeds, 4, symbols[i]);
    for (size_t i = 0; i < descriptor_count; i++)
        seed(seeds, 3, descriptors[i].file);
    seed(seeds, 5, "x");
    seed(seeds, 6, "Tensor");
    seed(seeds, 7, "*");
    seed(seeds, 9, "?");
}

/* The file in a FileDescriptorResponse is one of ours, and names what was asked for. */
static void require_file(Field answer, Field asked)
{
    FieldReader reader = {answer.data, answer.size};
    Field file;
    REQUIRE(field_next(&reader, &file) == FIELD_READ && file.number == 1 && reader.left == 0);
    bool ours = false;
    for (size_t i = 0; i < descriptor_count; i++)
        ours = ours || memmem(descriptors[i].bytes, descriptors[i].size, file.data, file.size);
    REQUIRE(ours && asked.size > 0);
    const uint8_t *dot = asked.number == 4 ? memrchr(asked.data, '.', asked.size) : NULL;
    const uint8_t *last = dot ? dot + 1 : asked.data;
    REQUIRE(memmem(file.data, file.size, last, (size_t)(asked.data + asked.size - last)));
}

static void require_answer(const FieldWriter *out, const uint8_t *request, size_t size, Field asked)
{
    FieldReader reader = {out->data, out->size};
    Field field;
    FieldResult result;
    unsigned echoes = 0, answers = 0;
    while ((result = field_next(&reader, &field)) == FIELD_READ) {
        REQUIRE(field.is_bytes);
        if (field.number == 2) {
            echoes++;
            REQUIRE(field.size == size && (!size || memcmp(field.data, request, size) == 0));
        } else if (field.number != 1) {
            answers++;
            REQUIRE(field.number == 4 || field.number == 6 || field.number == 7);
            REQUIRE((field.number == 6) == (asked.number == 7));
            if (field.number == 4) require_file(field, asked);
        }
    }
    REQUIRE(result == FIELD_END && echoes == 1 && answers == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *request = fuzz_copy(bytes, size);
    FieldReader reader = {request, size};
    FieldWriter out = {0};
    Field field, asked = {0};
    FieldResult result;
    while ((result = field_next(&reader, &field)) == FIELD_READ)
        if (field.number >= 3 && field.number <= 7) asked = field;
    bool good = reflection_answer(request, size, services, SERVICES, &out);
    REQUIRE(!good || result == FIELD_END);
    if (good) require_answer(&out, request, size, asked);
    free(out.data);
    fuzz_rooms_clear();
    return 0;
}
