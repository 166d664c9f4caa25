// Operation graphs as the JSON that the real library writes into a plan, and back.
#include <cinttypes>
#include <cstdio>

#include "cudnn_graph.h"

namespace cudnn
{

namespace
{

struct Name {
    const char *text;
    int value;
};

constexpr Name data_types[] = {{"CUDNN_DATA_FLOAT", CUDNN_DATA_FLOAT},
                               {"CUDNN_DATA_HALF", CUDNN_DATA_HALF},
                               {"CUDNN_DATA_BFLOAT16", CUDNN_DATA_BFLOAT16},
                               {"CUDNN_DATA_DOUBLE", CUDNN_DATA_DOUBLE},
                               {"CUDNN_DATA_INT32", CUDNN_DATA_INT32}};
constexpr Name modes[] = {{"CUDNN_POINTWISE_ADD", CUDNN_POINTWISE_ADD},
                          {"CUDNN_POINTWISE_RELU_FWD", CUDNN_POINTWISE_RELU_FWD}};
constexpr Name operation_types[] = {
    {"CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR", CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR},
    {"CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR",
     CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR},
    {"CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR",
     CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR},
    {"CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR", CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR},
};

template <size_t N> const char *text_of(const Name (&names)[N], int value)
{
    for (const Name &name : names)
        if (name.value == value) return name.text;
    return "";
}

template <size_t N> bool value_of(const Name (&names)[N], const Json *text, int &out)
{
    if (!text) return false;
    for (const Name &name : names)
        if (text->text == name.text) {
            out = name.value;
            return true;
        }
    return false;
}

// The names that a node's tensors have, in the order x, w, y.
struct Roles {
    const char *x, *w, *y;
};

Roles roles_of(cudnnBackendDescriptorType_t type)
{
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) return {"dX", "W", "dY"};
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) return {"X", "dW", "dY"};
    return {"X", "W", "Y"};
}

// --- writing ---

std::string list(const int64_t *values, size_t count)
{
    std::string text = "[";
    for (size_t i = 0; i < count; i++)
        text += (i > 0 ? "," : "") + std::to_string(values[i]);
    return text + "]";
}

std::string quoted(const std::string &text)
{
    return "\"" + text + "\"";
}

std::string write_tensor(const TensorMeaning &t)
{
    return "{\"name\":" + quoted(std::to_string(t.uid)) + ",\"dataType\":" + quoted(text_of(data_types, t.type)) +
           ",\"dim\":" + list(t.dims.data(), t.dims.size()) +
           ",\"stride\":" + list(t.strides.data(), t.strides.size()) +
           ",\"isVirtual\":" + (t.is_virtual ? "true" : "false") +
           ",\"isByValue\":false,\"vectCount\":1,\"vectDim\":-1,\"ptrAlignment\":" + std::to_string(t.alignment) +
           ",\"reordering\":\"CUDNN_TENSOR_REORDERING_NONE\"}";
}

std::string write_operation(const Operation &o)
{
    std::string text = "{\"operation\":" + quoted(text_of(operation_types, o.type));
    const Roles roles = roles_of(o.type);
    const auto role = [&](const char *name, const TensorMeaning &tensor) {
        text += "," + quoted(name) + ":" + quoted(std::to_string(tensor.uid));
    };
    if (o.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
        text += ",\"pointwiseMode\":" + quoted(text_of(modes, o.mode)) +
                ",\"mathPrec\":" + quoted(text_of(data_types, o.precision)) + ",\"alpha1\":1.0,\"alpha2\":1.0";
        role("X", o.x);
        role("Y", o.y);
        if (o.has_b) role("B", o.b);
        return text + "}";
    }
    const Geometry &g = o.geometry;
    text += ",\"mode\":\"CUDNN_CROSS_CORRELATION\",\"mathPrec\":" + quoted(text_of(data_types, g.compute)) +
            ",\"alpha\":1.0,\"beta\":0.0,\"pad\":" + list(g.padding, 2) + ",\"stride\":" + list(g.stride, 2) +
            ",\"dilation\":" + list(g.dilation, 2);
    role(roles.x, o.x);
    role(roles.w, o.w);
    role(roles.y, o.y);
    return text + "}";
}

// --- reading ---

bool read_numbers(const Json *from, std::vector<int64_t> &out)
{
    if (!from) return false;
    for (const Json &one : from->list) {
        if (one.kind != Json::NUMBER) return false;
        out.push_back(static_cast<int64_t>(one.number));
    }
    return true;
}

bool read_pair(const Json *from, int64_t out[2])
{
    std::vector<int64_t> numbers;
    if (!read_numbers(from, numbers) || numbers.size() != 2) return false;
    out[0] = numbers[0];
    out[1] = numbers[1];
    return true;
}

