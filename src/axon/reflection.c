/* grpc.reflection.v1 and v1alpha, whose messages are the same: from the bytes of a request to the bytes of its answer.
 * The descriptors of proto/ are part of the program, and are searched as they are: a few kilobytes, seldom asked for.
 * The protocol: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md */
#include <string.h>

#include "axon/service_call.h"
#include "proto/descriptors.h"

enum { /* ServerReflectionRequest */
       ASK_HOST = 1,
       ASK_FILE = 3,
       ASK_SYMBOL = 4,
       ASK_EXTENSION = 5,
       ASK_EXTENSION_NUMBERS = 6,
       ASK_SERVICES = 7,
};

enum { /* ServerReflectionResponse */
       ANSWER_HOST = 1,
       ANSWER_REQUEST = 2,
       ANSWER_FILES = 4,
       ANSWER_SERVICES = 6,
       ANSWER_ERROR = 7,
};

enum { ERROR_CODE = 1, ERROR_SENTENCE = 2, INNER_ITEM = 1 };

/* --- symbols ---
 *
 * The part of google/protobuf/descriptor.proto that names things: of the kinds of message that contain others, which
 * field holds a name, and which hold what. A symbol is looked for by following its name downwards. */

typedef enum Kind { KIND_FILE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_LEAF } Kind;

enum { FILE_PACKAGE = 2, NAME = 1 };

static const struct Child {
    Kind parent, child;
    uint32_t field;
} children[] = {
    {KIND_FILE, KIND_MESSAGE, 4},    {KIND_FILE, KIND_ENUM, 5},    {KIND_FILE, KIND_SERVICE, 6},
    {KIND_FILE, KIND_LEAF, 7},                                                                   /* extension */
    {KIND_MESSAGE, KIND_LEAF, 2},                                                                /* field */
    {KIND_MESSAGE, KIND_MESSAGE, 3}, {KIND_MESSAGE, KIND_ENUM, 4}, {KIND_MESSAGE, KIND_LEAF, 6}, /* extension */
    {KIND_MESSAGE, KIND_LEAF, 8},                                                                /* oneof */
    {KIND_SERVICE, KIND_LEAF, 2},                                                                /* method */
};

enum { CHILDREN = sizeof children / sizeof *children, ENUM_VALUE = 2 };

typedef struct Piece {
    const uint8_t *data;
    size_t size;
} Piece;

static Piece field_of(Piece message, uint32_t number)
{
    FieldReader reader = {message.data, message.size};
    Field field;
    while (field_next(&reader, &field) == FIELD_READ)
        if (field.number == number && field.is_bytes) return (Piece){field.data, field.size};
    return (Piece){NULL, 0};
}

/* Takes `name` and the dot behind it off the front of *symbol; an empty name is always there. A dot ends nothing. */
static bool strip(Piece *symbol, Piece name)
{
    if (name.size == 0) return true;
    if (name.size > symbol->size || memcmp(symbol->data, name.data, name.size) != 0) return false;
    bool all = name.size == symbol->size;
    if (!all && (symbol->data[name.size] != '.' || symbol->size == name.size + 1)) return false;
    size_t taken = name.size + (all ? 0 : 1);
    *symbol = (Piece){symbol->data + taken, symbol->size - taken};
    return true;
}

/* A value of an enum is named beside the enum, not within it. */
static bool has_value(Piece enumeration, Piece symbol)
{
    FieldReader reader = {enumeration.data, enumeration.size};
    Field field;
    while (field_next(&reader, &field) == FIELD_READ) {
        Piece rest = symbol;
        if (field.number == ENUM_VALUE && strip(&rest, field_of((Piece){field.data, field.size}, NAME)) &&
            rest.size == 0)
            return true;
    }
    return false;
}

static Kind kind_of(Kind parent, uint32_t number)
{
    for (size_t i = 0; i < CHILDREN; i++)
        if (children[i].parent == parent && children[i].field == number) return children[i].child;
    return KIND_FILE; /* nothing that has a name */
}

