/* Writing a TensorMessage: proto3 with the fields in ascending order, as protobuf's own writers place them, so that the
 * bytes are the same. A field with its default value is left out. */
#include <string.h>

#include "wire/fields.h"
#include "wire/message.h"

static const char version[] = "0.0.0";

/* Writes upwards into bytes that are known to suffice: MESSAGE_HEADER_SIZE holds two keys of 256 bytes, two tensors of
 * SHAPE_MAX_RANK dimensions and every tag. */
typedef struct Writer {
    uint8_t *at;
} Writer;

static void put_varint(Writer *writer, uint64_t value)
{
    for (; value > 127; value >>= 7)
        *writer->at++ = (uint8_t)(value | 128);
    *writer->at++ = (uint8_t)value;
}

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value > 127; value >>= 7)
        size++;
    return size;
}

static void put_tag(Writer *writer, int field, WireType type)
{
    put_varint(writer, (uint64_t)field << 3 | (uint64_t)type);
}

static void put_number(Writer *writer, int field, uint64_t value)
{
    if (value == 0) return;
    put_tag(writer, field, WIRE_VARINT);
    put_varint(writer, value);
}

static void put_text(Writer *writer, int field, const char *text)
{
    size_t length = strlen(text);
    if (length == 0) return;
    put_tag(writer, field, WIRE_BYTES);
    put_varint(writer, length);
    memcpy(writer->at, text, length);
    writer->at += length;
}

static int dtype_number(DType dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return DATA_FLOAT32;
    case DTYPE_F64:
        return DATA_FLOAT64;
    case DTYPE_I32:
        return DATA_INT32;
    case DTYPE_I64:
        return DATA_INT64;
    default:
        return DATA_UNKNOWN;
    }
}

/* The fields of a tensor that follow its payload. */
static void put_tensor_tail(Writer *writer, const MessageTensor *item)
{
    Shape shape = item->tensor->shape;
    if (shape.rank > 0) {
        size_t size = 0;
        for (int i = 0; i < shape.rank; i++)
            size += varint_size((uint64_t)shape.dims[i]);
        put_tag(writer, FIELD_SHAPE, WIRE_BYTES);
        put_varint(writer, size);
        for (int i = 0; i < shape.rank; i++)
            put_varint(writer, (uint64_t)shape.dims[i]);
    }
    put_number(writer, FIELD_DTYPE, (uint64_t)dtype_number(item->tensor->dtype));
    put_number(writer, FIELD_MODALITY, (uint64_t)item->modality);
}

/* The fields before the payload, with the tensor's own length, which needs the length of the tail. */
static void put_tensor_head(Writer *writer, const MessageTensor *item)
{
    uint8_t scratch[128];
    Writer inner = {scratch};
    put_text(&inner, FIELD_TENSOR_VERSION, version);
    size_t payload = item->tensor->size;
    if (payload) {
        put_tag(&inner, FIELD_BUFFER, WIRE_BYTES);
        put_varint(&inner, payload);
    }
    size_t head = (size_t)(inner.at - scratch);
    uint8_t tail_scratch[128];
    Writer tail = {tail_scratch};
    put_tensor_tail(&tail, item);

    put_tag(writer, FIELD_TENSORS, WIRE_BYTES);
    put_varint(writer, head + payload + (size_t)(tail.at - tail_scratch));
    memcpy(writer->at, scratch, head);
    writer->at += head;
}

static void add_part(EncodedMessage *out, const void *data, size_t size, int payload_of)
{
    if (size == 0) return;
    out->parts[out->count] = (Segment){data, size};
    out->payload_of[out->count++] = payload_of;
    out->size += size;
}

static Status check(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors, size_t count,
                    size_t limit, Error *error)
{
    if (*neuron_key) RETURN_IF_ERROR(key_check("neuron key", neuron_key, strlen(neuron_key), error));
    if (*synapse_key) RETURN_IF_ERROR(key_check("synapse key", synapse_key, strlen(synapse_key), error));
    if (count > MESSAGE_TENSORS)
        return error_set(error, STATUS_INVALID_ARGUMENT, "message has %zu tensors, expected at most %d", count,
                         MESSAGE_TENSORS);
    for (size_t i = 0; i < count; i++) {
        DType dtype = tensors[i].tensor->dtype;
        if (dtype_number(dtype) == DATA_UNKNOWN)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "dtype of tensor %zu is %s, which the protocol can't carry, expected f32, f64, i32 or i64",
                             i, dtype_name(dtype));
        if (tensors[i].tensor->size > limit)
            return error_set(error, STATUS_RESOURCE_EXHAUSTED,
                             "tensor %zu has %zu bytes, more than the %zu that a message may have", i,
                             tensors[i].tensor->size, limit);
    }
    return STATUS_OK;
}

Status message_encode(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors, size_t count,
                      size_t limit, EncodedMessage *out, Error *error)
{
    RETURN_IF_ERROR(check(neuron_key, synapse_key, tensors, count, limit, error));
    out->size = out->count = 0;
    Writer writer = {out->bytes};
    const uint8_t *begin = out->bytes;
    put_text(&writer, FIELD_VERSION, version);
    put_text(&writer, FIELD_NEURON_KEY, neuron_key);
    put_text(&writer, FIELD_SYNAPSE_KEY, synapse_key);
    for (size_t i = 0; i < count; i++) {
        put_tensor_head(&writer, &tensors[i]);
        add_part(out, begin, (size_t)(writer.at - begin), -1);
        add_part(out, tensors[i].tensor->data, tensors[i].tensor->size, (int)i);
        begin = writer.at;
        put_tensor_tail(&writer, &tensors[i]);
    }
    add_part(out, begin, (size_t)(writer.at - begin), -1);
    if (out->size > limit)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "message has %zu bytes, more than the limit of %zu",
                         out->size, limit);
    return STATUS_OK;
}
