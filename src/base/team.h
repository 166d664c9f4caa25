/* A team of compute threads. Member 0 is the thread that calls; the others sleep between jobs.
 *
 * Two ways to work: team_run, in step (every member takes part, and the call waits for all), and team_offer, where the
 * others help if and when they get a core (tasks.h builds on it). Waiting members spin for some microseconds, since the
 * steps of a plan are that short, and then sleep in the kernel, so that a team whose cores are wanted by another
 * process doesn't burn what it is given. One thread at a time may use a team. */
#pragma once

#include "base/status.h"

typedef struct Team Team;

typedef void TeamBody(void *context, int member, int members);

/* `members` >= 1; with 1 no thread is started. */
Status team_create(int members, Team **out, Error *error);
void team_destroy(Team *team);
int team_members(const Team *team);

/* Runs body(context, member, members) once on every member; returns when all have returned. */
void team_run(Team *team, TeamBody *body, void *context);

/* For use inside a team_run body, by every member: returns when all have come here. What was written before is seen
 * after. */
void team_barrier(Team *team);

/* Asks members 1, 2, ... to run body(context, member, members) once each, some time; returns at once. A later offer
 * replaces this one for those who haven't begun. */
void team_offer(Team *team, TeamBody *body, void *context);
/* Returns when nobody runs an offered body any more, and nobody will begin to: what its context points at may then be
 * freed. */
void team_withdraw(Team *team);

/* How many cores the calling thread may use (its affinity mask, which threads inherit); 1 where nobody can tell. */
int team_available_cores(void);

/* Inside a loop that waits for another thread: `turns` counts its rounds, and decides between a pause and giving the
 * core away. */
void team_wait_turn(unsigned turns);
