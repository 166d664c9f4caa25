#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct Queue {
    pthread_mutex_t lock; /* guards head, length, closed and the ring */
    pthread_cond_t not_empty, not_full;
    size_t capacity, head, length; /* the oldest item is ring[head] */
    bool closed;
    void *ring[];
};

Status queue_create(size_t capacity, Queue **out, Error *error)
{
    if (capacity == 0 || capacity > (SIZE_MAX - sizeof(Queue)) / sizeof(void *))
        return error_set(error, STATUS_INVALID_ARGUMENT, "capacity of a queue is %zu, expected at least 1", capacity);
    Queue *queue = calloc(1, sizeof *queue + capacity * sizeof(void *));
    if (!queue) return error_set_errno(error, ENOMEM, "a queue of %zu places", capacity);
    queue->capacity = capacity;
    pthread_mutex_init(&queue->lock, NULL);
    /* Waiting by the monotonic clock: a step of the wall clock must not stretch a timeout. */
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->not_empty, &attributes);
    pthread_cond_init(&queue->not_full, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = queue;
    return STATUS_OK;
}

void queue_destroy(Queue *queue)
{
    if (!queue) return;
    pthread_cond_destroy(&queue->not_full);
    pthread_cond_destroy(&queue->not_empty);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

/* With the lock held, in put and take. */
static bool put(Queue *queue, void *item)
{
    if (queue->closed || queue->length == queue->capacity) return false;
    size_t tail = queue->head + queue->length; /* no overflow: both are at most capacity */
    if (tail >= queue->capacity) tail -= queue->capacity;
    queue->ring[tail] = item;
    queue->length++;
    pthread_cond_signal(&queue->not_empty);
    return true;
}

static void *take(Queue *queue)
{
    if (queue->length == 0) return NULL;
    void *item = queue->ring[queue->head];
    queue->head = queue->head + 1 == queue->capacity ? 0 : queue->head + 1;
    queue->length--;
    pthread_cond_signal(&queue->not_full);
    return item;
}

bool queue_try_push(Queue *queue, void *item)
{
    if (!item) return false;
    pthread_mutex_lock(&queue->lock);
    bool pushed = put(queue, item);
    pthread_mutex_unlock(&queue->lock);
    return pushed;
}

bool queue_push(Queue *queue, void *item)
{
    if (!item) return false;
    pthread_mutex_lock(&queue->lock);
    while (!queue->closed && queue->length == queue->capacity)
        pthread_cond_wait(&queue->not_full, &queue->lock);
    bool pushed = put(queue, item);
    pthread_mutex_unlock(&queue->lock);
    return pushed;
}

void *queue_try_pop(Queue *queue)
{
    return queue_pop(queue, 0);
}

static struct timespec deadline_after(uint64_t timeout_ns)
{
    const uint64_t second = 1000000000;
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    uint64_t nanoseconds = (uint64_t)deadline.tv_nsec + timeout_ns % second;
    deadline.tv_sec += (time_t)(timeout_ns / second + nanoseconds / second);
    deadline.tv_nsec = (long)(nanoseconds % second);
    return deadline;
}

void *queue_pop(Queue *queue, uint64_t timeout_ns)
{
    struct timespec deadline = {0};
    if (timeout_ns != 0 && timeout_ns != UINT64_MAX) deadline = deadline_after(timeout_ns);
    pthread_mutex_lock(&queue->lock);
    while (timeout_ns != 0 && !queue->closed && queue->length == 0) {
        if (timeout_ns == UINT64_MAX)
            pthread_cond_wait(&queue->not_empty, &queue->lock);
        else if (pthread_cond_timedwait(&queue->not_empty, &queue->lock, &deadline) == ETIMEDOUT)
            break;
    }
    void *item = take(queue);
    pthread_mutex_unlock(&queue->lock);
    return item;
}

void queue_close(Queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->not_empty);
    pthread_cond_broadcast(&queue->not_full);
    pthread_mutex_unlock(&queue->lock);
}

size_t queue_length(Queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t length = queue->length;
    pthread_mutex_unlock(&queue->lock);
    return length;
}
