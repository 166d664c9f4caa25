#include "base/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 4000 }; /* about 20 us on the machines at hand: longer than a barrier, shorter than a time slice */

typedef struct Member {
    Team *team;
    int index;
    pthread_t thread;
} Member;

/* A counter that threads wait on: they spin, then sleep. `sleepers` lets the one that moves it skip the system call. */
typedef struct Signal {
    _Alignas(64) atomic_uint value;
    atomic_uint sleepers;
} Signal;

struct Team {
    Signal start;                     /* counts runs */
    Signal barrier;                   /* counts barriers passed */
    _Alignas(64) atomic_uint arrived; /* at the present barrier */
    TeamBody *body;
    void *context;
    atomic_bool stopping;
    int members, started;
    Member *threads;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void signal_wait(Signal *signal, unsigned old)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&signal->value, memory_order_acquire) != old) return;
        relax();
    }
    atomic_fetch_add(&signal->sleepers, 1);
    while (atomic_load(&signal->value) == old)
        syscall(SYS_futex, &signal->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&signal->sleepers, 1);
}

static void signal_raise(Signal *signal)
{
    atomic_fetch_add(&signal->value, 1);
    if (atomic_load(&signal->sleepers) > 0)
        syscall(SYS_futex, &signal->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void team_barrier(Team *team)
{
    if (team->members == 1) return;
    unsigned passed = atomic_load_explicit(&team->barrier.value, memory_order_acquire);
    if (atomic_fetch_add(&team->arrived, 1) + 1 == (unsigned)team->members) {
        atomic_store(&team->arrived, 0);
        signal_raise(&team->barrier);
    } else {
        signal_wait(&team->barrier, passed);
    }
}

static void *member_main(void *argument)
{
    Member *self = argument;
    Team *team = self->team;
    for (unsigned run = 0;; run++) {
        signal_wait(&team->start, run);
        if (atomic_load(&team->stopping)) return NULL;
        team->body(team->context, self->index, team->members);
        team_barrier(team);
    }
}

Status team_create(int members, Team **out, Error *error)
{
    Team *team = aligned_alloc(64, sizeof *team);
    Member *threads = calloc((size_t)members, sizeof *threads);
    if (team == NULL || threads == NULL) {
        free(team);
        free(threads);
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a team of %d threads", members);
    }
    *team = (Team){.members = members, .started = 1, .threads = threads};
    for (int i = 1; i < members; i++) {
        threads[i] = (Member){.team = team, .index = i};
        int failure = pthread_create(&threads[i].thread, NULL, member_main, &threads[i]);
        if (failure != 0) {
            Status status = error_set_errno(error, failure, "can't start thread %d of %d", i + 1, members);
            team_destroy(team);
            return status;
        }
        team->started++;
    }
    *out = team;
    return STATUS_OK;
}

void team_destroy(Team *team)
{
    if (team == NULL) return;
    atomic_store(&team->stopping, true);
    signal_raise(&team->start);
    for (int i = 1; i < team->started; i++)
        pthread_join(team->threads[i].thread, NULL);
    free(team->threads);
    free(team);
}

int team_members(const Team *team)
{
    return team->members;
}

void team_run(Team *team, TeamBody *body, void *context)
{
    if (team->members > 1) {
        team->body = body;
        team->context = context;
        signal_raise(&team->start);
    }
    body(context, 0, team->members);
    team_barrier(team);
}

int team_available_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int cores = CPU_COUNT(&set);
    return cores > 0 ? cores : 1;
}
