#include "net/script.h"

#include <check.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <proto/neuron.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc.h"
#include "wire/metadata.h"

enum { MAX_CONNECTIONS = 64 };

typedef struct ScriptCall ScriptCall;
struct ScriptCall {
    RpcTag tag;
    Script *script;
    ScriptMethod method;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_metadata version;
    grpc_byte_buffer *request, *answer;
    grpc_slice sentence;
    ScriptCall *next; /* among the held */
};

typedef struct Part {
    uint8_t *bytes; /* NULL: fails with `status` */
    size_t size;
    Status status, failing;
    int failures_left, calls;
    bool held;
    ScriptCall *waiting;
} Part;

struct Script {
    char address[64];
    int port;
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    RpcTag shut_down;

    pthread_mutex_t lock; /* guards all below */
    bool ending;          /* what comes is dropped */
    Part parts[SCRIPT_METHODS];
    char version[64]; /* "": none */
    char last_version[64];
    bool has_last_version;
    char *connections[MAX_CONNECTIONS];
    int connection_count;
};

static const char *const paths[SCRIPT_METHODS] = {"/Bittensor/Forward", "/Bittensor/Backward", "/neuron.Neuron/Hello"};

static void post(Script *script);

static void free_call(ScriptCall *call)
{
    if (call->request) grpc_byte_buffer_destroy(call->request);
    if (call->answer) grpc_byte_buffer_destroy(call->answer);
    rpc_metadata_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    if (call->call) grpc_call_unref(call->call);
    free(call);
}

static void on_answered(RpcTag *tag, bool success)
{
    (void)success;
    free_call((ScriptCall *)tag);
}

/* With the lock held, before the end: gRPC aborts on what is started on a queue that was shut down. */
static void answer(ScriptCall *call)
{
    Script *script = call->script;
    Part *part = &script->parts[call->method];
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t count = 1;
    bool fails = part->failures_left > 0 || !part->bytes;
    Status status = part->failures_left > 0 ? part->failing : part->status;
    if (part->failures_left > 0) part->failures_left--;
    if (*script->version) {
        call->version.key = grpc_slice_from_static_string(METADATA_WEIGHTS_VERSION);
        call->version.value = grpc_slice_from_copied_string(script->version);
        ops[0].data.send_initial_metadata.count = 1;
        ops[0].data.send_initial_metadata.metadata = &call->version;
    }
    if (!fails) {
        grpc_slice slice = grpc_slice_from_copied_buffer((const char *)part->bytes, part->size);
        call->answer = grpc_raw_byte_buffer_create(&slice, 1);
        grpc_slice_unref(slice);
        ops[count] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        ops[count++].data.send_message.send_message = call->answer;
    }
    call->sentence = grpc_slice_from_static_string("told to fail");
    ops[count] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[count].data.send_status_from_server.status = fails ? (grpc_status_code)status : GRPC_STATUS_OK;
    ops[count++].data.send_status_from_server.status_details = &call->sentence;
    call->tag.done = on_answered;
    ck_assert_int_eq(rpc_start_batch(call->call, ops, count, &call->tag, NULL), STATUS_OK);
    if (*script->version) grpc_slice_unref(call->version.value);
}

static void on_read(RpcTag *tag, bool success)
{
    ScriptCall *call = (ScriptCall *)tag;
    Script *script = call->script;
    Part *part = &script->parts[call->method];
    (void)success;
    pthread_mutex_lock(&script->lock);
    bool dropped = script->ending;
    if (!dropped && part->held) {
        call->next = part->waiting;
        part->waiting = call;
    } else if (!dropped) {
        answer(call);
    }
    pthread_mutex_unlock(&script->lock);
    if (dropped) free_call(call);
}

