// A stand-in for NCCL, under the real names: several simulated GPUs of one process, driven by one thread.
//
// Every rank joins before anything runs: at the end of a group each collective becomes one piece of work on rank 0's
// stream, which comes after what the other ranks' streams hold so far, and before what they get next (two events a
// rank). Sums are added by rank, so the same input gives the same bits on all ranks, run after run.
//
// The real library hangs where a rank never calls, and computes nonsense where the ranks' counts, types or operations
// differ: both are violations at the end of the group.
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "machine_internal.h"

namespace
{

struct Clique {
    std::vector<ncclComm_t> ranks;
    std::atomic<int> pending{0}; // collectives on streams (not in graphs) that haven't run
};

} // namespace

struct ncclComm {
    std::shared_ptr<Clique> clique;
    int rank, device;
    cudaEvent_t joined, done; // on its stream: it has come to the collective; the collective is over
    bool failed;              // in the background
};

namespace
{

std::mutex mutex;           // guards `living`
std::set<uintptr_t> living; // communicators, inverted, so that LeakSanitizer reports what the program has lost

uintptr_t inverted(ncclComm_t comm)
{
    return ~reinterpret_cast<uintptr_t>(comm);
}

// False for NULL; what was destroyed, or never was one, is a violation.
bool is_alive(const char *call, ncclComm_t comm)
{
    if (!comm) return false;
    const std::lock_guard<std::mutex> lock(mutex);
    if (!living.count(inverted(comm)))
        machine::violation(call, "%p is no communicator, or one that was destroyed", static_cast<void *>(comm));
    return true;
}

struct Collective {
    const char *call;
    const void *send;
    void *receive;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t operation; // of ncclAllReduce
    int root;              // of ncclBroadcast
    ncclComm_t comm;
    cudaStream_t stream;
};

// What a thread has started: the calls between ncclGroupStart and ncclGroupEnd.
struct Group {
    int depth = 0;
    ncclResult_t result = ncclSuccess; // of the first call that failed
    std::vector<Collective> calls;
};

thread_local Group group;

class CurrentDevice
{
  public:
    CurrentDevice() : before_(machine::current_device())
    {
    }
    ~CurrentDevice()
    {
        machine::set_device(before_);
    }
    CurrentDevice(const CurrentDevice &) = delete;
    CurrentDevice &operator=(const CurrentDevice &) = delete;

