/* TensorMessage of proto/bittensor.proto <-> tensors, without copying the tensors' bytes more than once. No I/O.
 *
 * Writing: the few bytes around the payloads are placed by hand, and the message is a list of parts, in which the
 * payloads stand by reference. Reading: a cursor walks the segments in which the message arrived and remembers where
 * the payloads are; nothing is allocated before everything that a tensor says of itself has been checked.
 *
 * Every byte is hostile. Protobuf's rules hold: unknown fields are skipped, of repeated singular fields the last one
 * counts, shape may be packed or not. Refused, as malformed (INVALID_ARGUMENT): a varint that doesn't end or has more
 * bits than its type, a length beyond the end, a known field of the wrong wire type, groups, field number 0, and
 * strings that key_check (wire/peer.h) refuses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/modality.h"
#include "wire/peer.h"

/* Borrowed bytes. */
typedef struct Segment {
    const uint8_t *data;
    size_t size;
} Segment;

enum {
    MESSAGE_TENSORS = 2,       /* Backward has two; those beyond are checked for their form and ignored */
    MESSAGE_PARTS = 5,         /* header, payload, middle, payload, tail */
    MESSAGE_HEADER_SIZE = 1024 /* all bytes around the payloads of the longest message */
};

/* --- writing --- */

typedef struct MessageTensor {
    const Tensor *tensor; /* f32, f64, i32 or i64 */
    Modality modality;
} MessageTensor;

/* Points into itself: don't copy it. */
typedef struct EncodedMessage {
    size_t size; /* of the whole message */
    size_t count;
    Segment parts[MESSAGE_PARTS];
    int payload_of[MESSAGE_PARTS]; /* which tensor's data the part is; -1: bytes in `bytes`, to be copied */
    uint8_t bytes[MESSAGE_HEADER_SIZE];
} EncodedMessage;

/* Version "0.0.0"; a key that is "" is left out. At most MESSAGE_TENSORS tensors. INVALID_ARGUMENT: a dtype that the
 * protocol has no number for, a key that key_check refuses; RESOURCE_EXHAUSTED: more than `limit` bytes. */
Status message_encode(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors, size_t count,
                      size_t limit, EncodedMessage *out, Error *error);

/* --- reading --- */

/* A place in a message. */
typedef struct Cursor {
    const Segment *segments;
    size_t segment, offset; /* the next byte is segments[segment].data[offset], once empty segments are passed over */
    size_t left;            /* bytes before the end of the message, or of the part that is being read */
} Cursor;

/* What a message says of a tensor; nothing of it is true until message_tensor_check. */
typedef struct WireTensor {
    int32_t dtype, modality; /* as on the wire */
    bool requires_grad;
    size_t rank; /* dimensions named, of which the first SHAPE_MAX_RANK are kept */
    int64_t dims[SHAPE_MAX_RANK];
    Cursor buffer; /* at the payload; left is its size */
} WireTensor;

/* Refers to the segments it was read from: they must outlive it. */
typedef struct Message {
    char neuron_key[KEY_SIZE], synapse_key[KEY_SIZE]; /* "" when absent */
    int64_t nonce;
    size_t tensor_count; /* as sent; tensors[] has at most MESSAGE_TENSORS of them */
    WireTensor tensors[MESSAGE_TENSORS];
} Message;

/* The form only. On failure *out is unspecified. */
Status message_parse(const Segment *segments, size_t count, Message *out, Error *error);

/* What a tensor in a message claims to be, checked: the dtype is one of FLOAT32, FLOAT64, INT32, INT64, the rank is at
 * most SHAPE_MAX_RANK, no dimension is negative (-1, which the reference infers, is refused too), their product doesn't
 * overflow, and the buffer has exactly that many bytes. `what` names the tensor in the sentence ("input"). All failures
 * are INVALID_ARGUMENT. */
Status message_tensor_check(const WireTensor *tensor, const char *what, DType *dtype, Shape *shape, Error *error);

/* As message_tensor_check, and what a request's input must be besides: a known modality, that modality's rank, no
 * dimension below 1, and a dtype that the modality can be read as (AxonHandler says which). */
Status message_input_check(const WireTensor *tensor, Modality *modality, DType *dtype, Shape *shape, Error *error);

/* Copies the payload of a tensor that passed a check to `destination`, of `wanted` elements: the sent dtype itself, f64
 * narrowed to f32, i32 widened to i64; any other pair is INVALID_ARGUMENT. `destination` has room for all elements and
 * is aligned for its dtype. */
Status message_tensor_read(const WireTensor *tensor, DType sent, DType wanted, Shape shape, void *destination,
                           Error *error);

/* As message_tensor_read, of `count` elements from element `first` on (first + count within the tensor): for a tensor
 * that is read in pieces. */
Status message_tensor_read_range(const WireTensor *tensor, DType sent, DType wanted, size_t first, size_t count,
                                 void *destination, Error *error);

/* --- values --- */

/* INVALID_ARGUMENT with the place of the first NaN or infinity in an f32 tensor. */
Status tensor_check_finite(const Tensor *tensor, const char *what, Error *error);
bool floats_finite(const float *values, size_t count);