/* With the lock held. */
static void note_caller(ScriptCall *call)
{
    Script *script = call->script;
    char *peer = grpc_call_get_peer(call->call);
    int i = 0;
    while (i < script->connection_count && strcmp(script->connections[i], peer) != 0)
        i++;
    if (i == script->connection_count && i < MAX_CONNECTIONS)
        script->connections[script->connection_count++] = strdup(peer);
    gpr_free(peer);
    if (call->method == SCRIPT_HELLO) return;
    script->has_last_version = false;
    for (size_t entry = 0; entry < call->metadata.count; entry++) {
        const grpc_metadata *item = &call->metadata.metadata[entry];
        if (grpc_slice_str_cmp(item->key, METADATA_WEIGHTS_VERSION) != 0) continue;
        script->has_last_version = true;
        snprintf(script->last_version, sizeof script->last_version, "%.*s", (int)GRPC_SLICE_LENGTH(item->value),
                 (const char *)GRPC_SLICE_START_PTR(item->value));
    }
}

static void on_call(RpcTag *tag, bool success)
{
    ScriptCall *call = (ScriptCall *)tag;
    Script *script = call->script;
    if (!success) {
        free_call(call);
        return;
    }
    post(script);
    int method = 0;
    while (method < SCRIPT_METHODS && grpc_slice_str_cmp(call->details.method, paths[method]) != 0)
        method++;
    ck_assert_int_lt(method, SCRIPT_METHODS);
    call->method = (ScriptMethod)method;
    pthread_mutex_lock(&script->lock);
    bool dropped = script->ending;
    script->parts[method].calls++;
    note_caller(call);
    pthread_mutex_unlock(&script->lock);
    if (dropped) {
        free_call(call);
        return;
    }
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->request;
    call->tag.done = on_read;
    ck_assert_int_eq(rpc_start_batch(call->call, &op, 1, &call->tag, NULL), STATUS_OK);
}

static void post(Script *script)
{
    ScriptCall *call = calloc(1, sizeof *call);
    call->script = script;
    call->tag.done = on_call;
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    rpc_tag_release(&call->tag);
    if (grpc_server_request_call(script->server, &call->call, &call->details, &call->metadata, script->queue,
                                 script->queue, &call->tag) != GRPC_CALL_OK)
        free_call(call);
}

static void on_shut_down(RpcTag *tag, bool success)
{
    Script *script = (Script *)(void *)((char *)tag - offsetof(Script, shut_down));
    (void)success;
    grpc_completion_queue_shutdown(script->queue);
}

static void *run(void *context)
{
    rpc_run(((Script *)context)->queue);
    return NULL;
}

