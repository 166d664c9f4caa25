#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/tasks.h"
#include "support/suite.h"

enum { MOST = 512 };

typedef struct Work {
    const Task *tasks;
    int count, slow;       /* slow: this task takes 20 ms; -1: none */
    atomic_int ran[MOST];  /* how often each task ran */
    atomic_int done[MOST]; /* tasks done, by group */
    int size[MOST];        /* tasks in each group */
    atomic_int too_early;  /* tasks that began before the group before theirs was done */
    unsigned plain[MOST];  /* written without a lock, read by the next group: a race detector's bait */
    atomic_int marks;
} Work;

static void run_task(void *context, int task)
{
    Work *work = context;
    int group = work->tasks[task].group;
    if (task == work->slow) usleep(20000);
    if (group > 0 && atomic_load(&work->done[group - 1]) % work->size[group - 1] != 0)
        atomic_fetch_add(&work->too_early, 1);
    unsigned before = 0;
    for (int t = 0; t < work->count && group > 0; t++)
        if (work->tasks[t].group == group - 1) before += work->plain[t];
    work->plain[task] = group == 0 ? 1 : before;
    atomic_fetch_add(&work->ran[task], 1);
    atomic_fetch_add(&work->done[group], 1);
}

static void mark(void *context, int group)
{
    (void)group;
    atomic_fetch_add(&((Work *)context)->marks, 1);
}

static Work *make_work(const Task *tasks, int count)
{
    Work *work = calloc(1, sizeof *work);
    ck_assert_ptr_nonnull(work);
    work->tasks = tasks;
    work->count = count;
    work->slow = -1;
    for (int t = 0; t < count; t++)
        work->size[tasks[t].group]++;
    return work;
}

/* Every task runs once a run, after all of the group before, with teams of every size, run after run. */
static void follow(int members)
{
    Team *team = NULL;
    TaskList *list = NULL;
    int count = 0;
    Task tasks[120];
    for (int group = 0; group < 30; group++)
        for (int share = 0; share < 1 + group % 4; share++)
            tasks[count++] = (Task){group, share % members};
    Work *work = make_work(tasks, count);
    ck_assert_int_eq(team_create(members, &team, NULL), STATUS_OK);
    ck_assert_int_eq(task_list_create(team, tasks, count, run_task, mark, work, &list, NULL), STATUS_OK);
    for (int run = 1; run <= 300; run++) {
        task_list_run(list);
        for (int t = 0; t < count; t++)
            ck_assert_int_eq(atomic_load(&work->ran[t]), run);
    }
    ck_assert_int_eq(atomic_load(&work->too_early), 0);
    ck_assert_int_eq(atomic_load(&work->marks), 300 * 30);
    unsigned product = 1; /* what the last group saw: the sizes of the groups before, multiplied (wrapping is fine) */
    for (int group = 0; group < 29; group++)
        product *= (unsigned)work->size[group];
    ck_assert_uint_eq(work->plain[count - 1], product);
    task_list_destroy(list);
    team_destroy(team);
    free(work);
}

START_TEST(groups_follow_each_other)
{
    for (int members = 1; members <= 5; members++)
        follow(members);
}
END_TEST

/* A member that is late, or asleep, holds nobody up: the caller takes over what it hasn't begun. */
START_TEST(waiting_members_take_over)
{
    Team *team = NULL;
    TaskList *list = NULL;
    const Task tasks[] = {{0, 1}, {0, 1}, {1, 1}, {2, 0}};
    Work *work = make_work(tasks, 4);
    ck_assert_int_eq(team_create(2, &team, NULL), STATUS_OK);
    ck_assert_int_eq(task_list_create(team, tasks, 4, run_task, NULL, work, &list, NULL), STATUS_OK);
    work->slow = 0; /* whoever has it, the other does the rest of the group */
    for (int run = 1; run <= 5; run++)
        task_list_run(list);
    for (int t = 0; t < 4; t++)
        ck_assert_int_eq(atomic_load(&work->ran[t]), 5);
    ck_assert_int_eq(atomic_load(&work->too_early), 0);
    task_list_destroy(list);
    team_destroy(team);
    free(work);
}
END_TEST

/* Lists of one team take turns, and may go while the team stays. */
START_TEST(lists_share_a_team)
{
    Team *team = NULL;
    const Task tasks[] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}};
    ck_assert_int_eq(team_create(3, &team, NULL), STATUS_OK);
    for (int round = 0; round < 100; round++) {
        Work *one = make_work(tasks, 4), *other = make_work(tasks, 4);
        TaskList *first = NULL, *second = NULL;
        ck_assert_int_eq(task_list_create(team, tasks, 4, run_task, NULL, one, &first, NULL), STATUS_OK);
        ck_assert_int_eq(task_list_create(team, tasks, 4, run_task, NULL, other, &second, NULL), STATUS_OK);
        task_list_run(first);
        task_list_run(second);
        task_list_destroy(first);
        task_list_run(second);
        task_list_destroy(second);
        ck_assert_int_eq(atomic_load(&one->ran[3]), 1);
        ck_assert_int_eq(atomic_load(&other->ran[3]), 2);
        free(one);
        free(other);
    }
    team_destroy(team);
}
END_TEST

START_TEST(an_empty_list_is_done_at_once)
{
    Team *team = NULL;
    TaskList *list = NULL;
    ck_assert_int_eq(team_create(2, &team, NULL), STATUS_OK);
    ck_assert_int_eq(task_list_create(team, NULL, 0, run_task, NULL, NULL, &list, NULL), STATUS_OK);
    task_list_run(list);
    task_list_destroy(list);
    team_destroy(team);
}
END_TEST

SUITE_MAIN("tasks", groups_follow_each_other, waiting_members_take_over, lists_share_a_team,
           an_empty_list_is_done_at_once)
