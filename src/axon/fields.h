/* The fields of small protobuf messages in one piece of memory: read without copying, written into a buffer that grows.
 * For the messages of the services; those with tensors have their own way (wire/message.h). Every byte that is read is
 * hostile: a reader can't run past its end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FieldReader {
    const uint8_t *at;
    size_t left;
} FieldReader;

typedef struct Field {
    uint32_t number;
    bool is_bytes;       /* a string, bytes or a message: `data` and `size`; else a number, which is passed over */
    const uint8_t *data; /* borrowed */
    size_t size;
} Field;

typedef enum FieldResult { FIELD_READ, FIELD_END, FIELD_MALFORMED } FieldResult;

/* The next field. Malformed: a number of more than ten bytes, a length beyond the end, a group, field number 0. */
FieldResult field_next(FieldReader *reader, Field *out);

/* Zero-initialise; free(data). Lack of memory is remembered in `failed`. */
typedef struct FieldWriter {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
} FieldWriter;

void field_put_bytes(FieldWriter *writer, uint32_t number, const void *data, size_t size);
void field_put_number(FieldWriter *writer, uint32_t number, uint64_t value);
/* A message within: takes the inner one over. */
void field_put_message(FieldWriter *writer, uint32_t number, FieldWriter *inner);
