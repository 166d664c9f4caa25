// The cases of kernels that treat each element alone.
#pragma once

#include "kernel_check.h"

namespace kernel_check
{

// MNIST's image and hidden layer, and counts that no pack of 16 bytes divides.
inline const std::vector<size_t> counts = {1, 3, 31, 33, 257, 1000, 64 * 512, 64 * 784};

// Where up to two inputs and the result begin, in elements off the allocation.
inline const std::vector<std::vector<size_t>> offsets = {{0, 0, 0}, {1, 1, 1}, {0, 1, 0}, {3, 0, 2}};

// check(type, count, offset): large ones at the first offset alone.
template <class Check> void for_cases(Check check)
{
    for (DType type : real_types)
        for (size_t count : counts)
            for (const std::vector<size_t> &offset : offsets) {
                if (count > 1000 && &offset != &offsets[0]) continue;
                set_context("%s, %zu elements, offsets %zu %zu %zu", dtype_name(type), count, offset[0], offset[1],
                            offset[2]);
                check(type, count, offset);
            }
}

} // namespace kernel_check
