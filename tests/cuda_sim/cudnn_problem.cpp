// From operations to a problem: the rules between operations, the pattern that engines know, and the graph as JSON.
#include <cstdio>

#include "cudnn_graph.h"
#include "machine.h"

namespace cudnn
{

namespace
{

bool is_pointwise(const Operation &operation)
{
    return operation.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
}

const TensorMeaning &output_of(const Operation &operation)
{
    if (operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) return operation.x;
    if (operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) return operation.w;
    return operation.y;
}

std::vector<const TensorMeaning *> inputs_of(const Operation &operation)
{
    if (is_pointwise(operation))
        return operation.has_b ? std::vector<const TensorMeaning *>{&operation.x, &operation.b}
                               : std::vector<const TensorMeaning *>{&operation.x};
    std::vector<const TensorMeaning *> list;
    for (const TensorMeaning *one : {&operation.x, &operation.w, &operation.y})
        if (one != &output_of(operation)) list.push_back(one);
    return list;
}

bool reads(const Operation &operation, int64_t uid)
{
    for (const TensorMeaning *input : inputs_of(operation))
        if (input->uid == uid) return true;
    return false;
}

bool same(const TensorMeaning &a, const TensorMeaning &b)
{
    return a.type == b.type && a.dims == b.dims && a.strides == b.strides && a.is_virtual == b.is_virtual;
}

// --- the rules between operations ---

bool reaches(const std::vector<Operation> &operations, size_t from, size_t to, size_t steps)
{
    for (size_t next = 0; next < operations.size(); next++)
        if (next != from && reads(operations[next], output_of(operations[from]).uid) &&
            (next == to || (steps > 0 && reaches(operations, next, to, steps - 1))))
            return true;
    return false;
}

bool has_cycle(const std::vector<Operation> &operations)
{
    for (size_t i = 0; i < operations.size(); i++)
        if (reaches(operations, i, i, operations.size())) return true;
    return false;
}

void check_uids(const char *call, const std::vector<Operation> &operations)
{
    std::map<int64_t, TensorMeaning> seen;
    for (const Operation &operation : operations) {
        std::vector<const TensorMeaning *> tensors = inputs_of(operation);
        tensors.push_back(&output_of(operation));
        for (const TensorMeaning *tensor : tensors) {
            const auto placed = seen.emplace(tensor->uid, *tensor);
            if (!same(placed.first->second, *tensor))
                machine::violation(call, "two different tensors have the unique id %lld",
                                   static_cast<long long>(tensor->uid));
        }
        if (reads(operation, output_of(operation).uid))
            machine::violation(call, "an operation reads tensor %lld, which it writes",
                               static_cast<long long>(output_of(operation).uid));
    }
}

// Whether each tensor is written once. What is virtual and left in the air is a violation.
bool flows(const char *call, const std::vector<Operation> &operations)
{
    const auto times = [&](int64_t uid, bool written) {
        int count = 0;
        for (const Operation &operation : operations)
            count += written ? output_of(operation).uid == uid : reads(operation, uid);
        return count;
    };
    for (const Operation &operation : operations) {
        const TensorMeaning &output = output_of(operation);
        const long long uid = output.uid;
        if (times(output.uid, true) > 1) return false;
        if (output.is_virtual && times(output.uid, false) == 0)
            machine::violation(call, "nobody reads the virtual tensor %lld", uid);
        for (const TensorMeaning *input : inputs_of(operation))
            if (input->is_virtual && times(input->uid, true) == 0)
                machine::violation(call, "nobody writes the virtual tensor %lld", static_cast<long long>(input->uid));
    }
    return true;
}

// --- the pattern ---

bool is_layout(const TensorMeaning &t, bool channels_last)
{
    if (t.dims.size() != 4) return false;
    const int64_t c = t.dims[1], h = t.dims[2], w = t.dims[3];
    const std::vector<int64_t> last{c * h * w, 1, c * w, c}, rows_first{c * h * w, h * w, w, 1};
    return t.strides == (channels_last ? last : rows_first);
}

// The operation that reads `uid`, if there is exactly one.
const Operation *only_reader(const std::vector<Operation> &operations, int64_t uid)
{
    const Operation *found = nullptr;
    for (const Operation &operation : operations)
        if (reads(operation, uid)) {
            if (found) return nullptr;
            found = &operation;
        }
    return found;
}

// Takes the operations behind a forward convolution into the problem; false where something else follows.
bool follow(Problem &problem, const Operation &convolution)
{
    const Operation *last = &convolution;
    size_t taken = 1;
    while (output_of(*last).is_virtual) {
        const Operation *next = only_reader(problem.operations, output_of(*last).uid);
        if (!next || !is_pointwise(*next) || next->x.uid != output_of(*last).uid ||
            next->precision != CUDNN_DATA_FLOAT || next->y.dims != next->x.dims || problem.relu)
            return false;
        if (output_of(*last).type != CUDNN_DATA_FLOAT) return false;
        if (next->mode == CUDNN_POINTWISE_RELU_FWD) {
            problem.relu = true;
        } else {
            if (problem.has_bias || next->b.dims != std::vector<int64_t>{1, next->y.dims[1], 1, 1}) return false;
            problem.has_bias = true;
            problem.bias = next->b;
        }
        last = next;
        taken++;
    }
    problem.y = last == &convolution ? convolution.y : last->y;
    return taken == problem.operations.size();
}

bool is_half(cudnnDataType_t type)
{
    return type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16;
}

// Which types and layouts engines exist for (found by asking the real library, 9.19, for sm_80 to sm_100).
bool types_fit(const Problem &p)
{
    const bool forward = p.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    const cudnnDataType_t input =
        p.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? p.w.type : p.x.type;
    const cudnnDataType_t other = p.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR ? p.y.type
                                  : forward                                                                ? p.w.type
                                                                                                           : p.y.type;
    const cudnnDataType_t result = p.result().type;
    if (input != other || (input != CUDNN_DATA_FLOAT && !is_half(input))) return false;
    if (p.geometry.compute != CUDNN_DATA_FLOAT) return false;
    if (result != input && !(forward && result == CUDNN_DATA_FLOAT)) return false;
    if (!p.has_bias && !p.relu) return true;
    if (!p.has_bias || result != input) return p.channels_last;
    if (p.bias.type == input) return true;
    return p.bias.type == CUDNN_DATA_FLOAT && p.channels_last;
}

void match(Problem &problem)
{
    const Operation *convolution = nullptr;
    for (const Operation &operation : problem.operations)
        if (!is_pointwise(operation)) {
            if (convolution) return;
            convolution = &operation;
        }
    if (!convolution) return;
    problem.kind = convolution->type;
    problem.x = convolution->x;
    problem.w = convolution->w;
    problem.y = convolution->y;
    problem.geometry = convolution->geometry;
    problem.groups = problem.x.dims[1] / problem.w.dims[1];
    if (problem.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
        if (!follow(problem, *convolution)) return;
    } else if (problem.operations.size() != 1) {
        return;
    }
    const auto all = [&](bool channels_last) {
        return is_layout(problem.x, channels_last) && is_layout(problem.w, channels_last) &&
               is_layout(problem.y, channels_last);
    };
    problem.channels_last = all(true);
    problem.supported = (problem.channels_last || all(false)) && types_fit(problem);
}

} // namespace

const TensorMeaning &Problem::result() const
{
    if (kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) return x;
    return kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR ? w : y;
}

cudnnStatus_t build_problem(const char *call, std::vector<Operation> operations, std::shared_ptr<const Problem> &out)
{
    if (operations.empty()) return fail(CUDNN_STATUS_BAD_PARAM, "operation graph: no operations");
    if (has_cycle(operations)) return fail(CUDNN_STATUS_BAD_PARAM, "operation graph: a cycle");
    check_uids(call, operations);
    if (!flows(call, operations)) return fail(CUDNN_STATUS_BAD_PARAM, "operation graph: a tensor is written twice");
    auto problem = std::make_shared<Problem>();
    problem->operations = std::move(operations);
    problem->text = write_graph(problem->operations);
    match(*problem);
    out = problem;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace cudnn
