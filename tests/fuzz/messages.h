/* For the fuzzers that read TensorMessages. */
#pragma once

#include "fuzz/fuzz.h"

/* Requests and answers of every dtype and modality, each with choices of pieces behind it. */
void fuzz_seed_messages(FuzzSeeds *seeds);

/* The payload of a tensor in one piece, in a room. */
uint8_t *fuzz_payload(const WireTensor *tensor);

/* That floats_finite and tensor_check_finite say of an f32 tensor what isfinite says of each of its values. */
void fuzz_require_finite(void *values, Shape shape);
