/* The numbers of proto/bittensor.proto, for the two files that read and write messages by hand. */
#pragma once

typedef enum WireType { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 } WireType;

enum { /* TensorMessage */
       FIELD_VERSION = 1,
       FIELD_NEURON_KEY = 2,
       FIELD_SYNAPSE_KEY = 3,
       FIELD_NOUNCE = 4,
       FIELD_SIGNATURE = 5,
       FIELD_TENSORS = 6,
};

enum { /* Tensor */
       FIELD_TENSOR_VERSION = 1,
       FIELD_BUFFER = 2,
       FIELD_SHAPE = 3,
       FIELD_DTYPE = 4,
       FIELD_MODALITY = 5,
       FIELD_REQUIRES_GRAD = 6,
};

enum { /* DataType */
       DATA_UNKNOWN = 0,
       DATA_FLOAT32 = 1,
       DATA_FLOAT64 = 2,
       DATA_INT32 = 3,
       DATA_INT64 = 4,
       DATA_UTF8 = 5,
};
