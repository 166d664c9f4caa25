#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "graph/ops.h"
#include "tensor/safetensors.h"

#define MODEL  "model.safetensors"
#define STATE  "state.safetensors"
#define CONFIG "config.json"

static const char *const file_names[] = {MODEL, STATE, CONFIG};
static const char generation_prefix[] = "generation-";

/* --- the lock --- */

Status checkpoint_lock(const char *folder, CheckpointLock *out, Error *error)
{
    char path[CHECKPOINT_PATH_SIZE];
    *out = (CheckpointLock){-1};
    RETURN_IF_ERROR(file_make_directories(folder, error));
    RETURN_IF_ERROR(file_join(path, sizeof path, folder, ".lock", error));
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return error_set_errno(error, errno, "can't open %s", path);
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        close(file);
        return error_set(error, STATUS_ALREADY_EXISTS, "another process is writing to the run folder %s", folder);
    }
    out->file = file;
    return STATUS_OK;
}

void checkpoint_unlock(CheckpointLock *lock)
{
    if (lock->file >= 0) close(lock->file);
    lock->file = -1;
}

/* --- generations --- */

static bool generation_of(const char *name, long *out)
{
    char *end;
    if (strncmp(name, generation_prefix, sizeof generation_prefix - 1) != 0) return false;
    const char *digits = name + sizeof generation_prefix - 1;
    errno = 0;
    *out = strtol(digits, &end, 10);
    return errno == 0 && end != digits && *end == '\0' && *out >= 0;
}

/* The generation that `current` points to; -1 where there is none. */
static long current_generation(const char *folder)
{
    char path[CHECKPOINT_PATH_SIZE], target[128];
    long generation;
    if (file_join(path, sizeof path, folder, "current", NULL) != STATUS_OK) return -1;
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) return -1;
    target[length] = '\0';
    return generation_of(target, &generation) ? generation : -1;
}

static void remove_generation(const char *folder, const char *name)
{
    char path[CHECKPOINT_PATH_SIZE], inner[CHECKPOINT_PATH_SIZE];
    if (file_join(path, sizeof path, folder, name, NULL) != STATUS_OK) return;
    DIR *directory = opendir(path);
    if (directory == NULL) return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            file_join(inner, sizeof inner, path, entry->d_name, NULL) == STATUS_OK)
            unlink(inner);
    closedir(directory);
    rmdir(path);
}

/* Removes every generation but `keep`. */
static void remove_others(const char *folder, long keep)
{
    DIR *directory = opendir(folder);
    if (directory == NULL) return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        long generation;
        if (generation_of(entry->d_name, &generation) && generation != keep) remove_generation(folder, entry->d_name);
    }
    closedir(directory);
}

/* Makes or moves a link by rename, so that it always points somewhere. */
static Status replace_link(const char *folder, const char *name, const char *target, Error *error)
{
    char path[CHECKPOINT_PATH_SIZE], temporary[CHECKPOINT_PATH_SIZE], new_name[64];
    snprintf(new_name, sizeof new_name, ".%s.new", name);
    RETURN_IF_ERROR(file_join(path, sizeof path, folder, name, error));
    RETURN_IF_ERROR(file_join(temporary, sizeof temporary, folder, new_name, error));
    unlink(temporary);
    int failure = failpoint_hit("checkpoint.link");
    if (failure != 0) return error_set_errno(error, failure, "can't link %s", path);
    if (symlink(target, temporary) != 0) return error_set_errno(error, errno, "can't link %s", temporary);
    if (rename(temporary, path) != 0) {
        Status status = error_set_errno(error, errno, "can't replace %s", path);
        unlink(temporary);
        return status;
    }
    return STATUS_OK;
}

static Status sync_folder(const char *folder, Error *error)
{
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0) {
        Status status = error_set_errno(error, errno, "can't write the folder %s", folder);
        if (file >= 0) close(file);
        return status;
    }
    close(file);
    return STATUS_OK;
}

/* --- saving --- */

static Tensor look(const Variables *variables, int index, void *bytes)
{
    return tensor_view(variables_dtype(variables, index), variables_shape(variables, index), bytes);
}

