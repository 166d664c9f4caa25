/* An answer as the dendrite reads it: src/dendrite/answer.c, from a call that is done to finite floats of the expected
 * shape; and as `neuron call` and the load generator do. */
#include <math.h>
#include <string.h>

#include "dendrite/internal.h"
#include "dendrite/load_answer.h"
#include "fuzz/buffers.h"
#include "fuzz/messages.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    fuzz_seed_messages(seeds);
}

static Shape take_shape(FuzzInput *input)
{
    uint8_t choice = fuzz_choice(input);
    return shape_of(1 + choice % 2, 1 + choice / 2 % 2, 1 + choice / 4 % 4);
}

static void require_failure(const UnaryCall *call, DendriteFailure kind, const Error *error)
{
    bool answered = call->code == GRPC_STATUS_OK;
    bool of_status = kind == DENDRITE_TIMEOUT || kind == DENDRITE_UNAVAILABLE || kind == DENDRITE_REFUSED;
    bool of_answer = kind == DENDRITE_EMPTY || kind == DENDRITE_MALFORMED || kind == DENDRITE_WRONG_SHAPE ||
                     kind == DENDRITE_NOT_FINITE;
    REQUIRE(answered ? of_answer : of_status);
    REQUIRE(call->response || !answered || kind == DENDRITE_EMPTY);
    fuzz_require_sentence(error);
}

static void require_key(const char *key)
{
    REQUIRE(*key == '\0' || key_check("key", key, strlen(key), NULL) == STATUS_OK);
}

/* The message as message_parse sees it, which has a fuzzer of its own. */
static bool parse(const FuzzPieces *pieces, const UnaryCall *call, Message *out)
{
    return call->response && message_parse(pieces->segments, pieces->count, out, NULL) == STATUS_OK &&
           out->tensor_count > 0;
}

static void require_read(const UnaryCall *call, const FuzzPieces *pieces, Shape shape, const float *values)
{
    Message message;
    REQUIRE(call->code == GRPC_STATUS_OK && parse(pieces, call, &message));
    const WireTensor *sent = &message.tensors[0];
    const uint8_t *payload = fuzz_payload(sent);
    size_t count = (size_t)shape_count(shape);
    REQUIRE(sent->rank == 3 && sent->buffer.left == count * (sent->dtype == 1 ? 4 : 8));
    for (size_t i = 0; i < count; i++) {
        double f64;
        REQUIRE(isfinite(values[i]));
        if (sent->dtype == 1) {
            REQUIRE(memcmp(&values[i], payload + 4 * i, 4) == 0);
        } else {
            memcpy(&f64, payload + 8 * i, 8);
            REQUIRE(sent->dtype == 2 && (float)f64 == values[i]);
        }
    }
}

static void check_taken(const UnaryCall *call, const FuzzPieces *pieces)
{
    Tensor tensor = {0};
    DendriteFailure kind = DENDRITE_FAILURES;
    Error error = {.status = STATUS_OK};
    if (!answer_take(call, &tensor, &kind, &error)) {
        require_failure(call, kind, &error);
        return;
    }
    Message message;
    REQUIRE(parse(pieces, call, &message) && tensor.size == message.tensors[0].buffer.left);
    REQUIRE(tensor.size == 0 || memcmp(tensor.data, fuzz_payload(&message.tensors[0]), tensor.size) == 0);
    tensor_destroy(&tensor);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size};
    FuzzPieces pieces;
    FuzzBuffer buffer;
    UnaryCall call;
    char key[KEY_SIZE];
    DendriteFailure kind = DENDRITE_FAILURES;
    Error error = {.status = STATUS_OK};
    Shape shape = take_shape(&input);
    fuzz_done_call(&input, &pieces, &buffer, &call);
    float *values = fuzz_room((size_t)shape_count(shape) * sizeof *values);

    bool good = answer_read(&call, shape, values, key, &kind, &error);
    if (good)
        require_read(&call, &pieces, shape, values);
    else
        require_failure(&call, kind, &error);
    require_key(key);
    LoadCase item = {.answer = shape};
    bool right = call.response && load_answer_check(&call, &item, 0, &error);
    REQUIRE(!right || good); /* the load generator accepts f32 only */

    error = (Error){.status = STATUS_OK};
    if (!answer_acknowledges(&call, key, &kind, &error)) require_failure(&call, kind, &error);
    require_key(key);
    check_taken(&call, &pieces);
    fuzz_rooms_clear();
    return 0;
}
