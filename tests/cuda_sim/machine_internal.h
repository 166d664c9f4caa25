// What the files of the machine share. All state is guarded by one lock, which whoever runs work holds too, so that one
// piece of work runs at a time; functions that don't say otherwise want it held.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "machine.h"

namespace machine
{

constexpr int MAX_DEVICES = 16;

// Takes the machine's lock; a thread may take it again.
class Lock
{
  public:
    Lock();
    ~Lock();
    Lock(const Lock &) = delete;
    Lock &operator=(const Lock &) = delete;
};
// Gives the lock up, however often this thread has it, and takes it back.
class Unlocked
{
  public:
    Unlocked();
    ~Unlocked();

  private:
    int depth_;
};
// Waits until another thread has finished a host function.
void wait_for_others();
void wake_others();

// --- calls (machine.cpp; no lock needed) ---

// The start of each call of the runtime: what it has to return at once (a host function must not call; a device that
// has failed; SIM_FAIL), or cudaSuccess.
cudaError_t begin_call(const char *call);
// The same for a call that gives something back: it can't be made to fail.
cudaError_t begin_release();
// Its end: remembers an error for cudaGetLastError, and returns it.
cudaError_t end_call(cudaError_t status);
cudaError_t last_error(bool clear);
// While a host function runs in this thread: it must not call the runtime.
struct HostFunction {
    HostFunction();
    ~HostFunction();
};

// The body of a call of the runtime: what begin_call says, or else what `expression` gives, under the machine's lock.
#define RUNTIME_CALL(name, expression)                                                                                 \
    do {                                                                                                               \
        const machine::Lock lock;                                                                                      \
        const cudaError_t before = machine::begin_call(name);                                                          \
        return machine::end_call(before != cudaSuccess ? before : (expression));                                       \
    } while (0)
// The same for a call that gives something back.
#define RUNTIME_RELEASE(expression)                                                                                    \
    do {                                                                                                               \
        const machine::Lock lock;                                                                                      \
        const cudaError_t before = machine::begin_release();                                                           \
        return machine::end_call(before != cudaSuccess ? before : (expression));                                       \
    } while (0)

int device_count();
cudaError_t set_device(int device);
// A device that has failed answers every call with the same error.
void fail_device(int device, cudaError_t error);
cudaError_t device_error(int device);
cudaError_t enable_peer(int peer, unsigned flags);

// --- memory (machine_memory.cpp) ---

enum class Where { DEVICE, PINNED };

struct Allocation {
    char *begin;
    size_t size;
    char *pages; // what is mapped
    size_t pages_size;
    Where where;
    int device; // whose it is; PINNED: on which it was made
    const char *call;
    bool live;
};

// The allocation, living or freed, whose pages hold `pointer`; null.
const Allocation *find_allocation(const void *pointer);
// The same, where it lives and `pointer` is between its begin and end.
const Allocation *find_live(const void *pointer);
void *allocate(Where where, int device, size_t size, const char *call); // null: no memory left
void release(const void *begin);
void memory_info(int device, size_t *free, size_t *total);
void reset_memory(int device);
int report_memory();

// Whether a pointer could ever have been one to device memory. Needs no lock.
bool in_device_space(const void *pointer);
size_t device_space_size();
size_t device_offset(const void *pointer); // of one in device space
// ", but was freed: an allocation of 64 bytes by cudaMalloc", for messages; "" where nothing is known.
std::string history(const void *pointer);
// Ends the process where an access is not inside one allocation that a stream of `device` may touch.
void check_access(const std::string &call, int device, const Access &access);

// Makes device memory readable and writable as long as one of them lives; `call` is what runs, for messages.
class Opened
{
  public:
    Opened();
    ~Opened();
};
// The opposite, inside of one: while a host function runs.
class Closed
{
  public:
    Closed();
    ~Closed();
};
// Which work runs in this thread ("" none): named when memory is touched that must not be.
void set_running(const char *call);

// --- streams (machine_stream.cpp) ---

// How far each stream had come, by its number: what happened before.
using Clock = std::vector<uint64_t>;
void join(Clock &into, const Clock &other);

enum class Kind { WORK, KERNEL, HOST_FUNCTION, EVENT, GRAPH };

// A piece of work: in a stream, or as a node of a graph.
struct Piece {
    std::string call;
    Kind kind;
    std::vector<Access> accesses;
    std::function<void()> work;
    int device = 0;
};

struct Node {
    Piece piece;
    std::set<size_t> after;      // nodes that it follows directly
    std::vector<bool> ancestors; // all that it follows
};
using Nodes = std::vector<Node>;

struct Operation {
    Piece piece;
    std::shared_ptr<const Nodes> nodes; // GRAPH
    int stream = 0;                     // its number
    uint64_t sequence = 0;              // in its stream, from 1
    Clock clock;                        // what it comes after, and itself
};

struct Capture;

} // namespace machine

