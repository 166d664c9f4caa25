/* The worker thread: one handler after the other. */
#include <string.h>

#include "axon/internal.h"

/* With `serving` held. NULL with *error filled. */
static Served *find(Axon *axon, const char *key, Error *error)
{
    if (*key == '\0') {
        if (axon->soma_count == 1) return &axon->somas[0];
        error_set(error, axon->soma_count ? STATUS_INVALID_ARGUMENT : STATUS_NOT_FOUND,
                  "the request names no synapse_key, and %zu somas are served here", axon->soma_count);
        return NULL;
    }
    for (size_t i = 0; i < axon->soma_count; i++)
        if (strcmp(axon->somas[i].key, key) == 0) return &axon->somas[i];
    error_set(error, STATUS_NOT_FOUND, "no soma with synapse_key '%s' is served here", key);
    return NULL;
}

static Status check_answer(const Tensor *answer, Error *error)
{
    char text[SHAPE_TEXT_SIZE];
    if (answer->dtype != DTYPE_F32)
        return error_set(error, STATUS_INTERNAL, "the soma's answer has dtype %s, expected f32",
                         dtype_name(answer->dtype));
    if (answer->size == 0)
        return error_set(error, STATUS_INTERNAL, "the soma's answer %s is empty", shape_text(answer->shape, text));
    if (tensor_check_finite(answer, "the soma's answer", error) != STATUS_OK) {
        if (error) error->status = STATUS_INTERNAL; /* not the caller's fault */
        return STATUS_INTERNAL;
    }
    return STATUS_OK;
}

static Status run_handler(const AxonHandler *handler, const ServerCall *call, Tensor *answer, Error *error)
{
    if (call->method == METHOD_FORWARD)
        return handler->forward(handler->context, &call->input, call->modality, answer, error);
    if (!handler->backward)
        return error_set(error, STATUS_UNIMPLEMENTED, "this soma doesn't take gradients (synapse_key '%s')",
                         call->synapse_key);
    return handler->backward(handler->context, &call->input, call->modality, &call->gradient, answer, error);
}

/* With `serving` held. */
static Status answer_of(ServerCall *call, Tensor *answer, Error *error)
{
    Axon *axon = call->axon;
    Served *served = find(axon, call->synapse_key, error);
    if (!served) return error->status;
    memcpy(call->synapse_key, served->key, sizeof call->synapse_key);
    uint64_t begun = clock_now(clock_monotonic());
    Status status = run_handler(&served->handler, call, answer, error);
    atomic_fetch_add_explicit(&axon->counters.handler_ns, clock_now(clock_monotonic()) - begun, memory_order_relaxed);
    return status == STATUS_OK ? check_answer(answer, error) : status;
}

static void serve(Axon *axon, ServerCall *call)
{
    Tensor answer = {0};
    Error error = {.status = STATUS_INTERNAL, .message = "the soma failed without saying why"};
    if (!server_call_wanted(call, &error)) {
        server_call_fail(call, &error);
        return;
    }
    pthread_mutex_lock(&axon->serving);
    Status status = answer_of(call, &answer, &error);
    pthread_mutex_unlock(&axon->serving);
    if (status == STATUS_OK) {
        server_call_answer(call, &answer);
        return;
    }
    tensor_destroy(&answer);
    error.status = status;
    server_call_fail(call, &error);
}

void *axon_worker(void *context)
{
    Axon *axon = context;
    ServerCall *call;
    while ((call = queue_pop(axon->waiting, UINT64_MAX)))
        serve(axon, call);
    return NULL;
}
