/* The header is parsed by jansson, after a look that bounds what jansson can be made to build from it. Once checked,
 * the JSON object itself becomes the index from a tensor's name to its place, so finding stays a hash lookup in files
 * of thousands of tensors, and names live in its keys. */
#include "tensor/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"

enum { LENGTH_SIZE = 8, HEADER_MAX = 100 << 20, DATA_ALIGNMENT = 64 };

#define METADATA "__metadata__"
#define SHOWN    "%.120s" /* a name from a file may be as long as the header */

typedef struct Entry {
    void *iterator; /* the place of the name in the index */
    size_t begin, end;
    size_t order; /* in the header; keeps the sorting of empty tensors stable */
    Tensor tensor;
} Entry;

struct Safetensors {
    FileMap map;
    json_t *index;    /* name -> place in entries */
    json_t *metadata; /* NULL when absent */
    Entry *entries;   /* in file order */
    size_t count;
};

static const char *const dtype_names[DTYPE_COUNT] = {
    [DTYPE_F32] = "F32", [DTYPE_F64] = "F64", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16",
    [DTYPE_I32] = "I32", [DTYPE_I64] = "I64", [DTYPE_U8] = "U8",
};

/* --- reading --- */

/* A header has three levels, and every container and comma of it comes with some characters. A hostile one of 100 MiB
 * that is nothing but brackets would take gigabytes as JSON values; the slack leaves small files to the exact errors.
 */
static Status check_structure(const char *text, size_t length, Error *error)
{
    const size_t slack = 4096;
    size_t depth = 0, containers = 0, commas = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '"')
            in_string = !in_string;
        else if (in_string)
            i += c == '\\';
        else if (c == ',')
            commas++;
        else if (c == '{' || c == '[') {
            containers++;
            if (++depth > 3)
                return error_set(error, STATUS_INVALID_ARGUMENT,
                                 "header nests more than 3 levels at byte %zu, expected {name: {key: [...]}}", i);
        } else if ((c == '}' || c == ']') && depth > 0)
            depth--;
    }
    if (containers > slack + length / 16 || commas > slack + length / 4)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "header of %zu bytes has %zu containers and %zu commas, expected tensors and metadata only",
                         length, containers, commas);
    return STATUS_OK;
}

/* The header as a JSON object, and where the data begins. */
static Status read_header(const uint8_t *bytes, size_t size, json_t **header, size_t *data_begin, Error *error)
{
    uint64_t length;
    if (size < LENGTH_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "size is %zu bytes, expected at least %d", size, LENGTH_SIZE);
    memcpy(&length, bytes, sizeof length);
    if (length > HEADER_MAX)
        return error_set(error, STATUS_INVALID_ARGUMENT, "header has %" PRIu64 " bytes, expected at most %d", length,
                         HEADER_MAX);
    if (length > size - LENGTH_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "header has %" PRIu64 " bytes, expected at most the %zu left",
                         length, size - LENGTH_SIZE);
    const char *text = (const char *)bytes + LENGTH_SIZE;
    if (length == 0 || text[0] != '{')
        return error_set(error, STATUS_INVALID_ARGUMENT, "header does not begin with '{', expected a JSON object");
    RETURN_IF_ERROR(check_structure(text, (size_t)length, error));
    json_error_t reason;
    *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &reason);
    if (!*header)
        return error_set(error,
                         json_error_code(&reason) == json_error_out_of_memory ? STATUS_RESOURCE_EXHAUSTED
                                                                              : STATUS_INVALID_ARGUMENT,
                         "header is not valid JSON at byte %d: %s", reason.position, reason.text);
    *data_begin = LENGTH_SIZE + (size_t)length;
    return STATUS_OK;
}

/* Moves "__metadata__" out of the header. */
static Status take_metadata(json_t *header, json_t **out, Error *error)
{
    json_t *metadata = json_object_get(header, METADATA), *value;
    const char *key;
    if (!metadata) return STATUS_OK;
    if (!json_is_object(metadata))
        return error_set(error, STATUS_INVALID_ARGUMENT, METADATA " is not an object, expected texts by name");
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return error_set(error, STATUS_INVALID_ARGUMENT, METADATA " '" SHOWN "' is not a text", key);
    }
    *out = json_incref(metadata);
    json_object_del(header, METADATA);
    return STATUS_OK;
}

