/* The cache of chosen algorithms: one JSON file,
 *
 *     {"format": 1, "entries": [{"device": "...", "versions": "...", "problem": "...", "plan": "..."}, ...]}
 *
 * in the order in which entries were put, so that the oldest are dropped from the front. */
#include "backend/cuda/algorithms.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static const char *const FIELDS[] = {"device", "versions", "problem", "plan"};

enum { KEY_FIELDS = 3, FIELD_COUNT = 4 };

struct Algorithms {
    char *path;
    json_t *device, *versions;
    json_t *entries; /* what the file had, and what was put: an array */
    json_t *added;   /* what was put since the last save: an array of some of them */
};

static Status no_memory(Error *error)
{
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot allocate the cache of algorithms");
}

/* --- reading --- */

static bool is_entry(const json_t *entry)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (!json_is_string(json_object_get(entry, FIELDS[i]))) return false;
    return true;
}

static Status check_entries(const char *path, const json_t *root, Error *error)
{
    const json_t *format = json_object_get(root, "format"), *entries = json_object_get(root, "entries");
    if (!json_is_integer(format) || json_integer_value(format) != ALGORITHMS_FORMAT)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s has no \"format\": %d", path, ALGORITHMS_FORMAT);
    if (!json_is_array(entries)) return error_set(error, STATUS_INVALID_ARGUMENT, "%s has no list of entries", path);
    for (size_t i = 0; i < json_array_size(entries); i++)
        if (!is_entry(json_array_get(entries, i)))
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "entry %zu of %s isn't an object of device, versions, problem and plan", i, path);
    return STATUS_OK;
}

/* The file's entries; NOT_FOUND where there is no file. */
static Status read_entries(const char *path, json_t **out, Error *error)
{
    char *text = NULL;
    size_t size = 0;
    json_error_t reason;
    RETURN_IF_ERROR(file_read(path, ALGORITHMS_MAX_FILE, &text, &size, error));
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &reason);
    free(text);
    if (!root)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s is no JSON: line %d: %s", path, reason.line, reason.text);
    const Status status = check_entries(path, root, error);
    if (status == STATUS_OK) *out = json_incref(json_object_get(root, "entries"));
    json_decref(root);
    return status;
}

/* As read_entries, but whatever is wrong with the file makes it an empty one. NULL: no memory. */
static json_t *read_or_empty(const char *path, Error *damage)
{
    json_t *entries = NULL;
    Error reason = {.status = STATUS_OK};
    const Status status = read_entries(path, &entries, &reason);
    if (status == STATUS_OK) return entries;
    if (status != STATUS_NOT_FOUND && damage) *damage = reason;
    return json_array();
}

Status algorithms_open(const char *path, const char *device, const char *versions, Algorithms **out, Error *damage,
                       Error *error)
{
    if (damage) *damage = (Error){.status = STATUS_OK};
    Algorithms *algorithms = calloc(1, sizeof *algorithms);
    if (!algorithms) return no_memory(error);
    algorithms->path = strdup(path);
    algorithms->device = json_string(device);
    algorithms->versions = json_string(versions);
    algorithms->entries = read_or_empty(path, damage);
    algorithms->added = json_array();
    if (!algorithms->path || !algorithms->device || !algorithms->versions || !algorithms->entries ||
        !algorithms->added) {
        algorithms_close(algorithms);
        return no_memory(error);
    }
    *out = algorithms;
    return STATUS_OK;
}

void algorithms_close(Algorithms *algorithms)
{
    if (!algorithms) return;
    json_decref(algorithms->added);
    json_decref(algorithms->entries);
    json_decref(algorithms->versions);
    json_decref(algorithms->device);
    free(algorithms->path);
    free(algorithms);
}

/* --- looking up and putting --- */

static bool same_key(const json_t *a, const json_t *b)
{
    for (int i = 0; i < KEY_FIELDS; i++)
        if (!json_equal(json_object_get(a, FIELDS[i]), json_object_get(b, FIELDS[i]))) return false;
    return true;
}

