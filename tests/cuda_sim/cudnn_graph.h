// What operation graphs of the cuDNN stand-in mean: a convolution, forward or one of its gradients; behind a forward
// one a bias and a ReLU. Other graphs are accepted as the real library accepts them, and then have no engine.
#pragma once

#include "cudnn_json.h"
#include "cudnn_objects.h"

namespace cudnn
{

struct Geometry {
    int64_t padding[2], stride[2], dilation[2];
    cudnnDataType_t compute;
};

struct Operation {
    cudnnBackendDescriptorType_t type;
    TensorMeaning x, w, y; // of a convolution, whatever of them is computed; of a pointwise operation x and y
    Geometry geometry;
    float alpha, beta;
    cudnnPointwiseMode_t mode;
    cudnnDataType_t precision;
    bool has_b;
    TensorMeaning b;
};

struct Problem {
    std::vector<Operation> operations; // as they were given
    std::string text;                  // as a plan's JSON has it under "operationGraph"

    bool supported = false; // the rest is set only then
    cudnnBackendDescriptorType_t kind{};
    TensorMeaning x{}, w{}, y{}; // y is what is computed at the end
    Geometry geometry{};
    int64_t groups = 1;
    bool has_bias = false, relu = false, channels_last = false;
    TensorMeaning bias{};

    const TensorMeaning &result() const;
};

size_t element_size(cudnnDataType_t type); // 0: a type that isn't simulated
int64_t elements(const TensorMeaning &tensor);
size_t bytes(const TensorMeaning &tensor);

// What finalising a graph checks. `call` for messages.
cudnnStatus_t build_problem(const char *call, std::vector<Operation> operations, std::shared_ptr<const Problem> &out);
// The same from a plan's JSON.
cudnnStatus_t read_problem(const char *call, const Json &graph, std::shared_ptr<const Problem> &out);
std::string write_graph(const std::vector<Operation> &operations);

// What finalising an operation checks.
cudnnStatus_t check_convolution(const Operation &operation);

} // namespace cudnn