/* The variables that are parameters, or those that aren't, and the values as metadata. */
static Status write_variables(const char *path, const Variables *variables, bool trainable,
                              const CheckpointValues *values, Error *error)
{
    size_t count = (size_t)variables_count(variables), used = 0;
    Status status = STATUS_OK;
    NamedTensor *tensors = calloc(count + 1, sizeof *tensors);
    NamedText metadata[CHECKPOINT_VALUES];
    char texts[CHECKPOINT_VALUES][24];
    if (tensors == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to write %s", path);
    for (int i = 0; i < (int)count && status == STATUS_OK; i++) {
        if (variables_trainable(variables, i) != trainable) continue;
        NamedTensor *tensor = &tensors[used];
        tensor->name = variables_name(variables, i);
        status = tensor_create(variables_dtype(variables, i), variables_shape(variables, i), &tensor->tensor, error);
        if (status != STATUS_OK) break;
        used++;
        status = variables_read(variables, i, tensor->tensor.data, tensor->tensor.size, error);
    }
    size_t texts_used = 0;
    for (; values != NULL && texts_used < values->count; texts_used++) {
        snprintf(texts[texts_used], sizeof texts[0], "%lld", (long long)values->items[texts_used].value);
        metadata[texts_used] = (NamedText){values->items[texts_used].name, texts[texts_used]};
    }
    if (status == STATUS_OK) status = safetensors_write(path, tensors, used, metadata, texts_used, error);
    for (size_t i = 0; i < used; i++)
        tensor_destroy(&tensors[i].tensor);
    free(tensors);
    return status;
}

static Status write_generation(const char *generation, const Variables *variables, const CheckpointValues *values,
                               const char *config, Error *error)
{
    char path[CHECKPOINT_PATH_SIZE];
    RETURN_IF_ERROR(file_make_directories(generation, error));
    RETURN_IF_ERROR(file_join(path, sizeof path, generation, MODEL, error));
    RETURN_IF_ERROR(write_variables(path, variables, true, NULL, error));
    RETURN_IF_ERROR(file_join(path, sizeof path, generation, STATE, error));
    RETURN_IF_ERROR(write_variables(path, variables, false, values, error));
    RETURN_IF_ERROR(file_join(path, sizeof path, generation, CONFIG, error));
    struct iovec part = {(void *)(uintptr_t)config, strlen(config)};
    RETURN_IF_ERROR(file_replace(path, &part, 1, error));
    return sync_folder(generation, error);
}

/* The names that people know, as links through `current`. What isn't such a link is somebody's file: left alone. */
static Status link_files(const char *folder, Error *error)
{
    for (size_t i = 0; i < sizeof file_names / sizeof *file_names; i++) {
        char path[CHECKPOINT_PATH_SIZE], target[64];
        struct stat info;
        snprintf(target, sizeof target, "current/%s", file_names[i]);
        RETURN_IF_ERROR(file_join(path, sizeof path, folder, file_names[i], error));
        if (lstat(path, &info) != 0)
            RETURN_IF_ERROR(replace_link(folder, file_names[i], target, error));
        else if (!S_ISLNK(info.st_mode))
            return error_set(error, STATUS_ALREADY_EXISTS, "%s is a file of its own, expected a run folder's link",
                             path);
    }
    return STATUS_OK;
}

/* Moving `current` is the one moment that counts: before it the links beside it lead to the old generation (or
 * nowhere), after it to the new one. */
Status checkpoint_save(const char *folder, const Variables *variables, const CheckpointValues *values,
                       const char *config, Error *error)
{
    char name[64], generation[CHECKPOINT_PATH_SIZE];
    long before = current_generation(folder);
    RETURN_IF_ERROR(file_make_directories(folder, error));
    remove_others(folder, before);
    snprintf(name, sizeof name, "%s%ld", generation_prefix, before + 1);
    RETURN_IF_ERROR(file_join(generation, sizeof generation, folder, name, error));
    Status status = write_generation(generation, variables, values, config, error);
    if (status == STATUS_OK) status = link_files(folder, error);
    if (status == STATUS_OK) status = replace_link(folder, "current", name, error);
    if (status == STATUS_OK) status = sync_folder(folder, error);
    remove_others(folder, current_generation(folder));
    return status;
}

bool checkpoint_exists(const char *folder)
{
    return current_generation(folder) >= 0;
}

/* --- loading --- */

static Status read_variable(const Safetensors *file, const char *path, Variables *variables, int index, Error *error)
{
    const char *name = variables_name(variables, index);
    const Tensor *tensor = safetensors_find(file, name);
    return tensor == NULL ? error_set(error, STATUS_DATA_LOSS, "%s lacks the tensor '%s'", path, name)
                          : variables_write(variables, index, tensor->data, tensor->size, error);
}

static Status check_variable(const Safetensors *file, const char *path, const Variables *variables, int index,
                             Error *error)
{
    const char *name = variables_name(variables, index);
    const Tensor *tensor = safetensors_find(file, name);
    Tensor own = look(variables, index, NULL);
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (tensor == NULL || (tensor->dtype == own.dtype && shape_equal(tensor->shape, own.shape))) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "tensor '%s' in %s is %s %s, expected %s %s", name, path,
                     dtype_name(tensor->dtype), shape_text(tensor->shape, a), dtype_name(own.dtype),
                     shape_text(own.shape, b));
}

