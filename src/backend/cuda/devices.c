/* Where the figures come from. None was read from a device, and none measured: they are what NVIDIA publishes, as it is
 * quoted, dense (half of what a sheet gives "with sparsity"):
 *   A100  SXM4, 80 GB: data sheet, Ampere architecture white paper
 *   H100  SXM5: data sheet, Hopper architecture white paper
 *   L4    data sheet; tensor rates are half of its 120 (TF32) and 242 (half precision) TFLOP/s with sparsity
 *   B200  HGX, 1000 W. Quotations differ: memory 7.7 or 8 TB/s, FP32 75 or 80 TFLOP/s, TF32 1.1 or 1.13 PFLOP/s. FP32
 * is what 148 multiprocessors of 128 lanes do at the clock below. Memory, cache and the properties for cuDNN are
 * typical of such devices: a live one differs a little. `launch` is an estimate without a source: kernels that depend
 * on each other inside a CUDA graph start 1 to 1.5 us apart. */
#include "backend/cuda/devices.h"

#include <strings.h>

/* cuDNN wants all 23 fields. deviceVer is 100 major + 10 minor. */
#define PROPERTIES(title, version, multiprocessors, shared, blocks, threads, memory, clock, memory_clock, l2)          \
    "{\"deviceVer\":" #version ",\"multiProcessorCount\":" #multiprocessors                                            \
    ",\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":" #shared                     \
    ",\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":" #blocks                     \
    ",\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":" #threads ",\"regsPerBlock\":65536,\"totalGlobalMem\":" #memory \
    ",\"smClockRateKHz\":" #clock ",\"l2CacheSize\":" #l2                                                              \
    ",\"maxBlockSize\":[1024,1024,64],\"memClockRateKHz\":" #memory_clock                                              \
    ",\"maxGridSize\":[2147483647,65535,65535],\"supportCoopLaunch\":1,\"pciDeviceId\":0,\"isTccDriver\":0,"           \
    "\"cudaDeviceId\":0,\"driverVer\":13000,\"deviceName\":\"" title "\"}"

static const DeviceSheet sheets[] = {
    {
        .name = "a100",
        .title = "NVIDIA A100-SXM4-80GB",
        .sm = 80,
        .multiprocessors = 108,
        .memory = 85097971712,
        .l2_cache = 41943040,
        .clock = 1.41e9,
        .bandwidth = 2.039e12,
        .link = 32e9,
        .fp32 = 19.5e12,
        .tf32 = 156e12,
        .bf16 = 312e12,
        .fp16 = 312e12,
        .launch = 1.5e-6,
        .properties =
            PROPERTIES("NVIDIA A100-SXM4-80GB", 800, 108, 166912, 32, 2048, 85097971712, 1410000, 1593000, 41943040),
    },
    {
        .name = "h100",
        .title = "NVIDIA H100 80GB HBM3",
        .sm = 90,
        .multiprocessors = 132,
        .memory = 85017624576,
        .l2_cache = 52428800,
        .clock = 1.98e9,
        .bandwidth = 3.35e12,
        .link = 64e9,
        .fp32 = 67e12,
        .tf32 = 494.5e12,
        .bf16 = 989.5e12,
        .fp16 = 989.5e12,
        .launch = 1.3e-6,
        .properties =
            PROPERTIES("NVIDIA H100 80GB HBM3", 900, 132, 232448, 32, 2048, 85017624576, 1980000, 2619000, 52428800),
    },
    {
        .name = "l4",
        .title = "NVIDIA L4",
        .sm = 89,
        .multiprocessors = 58,
        .memory = 23580639232,
        .l2_cache = 50331648,
        .clock = 2.04e9,
        .bandwidth = 300e9,
        .link = 32e9,
        .fp32 = 30.3e12,
        .tf32 = 60e12,
        .bf16 = 121e12,
        .fp16 = 121e12,
        .launch = 1.5e-6,
        .properties = PROPERTIES("NVIDIA L4", 890, 58, 101376, 24, 1536, 23580639232, 2040000, 6251000, 50331648),
    },
    {
        .name = "b200",
        .title = "NVIDIA B200",
        .sm = 100,
        .multiprocessors = 148,
        .memory = 191503138816,
        .l2_cache = 132644864,
        .clock = 1.965e9,
        .bandwidth = 8e12,
        .link = 64e9,
        .fp32 = 75e12,
        .tf32 = 1.1e15,
        .bf16 = 2.25e15,
        .fp16 = 2.25e15,
        .launch = 1.3e-6,
        .properties = PROPERTIES("NVIDIA B200", 1000, 148, 232448, 32, 2048, 191503138816, 1965000, 3996000, 132644864),
    },
};

size_t device_count(void)
{
    return sizeof sheets / sizeof sheets[0];
}

const DeviceSheet *device_at(size_t index)
{
    return index < device_count() ? &sheets[index] : NULL;
}

const DeviceSheet *device_find(const char *name)
{
    for (size_t i = 0; i < device_count(); i++)
        if (strcasecmp(sheets[i].name, name) == 0) return &sheets[i];
    return NULL;
}

double device_peak(const DeviceSheet *device, DType type, bool tf32)
{
    switch (type) {
    case DTYPE_F32:
        return tf32 ? device->tf32 : device->fp32;
    case DTYPE_BF16:
        return device->bf16;
    case DTYPE_F16:
        return device->fp16;
    default:
        return 0;
    }
}
