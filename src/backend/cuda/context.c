/* Opening devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/plans_ahead.h"
#include "base/text.h"

static void close_device(CudaContext *cuda)
{
    if (!cuda->planning) cudaSetDevice(cuda->device);
    dnn_close(cuda->dnn);
    blas_close(cuda->blas);
    for (int side = 0; side < SIDES; side++)
        if (cuda->sides[side] != NULL) cudaStreamDestroy(cuda->sides[side]);
    if (cuda->stream != NULL) cudaStreamDestroy(cuda->stream);
    if (cuda->copies != NULL) cudaStreamDestroy(cuda->copies);
}

void devices_close(void *opaque)
{
    CudaDevices *devices = opaque;
    if (devices == NULL) return;
    ranks_close(devices->ranks);
    plans_ahead_close(devices->ahead);
    for (int r = 0; r < devices->count; r++)
        close_device(&devices->replicas[r]);
    device_variables_destroy(devices->variables);
    free(devices->replicas);
    free(devices);
}

static Status open_device(CudaContext *cuda, struct cudaDeviceProp *properties, Error *error)
{
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), error);
    RETURN_IF_CUDA(cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking), error);
    for (int side = 0; side < SIDES; side++)
        RETURN_IF_CUDA(cudaStreamCreateWithFlags(&cuda->sides[side], cudaStreamNonBlocking), error);
    RETURN_IF_ERROR(dnn_open(&cuda->dnn, error));
    RETURN_IF_ERROR(blas_open(&cuda->blas, error));
    RETURN_IF_CUDA(cudaGetDeviceProperties(properties, cuda->device), error);
    for (size_t i = 0; device_at(i) != NULL; i++)
        if (strcmp(device_at(i)->title, properties->name) == 0) cuda->sheet = device_at(i);
    return STATUS_OK;
}

/* "0", "1", "0,1", …: numbers of different devices of this host. */
static Status parse_ordinals(const char *ordinals, int *numbers, int *count, Error *error)
{
    int there = 0;
    const cudaError_t result = cudaGetDeviceCount(&there);
    if (result != cudaSuccess)
        return error_set(error, STATUS_FAILED_PRECONDITION, "this host has no CUDA device that can be used: %s (%s)",
                         cudaGetErrorString(result), cudaGetErrorName(result));
    *count = 0;
    for (const char *at = ordinals; *at != '\0';) {
        char *end;
        const long number = strtol(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || (*end != '\0' && (*end != ',' || end[1] == '\0')))
            return error_set(error, STATUS_INVALID_ARGUMENT, "device numbers '%s', expected such as 0 or 0,1",
                             ordinals);
        if (number >= there)
            return error_set(error, STATUS_INVALID_ARGUMENT, "device number %ld, but this host has %d", number, there);
        for (int i = 0; i < *count; i++)
            if (numbers[i] == number)
                return error_set(error, STATUS_INVALID_ARGUMENT, "device numbers '%s' name %ld twice", ordinals,
                                 number);
        if (*count == CUDA_MOST_DEVICES)
            return error_set(error, STATUS_INVALID_ARGUMENT, "device numbers '%s', expected at most %d", ordinals,
                             CUDA_MOST_DEVICES);
        numbers[(*count)++] = (int)number;
        at = *end == ',' ? end + 1 : end;
    }
    return *count > 0 ? STATUS_OK : error_set(error, STATUS_INVALID_ARGUMENT, "no device number after the colon");
}

