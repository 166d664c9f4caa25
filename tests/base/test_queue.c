#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "support/suite.h"

static const uint64_t millisecond = 1000000;

static Queue *make(size_t capacity)
{
    Queue *queue = NULL;
    ck_assert_int_eq(queue_create(capacity, &queue, NULL), STATUS_OK);
    return queue;
}

START_TEST(test_first_in_first_out_around_the_ring)
{
    int items[10];
    Queue *queue = make(3);
    for (int i = 0; i < 10; i++) {
        ck_assert(queue_push(queue, &items[i]));
        if (i >= 2) ck_assert_ptr_eq(queue_pop(queue, UINT64_MAX), &items[i - 2]);
    }
    ck_assert_uint_eq(queue_length(queue), 2);
    ck_assert_ptr_eq(queue_try_pop(queue), &items[8]);
    ck_assert_ptr_eq(queue_try_pop(queue), &items[9]);
    ck_assert_ptr_null(queue_try_pop(queue));
    queue_destroy(queue);
}
END_TEST

START_TEST(test_try_push_refuses_when_full)
{
    int item;
    Queue *queue = make(2);
    ck_assert(queue_try_push(queue, &item));
    ck_assert(queue_try_push(queue, &item));
    ck_assert(!queue_try_push(queue, &item));
    ck_assert_uint_eq(queue_length(queue), 2);
    queue_destroy(queue);
}
END_TEST

START_TEST(test_null_is_no_item)
{
    Queue *queue = make(2);
    ck_assert(!queue_try_push(queue, NULL));
    ck_assert(!queue_push(queue, NULL));
    ck_assert_uint_eq(queue_length(queue), 0);
    queue_destroy(queue);
}
END_TEST

START_TEST(test_pop_waits_its_timeout)
{
    Queue *queue = make(1);
    uint64_t before = clock_now(clock_monotonic());
    ck_assert_ptr_null(queue_pop(queue, 20 * millisecond));
    ck_assert_uint_ge(clock_now(clock_monotonic()) - before, 20 * millisecond);
    queue_destroy(queue);
}
END_TEST

START_TEST(test_closed_drains_and_refuses)
{
    int item;
    Queue *queue = make(2);
    ck_assert(queue_push(queue, &item));
    queue_close(queue);
    ck_assert(!queue_push(queue, &item));
    ck_assert(!queue_try_push(queue, &item));
    ck_assert_ptr_eq(queue_pop(queue, UINT64_MAX), &item);
    ck_assert_ptr_null(queue_pop(queue, UINT64_MAX));
    queue_destroy(queue);
}
END_TEST

START_TEST(test_capacity_is_checked)
{
    Queue *queue = NULL;
    Error error;
    ck_assert_int_eq(queue_create(0, &queue, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "capacity of a queue is 0, expected at least 1");
    ck_assert_int_eq(queue_create(SIZE_MAX / 4, &queue, &error), STATUS_INVALID_ARGUMENT);
    queue_destroy(NULL);
}
END_TEST

static void *pop_for_ever(void *context)
{
    return queue_pop(context, UINT64_MAX);
}

static void *push_one(void *context)
{
    static int item;
    return queue_push(context, &item) ? context : NULL;
}

/* Threads that wait, on either side, are woken by a close. */
START_TEST(test_close_wakes_everybody)
{
    enum { THREADS = 3 };
    int item;
    Queue *empty = make(1), *full = make(1);
    ck_assert(queue_push(full, &item));
    pthread_t poppers[THREADS], pushers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&poppers[i], NULL, pop_for_ever, empty), 0);
        ck_assert_int_eq(pthread_create(&pushers[i], NULL, push_one, full), 0);
    }
    ck_assert_ptr_null(queue_pop(empty, 10 * millisecond)); /* time for them to be waiting */
    queue_close(empty);
    queue_close(full);
    for (int i = 0; i < THREADS; i++) {
        void *result = &item;
        pthread_join(poppers[i], &result);
        ck_assert_ptr_null(result);
        pthread_join(pushers[i], &result);
        ck_assert_ptr_null(result);
    }
    queue_destroy(empty);
    queue_destroy(full);
}
END_TEST

enum { PRODUCERS = 4, CONSUMERS = 3, ITEMS = 5000 };

typedef struct Item {
    int producer, number;
} Item;

typedef struct Worker {
    Queue *queue;
    int producer;
    int seen[PRODUCERS]; /* items of each producer that this consumer got */
    bool in_order;
} Worker;

static void *produce(void *context)
{
    Worker *worker = context;
    for (int i = 0; i < ITEMS; i++) {
        Item *item = malloc(sizeof *item);
        *item = (Item){.producer = worker->producer, .number = i};
        bool pushed = i % 2 ? queue_push(worker->queue, item) : queue_try_push(worker->queue, item);
        if (!pushed && !queue_push(worker->queue, item)) free(item);
    }
    return NULL;
}

static void *consume(void *context)
{
    Worker *worker = context;
    int last[PRODUCERS] = {-1, -1, -1, -1};
    worker->in_order = true;
    for (Item *item; (item = queue_pop(worker->queue, UINT64_MAX)); free(item)) {
        worker->in_order &= item->number > last[item->producer];
        last[item->producer] = item->number;
        worker->seen[item->producer]++;
    }
    return NULL;
}

/* Every item arrives once, and each producer's in its order. The items' own memory is written by one thread and read by
 * another, so that a missing hand-over shows under the thread sanitizer. */
START_TEST(test_many_producers_and_consumers)
{
    Queue *queue = make(8);
    Worker producers[PRODUCERS] = {0}, consumers[CONSUMERS] = {0};
    pthread_t producing[PRODUCERS], consuming[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i].queue = queue;
        ck_assert_int_eq(pthread_create(&consuming[i], NULL, consume, &consumers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (Worker){.queue = queue, .producer = i};
        ck_assert_int_eq(pthread_create(&producing[i], NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producing[i], NULL);
    queue_close(queue);
    int seen[PRODUCERS] = {0};
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(consuming[i], NULL);
        ck_assert(consumers[i].in_order);
        for (int p = 0; p < PRODUCERS; p++)
            seen[p] += consumers[i].seen[p];
    }
    for (int p = 0; p < PRODUCERS; p++)
        ck_assert_int_eq(seen[p], ITEMS);
    queue_destroy(queue);
}
END_TEST

SUITE_MAIN("queue", test_first_in_first_out_around_the_ring, test_try_push_refuses_when_full, test_null_is_no_item,
           test_pop_waits_its_timeout, test_closed_drains_and_refuses, test_capacity_is_checked,
           test_close_wakes_everybody, test_many_producers_and_consumers)
