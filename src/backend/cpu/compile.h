/* From a graph to steps in memory: compile.c decides layouts and views (drafts), place.c gives them addresses and makes
 * the steps. Internal to backend/cpu. */
#pragma once

#include "backend/cpu/cpu.h"
#include "base/tasks.h"

/* A (value, layout) pair, or a dense copy of one. */
typedef struct Slot {
    Value value;
    Layout layout;
    int parent;      /* the slot whose memory this one looks into; -1: its own */
    int64_t offset;  /* elements into the parent */
    bool keeps_rows; /* dimension 0 is the parent's, so that the parent's row stride holds */
    bool fixed;      /* an input or an output: lives as long as the plan, dense */
    bool constant;   /* of a frozen plan: computed once a refresh */
    void *external;  /* a state's memory */
    int first, last; /* lifetime in drafts; own memory only */
    size_t arena;    /* offset in the arena */
} Slot;

typedef enum DraftKind { DRAFT_NODE, DRAFT_CONVERT, DRAFT_COPY } DraftKind;

/* A step before it has addresses. */
typedef struct Draft {
    DraftKind kind;
    const Node *node; /* what it does, or on whose behalf it moves */
    Attributes attributes;
    int *inputs; /* slots; -1: absent */
    int input_count, output_count;
    int outputs[NODE_MAX_OUTPUTS];
    bool constant, dropped;
} Draft;

typedef struct Compiler {
    const Graph *graph;
    Variables *variables;
    const SimdKernels *simd;
    int threads;
    bool frozen;
    Slot *slots;
    int slot_count, slot_capacity;
    int *slot_of; /* [value][layout] -> slot, -1: none yet */
    int *uses;    /* by value */
    Draft *drafts;
    int draft_count, draft_capacity;
} Compiler;

/* Layouts, conversions, views, states in place. */
Status compile_drafts(Compiler *compiler, Error *error);
void compiler_free(Compiler *compiler);

/* The slot that owns the memory, the elements from its start, and the row stride that holds for the slot (PLAIN). */
int slot_root(const Compiler *compiler, int slot, int64_t *offset, int64_t *stride);
size_t slot_bytes(const Compiler *compiler, int slot);
DType slot_dtype(const Compiler *compiler, int slot);
Shape slot_shape(const Compiler *compiler, int slot);

typedef struct CpuPlan {
    Team *team;
    Step *steps; /* the constant ones first */
    int constant_count, step_count;
    int constant_tasks; /* shares of the constant steps */
    unsigned char *arena;
    size_t arena_bytes;
    View *views; /* all steps' inputs */
    const Graph *graph;
    Tensor *values; /* by value: inputs and outputs of the graph in plain memory */
    bool profile;
    uint64_t *marks;     /* profile: clock at each step of the present run */
    struct PlannedTask { /* a share of a step, in the order of steps */
        int step, share;
    } * tasks;
    TaskList *constant_list, *list; /* the steps of a refresh, and of a run */
} CpuPlan;

/* Memory, steps, barriers. */
Status place_steps(const Compiler *compiler, CpuPlan *plan, size_t memory_limit, Error *error);
