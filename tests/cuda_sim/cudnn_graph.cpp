// The rules of tensors, operations and graphs.
#include "cudnn_graph.h"

#include <algorithm>
#include <set>

#include "machine.h"

namespace cudnn
{

namespace
{

bool is_convolution(cudnnBackendDescriptorType_t type)
{
    return type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

// --- tensors ---

bool overlaps_itself(const TensorMeaning &tensor)
{
    std::vector<std::pair<int64_t, int64_t>> axes; // stride, size
    int64_t extent = 1;
    for (size_t i = 0; i < tensor.dims.size(); i++)
        if (tensor.dims[i] > 1) axes.emplace_back(tensor.strides[i], tensor.dims[i]);
    std::sort(axes.begin(), axes.end());
    for (const auto &axis : axes) {
        if (axis.first < extent) return true;
        extent = axis.first * axis.second;
    }
    return false;
}

// What the real library lets pass.
void check_tensor_means_something(const Object &object, const TensorMeaning &tensor)
{
    static const char call[] = "cudnnBackendFinalize(tensor)";
    if (!object.has(CUDNN_ATTR_TENSOR_UNIQUE_ID)) machine::violation(call, "CUDNN_ATTR_TENSOR_UNIQUE_ID isn't set");
    for (size_t i = 0; i < tensor.dims.size(); i++) {
        if (tensor.dims[i] == 0) machine::violation(call, "dimension %zu is 0, expected at least 1", i);
        if (tensor.strides[i] == 0) machine::violation(call, "stride %zu is 0, expected at least 1", i);
    }
    if (overlaps_itself(tensor)) machine::violation(call, "strides let elements overlap");
}

cudnnStatus_t finalize_tensor(Object &object)
{
    TensorMeaning &tensor = object.tensor;
    if (!object.has(CUDNN_ATTR_TENSOR_DATA_TYPE))
        machine::violation("cudnnBackendFinalize(tensor)", "CUDNN_ATTR_TENSOR_DATA_TYPE isn't set");
    const int type = object.get<int>(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT);
    if (type < CUDNN_DATA_FLOAT || type > CUDNN_DATA_BFLOAT16 || element_size(static_cast<cudnnDataType_t>(type)) == 0)
        machine::violation("cudnnBackendFinalize(tensor)", "data type %d isn't simulated, or none of cuDNN's", type);
    tensor.type = static_cast<cudnnDataType_t>(type);
    tensor.dims = object.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    tensor.strides = object.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    tensor.uid = object.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    tensor.alignment = object.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    tensor.is_virtual = object.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false);
    const size_t size = element_size(tensor.type);
    if (tensor.dims.empty() || tensor.dims.size() != tensor.strides.size())
        return fail(CUDNN_STATUS_BAD_PARAM, "tensor: %zu dimensions, %zu strides", tensor.dims.size(),
                    tensor.strides.size());
    for (size_t i = 0; i < tensor.dims.size(); i++)
        if (tensor.dims[i] < 0 || tensor.strides[i] < 0)
            return fail(CUDNN_STATUS_BAD_PARAM, "tensor: dimension %zu or its stride is negative", i);
    if (tensor.alignment <= 0 || tensor.alignment % static_cast<int64_t>(size) != 0)
        return fail(CUDNN_STATUS_BAD_PARAM, "tensor: alignment to %lld bytes",
                    static_cast<long long>(tensor.alignment));
    check_tensor_means_something(object, tensor);
    return CUDNN_STATUS_SUCCESS;
}

// --- convolutions ---

cudnnStatus_t finalize_convolution(const Object &object)
{
    static const char call[] = "cudnnBackendFinalize(convolution)";
    const int64_t axes = object.get<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0);
    const auto pre = object.all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
               post = object.all<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
               strides = object.all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
               dilations = object.all<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
    const auto below = [](const std::vector<int64_t> &list, int64_t least) {
        return std::any_of(list.begin(), list.end(), [=](int64_t one) { return one < least; });
    };
    const size_t count = static_cast<size_t>(axes);
    if (axes <= 0 || strides.size() != count || dilations.size() != count || below(strides, 1) || below(dilations, 1) ||
        below(pre, 0) || below(post, 0))
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: axes, strides, dilations or paddings don't fit");
    if (!object.has(CUDNN_ATTR_CONVOLUTION_COMP_TYPE))
        machine::violation(call, "CUDNN_ATTR_CONVOLUTION_COMP_TYPE isn't set");
    if (object.get(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CONVOLUTION) != CUDNN_CROSS_CORRELATION)
        machine::violation(call, "CUDNN_ATTR_CONVOLUTION_CONV_MODE isn't CUDNN_CROSS_CORRELATION");
    if (pre.size() != count || post != pre)
        machine::violation(call, "%zu paddings before and %zu after, expected the same %zu", pre.size(), post.size(),
                           count);
    return CUDNN_STATUS_SUCCESS;
}

// The attributes of a convolution's operation.
struct OperationAttributes {
    int convolution, x, w, y, alpha, beta;
};

OperationAttributes attributes_of(cudnnBackendDescriptorType_t type)
{
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

Geometry geometry_of(const Object &convolution)
{
    Geometry geometry{};
    const auto copy = [&](int attribute, int64_t *to) {
        const auto from = convolution.all<int64_t>(attribute);
        for (size_t i = 0; i < 2 && i < from.size(); i++)
            to[i] = from[i];
    };
    copy(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, geometry.padding);
    copy(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, geometry.stride);
    copy(CUDNN_ATTR_CONVOLUTION_DILATIONS, geometry.dilation);
    geometry.compute = convolution.get(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    return geometry;
}

cudnnStatus_t finalize_convolution_operation(const Object &object)
{
    const OperationAttributes names = attributes_of(object.type);
    if (!object.link(names.convolution) || !object.link(names.x) || !object.link(names.w) || !object.link(names.y))
        return fail(CUDNN_STATUS_BAD_PARAM, "%s: the convolution or a tensor isn't set", type_name(object.type));
    if (object.get(names.alpha, 0.0f) != 1 || object.get(names.beta, 1.0f) != 0)
        machine::violation("cudnnBackendFinalize(convolution operation)", "alpha is %g and beta %g, expected 1 and 0",
                           static_cast<double>(object.get(names.alpha, 0.0f)),
                           static_cast<double>(object.get(names.beta, 1.0f)));
    Operation operation{};
    operation.type = object.type;
    operation.x = object.link(names.x)->tensor;
    operation.w = object.link(names.w)->tensor;
    operation.y = object.link(names.y)->tensor;
    operation.geometry = geometry_of(*object.link(names.convolution));
    return check_convolution(operation);
}

// --- pointwise ---

cudnnStatus_t finalize_pointwise(const Object &object)
{
    static const char call[] = "cudnnBackendFinalize(pointwise)";
    if (!object.has(CUDNN_ATTR_POINTWISE_MATH_PREC))
        machine::violation(call, "CUDNN_ATTR_POINTWISE_MATH_PREC isn't set");
    const int mode = object.get<int>(CUDNN_ATTR_POINTWISE_MODE, -1);
    if (mode != CUDNN_POINTWISE_ADD && mode != CUDNN_POINTWISE_RELU_FWD)
        machine::violation(
            call, "CUDNN_ATTR_POINTWISE_MODE is %d (-1: not set), and only ADD and RELU_FWD are simulated", mode);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_pointwise_operation(const Object &object)
{
    const Object *how = object.link(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const bool adds = how && how->get(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD) == CUDNN_POINTWISE_ADD;
    if (!how || !object.link(CUDNN_ATTR_OPERATION_POINTWISE_XDESC) ||
        !object.link(CUDNN_ATTR_OPERATION_POINTWISE_YDESC) ||
        (adds && !object.link(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)))
        return fail(CUDNN_STATUS_BAD_PARAM, "pointwise operation: the mode or a tensor isn't set");
    return CUDNN_STATUS_SUCCESS;
}

// --- graphs ---

Operation operation_of(const Object &object)
{
    Operation operation{};
    operation.type = object.type;
    if (is_convolution(object.type)) {
        const OperationAttributes names = attributes_of(object.type);
        operation.x = object.link(names.x)->tensor;
        operation.w = object.link(names.w)->tensor;
        operation.y = object.link(names.y)->tensor;
        operation.geometry = geometry_of(*object.link(names.convolution));
        operation.alpha = 1;
        return operation;
    }
    const Object *how = object.link(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    operation.mode = how->get(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
    operation.precision = how->get(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    operation.x = object.link(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)->tensor;
    operation.y = object.link(CUDNN_ATTR_OPERATION_POINTWISE_YDESC)->tensor;
    if (const Object *b = object.link(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
        operation.has_b = true;
        operation.b = b->tensor;
    }
    return operation;
}

cudnnStatus_t finalize_graph(Object &object)
{
    std::vector<Operation> operations;
    const auto found = object.values.find(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    if (found != object.values.end())
        for (const Link &link : found->second.links) {
            if (!is_convolution(link->type) && link->type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
                return fail(CUDNN_STATUS_BAD_PARAM, "operation graph: a %s is no operation", type_name(link->type));
            operations.push_back(operation_of(*link));
        }
    return build_problem("cudnnBackendFinalize(operation graph)", operations, object.problem);
}

} // namespace

size_t element_size(cudnnDataType_t type)
{
    switch (type) {
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
        return 2;
    case CUDNN_DATA_FLOAT:
    case CUDNN_DATA_INT32:
        return 4;
    case CUDNN_DATA_DOUBLE:
        return 8;
    default:
        return 0;
    }
}

int64_t elements(const TensorMeaning &tensor)
{
    int64_t count = 1;
    for (const int64_t dim : tensor.dims)
        count *= dim;
    return count;
}

size_t bytes(const TensorMeaning &tensor)
{
    return static_cast<size_t>(elements(tensor)) * element_size(tensor.type);
}

cudnnStatus_t check_convolution(const Operation &operation)
{
    const auto &x = operation.x.dims, &w = operation.w.dims, &y = operation.y.dims;
    if (x.size() < 3 || x.size() != w.size() || x.size() != y.size())
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: tensors of %zu, %zu and %zu dimensions", x.size(), w.size(),
                    y.size());
    if (x.size() != 4)
        machine::violation("cudnnBackendFinalize(convolution operation)", "%zu axes in space, and only 2 are simulated",
                           x.size() - 2);
    if (x[0] != y[0] || w[0] != y[1] || x[1] % w[1] != 0 || y[1] % (x[1] / w[1]) != 0)
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: batch, channels or groups don't fit");
    for (size_t i = 0; i < 2; i++) {
        const Geometry &g = operation.geometry;
        const int64_t window = (w[i + 2] - 1) * g.dilation[i] + 1, padded = x[i + 2] + 2 * g.padding[i];
        if (padded < window || (padded - window) / g.stride[i] + 1 != y[i + 2])
            return fail(CUDNN_STATUS_BAD_PARAM, "convolution: axis %zu of y has size %lld", i,
                        static_cast<long long>(y[i + 2]));
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_graph_part(Object &object)
{
    switch (object.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return finalize_tensor(object);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return finalize_convolution(object);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
        return finalize_pointwise(object);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return finalize_pointwise_operation(object);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return finalize_graph(object);
    default:
        return finalize_convolution_operation(object);
    }
}

} // namespace cudnn
