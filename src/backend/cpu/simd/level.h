/* What the kernel files share: the vector of this level and the few operations on it that C has no sign for.
 *
 * Each file is compiled once a level; LEVEL(x) gives a name of its own to whatever crosses files, and only table.c's
 * table leaves the folder. Vectors are GCC's; intrinsics stand only where GCC 12 makes poor code of the plain form:
 * comparisons feeding selections (AVX-512 would build full masks and combine them bit by bit). */
#pragma once

#include "backend/cpu/simd/simd.h"

#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define LEVEL_PASTE_(name, level) name##_##level
#define LEVEL_PASTE(name, level)  LEVEL_PASTE_(name, level)
#define LEVEL(name)               LEVEL_PASTE(name, SIMD_LEVEL)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

#if defined(__AVX512F__)
enum { L = 16, LANES_LOG2 = 4, REGISTERS = 32 };
#elif defined(__AVX2__)
enum { L = 8, LANES_LOG2 = 3, REGISTERS = 16 };
#else
enum { L = 4, LANES_LOG2 = 2, REGISTERS = 16 };
#endif

typedef float Vec __attribute__((vector_size(4 * L), may_alias));
typedef float VecUnaligned __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef int32_t VecInt __attribute__((vector_size(4 * L), may_alias));
typedef uint8_t VecByte __attribute__((vector_size(L), may_alias));
typedef uint8_t VecByteUnaligned __attribute__((vector_size(L), aligned(1), may_alias));

INLINE Vec vec_load(const float *p)
{
    return *(const Vec *)p;
}

INLINE Vec vec_load_unaligned(const float *p)
{
    return *(const VecUnaligned *)p;
}

INLINE void vec_store(float *p, Vec v)
{
    *(Vec *)p = v;
}

INLINE void vec_store_unaligned(float *p, Vec v)
{
    *(VecUnaligned *)p = v;
}

/* x - 0 is x, signed zeros and NaN included, so the compiler sees a broadcast. */
INLINE Vec vec_splat(float x)
{
    return x - (Vec){0};
}

INLINE VecInt vec_index_load(const uint8_t *p)
{
    return __builtin_convertvector(*(const VecByteUnaligned *)p, VecInt);
}

INLINE void vec_index_store(uint8_t *p, VecInt index)
{
    *(VecByteUnaligned *)p = __builtin_convertvector(index, VecByte);
}

#if defined(__AVX512F__)
typedef __mmask16 Mask;

INLINE bool mask_any(Mask m)
{
    return m != 0;
}

INLINE Vec vec_larger(Vec a, Vec b)
{
    return _mm512_max_ps(a, b);
}

INLINE Mask mask_greater(Vec a, Vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

INLINE Mask mask_nan(Vec a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}

INLINE Mask mask_equal(VecInt a, VecInt b)
{
    return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b);
}

INLINE Vec vec_select(Mask m, Vec yes, Vec no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}

INLINE VecInt vec_select_int(Mask m, VecInt yes, VecInt no)
{
    return (VecInt)_mm512_mask_blend_epi32(m, (__m512i)no, (__m512i)yes);
}
#else
typedef VecInt Mask;

INLINE bool mask_any(Mask m)
{
#if defined(__AVX2__)
    return _mm256_movemask_ps((__m256)m) != 0;
#else
    int32_t any = 0;
    for (int i = 0; i < L; i++) {
        any |= m[i];
    }
    return any != 0;
#endif
}

INLINE Mask mask_greater(Vec a, Vec b)
{
    return a > b;
}

INLINE Mask mask_nan(Vec a)
{
    return a != a;
}

INLINE Mask mask_equal(VecInt a, VecInt b)
{
    return a == b;
}

INLINE VecInt vec_select_int(Mask m, VecInt yes, VecInt no)
{
    return (m & yes) | (~m & no);
}

INLINE Vec vec_select(Mask m, Vec yes, Vec no)
{
#if defined(__AVX2__)
    return _mm256_blendv_ps(no, yes, (__m256)m);
#else
    return (Vec)vec_select_int(m, (VecInt)yes, (VecInt)no);
#endif
}
#endif

#if !defined(__AVX512F__)
INLINE Vec vec_larger(Vec a, Vec b)
{
#if defined(__AVX2__)
    return _mm256_max_ps(a, b);
#else
    return vec_select(mask_greater(b, a), b, a);
#endif
}
#endif

/* max(x, 0); NaN stays NaN, as -0 does. */
INLINE Vec vec_relu(Vec x)
{
    return vec_select(mask_greater((Vec){0}, x), (Vec){0}, x);
}

INLINE float float_relu(float x)
{
    return x < 0 ? 0 : x;
}

/* e^x, as Cephes' expf has it (S. Moshier): 2^n e^r, |r| <= ln(2)/2, ln(2) in two parts, and a polynomial of degree 7.
 * Within 2 units in the last place; NaN stays. */
