#include "axon/guard.h"

#include <math.h>
#include <string.h>

static const uint64_t ms = 1000000, second = 1000000000;

enum {
    MIB = 1 << 20,

    SILENT_S = 10,        /* for the first byte, or at the door */
    STRANGER_S = 30,      /* for the first request; the window of `slow` as well */
    SLOW_LEAST = 8 << 10, /* bytes in that time that aren't just pings now and then... */
    SLOW_MOST = 1 << 20,  /* ... and are too few for a request that is on its way (35 KB/s) */

    BAD_MOST = 256, /* calls */
    BAD_LEAK = 4,   /* a second */
    WASTE_LEAST = 32 * MIB,
    WASTE_LEAK = 8 * MIB,
    ECHO_MOST = 256 << 10, /* 28,000 frames of 9 bytes take a millisecond */
    ECHO_LEAK = 64 << 10,
    OWED_FRAMES = 64 << 10,
    COST_MOST_MS = 200, /* core time */
    COST_LEAK_MS = 50,  /* a second */
    DEAR_NS = 2,        /* a byte, beyond what is accounted for, counts once; twice as much, twice... */
    DEAR_MOST = 8,      /* ... since it is ever less likely that a slow machine takes a message in */
    PROBATION = 4,      /* buckets are smaller by this */
    LEFT_BYTES = 64 << 10,

    /* What is accounted for. Measured: 9 to 13 us a call, 0.6 ns a byte of a message; of frames without content 4 ns.
     */
    CALL_NS = 15000,
    REQUEST_NS = 250000 * DEAR_MOST, /* what a request forgives, since calls may be slow here: 250 us */
    BYTE_NS = 2,
    CALL_BYTES = 512,         /* of frames and headers, beyond the message, either way */
    UPDATE_BYTES = 64,        /* that are received are worth one that is sent: windows are opened */
    SUSPECT_BYTES = 16 << 10, /* less is on its way from anybody */

    OFFENCES_MOST = 16,
    FORGET_S = 15,    /* half of the offences */
    TURNS_SECOND = 4, /* for the patient */
    TURNS_MOST = 4,
    HASTY_MS = 250, /* for the hasty: this, doubled with each offence... */
    HASTY_DOUBLINGS = 5,
};
static const double trouble_least = 0.2; /* of a core */
static const double moment_s = 0.1;

void guard_init(Guard *guard, size_t most, size_t most_of_host, size_t message_bytes)
{
    *guard = (Guard){.most = most, .most_of_host = most_of_host, .message_bytes = message_bytes};
    for (int i = 0; i < GUARD_HOSTS; i++)
        TAILQ_INIT(&guard->hosts[i].strangers);
}

const char *connection_end_name(ConnectionEnd end)
{
    static const char *const names[CONNECTION_ENDS] = {"stays",         "silent",       "slow", "useless calls",
                                                       "useless bytes", "useless work", "crowd"};
    return names[end];
}

/* --- hosts --- */

static double offences_now(const GuardHost *host, uint64_t now)
{
    return host->offences * exp2(-(double)(now - host->offences_ns) / (double)(FORGET_S * second));
}

bool guard_trusts(const GuardHost *host, uint64_t now)
{
    return host->offences == 0 || offences_now(host, now) < 0.5;
}

void guard_offence(Guard *guard, GuardConnection *connection, uint64_t now)
{
    (void)guard;
    GuardHost *host = connection->host;
    host->offences = fmin(OFFENCES_MOST, offences_now(host, now) + 1);
    host->offences_ns = now;
}

/* --- coming and going --- */

static void become_known(GuardConnection *connection)
{
    if (!connection->stranger) return;
    connection->stranger = false;
    TAILQ_REMOVE(&connection->host->strangers, connection, place);
}

static GuardConnection *oldest_stranger(Guard *guard, const GuardConnection *newest)
{
    GuardHost *host = newest->host;
    if (host->connections <= guard->most_of_host && TAILQ_FIRST(&host->strangers) == newest)
        for (int i = 0; i < GUARD_HOSTS; i++) /* the host isn't to blame that there are too many */
            if (guard->hosts[i].connections > host->connections && !TAILQ_EMPTY(&guard->hosts[i].strangers))
                host = &guard->hosts[i];
    return TAILQ_FIRST(&host->strangers);
}

