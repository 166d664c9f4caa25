/* Variables, in host memory or a driver's: each has an allocation of its own, so that its address never changes, and an
 * open-addressed table of hashes finds it by name. A variable's initial value is drawn from a stream of its own, chosen
 * by the hash of its name, so that it depends on nothing but the seed and the name. */
#include <stdlib.h>
#include <string.h>

#include "backend/driver.h"

enum { FIRST_SLOTS = 64 }; /* a power of two; the table is kept at most half full */

typedef struct Variable {
    char *name;
    uint64_t hash;
    bool trainable;
    Tensor tensor;
} Variable;

struct Variables {
    const Backend *backend;
    const BackendMemory *memory; /* NULL: the host's */
    void *context;               /* the memory's */
    Variable *items;
    int count, capacity;
    int *slots; /* index into items, -1: free */
    size_t slot_count;
};

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const unsigned char *byte = (const unsigned char *)name; *byte; byte++)
        hash = (hash ^ *byte) * 0x100000001b3u;
    return hash;
}

/* The slot that holds `name`, or the free one where it would go. */
static size_t slot_of(const Variables *variables, const char *name, uint64_t hash)
{
    size_t slot = hash & (variables->slot_count - 1);
    for (; variables->slots[slot] >= 0; slot = (slot + 1) & (variables->slot_count - 1)) {
        const Variable *item = &variables->items[variables->slots[slot]];
        if (item->hash == hash && strcmp(item->name, name) == 0) break;
    }
    return slot;
}

/* Gives the table `slot_count` slots and puts every variable into it again. */
static Status resize_slots(Variables *variables, size_t slot_count, Error *error)
{
    int *slots = malloc(slot_count * sizeof *slots);
    if (!slots)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a table of %zu variables", slot_count);
    free(variables->slots);
    variables->slots = slots;
    variables->slot_count = slot_count;
    for (size_t i = 0; i < slot_count; i++)
        slots[i] = -1;
    for (int i = 0; i < variables->count; i++)
        slots[slot_of(variables, variables->items[i].name, variables->items[i].hash)] = i;
    return STATUS_OK;
}

Status variables_create_in(const Backend *backend, const BackendMemory *memory, void *context, Variables **out,
                           Error *error)
{
    Variables *variables = calloc(1, sizeof *variables);
    if (!variables) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for variables");
    variables->backend = backend;
    variables->memory = memory;
    variables->context = context;
    Status status = resize_slots(variables, FIRST_SLOTS, error);
    if (status != STATUS_OK) {
        variables_destroy(variables);
        return status;
    }
    *out = variables;
    return STATUS_OK;
}

static void destroy_variable(const Variables *variables, Variable *item)
{
    free(item->name);
    if (variables->memory)
        variables->memory->release(variables->context, item->tensor.data);
    else
        tensor_destroy(&item->tensor);
}

void variables_destroy(Variables *variables)
{
    if (!variables) return;
    for (int i = 0; i < variables->count; i++)
        destroy_variable(variables, &variables->items[i]);
    free(variables->items);
    free(variables->slots);
    free(variables);
}

/* --- declaration --- */

static void set_element(Tensor *tensor, int64_t index, double value)
{
    switch (tensor->dtype) {
    case DTYPE_F32:
        ((float *)tensor->data)[index] = (float)value;
        break;
    case DTYPE_F64:
        ((double *)tensor->data)[index] = value;
        break;
    case DTYPE_I32:
        ((int32_t *)tensor->data)[index] = (int32_t)value;
        break;
    case DTYPE_I64:
        ((int64_t *)tensor->data)[index] = (int64_t)value;
        break;
    case DTYPE_U8:
        ((uint8_t *)tensor->data)[index] = (uint8_t)value;
        break;
    default:
        break; /* can_initialize lets none of these through */
    }
}

/* Zero suits every dtype; one and random values must be written element by element. */
static bool can_initialize(DType dtype, Initializer initializer)
{
    bool real = dtype == DTYPE_F32 || dtype == DTYPE_F64;
    switch (initializer) {
    case INITIALIZE_ZERO:
        return true;
    case INITIALIZE_ONE:
        return real || dtype == DTYPE_I32 || dtype == DTYPE_I64 || dtype == DTYPE_U8;
    case INITIALIZE_UNIFORM:
    case INITIALIZE_NORMAL:
        return real;
    }
    return false;
}

