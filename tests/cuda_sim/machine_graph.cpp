// Capture of streams into graphs, and their launches. A capture follows the real one: it spreads to other streams by
// events, all of which have to come back to the stream that it began on, and is lost by a call that would wait for work
// that isn't run, or that touches the default stream.
#include <algorithm>
#include <cstdio>
#include <thread>

#include "machine_internal.h"

struct CUgraph_st {
    machine::Nodes nodes;
};
struct CUgraphExec_st {
    std::shared_ptr<const machine::Nodes> nodes; // a snapshot: later changes of the graph don't reach it
    machine::Clock last;                         // its last launch: the next one comes after
};

namespace machine
{

struct Capture {
    Nodes nodes;
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool lost = false;
    std::set<CUstream_st *> streams;
};

static std::vector<std::shared_ptr<Capture>> captures; // that have begun and not ended
static std::set<CUgraph_st *> graphs;
static std::set<CUgraphExec_st *> executables;

// --- what a capture forbids ---

bool capturing()
{
    Lock lock;
    return std::any_of(captures.begin(), captures.end(),
                       [](const auto &capture) { return capture->thread == std::this_thread::get_id(); });
}

cudaError_t forbidden_in_capture()
{
    cudaError_t status = cudaSuccess;
    for (const auto &capture : captures) {
        const bool here = capture->thread == std::this_thread::get_id();
        if (capture->lost || capture->mode == cudaStreamCaptureModeRelaxed) continue;
        if (!here && capture->mode != cudaStreamCaptureModeGlobal) continue;
        capture->lost = true;
        status = cudaErrorStreamCaptureUnsupported;
    }
    return status;
}

cudaError_t implicit_in_capture(const CUstream_st *stream)
{
    cudaError_t status = cudaSuccess;
    if (!stream->is_default) return status;
    for (const auto &capture : captures)
        for (const CUstream_st *captured : capture->streams)
            if (!capture->lost && captured->blocking && captured->device == stream->device) {
                capture->lost = true;
                status = cudaErrorStreamCaptureImplicit;
            }
    return status;
}

// --- a capture's life ---

cudaError_t capture_begin(cudaStream_t handle, cudaStreamCaptureMode mode)
{
    CUstream_st *stream = stream_of(handle, "cudaStreamBeginCapture");
    if (stream->is_default) return cudaErrorStreamCaptureUnsupported;
    if (stream->capture) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->streams.insert(stream);
    captures.push_back(capture);
    stream->capture = capture;
    stream->tail.clear();
    return cudaSuccess;
}

static void forget(const std::shared_ptr<Capture> &capture)
{
    for (CUstream_st *stream : capture->streams) {
        stream->capture = nullptr;
        stream->tail.clear();
    }
    captures.erase(std::find(captures.begin(), captures.end(), capture));
}

void lose_capture(CUstream_st *stream)
{
    if (stream->capture) stream->capture->lost = true;
}

void leave_capture(CUstream_st *stream)
{
    const std::shared_ptr<Capture> capture = stream->capture;
    if (!capture) return;
    capture->lost = true;
    if (capture->origin == stream) {
        forget(capture);
    } else {
        capture->streams.erase(stream);
        stream->capture = nullptr;
    }
}

// Whether all nodes come before the next one of the stream that the capture began on.
static bool joined(const Capture &capture)
{
    std::vector<bool> before(capture.nodes.size());
    for (size_t last : capture.origin->tail) {
        before[last] = true;
        const std::vector<bool> &ancestors = capture.nodes[last].ancestors;
        for (size_t i = 0; i < ancestors.size(); i++)
            if (ancestors[i]) before[i] = true;
    }
    return std::find(before.begin(), before.end(), false) == before.end();
}

cudaError_t capture_end(cudaStream_t handle, cudaGraph_t *out)
{
    CUstream_st *stream = stream_of(handle, "cudaStreamEndCapture");
    const std::shared_ptr<Capture> capture = stream->capture;
    *out = nullptr;
    if (!capture) return cudaErrorIllegalState;
    if (capture->origin != stream) {
        capture->lost = true;
        return cudaErrorStreamCaptureUnmatched;
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
        return cudaErrorStreamCaptureWrongThread;
    const bool whole = joined(*capture);
    forget(capture);
    if (capture->lost) return cudaErrorStreamCaptureInvalidated;
    if (!whole) return cudaErrorStreamCaptureUnjoined;
    *out = new CUgraph_st{std::move(capture->nodes)};
    graphs.insert(*out);
    return cudaSuccess;
}

cudaError_t capture_status(cudaStream_t handle, cudaStreamCaptureStatus *status)
{
    const CUstream_st *stream = stream_of(handle, "cudaStreamIsCapturing");
    const cudaError_t implicit = implicit_in_capture(stream);
    if (implicit != cudaSuccess) return implicit;
    *status = !stream->capture        ? cudaStreamCaptureStatusNone
              : stream->capture->lost ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

// --- what goes into a capture ---

cudaError_t capture_add(CUstream_st *stream, Piece &&piece)
{
    Capture &capture = *stream->capture;
    if (capture.lost) return cudaErrorStreamCaptureInvalidated;
    piece.device = stream->device;
    for (const Access &access : piece.accesses)
        check_access(piece.call, stream->device, access);
    const size_t number = capture.nodes.size();
    Node node{std::move(piece), stream->tail, std::vector<bool>(number)};
    for (size_t before : node.after) {
        node.ancestors[before] = true;
        const std::vector<bool> &ancestors = capture.nodes[before].ancestors;
        for (size_t i = 0; i < ancestors.size(); i++)
            if (ancestors[i]) node.ancestors[i] = true;
    }
    for (size_t i = 0; i < number; i++)
        if (!node.ancestors[i]) check_unordered(node.piece, capture.nodes[i].piece);
    capture.nodes.push_back(std::move(node));
    stream->tail = {number};
    return cudaSuccess;
}

cudaError_t capture_record(CUevent_st *event, CUstream_st *stream)
{
    if (stream->capture->lost) return cudaErrorStreamCaptureInvalidated;
    event->state = nullptr;
    event->captured = true;
    event->capture = stream->capture;
    event->tail = stream->tail;
    return cudaSuccess;
}

cudaError_t capture_wait(CUstream_st *stream, CUevent_st *event)
{
    if (stream->capture && stream->capture->lost) return cudaErrorStreamCaptureInvalidated;
    if (!event->captured) {
        if (!event->state) return cudaSuccess; // never recorded
        stream->capture->lost = true;
        return cudaErrorStreamCaptureIsolation;
    }
    const std::shared_ptr<Capture> capture = event->capture.lock();
    if (!capture || std::find(captures.begin(), captures.end(), capture) == captures.end()) {
        lose_capture(stream);
        return cudaErrorCapturedEvent;
    }
    if (capture->lost) return cudaErrorStreamCaptureInvalidated;
    if (stream->is_default) {
        capture->lost = true;
        return cudaErrorStreamCaptureImplicit;
    }
    if (stream->capture && stream->capture != capture) {
        stream->capture->lost = capture->lost = true;
        return cudaErrorStreamCaptureMerge;
    }
    if (!stream->capture) {
        stream->capture = capture;
        stream->tail.clear();
        capture->streams.insert(stream);
    }
    stream->tail.insert(event->tail.begin(), event->tail.end());
    return cudaSuccess;
}

// --- graphs ---

static CUgraph_st *graph_of(cudaGraph_t graph, const char *call)
{
    if (graphs.count(graph) == 0) violation(call, "%p is no graph, or was destroyed", static_cast<void *>(graph));
    return graph;
}

static CUgraphExec_st *executable_of(cudaGraphExec_t exec, const char *call)
{
    if (executables.count(exec) == 0)
        violation(call, "%p is no executable graph, or was destroyed", static_cast<void *>(exec));
    return exec;
}

cudaError_t graph_instantiate(cudaGraphExec_t *out, cudaGraph_t graph)
{
    *out = new CUgraphExec_st{std::make_shared<const Nodes>(graph_of(graph, "cudaGraphInstantiate")->nodes), {}};
    executables.insert(*out);
    return cudaSuccess;
}

cudaError_t graph_launch(cudaGraphExec_t handle, cudaStream_t stream_handle)
{
    CUgraphExec_st *exec = executable_of(handle, "cudaGraphLaunch");
    CUstream_st *stream = stream_of(stream_handle, "cudaGraphLaunch");
    if (stream->capture) {
        lose_capture(stream);
        return cudaErrorStreamCaptureUnsupported;
    }
    Piece piece{"cudaGraphLaunch", Kind::GRAPH, {}, nullptr};
    for (const Node &node : *exec->nodes)
        for (Access access : node.piece.accesses) {
            check_access(node.piece.call + " (in a graph)", node.piece.device, access);
            access.anywhere = true; // each node has a device of its own
            piece.accesses.push_back(access);
        }
    join(stream->clock, exec->last);
    const cudaError_t status = submit(stream, std::move(piece), exec->nodes);
    if (status == cudaSuccess) exec->last = so_far(stream);
    return status;
}

cudaError_t graph_upload(cudaGraphExec_t exec, cudaStream_t stream)
{
    executable_of(exec, "cudaGraphUpload");
    stream_of(stream, "cudaGraphUpload");
    return cudaSuccess;
}

cudaError_t graph_exec_destroy(cudaGraphExec_t handle)
{
    CUgraphExec_st *exec = executable_of(handle, "cudaGraphExecDestroy");
    executables.erase(exec);
    delete exec; // launches that haven't run keep the nodes
    return cudaSuccess;
}

cudaError_t graph_destroy(cudaGraph_t handle)
{
    CUgraph_st *graph = graph_of(handle, "cudaGraphDestroy");
    graphs.erase(graph);
    delete graph;
    return cudaSuccess;
}

cudaError_t graph_nodes(cudaGraph_t handle, cudaGraphNode_t *nodes, size_t *count)
{
    CUgraph_st *graph = graph_of(handle, "cudaGraphGetNodes");
    const size_t all = graph->nodes.size();
    if (nodes)
        for (size_t i = 0; i < *count; i++)
            nodes[i] = i < all ? reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]) : nullptr;
    *count = nodes ? std::min(*count, all) : all;
    return cudaSuccess;
}

int report_graphs()
{
    for (const CUgraph_st *graph : graphs)
        fprintf(stderr, "sim: leak: graph %p of %zu nodes\n", static_cast<const void *>(graph), graph->nodes.size());
    for (const CUgraphExec_st *exec : executables)
        fprintf(stderr, "sim: leak: executable graph %p of %zu nodes\n", static_cast<const void *>(exec),
                exec->nodes->size());
    return static_cast<int>(graphs.size() + executables.size());
}

} // namespace machine
