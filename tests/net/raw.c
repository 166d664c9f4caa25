#include "net/raw.h"

#include <arpa/inet.h>
#include <check.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/unary.h"

static grpc_byte_buffer *buffer_of(const void *bytes, size_t size)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes, size);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

/* --- a client --- */

static void on_done(UnaryCall *call)
{
    (void)call; /* rpc_run returns after it */
}

Status raw_call(const char *address, const char *method, const void *bytes, size_t size, Error *error)
{
    const uint64_t ten_seconds = 10000000000;
    UnaryCall call = {.done = on_done};
    rpc_start();
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    grpc_channel *channel = unary_channel(address, RPC_MESSAGE_BYTES, ten_seconds);
    void *handle = grpc_channel_register_call(channel, method, NULL, NULL);
    ck_assert_int_eq(
        unary_start(&call, channel, queue, handle, buffer_of(bytes, size), rpc_deadline_after(ten_seconds), NULL),
        STATUS_OK);
    grpc_completion_queue_shutdown(queue);
    rpc_run(queue);
    Status status = unary_status(&call, error);
    unary_clear(&call);
    grpc_channel_destroy(channel);
    grpc_completion_queue_destroy(queue);
    rpc_stop();
    return status;
}

/* --- a client that doesn't read: HTTP/2 by hand (RFC 9113; header fields as literals, RFC 7541 section 6.2.2) --- */

enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_SETTINGS = 4, END_STREAM = 1, END_HEADERS = 4 };

static void send_all(int fd, const void *bytes, size_t size)
{
    ck_assert_int_eq(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void send_frame(int fd, int type, int flags, int stream, const uint8_t *bytes, size_t size)
{
    uint8_t head[9] = {0, (uint8_t)(size >> 8),   (uint8_t)size,  (uint8_t)type, (uint8_t)flags, 0,
                       0, (uint8_t)(stream >> 8), (uint8_t)stream};
    send_all(fd, head, sizeof head);
    send_all(fd, bytes, size);
}

static size_t put_field(uint8_t *to, const char *name, const char *value)
{
    uint8_t *at = to;
    *at++ = 0; /* literal, not indexed, with a new name */
    *at++ = (uint8_t)strlen(name);
    memcpy(at, name, strlen(name));
    at += strlen(name);
    *at++ = (uint8_t)strlen(value);
    memcpy(at, value, strlen(value));
    return (size_t)(at + strlen(value) - to);
}

static void send_request(int fd, int stream, const char *method, const void *bytes, size_t size)
{
    uint8_t fields[512], message[16384];
    size_t used = put_field(fields, ":method", "POST");
    used += put_field(fields + used, ":scheme", "http");
    used += put_field(fields + used, ":path", method);
    used += put_field(fields + used, ":authority", "test");
    used += put_field(fields + used, "content-type", "application/grpc");
    used += put_field(fields + used, "te", "trailers");
    ck_assert_uint_le(size + 5, sizeof message);
    uint8_t prefix[5] = {0, 0, 0, (uint8_t)(size >> 8), (uint8_t)size};
    memcpy(message, prefix, 5);
    memcpy(message + 5, bytes, size);
    send_frame(fd, FRAME_HEADERS, END_HEADERS, stream, fields, used);
    send_frame(fd, FRAME_DATA, END_STREAM, stream, message, size + 5);
}

int raw_slow_reader(const char *address, const char *method, int count, const void *bytes, size_t size)
{
    static const uint8_t no_window[6] = {0, 4, 0, 0, 0, 0}; /* SETTINGS_INITIAL_WINDOW_SIZE */
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    send_all(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    send_frame(fd, FRAME_SETTINGS, 0, 0, no_window, sizeof no_window);
    for (int i = 0; i < count; i++)
        send_request(fd, 2 * i + 1, method, bytes, size);
    return fd;
}

/* --- a server --- */

typedef struct RawCall {
    RpcTag tag;
    RawServer *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request, *answer;
    grpc_slice sentence;
} RawCall;

struct RawServer {
    char address[64];
    const void *bytes;
    size_t size;
    Status status;
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    RpcTag shut_down;
};

static void post(RawServer *server);

static void free_call(RawCall *call)
{
    if (call->request) grpc_byte_buffer_destroy(call->request);
    if (call->answer) grpc_byte_buffer_destroy(call->answer);
    grpc_slice_unref(call->sentence);
    rpc_metadata_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    if (call->call) grpc_call_unref(call->call);
    free(call);
}

static void on_answered(RpcTag *tag, bool success)
{
    (void)success;
    free_call((RawCall *)tag);
}

static void on_read(RpcTag *tag, bool success)
{
    RawCall *call = (RawCall *)tag;
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t count = 1;
    (void)success;
    if (call->server->bytes) {
        call->answer = buffer_of(call->server->bytes, call->server->size);
        ops[count] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        ops[count++].data.send_message.send_message = call->answer;
    }
    call->sentence = grpc_slice_from_static_string("raw");
    ops[count] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[count].data.send_status_from_server.status = (grpc_status_code)call->server->status;
    ops[count++].data.send_status_from_server.status_details = &call->sentence;
    call->tag.done = on_answered;
    ck_assert_int_eq(rpc_start_batch(call->call, ops, count, &call->tag, NULL), STATUS_OK);
}

static void on_call(RpcTag *tag, bool success)
{
    RawCall *call = (RawCall *)tag;
    if (!success) {
        free_call(call);
        return;
    }
    post(call->server);
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->request;
    call->tag.done = on_read;
    ck_assert_int_eq(rpc_start_batch(call->call, &op, 1, &call->tag, NULL), STATUS_OK);
}

static void post(RawServer *server)
{
    RawCall *call = calloc(1, sizeof *call);
    call->server = server;
    call->tag.done = on_call;
    call->sentence = grpc_empty_slice();
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    rpc_tag_release(&call->tag);
    if (grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata, server->queue,
                                 server->queue, &call->tag) != GRPC_CALL_OK)
        free_call(call);
}

static void on_shut_down(RpcTag *tag, bool success)
{
    RawServer *server = (RawServer *)(void *)((char *)tag - offsetof(RawServer, shut_down));
    (void)success;
    grpc_completion_queue_shutdown(server->queue);
}

static void *run(void *context)
{
    rpc_run(((RawServer *)context)->queue);
    return NULL;
}

RawServer *raw_server_start(const void *bytes, size_t size, Status status)
{
    RawServer *server = calloc(1, sizeof *server);
    rpc_start();
    server->bytes = bytes;
    server->size = size;
    server->status = status;
    server->queue = grpc_completion_queue_create_for_next(NULL);
    server->server = grpc_server_create(NULL, NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->server, "127.0.0.1:0", credentials);
    grpc_server_credentials_release(credentials);
    ck_assert_int_gt(port, 0);
    snprintf(server->address, sizeof server->address, "127.0.0.1:%d", port);
    grpc_server_start(server->server);
    for (int i = 0; i < 8; i++)
        post(server);
    ck_assert_int_eq(rpc_thread_start(&server->thread, run, server, "raw-server", NULL), STATUS_OK);
    return server;
}

const char *raw_server_address(const RawServer *server)
{
    return server->address;
}

void raw_server_stop(RawServer *server)
{
    server->shut_down.done = on_shut_down;
    rpc_tag_release(&server->shut_down);
    grpc_server_shutdown_and_notify(server->server, server->queue, &server->shut_down);
    grpc_server_cancel_all_calls(server->server);
    pthread_join(server->thread, NULL);
    grpc_server_destroy(server->server);
    grpc_completion_queue_destroy(server->queue);
    free(server);
    rpc_stop();
}