/* Fills a zeroed tensor. Draws are in double, so that F32 and F64 variables differ by one rounding. */
static void initialize(Tensor *tensor, const ValueInfo *state, uint64_t seed, uint64_t hash)
{
    Rng rng = rng_make(seed, hash + RNG_STREAM_WEIGHTS);
    int64_t count = state->initializer == INITIALIZE_ZERO ? 0 : shape_count(tensor->shape);
    for (int64_t i = 0; i < count; i++) {
        double value = 1;
        if (state->initializer == INITIALIZE_UNIFORM) value = state->bound * (2 * rng_uniform(&rng) - 1);
        if (state->initializer == INITIALIZE_NORMAL) value = state->bound * rng_normal(&rng);
        set_element(tensor, i, value);
    }
}

static Status reserve(Variables *variables, Error *error)
{
    if (variables->count == variables->capacity) {
        int capacity = variables->capacity ? 2 * variables->capacity : FIRST_SLOTS / 2;
        Variable *items = realloc(variables->items, (size_t)capacity * sizeof *items);
        if (!items) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d variables", capacity);
        variables->items = items;
        variables->capacity = capacity;
    }
    if (2 * ((size_t)variables->count + 1) <= variables->slot_count) return STATUS_OK;
    return resize_slots(variables, 2 * variables->slot_count, error);
}

/* Moves a tensor from the host's memory to that of the variables. */
static Status place(const Variables *variables, Tensor *tensor, Error *error)
{
    void *memory = NULL;
    if (!variables->memory) return STATUS_OK;
    Status status = variables->memory->allocate(variables->context, tensor->size, &memory, error);
    if (status == STATUS_OK)
        status = variables->memory->copy(variables->context, memory, tensor->data, tensor->size, error);
    if (status != STATUS_OK && memory) variables->memory->release(variables->context, memory);
    tensor_destroy(tensor);
    tensor->data = status == STATUS_OK ? memory : NULL;
    return status;
}

static Status add(Variables *variables, const ValueInfo *state, uint64_t seed, Error *error)
{
    RETURN_IF_ERROR(reserve(variables, error));
    if (!can_initialize(state->dtype, state->initializer))
        return error_set(error, STATUS_INVALID_ARGUMENT, "state '%s' is %s, which its initializer can't draw",
                         state->name, dtype_name(state->dtype));
    Variable item = {.hash = hash_of(state->name), .trainable = state->trainable};
    item.name = strdup(state->name);
    if (!item.name) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the name '%s'", state->name);
    Tensor tensor;
    Status status = tensor_create(state->dtype, state->shape, &tensor, error);
    if (status == STATUS_OK) {
        initialize(&tensor, state, seed, item.hash);
        item.tensor = tensor;
        status = place(variables, &tensor, error);
        item.tensor.data = tensor.data;
    }
    if (status != STATUS_OK) {
        free(item.name);
        return status;
    }
    variables->slots[slot_of(variables, item.name, item.hash)] = variables->count;
    variables->items[variables->count++] = item;
    return STATUS_OK;
}

Status variables_declare(Variables *variables, const Graph *graph, uint64_t seed, Error *error)
{
    RETURN_IF_ERROR(graph_check(graph, error));
    for (int id = 0; id < graph_value_count(graph); id++) {
        const ValueInfo *state = graph_value(graph, (Value){id});
        if (state->kind != VALUE_STATE) continue;
        if (variables_find(variables, state->name) < 0)
            RETURN_IF_ERROR(add(variables, state, seed, error));
        else
            RETURN_IF_ERROR(variables_expect(variables, state, error));
    }
    return STATUS_OK;
}

Status variables_expect(const Variables *variables, const ValueInfo *state, Error *error)
{
    int index = variables_find(variables, state->name);
    if (index < 0)
        return error_set(error, STATUS_FAILED_PRECONDITION, "state '%s' is in no variables: declare its graph first",
                         state->name);
    const Tensor *tensor = &variables->items[index].tensor;
    char have[SHAPE_TEXT_SIZE], want[SHAPE_TEXT_SIZE];
    if (tensor->dtype != state->dtype || !shape_equal(tensor->shape, state->shape))
        return error_set(error, STATUS_INVALID_ARGUMENT, "variable '%s' is %s %s, the graph expects %s %s", state->name,
                         dtype_name(tensor->dtype), shape_text(tensor->shape, have), dtype_name(state->dtype),
                         shape_text(state->shape, want));
    return STATUS_OK;
}

/* --- reading and writing --- */

