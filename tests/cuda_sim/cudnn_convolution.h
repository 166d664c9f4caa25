// What a plan of the cuDNN stand-in computes, once its rules are kept: plain memory in, plain memory out.
#pragma once

#include "cudnn_engines.h"

namespace cudnn
{

struct Memory {
    const void *x, *w, *y, *bias; // the inputs; of the three that the convolution computes nothing is read
    void *result;
};

// Sums are in float, but for HALF_SUMS; results are rounded to nearest even.
void compute(const Problem &problem, int64_t engine, const Memory &memory);

} // namespace cudnn