static Status allocate_replicas(CudaDevices *devices, int count, const BackendOptions *options, Error *error)
{
    const DType activation = options->precision == PRECISION_BF16  ? DTYPE_BF16
                             : options->precision == PRECISION_F16 ? DTYPE_F16
                                                                   : DTYPE_F32;
    devices->replicas = calloc((size_t)count, sizeof *devices->replicas);
    if (devices->replicas == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d devices", count);
    devices->count = count;
    for (int r = 0; r < count; r++)
        devices->replicas[r] = (CudaContext){.activation = activation,
                                             .tf32 = options->precision == PRECISION_TF32,
                                             .memory_limit = options->memory_limit};
    return device_variables_create(&devices->variables, error);
}

/* One for all: the plans of one device suit the others. */
static Status open_ahead(CudaDevices *devices, const BackendOptions *options, const char *device, Error *error)
{
    RETURN_IF_ERROR(plans_ahead_open(options, device, !devices->replicas[0].planning, &devices->ahead, error));
    for (int r = 0; r < devices->count; r++)
        devices->replicas[r].ahead = devices->ahead;
    return STATUS_OK;
}

static const char *precision_text(const CudaContext *cuda)
{
    return cuda->tf32 ? "tf32" : dtype_name(cuda->activation);
}

/* A context for a GPU that this host needn't have. */
static Status plan_for(CudaDevices *devices, const BackendOptions *options, Error *error)
{
    RETURN_IF_ERROR(allocate_replicas(devices, 1, options, error));
    CudaContext *cuda = &devices->replicas[0];
    Text names = {0};
    cuda->sheet = device_find(options->plan_for);
    cuda->planning = true;
    for (size_t i = 0; device_at(i) != NULL; i++)
        text_append(&names, "%s%s", i > 0 ? ", " : "", device_at(i)->name);
    const Status status = cuda->sheet != NULL
                              ? STATUS_OK
                              : error_set(error, STATUS_INVALID_ARGUMENT, "plans for '%s', expected one of %s",
                                          options->plan_for, names.data != NULL ? names.data : "");
    text_free(&names);
    RETURN_IF_ERROR(status);
    snprintf(devices->description, sizeof devices->description, "plans for %s (sm_%d), %s", cuda->sheet->title,
             cuda->sheet->sm, precision_text(cuda));
    RETURN_IF_ERROR(dnn_open_for(cuda->sheet->properties, &cuda->dnn, error));
    return open_ahead(devices, options, cuda->sheet->title, error);
}

static Status describe(CudaDevices *devices, const struct cudaDeviceProp *first, Error *error)
{
    int runtime = 0;
    char times[24] = "";
    RETURN_IF_CUDA(cudaRuntimeGetVersion(&runtime), error);
    if (devices->count > 1) snprintf(times, sizeof times, "%d x ", devices->count);
    snprintf(devices->description, sizeof devices->description, "%s%.96s (sm_%d%d), CUDA %d.%d, %s", times, first->name,
             first->major, first->minor, runtime / 1000, runtime % 1000 / 10, precision_text(&devices->replicas[0]));
    return STATUS_OK;
}

static Status open_devices(CudaDevices *devices, const BackendOptions *options, const char *ordinals, Error *error)
{
    struct cudaDeviceProp first = {.name = ""}, other;
    int numbers[CUDA_MOST_DEVICES], count = 0;
    if (options->plan_for != NULL) return plan_for(devices, options, error);
    RETURN_IF_ERROR(parse_ordinals(ordinals != NULL ? ordinals : "0", numbers, &count, error));
    RETURN_IF_ERROR(allocate_replicas(devices, count, options, error));
    for (int r = 0; r < count; r++)
        devices->replicas[r].device = numbers[r];
    for (int r = 0; r < count; r++)
        RETURN_IF_ERROR(open_device(&devices->replicas[r], r == 0 ? &first : &other, error));
    if (count > 1) RETURN_IF_ERROR(ranks_open(numbers, count, &devices->ranks, error));
    RETURN_IF_ERROR(describe(devices, &first, error));
    return open_ahead(devices, options, first.name, error);
}

Status devices_open(const BackendOptions *options, const char *ordinals, void **out, Error *error)
{
    CudaDevices *devices = calloc(1, sizeof *devices);
    if (devices == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a CUDA context");
    const Status status = open_devices(devices, options, ordinals, error);
    if (status == STATUS_OK)
        *out = devices;
    else
        devices_close(devices);
    return status;
}
