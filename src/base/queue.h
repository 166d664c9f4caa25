/* A bounded queue of pointers between threads: many producers, many consumers, first in first out. The lock guards the
 * ring and `closed`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Queue Queue;

Status queue_create(size_t capacity, Queue **out, Error *error);
void queue_destroy(Queue *queue); /* what is still inside is not freed: drain first */

/* False when full (try) or closed, and for NULL, which a pop could not tell from an empty queue. */
bool queue_try_push(Queue *queue, void *item);
bool queue_push(Queue *queue, void *item);

/* NULL when empty (try), after `timeout_ns` (wait), or when closed and drained. */
void *queue_try_pop(Queue *queue);
void *queue_pop(Queue *queue, uint64_t timeout_ns); /* UINT64_MAX: wait for ever */

/* Wakes everybody; pushes fail from now on, pops drain what is left. */
void queue_close(Queue *queue);
size_t queue_length(Queue *queue);
