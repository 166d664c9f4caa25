/* A run folder: model.safetensors (parameters, under PyTorch's names), state.safetensors (everything else that a step
 * changes, and where the run is) and config.json, replaced as one generation.
 *
 * The three files lie in <folder>/generation-<n>/; <folder>/current is a symbolic link to the newest generation, moved
 * by one rename; model.safetensors and so on in the folder are links through it. A crash at any moment leaves the
 * generation before or the one after, whole. Older generations are removed after the move, and what a crash left behind
 * at the next save. One process at a time writes to a run folder (a lock file says so). */
#pragma once

#include "backend/backend.h"

enum { CHECKPOINT_VALUES = 16, CHECKPOINT_PATH_SIZE = 4096 };

/* Named integers beside the tensors: the step, the places in the data, the seed. */
typedef struct CheckpointValues {
    size_t count;
    struct {
        const char *name;
        int64_t value;
    } items[CHECKPOINT_VALUES];
} CheckpointValues;

typedef struct CheckpointLock {
    int file; /* -1: not held */
} CheckpointLock;

/* Makes the folder where need be, and takes its lock: ALREADY_EXISTS (with the folder's name) while another process
 * holds it. */
Status checkpoint_lock(const char *folder, CheckpointLock *out, Error *error);
void checkpoint_unlock(CheckpointLock *lock);

/* `config` is the text of config.json. */
Status checkpoint_save(const char *folder, const Variables *variables, const CheckpointValues *values,
                       const char *config, Error *error);

bool checkpoint_exists(const char *folder);

/* Parameters, from a run folder, a folder with model.safetensors, or a .safetensors file. A tensor of another shape or
 * dtype is an error, and nothing is changed. Parameters that the file lacks keep their values: each is named in a
 * warning in the log, or, with `strict`, in an error. */
Status checkpoint_load_model(const char *path, Variables *variables, bool strict, Error *error);

/* Everything, as the save left it: every variable must be there (DATA_LOSS else), and every value of `values` is set by
 * its name. */
Status checkpoint_load(const char *folder, Variables *variables, CheckpointValues *values, Error *error);
