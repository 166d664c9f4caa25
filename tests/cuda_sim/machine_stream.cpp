// Streams and events: what comes after what, and when it runs. Each stream counts its work; a clock holds how far each
// stream had come, so "a comes before b" is one comparison: a's number in its stream against b's clock. Work that isn't
// ordered, and touches the same bytes, is a violation when the second piece is submitted, whatever the order they would
// have run in.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "machine_internal.h"

namespace machine
{

// --- all streams, by number; a number is used again once nothing of the old stream is in doubt ---

static std::vector<CUstream_st *> &streams()
{
    static auto *one = new std::vector<CUstream_st *>; // null: destroyed
    return *one;
}
static std::vector<uint64_t> counts; // of destroyed streams: where their numbers go on
static std::set<CUevent_st *> &events()
{
    static auto *one = new std::set<CUevent_st *>;
    return *one;
}
static CUstream_st *defaults[MAX_DEVICES];
static Clock known; // what the host has waited for: it comes before all that it submits from then on

void join(Clock &into, const Clock &other)
{
    if (into.size() < other.size()) into.resize(other.size());
    for (size_t i = 0; i < other.size(); i++)
        into[i] = std::max(into[i], other[i]);
}

static uint64_t at(const Clock &clock, size_t stream)
{
    return stream < clock.size() ? clock[stream] : 0;
}

static CUstream_st *add_stream(int device, bool blocking, bool is_default)
{
    size_t number = 0;
    while (number < streams().size() && (streams()[number] || at(known, number) < counts[number]))
        number++;
    if (number == streams().size()) {
        streams().push_back(nullptr);
        counts.push_back(0);
    }
    CUstream_st *stream = new CUstream_st{};
    stream->number = static_cast<int>(number);
    stream->device = device;
    stream->blocking = blocking;
    stream->is_default = is_default;
    stream->enqueued = stream->done = counts[number];
    streams()[number] = stream;
    return stream;
}

CUstream_st *stream_of(cudaStream_t handle, const char *call)
{
    if (handle == nullptr || handle == cudaStreamLegacy) {
        CUstream_st *&stream = defaults[current_device()];
        if (!stream) stream = add_stream(current_device(), true, true);
        return stream;
    }
    if (handle == cudaStreamPerThread) violation(call, "cudaStreamPerThread is not simulated");
    for (CUstream_st *stream : streams())
        if (stream == handle) return stream;
    violation(call, "%p is no stream, or was destroyed", static_cast<void *>(handle));
}

static CUevent_st *event_of(cudaEvent_t handle, const char *call)
{
    if (events().count(handle) == 0) violation(call, "%p is no event, or was destroyed", static_cast<void *>(handle));
    return handle;
}

// --- running ---

enum class Order { LATE, EAGER, RANDOM };

static Order order()
{
    const char *text = getenv("SIM_ORDER");
    if (!text || strcmp(text, "late") == 0) return Order::LATE;
    if (strcmp(text, "eager") == 0) return Order::EAGER;
    if (strncmp(text, "random:", 7) == 0) return Order::RANDOM;
    violation("SIM_ORDER", "'%s' is neither late, eager nor random:SEED", text);
}

size_t choose(size_t n)
{
    static uint64_t state;
    static std::string seeded_by;
    if (order() != Order::RANDOM) return 0;
    const char *seed = getenv("SIM_ORDER") + 7;
    if (seeded_by != seed) state = strtoull(seed, nullptr, 10) * 0x9E3779B97F4A7C15u | 1;
    seeded_by = seed;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<size_t>(state >> 20) % n;
}

// Whether all that the first pending work of `stream` comes after has run.
static bool can_run(const CUstream_st *stream)
{
    if (stream->busy || stream->pending.empty()) return false;
    const Operation &first = *stream->pending.front();
    for (size_t i = 0; i < first.clock.size() && i < streams().size(); i++)
        if (streams()[i] && streams()[i] != stream && streams()[i]->done < first.clock[i]) return false;
    return true;
}

static void run_first(CUstream_st *stream)
{
    const std::shared_ptr<Operation> operation = stream->pending.front();
    stream->pending.pop_front();
    stream->busy = true;
    run_operation(*operation);
    stream->busy = false;
    operation->piece.work = nullptr; // with what it has captured
    stream->done++;
    wake_others();
}

static bool reached(const Clock &target)
{
    for (size_t i = 0; i < target.size() && i < streams().size(); i++)
        if (streams()[i] && streams()[i]->done < target[i]) return false;
    return true;
}

// One piece of work on the way to `target`: of the stream that `last` names as long as that goes, then of another.
// False where there is none.
static bool run_one(const Clock &target, size_t &last)
{
    std::vector<size_t> candidates;
    for (size_t i = 0; i < target.size() && i < streams().size(); i++)
        if (streams()[i] && streams()[i]->done < target[i] && can_run(streams()[i])) candidates.push_back(i);
    if (candidates.empty()) return false;
    size_t next = candidates[choose(candidates.size())];
    if (order() != Order::RANDOM)
        for (size_t candidate : candidates)
            if (candidate == last) next = candidate;
    last = next;
    run_first(streams()[next]);
    return true;
}

static void run_until(const Clock &target)
{
    size_t last = 0;
    if (reached(target)) return;
    const Opened opened;
    while (!reached(target))
        if (!run_one(target, last)) wait_for_others(); // a host function of another thread's
}

// The host knows that all of `clock` is over.
static void learn(const Clock &clock)
{
    join(known, clock);
    for (CUstream_st *stream : streams()) {
        if (!stream) continue;
        auto &list = stream->unwatched;
        while (!list.empty() && list.front()->sequence <= at(known, static_cast<size_t>(stream->number)))
            list.pop_front();
    }
}

Clock so_far(const CUstream_st *stream)
{
    Clock clock = stream->clock;
    clock.resize(std::max(clock.size(), static_cast<size_t>(stream->number) + 1));
    clock[static_cast<size_t>(stream->number)] = stream->enqueued;
    return clock;
}

void finish(CUstream_st *stream)
{
    const Clock target = so_far(stream);
    run_until(target);
    learn(target);
}

// --- submitting ---

static bool overlap(const Access &a, const Access &b)
{
    const char *begin_a = static_cast<const char *>(a.begin), *begin_b = static_cast<const char *>(b.begin);
    return (a.write || b.write) && begin_a < begin_b + b.bytes && begin_b < begin_a + a.bytes;
}

void check_unordered(const Piece &piece, const Piece &other)
{
    for (const Access &a : piece.accesses)
        for (const Access &b : other.accesses)
            if (overlap(a, b))
                violation(piece.call.c_str(),
                          "%s %zu bytes at %p, which %s %s: no stream and no event puts one before the other",
                          a.write ? "writes" : "reads", a.bytes, a.begin, other.call.c_str(),
                          b.write ? "writes" : "reads");
}

static void check_conflicts(const Operation &operation)
{
    for (CUstream_st *stream : streams()) {
        if (!stream || stream->number == operation.stream) continue;
        const uint64_t ordered = at(operation.clock, static_cast<size_t>(stream->number));
        for (auto other = stream->unwatched.rbegin(); other != stream->unwatched.rend(); ++other) {
            if ((*other)->sequence <= ordered) break;
            check_unordered(operation.piece, (*other)->piece);
        }
    }
}

// The default stream comes after all blocking streams of its device, and they after it.
static void join_default(CUstream_st *stream)
{
    if (!stream->blocking) return;
    for (CUstream_st *other : streams())
        if (other && other != stream && other->device == stream->device && other->blocking &&
            (stream->is_default || other->is_default))
            join(stream->clock, so_far(other));
}

cudaError_t submit(CUstream_st *stream, Piece piece, std::shared_ptr<const Nodes> nodes)
{
    if (stream->capture) return capture_add(stream, std::move(piece));
    const cudaError_t status = implicit_in_capture(stream);
    if (status != cudaSuccess) return status;
    piece.device = stream->device;
    for (const Access &access : piece.accesses)
        check_access(piece.call, stream->device, access);
    join_default(stream);
    join(stream->clock, known);
    stream->enqueued++;
    stream->clock = so_far(stream);
    auto operation = std::make_shared<Operation>(
        Operation{std::move(piece), std::move(nodes), stream->number, stream->enqueued, stream->clock});
    check_conflicts(*operation);
    if (operation->piece.kind != Kind::EVENT) count_launch(operation->piece.call);
    stream->pending.push_back(operation);
    stream->unwatched.push_back(operation);
    if (order() == Order::EAGER) run_until(operation->clock);
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t handle, const std::string &call, std::vector<Access> accesses,
                    std::function<void()> work)
{
    Lock lock;
    CUstream_st *stream = stream_of(handle, call.c_str());
    if (const cudaError_t failed = device_error(stream->device)) return failed;
    return submit(stream, {call, Kind::WORK, std::move(accesses), std::move(work)});
}

cudaError_t enqueue_kernel(cudaStream_t handle, const std::string &call, std::vector<Access> accesses,
                           std::function<void()> work)
{
    Lock lock;
    CUstream_st *stream = stream_of(handle, call.c_str());
    if (stream->device != current_device()) return cudaErrorInvalidResourceHandle;
    return submit(stream, {call, Kind::KERNEL, std::move(accesses), std::move(work)});
}

const char *pending_use(const void *begin, size_t bytes)
{
    for (CUstream_st *stream : streams()) {
        if (!stream) continue;
        for (const auto &operation : stream->pending)
            for (const Access &access : operation->piece.accesses)
                if (overlap({begin, bytes, true}, access)) return operation->piece.call.c_str();
    }
    return nullptr;
}

int device_of_stream(cudaStream_t handle)
{
    Lock lock;
    return stream_of(handle, "device_of_stream")->device;
}

// --- streams ---

cudaError_t stream_create(unsigned flags, cudaStream_t *out)
{
    if (flags & ~static_cast<unsigned>(cudaStreamNonBlocking)) return cudaErrorInvalidValue;
    *out = add_stream(current_device(), !(flags & cudaStreamNonBlocking), false);
    return cudaSuccess;
}

static void remove_stream(CUstream_st *stream)
{
    run_until(so_far(stream));
    counts[static_cast<size_t>(stream->number)] = stream->enqueued;
    streams()[static_cast<size_t>(stream->number)] = nullptr;
    delete stream;
}

cudaError_t stream_destroy(cudaStream_t handle)
{
    if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
        return cudaErrorInvalidResourceHandle;
    CUstream_st *stream = stream_of(handle, "cudaStreamDestroy");
    leave_capture(stream);
    remove_stream(stream);
    return cudaSuccess;
}

// Whoever asks or waits while the stream is captured loses what was captured.
static cudaError_t may_wait_for(CUstream_st *stream)
{
    if (!stream->capture) return forbidden_in_capture();
    lose_capture(stream);
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t stream_synchronize(cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle, "cudaStreamSynchronize");
    const cudaError_t status = may_wait_for(stream);
    if (status != cudaSuccess) return status;
    finish(stream);
    return device_error(stream->device);
}

// The first question about work that hasn't run is answered with "not yet", and makes one piece of it run.
static cudaError_t ask(const Clock &target, int device)
{
    if (!reached(target)) {
        size_t last = 0;
        const Opened opened;
        run_one(target, last);
        return device_error(device) ? device_error(device) : cudaErrorNotReady;
    }
    learn(target);
    return device_error(device);
}

cudaError_t stream_query(cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle, "cudaStreamQuery");
    const cudaError_t status = may_wait_for(stream);
    return status != cudaSuccess ? status : ask(so_far(stream), stream->device);
}