/* Whether the children of a message have a symbol. The descriptors are our own: they nest a few levels at most. */
static bool contains(Kind parent, Piece message, Piece symbol)
{
    FieldReader reader = {message.data, message.size};
    Field field;
    while (field_next(&reader, &field) == FIELD_READ) {
        Kind kind = kind_of(parent, field.number);
        if (kind == KIND_FILE || !field.is_bytes) continue;
        Piece child = {field.data, field.size}, rest = symbol;
        if (kind == KIND_ENUM && has_value(child, symbol)) return true;
        if (!strip(&rest, field_of(child, NAME))) continue;
        if (rest.size == 0 || contains(kind, child, rest)) return true;
    }
    return false;
}

static Piece file_of(const Descriptor *descriptor)
{
    return field_of((Piece){descriptor->bytes, descriptor->size}, INNER_ITEM);
}

static const Descriptor *find_symbol(Piece symbol)
{
    for (size_t i = 0; symbol.size && i < descriptor_count; i++) {
        Piece file = file_of(&descriptors[i]), rest = symbol;
        if (strip(&rest, field_of(file, FILE_PACKAGE)) && rest.size && contains(KIND_FILE, file, rest))
            return &descriptors[i];
    }
    return NULL;
}

static const Descriptor *find_file(Piece name)
{
    for (size_t i = 0; i < descriptor_count; i++)
        if (strlen(descriptors[i].file) == name.size && memcmp(descriptors[i].file, name.data, name.size) == 0)
            return &descriptors[i];
    return NULL;
}

/* --- answers --- */

static void put_error(FieldWriter *out, Status status, const char *sentence)
{
    FieldWriter inner = {0};
    field_put_number(&inner, ERROR_CODE, status);
    field_put_bytes(&inner, ERROR_SENTENCE, sentence, strlen(sentence));
    field_put_message(out, ANSWER_ERROR, &inner);
}

/* No file of ours imports another, so that one file is all that is needed to understand it. */
static void put_file(FieldWriter *out, const Descriptor *descriptor, const char *sentence)
{
    if (!descriptor) {
        put_error(out, STATUS_NOT_FOUND, sentence);
        return;
    }
    FieldWriter inner = {0};
    Piece file = file_of(descriptor);
    field_put_bytes(&inner, INNER_ITEM, file.data, file.size);
    field_put_message(out, ANSWER_FILES, &inner);
}

static void put_services(FieldWriter *out, const char (*services)[KEY_SIZE], size_t count)
{
    FieldWriter list = {0};
    for (size_t i = 0; i < count; i++) {
        FieldWriter service = {0};
        field_put_bytes(&service, NAME, services[i], strlen(services[i]));
        field_put_message(&list, INNER_ITEM, &service);
    }
    field_put_message(out, ANSWER_SERVICES, &list);
}

bool reflection_answer(const uint8_t *request, size_t size, const char (*services)[KEY_SIZE], size_t service_count,
                       FieldWriter *out)
{
    FieldReader reader = {request, size};
    Field field, asked = {0}, host = {0};
    FieldResult result;
    while ((result = field_next(&reader, &field)) == FIELD_READ) {
        bool known = field.number == ASK_HOST || (field.number >= ASK_FILE && field.number <= ASK_SERVICES);
        if (known && !field.is_bytes) return false;
        if (field.number == ASK_HOST)
            host = field;
        else if (known)
            asked = field; /* of a oneof, the last one counts */
    }
    if (result == FIELD_MALFORMED) return false;
    Piece what = {asked.data, asked.size};
    if (host.size) field_put_bytes(out, ANSWER_HOST, host.data, host.size);
    field_put_bytes(out, ANSWER_REQUEST, request, size);
    switch (asked.number) {
    case ASK_FILE:
        put_file(out, find_file(what), "no file of that name is known here");
        break;
    case ASK_SYMBOL:
        put_file(out, find_symbol(what), "no symbol of that name is known here");
        break;
    case ASK_EXTENSION:
    case ASK_EXTENSION_NUMBERS:
        put_error(out, STATUS_NOT_FOUND, "nothing here has extensions");
        break;
    case ASK_SERVICES:
        put_services(out, services, service_count);
        break;
    default:
        put_error(out, STATUS_INVALID_ARGUMENT, "the request asks for nothing that is known here");
    }
    return !out->failed;
}
