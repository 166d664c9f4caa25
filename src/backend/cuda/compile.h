/* From a graph to steps in device memory: compile.c decides types and views (drafts), fuse.c what becomes one step, and
 * place.c gives them addresses and makes the steps. Internal to backend/cuda. */
#pragma once

#include "backend/cuda/cuda.h"

typedef enum SlotHome { HOME_ARENA, HOME_INPUT, HOME_OUTPUT, HOME_GRADIENT, HOME_VARIABLE } SlotHome;

/* A (value, type) pair, a dense copy of one, or memory that belongs to no value (value: none). */
typedef struct Slot {
    Value value;
    DType dtype;
    Shape shape;
    int parent;      /* the slot whose memory this one looks into; -1: its own */
    int64_t offset;  /* elements into the parent */
    bool keeps_rows; /* dimension 0 is the parent's, so that the parent's row stride holds */
    SlotHome home;   /* of own memory: the arena, or for as long as the plan lives what the host copies to and from, and
                        what devices reduce */
    bool constant;   /* of a frozen plan: computed once a refresh */
    void *variable;  /* HOME_VARIABLE: its memory, or that of its low copy */
    /* HOME_INPUT, HOME_OUTPUT, HOME_GRADIENT: */
    size_t place; /* offset in it */
    int turn;     /* the first draft that reads the input, or the last one that writes the output or the gradient;
                     draft_count: none */
} Slot;

/* A step before it has addresses. */
typedef struct Draft {
    int kind;         /* an OperationKind, or one of cuda.h's */
    const Node *node; /* what it does, or on whose behalf it moves; NULL: at the end of a run */
    Attributes attributes;
    int *inputs, *outputs; /* slots; -1: absent */
    int input_count, output_count;
    bool constant, dropped;
    double flops, bytes;
} Draft;

enum { FORM_OWN, FORM_ACTIVATION, FORM_COUNT };

typedef struct Compiler {
    const CudaDevices *devices;
    const CudaContext *cuda; /* the one that is compiled for, which is replica `part` */
    int part;
    const Graph *graph;
    Variables *variables;
    bool frozen;
    Slot *slots;
    int slot_count, slot_capacity;
    int *slot_of; /* [value][form] -> slot, -1: none yet */
    int *uses;    /* by value: nodes, outputs and assignments that read it */
    int *reader;  /* by value: the last node that reads it, -1: none */
    bool *taken;  /* by node: part of a fused draft */
    int *masks;   /* by value: the slot of the mask that a linear layer keeps, -1: none */
    Draft *drafts;
    int draft_count, draft_capacity;
} Compiler;

/* Types, views, fusions, states in place. */
Status compile_drafts(Compiler *compiler, Error *error);
void compiler_free(Compiler *compiler);

/* The slot that owns the memory, the elements from its start, and the row stride that holds for the slot. */
int slot_root(const Compiler *compiler, int slot, int64_t *offset, int64_t *stride);
size_t slot_bytes(const Compiler *compiler, int slot);

Status no_memory(Error *error); /* STATUS_RESOURCE_EXHAUSTED */

/* --- drafts.c --- */

int add_slot(Compiler *compiler, Value value, DType dtype, Shape shape); /* -1: no memory */
/* A slot of a value in its own shape, which from now on is where the value is in that dtype. -1: no memory. */
int publish(Compiler *compiler, Value value, DType dtype);
Draft *add_draft(Compiler *compiler, int kind, const Node *node, int inputs, int outputs);
Status draft_copy(Compiler *compiler, const Node *node, int from, int to, Error *error);
int *slot_form(Compiler *compiler, Value value, int form);
int *slot_in(Compiler *compiler, Value value, DType dtype); /* the form that has this dtype */
/* The slot of a value in a dtype, converted where need be; with dense rows unless `strided`. */
Status require(Compiler *compiler, const Node *node, Value value, DType dtype, bool strided, int *out, Error *error);
/* The address of a state's variable on the first device. */
void *state_memory(const Compiler *compiler, const ValueInfo *state);
/* Makes memory that is there the state's in that dtype; -1: no memory. */
int declare_state(Compiler *compiler, Value state, DType dtype, void *memory);
/* The activation type where the value is there in it, or will be: inputs of the graph are converted once. */
DType present_type(Compiler *compiler, Value value);
DType input_type(Compiler *compiler, const Node *node, int kind, int index);
DType output_type(Compiler *compiler, const Node *node, int kind, int index);