GuardConnection *guard_come(Guard *guard, GuardConnection *connection, uint64_t host, uint64_t now)
{
    *connection = (GuardConnection){.host = &guard->hosts[host % GUARD_HOSTS],
                                    .stranger = true,
                                    .since_ns = now,
                                    .looked_ns = now,
                                    .window_ns = now};
    TAILQ_INSERT_TAIL(&connection->host->strangers, connection, place);
    connection->host->connections++;
    guard->connections++;
    if (connection->host->connections <= guard->most_of_host && guard->connections <= guard->most) return NULL;
    return oldest_stranger(guard, connection);
}

void guard_go(Guard *guard, GuardConnection *connection)
{
    become_known(connection);
    connection->host->connections--;
    guard->connections--;
}

static bool take_turn(GuardHost *host, uint64_t now)
{
    double gained = (double)(now - host->turns_ns) * TURNS_SECOND / (double)second;
    host->turns = fmin(TURNS_MOST, host->turns + gained);
    host->turns_ns = now;
    if (host->turns < 1) return false;
    host->turns -= 1;
    return true;
}

static bool take_hasty_turn(GuardHost *host, uint64_t now)
{
    if (now < host->next_hasty_ns) return false;
    double doublings = fmin(HASTY_DOUBLINGS, offences_now(host, now));
    host->next_hasty_ns = now + (uint64_t)(exp2(doublings) * HASTY_MS) * ms;
    return true;
}

bool guard_enter(Guard *guard, GuardConnection *connection, bool patient, uint64_t now)
{
    (void)guard;
    GuardHost *host = connection->host;
    connection->probation = !guard_trusts(host, now);
    if (connection->probation && !(patient ? take_turn(host, now) : take_hasty_turn(host, now))) return false;
    connection->entered = true;
    return true;
}

bool guard_greeting(const uint8_t *bytes, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const size_t length = sizeof preface - 1, header = 9;
    enum { SETTINGS = 4, WINDOW_UPDATE = 8 };
    if (size < length + header || memcmp(bytes, preface, length) != 0) return false;
    for (size_t at = length; at < size;) {
        if (size - at < header) return false;
        size_t payload = (size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2];
        if (bytes[at + 3] != SETTINGS && bytes[at + 3] != WINDOW_UPDATE) return false;
        if (payload > size - at - header) return false;
        at += header + payload;
    }
    return true;
}

/* --- buckets --- */

static double leak(double level, double a_second, double seconds)
{
    return fmax(0, level - a_second * seconds);
}

static double most(const GuardConnection *connection, double usual)
{
    return connection->probation ? usual / PROBATION : usual;
}

