/* message_encode: whatever tensors and keys we send, protobuf-c and our own parser read the same back. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "fuzz/messages.h"
#include "wire/truth.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    fuzz_seed(seeds, "payload-payload-key\3\2\1\1\2\5", 25);
    fuzz_seed(seeds, "payloadpayloadpayload\2\2\2\1\1\3\2\2\1\0\1", 32);
}

static void take_tensor(FuzzInput *input, Tensor *out)
{
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_I64};
    Shape shape = {.rank = fuzz_choice(input) % (SHAPE_MAX_RANK + 1)};
    DType dtype = dtypes[fuzz_choice(input) % 4];
    size_t size = dtype_size(dtype);
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = fuzz_choice(input) % 5;
        size *= (size_t)shape.dims[i];
    }
    uint8_t *data = fuzz_room(size);
    for (size_t i = 0; i < size; i++)
        data[i] = input->size ? input->bytes[i % input->size] : 0;
    *out = tensor_view(dtype, shape, data);
    REQUIRE(out->size == size);
}

/* Some bytes as a key; "" where they are none. */
static const char *take_key(FuzzInput *input)
{
    size_t length = fuzz_choice(input) % 16;
    if (length > input->size) length = input->size;
    input->size -= length;
    FuzzInput key = {input->bytes + input->size, length};
    return length && key_check("key", (const char *)key.bytes, length, NULL) == STATUS_OK ? fuzz_text(&key) : "";
}

static void require_tensor(const MessageTensor *sent, const WireTensor *ours, const TruthTensor *truth)
{
    DType dtype;
    Shape shape;
    REQUIRE(message_tensor_check(ours, "tensor", &dtype, &shape, NULL) == STATUS_OK);
    REQUIRE(dtype == sent->tensor->dtype && shape_equal(shape, sent->tensor->shape));
    REQUIRE(ours->modality == (int32_t)sent->modality && truth->modality == (int)sent->modality);
    REQUIRE(truth->dtype == ours->dtype && truth->rank == ours->rank && truth->size == sent->tensor->size);
    if (truth->size == 0) return;
    REQUIRE(memcmp(truth->buffer, sent->tensor->data, truth->size) == 0);
    REQUIRE(memcmp(fuzz_payload(ours), sent->tensor->data, truth->size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size};
    Tensor tensors[MESSAGE_TENSORS];
    MessageTensor items[MESSAGE_TENSORS];
    size_t count = fuzz_choice(&input) % (MESSAGE_TENSORS + 1);
    const char *neuron_key = take_key(&input), *synapse_key = take_key(&input);
    for (size_t i = 0; i < count; i++) {
        take_tensor(&input, &tensors[i]);
        items[i] = (MessageTensor){&tensors[i], (Modality)(fuzz_choice(&input) % 3)};
    }
    EncodedMessage encoded;
    REQUIRE(message_encode(neuron_key, synapse_key, items, count, FUZZ_ROOM * 16, &encoded, NULL) == STATUS_OK);

    Message message;
    Truth truth;
    REQUIRE(message_parse(encoded.parts, encoded.count, &message, NULL) == STATUS_OK);
    uint8_t *flat = malloc(encoded.size + 1), *at = flat;
    for (size_t i = 0; i < encoded.count; at += encoded.parts[i++].size)
        memcpy(at, encoded.parts[i].data, encoded.parts[i].size);
    REQUIRE((size_t)(at - flat) == encoded.size && truth_unpack(flat, encoded.size, &truth));
    REQUIRE(strcmp(message.neuron_key, neuron_key) == 0 && strcmp(truth.neuron_key, neuron_key) == 0);
    REQUIRE(strcmp(message.synapse_key, synapse_key) == 0 && strcmp(truth.synapse_key, synapse_key) == 0);
    REQUIRE(message.tensor_count == count && truth.count == count);
    for (size_t i = 0; i < count; i++)
        require_tensor(&items[i], &message.tensors[i], &truth.tensors[i]);
    truth_free(&truth);
    free(flat);
    fuzz_rooms_clear();
    return 0;
}
