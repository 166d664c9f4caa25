/* What softmax and the losses share: the maximum of a row and the sum of its exponentials, by a warp or by a block. */
#pragma once

#include "device.cuh"

/* From so many columns on a block has a row, below a warp has one. */
constexpr int ROW_BY_BLOCK = 1024;

/* Buffers of a block's reductions of a row. Used in turn, maximum and sum, each barrier guards the other's buffer. */
struct RowShared {
    double sum[MAX_WARPS];
    float maximum[MAX_WARPS];
};

/* This thread's first column, and how far to its next. */
template <bool by_block> __device__ inline int row_first()
{
    return by_block ? (int)threadIdx.x : lane_index();
}

template <bool by_block> __device__ inline int row_step()
{
    return by_block ? (int)blockDim.x : WARP;
}

struct RowTerms {
    float maximum;
    double sum; /* of exp(x - maximum), which are floats: in double a sure row's small terms survive beside its 1 */
};

/* Over the columns that aren't masked. A NaN makes the sum NaN; without columns it is 0. */
template <bool by_block, class T>
__device__ inline RowTerms row_terms(const T *x, const uint8_t *mask, int64_t m, RowShared *shared)
{
    RowTerms terms;
    terms.maximum = -INFINITY;
    for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>())
        if (!mask || mask[i]) terms.maximum = fmaxf(terms.maximum, to_float(x[i]));
    terms.maximum = by_block ? block_max(terms.maximum, shared->maximum) : warp_max(terms.maximum);
    terms.sum = 0;
    for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>())
        if (!mask || mask[i]) terms.sum += (double)expf(to_float(x[i]) - terms.maximum);
    terms.sum = by_block ? block_sum(terms.sum, shared->sum) : warp_sum(terms.sum);
    return terms;
}

__device__ inline float softmax_of(float x, const RowTerms &terms)
{
    return expf(x - terms.maximum) / (float)terms.sum;
}

/* log(sum over m of exp(x[m])) */
__device__ inline double log_sum_exp(const RowTerms &terms)
{
    return log(terms.sum) + (double)terms.maximum;
}
