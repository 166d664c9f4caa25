#include "backend/plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* The one plug-in of this process. */
static struct {
    pthread_mutex_t lock; /* guards the rest */
    char name[32];        /* "": none yet */
    const BackendDriver *driver;
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static Status plugin_path(const char *name, char *out, Error *error)
{
    char folder[PATH_SIZE];
    const char *given = getenv("NEURON_PLUGINS");
    if (given == NULL || *given == '\0') {
        const ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
        if (length < 0) return error_set(error, STATUS_FAILED_PRECONDITION, "the program's folder can't be read");
        folder[length] = '\0';
        char *slash = strrchr(folder, '/');
        if (slash != NULL) *slash = '\0';
        given = folder;
    }
    if ((size_t)snprintf(out, PATH_SIZE, "%s/neuron-%s.so", given, name) >= PATH_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "the path of the plug-in '%s' is too long", name);
    return STATUS_OK;
}

/* Asked first, since without a driver the libraries behind the plug-in need not be read at all. */
static Status find_driver(const char *name, bool runs, Error *error)
{
    if (!runs || strcmp(name, "cuda") != 0 || dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != NULL) return STATUS_OK;
    return error_set(error, STATUS_FAILED_PRECONDITION,
                     "device 'cuda' needs an NVIDIA GPU and its driver, and this host has no driver (%s)", dlerror());
}

static Status load(const char *name, const BackendDriver **out, Error *error)
{
    static const PluginAbi expected = BACKEND_PLUGIN_ABI;
    char path[PATH_SIZE];
    RETURN_IF_ERROR(plugin_path(name, path, error));
    if (access(path, R_OK) != 0)
        return error_set(error, STATUS_FAILED_PRECONDITION,
                         "device '%s' needs the plug-in %s, which this build doesn't have (scripts/setup.sh --cuda "
                         "brings what it is built with)",
                         name, path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return error_set(error, STATUS_FAILED_PRECONDITION, "device '%s' can't be used: %s", name, dlerror());
    const BackendPlugin *(*plugin)(void);
    void *symbol = dlsym(library, "neuron_backend_plugin");
    memcpy(&plugin, &symbol, sizeof plugin);
    if (symbol == NULL || memcmp(&plugin()->abi, &expected, sizeof expected) != 0) {
        dlclose(library);
        return error_set(error, STATUS_FAILED_PRECONDITION, "the plug-in %s was built with another program", path);
    }
    *out = plugin()->driver;
    return STATUS_OK;
}

Status plugin_load(const char *name, bool runs, const BackendDriver **out, Error *error)
{
    Status status = find_driver(name, runs, error);
    if (status != STATUS_OK) return status;
    pthread_mutex_lock(&loaded.lock);
    if (loaded.driver != NULL && strcmp(loaded.name, name) != 0) {
        status = error_set(error, STATUS_FAILED_PRECONDITION, "device '%s' can't be used beside '%s' in one process",
                           name, loaded.name);
    } else if (loaded.driver == NULL) {
        status = load(name, &loaded.driver, error);
        if (status == STATUS_OK) snprintf(loaded.name, sizeof loaded.name, "%s", name);
    }
    *out = loaded.driver;
    pthread_mutex_unlock(&loaded.lock);
    return status;
}
