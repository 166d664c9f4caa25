/* Reading the form of a TensorMessage with a cursor over segments; nothing is copied but keys. */
#include <inttypes.h>
#include <string.h>

#include "wire/cursor.h"
#include "wire/fields.h"
#include "wire/message.h"

/* --- the cursor (wire/cursor.h) --- */

bool cursor_read(Cursor *cursor, void *destination, size_t size)
{
    if (size > cursor->left) return false;
    cursor->left -= size;
    uint8_t *to = destination;
    while (size) {
        Segment segment = cursor->segments[cursor->segment];
        size_t here = segment.size - cursor->offset;
        if (here == 0) {
            cursor->segment++;
            cursor->offset = 0;
            continue;
        }
        if (here > size) here = size;
        if (to) {
            memcpy(to, segment.data + cursor->offset, here);
            to += here;
        }
        cursor->offset += here;
        size -= here;
    }
    return true;
}

/* A varint of at most `bytes` bytes. The tenth byte has room for one bit of 64 only: more would be lost. */
static Status read_varint(Cursor *cursor, int bytes, uint64_t *out, Error *error)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        uint8_t byte;
        if (!cursor_read(cursor, &byte, 1))
            return error_set(error, STATUS_INVALID_ARGUMENT, "malformed message: it ends inside a number");
        if (i == 9 && byte > 1) break;
        value |= (uint64_t)(byte & 127) << (7 * i);
        if (byte < 128) {
            *out = value;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID_ARGUMENT, "malformed message: a number has more than %d bytes or 64 bits",
                     bytes);
}

/* Takes the length of a field off the cursor and makes *inside a cursor over its bytes, which `cursor` has passed. */
static Status read_bytes(Cursor *cursor, Cursor *inside, Error *error)
{
    uint64_t size;
    RETURN_IF_ERROR(read_varint(cursor, 5, &size, error));
    *inside = *cursor;
    if (size > cursor->left)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "malformed message: a field claims %" PRIu64 " bytes, and %zu are left", size, cursor->left);
    inside->left = (size_t)size;
    cursor_read(cursor, NULL, (size_t)size);
    return STATUS_OK;
}

typedef struct Tag {
    uint32_t field;
    unsigned type;
} Tag;

static Status read_tag(Cursor *cursor, Tag *out, Error *error)
{
    uint64_t tag;
    RETURN_IF_ERROR(read_varint(cursor, 5, &tag, error));
    if (tag > UINT32_MAX || tag >> 3 == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "malformed message: field number %" PRIu64 " is outside 1 to 2^29 - 1", tag >> 3);
    *out = (Tag){(uint32_t)tag >> 3, (unsigned)tag & 7};
    return STATUS_OK;
}

static Status skip(Cursor *cursor, Tag tag, Error *error)
{
    uint64_t number;
    Cursor inside;
    switch (tag.type) {
    case WIRE_VARINT:
        return read_varint(cursor, 10, &number, error);
    case WIRE_BYTES:
        return read_bytes(cursor, &inside, error);
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        if (cursor_read(cursor, NULL, tag.type == WIRE_FIXED64 ? 8 : 4)) return STATUS_OK;
        return error_set(error, STATUS_INVALID_ARGUMENT, "malformed message: it ends inside field %u", tag.field);
    default:
        return error_set(error, STATUS_INVALID_ARGUMENT, "malformed message: wire type %u of field %u is not supported",
                         tag.type, tag.field);
    }
}

static Status expect_type(Tag tag, WireType type, const char *name, Error *error)
{
    if (tag.type == (unsigned)type) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "malformed message: wire type of '%s' is %u, expected %d", name,
                     tag.type, (int)type);
}

/* --- fields --- */

static Status read_key(Cursor *cursor, Tag tag, const char *name, char out[KEY_SIZE], Error *error)
{
    Cursor inside;
    RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, name, error));
    RETURN_IF_ERROR(read_bytes(cursor, &inside, error));
    size_t length = inside.left;
    if (length >= KEY_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s has %zu bytes, expected at most %d", name, length,
                         KEY_SIZE - 1);
    cursor_read(&inside, out, length);
    out[length] = '\0';
    return length ? key_check(name, out, length, error) : STATUS_OK;
}

static Status read_number(Cursor *cursor, Tag tag, const char *name, uint64_t *out, Error *error)
{
    RETURN_IF_ERROR(expect_type(tag, WIRE_VARINT, name, error));
    return read_varint(cursor, 10, out, error);
}

