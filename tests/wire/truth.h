/* TensorMessage by protobuf-c's own packing and unpacking: what our hand-made codec is compared with. A file of its
 * own, since the generated header has a `Tensor` and a `Modality` too. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRUTH_TENSORS = 4, TRUTH_DIMS = 8 };

typedef struct TruthTensor {
    const void *buffer;
    size_t size, rank;
    int64_t dims[TRUTH_DIMS];
    int dtype, modality;
    bool requires_grad;
} TruthTensor;

typedef struct Truth {
    const char *version, *neuron_key, *synapse_key;
    int64_t nonce;
    const void *signature;
    size_t signature_size;
    size_t count; /* as sent; tensors[] has at most TRUTH_TENSORS */
    TruthTensor tensors[TRUTH_TENSORS];
    void *unpacked;
} Truth;

uint8_t *truth_pack(const Truth *truth, size_t *size); /* free() */
bool truth_unpack(const uint8_t *bytes, size_t size, Truth *out);
void truth_free(Truth *truth);
