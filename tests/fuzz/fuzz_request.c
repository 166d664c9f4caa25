/* A request as the axon takes it in, and as its handlers read it: src/axon/request.c. The message is in pieces, and
 * what came as the weights' version in the metadata is the peer's too. */
#include <grpc/slice.h>
#include <math.h>
#include <string.h>

#include "axon/internal.h"
#include "fuzz/buffers.h"
#include "fuzz/messages.h"
#include "wire/metadata.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    fuzz_seed_messages(seeds);
}

static void require_input(ServerCall *call, FuzzInput *choices)
{
    const AxonRequest *asked = &call->asked;
    REQUIRE(asked->modality <= MODALITY_TEXT && asked->shape.rank == modality_rank(asked->modality));
    size_t count = 1, size = asked->modality == MODALITY_TEXT ? sizeof(int64_t) : sizeof(float);
    for (int i = 0; i < asked->shape.rank; i++) {
        REQUIRE(asked->shape.dims[i] >= 1);
        count *= (size_t)asked->shape.dims[i];
    }
    REQUIRE(count * dtype_size(call->input_dtype) == call->input.buffer.left);
    uint8_t *all = fuzz_room(count * size);
    axon_read_input(asked, 0, count, all);
    size_t first = fuzz_choice(choices) % count, part = fuzz_choice(choices) % (count - first + 1);
    uint8_t *some = fuzz_room(part * size);
    axon_read_input(asked, first, part, some);
    REQUIRE(part == 0 || memcmp(some, all + first * size, part * size) == 0);
}

static void require_gradient(ServerCall *call)
{
    Shape shape = call->asked.gradient_shape;
    size_t bytes;
    REQUIRE(shape_bytes(shape, dtype_size(call->gradient_dtype), &bytes) && bytes == call->gradient.buffer.left);
    size_t count = bytes / dtype_size(call->gradient_dtype);
    float *values = fuzz_room(count * sizeof *values);
    axon_read_gradient(&call->asked, 0, count, values);
    fuzz_require_finite(values, shape);
}

static grpc_metadata version_metadata(FuzzInput *input)
{
    size_t length = fuzz_choice(input) % 24;
    if (length > input->size) length = input->size;
    input->size -= length;
    return (grpc_metadata){.key = grpc_slice_from_static_string(METADATA_WEIGHTS_VERSION),
                           .value =
                               grpc_slice_from_static_buffer(fuzz_copy(input->bytes + input->size, length), length)};
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static Axon axon = {.seed = 42};
    static Door door = {.axon = &axon};
    static Meter meter = {.host = 7};
    FuzzInput input = {bytes, size}, choices = input;
    FuzzPieces pieces;
    FuzzBuffer buffer;
    Error error = {.status = STATUS_OK};
    Method method = fuzz_choice(&input) % 2 ? METHOD_BACKWARD : METHOD_FORWARD;
    grpc_metadata version = version_metadata(&input);
    fuzz_cut(&input, &pieces);
    fuzz_buffer(&pieces, &buffer);
    ServerCall *call = calloc(1, sizeof *call);
    call->door = &door;
    call->method = method;
    call->meter = &meter;
    call->request = &buffer.buffer;
    call->metadata = (grpc_metadata_array){.count = 1, .capacity = 1, .metadata = &version};

    Status status = server_call_decode(call, &error);
    if (status != STATUS_OK) {
        REQUIRE(status == error.status && (status == STATUS_INVALID_ARGUMENT || status == STATUS_RESOURCE_EXHAUSTED));
        fuzz_require_sentence(&error);
    } else {
        REQUIRE(strlen(call->synapse_key) < KEY_SIZE);
        require_input(call, &choices);
        if (method == METHOD_BACKWARD) require_gradient(call);
    }
    if (call->segments != call->few) free(call->segments);
    free(call);
    fuzz_rooms_clear();
    return 0;
}
