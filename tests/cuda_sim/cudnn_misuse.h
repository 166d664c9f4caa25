/* Misuse of cuDNN's descriptors that needs no device: one table, run by the real library (tests/cuda_real) and by the
 * stand-in (tests/cuda_sim). What the real one refuses, the stand-in refuses with the same status; what the real one
 * lets pass although it can't mean anything, or crashes on, is a violation in the stand-in. */
#pragma once

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Misuse {
    const char *name;
    /* Runs up to the misuse: what the first call that refuses answers, or SUCCESS. `device` is a finalised device
     * property descriptor. */
    cudnnStatus_t (*run)(cudnnBackendDescriptor_t device, int variant);
    int variant;
    cudnnStatus_t status;  /* of the real library (9.19) */
    bool crashes;          /* in the real library */
    const char *violation; /* the call that the stand-in names when it ends the process; NULL: it answers `status` */
} Misuse;

extern const Misuse misuses[];
extern const size_t misuse_count;

/* Device properties, finalised. */
cudnnBackendDescriptor_t misuse_device(const char *json);
/* What a misuse answers in a process of its own: a status. */
enum { MISUSE_CRASHED = -1 };
int misuse_answer(const Misuse *misuse, cudnnBackendDescriptor_t device);