static Status read_dtype(const json_t *value, const char *name, DType *out, Error *error)
{
    const char *text = json_string_value(value);
    if (!text)
        return error_set(error, STATUS_INVALID_ARGUMENT, "tensor '" SHOWN "' has no dtype, expected a text", name);
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (!dtype_names[i] || strcmp(text, dtype_names[i]) != 0) continue;
        *out = (DType)i;
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID_ARGUMENT,
                     "dtype of tensor '" SHOWN "' is '" SHOWN "', expected F32, F64, F16, BF16, I32, I64 or U8", name,
                     text);
}

static Status read_shape(const json_t *value, const char *name, Shape *out, Error *error)
{
    if (!json_is_array(value))
        return error_set(error, STATUS_INVALID_ARGUMENT, "tensor '" SHOWN "' has no shape, expected an array", name);
    size_t rank = json_array_size(value);
    if (rank > SHAPE_MAX_RANK)
        return error_set(error, STATUS_INVALID_ARGUMENT, "rank of tensor '" SHOWN "' is %zu, expected at most %d", name,
                         rank, SHAPE_MAX_RANK);
    *out = (Shape){.rank = (int)rank};
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(value, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "dimension %zu of tensor '" SHOWN "' is not an integer of at least 0", i, name);
        out->dims[i] = json_integer_value(dim);
    }
    return STATUS_OK;
}

static Status read_offsets(const json_t *value, const char *name, size_t data_size, Entry *out, Error *error)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "tensor '" SHOWN "' has no data_offsets, expected an array of two integers", name);
    json_int_t from = json_integer_value(begin), to = json_integer_value(end);
    if (from < 0 || to < from || (uint64_t)to > data_size)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "data_offsets of tensor '" SHOWN "' are [%lld, %lld], expected a range within [0, %zu]", name,
                         from, to, data_size);
    out->begin = (size_t)from;
    out->end = (size_t)to;
    return STATUS_OK;
}

/* One tensor of the header; its data is set later. */
static Status read_entry(const json_t *value, const char *name, size_t data_size, Entry *out, Error *error)
{
    DType dtype = DTYPE_NONE;
    Shape shape = shape_scalar();
    char text[SHAPE_TEXT_SIZE];
    size_t size;
    if (!json_is_object(value))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "tensor '" SHOWN "' is not an object, expected dtype, shape and data_offsets", name);
    RETURN_IF_ERROR(read_dtype(json_object_get(value, "dtype"), name, &dtype, error));
    RETURN_IF_ERROR(read_shape(json_object_get(value, "shape"), name, &shape, error));
    RETURN_IF_ERROR(read_offsets(json_object_get(value, "data_offsets"), name, data_size, out, error));
    if (!shape_bytes(shape, dtype_size(dtype), &size))
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "shape of tensor '" SHOWN "' is %s (%s), expected one whose bytes can be counted", name,
                         shape_text(shape, text), dtype_name(dtype));
    if (size != out->end - out->begin)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "data_offsets of tensor '" SHOWN "' are [%zu, %zu], expected %zu bytes for shape %s (%s)",
                         name, out->begin, out->end, size, shape_text(shape, text), dtype_name(dtype));
    out->tensor = tensor_view(dtype, shape, NULL);
    return STATUS_OK;
}

static Status read_entries(Safetensors *file, size_t data_size, Error *error)
{
    file->count = json_object_size(file->index);
    file->entries = calloc(file->count + 1, sizeof *file->entries);
    if (!file->entries) return error_set_errno(error, ENOMEM, "the list of %zu tensors", file->count);
    size_t order = 0;
    for (void *at = json_object_iter(file->index); at; at = json_object_iter_next(file->index, at), order++) {
        Entry *entry = &file->entries[order];
        entry->iterator = at;
        entry->order = order;
        RETURN_IF_ERROR(read_entry(json_object_iter_value(at), json_object_iter_key(at), data_size, entry, error));
    }
    return STATUS_OK;
}

static int compare_places(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Puts the entries in file order, where each must begin at the end of the one before. */
static Status check_coverage(Safetensors *file, size_t data_size, Error *error)
{
    qsort(file->entries, file->count, sizeof *file->entries, compare_places);
    size_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        const Entry *entry = &file->entries[i];
        if (entry->begin != end)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "tensor '" SHOWN "' begins at %zu and leaves %s, expected %zu, the end of the one before",
                             json_object_iter_key(entry->iterator), entry->begin,
                             entry->begin > end ? "a hole" : "an overlap", end);
        end = entry->end;
    }
    if (end != data_size)
        return error_set(error, STATUS_INVALID_ARGUMENT, "data has %zu bytes, expected the %zu of the tensors",
                         data_size, end);
    return STATUS_OK;
}