static void judge_use(Guard *guard, GuardConnection *connection)
{
    double waste_most = fmax(WASTE_LEAST, (double)guard->message_bytes);
    if (connection->bad > most(connection, BAD_MOST))
        connection->verdict = CONNECTION_USELESS_CALLS;
    else if (connection->waste > most(connection, waste_most))
        connection->verdict = CONNECTION_USELESS_BYTES;
    else if (connection->echo > most(connection, ECHO_MOST))
        connection->verdict = CONNECTION_USELESS_WORK;
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t useful_bytes(const GuardUse *use)
{
    return use->begun_bytes + above(use->begun, use->bad) * CALL_BYTES;
}

/* Bytes that were no requests. */
static uint64_t waste_of(const GuardUse *use)
{
    return above(use->received + use->bad_bytes, useful_bytes(use));
}

bool guard_was_useless(const GuardConnection *connection)
{
    uint64_t waste = waste_of(&connection->seen);
    return waste > LEFT_BYTES && waste > connection->seen.received / 2;
}

static void judge_speed(GuardConnection *connection, uint64_t now)
{
    const GuardUse *use = &connection->seen, *then = &connection->window;
    if (!connection->entered) {
        if (now - connection->since_ns > SILENT_S * second) connection->verdict = CONNECTION_SILENT;
        return;
    }
    if (now - connection->window_ns <= STRANGER_S * second) return;
    uint64_t bytes = use->received - then->received;
    if (use->begun == then->begun && bytes < SLOW_MOST && (connection->stranger || bytes > SLOW_LEAST))
        connection->verdict = bytes > SLOW_LEAST ? CONNECTION_SLOW : CONNECTION_SILENT;
    connection->window_ns = now;
    connection->window = *use;
}

/* Bytes that were no answers. What is owed may leave over many looks. */
static uint64_t echo_of(GuardConnection *connection, const GuardUse *fresh)
{
    uint64_t frames =
        connection->owed_frames + (fresh->begun + fresh->bad) * CALL_BYTES + fresh->received / UPDATE_BYTES;
    uint64_t answers = connection->owed_answers + fresh->answer_bytes + fresh->answer_bytes / UPDATE_BYTES;
    uint64_t beyond = above(fresh->sent, answers);
    connection->owed_answers = above(answers, fresh->sent);
    connection->owed_frames = above(frames, beyond);
    if (connection->owed_frames > OWED_FRAMES) connection->owed_frames = OWED_FRAMES;
    return above(beyond, frames);
}

static GuardUse since(const GuardUse *use, const GuardUse *then)
{
    return (GuardUse){.received = use->received - then->received,
                      .sent = use->sent - then->sent,
                      .begun = use->begun - then->begun,
                      .begun_bytes = use->begun_bytes - then->begun_bytes,
                      .good = use->good - then->good,
                      .answer_bytes = use->answer_bytes - then->answer_bytes,
                      .bad = use->bad - then->bad,
                      .bad_bytes = use->bad_bytes - then->bad_bytes};
}

void guard_look(Guard *guard, GuardConnection *connection, const GuardUse *use, uint64_t now)
{
    double seconds = clock_seconds(now - connection->looked_ns);
    GuardUse fresh = since(use, &connection->seen);
    uint64_t waste = waste_of(&fresh);

    connection->bad = leak(connection->bad + (double)fresh.bad, BAD_LEAK, seconds);
    connection->bad = fmax(0, connection->bad - (double)fresh.good);
    connection->waste = leak(connection->waste, WASTE_LEAK, seconds);
    if (connection->bad > 0) connection->waste += (double)(fresh.bad_bytes > waste ? fresh.bad_bytes : waste);
    connection->echo = leak(connection->echo + (double)echo_of(connection, &fresh), ECHO_LEAK, seconds);
    connection->cost_ns = leak(connection->cost_ns, COST_LEAK_MS * (double)ms, seconds);

    connection->cost_ns = fmax(0, connection->cost_ns - REQUEST_NS * (double)above(fresh.begun, fresh.bad));

    double faded = exp(-seconds / moment_s);
    connection->lately = connection->lately * faded + (double)fresh.received;
    connection->unclear = fmax(0, connection->unclear * faded + (double)(fresh.received + fresh.bad_bytes) -
                                      (double)useful_bytes(&fresh));
    connection->suspect = connection->unclear > SUSPECT_BYTES && connection->unclear > connection->lately / 2;
    guard->look_received += fresh.received;
    guard->look_good += fresh.good;
    guard->look_waste += waste;
    if (connection->suspect) guard->unclear += connection->unclear;

    connection->seen = *use;
    connection->looked_ns = now;
    if (use->begun) become_known(connection);
    judge_use(guard, connection);
    if (connection->verdict == CONNECTION_STAYS) judge_speed(connection, now);
}

/* --- time --- */

double guard_excess(Guard *guard, uint64_t work_ns, uint64_t purpose_ns, uint64_t now)
{
    double passed = (double)(now - guard->looked_ns), worked = (double)(work_ns - guard->work_ns);
    double purpose = (double)purpose_ns - (double)guard->purpose_ns + CALL_NS * (double)guard->look_good +
                     BYTE_NS * (double)guard->look_received;
    bool first = guard->looked_ns == 0;
    double excess = worked - purpose;
    guard->busy = !first && excess > trouble_least * passed;
    guard->trouble = guard->busy && guard->unclear > 0;
    double faded = exp(-passed / (moment_s * (double)second));
    guard->excess_ns = guard->excess_ns * faded + fmax(0, excess);
    guard->waste = guard->waste * faded + (double)guard->look_waste;
    double dear = guard->excess_ns / fmax(1, guard->waste) / DEAR_NS;
    double rate = guard->trouble ? excess / guard->unclear * fmin(DEAR_MOST, fmax(1, dear)) : 0;
    guard->looked_ns = now;
    guard->work_ns = work_ns;
    guard->purpose_ns = purpose_ns;
    guard->look_received = guard->look_good = guard->look_waste = 0;
    guard->unclear = 0;
    return rate;
}

void guard_charge(Guard *guard, GuardConnection *connection, double byte_ns)
{
    (void)guard;
    if (!connection->suspect || connection->verdict != CONNECTION_STAYS) return;
    connection->cost_ns += byte_ns * connection->unclear;
    connection->suspect = false;
    if (connection->cost_ns > most(connection, COST_MOST_MS * (double)ms))
        connection->verdict = CONNECTION_USELESS_WORK;
}