const char *algorithms_find(const Algorithms *algorithms, const char *problem)
{
    for (size_t i = json_array_size(algorithms->entries); i-- > 0;) {
        const json_t *entry = json_array_get(algorithms->entries, i);
        if (strcmp(json_string_value(json_object_get(entry, "problem")), problem) == 0 &&
            json_equal(json_object_get(entry, "device"), algorithms->device) &&
            json_equal(json_object_get(entry, "versions"), algorithms->versions))
            return json_string_value(json_object_get(entry, "plan"));
    }
    return NULL;
}

/* Puts the entry at the end, in place of one with its key, and drops what is too much from the front. */
static bool replace_entry(json_t *entries, json_t *entry)
{
    for (size_t i = json_array_size(entries); i-- > 0;)
        if (same_key(json_array_get(entries, i), entry)) json_array_remove(entries, i);
    while (json_array_size(entries) >= ALGORITHMS_MAX_ENTRIES)
        json_array_remove(entries, 0);
    return json_array_append(entries, entry) == 0;
}

static Status check_text(const char *name, const char *text, Error *error)
{
    const size_t length = strlen(text);
    if (length <= ALGORITHMS_MAX_TEXT) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT,
                     "%s for the cache of algorithms has %zu bytes, expected at most %d", name, length,
                     ALGORITHMS_MAX_TEXT);
}

Status algorithms_put(Algorithms *algorithms, const char *problem, const char *plan, Error *error)
{
    RETURN_IF_ERROR(check_text("a problem", problem, error));
    RETURN_IF_ERROR(check_text("a plan", plan, error));
    json_t *entry = json_pack("{sOsOssss}", FIELDS[0], algorithms->device, FIELDS[1], algorithms->versions, FIELDS[2],
                              problem, FIELDS[3], plan);
    if (!entry)
        return error_set(error, STATUS_INVALID_ARGUMENT, "plan or problem for the cache of algorithms is no UTF-8");
    const bool done = replace_entry(algorithms->entries, entry) && replace_entry(algorithms->added, entry);
    json_decref(entry);
    return done ? STATUS_OK : no_memory(error);
}

/* --- saving --- */

static char *write_text(json_t *entries)
{
    json_t *root = json_pack("{sisO}", "format", ALGORITHMS_FORMAT, "entries", entries);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return text;
}

/* Drops the older half as often as it takes to fit. */
static char *write_limited(json_t *entries)
{
    char *text = write_text(entries);
    while (text && strlen(text) > ALGORITHMS_MAX_FILE && json_array_size(entries) > 1) {
        for (size_t half = json_array_size(entries) / 2; half > 0; half--)
            json_array_remove(entries, 0);
        free(text);
        text = write_text(entries);
    }
    return text;
}

static Status make_folder_of(const char *path, Error *error)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return STATUS_OK;
    if ((size_t)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path) >= sizeof folder)
        return error_set(error, STATUS_INVALID_ARGUMENT, "path of the cache of algorithms has %zu characters",
                         strlen(path));
    return file_make_directories(folder, error);
}

Status algorithms_save(Algorithms *algorithms, Error *error)
{
    Status status;
    char *text = NULL;
    if (json_array_size(algorithms->added) == 0) return STATUS_OK;
    RETURN_IF_ERROR(make_folder_of(algorithms->path, error));
    json_t *entries = read_or_empty(algorithms->path, NULL);
    bool merged = entries != NULL;
    for (size_t i = 0; merged && i < json_array_size(algorithms->added); i++)
        merged = replace_entry(entries, json_array_get(algorithms->added, i));
    if (merged) text = write_limited(entries);
    if (!text) {
        status = no_memory(error);
        goto done;
    }
    struct iovec part = {.iov_base = text, .iov_len = strlen(text)};
    status = file_replace(algorithms->path, &part, 1, error);
    if (status == STATUS_OK) json_array_clear(algorithms->added);
done:
    free(text);
    json_decref(entries);
    return status;
}
