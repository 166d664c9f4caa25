#include "axon/fields.h"

#include <stdlib.h>
#include <string.h>

#include "wire/fields.h"

/* --- reading --- */

static bool read_varint(FieldReader *reader, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && reader->left; shift += 7) {
        uint8_t byte = *reader->at++;
        reader->left--;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_value(FieldReader *reader, unsigned type, Field *out)
{
    uint64_t size;
    switch (type) {
    case WIRE_VARINT:
        return read_varint(reader, &size);
    case WIRE_BYTES:
        if (!read_varint(reader, &size)) return false;
        break;
    case WIRE_FIXED64:
        size = 8;
        break;
    case WIRE_FIXED32:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > reader->left) return false;
    out->data = reader->at;
    out->size = (size_t)size;
    out->is_bytes = type == WIRE_BYTES;
    reader->at += size;
    reader->left -= (size_t)size;
    return true;
}

FieldResult field_next(FieldReader *reader, Field *out)
{
    uint64_t tag;
    *out = (Field){0};
    if (reader->left == 0) return FIELD_END;
    if (!read_varint(reader, &tag) || tag > UINT32_MAX || tag >> 3 == 0) return FIELD_MALFORMED;
    out->number = (uint32_t)(tag >> 3);
    return read_value(reader, (unsigned)tag & 7, out) ? FIELD_READ : FIELD_MALFORMED;
}

/* --- writing --- */

static void put(FieldWriter *writer, const void *data, size_t size)
{
    if (writer->failed || size == 0) return;
    if (size > writer->capacity - writer->size) {
        size_t capacity = 2 * (writer->size + size);
        uint8_t *grown = realloc(writer->data, capacity);
        if (!grown) {
            writer->failed = true;
            return;
        }
        writer->data = grown;
        writer->capacity = capacity;
    }
    memcpy(writer->data + writer->size, data, size);
    writer->size += size;
}

static void put_varint(FieldWriter *writer, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0;
    for (; value > 127; value >>= 7)
        bytes[count++] = (uint8_t)(value & 127) | 128;
    bytes[count++] = (uint8_t)value;
    put(writer, bytes, count);
}

void field_put_bytes(FieldWriter *writer, uint32_t number, const void *data, size_t size)
{
    put_varint(writer, (uint64_t)number << 3 | WIRE_BYTES);
    put_varint(writer, size);
    put(writer, data, size);
}

void field_put_number(FieldWriter *writer, uint32_t number, uint64_t value)
{
    put_varint(writer, (uint64_t)number << 3 | WIRE_VARINT);
    put_varint(writer, value);
}

void field_put_message(FieldWriter *writer, uint32_t number, FieldWriter *inner)
{
    if (inner->failed) writer->failed = true;
    field_put_bytes(writer, number, inner->data, inner->size);
    free(inner->data);
    *inner = (FieldWriter){0};
}
