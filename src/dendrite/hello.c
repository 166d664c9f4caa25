#include "dendrite/hello.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <proto/neuron.pb-c.h>
#include <string.h>

grpc_byte_buffer *hello_request(const char *neuron_key, size_t max_message_bytes)
{
    Neuron__HelloRequest request = NEURON__HELLO_REQUEST__INIT;
    request.version = (char *)(uintptr_t)NEURON_VERSION;
    request.neuron_key = (char *)(uintptr_t)neuron_key;
    request.max_message_bytes = max_message_bytes;
    grpc_slice bytes = grpc_slice_malloc(neuron__hello_request__get_packed_size(&request));
    neuron__hello_request__pack(&request, GRPC_SLICE_START_PTR(bytes));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&bytes, 1);
    grpc_slice_unref(bytes);
    return buffer;
}

static bool read_reply(const Neuron__HelloReply *reply, uint64_t *max_message_bytes, char neuron_key[KEY_SIZE])
{
    size_t length = strlen(reply->neuron_key);
    if (reply->max_message_bytes == 0) return false; /* no neuron receives nothing: another message altogether */
    *max_message_bytes = reply->max_message_bytes;
    if (key_check("neuron key", reply->neuron_key, length, NULL) == STATUS_OK)
        memcpy(neuron_key, reply->neuron_key, length + 1);
    return true;
}

static bool parse(const uint8_t *bytes, size_t size, uint64_t *max_message_bytes, char neuron_key[KEY_SIZE])
{
    Neuron__HelloReply *reply = neuron__hello_reply__unpack(NULL, size, bytes);
    if (!reply) return false;
    bool good = read_reply(reply, max_message_bytes, neuron_key);
    neuron__hello_reply__free_unpacked(reply, NULL);
    return good;
}

bool hello_read(const UnaryCall *call, uint64_t *max_message_bytes, char neuron_key[KEY_SIZE])
{
    Status status = unary_status(call, NULL);
    neuron_key[0] = '\0';
    if (status == STATUS_UNIMPLEMENTED) {
        *max_message_bytes = HELLO_REFERENCE_BYTES;
        return true;
    }
    grpc_byte_buffer_reader reader;
    if (status != STATUS_OK || !call->response || unary_response_bytes(call) > HELLO_REPLY_BYTES ||
        !grpc_byte_buffer_reader_init(&reader, call->response))
        return false;
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    bool good = parse(GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes), max_message_bytes, neuron_key);
    grpc_slice_unref(bytes);
    return good;
}