/* --- fuse.c --- */

/* Tries what fuse.c knows on the node: *fused tells whether a draft was made for it (and for those it takes with it).
 */
Status fuse(Compiler *compiler, int node, bool *fused, Error *error);

/* Bytes that move together beside the steps: inputs that come before the first step that reads one of them, outputs
 * that go after the last step that writes one of them, gradients that devices reduce then. */
typedef struct Bucket {
    int step;
    size_t begin, end; /* from the home's first byte */
} Bucket;

typedef struct Buckets {
    Bucket *items;
    int count;
} Buckets;

/* What one device computes of a plan. */
typedef struct CudaPart {
    const CudaContext *cuda;
    CudaStep *steps; /* the constant ones first */
    int constant_count, step_count;
    CudaView *views;
    unsigned char *arena; /* device memory */
    size_t arena_bytes, input_bytes, output_bytes, gradient_bytes;
    size_t inputs_at, outputs_at, gradients_at; /* in the arena: what is copied from and to the host, and reduced */
    Buckets inputs, outputs, gradients;         /* in the order of steps */
    int wait_before;                            /* the step that reads reduced gradients first */
} CudaPart;

/* The events of a part, by the stream that others follow: one of each side, and its own. */
enum { JOIN_PART = SIDES, PLAN_JOINS };

typedef struct CudaPlan {
    CudaDevices *devices;
    const Graph *graph;
    CudaPart *parts; /* one a device, or one alone; all have the same steps */
    int part_count;
    bool shared;                    /* each part computes its own samples of the batch */
    unsigned char *host;            /* pinned: each part's inputs, then each part's outputs */
    unsigned char *joined;          /* of several parts: the inputs and outputs of all together */
    Tensor *inputs, *outputs;       /* the host's views of them: by value, and by number */
    size_t *places, *output_places; /* of them in a part: by value, and by number */
    cudaGraphExec_t constant_exec, exec;
    cudaEvent_t *joins; /* PLAN_JOINS for each part */
    bool profile;
    cudaEvent_t *marks; /* profile: before each step of a run, and after the last */
    uint64_t runs;
} CudaPlan;

/* Memory, steps. `part`: which samples of a shared batch. */
Status place_steps(Compiler *compiler, CudaPart *part, int index, Error *error);

/* staging.c: the host's side of inputs and outputs. */
Status staging_create(CudaPlan *plan, const Compiler *compiler, Error *error);
void staging_destroy(CudaPlan *plan);
/* The addresses of a part's inputs and outputs in pinned memory. */
unsigned char *staging_inputs(const CudaPlan *plan, int part);
unsigned char *staging_outputs(const CudaPlan *plan, int part);
/* Before a run: what the caller wrote goes to the parts. After it: what the parts made becomes one. */
void staging_split(const CudaPlan *plan);
void staging_join(const CudaPlan *plan);

/* launch.c: the work of a run, or of the constant steps, put on the streams of all devices; while they are captured, or
 * to be done at once. */
Status launch_run(const CudaPlan *plan, Error *error);
Status launch_constants(const CudaPlan *plan, Error *error);
/* Makes the part's device the thread's current one. */
Status use_device(const CudaPart *part, Error *error);

/* plan.c: the driver's functions of that name. */
Status cuda_plan_compile(void *devices, const Graph *graph, Variables *variables, const PlanOptions *options,
                         void **out, Error *error);
void cuda_plan_destroy(void *plan);
Status cuda_plan_run(void *plan, Error *error);
Status cuda_plan_refresh(void *plan, Error *error);
