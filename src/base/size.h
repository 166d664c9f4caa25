/* Sizes that come from outside are multiplied and added here, with overflow checks. False means overflow, and *out is
 * untouched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool size_multiply(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}

/* Rounds up to a multiple of `alignment`, a power of two. */
static inline size_t size_align(size_t size, size_t alignment)
{
    return (size + alignment - 1) & ~(alignment - 1);
}
