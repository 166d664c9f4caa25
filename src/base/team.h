/* A team of compute threads that runs one body at a time, in step. Member 0 is the thread that calls team_run; the
 * others sleep between runs.
 *
 * Waiting members spin for a few microseconds (the steps of a plan are that short) and then sleep in the kernel, so
 * that a team whose cores are taken by another process doesn't burn what it is given. One thread at a time may call
 * team_run. Members keep the same core affinity as their creator. */
#pragma once

#include "base/status.h"

typedef struct Team Team;

typedef void TeamBody(void *context, int member, int members);

/* `members` >= 1; with 1 no thread is started. */
Status team_create(int members, Team **out, Error *error);
void team_destroy(Team *team);
int team_members(const Team *team);

/* Runs body(context, member, members) on every member; returns when all have returned. */
void team_run(Team *team, TeamBody *body, void *context);

/* For use inside a body, by every member: returns when all have come here. What was written before is seen after. */
void team_barrier(Team *team);

/* How many cores this process may use (its affinity mask). */
int team_available_cores(void);
