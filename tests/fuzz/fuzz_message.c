/* A TensorMessage (wire/message.h): parsed in pieces, checked, its payloads copied and converted;
 * compared with protobuf-c's parser, and with the rules said in another way. */
#include <math.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "fuzz/messages.h"
#include "tensor/tensor.h"
#include "wire/truth.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    fuzz_seed_messages(seeds);
}

/* --- the form --- */

static void require_same_claims(const WireTensor *a, const WireTensor *b)
{
    REQUIRE(a->dtype == b->dtype && a->modality == b->modality && a->requires_grad == b->requires_grad);
    REQUIRE(a->rank == b->rank && a->buffer.left == b->buffer.left);
    size_t kept = a->rank < SHAPE_MAX_RANK ? a->rank : SHAPE_MAX_RANK;
    REQUIRE(memcmp(a->dims, b->dims, kept * sizeof *a->dims) == 0);
}

/* It doesn't matter where a message was cut. */
static void require_same(Status status, const Message *whole, const Error *error, const FuzzPieces *pieces)
{
    Message message;
    Error other;
    REQUIRE(message_parse(pieces->segments, pieces->count, &message, &other) == status);
    if (status != STATUS_OK) {
        REQUIRE(status == STATUS_INVALID_ARGUMENT && strcmp(error->message, other.message) == 0);
        return;
    }
    REQUIRE(strcmp(whole->neuron_key, message.neuron_key) == 0 && strcmp(whole->synapse_key, message.synapse_key) == 0);
    REQUIRE(whole->nonce == message.nonce && whole->tensor_count == message.tensor_count);
    for (size_t i = 0; i < message.tensor_count && i < MESSAGE_TENSORS; i++)
        require_same_claims(&whole->tensors[i], &message.tensors[i]);
}

/* What protobuf-c reads too, it reads the same. */
static void require_truth(const Message *message, const FuzzInput *input)
{
    Truth truth;
    if (!truth_unpack(input->bytes, input->size, &truth)) return;
    REQUIRE(strcmp(truth.neuron_key, message->neuron_key) == 0);
    REQUIRE(strcmp(truth.synapse_key, message->synapse_key) == 0);
    REQUIRE(truth.nonce == message->nonce && truth.count == message->tensor_count);
    for (size_t i = 0; i < truth.count && i < MESSAGE_TENSORS; i++) {
        const TruthTensor *expected = &truth.tensors[i];
        const WireTensor *tensor = &message->tensors[i];
        REQUIRE(expected->dtype == tensor->dtype && expected->modality == tensor->modality);
        REQUIRE(expected->requires_grad == tensor->requires_grad && expected->rank == tensor->rank);
        for (size_t d = 0; d < tensor->rank && d < SHAPE_MAX_RANK; d++)
            REQUIRE(expected->dims[d] == tensor->dims[d]);
        REQUIRE(expected->size == tensor->buffer.left);
        uint8_t *bytes = fuzz_payload(tensor);
        REQUIRE(expected->size == 0 || memcmp(bytes, expected->buffer, expected->size) == 0);
    }
    truth_free(&truth);
}

/* --- a tensor --- */

static bool claims_hold(const WireTensor *tensor)
{
    static const size_t sizes[] = {0, 4, 8, 4, 8};
    if (tensor->dtype < 1 || tensor->dtype > 4 || tensor->rank > SHAPE_MAX_RANK) return false;
    unsigned __int128 size = sizes[tensor->dtype];
    bool empty = false;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] < 0) return false;
        empty = empty || tensor->dims[i] == 0;
        if (tensor->dims[i] > 0 && size >> 64 == 0) size *= (unsigned __int128)tensor->dims[i];
    }
    return size <= SIZE_MAX / 2 && (empty ? 0 : size) == tensor->buffer.left;
}

static bool is_input(const WireTensor *tensor)
{
    static const size_t ranks[] = {3, 5, 2};
    static const char *const dtypes[] = {"\1\2", "\1", "\3\4"};
    if (tensor->modality < 0 || tensor->modality > 2 || tensor->rank != ranks[tensor->modality]) return false;
    for (size_t i = 0; i < tensor->rank; i++)
        if (tensor->dims[i] < 1) return false;
    return strchr(dtypes[tensor->modality], tensor->dtype) != NULL;
}

static void require_values(const WireTensor *tensor, DType sent, DType wanted, Shape shape, FuzzInput *choices)
{
    size_t count = (size_t)shape_count(shape), from = dtype_size(sent), to = dtype_size(wanted);
    uint8_t *payload = fuzz_payload(tensor), *all = fuzz_room(count * to);
    REQUIRE(message_tensor_read(tensor, sent, wanted, shape, all, NULL) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        double f64;
        int32_t i32;
        const uint8_t *element = payload + i * from;
        if (sent == wanted) {
            REQUIRE(memcmp(all + i * to, element, to) == 0);
        } else if (sent == DTYPE_F64) {
            memcpy(&f64, element, sizeof f64);
            float f32 = (float)f64, read = ((float *)(void *)all)[i];
            REQUIRE(isnan(f64) ? isnan(read) : memcmp(&f32, &read, sizeof read) == 0);
        } else {
            memcpy(&i32, element, sizeof i32);
            REQUIRE(((int64_t *)(void *)all)[i] == i32);
        }
    }
    size_t first = fuzz_choice(choices) % (count + 1), part = fuzz_choice(choices) % (count - first + 1);
    uint8_t *some = fuzz_room(part * to);
    REQUIRE(message_tensor_read_range(tensor, sent, wanted, first, part, some, NULL) == STATUS_OK);
    REQUIRE(part == 0 || memcmp(some, all + first * to, part * to) == 0);
    if (wanted == DTYPE_F32) fuzz_require_finite(all, shape);
}

static void check_tensor(const WireTensor *tensor, FuzzInput *choices)
{
    Error error;
    DType dtype;
    Shape shape;
    Modality modality;
    Status status = message_tensor_check(tensor, "tensor", &dtype, &shape, &error);
    REQUIRE((status == STATUS_OK) == claims_hold(tensor) && (status == STATUS_OK || status == STATUS_INVALID_ARGUMENT));
    Status input = message_input_check(tensor, &modality, &dtype, &shape, &error);
    REQUIRE((input == STATUS_OK) == (status == STATUS_OK && is_input(tensor)));
    if (input == STATUS_OK)
        require_values(tensor, dtype, modality == MODALITY_TEXT ? DTYPE_I64 : DTYPE_F32, shape, choices);
    else if (status == STATUS_OK)
        require_values(tensor, dtype, dtype == DTYPE_F64 ? DTYPE_F32 : dtype, shape, choices);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size}, choices = input;
    FuzzPieces pieces, whole = {.count = 1};
    Message message;
    Error error = {.status = STATUS_OK};
    fuzz_cut(&input, &pieces);
    whole.segments[0] = (Segment){fuzz_copy(input.bytes, input.size), input.size};
    Status status = message_parse(whole.segments, whole.count, &message, &error);
    require_same(status, &message, &error, &pieces);
    if (status == STATUS_OK) {
        require_truth(&message, &input);
        REQUIRE(message_parse(pieces.segments, pieces.count, &message, &error) == STATUS_OK);
        for (size_t i = 0; i < message.tensor_count && i < MESSAGE_TENSORS; i++)
            check_tensor(&message.tensors[i], &choices);
    }
    fuzz_rooms_clear();
    return 0;
}