static Status read_dimension(Cursor *cursor, WireTensor *tensor, Error *error)
{
    uint64_t dimension;
    RETURN_IF_ERROR(read_varint(cursor, 10, &dimension, error));
    if (tensor->rank < SHAPE_MAX_RANK) tensor->dims[tensor->rank] = (int64_t)dimension;
    tensor->rank++;
    return STATUS_OK;
}

/* Packed (one field with all dimensions) or not (a field each), also mixed. */
static Status read_shape(Cursor *cursor, Tag tag, WireTensor *tensor, Error *error)
{
    if (tag.type == WIRE_VARINT) return read_dimension(cursor, tensor, error);
    Cursor inside;
    RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, "shape", error));
    RETURN_IF_ERROR(read_bytes(cursor, &inside, error));
    while (inside.left)
        RETURN_IF_ERROR(read_dimension(&inside, tensor, error));
    return STATUS_OK;
}

static Status read_tensor(Cursor cursor, WireTensor *out, Error *error)
{
    *out = (WireTensor){.buffer = {.segments = cursor.segments}};
    while (cursor.left) {
        Tag tag;
        uint64_t number;
        RETURN_IF_ERROR(read_tag(&cursor, &tag, error));
        switch (tag.field) {
        case FIELD_BUFFER:
            RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, "buffer", error));
            RETURN_IF_ERROR(read_bytes(&cursor, &out->buffer, error));
            break;
        case FIELD_SHAPE:
            RETURN_IF_ERROR(read_shape(&cursor, tag, out, error));
            break;
        case FIELD_DTYPE:
            RETURN_IF_ERROR(read_number(&cursor, tag, "dtype", &number, error));
            out->dtype = (int32_t)(uint32_t)number; /* protobuf keeps the low 32 bits of an enum */
            break;
        case FIELD_MODALITY:
            RETURN_IF_ERROR(read_number(&cursor, tag, "modality", &number, error));
            out->modality = (int32_t)(uint32_t)number;
            break;
        case FIELD_REQUIRES_GRAD:
            RETURN_IF_ERROR(read_number(&cursor, tag, "requires_grad", &number, error));
            out->requires_grad = number != 0;
            break;
        case FIELD_TENSOR_VERSION:
            RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, "version", error));
            RETURN_IF_ERROR(skip(&cursor, tag, error));
            break;
        default:
            RETURN_IF_ERROR(skip(&cursor, tag, error));
        }
    }
    return STATUS_OK;
}

static Status read_next_tensor(Cursor *cursor, Tag tag, Message *out, Error *error)
{
    Cursor inside;
    WireTensor further;
    RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, "tensors", error));
    RETURN_IF_ERROR(read_bytes(cursor, &inside, error));
    size_t index = out->tensor_count++;
    return read_tensor(inside, index < MESSAGE_TENSORS ? &out->tensors[index] : &further, error);
}

Status message_parse(const Segment *segments, size_t count, Message *out, Error *error)
{
    Cursor cursor = {.segments = segments};
    for (size_t i = 0; i < count; i++)
        cursor.left += segments[i].size;
    out->neuron_key[0] = out->synapse_key[0] = '\0';
    out->nonce = 0;
    out->tensor_count = 0;
    while (cursor.left) {
        Tag tag;
        uint64_t number;
        RETURN_IF_ERROR(read_tag(&cursor, &tag, error));
        switch (tag.field) {
        case FIELD_NEURON_KEY:
            RETURN_IF_ERROR(read_key(&cursor, tag, "neuron_key", out->neuron_key, error));
            break;
        case FIELD_SYNAPSE_KEY:
            RETURN_IF_ERROR(read_key(&cursor, tag, "synapse_key", out->synapse_key, error));
            break;
        case FIELD_NOUNCE:
            RETURN_IF_ERROR(read_number(&cursor, tag, "nounce", &number, error));
            out->nonce = (int64_t)number;
            break;
        case FIELD_TENSORS:
            RETURN_IF_ERROR(read_next_tensor(&cursor, tag, out, error));
            break;
        case FIELD_VERSION:
        case FIELD_SIGNATURE:
            RETURN_IF_ERROR(expect_type(tag, WIRE_BYTES, tag.field == FIELD_VERSION ? "version" : "signature", error));
            RETURN_IF_ERROR(skip(&cursor, tag, error));
            break;
        default:
            RETURN_IF_ERROR(skip(&cursor, tag, error));
        }
    }
    return STATUS_OK;
}
