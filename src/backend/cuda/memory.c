/* Variables in the memory of devices: the same on each, and, where a plan wants it so, once more in the activation type
 * (a low copy), which whoever writes the variable writes too. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"

typedef struct DeviceVariable {
    size_t bytes;
    void *at[CUDA_MOST_DEVICES];  /* at[0] is the address that everybody knows */
    void *low[CUDA_MOST_DEVICES]; /* NULL: nobody has wanted it */
} DeviceVariable;

typedef struct DeviceVariables {
    pthread_mutex_t lock; /* guards the rest */
    DeviceVariable *items;
    int count, capacity;
} DeviceVariables;

Status device_variables_create(DeviceVariables **out, Error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for variables");
    pthread_mutex_init(&(*out)->lock, NULL);
    return STATUS_OK;
}

void device_variables_destroy(DeviceVariables *variables)
{
    if (variables == NULL) return;
    pthread_mutex_destroy(&variables->lock);
    free(variables->items);
    free(variables);
}

/* With the lock held. NULL: no variable begins there. */
static DeviceVariable *find(DeviceVariables *variables, const void *address)
{
    for (int i = 0; i < variables->count; i++)
        if (variables->items[i].at[0] == address) return &variables->items[i];
    return NULL;
}

/* A copy of what is known of a variable; all NULL where none begins there. */
static DeviceVariable look_up(const CudaDevices *devices, const void *address)
{
    DeviceVariables *variables = devices->variables;
    pthread_mutex_lock(&variables->lock);
    const DeviceVariable *found = find(variables, address);
    const DeviceVariable known = found != NULL ? *found : (DeviceVariable){.bytes = 0};
    pthread_mutex_unlock(&variables->lock);
    return known;
}

void *devices_variable(const CudaDevices *devices, int replica, void *variable)
{
    return look_up(devices, variable).at[replica];
}

static Status remember(DeviceVariables *variables, const DeviceVariable *variable, Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&variables->lock);
    if (variables->count == variables->capacity) {
        const int capacity = variables->capacity > 0 ? 2 * variables->capacity : 64;
        DeviceVariable *moved = realloc(variables->items, (size_t)capacity * sizeof *moved);
        if (moved == NULL)
            status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d variables", capacity);
        else
            variables->items = moved, variables->capacity = capacity;
    }
    if (status == STATUS_OK) variables->items[variables->count++] = *variable;
    pthread_mutex_unlock(&variables->lock);
    return status;
}

static DeviceVariable forget(DeviceVariables *variables, const void *address)
{
    DeviceVariable known = {.bytes = 0};
    pthread_mutex_lock(&variables->lock);
    DeviceVariable *found = find(variables, address);
    if (found != NULL) {
        known = *found;
        *found = variables->items[--variables->count];
    }
    pthread_mutex_unlock(&variables->lock);
    return known;
}

/* --- memory of one device --- */

static Status allocate_on(const CudaContext *cuda, size_t bytes, void **out, Error *error)
{
    if (bytes == 0) bytes = CUDA_VECTOR;
    if (cuda->planning) {
        *out = malloc(bytes);
        return *out != NULL ? STATUS_OK : error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %zu bytes", bytes);
    }
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMalloc(out, bytes), error);
    return STATUS_OK;
}

static void release_on(const CudaContext *cuda, void *memory)
{
    if (cuda->planning) {
        free(memory);
    } else if (memory != NULL) {
        cudaSetDevice(cuda->device);
        cudaFree(memory);
    }
}

/* On a stream of its own: another thread may be capturing the context's. */
static Status copy_on(const CudaContext *cuda, void *to, const void *from, size_t bytes, Error *error)
{
    if (cuda->planning) {
        memcpy(to, from, bytes);
        return STATUS_OK;
    }
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda->copies), error);
    RETURN_IF_CUDA(cudaStreamSynchronize(cuda->copies), error);
    return STATUS_OK;
}

static Status zero_on(const CudaContext *cuda, void *memory, size_t bytes, Error *error)
{
    if (cuda->planning) {
        memset(memory, 0, bytes);
        return STATUS_OK;
    }
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMemsetAsync(memory, 0, bytes, cuda->copies), error);
    RETURN_IF_CUDA(cudaStreamSynchronize(cuda->copies), error);
    return STATUS_OK;
}