struct CUstream_st {
    int number;
    int device;
    bool blocking; // ordered with the device's default stream
    bool is_default;
    uint64_t enqueued = 0, done = 0;
    bool busy = false; // a host function of it runs
    machine::Clock clock;
    std::deque<std::shared_ptr<machine::Operation>> pending;   // not run
    std::deque<std::shared_ptr<machine::Operation>> unwatched; // run or not: the host doesn't know that it is over
    std::shared_ptr<machine::Capture> capture;
    std::set<size_t> tail; // in a capture: the nodes that the next one comes after
};

struct CUevent_st {
    int device;
    bool timing;
    struct State {
        double when = 0; // it was passed, in seconds
    };
    std::shared_ptr<State> state; // null: never recorded
    CUstream_st *stream = nullptr;
    uint64_t sequence = 0;
    machine::Clock clock;
    std::weak_ptr<machine::Capture> capture; // recorded in a capture
    bool captured = false;
    std::set<size_t> tail;
};

namespace machine
{

// The stream behind a handle: 0 is the current device's default stream. A handle that isn't alive is a violation.
CUstream_st *stream_of(cudaStream_t handle, const char *call);

cudaError_t stream_create(unsigned flags, cudaStream_t *out);
cudaError_t stream_destroy(cudaStream_t stream);
cudaError_t stream_synchronize(cudaStream_t stream);
cudaError_t stream_query(cudaStream_t stream);
cudaError_t stream_wait(cudaStream_t stream, cudaEvent_t event);
cudaError_t event_create(unsigned flags, cudaEvent_t *out);
cudaError_t event_destroy(cudaEvent_t event);
cudaError_t event_record(cudaEvent_t event, cudaStream_t stream);
cudaError_t event_synchronize(cudaEvent_t event);
cudaError_t event_query(cudaEvent_t event);
cudaError_t event_elapsed(float *milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t device_synchronize(int device);
void reset_streams(int device);
int report_streams();

cudaError_t enqueue_kernel(cudaStream_t stream, const std::string &call, std::vector<Access> accesses,
                           std::function<void()> work);
// Any work: into the stream, or into the graph that captures it.
cudaError_t submit(CUstream_st *stream, Piece piece, std::shared_ptr<const Nodes> nodes = nullptr);
// All that the stream has been given.
Clock so_far(const CUstream_st *stream);
// Ends the process where accesses that nothing orders clash.
void check_unordered(const Piece &piece, const Piece &other);
// Waits for what the stream has so far, as cudaMemcpy does.
void finish(CUstream_st *stream);
// Whether work that isn't over reads or writes these bytes; its call, or null.
const char *pending_use(const void *begin, size_t bytes);
// --- capture and graphs (machine_graph.cpp) ---

cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t capture_end(cudaStream_t stream, cudaGraph_t *out);
cudaError_t capture_status(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t capture_add(CUstream_st *stream, Piece &&piece);
cudaError_t capture_record(CUevent_st *event, CUstream_st *stream);
cudaError_t capture_wait(CUstream_st *stream, CUevent_st *event);
// What a call that allocates, waits or asks gets while a capture forbids it (and the capture is lost); cudaSuccess.
cudaError_t forbidden_in_capture();
// What work on a default stream gets while a stream that waits for it is captured.
cudaError_t implicit_in_capture(const CUstream_st *stream);
void lose_capture(CUstream_st *stream);
void leave_capture(CUstream_st *stream); // it is about to be destroyed

cudaError_t graph_instantiate(cudaGraphExec_t *out, cudaGraph_t graph);
cudaError_t graph_launch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t graph_upload(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t graph_exec_destroy(cudaGraphExec_t exec);
cudaError_t graph_destroy(cudaGraph_t graph);
cudaError_t graph_nodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count);
int report_graphs();

// --- running (machine_run.cpp) ---

void run_operation(const Operation &operation);
void count_launch(const std::string &call);
// A number below `n`, as SIM_ORDER has it: 0, or random.
size_t choose(size_t n);
// What the tracer asks: the number of the work that runs, and whether the work of an earlier number comes before it.
uint32_t current_run();
bool ran_before(uint32_t run);
const std::string &run_name(uint32_t run); // its call

// What a tracer wants to know of the machine; all null where none is linked.
struct MemoryTracer {
    void (*released)(const Allocation &allocation);
    void (*work)(const Piece &piece); // that isn't a kernel runs
};
extern MemoryTracer memory_tracer;

} // namespace machine
