/* What a network thread does: it takes calls in at a door, and runs the handler when a batch is ready and no handler
 * runs. */
#include <time.h>

#include "axon/internal.h"

enum {
    DRAIN_MOST = 128, /* events that are taken in before a batch is made */
    /* Below this, a handler is over before another thread would have been woken to take calls in meanwhile (some 50 us
     * until it gets going, and the cache with it); and several may run before events are looked at again. */
    SHORT_NS = 100000,
    UNREAD_LOOK_NS = 10000000,   /* while answers that nobody reads take too much memory, look again after this time */
    UNREAD_MOST_NS = 2000000000, /* and give up those that have lain for longer than this */
    PAUSE_NS = 5000000           /* the longest that calls aren't taken in, while answering is beyond its share */
};

/* What a thread knows of itself. */
typedef struct Driver {
    Axon *axon;
    Door *door;
    uint64_t cpu_ns; /* of this thread, charged until now */
} Driver;

static uint64_t now_ns(void)
{
    return clock_now(clock_monotonic());
}

/* --- the share of the cores --- */

/* With the lock held. What this thread has done since the last time; `threads` of a handler's work as well. */
static void charge(Driver *driver, int threads)
{
    Axon *axon = driver->axon;
    if (!share_limited(&axon->share)) return;
    uint64_t used = rpc_thread_work(pthread_self());
    share_charge(&axon->share, now_ns(), (used - driver->cpu_ns) * (uint64_t)threads);
    driver->cpu_ns = used;
}

/* With the lock held: when handlers may run again; 0: now. */
static uint64_t held_until(Axon *axon, uint64_t now)
{
    uint64_t wait = share_wait(&axon->share, now);
    if (wait) {
        if (!axon->held_since) axon->held_since = now;
        return now + wait;
    }
    if (axon->held_since) counter_add(&axon->counters.paused_ns, now > axon->held_since ? now - axon->held_since : 0);
    axon->held_since = 0;
    return 0;
}

/* Calls that aren't taken in wait in the callers' sockets, where flow control slows them down. */
static void pause_in_debt(Driver *driver)
{
    Axon *axon = driver->axon;
    if (!atomic_load_explicit(&axon->limited, memory_order_relaxed)) return;
    pthread_mutex_lock(&axon->lock);
    charge(driver, 1);
    uint64_t wait = share_wait(&axon->share, now_ns());
    pthread_mutex_unlock(&axon->lock);
    if (wait == 0) return;
    struct timespec span = {.tv_nsec = (long)(wait < PAUSE_NS ? wait : PAUSE_NS)};
    nanosleep(&span, NULL);
}

/* --- handlers --- */

static void refuse(struct WaitingList *list, Status status, const char *sentence)
{
    Error error;
    Waiting *waiting;
    error_set(&error, status, "%s", sentence);
    while ((waiting = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, waiting, place);
        server_call_fail(call_of_waiting(waiting), &error);
    }
}

/* Without the lock. */
static void run_handler(const Batch *batch)
{
    AxonRequest *requests[SCHEDULE_BATCH];
    for (size_t i = 0; i < batch->count; i++)
        requests[i] = &call_of_waiting(batch->requests[i])->asked;
    const AxonHandler *handler = &call_of_waiting(batch->requests[0])->served->handler;
    if (!batch->requests[0]->alone) {
        handler->forward(handler->context, requests, batch->count);
    } else if (handler->backward) {
        handler->backward(handler->context, requests[0]);
    } else { /* replaced since the call came */
        Error error;
        error_set(&error, STATUS_UNIMPLEMENTED, "this soma takes no gradients any more");
        axon_fail(requests[0], &error);
    }
}

/* With the lock held; follows an increase at once. */
static void learn_duration(Served *served, uint64_t ns)
{
    served->expected_ns = ns > served->expected_ns ? ns : served->expected_ns - (served->expected_ns - ns) / 8;
    served->rule.margin_ns = 2 * served->expected_ns + AXON_MARGIN_NS;
}

static void count_batch(Counters *counters, const Batch *batch)
{
    if (batch->requests[0]->alone) return;
    counter_add(&counters->batches[batch->closing], 1);
    counter_add(&counters->batched_calls, batch->count);
    counter_add(&counters->batched_rows, (uint64_t)batch->rows);
}

/* With the lock held, which it gives up while the handler runs; returns how long that took. A long handler's door goes
 * to a thread that waits for one, and those who wait on are watched, since it may be a while. */
static uint64_t run_batch(Driver *driver, const Batch *batch)
{
    Axon *axon = driver->axon;
    Served *served = call_of_waiting(batch->requests[0])->served;
    bool is_long = served->expected_ns == 0 || served->expected_ns > SHORT_NS;
    axon->running = true;
    charge(driver, 1);
    if (is_long && axon->thread_most > axon->door_count && driver->door->drivers == 1) {
        axon->offered = driver->door;
        pthread_cond_broadcast(&axon->changed);
    }
    count_batch(&axon->counters, batch);
    pthread_mutex_unlock(&axon->lock);
    if (is_long) server_calls_watch(axon);
    uint64_t begun = now_ns();
    atomic_store_explicit(&axon->handler_begun_ns, begun, memory_order_relaxed);
    run_handler(batch);
    uint64_t ns = now_ns() - begun;
    counter_add(&axon->counters.handler_ns, ns); /* first: the gate rather counts it twice than not at all */
    atomic_store_explicit(&axon->handler_begun_ns, 0, memory_order_relaxed);
    pthread_mutex_lock(&axon->lock);
    charge(driver, axon->handler_threads);
    learn_duration(served, ns);
    if (axon->offered == driver->door) axon->offered = NULL;
    axon->running = false;
    if (axon->replacing) pthread_cond_broadcast(&axon->changed);
    return ns;
}