/* Checks all before it changes one. */
static Status load_file(const char *path, Variables *variables, bool trainable, bool complete, bool strict,
                        Error *error)
{
    Safetensors *file = NULL;
    RETURN_IF_ERROR(safetensors_open(path, &file, error));
    Status status = STATUS_OK;
    int count = variables_count(variables), found = 0, missing = 0;
    for (int i = 0; i < count && status == STATUS_OK; i++) {
        if (variables_trainable(variables, i) != trainable) continue;
        status = check_variable(file, path, variables, i, error);
        bool there = safetensors_find(file, variables_name(variables, i)) != NULL;
        found += there;
        missing += !there;
        const bool optional = loss_scale_has_state(variables_name(variables, i));
        if (status == STATUS_OK && !there && !optional && (complete || strict))
            status = error_set(error, complete ? STATUS_DATA_LOSS : STATUS_FAILED_PRECONDITION,
                               "%s lacks the tensor '%s'", path, variables_name(variables, i));
    }
    if (status == STATUS_OK && found == 0 && missing > 0 && !complete)
        status = error_set(error, STATUS_INVALID_ARGUMENT, "%s holds none of the soma's %d tensors ('%s', ...)", path,
                           missing, variables_name(variables, 0));
    for (int i = 0; i < count && status == STATUS_OK; i++) {
        if (variables_trainable(variables, i) != trainable) continue;
        if (safetensors_find(file, variables_name(variables, i)) != NULL)
            status = read_variable(file, path, variables, i, error);
        else
            log_warning("%s lacks the tensor '%s': it keeps its initial value", path, variables_name(variables, i));
    }
    safetensors_close(file);
    return status;
}

Status checkpoint_load_model(const char *path, Variables *variables, bool strict, Error *error)
{
    char file[CHECKPOINT_PATH_SIZE];
    struct stat info;
    if (stat(path, &info) != 0) return error_set_errno(error, errno, "can't load %s", path);
    if (!S_ISDIR(info.st_mode)) return load_file(path, variables, true, false, strict, error);
    RETURN_IF_ERROR(file_join(file, sizeof file, path, MODEL, error));
    return load_file(file, variables, true, false, strict, error);
}

static Status read_values(const char *path, CheckpointValues *values, Error *error)
{
    Safetensors *file = NULL;
    RETURN_IF_ERROR(safetensors_open(path, &file, error));
    Status status = STATUS_OK;
    for (size_t i = 0; i < values->count && status == STATUS_OK; i++) {
        const char *text = safetensors_metadata(file, values->items[i].name);
        char *end = NULL;
        errno = 0;
        if (text != NULL) values->items[i].value = strtoll(text, &end, 10);
        if (text == NULL || errno != 0 || end == text || *end != '\0')
            status = error_set(error, STATUS_DATA_LOSS, "'%s' in %s is '%s', expected an integer",
                               values->items[i].name, path, text != NULL ? text : "missing");
    }
    safetensors_close(file);
    return status;
}

Status checkpoint_load(const char *folder, Variables *variables, CheckpointValues *values, Error *error)
{
    char model[CHECKPOINT_PATH_SIZE], state[CHECKPOINT_PATH_SIZE];
    if (!checkpoint_exists(folder))
        return error_set(error, STATUS_NOT_FOUND, "%s holds no checkpoint to resume", folder);
    RETURN_IF_ERROR(file_join(model, sizeof model, folder, "current/" MODEL, error));
    RETURN_IF_ERROR(file_join(state, sizeof state, folder, "current/" STATE, error));
    RETURN_IF_ERROR(load_file(model, variables, true, true, false, error));
    RETURN_IF_ERROR(load_file(state, variables, false, true, false, error));
    return read_values(state, values, error);
}