INLINE Vec vec_exp(Vec x)
{
    const Vec low = vec_splat(-104.0f), high = vec_splat(89.0f); /* beyond: 0 and infinity */
    Vec clamped = vec_select(mask_greater(low, x), low, x);
    clamped = vec_select(mask_greater(clamped, high), high, clamped);
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves no fraction bits */
    const Vec n = (clamped * 1.44269504088896341f + to_integer) - to_integer;
    const Vec r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    Vec p = vec_splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    /* 2^n in two factors, since n reaches from -150 to 128. A NaN's n is any integer, and p is NaN. */
    const VecInt exponent = __builtin_convertvector(vec_select(mask_nan(n), (Vec){0}, n), VecInt);
    const VecInt half = exponent >> 1;
    return p * (Vec)((half + 127) << 23) * (Vec)((exponent - half + 127) << 23);
}

/* The first maximum of a window: offer its values in order. A NaN wins over numbers, a later NaN over an earlier. */
INLINE void vec_offer_maximum(Vec value, int32_t place, Vec *best, VecInt *index)
{
    Mask take = mask_greater(value, *best) | mask_nan(value);
    *best = vec_select(take, value, *best);
    *index = vec_select_int(take, place - (VecInt){0}, *index);
}

/* The larger; a NaN wins. */
INLINE Vec vec_maximum(Vec a, Vec b)
{
    return vec_select(mask_greater(b, a) | mask_nan(b), b, a);
}

INLINE float float_maximum(float a, float b)
{
    return b > a || b != b ? b : a;
}

/* The maximum of a 2x2 window and its place, by the rule above: a tree of three comparisons, which is right without
 * NaN, and the chain where there is one (a third of the instructions less for the usual case; they follow every 500
 * multiply-adds of a convolution with one input channel). */
INLINE Vec vec_window_maximum(const Vec window[4], VecInt *index)
{
    if (__builtin_expect(mask_any(mask_nan(window[0] + window[1]) | mask_nan(window[2] + window[3])), 0)) {
        Vec best = window[0];
        *index = (VecInt){0};
        UNROLL for (int p = 1; p < 4; p++)
        {
            vec_offer_maximum(window[p], p, &best, index);
        }
        return best;
    }
    const Vec upper = vec_larger(window[0], window[1]), lower = vec_larger(window[2], window[3]);
    const VecInt zero = {0};
    const VecInt above = vec_select_int(mask_greater(window[1], window[0]), zero + 1, zero);
    const VecInt below = vec_select_int(mask_greater(window[3], window[2]), zero + 3, zero + 2);
    *index = vec_select_int(mask_greater(lower, upper), below, above);
    return vec_larger(upper, lower);
}

/* Interleaves: a0 b0 a1 b1 ... */
INLINE void vec_zip(Vec a, Vec b, Vec *low, Vec *high)
{
#if defined(__AVX512F__)
    *low = (Vec)__builtin_shuffle(a, b, (VecInt){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
    *high = (Vec)__builtin_shuffle(a, b, (VecInt){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
#elif defined(__AVX2__)
    *low = (Vec)__builtin_shuffle(a, b, (VecInt){0, 8, 1, 9, 2, 10, 3, 11});
    *high = (Vec)__builtin_shuffle(a, b, (VecInt){4, 12, 5, 13, 6, 14, 7, 15});
#else
    *low = (Vec)__builtin_shuffle(a, b, (VecInt){0, 4, 1, 5});
    *high = (Vec)__builtin_shuffle(a, b, (VecInt){2, 6, 3, 7});
#endif
}

/* The way back: the even and the odd elements of a then b. */
INLINE void vec_unzip(Vec a, Vec b, Vec *even, Vec *odd)
{
#if defined(__AVX512F__)
    *even = (Vec)__builtin_shuffle(a, b, (VecInt){0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
    *odd = (Vec)__builtin_shuffle(a, b, (VecInt){1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31});
#elif defined(__AVX2__)
    *even = (Vec)__builtin_shuffle(a, b, (VecInt){0, 2, 4, 6, 8, 10, 12, 14});
    *odd = (Vec)__builtin_shuffle(a, b, (VecInt){1, 3, 5, 7, 9, 11, 13, 15});
#else
    *even = (Vec)__builtin_shuffle(a, b, (VecInt){0, 2, 4, 6});
    *odd = (Vec)__builtin_shuffle(a, b, (VecInt){1, 3, 5, 7});
#endif
}

/* Rows to columns: LANES_LOG2 rounds of interleaving vector i with vector i + L/2 put element (i, j) at (j, i). */
INLINE void vec_transpose(Vec v[L])
{
    UNROLL for (int round = 0; round < LANES_LOG2; round++)
    {
        Vec next[L];
        UNROLL for (int i = 0; i < L / 2; i++)
        {
            vec_zip(v[i], v[i + L / 2], &next[2 * i], &next[2 * i + 1]);
        }
        UNROLL for (int i = 0; i < L; i++)
        {
            v[i] = next[i];
        }
    }
}

/* Lane j of the result is the sum of the lanes of v[j]. */
INLINE Vec vec_sum_each(Vec v[L])
{
    vec_transpose(v);
    UNROLL for (int step = L / 2; step > 0; step /= 2)
    {
        UNROLL for (int j = 0; j < step; j++)
        {
            v[j] += v[j + step];
        }
    }
    return v[0];
}

INLINE float vec_sum(Vec v)
{
    float lane[L] __attribute__((aligned(4 * L)));
    vec_store(lane, v);
    for (int step = L / 2; step > 0; step /= 2) {
        for (int i = 0; i < step; i++) {
            lane[i] += lane[i + step];
        }
    }
    return lane[0];
}

INLINE int64_t int_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t int_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