/* Points each tensor at its bytes, and its name at its place. */
static Status place_tensors(Safetensors *file, const uint8_t *data, Error *error)
{
    for (size_t i = 0; i < file->count; i++) {
        Entry *entry = &file->entries[i];
        Tensor *tensor = &entry->tensor;
        tensor->data = (void *)(uintptr_t)(data + entry->begin);
        if ((uintptr_t)tensor->data % dtype_size(tensor->dtype) != 0) {
            Tensor view = *tensor;
            RETURN_IF_ERROR(tensor_copy(&view, tensor, error));
        }
        if (json_object_iter_set_new(file->index, entry->iterator, json_integer((json_int_t)i)) != 0)
            return error_set_errno(error, ENOMEM, "the index of %zu tensors", file->count);
    }
    return STATUS_OK;
}

static Status read_file(const uint8_t *bytes, size_t size, Safetensors *file, Error *error)
{
    size_t data_begin = 0;
    RETURN_IF_ERROR(read_header(bytes, size, &file->index, &data_begin, error));
    RETURN_IF_ERROR(take_metadata(file->index, &file->metadata, error));
    RETURN_IF_ERROR(read_entries(file, size - data_begin, error));
    RETURN_IF_ERROR(check_coverage(file, size - data_begin, error));
    return place_tensors(file, bytes + data_begin, error);
}

Status safetensors_parse(const void *bytes, size_t size, const char *name, Safetensors **out, Error *error)
{
    Safetensors *file = calloc(1, sizeof *file);
    if (!file) return error_set_errno(error, ENOMEM, "%s", name);
    Status status = read_file(bytes, size, file, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", name);
        safetensors_close(file);
        return status;
    }
    *out = file;
    return STATUS_OK;
}

Status safetensors_open(const char *path, Safetensors **out, Error *error)
{
    FileMap map = {0};
    RETURN_IF_ERROR(file_map(path, &map, error));
    Status status = safetensors_parse(map.data, map.size, path, out, error);
    if (status == STATUS_OK)
        (*out)->map = map;
    else
        file_unmap(&map);
    return status;
}

void safetensors_close(Safetensors *file)
{
    if (!file) return;
    for (size_t i = 0; file->entries && i < file->count; i++)
        tensor_destroy(&file->entries[i].tensor);
    free(file->entries);
    json_decref(file->metadata);
    json_decref(file->index);
    file_unmap(&file->map);
    free(file);
}

size_t safetensors_count(const Safetensors *file)
{
    return file->count;
}

const char *safetensors_name(const Safetensors *file, size_t index)
{
    return index < file->count ? json_object_iter_key(file->entries[index].iterator) : NULL;
}

const Tensor *safetensors_at(const Safetensors *file, size_t index)
{
    return index < file->count ? &file->entries[index].tensor : NULL;
}

const Tensor *safetensors_find(const Safetensors *file, const char *name)
{
    const json_t *place = json_object_get(file->index, name);
    return place ? &file->entries[json_integer_value(place)].tensor : NULL;
}

const char *safetensors_metadata(const Safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

/* --- writing --- */

static Status add_metadata(json_t *header, const NamedText *metadata, size_t count, Error *error)
{
    if (count == 0) return STATUS_OK;
    json_t *object = json_object();
    if (json_object_set_new(header, METADATA, object) != 0) return error_set_errno(error, ENOMEM, METADATA);
    for (size_t i = 0; i < count; i++) {
        if (json_object_get(object, metadata[i].key))
            return error_set(error, STATUS_INVALID_ARGUMENT, METADATA " has '" SHOWN "' twice", metadata[i].key);
        if (json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) != 0)
            return error_set(error, STATUS_INVALID_ARGUMENT, METADATA " '" SHOWN "' is not text in UTF-8",
                             metadata[i].key);
    }
    return STATUS_OK;
}

static Status check_tensor(const NamedTensor *named, const json_t *header, Error *error)
{
    const Tensor *tensor = &named->tensor;
    char text[SHAPE_TEXT_SIZE];
    size_t size = 0;
    if (strcmp(named->name, METADATA) == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "a tensor is named " METADATA ", which the format reserves");
    if (json_object_get(header, named->name))
        return error_set(error, STATUS_ALREADY_EXISTS, "two tensors are named '" SHOWN "'", named->name);
    if (!shape_bytes(tensor->shape, dtype_size(tensor->dtype), &size) || size != tensor->size)
        return error_set(error, STATUS_INVALID_ARGUMENT, "tensor '" SHOWN "' has %zu bytes, expected those of %s (%s)",
                         named->name, tensor->size, shape_text(tensor->shape, text), dtype_name(tensor->dtype));
    return STATUS_OK;
}

