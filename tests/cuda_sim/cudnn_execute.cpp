// Running a plan: the rules of its memory, which the real library doesn't check, and then the work on a stream.
#include <cstdio>

#include "cudnn_convolution.h"
#include "machine.h"

namespace cudnn
{

namespace
{

constexpr char call[] = "cudnnBackendExecute";
constexpr size_t WORKSPACE_ALIGNMENT = 256;

// A piece of memory that a run names.
struct Piece {
    std::string name;
    void *pointer;
    size_t bytes;
    bool written;
};

std::vector<const TensorMeaning *> inputs_of(const Problem &problem)
{
    std::vector<const TensorMeaning *> list;
    for (const TensorMeaning *one : {&problem.x, &problem.w, &problem.y})
        if (one != &problem.result()) list.push_back(one);
    if (problem.has_bias) list.push_back(&problem.bias);
    return list;
}

void *pointer_of(const Object &pack, const TensorMeaning &tensor)
{
    const auto uids = pack.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto pointers = pack.all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const long long uid = tensor.uid;
    for (size_t i = 0; i < uids.size(); i++)
        if (uids[i] == tensor.uid) {
            const uintptr_t address = reinterpret_cast<uintptr_t>(pointers[i]);
            if (address % static_cast<uintptr_t>(tensor.alignment) != 0)
                machine::violation(call, "tensor %lld is at %p, expected memory aligned to %lld bytes", uid,
                                   pointers[i], static_cast<long long>(tensor.alignment));
            return pointers[i];
        }
    machine::violation(call, "the variant pack has no tensor %lld", uid);
}

void check_no_strangers(const Object &pack, const Problem &problem)
{
    for (const int64_t uid : pack.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)) {
        bool known = uid == problem.result().uid;
        for (const TensorMeaning *input : inputs_of(problem))
            known = known || uid == input->uid;
        if (!known)
            machine::violation(call, "the variant pack has tensor %lld, which the plan doesn't know or is virtual",
                               static_cast<long long>(uid));
    }
}

void check_place(const Piece &piece, int device)
{
    const int found = machine::device_of(piece.pointer);
    if (found < 0)
        machine::violation(call, "%s is at %p, which is no device memory", piece.name.c_str(), piece.pointer);
    if (found != device)
        machine::violation(call, "%s is on device %d, the handle on device %d", piece.name.c_str(), found, device);
    if (machine::bytes_left(piece.pointer) < piece.bytes)
        machine::violation(call, "%s has %zu bytes, expected %zu", piece.name.c_str(),
                           machine::bytes_left(piece.pointer), piece.bytes);
}

void check_overlap(const std::vector<Piece> &pieces)
{
    const auto begin = [](const Piece &piece) { return reinterpret_cast<uintptr_t>(piece.pointer); };
    for (size_t i = 0; i < pieces.size(); i++)
        for (size_t j = i + 1; j < pieces.size(); j++)
            if ((pieces[i].written || pieces[j].written) && begin(pieces[i]) < begin(pieces[j]) + pieces[j].bytes &&
                begin(pieces[j]) < begin(pieces[i]) + pieces[i].bytes)
                machine::violation(call, "%s and %s overlap", pieces[i].name.c_str(), pieces[j].name.c_str());
}

std::vector<Piece> pieces_of(const Object &pack, const Plan &plan, void *workspace)
{
    const auto piece = [&](const TensorMeaning &tensor, bool written) {
        return Piece{"tensor " + std::to_string(tensor.uid), pointer_of(pack, tensor), bytes(tensor), written};
    };
    std::vector<Piece> pieces{piece(plan.problem->result(), true)};
    for (const TensorMeaning *input : inputs_of(*plan.problem))
        pieces.push_back(piece(*input, false));
    if (plan.workspace > 0) {
        if (reinterpret_cast<uintptr_t>(workspace) % WORKSPACE_ALIGNMENT != 0)
            machine::violation(call, "workspace is at %p, expected memory aligned to %zu bytes", workspace,
                               WORKSPACE_ALIGNMENT);
        pieces.push_back({"workspace", workspace, plan.workspace, true});
    }
    return pieces;
}

cudnnStatus_t execute(const Handle &handle, const std::shared_ptr<const Plan> &plan, const Object &pack)
{
    const Problem &problem = *plan->problem;
    if (machine::current_device() != handle.device)
        machine::violation(call, "the handle is of device %d, and device %d is current", handle.device,
                           machine::current_device());
    void *workspace = pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
    const std::vector<Piece> pieces = pieces_of(pack, *plan, workspace);
    check_no_strangers(pack, problem);
    for (const Piece &piece : pieces)
        check_place(piece, handle.device);
    check_overlap(pieces);

    Memory memory{nullptr, nullptr, nullptr, nullptr, pieces[0].pointer};
    if (&problem.x != &problem.result()) memory.x = pointer_of(pack, problem.x);
    if (&problem.w != &problem.result()) memory.w = pointer_of(pack, problem.w);
    if (&problem.y != &problem.result()) memory.y = pointer_of(pack, problem.y);
    if (problem.has_bias) memory.bias = pointer_of(pack, problem.bias);

    std::vector<machine::Access> accesses;
    for (const Piece &piece : pieces)
        accesses.push_back({piece.pointer, piece.bytes, piece.written});
    const cudaError_t result = machine::enqueue(handle.stream, call, accesses, [plan, memory, workspace] {
        if (plan->workspace > 0) std::memset(workspace, 0xff, plan->workspace);
        compute(*plan->problem, plan->engine, memory);
        if (plan->workspace > 0) std::memset(workspace, 0xa5, plan->workspace);
    });
    if (result != cudaSuccess)
        return fail(CUDNN_STATUS_EXECUTION_FAILED_CUDART, "the stream answers %d", static_cast<int>(result));
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

} // namespace cudnn

using namespace cudnn;

extern "C" cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                             cudnnBackendDescriptor_t pack)
{
    const Handle *on = handle_of(call, handle);
    const Link what = object_of(call, plan), with = object_of(call, pack);
    if (machine::fails(call)) return fail(CUDNN_STATUS_EXECUTION_FAILED, "%s was made to fail", call);
    if (!on) return fail(CUDNN_STATUS_BAD_PARAM, "handle is NULL");
    if (!what || !with) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "plan or variant pack is NULL");
    if (what->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || with->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        machine::violation(call, "executes a %s with a %s, expected an execution plan and a variant pack",
                           type_name(what->type), type_name(with->type));
    if (!what->finalized || !with->finalized)
        return fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or variant pack isn't finalized");
    return execute(*on, what->plan, *with);
}
