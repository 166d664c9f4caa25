// Runs one piece of work: a kernel, a library's call, a copy, a host function, or a graph of them.
#include <cstdio>
#include <cstdlib>

#include "machine_internal.h"

namespace machine
{

// --- what has been put on streams, by name ---

static std::map<std::string, unsigned long long> counted;

void count_launch(const std::string &call)
{
    counted[call]++;
}

unsigned long long launches(const char *call)
{
    Lock lock;
    unsigned long long sum = 0;
    for (const auto &[name, count] : counted)
        if (!call || name == call) sum += count;
    return sum;
}

// --- which work has run, for the tracer ---

// Graphs are launched anew each time: `launch` tells one from the next.
struct Run {
    int stream;
    uint64_t sequence;
    const Nodes *nodes; // of the graph; null
    size_t node;
    std::string call;
};
static std::vector<Run> runs;
static const Operation *operation_running;

uint32_t current_run()
{
    return static_cast<uint32_t>(runs.size());
}

const std::string &run_name(uint32_t number)
{
    return runs[number - 1].call;
}

bool ran_before(uint32_t number)
{
    if (number == 0) return true;
    const Run &run = runs[number - 1], &now = runs.back();
    const Clock &clock = operation_running->clock;
    if (run.stream == now.stream && run.sequence == now.sequence)
        return number == runs.size() || (*now.nodes)[now.node].ancestors[run.node];
    return static_cast<size_t>(run.stream) < clock.size() && run.sequence <= clock[static_cast<size_t>(run.stream)];
}

// --- running ---

static void call_host_function(const std::function<void()> &function)
{
    const Closed closed;
    const Unlocked unlocked;
    const HostFunction inside;
    function();
}

static void run_piece(const Piece &piece)
{
    if (device_error(piece.device) != cudaSuccess) return;
    if (piece.kind != Kind::EVENT && getenv("SIM_LOG"))
        fprintf(stderr, "sim: device %d: %s\n", piece.device, piece.call.c_str());
    if (piece.kind == Kind::HOST_FUNCTION) {
        call_host_function(piece.work);
        return;
    }
    if (piece.kind == Kind::KERNEL && fails("kernel")) {
        fail_device(piece.device, cudaErrorIllegalAddress);
        return;
    }
    for (const Access &access : piece.accesses)
        check_access(piece.call, piece.device, access);
    if (piece.kind != Kind::KERNEL && memory_tracer.work) memory_tracer.work(piece);
    set_running(piece.call.c_str());
    piece.work();
    set_running("");
}

static void start(const Operation &operation, size_t node)
{
    operation_running = &operation;
    if (!memory_tracer.work) return;
    const Piece &piece = operation.nodes ? (*operation.nodes)[node].piece : operation.piece;
    runs.push_back({operation.stream, operation.sequence, operation.nodes.get(), node, piece.call});
}

// All nodes, each after those that it follows: the first that can, or any that can.
static void run_graph(const Operation &operation)
{
    const Nodes &nodes = *operation.nodes;
    std::vector<size_t> waits_for(nodes.size()), ready;
    std::vector<std::vector<size_t>> followers(nodes.size());
    for (size_t i = 0; i < nodes.size(); i++) {
        waits_for[i] = nodes[i].after.size();
        for (size_t before : nodes[i].after)
            followers[before].push_back(i);
        if (waits_for[i] == 0) ready.push_back(i);
    }
    while (!ready.empty()) {
        const auto place = ready.begin() + static_cast<std::ptrdiff_t>(choose(ready.size()));
        const size_t next = *place;
        ready.erase(place);
        start(operation, next);
        run_piece(nodes[next].piece);
        for (size_t follower : followers[next])
            if (--waits_for[follower] == 0) ready.push_back(follower);
    }
}

void run_operation(const Operation &operation)
{
    if (operation.nodes) {
        run_graph(operation);
    } else {
        start(operation, 0);
        run_piece(operation.piece);
    }
    operation_running = nullptr;
}

} // namespace machine