bool read_tensor(const Json &from, std::map<std::string, TensorMeaning> &out)
{
    const Json *name = from.member("name", Json::TEXT), *is_virtual = from.member("isVirtual", Json::TRUTH),
               *alignment = from.member("ptrAlignment", Json::NUMBER);
    TensorMeaning tensor{};
    int type = 0;
    if (!name || !is_virtual || !alignment || !value_of(data_types, from.member("dataType", Json::TEXT), type) ||
        !read_numbers(from.member("dim", Json::LIST), tensor.dims) ||
        !read_numbers(from.member("stride", Json::LIST), tensor.strides) || tensor.dims.size() != tensor.strides.size())
        return false;
    tensor.type = static_cast<cudnnDataType_t>(type);
    tensor.uid = std::strtoll(name->text.c_str(), nullptr, 10);
    tensor.alignment = static_cast<int64_t>(alignment->number);
    tensor.is_virtual = is_virtual->truth;
    out[name->text] = tensor;
    return true;
}

bool read_role(const Json &from, const char *role, const std::map<std::string, TensorMeaning> &tensors,
               TensorMeaning &out)
{
    const Json *name = from.member(role, Json::TEXT);
    const auto found = name ? tensors.find(name->text) : tensors.end();
    if (found == tensors.end()) return false;
    out = found->second;
    return true;
}

bool read_operation(const Json &from, const std::map<std::string, TensorMeaning> &tensors, Operation &out)
{
    int type = 0, mode = 0, precision = 0;
    if (!value_of(operation_types, from.member("operation", Json::TEXT), type) ||
        !value_of(data_types, from.member("mathPrec", Json::TEXT), precision))
        return false;
    out.type = static_cast<cudnnBackendDescriptorType_t>(type);
    const Roles roles = roles_of(out.type);
    if (!read_role(from, roles.x, tensors, out.x) || !read_role(from, roles.y, tensors, out.y)) return false;
    if (out.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
        out.has_b = read_role(from, "B", tensors, out.b);
        if (!value_of(modes, from.member("pointwiseMode", Json::TEXT), mode)) return false;
        out.mode = static_cast<cudnnPointwiseMode_t>(mode);
        out.precision = static_cast<cudnnDataType_t>(precision);
        return out.has_b == (out.mode == CUDNN_POINTWISE_ADD);
    }
    out.geometry.compute = static_cast<cudnnDataType_t>(precision);
    return read_role(from, roles.w, tensors, out.w) &&
           read_pair(from.member("pad", Json::LIST), out.geometry.padding) &&
           read_pair(from.member("stride", Json::LIST), out.geometry.stride) &&
           read_pair(from.member("dilation", Json::LIST), out.geometry.dilation) &&
           check_convolution(out) == CUDNN_STATUS_SUCCESS;
}

} // namespace

std::string write_graph(const std::vector<Operation> &operations)
{
    std::map<int64_t, const TensorMeaning *> tensors;
    std::string nodes, text;
    for (const Operation &o : operations) {
        tensors[o.x.uid] = &o.x;
        tensors[o.y.uid] = &o.y;
        if (o.type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) tensors[o.w.uid] = &o.w;
        if (o.has_b) tensors[o.b.uid] = &o.b;
        nodes += (nodes.empty() ? "" : ",") + write_operation(o);
    }
    for (const auto &tensor : tensors)
        text += (text.empty() ? "" : ",") + write_tensor(*tensor.second);
    return "{\"tensors\":[" + text + "],\"nodes\":[" + nodes + "]}";
}

cudnnStatus_t read_problem(const char *call, const Json &graph, std::shared_ptr<const Problem> &out)
{
    const Json *tensor_list = graph.member("tensors", Json::LIST), *nodes = graph.member("nodes", Json::LIST);
    if (!tensor_list || !nodes) return fail(CUDNN_STATUS_BAD_PARAM, "a plan's graph without tensors or nodes");
    std::map<std::string, TensorMeaning> tensors;
    std::vector<Operation> operations;
    for (const Json &one : tensor_list->list)
        if (!read_tensor(one, tensors)) return fail(CUDNN_STATUS_BAD_PARAM, "a tensor of a plan's graph");
    for (const Json &one : nodes->list) {
        Operation operation{};
        operation.alpha = 1;
        if (!read_operation(one, tensors, operation)) return fail(CUDNN_STATUS_BAD_PARAM, "a node of a plan's graph");
        operations.push_back(operation);
    }
    return build_problem(call, operations, out);
}

} // namespace cudnn
