#include "wire/truth.h"

#include <stdlib.h>

#include "proto/bittensor.pb-c.h"

static void fill_tensor(Tensor *out, const TruthTensor *tensor)
{
    tensor__init(out);
    out->version = (char *)"0.0.0";
    out->buffer.data = (uint8_t *)(uintptr_t)tensor->buffer;
    out->buffer.len = tensor->size;
    out->n_shape = tensor->rank;
    out->shape = (int64_t *)(uintptr_t)tensor->dims;
    out->dtype = (DataType)tensor->dtype;
    out->modality = (Modality)tensor->modality;
    out->requires_grad = tensor->requires_grad;
}

uint8_t *truth_pack(const Truth *truth, size_t *size)
{
    Tensor tensors[TRUTH_TENSORS], *list[TRUTH_TENSORS];
    TensorMessage message = TENSOR_MESSAGE__INIT;
    if (truth->version) message.version = (char *)(uintptr_t)truth->version;
    if (truth->neuron_key) message.neuron_key = (char *)(uintptr_t)truth->neuron_key;
    if (truth->synapse_key) message.synapse_key = (char *)(uintptr_t)truth->synapse_key;
    message.nounce = truth->nonce;
    message.signature.data = (uint8_t *)(uintptr_t)truth->signature;
    message.signature.len = truth->signature_size;
    message.n_tensors = truth->count;
    message.tensors = list;
    for (size_t i = 0; i < truth->count; i++) {
        fill_tensor(&tensors[i], &truth->tensors[i]);
        list[i] = &tensors[i];
    }
    *size = tensor_message__get_packed_size(&message);
    uint8_t *bytes = malloc(*size + 1);
    tensor_message__pack(&message, bytes);
    return bytes;
}

bool truth_unpack(const uint8_t *bytes, size_t size, Truth *out)
{
    TensorMessage *message = tensor_message__unpack(NULL, size, bytes);
    if (!message) return false;
    *out = (Truth){.version = message->version,
                   .neuron_key = message->neuron_key,
                   .synapse_key = message->synapse_key,
                   .nonce = message->nounce,
                   .signature = message->signature.data,
                   .signature_size = message->signature.len,
                   .count = message->n_tensors,
                   .unpacked = message};
    for (size_t i = 0; i < message->n_tensors && i < TRUTH_TENSORS; i++) {
        const Tensor *tensor = message->tensors[i];
        out->tensors[i] = (TruthTensor){.buffer = tensor->buffer.data,
                                        .size = tensor->buffer.len,
                                        .rank = tensor->n_shape,
                                        .dtype = (int)tensor->dtype,
                                        .modality = (int)tensor->modality,
                                        .requires_grad = tensor->requires_grad != 0};
        for (size_t d = 0; d < tensor->n_shape && d < TRUTH_DIMS; d++)
            out->tensors[i].dims[d] = tensor->shape[d];
    }
    return true;
}

void truth_free(Truth *truth)
{
    if (truth->unpacked) tensor_message__free_unpacked(truth->unpacked, NULL);
    truth->unpacked = NULL;
}
