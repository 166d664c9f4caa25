/* Which request is answered next, and with which others: requests wait in lines, a line a caller, and callers take
 * turns.
 *
 * Turns are counted in rows: a line that has had SCHEDULE_QUANTUM rows goes to the end of the rotation, and one that
 * had more (a large request) stands back until the others have had as much (deficit round robin: Shreedhar and
 * Varghese, "Efficient fair queueing using deficit round robin", SIGCOMM 1995; here with debt in place of saved-up
 * credit, so that a request of any size is served at its turn). Callers are told apart by a hash; two that share a line
 * take one turn.
 *
 * Room is shared by a dynamic threshold (Choudhury and Hahne, "Dynamic queue length thresholds", 1998): a line may hold
 * as much as is still free, so that one caller alone gets half of the room and a newcomer always finds some.
 *
 * No gRPC, no I/O, no clock, no lock: whoever calls brings the time in, and holds the lock that guards the schedule and
 * its requests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "axon/axon.h"

enum {
    SCHEDULE_LINES = 1024,
    SCHEDULE_QUANTUM = 16, /* rows a turn */
    SCHEDULE_BATCH = 256,  /* most requests of a batch */
};

/* How a soma's requests are joined. Also what tells two somas apart. */
typedef struct BatchRule {
    int64_t rows;       /* as AxonHandler.batch_rows */
    uint64_t wait_ns;   /* as AxonHandler.batch_wait_ns */
    uint64_t margin_ns; /* a batch is closed when the deadline of one of its requests is this near */
} BatchRule;

typedef struct Line Line;

/* A request; belongs to whoever adds it, and stays where it is while it waits. */
typedef struct Waiting {
    /* Set before schedule_add, and not changed while it waits. */
    uint64_t caller;
    const BatchRule *rule;
    bool alone;        /* never joined to others: Backward */
    Modality modality; /* requests are joined when the modality and the dimensions beyond seq are the same */
    Shape shape;
    int64_t rows;
    size_t bytes;
    uint64_t arrived_ns, deadline_ns; /* deadline: UINT64_MAX for none */

    Line *line; /* NULL unless it waits */
    TAILQ_ENTRY(Waiting) place;
} Waiting;
TAILQ_HEAD(WaitingList, Waiting);

struct Line {
    struct WaitingList requests;
    size_t count, bytes;
    int64_t rows_left; /* of its turn; at most SCHEDULE_QUANTUM */
    TAILQ_ENTRY(Line) place;
};

typedef struct Schedule {
    size_t capacity, most_bytes; /* set by schedule_init */
    size_t count, bytes;         /* waiting */
    int64_t rows;
    size_t active;               /* lines in the rotation */
    TAILQ_HEAD(, Line) rotation; /* lines that aren't empty; the first one's turn it is */
    Line lines[SCHEDULE_LINES];
} Schedule;

/* Points into itself: don't copy. */
void schedule_init(Schedule *schedule, size_t capacity, size_t most_bytes);

/* RESOURCE_EXHAUSTED when there is no room for it. A request finds room in an empty schedule whatever its size. */
Status schedule_add(Schedule *schedule, Waiting *request, Error *error);

/* Takes a request out that waits; at a constant cost. */
void schedule_remove(Schedule *schedule, Waiting *request);

/* Takes out any one that has this rule (NULL: whatever its rule); NULL when there is none. */
Waiting *schedule_take_of(Schedule *schedule, const BatchRule *rule);

/* What to do now. All requests in it have been taken out. */
typedef struct Batch {
    size_t count; /* 0: nothing is ready */
    int64_t rows;
    BatchClosing closing; /* means nothing when requests[0] is `alone` */
    Waiting *requests[SCHEDULE_BATCH];
    struct WaitingList late; /* linked by `place`; their deadline has passed, and they must not be run */
    uint64_t due;            /* when nothing is ready: when something will be; UINT64_MAX: nothing waits */
} Batch;

void schedule_next(Schedule *schedule, uint64_t now, Batch *out);
