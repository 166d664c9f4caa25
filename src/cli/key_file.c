#include "cli/key_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

Status key_file_path(const Options *options, char *out, size_t size, Error *error)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int length;
    if (options->key)
        length = snprintf(out, size, "%s", options->key);
    else if (config && *config)
        length = snprintf(out, size, "%s/neuron/key", config);
    else if (home && *home)
        length = snprintf(out, size, "%s/.config/neuron/key", home);
    else
        return error_set(error, STATUS_FAILED_PRECONDITION,
                         "no place for the key file: HOME isn't set, expected it or --key FILE");
    if (length < 0 || (size_t)length >= size)
        return error_set(error, STATUS_OUT_OF_RANGE, "path of the key file is %d bytes long, expected less than %zu",
                         length, size);
    return STATUS_OK;
}

Status key_file_save(const Identity *identity, const char *path, Error *error)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash && slash != path) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        RETURN_IF_ERROR(file_make_directories(folder, error));
    }
    return identity_save(identity, path, error);
}

Status key_file_open(const Options *options, Identity *out, Error *error)
{
    char path[PATH_MAX];
    Identity made;
    RETURN_IF_ERROR(key_file_path(options, path, sizeof path, error));
    Status status = identity_load(path, out, error);
    if (status != STATUS_NOT_FOUND) return status;
    RETURN_IF_ERROR(identity_create(&made, error));
    status = key_file_save(&made, path, error);
    if (status == STATUS_ALREADY_EXISTS) return identity_load(path, out, error); /* another neuron was faster */
    if (status != STATUS_OK) return status;
    log_info("made a new identity, %s, in %s", made.text, path);
    *out = made;
    return STATUS_OK;
}
