/* The IDX format of the MNIST files (yann.lecun.com/exdb/mnist): two zero bytes, the element type, the rank, one
 * big-endian 32-bit size a dimension, then the elements, the last dimension fastest. Only unsigned bytes (type 0x08)
 * are read. A file may be gzip'ed: its first two bytes decide, not its name.
 *
 * A file is hostile until checked: every dimension at least 1, the product free of overflow, the data exactly as long
 * as the header promises. Nothing is allocated for a promise that the file is too short to keep, and inflating stops at
 * the promised size, whatever the file would still expand to. */
#pragma once

#include "tensor/tensor.h"

/* Reads the whole file into a u8 tensor of rank 1 to SHAPE_MAX_RANK, which the caller destroys. Errors name the file:
 * INVALID_ARGUMENT (not an IDX file, or a header that can't be right), UNIMPLEMENTED (another element type), DATA_LOSS
 * (cut short, bytes left over, damaged compression), and those of file_map. */
Status idx_read(const char *path, Tensor *out, Error *error);
