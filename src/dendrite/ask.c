/* One request with a channel and a completion queue of its own, driven by the caller's thread. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <string.h>

#include "dendrite/internal.h"

typedef struct Question {
    const DendriteOptions *options;
    const Peer *peer;
    const char *method;
    MessageTensor tensors[2];
    size_t count;
} Question;

static void on_done(UnaryCall *call)
{
    *(uint64_t *)call->owner = clock_now(clock_monotonic());
}

/* Makes the request, with copies of the tensors that gRPC may keep. */
static grpc_byte_buffer *make_request(const Question *question, size_t limit, Error *error)
{
    grpc_slice payloads[2];
    size_t made = 0;
    Status status = STATUS_OK;
    for (; made < question->count && status == STATUS_OK; made += status == STATUS_OK) {
        Tensor copy;
        status = tensor_copy(question->tensors[made].tensor, &copy, error);
        if (status == STATUS_OK) status = rpc_payload(&copy, &payloads[made], error);
    }
    grpc_byte_buffer *request = NULL;
    DendriteFailure kind;
    if (status == STATUS_OK)
        request = request_message(question->options->neuron_key, question->peer->synapse_key, question->tensors,
                                  payloads, question->count, limit, 0, &kind, error);
    while (made)
        grpc_slice_unref(payloads[--made]);
    return request;
}

/* Shutting the queue down at once makes rpc_run return as soon as the one call is over. */
static Status run_call(const Question *question, grpc_channel *channel, grpc_completion_queue *queue, UnaryCall *call,
                       size_t limit, uint64_t deadline_ns, Error *error)
{
    grpc_byte_buffer *request = make_request(question, limit, error);
    void *method = grpc_channel_register_call(channel, question->method, NULL, NULL);
    Status status = request ? unary_start(call, channel, queue, method, request, rpc_deadline_after(deadline_ns), error)
                            : error->status;
    grpc_completion_queue_shutdown(queue);
    rpc_run(queue);
    return status;
}

static Status ask(const Question *question, Tensor *answer, uint64_t *latency_ns, Error *error)
{
    const DendriteOptions *options = question->options;
    uint64_t deadline_ns = options->deadline_ns ? options->deadline_ns : 1000000000;
    size_t limit = options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES;
    uint64_t ended = 0;
    UnaryCall call = {.done = on_done, .owner = &ended};
    rpc_start();
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    grpc_channel *channel = unary_channel(question->peer->address, limit, deadline_ns);
    uint64_t begun = clock_now(clock_monotonic());
    Status status = run_call(question, channel, queue, &call, limit, deadline_ns, error);
    if (status == STATUS_OK) {
        DendriteFailure kind = DENDRITE_MALFORMED;
        if (!answer_take(&call, answer, &kind, error)) {
            if (kind == DENDRITE_MALFORMED) error->status = STATUS_DATA_LOSS;
            status = error->status;
        }
        if (latency_ns) *latency_ns = ended - begun;
        unary_clear(&call);
    }
    grpc_channel_destroy(channel);
    grpc_completion_queue_destroy(queue);
    rpc_stop();
    return status;
}

/* gRPC 1.51 looks at errno some calls after connect(), and now and then takes a connection in progress for a failed one
 * ("No such file or directory"): one more attempt is safe, since nothing was sent, and costs a dead peer's caller one
 * refusal more. */
static bool never_connected(Status status, const Error *why)
{
    static const char sentence[] = "failed to connect";
    return status == STATUS_UNAVAILABLE && strncmp(why->message, sentence, sizeof sentence - 1) == 0;
}

/* `error` may be NULL for the caller, but not inside. */
static Status ask_and_tell(const Question *question, Tensor *answer, uint64_t *latency_ns, Error *error)
{
    Error why = {0};
    Status status = ask(question, answer, latency_ns, &why);
    if (never_connected(status, &why)) status = ask(question, answer, latency_ns, &why);
    if (status != STATUS_OK && error) *error = why;
    return status;
}

Status dendrite_call_forward(const DendriteOptions *options, const Peer *peer, const Tensor *input, Modality modality,
                             Tensor *answer, uint64_t *latency_ns, Error *error)
{
    Question question = {options, peer, "/Bittensor/Forward", {{input, modality}}, 1};
    return ask_and_tell(&question, answer, latency_ns, error);
}

Status dendrite_call_backward(const DendriteOptions *options, const Peer *peer, const Tensor *input, Modality modality,
                              const Tensor *gradient, Tensor *input_gradient, uint64_t *latency_ns, Error *error)
{
    Question question = {options, peer, "/Bittensor/Backward", {{input, modality}, {gradient, MODALITY_TENSOR}}, 2};
    return ask_and_tell(&question, input_gradient, latency_ns, error);
}
