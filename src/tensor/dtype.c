#include "tensor/dtype.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
    bool is_float;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_NONE] = {"none", 0, false}, [DTYPE_F32] = {"f32", 4, true},   [DTYPE_F64] = {"f64", 8, true},
    [DTYPE_F16] = {"f16", 2, true},    [DTYPE_BF16] = {"bf16", 2, true}, [DTYPE_I32] = {"i32", 4, false},
    [DTYPE_I64] = {"i64", 8, false},   [DTYPE_U8] = {"u8", 1, false},
};

/* The row of a dtype; a number that is no dtype gets NONE's. */
static unsigned row(DType dtype)
{
    return (unsigned)dtype < DTYPE_COUNT ? (unsigned)dtype : DTYPE_NONE;
}

size_t dtype_size(DType dtype)
{
    return dtypes[row(dtype)].size;
}

const char *dtype_name(DType dtype)
{
    return dtypes[row(dtype)].name;
}

DType dtype_from_name(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(name, dtypes[i].name) == 0) return (DType)i;
    return DTYPE_NONE;
}

bool dtype_is_float(DType dtype)
{
    return dtypes[row(dtype)].is_float;
}
