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

enum { SPINS = 2000 }; /* some 20 to 50 us: longer than a step of a plan mostly is, shorter than a time slice */

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

/* What members are to run. The number tells a member whether it has had this one. */
typedef struct Job {
    TeamBody *body; /* NULL: nothing */
    void *context;
    bool in_step;
    unsigned number;
} Job;

struct Team {
    Signal start;                     /* the number of the newest job */
    Signal barrier;                   /* counts barriers passed */
    _Alignas(64) atomic_uint arrived; /* at the present barrier */
    pthread_mutex_t lock;             /* guards job and stopping */
    Job job;
    bool stopping;
    atomic_int inside; /* members that run an offered body; raised under the lock */
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

void team_wait_turn(unsigned turns)
{
    if (turns < SPINS)
        relax();
    else
        sched_yield();
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

/* Takes the present job; false: the team ends. */
static bool take_job(Team *team, Job *job)
{
    pthread_mutex_lock(&team->lock);
    bool go_on = !team->stopping;
    *job = team->job;
    if (job->body != NULL && !job->in_step) atomic_fetch_add(&team->inside, 1);
    pthread_mutex_unlock(&team->lock);
    return go_on;
}

static void *member_main(void *argument)
{
    Member *self = argument;
    Team *team = self->team;
    Job job = {.number = 0};
    for (;;) {
        signal_wait(&team->start, job.number);
        unsigned had = job.number;
        if (!take_job(team, &job)) return NULL;
        if (job.body != NULL && job.number != had) job.body(job.context, self->index, team->members);
        if (job.body == NULL) continue;
        if (!job.in_step)
            atomic_fetch_sub(&team->inside, 1);
        else if (job.number != had)
            team_barrier(team);
    }
}

static void set_job(Team *team, TeamBody *body, void *context, bool in_step)
{
    pthread_mutex_lock(&team->lock);
    team->job = (Job){body, context, in_step, team->job.number + 1};
    pthread_mutex_unlock(&team->lock);
    signal_raise(&team->start);
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
    pthread_mutex_init(&team->lock, NULL);
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
    pthread_mutex_lock(&team->lock);
    team->stopping = true;
    pthread_mutex_unlock(&team->lock);
    signal_raise(&team->start);
    for (int i = 1; i < team->started; i++)
        pthread_join(team->threads[i].thread, NULL);
    pthread_mutex_destroy(&team->lock);
    free(team->threads);
    free(team);
}

int team_members(const Team *team)
{
    return team->members;
}

void team_run(Team *team, TeamBody *body, void *context)
{
    if (team->members > 1) set_job(team, body, context, true);
    body(context, 0, team->members);
    team_barrier(team);
}

void team_offer(Team *team, TeamBody *body, void *context)
{
    if (team->members > 1) set_job(team, body, context, false);
}

void team_withdraw(Team *team)
{
    if (team->members == 1) return;
    pthread_mutex_lock(&team->lock);
    if (!team->job.in_step) team->job.body = NULL;
    pthread_mutex_unlock(&team->lock);
    for (unsigned turns = 0; atomic_load(&team->inside) > 0; turns++)
        team_wait_turn(turns);
}

int team_available_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int cores = CPU_COUNT(&set);
    return cores > 0 ? cores : 1;
}
