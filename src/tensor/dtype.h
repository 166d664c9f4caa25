/* Element types. The order is not stored anywhere: files and messages have names or numbers of their own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum DType {
    DTYPE_NONE = 0,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_U8,
    DTYPE_COUNT,
} DType;

size_t dtype_size(DType dtype);          /* bytes an element; 0 for NONE */
const char *dtype_name(DType dtype);     /* "f32", "bf16", ...: what users type and read */
DType dtype_from_name(const char *name); /* DTYPE_NONE when unknown */
bool dtype_is_float(DType dtype);