/* Adds a tensor that begins at *offset of the data, and moves *offset to its end. */
static Status add_tensor(json_t *header, const NamedTensor *named, size_t *offset, Error *error)
{
    RETURN_IF_ERROR(check_tensor(named, header, error));
    const Shape shape = named->tensor.shape;
    size_t end;
    if (!size_add(*offset, named->tensor.size, &end) || end > INT64_MAX)
        return error_set(error, STATUS_OUT_OF_RANGE, "data ends beyond %" PRId64 " bytes at tensor '" SHOWN "'",
                         INT64_MAX, named->name);
    json_t *dims = json_array();
    for (int i = 0; i < shape.rank; i++)
        json_array_append_new(dims, json_integer(shape.dims[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_names[named->tensor.dtype], "shape", dims,
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (!entry || json_array_size(dims) != (size_t)shape.rank) {
        json_decref(entry);
        return error_set_errno(error, ENOMEM, "the header's entry of tensor '" SHOWN "'", named->name);
    }
    if (json_object_set_new(header, named->name, entry) != 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "name '" SHOWN "' of a tensor is not UTF-8", named->name);
    *offset = end;
    return STATUS_OK;
}

/* Adds all tensors, and lists their data in `parts`. The largest elements come first, otherwise in the order given: so
 * every tensor is aligned to its element, and a reader needs no copies. */
static Status add_tensors(json_t *header, const NamedTensor *tensors, size_t count, struct iovec *parts, Error *error)
{
    size_t offset = 0, added = 0;
    for (size_t i = 0; i < count; i++)
        if (dtype_size(tensors[i].tensor.dtype) == 0)
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "tensor '" SHOWN "' has dtype %s, expected an element type", tensors[i].name,
                             dtype_name(tensors[i].tensor.dtype));
    for (size_t element = 8; element > 0; element /= 2) {
        for (size_t i = 0; i < count; i++) {
            const Tensor *tensor = &tensors[i].tensor;
            if (dtype_size(tensor->dtype) != element) continue;
            RETURN_IF_ERROR(add_tensor(header, &tensors[i], &offset, error));
            parts[added++] = (struct iovec){.iov_base = tensor->data, .iov_len = tensor->size};
        }
    }
    return STATUS_OK;
}

/* The length, the JSON text and spaces up to a multiple of the alignment. Free with free(). */
static Status encode_header(const json_t *header, struct iovec *out, Error *error)
{
    size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    size_t size = size_align(LENGTH_SIZE + length, DATA_ALIGNMENT);
    if (length == 0) return error_set_errno(error, ENOMEM, "the header");
    if (size - LENGTH_SIZE > HEADER_MAX)
        return error_set(error, STATUS_OUT_OF_RANGE, "header has %zu bytes, expected at most %d", size - LENGTH_SIZE,
                         HEADER_MAX);
    char *bytes = malloc(size);
    if (!bytes) return error_set_errno(error, ENOMEM, "the header of %zu bytes", size);
    const uint64_t stated = size - LENGTH_SIZE;
    memcpy(bytes, &stated, LENGTH_SIZE);
    memset(bytes + LENGTH_SIZE, ' ', size - LENGTH_SIZE);
    json_dumpb(header, bytes + LENGTH_SIZE, length, JSON_COMPACT);
    *out = (struct iovec){.iov_base = bytes, .iov_len = size};
    return STATUS_OK;
}

Status safetensors_write(const char *path, const NamedTensor *tensors, size_t count, const NamedText *metadata,
                         size_t metadata_count, Error *error)
{
    Status status = STATUS_OK;
    json_t *header = json_object();
    struct iovec *parts = calloc(count + 1, sizeof *parts); /* the header, then the tensors */
    if (!header || !parts) {
        status = error_set_errno(error, ENOMEM, "cannot write %s", path);
        goto done;
    }
    GOTO_IF_ERROR(add_metadata(header, metadata, metadata_count, error), invalid);
    GOTO_IF_ERROR(add_tensors(header, tensors, count, parts + 1, error), invalid);
    GOTO_IF_ERROR(encode_header(header, &parts[0], error), invalid);
    status = file_replace(path, parts, count + 1, error);
    goto done;
invalid:
    error_prefix(error, "cannot write %s", path);
done:
    if (parts) free(parts[0].iov_base);
    free(parts);
    json_decref(header);
    return status;
}
