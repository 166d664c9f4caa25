/* Misuse of cuDNN's descriptors that needs no device: tables that are run by the real library (tests/cuda_real) and by
 * the stand-in (tests/cuda_sim). What the real one refuses, the stand-in refuses with the same status; what the real
 * one lets pass although it can't mean anything, or crashes on, is a violation in the stand-in. */
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

/* How a row of the tables ends. */
#define ANSWERS(name)      CUDNN_STATUS_##name, false, NULL
#define PASSES(violation)  CUDNN_STATUS_SUCCESS, false, violation
#define CRASHES(violation) CUDNN_STATUS_SUCCESS, true, violation

typedef struct MisuseTable {
    const Misuse *rows;
    size_t count;
} MisuseTable;

extern const MisuseTable misuses_of_descriptors, misuses_of_graphs;

/* Both tables as one. */
size_t misuse_count(void);
const Misuse *misuse_at(size_t index);

/* Device properties, finalised. */
cudnnBackendDescriptor_t misuse_device(const char *json);
/* What a misuse answers in a process of its own: a status. */
enum { MISUSE_CRASHED = -1 };
int misuse_answer(const Misuse *misuse, cudnnBackendDescriptor_t device);
