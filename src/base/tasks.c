#include "base/tasks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { GRACE = 64 }; /* turns (about a microsecond) that a task is left to the member that it prefers */

struct TaskList {
    Team *team;
    TaskRun *run;
    TaskMark *mark;
    void *context;
    int count, groups;
    Task *tasks;
    int *first;          /* of each group; first[groups] = count */
    atomic_uint *claims; /* by task: the last run in which somebody took it */
    uint32_t runs;
    /* The number of the run, and below it how many of its tasks are done: one word, so that a member that comes late
     * sees that its run is over. */
    _Alignas(64) atomic_ullong done;
};

Status task_list_create(Team *team, const Task *tasks, int count, TaskRun *run, TaskMark *mark, void *context,
                        TaskList **out, Error *error)
{
    size_t size = (size_t)count;
    int groups = count > 0 ? tasks[count - 1].group + 1 : 0;
    TaskList *list = aligned_alloc(64, sizeof *list);
    if (list == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a list of %d tasks", count);
    *list = (TaskList){.team = team, .run = run, .mark = mark, .context = context, .count = count, .groups = groups};
    list->tasks = calloc(size + 1, sizeof *list->tasks);
    list->first = calloc((size_t)groups + 1, sizeof *list->first);
    list->claims = calloc(size + 1, sizeof *list->claims);
    if (list->tasks == NULL || list->first == NULL || list->claims == NULL) {
        task_list_destroy(list);
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a list of %d tasks", count);
    }
    if (count > 0) memcpy(list->tasks, tasks, size * sizeof *tasks);
    for (int t = count - 1; t >= 0; t--)
        list->first[tasks[t].group] = t;
    list->first[groups] = count;
    *out = list;
    return STATUS_OK;
}

void task_list_destroy(TaskList *list)
{
    if (list == NULL) return;
    team_withdraw(list->team);
    free(list->tasks);
    free(list->first);
    free(list->claims);
    free(list);
}

/* Runs a task unless somebody has taken it in this run. */
static void take(TaskList *list, int task, uint32_t run)
{
    unsigned last = atomic_load_explicit(&list->claims[task], memory_order_relaxed);
    if (last == run || last != run - 1 ||
        !atomic_compare_exchange_strong_explicit(&list->claims[task], &last, run, memory_order_relaxed,
                                                 memory_order_relaxed))
        return;
    list->run(list->context, task);
    atomic_fetch_add_explicit(&list->done, 1, memory_order_release);
}

/* True when the group is done; false when the whole run is over. */
static bool finish_group(TaskList *list, int group, uint32_t run)
{
    for (unsigned turns = 0;; turns++) {
        uint64_t done = atomic_load_explicit(&list->done, memory_order_acquire);
        if (done >> 32 != run) return false;
        if ((int)(done & 0xffffffff) >= list->first[group + 1]) return true;
        if (turns == GRACE)
            for (int t = list->first[group]; t < list->first[group + 1]; t++)
                take(list, t, run);
        else
            team_wait_turn(turns);
    }
}

static void work(TaskList *list, uint32_t run, int member)
{
    for (int group = 0; group < list->groups; group++) {
        if (member == 0 && list->mark != NULL) list->mark(list->context, group);
        for (int t = list->first[group]; t < list->first[group + 1]; t++)
            if (list->tasks[t].member == member) take(list, t, run);
        if (!finish_group(list, group, run)) return;
    }
}

static void help(void *context, int member, int members)
{
    (void)members;
    TaskList *list = context;
    work(list, (uint32_t)(atomic_load_explicit(&list->done, memory_order_acquire) >> 32), member);
}

void task_list_run(TaskList *list)
{
    uint32_t run = ++list->runs;
    atomic_store_explicit(&list->done, (uint64_t)run << 32, memory_order_release);
    team_offer(list->team, help, list);
    work(list, run, 0);
}
