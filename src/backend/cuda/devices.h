/* Published figures of the GPUs that plans are made for ahead of time, and rooflines are drawn for, on hosts
 * that have none of them. Constants: nothing to own, any thread may read them. */
#pragma once

#include <stddef.h>

#include "tensor/dtype.h"

typedef struct DeviceSheet {
    const char *name;  /* what users type: "h100" */
    const char *title; /* as the driver calls it: "NVIDIA H100 80GB HBM3" */
    int sm;            /* 10 major + minor of the compute capability: 90 */
    size_t multiprocessors;
    size_t memory;          /* bytes that programs can have */
    size_t l2_cache;        /* bytes */
    double clock;           /* boost, Hz */
    double bandwidth;       /* of memory, B/s */
    double link;            /* to the host, in one direction, B/s: 16 lanes of PCIe 4 or 5 */
    double fp32, tf32;      /* peak FLOP/s, a multiply-add being two; TF32 and half precision on dense tensor cores */
    double bf16, fp16;      /* sums in float */
    double launch;          /* seconds from the start of one small kernel to that of the next, inside a CUDA graph */
    const char *properties; /* for dnn_open_for */
} DeviceSheet;

size_t device_count(void);
const DeviceSheet *device_at(size_t index);       /* NULL past the end */
const DeviceSheet *device_find(const char *name); /* NULL where there is none of that name; case doesn't matter */
/* Peak FLOP/s of products of `type` (F32, BF16, F16) with sums in float; 0 for others. */
double device_peak(const DeviceSheet *device, DType type, bool tf32);
