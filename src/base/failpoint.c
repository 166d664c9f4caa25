/* What is armed is the one piece of process-wide state that tests need: the places to fail lie deep below any call that
 * could carry it, and the environment that arms them belongs to the process too. `state` is read without the lock, so
 * that a program with nothing armed pays one relaxed load; the lock guards the table. */
#include "base/failpoint.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { NAME_SIZE = 48, TABLE_SIZE = 16, ERRNO_LIMIT = 4096 };
enum { KILL = -1 }; /* in place of an errno */

typedef struct Failpoint {
    char name[NAME_SIZE];
    int failure;     /* errno or KILL */
    uint64_t only;   /* the hit that fails, counted from 1; 0: each of them */
    uint64_t passed; /* hits so far */
} Failpoint;

typedef struct Table {
    Failpoint points[TABLE_SIZE];
    size_t count;
} Table;

enum { DISARMED, ARMED, ENVIRONMENT_UNREAD };

static _Atomic int state = ENVIRONMENT_UNREAD;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Table armed;

static int errno_from_name(const char *name)
{
    if (strcmp(name, "KILL") == 0) return KILL;
    for (int value = 1; value < ERRNO_LIMIT; value++) {
        const char *candidate = strerrorname_np(value);
        if (candidate && strcmp(candidate, name) == 0) return value;
    }
    return 0;
}

/* NAME=ERRNO[@N], cut apart in place. */
static Status parse_point(char *text, Failpoint *out, Error *error)
{
    static const char expected[] = "expected NAME=ERRNO[@N] such as file.write=ENOSPC@3";
    char whole[96];
    strncpy(whole, text, sizeof whole - 1);
    whole[sizeof whole - 1] = '\0';
    char *equals = strchr(text, '=');
    if (!equals || equals == text || equals - text >= NAME_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "failpoint '%s' has no name, or one of %d characters or more, %s", whole, NAME_SIZE, expected);
    *equals = '\0';
    *out = (Failpoint){0};
    strcpy(out->name, text);
    char *at = strchr(equals + 1, '@');
    if (at) {
        *at++ = '\0';
        char *end;
        errno = 0;
        out->only = strtoull(at, &end, 10);
        if (errno || *end || *at < '0' || *at > '9' || out->only == 0)
            return error_set(error, STATUS_INVALID_ARGUMENT, "failpoint '%s' fails at '%s', expected a count from 1",
                             whole, at);
    }
    out->failure = errno_from_name(equals + 1);
    if (out->failure == 0)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "failpoint '%s' fails with '%s', expected an errno's name or KILL", whole, equals + 1);
    return STATUS_OK;
}

static Status parse_table(const char *specification, Table *out, Error *error)
{
    *out = (Table){0};
    if (!specification) return STATUS_OK;
    char *copy = strdup(specification), *rest = copy, *item;
    if (!copy) return error_set_errno(error, ENOMEM, "failpoints '%s'", specification);
    Status status = STATUS_OK;
    while ((item = strsep(&rest, ","))) {
        if (*item == '\0') continue;
        if (out->count == TABLE_SIZE) {
            status = error_set(error, STATUS_INVALID_ARGUMENT, "failpoints '%s' are more than %d", specification,
                               TABLE_SIZE);
            break;
        }
        GOTO_IF_ERROR(parse_point(item, &out->points[out->count], error), done);
        out->count++;
    }
done:
    free(copy);
    return status;
}

/* With the lock held. */
static void install(const Table *table)
{
    armed = *table;
    atomic_store_explicit(&state, table->count ? ARMED : DISARMED, memory_order_relaxed);
}

Status failpoint_arm(const char *specification, Error *error)
{
    Table table;
    RETURN_IF_ERROR(parse_table(specification, &table, error));
    pthread_mutex_lock(&lock);
    install(&table);
    pthread_mutex_unlock(&lock);
    return STATUS_OK;
}

/* With the lock held. A mistake in the variable arms nothing, and is said aloud: a test that fails nothing by accident
 * would pass. */
static void read_environment(void)
{
    Table table;
    Error error;
    if (parse_table(getenv("NEURON_FAILPOINTS"), &table, &error) != STATUS_OK) {
        log_error("NEURON_FAILPOINTS is ignored: %s", error.message);
        table = (Table){0};
    }
    install(&table);
}

/* With the lock held. Every point of that name counts the hit, also after one of them has failed it. */
static int count_hit(const char *name)
{
    int failure = 0;
    for (size_t i = 0; i < armed.count; i++) {
        Failpoint *point = &armed.points[i];
        if (strcmp(point->name, name) != 0) continue;
        point->passed++;
        if (failure == 0 && (point->only == 0 || point->passed == point->only)) failure = point->failure;
    }
    return failure;
}

int failpoint_hit(const char *name)
{
    if (atomic_load_explicit(&state, memory_order_relaxed) == DISARMED) return 0;
    pthread_mutex_lock(&lock);
    if (atomic_load_explicit(&state, memory_order_relaxed) == ENVIRONMENT_UNREAD) read_environment();
    int failure = count_hit(name);
    pthread_mutex_unlock(&lock);
    if (failure == KILL) {
        raise(SIGKILL);
        abort(); /* not reached */
    }
    return failure;
}
