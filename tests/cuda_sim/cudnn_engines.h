// The engines of the cuDNN stand-in, devices and plans.
#pragma once

#include "cudnn_graph.h"

namespace cudnn
{

struct Device {
    int version; // 100 major + 10 minor
    std::string text;
};

// How an engine computes. All but SHUFFLED give the same bits in every run.
enum Engine : int64_t {
    DIRECT = 0,          // plain sums in float
    LOWERED = 1,         // the same with a workspace
    TENSOR_CORE = 2,     // of float: inputs rounded to TF32; a workspace for gradients
    SHUFFLED = 3,        // sums in another order in every run
    COMPILED = 4,        // fused graphs that the others don't know
    HALF_SUMS = 5,       // of half precision: sums rounded to the inputs' type
    UNFINISHABLE = 6,    // in the heuristics' answer, and then no plan comes of it
    DOWN_CONVERTING = 7, // of float: inputs rounded to bf16
    WINOGRAD = 8,        // of float, forward: sums that lose digits, as those of large tiles do
};

struct Plan {
    std::shared_ptr<const Problem> problem;
    int64_t engine;
    size_t workspace;
    std::string text;
};

bool engine_supports(int64_t engine, const Problem &problem);
std::vector<cudnnBackendNumericalNote_t> notes_of(int64_t engine);

} // namespace cudnn