int variables_count(const Variables *variables)
{
    return variables->count;
}

const char *variables_name(const Variables *variables, int index)
{
    return variables->items[index].name;
}

bool variables_trainable(const Variables *variables, int index)
{
    return variables->items[index].trainable;
}

DType variables_dtype(const Variables *variables, int index)
{
    return variables->items[index].tensor.dtype;
}

Shape variables_shape(const Variables *variables, int index)
{
    return variables->items[index].tensor.shape;
}

int variables_find(const Variables *variables, const char *name)
{
    return variables->slots[slot_of(variables, name, hash_of(name))];
}

void *variables_data(const Variables *variables, int index)
{
    return variables->items[index].tensor.data;
}

const Backend *variables_backend(const Variables *variables)
{
    return variables->backend;
}

/* Copies with the memory of whichever set has one. memcpy's pointers must not be NULL, which those of an empty tensor
 * may be. */
static Status copy_bytes(const Variables *to_set, void *to, const Variables *from_set, const void *from, size_t bytes,
                         Error *error)
{
    const Variables *set = to_set && to_set->memory ? to_set : from_set;
    if (bytes == 0) return STATUS_OK;
    if (set && set->memory) return set->memory->copy(set->context, to, from, bytes, error);
    memcpy(to, from, bytes);
    return STATUS_OK;
}

static Status check_bytes(const Variable *item, size_t bytes, Error *error)
{
    if (bytes == item->tensor.size) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "variable '%s' has %zu bytes, not %zu", item->name,
                     item->tensor.size, bytes);
}

Status variables_read(const Variables *variables, int index, void *out, size_t bytes, Error *error)
{
    const Variable *item = &variables->items[index];
    RETURN_IF_ERROR(check_bytes(item, bytes, error));
    return copy_bytes(NULL, out, variables, item->tensor.data, bytes, error);
}

Status variables_write(Variables *variables, int index, const void *in, size_t bytes, Error *error)
{
    const Variable *item = &variables->items[index];
    RETURN_IF_ERROR(check_bytes(item, bytes, error));
    return copy_bytes(variables, item->tensor.data, NULL, in, bytes, error);
}

Status variables_move(Variables *to, Variables *from, int index, Error *error)
{
    const Variable *source = &from->items[index];
    int target = variables_find(to, source->name);
    if (target >= 0) {
        RETURN_IF_ERROR(check_bytes(&to->items[target], source->tensor.size, error));
        RETURN_IF_ERROR(
            copy_bytes(to, to->items[target].tensor.data, from, source->tensor.data, source->tensor.size, error));
    }
    if (source->tensor.size == 0) return STATUS_OK;
    if (from->memory) return from->memory->zero(from->context, source->tensor.data, source->tensor.size, error);
    memset(source->tensor.data, 0, source->tensor.size);
    return STATUS_OK;
}

bool variables_in_host_memory(const Variables *variables)
{
    return variables->memory == NULL;
}

Status variables_mirror(Variables **mirror, const Variables *from, Error *error)
{
    if (!*mirror) RETURN_IF_ERROR(variables_create_in(from->backend, NULL, NULL, mirror, error));
    for (int i = 0; i < from->count; i++) {
        const Variable *source = &from->items[i];
        const ValueInfo like = {.name = source->name,
                                .dtype = source->tensor.dtype,
                                .shape = source->tensor.shape,
                                .trainable = source->trainable};
        if (variables_find(*mirror, source->name) < 0) RETURN_IF_ERROR(add(*mirror, &like, 0, error));
        Variable *target = &(*mirror)->items[variables_find(*mirror, source->name)];
        RETURN_IF_ERROR(copy_bytes(NULL, target->tensor.data, from, source->tensor.data, source->tensor.size, error));
    }
    return STATUS_OK;
}

Status variables_copy_parameters(Variables *to, const Variables *from, Error *error)
{
    for (int i = 0; i < from->count; i++) {
        const Variable *source = &from->items[i];
        int index = variables_find(to, source->name);
        if (index < 0 || !to->items[index].trainable) continue;
        ValueInfo expected = {.name = source->name, .dtype = source->tensor.dtype, .shape = source->tensor.shape};
        RETURN_IF_ERROR(variables_expect(to, &expected, error));
        RETURN_IF_ERROR(
            copy_bytes(to, to->items[index].tensor.data, from, source->tensor.data, source->tensor.size, error));
    }
    return STATUS_OK;
}