Script *script_start(int port)
{
    Script *script = calloc(1, sizeof *script);
    char listen[64];
    rpc_start();
    pthread_mutex_init(&script->lock, NULL);
    script->parts[SCRIPT_FORWARD].status = script->parts[SCRIPT_BACKWARD].status = STATUS_INTERNAL;
    script->parts[SCRIPT_HELLO].status = STATUS_UNIMPLEMENTED;
    script->queue = grpc_completion_queue_create_for_next(NULL);
    RpcArgs args;
    rpc_args_init(&args, RPC_MESSAGE_BYTES);
    script->server = grpc_server_create(&args.args, NULL);
    grpc_server_register_completion_queue(script->server, script->queue, NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    script->port = grpc_server_add_http2_port(script->server, listen, credentials);
    grpc_server_credentials_release(credentials);
    ck_assert_int_gt(script->port, 0);
    snprintf(script->address, sizeof script->address, "127.0.0.1:%d", script->port);
    grpc_server_start(script->server);
    for (int i = 0; i < 8; i++)
        post(script);
    ck_assert_int_eq(rpc_thread_start(&script->thread, run, script, "script", NULL), STATUS_OK);
    return script;
}

const char *script_address(const Script *script)
{
    return script->address;
}

int script_port(const Script *script)
{
    return script->port;
}

/* After their connections were closed, so that the callers see those break. */
static void drop_held(Script *script)
{
    for (int method = 0; method < SCRIPT_METHODS; method++)
        for (ScriptCall *call = script->parts[method].waiting, *next; call; call = next) {
            next = call->next;
            free_call(call);
        }
}

void script_stop(Script *script)
{
    script->shut_down.done = on_shut_down;
    rpc_tag_release(&script->shut_down);
    pthread_mutex_lock(&script->lock);
    script->ending = true;
    pthread_mutex_unlock(&script->lock);
    grpc_server_shutdown_and_notify(script->server, script->queue, &script->shut_down);
    grpc_server_cancel_all_calls(script->server);
    drop_held(script);
    pthread_join(script->thread, NULL);
    grpc_server_destroy(script->server);
    grpc_completion_queue_destroy(script->queue);
    for (int method = 0; method < SCRIPT_METHODS; method++)
        free(script->parts[method].bytes);
    while (script->connection_count)
        free(script->connections[--script->connection_count]);
    pthread_mutex_destroy(&script->lock);
    free(script);
    rpc_stop();
}

/* --- what it is told --- */

void script_answer(Script *script, ScriptMethod method, const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (size) memcpy(copy, bytes, size);
    pthread_mutex_lock(&script->lock);
    free(script->parts[method].bytes);
    script->parts[method].bytes = copy;
    script->parts[method].size = size;
    pthread_mutex_unlock(&script->lock);
}

void script_answer_tensor(Script *script, ScriptMethod method, const Tensor *tensor)
{
    EncodedMessage encoded;
    MessageTensor item = {tensor, MODALITY_TENSOR};
    ck_assert_int_eq(message_encode("scripted", "soma", &item, 1, RPC_MESSAGE_BYTES, &encoded, NULL), STATUS_OK);
    uint8_t *bytes = malloc(encoded.size), *at = bytes;
    for (size_t i = 0; i < encoded.count; i++) {
        memcpy(at, encoded.parts[i].data, encoded.parts[i].size);
        at += encoded.parts[i].size;
    }
    script_answer(script, method, bytes, encoded.size);
    free(bytes);
}

void script_fail(Script *script, ScriptMethod method, Status status)
{
    pthread_mutex_lock(&script->lock);
    free(script->parts[method].bytes);
    script->parts[method].bytes = NULL;
    script->parts[method].status = status;
    pthread_mutex_unlock(&script->lock);
}

void script_fail_next(Script *script, ScriptMethod method, Status status, int count)
{
    pthread_mutex_lock(&script->lock);
    script->parts[method].failing = status;
    script->parts[method].failures_left = count;
    pthread_mutex_unlock(&script->lock);
}

void script_hello(Script *script, uint64_t max_message_bytes)
{
    Neuron__HelloReply reply = NEURON__HELLO_REPLY__INIT;
    uint8_t bytes[256];
    reply.neuron_key = (char *)(uintptr_t) "scripted";
    reply.max_message_bytes = max_message_bytes;
    ck_assert_uint_le(neuron__hello_reply__get_packed_size(&reply), sizeof bytes);
    script_answer(script, SCRIPT_HELLO, bytes, neuron__hello_reply__pack(&reply, bytes));
}

void script_weights_version(Script *script, const char *text)
{
    pthread_mutex_lock(&script->lock);
    snprintf(script->version, sizeof script->version, "%s", text ? text : "");
    pthread_mutex_unlock(&script->lock);
}

void script_hold(Script *script, ScriptMethod method, bool held)
{
    pthread_mutex_lock(&script->lock);
    Part *part = &script->parts[method];
    part->held = held;
    while (!held && part->waiting) {
        ScriptCall *call = part->waiting;
        part->waiting = call->next;
        answer(call);
    }
    pthread_mutex_unlock(&script->lock);
}

/* --- what it saw --- */

int script_calls(Script *script, ScriptMethod method)
{
    pthread_mutex_lock(&script->lock);
    int calls = script->parts[method].calls;
    pthread_mutex_unlock(&script->lock);
    return calls;
}

int script_connections(Script *script)
{
    pthread_mutex_lock(&script->lock);
    int count = script->connection_count;
    pthread_mutex_unlock(&script->lock);
    return count;
}

bool script_last_version(Script *script, char out[64])
{
    pthread_mutex_lock(&script->lock);
    bool has = script->has_last_version;
    snprintf(out, 64, "%s", script->last_version);
    pthread_mutex_unlock(&script->lock);
    return has;
}
