/* Tasks in groups, run by a team: a task may begin when all tasks of the groups before its own are done. Made once, run
 * many times.
 *
 * Each task prefers one member, so that it finds its data in that member's cache run after run; but a member that waits
 * takes over what another hasn't begun, so a team goes on at the speed of the cores it really gets when other processes
 * want them too. Which member runs a task changes nothing in what it computes. */
#pragma once

#include "base/team.h"

typedef struct TaskList TaskList;

typedef struct Task {
    int group;  /* not less than that of the task before it */
    int member; /* that it prefers */
} Task;

typedef void TaskRun(void *context, int task);
/* Told by the calling thread when it comes to a group whose predecessors are done (profiling). */
typedef void TaskMark(void *context, int group);

/* `team` must outlive the list; groups are 0, 1, ... without a gap. `mark` may be NULL. */
Status task_list_create(Team *team, const Task *tasks, int count, TaskRun *run, TaskMark *mark, void *context,
                        TaskList **out, Error *error);
void task_list_destroy(TaskList *list);

/* Returns when every task has been run once. */
void task_list_run(TaskList *list);
