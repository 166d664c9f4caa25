/* What kind of input a tensor in a message is. The numbers are those of proto/bittensor.proto. */
#pragma once

#include <stdbool.h>

typedef enum Modality {
    MODALITY_TENSOR = 0, /* f32 [batch, seq, features] */
    MODALITY_IMAGE = 1,  /* f32 [batch, seq, channels, rows, cols] */
    MODALITY_TEXT = 2,   /* i64 token ids [batch, seq] */
} Modality;

/* "tensor", "image", "text": what users type and read; "?" for a number that is none. */
const char *modality_name(Modality modality);
bool modality_from_name(const char *name, Modality *out);

/* The rank that a request's input must have: 3, 5, 2. */
int modality_rank(Modality modality);