/* With the lock held, which it gives up meanwhile. */
static void drop_late(Axon *axon, Batch *batch)
{
    if (TAILQ_EMPTY(&batch->late)) return;
    pthread_mutex_unlock(&axon->lock);
    refuse(&batch->late, STATUS_DEADLINE_EXCEEDED, "the deadline passed before the call was begun");
    pthread_mutex_lock(&axon->lock);
}

/* With the lock held. All that was taken out of the schedule leaves the list of the fresh, too. */
static void unlist(const Batch *batch)
{
    Waiting *waiting;
    for (size_t i = 0; i < batch->count; i++)
        server_call_unlist(call_of_waiting(batch->requests[i]));
    TAILQ_FOREACH(waiting, &batch->late, place)
    server_call_unlist(call_of_waiting(waiting));
}

/* With the lock held: runs what is ready, unless somebody else does. Returns when to look again: 0 at once, UINT64_MAX
 * not before something comes. A thread that still has the door to itself comes back to it after a short time. */
static uint64_t lead(Driver *driver)
{
    Axon *axon = driver->axon;
    Batch batch;
    uint64_t spent = 0;
    while (!axon->running && axon->schedule.count > 0) {
        uint64_t now = now_ns(), held = held_until(axon, now);
        if (held) return held;
        if (axon->unsent_bytes > axon->memory_bytes) return now + UNREAD_LOOK_NS;
        if (axon->replacing) {
            pthread_cond_wait(&axon->changed, &axon->lock);
            continue;
        }
        if (spent > SHORT_NS && driver->door->drivers == 1) return 0;
        schedule_next(&axon->schedule, now, &batch);
        unlist(&batch);
        if (batch.count == 0) {
            drop_late(axon, &batch);
            if (batch.due > now) return batch.due;
            continue;
        }
        spent += run_batch(driver, &batch);
        drop_late(axon, &batch);
    }
    return UINT64_MAX;
}

/* --- doors --- */

/* Waits for a door that nobody drives, or that is offered. NULL at the end. */
static Door *take_door(Axon *axon)
{
    Door *door = NULL;
    pthread_mutex_lock(&axon->lock);
    for (;;) {
        for (int i = 0; i < axon->door_count && !door; i++)
            if (axon->doors[i].drivers == 0) door = &axon->doors[i];
        if (!door && axon->offered) {
            door = axon->offered;
            axon->offered = NULL;
        }
        if (door || axon->ended) break;
        pthread_cond_wait(&axon->changed, &axon->lock);
    }
    if (door) door->drivers++;
    pthread_mutex_unlock(&axon->lock);
    return door;
}

/* Runs what is ready, and looks after those who have to wait. False when another thread has the door and nothing keeps
 * this one. */
static bool turn(Driver *driver, uint64_t *due)
{
    Axon *axon = driver->axon;
    pthread_mutex_lock(&axon->lock);
    if (axon->unsent_bytes > axon->memory_bytes) {
        pthread_mutex_unlock(&axon->lock);
        server_calls_give_up(axon, now_ns() - UNREAD_MOST_NS);
        pthread_mutex_lock(&axon->lock);
    }
    *due = lead(driver);
    bool leave = *due == UINT64_MAX && driver->door->drivers > 1 && !axon->running;
    if (leave) driver->door->drivers--;
    bool watch = !TAILQ_EMPTY(&axon->fresh) && *due != 0;
    pthread_mutex_unlock(&axon->lock);
    if (watch) server_calls_watch(axon);
    return !leave;
}

/* Takes in all that is there, waiting until `due` for the first event. False at the end. */
static bool take_in_events(Door *door, uint64_t due)
{
    gpr_timespec until = due == UINT64_MAX ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                                           : (gpr_timespec){.tv_sec = (int64_t)(due / 1000000000),
                                                            .tv_nsec = (int32_t)(due % 1000000000),
                                                            .clock_type = GPR_CLOCK_MONOTONIC};
    for (int i = 0; i < DRAIN_MOST; i++) {
        RpcEvent event = rpc_next(door->queue, until);
        if (event == RPC_SHUT_DOWN) return false;
        if (event == RPC_NOTHING) return true;
        until = gpr_time_0(GPR_CLOCK_MONOTONIC);
    }
    return true;
}

static void drive(Driver *driver)
{
    uint64_t due;
    while (turn(driver, &due)) {
        pause_in_debt(driver);
        if (!take_in_events(driver->door, due)) {
            pthread_mutex_lock(&driver->axon->lock);
            driver->axon->ended = true;
            pthread_cond_broadcast(&driver->axon->changed);
            pthread_mutex_unlock(&driver->axon->lock);
            return;
        }
    }
}

void *axon_network(void *context)
{
    Driver driver = {.axon = context};
    driver.cpu_ns = rpc_thread_work(pthread_self());
    while ((driver.door = take_door(driver.axon)))
        drive(&driver);
    return NULL;
}