  private:
    int before_;
};

size_t bytes_of(ncclDataType_t type)
{
    return type == ncclFloat32 ? 4 : type == ncclFloat64 ? 8 : 0;
}

// --- arithmetic ---

template <typename T> T combine(ncclRedOp_t operation, T a, T b)
{
    if (operation == ncclMax) return std::max(a, b);
    return operation == ncclMin ? std::min(a, b) : a + b;
}

// The mean is a sum of shares, as the real library computes it.
template <typename T> void reduce(const std::vector<Collective> &ranks)
{
    const T share = ranks[0].operation == ncclAvg ? T(1) / static_cast<T>(ranks.size()) : T(1);
    for (size_t i = 0; i < ranks[0].count; i++) {
        T sum = static_cast<const T *>(ranks[0].send)[i] * share;
        for (size_t r = 1; r < ranks.size(); r++)
            sum = combine(ranks[0].operation, sum, static_cast<const T *>(ranks[r].send)[i] * share);
        for (const Collective &rank : ranks)
            static_cast<T *>(rank.receive)[i] = sum;
    }
}

void broadcast(const std::vector<Collective> &ranks)
{
    const Collective &root = ranks[static_cast<size_t>(ranks[0].root)];
    for (const Collective &rank : ranks)
        memmove(rank.receive, root.send, root.count * bytes_of(root.type));
}

bool is_reduction(const Collective &collective)
{
    return strcmp(collective.call, "ncclAllReduce") == 0;
}

void run(const std::vector<Collective> &ranks)
{
    if (!is_reduction(ranks[0]))
        broadcast(ranks);
    else if (ranks[0].type == ncclFloat32)
        reduce<float>(ranks);
    else
        reduce<double>(ranks);
}

// --- launching: `ranks` has one call of every rank, by rank ---

ncclResult_t launch_failed(cudaError_t error)
{
    return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

// Lets `follower` wait for what is on `leader` so far.
cudaError_t order(const Collective &leader, const Collective &follower, cudaEvent_t event)
{
    machine::set_device(leader.comm->device);
    const cudaError_t error = machine::event_record(event, leader.stream);
    if (error != cudaSuccess) return error;
    machine::set_device(follower.comm->device);
    return machine::stream_wait(follower.stream, event);
}

ncclResult_t launch(const std::vector<Collective> &ranks)
{
    const machine::Lock lock;
    const CurrentDevice kept;
    std::vector<machine::Access> accesses;
    for (const Collective &rank : ranks) {
        const size_t bytes = rank.count * bytes_of(rank.type);
        machine::Access access = {rank.send, bytes, false};
        access.anywhere = true;
        if (is_reduction(rank) || rank.comm->rank == rank.root) accesses.push_back(access);
        access.begin = rank.receive;
        access.write = true;
        accesses.push_back(access);
    }
    cudaError_t error = cudaSuccess;
    for (size_t r = 1; r < ranks.size() && error == cudaSuccess; r++)
        error = order(ranks[r], ranks[0], ranks[r].comm->joined);
    if (error != cudaSuccess) return launch_failed(error);
    machine::set_device(ranks[0].comm->device);
    const std::shared_ptr<Clique> clique = ranks[0].comm->clique;
    const int counted = machine::stream_of(ranks[0].stream, ranks[0].call)->capture ? 0 : 1;
    clique->pending += counted;
    error = machine::enqueue(ranks[0].stream, ranks[0].call, std::move(accesses), [ranks, clique, counted] {
        run(ranks);
        clique->pending -= counted;
    });
    if (error != cudaSuccess) clique->pending -= counted;
    for (size_t r = 1; r < ranks.size() && error == cudaSuccess; r++)
        error = order(ranks[0], ranks[r], ranks[0].comm->done);
    return launch_failed(error);
}

// --- what a call may ask for ---

void check_buffer(const Collective &c, const char *name, const void *buffer)
{
    const size_t bytes = c.count * bytes_of(c.type);
    if (machine::device_of(buffer) != c.comm->device)
        machine::violation(c.call, "%s of rank %d (%p) is no memory of its device %d", name, c.comm->rank, buffer,
                           c.comm->device);
    if (machine::bytes_left(buffer) < bytes)
        machine::violation(c.call, "%s of rank %d has %zu bytes left in its allocation, expected %zu", name,
                           c.comm->rank, machine::bytes_left(buffer), bytes);
    machine::check_aligned(c.call, name, buffer, bytes_of(c.type));
}

ncclResult_t check(const Collective &c)
{
    if (c.type < 0 || c.type >= ncclNumTypes) return ncclInvalidArgument;
    if (c.operation < 0 || c.operation >= ncclNumOps) return ncclInvalidArgument;
    if (c.root < 0 || c.root >= static_cast<int>(c.comm->clique->ranks.size())) return ncclInvalidArgument;
    if (!bytes_of(c.type)) machine::violation(c.call, "type %d isn't simulated", static_cast<int>(c.type));
    if (c.operation == ncclProd) machine::violation(c.call, "ncclProd isn't simulated");
    if (machine::device_of_stream(c.stream) != c.comm->device)
        machine::violation(c.call, "the stream of rank %d is of device %d, its communicator of device %d", c.comm->rank,
                           machine::device_of_stream(c.stream), c.comm->device);
    if (c.count == 0) return ncclSuccess;
    const bool sends = is_reduction(c) || c.comm->rank == c.root;
    if (sends) check_buffer(c, "send buffer", c.send);
    check_buffer(c, "receive buffer", c.receive);
    const auto send = reinterpret_cast<uintptr_t>(c.send), receive = reinterpret_cast<uintptr_t>(c.receive);
    const size_t bytes = c.count * bytes_of(c.type);
    if (sends && send != receive && send < receive + bytes && receive < send + bytes)
        machine::violation(c.call, "send and receive buffer of rank %d overlap, expected the same or apart",
                           c.comm->rank);
    return ncclSuccess;
}

void check_alike(const Collective &first, const Collective &other)
{
    const int rank = other.comm->rank;
    if (strcmp(other.call, first.call) != 0)
        machine::violation(first.call, "rank %d calls %s, rank 0 %s", rank, other.call, first.call);
    if (other.count != first.count)
        machine::violation(first.call, "rank %d has %zu elements, rank 0 %zu", rank, other.count, first.count);
    if (other.type != first.type)
        machine::violation(first.call, "rank %d has type %d, rank 0 type %d", rank, static_cast<int>(other.type),
                           static_cast<int>(first.type));
    if (other.operation != first.operation || other.root != first.root)
        machine::violation(first.call, "rank %d has operation %d and root %d, rank 0 operation %d and root %d", rank,
                           static_cast<int>(other.operation), other.root, static_cast<int>(first.operation),
                           first.root);
}

// --- groups ---

// The calls of one clique, by rank, each rank's in the order in which they were made.
using ByRank = std::vector<std::vector<Collective>>;

ncclResult_t launch_clique(const ByRank &calls)
{
    for (size_t r = 0; r < calls.size(); r++)
        if (calls[r].size() != calls[0].size())
            machine::violation((calls[0].empty() ? calls[r] : calls[0])[0].call,
                               "rank %zu of %zu makes %zu calls in the group, rank 0 %zu: the others would wait for it "
                               "for ever (one thread drives all ranks: their calls belong into one group)",
                               r, calls.size(), calls[r].size(), calls[0].size());
    for (size_t i = 0; i < calls[0].size(); i++) {
        std::vector<Collective> ranks;
        for (const std::vector<Collective> &rank : calls) {
            check_alike(calls[0][i], rank[i]);
            ranks.push_back(rank[i]);
        }
        if (ranks[0].count == 0) continue;
        const ncclResult_t result = launch(ranks);
        if (result != ncclSuccess) return result;
    }
    return ncclSuccess;
}

ncclResult_t launch_group(const std::vector<Collective> &calls)
{
    std::map<Clique *, ByRank> cliques;
    for (const Collective &call : calls) {
        ByRank &ranks = cliques[call.comm->clique.get()];
        ranks.resize(call.comm->clique->ranks.size());
        ranks[static_cast<size_t>(call.comm->rank)].push_back(call);
    }
    for (const auto &clique : cliques) {
        const ncclResult_t result = launch_clique(clique.second);
        if (result != ncclSuccess) return result;
    }
    return ncclSuccess;
}

ncclResult_t end_group()
{
    Group ended;
    std::swap(ended, group);
    return ended.result != ncclSuccess ? ended.result : launch_group(ended.calls);
}

// A call outside of a group is a group of its own.
ncclResult_t add(const Collective &collective)
{
    ncclResult_t result = ncclSuccess;
    group.depth++;
    if (machine::fails(collective.call))
        result = ncclUnhandledCudaError;
    else
        result = is_alive(collective.call, collective.comm) ? check(collective) : ncclInvalidArgument;
    if (result == ncclSuccess)
        group.calls.push_back(collective);
    else if (group.result == ncclSuccess)
        group.result = result;
    if (--group.depth > 0) return result;
    return end_group();
}

// --- communicators ---

ncclComm_t make_rank(const std::shared_ptr<Clique> &clique, int rank, int device)
{
    auto *comm = new ncclComm{clique, rank, device, nullptr, nullptr, false};
    machine::set_device(device);
    machine::event_create(cudaEventDisableTiming, &comm->joined);
    machine::event_create(cudaEventDisableTiming, &comm->done);
    const std::lock_guard<std::mutex> lock(mutex);
    living.insert(inverted(comm));
    return comm;
}

void destroy(ncclComm_t comm)
{
    const machine::Lock machine_lock;
    machine::event_destroy(comm->joined);
    machine::event_destroy(comm->done);
    const std::lock_guard<std::mutex> lock(mutex);
    living.erase(inverted(comm));
    delete comm;
}

} // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version)
{
    if (!version) return ncclInvalidArgument;
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclCommInitAll(ncclComm_t *comms, int count, const int *devices)
{
    const int present = machine::device_count();
    std::set<int> used;
    if (machine::fails(__func__)) return ncclUnhandledCudaError;
    if (present == 0) return ncclUnhandledCudaError;
    if (!comms || count < 1 || count > present) return ncclInvalidArgument;
    if (machine::capturing()) machine::violation(__func__, "a stream is being captured");
    for (int rank = 0; rank < count; rank++) {
        const int device = devices ? devices[rank] : rank;
        if (device < 0 || device >= present) return ncclInvalidArgument;
        if (!used.insert(device).second) return ncclInvalidUsage;
    }
    const machine::Lock lock;
    const CurrentDevice kept;
    auto clique = std::make_shared<Clique>();
    for (int rank = 0; rank < count; rank++)
        clique->ranks.push_back(make_rank(clique, rank, devices ? devices[rank] : rank));
    std::copy(clique->ranks.begin(), clique->ranks.end(), comms);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (!is_alive(__func__, comm)) return ncclSuccess;
    if (comm->failed) machine::violation(__func__, "rank %d has failed, expected ncclCommAbort", comm->rank);
    if (group.depth > 0) machine::violation(__func__, "a group is open");
    if (comm->clique->pending > 0)
        machine::violation(__func__, "%d collectives haven't run: wait for their streams first",
                           comm->clique->pending.load());
    destroy(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!is_alive(__func__, comm)) return ncclSuccess;
    destroy(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    if (!is_alive(__func__, comm) || !count) return ncclInvalidArgument;
    *count = static_cast<int>(comm->clique->ranks.size());
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    if (!is_alive(__func__, comm) || !rank) return ncclInvalidArgument;
    *rank = comm->rank;
    return ncclSuccess;
}

// SIM_FAIL makes this one report an error of the background, which only aborting helps against.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    if (!is_alive(__func__, comm) || !error) return ncclInvalidArgument;
    if (machine::fails(__func__)) comm->failed = true;
    *error = comm->failed ? ncclSystemError : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    if (machine::fails(__func__)) return ncclInternalError;
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (group.depth == 0) return ncclInvalidUsage;
    if (machine::fails(__func__) && group.result == ncclSuccess) group.result = ncclUnhandledCudaError;
    if (--group.depth > 0) return ncclSuccess;
    return end_group();
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add({__func__, send, receive, count, type, operation, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add({__func__, send, receive, count, type, ncclSum, root, comm, stream});
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
        return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
        return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
        return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
        return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclInProgress:
        return "NCCL operation in progress";
    default:
        return "unknown result code";
    }
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "simulated";
}

} // extern "C"