/* --- low copies --- */

static Status lower_on(const CudaContext *cuda, const void *variable, size_t bytes, void *low, Error *error)
{
    if (cuda->planning) return STATUS_OK; /* nobody reads it */
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(
        kernel_affine(DTYPE_F32, variable, cuda->activation, low, (int64_t)(bytes / sizeof(float)), 1, 0, cuda->copies),
        error);
    RETURN_IF_CUDA(cudaStreamSynchronize(cuda->copies), error);
    return STATUS_OK;
}

static void release_low(const CudaDevices *devices, DeviceVariable *variable)
{
    for (int r = 0; r < devices->count; r++) {
        release_on(&devices->replicas[r], variable->low[r]);
        variable->low[r] = NULL;
    }
}

static Status make_low(const CudaDevices *devices, DeviceVariable *variable, Error *error)
{
    const size_t bytes = variable->bytes / sizeof(float) * dtype_size(devices->replicas[0].activation);
    Status status = STATUS_OK;
    for (int r = 0; r < devices->count && status == STATUS_OK; r++) {
        const CudaContext *cuda = &devices->replicas[r];
        status = allocate_on(cuda, bytes, &variable->low[r], error);
        if (status == STATUS_OK) status = lower_on(cuda, variable->at[r], variable->bytes, variable->low[r], error);
    }
    if (status != STATUS_OK) release_low(devices, variable);
    return status;
}

Status devices_low_variable(const CudaDevices *devices, int replica, void *variable, void **out, Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&devices->variables->lock);
    DeviceVariable *known = find(devices->variables, variable);
    if (known->low[0] == NULL) status = make_low(devices, known, error);
    *out = known->low[replica];
    pthread_mutex_unlock(&devices->variables->lock);
    return status;
}

/* --- the driver's functions --- */

static void release_all(const CudaDevices *devices, DeviceVariable *variable)
{
    release_low(devices, variable);
    for (int r = 0; r < devices->count; r++)
        release_on(&devices->replicas[r], variable->at[r]);
}

Status variable_allocate(void *context, size_t bytes, void **out, Error *error)
{
    const CudaDevices *devices = context;
    DeviceVariable variable = {.bytes = bytes};
    Status status = STATUS_OK;
    for (int r = 0; r < devices->count && status == STATUS_OK; r++)
        status = allocate_on(&devices->replicas[r], bytes, &variable.at[r], error);
    if (status == STATUS_OK) status = remember(devices->variables, &variable, error);
    if (status != STATUS_OK) release_all(devices, &variable);
    *out = variable.at[0];
    return status;
}

void variable_release(void *context, void *memory)
{
    const CudaDevices *devices = context;
    DeviceVariable variable = forget(devices->variables, memory);
    release_all(devices, &variable);
}

Status variable_copy(void *context, void *to, const void *from, size_t bytes, Error *error)
{
    const CudaDevices *devices = context;
    if (bytes == 0) return STATUS_OK;
    RETURN_IF_ERROR(copy_on(&devices->replicas[0], to, from, bytes, error));
    const DeviceVariable variable = look_up(devices, to); /* none: `to` is the host's */
    for (int r = 1; r < devices->count && variable.at[r] != NULL; r++)
        RETURN_IF_ERROR(copy_on(&devices->replicas[r], variable.at[r], from, bytes, error));
    for (int r = 0; r < devices->count && variable.low[r] != NULL; r++)
        RETURN_IF_ERROR(lower_on(&devices->replicas[r], variable.at[r], bytes, variable.low[r], error));
    return STATUS_OK;
}

Status variable_zero(void *context, void *memory, size_t bytes, Error *error)
{
    const CudaDevices *devices = context;
    const DeviceVariable variable = look_up(devices, memory);
    for (int r = 0; r < devices->count; r++) {
        const CudaContext *cuda = &devices->replicas[r];
        RETURN_IF_ERROR(zero_on(cuda, variable.at[r], bytes, error));
        if (variable.low[r] == NULL) continue;
        RETURN_IF_ERROR(zero_on(cuda, variable.low[r], bytes / sizeof(float) * dtype_size(cuda->activation), error));
    }
    return STATUS_OK;
}