cudaError_t device_synchronize(int device)
{
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess) return status;
    Clock target;
    for (CUstream_st *stream : streams())
        if (stream && stream->device == device) join(target, so_far(stream));
    run_until(target);
    learn(target);
    return device_error(device);
}

// --- events ---

cudaError_t event_create(unsigned flags, cudaEvent_t *out)
{
    if (flags & ~static_cast<unsigned>(cudaEventBlockingSync | cudaEventDisableTiming)) return cudaErrorInvalidValue;
    CUevent_st *event = new CUevent_st{};
    event->device = current_device();
    event->timing = !(flags & cudaEventDisableTiming);
    events().insert(event);
    *out = event;
    return cudaSuccess;
}

cudaError_t event_destroy(cudaEvent_t handle)
{
    CUevent_st *event = event_of(handle, "cudaEventDestroy");
    events().erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t event_record(cudaEvent_t handle, cudaStream_t stream_handle)
{
    CUevent_st *event = event_of(handle, "cudaEventRecord");
    CUstream_st *stream = stream_of(stream_handle, "cudaEventRecord");
    if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
    if (stream->capture) return capture_record(event, stream);
    event->captured = false;
    event->state = std::make_shared<CUevent_st::State>();
    auto passed = [state = event->state] {
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        state->when = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
    };
    const cudaError_t status = submit(stream, {"cudaEventRecord", Kind::EVENT, {}, passed});
    event->clock = so_far(stream);
    return status;
}

cudaError_t stream_wait(cudaStream_t handle, cudaEvent_t event_handle)
{
    CUstream_st *stream = stream_of(handle, "cudaStreamWaitEvent");
    CUevent_st *event = event_of(event_handle, "cudaStreamWaitEvent");
    if (stream->capture || event->captured) return capture_wait(stream, event);
    if (event->state) join(stream->clock, event->clock);
    return cudaSuccess;
}

cudaError_t event_synchronize(cudaEvent_t handle)
{
    CUevent_st *event = event_of(handle, "cudaEventSynchronize");
    if (event->captured) return cudaErrorCapturedEvent;
    const cudaError_t status = forbidden_in_capture();
    if (status != cudaSuccess) return status;
    run_until(event->clock);
    learn(event->clock);
    return device_error(event->device);
}

cudaError_t event_query(cudaEvent_t handle)
{
    CUevent_st *event = event_of(handle, "cudaEventQuery");
    if (event->captured) return cudaErrorCapturedEvent;
    const cudaError_t status = forbidden_in_capture();
    return status != cudaSuccess ? status : ask(event->clock, event->device);
}

cudaError_t event_elapsed(float *milliseconds, cudaEvent_t from_handle, cudaEvent_t to_handle)
{
    const CUevent_st *from = event_of(from_handle, "cudaEventElapsedTime");
    const CUevent_st *to = event_of(to_handle, "cudaEventElapsedTime");
    if (!from->timing || !to->timing || !from->state || !to->state || from->device != to->device)
        return cudaErrorInvalidResourceHandle;
    if (!reached(from->clock) || !reached(to->clock)) return cudaErrorNotReady;
    *milliseconds = static_cast<float>((to->state->when - from->state->when) * 1e3);
    return cudaSuccess;
}

// --- the end ---

void reset_streams(int device)
{
    device_synchronize(device);
    for (size_t i = 0; i < streams().size(); i++)
        if (streams()[i] && streams()[i]->device == device) remove_stream(streams()[i]);
    defaults[device] = nullptr;
    for (auto event = events().begin(); event != events().end();) {
        CUevent_st *one = *event++;
        if (one->device == device) event_destroy(one);
    }
}

int report_streams()
{
    int live = 0;
    for (const CUstream_st *stream : streams()) {
        if (!stream || stream->is_default) continue;
        live++;
        fprintf(stderr, "sim: leak: stream %p on device %d\n", static_cast<const void *>(stream), stream->device);
    }
    for (const CUevent_st *event : events()) {
        live++;
        fprintf(stderr, "sim: leak: event %p on device %d\n", static_cast<const void *>(event), event->device);
    }
    return live;
}

} // namespace machine
