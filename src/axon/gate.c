#include "axon/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <linux/tcp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "axon/guard.h"
#include "axon/internal.h"
#include "axon/ushers.h"

enum {
    METERS_MOST = 1 << 16, /* descriptors that calls can be told by */
    OTHERS = 256,          /* descriptors that are left to the rest of the process */
    CONNECTIONS_MOST = 16384,
    HOST_FRACTION = 8, /* this part of them isn't for one host alone */
    EVENTS = 64,
    ACCEPTS = 64,      /* at a time */
    GREETING = 512,    /* bytes; a greeting is shorter */
    MUCH = 16 << 20,   /* bytes */
    QUIET_LOOKS = 8,   /* a connection that brought nothing this often tells us itself when it does */
    QUIET_TURNS = 512, /* and is looked at every so many turns */
    DOOR_LOOKS = 256,  /* of the newest that wait at the door */
    GIVE_UP_MS = 20000 /* data that nobody acknowledges, as gRPC has it */
};
static const uint64_t turn_ns = 20000000, trouble_turn_ns = 5000000; /* between looks */
static const uint64_t crowd_ns = 2000000;   /* between connections of a crowd; the others wait in the kernel's line */
static const uint64_t tidy_ns = 1000000000; /* after a connection that was shut, or brought much */
static const uint64_t patience_ns = 250000000; /* that a greeting waits for ours */

/* Our descriptor `fd`, and gRPC's once it has one. */
typedef struct Connection {
    GuardConnection guard; /* the first member */
    int fd, given;
    Meter *meter;
    bool shut;      /* waits for gRPC to let go of it */
    unsigned quiet; /* looks without a byte */
    struct Connections *list;
    TAILQ_ENTRY(Connection) place;
} Connection;
TAILQ_HEAD(Connections, Connection);

struct Gate {
    Axon *axon;
    int sockets[LISTEN_MOST], socket_count;
    int events, wake; /* epoll's, and what ends the thread */
    bool started;
    pthread_t thread;
    grpc_server_credentials *credentials;
    Ushers *ushers;
    size_t meter_count;
    Meter nobody;

    Guard guard;
    struct Connections waiting; /* at the door, the newest first */
    struct Connections active, quiet, gone;
    size_t quiet_count;
    bool deaf;           /* the listening sockets aren't watched... */
    uint64_t hear_at_ns; /* ... until then */
    uint64_t next_turn_ns;
    uint64_t tidy_at_ns; /* 0: nothing to tidy */
    atomic_uint_fast64_t connections, taken, shut[CONNECTION_ENDS];
    Meter meters[]; /* by gRPC's descriptor */
};

static uint64_t now_ns(void)
{
    return clock_now(clock_monotonic());
}

/* --- meters --- */

Meter *gate_meter(const Axon *axon, grpc_call *call)
{
    struct Gate *gate = axon->gate;
    char *peer = grpc_call_get_peer(call);
    unsigned long number = gate->meter_count;
    if (strncmp(peer, "fd:", 3) == 0) number = strtoul(peer + 3, NULL, 10);
    gpr_free(peer);
    return number < gate->meter_count ? &gate->meters[number] : &gate->nobody;
}

static uint64_t read_meter(const atomic_uint_fast64_t *meter)
{
    return atomic_load_explicit(meter, memory_order_relaxed);
}

static void reset_meter(Meter *meter, uint64_t host)
{
    atomic_store_explicit(&meter->host, host, memory_order_relaxed);
    atomic_uint_fast64_t *counts[] = {&meter->begun,        &meter->begun_bytes, &meter->good,
                                      &meter->answer_bytes, &meter->bad,         &meter->bad_bytes};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        atomic_store_explicit(counts[i], 0, memory_order_relaxed);
}

void gate_count(const Axon *axon, AxonCounters *out)
{
    const Gate *gate = axon->gate;
    out->connections = read_meter(&gate->connections);
    out->connections_taken = read_meter(&gate->taken);
    for (int why = 0; why < CONNECTION_ENDS; why++)
        out->connections_shut[why] = read_meter(&gate->shut[why]);
}

/* --- a connection --- */

static void move(Gate *gate, Connection *connection, struct Connections *list)
{
    if (connection->list) TAILQ_REMOVE(connection->list, connection, place);
    if (connection->list == &gate->quiet) gate->quiet_count--;
    if (list == &gate->quiet) gate->quiet_count++;
    connection->list = list;
    if (list == &gate->waiting)
        TAILQ_INSERT_HEAD(list, connection, place);
    else
        TAILQ_INSERT_TAIL(list, connection, place);
}

/* It makes room at once, not only when gRPC has let go of it. */
static void leave(Gate *gate, Connection *connection)
{
    guard_go(&gate->guard, &connection->guard);
    atomic_store_explicit(&gate->connections, gate->guard.connections, memory_order_relaxed);
}

static void forget(Gate *gate, Connection *connection)
{
    if (connection->fd < 0) return;
    epoll_ctl(gate->events, EPOLL_CTL_DEL, connection->fd, NULL); /* not done by close while gRPC has its duplicate */
    close(connection->fd);
    connection->fd = -1;
    if (!connection->shut) leave(gate, connection);
    move(gate, connection, &gate->gone); /* an event of this round may still name it */
}

static void free_gone(Gate *gate)
{
    Connection *connection;
    while ((connection = TAILQ_FIRST(&gate->gone))) {
        TAILQ_REMOVE(&gate->gone, connection, place);
        free(connection);
    }
}

/* What gRPC hasn't read yet, it shall not read any more. */
static void discard(int fd)
{
    char bytes[1 << 16];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
}

/* gRPC sees the end of the connection, and closes it; our descriptor hears of that and goes, too. */
static void shut(Gate *gate, Connection *connection, ConnectionEnd why)
{
    if (connection->shut || connection->fd < 0) return;
    counter_add(&gate->shut[why], 1);
    if (!connection->guard.entered) {
        forget(gate, connection);
        return;
    }
    leave(gate, connection);
    connection->shut = true;
    move(gate, connection, &gate->active);
    shutdown(connection->fd, SHUT_RDWR);
    discard(connection->fd);
}

/* Whether we are told when it brings something; its end we are told anyway. */
static void listen_to(const Gate *gate, Connection *connection, bool yes)
{
    struct epoll_event event = {.events = (yes ? EPOLLIN : 0u) | EPOLLET, .data.ptr = connection};
    epoll_ctl(gate->events, EPOLL_CTL_MOD, connection->fd, &event);
}

static bool enter(Gate *gate, Connection *connection)
{
    connection->given = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
    if (connection->given < 0 || (size_t)connection->given >= gate->meter_count) {
        if (connection->given >= 0) close(connection->given);
        return false;
    }
    int give_up = GIVE_UP_MS;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up, sizeof give_up);
    listen_to(gate, connection, false);
    connection->meter = &gate->meters[connection->given];
    reset_meter(connection->meter, (uint64_t)(connection->guard.host - gate->guard.hosts));
    move(gate, connection, &gate->active);
    ushers_lead(gate->ushers, connection->given);
    return true;
}

static bool is_patient(const Connection *connection, uint64_t now)
{
    uint8_t bytes[GREETING];
    if (now - connection->guard.since_ns < patience_ns) return false;
    ssize_t got = recv(connection->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 && got < GREETING && guard_greeting(bytes, (size_t)got);
}

static void try_to_enter(Gate *gate, Connection *connection, bool patient, uint64_t now)
{
    if (!guard_enter(&gate->guard, &connection->guard, patient, now)) return;
    if (enter(gate, connection)) return;
    connection->guard.entered = false;
    shut(gate, connection, CONNECTION_CROWD);
}

/* --- accepting --- */

/* All callers of an IPv6 network are one host: whoever has one address there has 2^64. */
static uint64_t host_of(const Gate *gate, const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
    if (address->ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return hash_bytes(gate->axon->seed, (const char *)six->sin6_addr.s6_addr, 8);
    const void *bytes = address->ss_family == AF_INET6 ? (const void *)&six->sin6_addr.s6_addr[12] : &four->sin_addr;
    return hash_bytes(gate->axon->seed, bytes, 4);
}

/* Whoever is shut may come again at once: without a pace, that would be all that we do; and one by one, so that nobody
 * is kept waiting for as long as several take. */
static void hear(Gate *gate, bool yes)
{
    if (gate->deaf == !yes) return;
    for (int i = 0; i < gate->socket_count; i++) {
        struct epoll_event event = {.events = yes ? EPOLLIN : 0u, .data.ptr = &gate->sockets[i]};
        epoll_ctl(gate->events, EPOLL_CTL_MOD, gate->sockets[i], &event);
    }
    gate->deaf = !yes;
}

static void take(Gate *gate, int fd, const struct sockaddr_storage *address)
{
    Connection *connection = calloc(1, sizeof *connection);
    struct epoll_event first = {.events = EPOLLIN | EPOLLET, .data.ptr = connection};
    counter_add(&gate->taken, 1);
    if (!connection || epoll_ctl(gate->events, EPOLL_CTL_ADD, fd, &first) != 0) {
        counter_add(&gate->shut[CONNECTION_CROWD], 1);
        free(connection);
        close(fd);
        return;
    }
    connection->fd = fd;
    connection->given = -1;
    GuardConnection *over = guard_come(&gate->guard, &connection->guard, host_of(gate, address), now_ns());
    move(gate, connection, &gate->waiting);
    atomic_store_explicit(&gate->connections, gate->guard.connections, memory_order_relaxed);
    if (!over) return;
    shut(gate, (Connection *)(void *)over, CONNECTION_CROWD);
    gate->hear_at_ns = now_ns() + crowd_ns;
    hear(gate, false);
}

static void accept_some(Gate *gate, int listener)
{
    for (int i = 0; i < ACCEPTS && !gate->deaf; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(listener, (struct sockaddr *)(void *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(gate, fd, &address);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            struct timespec span = {.tv_nsec = 10000000}; /* until somebody goes */
            nanosleep(&span, NULL);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

/* --- looking --- */

static void look(Gate *gate, Connection *connection, uint64_t now)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    int unread = 0;
    ioctl(connection->fd, FIONREAD, &unread);
    getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    const Meter *meter = connection->meter;
    GuardUse use = {.begun = read_meter(&meter->begun),
                    .begun_bytes = read_meter(&meter->begun_bytes),
                    .good = read_meter(&meter->good),
                    .bad = read_meter(&meter->bad),
                    .bad_bytes = read_meter(&meter->bad_bytes),
                    .answer_bytes = read_meter(&meter->answer_bytes),
                    .received = info.tcpi_bytes_received - (unsigned)unread,
                    .sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans}; /* lines that stall send twice */
    connection->quiet = use.received == connection->guard.seen.received ? connection->quiet + 1 : 0;
    guard_look(&gate->guard, &connection->guard, &use, now);
}

/* The core time that the network threads and the ushers have used. */
static uint64_t work_of(const Gate *gate)
{
    const Axon *axon = gate->axon;
    uint64_t sum = ushers_work(gate->ushers);
    for (int i = 0; i < axon->thread_count; i++)
        sum += rpc_thread_work(axon->threads[i]);
    return sum;
}

/* What handlers have taken of it; the one that runs now included. */
static uint64_t purpose_of(Axon *axon, uint64_t now)
{
    uint64_t begun = read_meter(&axon->handler_begun_ns);
    uint64_t running = begun && now > begun ? now - begun : 0;
    return read_meter(&axon->counters.handler_ns) + running + 2 * read_meter(&axon->counters.bytes_out);
}

static void shut_with(Gate *gate, Connection *connection, uint64_t now)
{
    ConnectionEnd why = connection->guard.verdict;
    if (why == CONNECTION_STAYS || connection->shut) return;
    if (why >= CONNECTION_USELESS_CALLS) guard_offence(&gate->guard, &connection->guard, now);
    shut(gate, connection, why);
}

static void look_at_active(Gate *gate, uint64_t now)
{
    Connection *connection, *next;
    TAILQ_FOREACH(connection, &gate->active, place)
    {
        if (connection->shut)
            discard(connection->fd);
        else
            look(gate, connection, now);
    }
    double excess = guard_excess(&gate->guard, work_of(gate), purpose_of(gate->axon, now), now);
    for (connection = TAILQ_FIRST(&gate->active); connection; connection = next) {
        next = TAILQ_NEXT(connection, place);
        if (connection->shut) continue;
        if (excess > 0) guard_charge(&gate->guard, &connection->guard, excess);
        shut_with(gate, connection, now);
        if (connection->shut || connection->quiet < QUIET_LOOKS || connection->guard.suspect) continue;
        listen_to(gate, connection, true); /* told at once if something has come meanwhile */
        move(gate, connection, &gate->quiet);
    }
}

/* Thousands may be silent: they take turns. */
static void look_at_quiet(Gate *gate, uint64_t now)
{
    Connection *connection;
    size_t count = (gate->quiet_count + QUIET_TURNS - 1) / QUIET_TURNS;
    while (count-- > 0 && (connection = TAILQ_FIRST(&gate->quiet))) {
        move(gate, connection, &gate->quiet); /* to its end */
        look(gate, connection, now);
        shut_with(gate, connection, now);
    }
}

/* Who wait longest may have to go; of the others, those that brought something may come in, the newest first: whoever
 * is still there after a while has mostly been told to wait for a reason. Those of hosts without offences are let in
 * when they bring it (on_event). */
static void attend_the_door(Gate *gate, uint64_t now)
{
    Connection *connection, *next;
    static const GuardUse nothing;
    while ((connection = TAILQ_LAST(&gate->waiting, Connections))) {
        guard_look(&gate->guard, &connection->guard, &nothing, now);
        if (connection->guard.verdict == CONNECTION_STAYS) break;
        shut(gate, connection, connection->guard.verdict);
    }
    connection = TAILQ_FIRST(&gate->waiting);
    for (int i = 0; i < DOOR_LOOKS && connection; i++, connection = next) {
        int bytes = 0;
        next = TAILQ_NEXT(connection, place);
        if (connection->guard.host->offences > 0 && ioctl(connection->fd, FIONREAD, &bytes) == 0 && bytes > 0)
            try_to_enter(gate, connection, is_patient(connection, now), now);
    }
}

/* The allocator keeps what gRPC has freed, and after a flood that is much. */
static void tidy(Gate *gate, uint64_t now)
{
    if (gate->tidy_at_ns == 0 || now < gate->tidy_at_ns) return;
    gate->tidy_at_ns = 0;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void turn(Gate *gate)
{
    uint64_t now = now_ns();
    if (gate->deaf && now >= gate->hear_at_ns) hear(gate, true);
    if (now < gate->next_turn_ns) return;
    look_at_active(gate, now);
    look_at_quiet(gate, now);
    attend_the_door(gate, now);
    ushers_turn(gate->ushers);
    tidy(gate, now);
    gate->next_turn_ns = now + (gate->guard.trouble ? trouble_turn_ns : turn_ns);
}

/* --- the thread --- */

/* It has ended; if it wasn't us, it may still have been a nuisance. */
static void end(Gate *gate, Connection *connection)
{
    uint64_t now = now_ns();
    if (connection->guard.entered && !connection->shut) {
        look(gate, connection, now);
        if (guard_was_useless(&connection->guard)) guard_offence(&gate->guard, &connection->guard, now);
    }
    const GuardUse *use = &connection->guard.seen;
    if (connection->shut || use->received + use->sent > MUCH) gate->tidy_at_ns = now + tidy_ns;
    forget(gate, connection);
}

static void on_event(Gate *gate, Connection *connection, uint32_t events)
{
    if (connection->fd < 0) return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        end(gate, connection);
    } else if (connection->list == &gate->quiet) {
        listen_to(gate, connection, false);
        move(gate, connection, &gate->active);
        connection->quiet = 0;
    } else if (!connection->guard.entered && guard_trusts(connection->guard.host, now_ns())) {
        try_to_enter(gate, connection, false, now_ns());
    }
}

/* Milliseconds until there is something to do. */
static int patience(const Gate *gate)
{
    if (gate->guard.connections == 0 && TAILQ_EMPTY(&gate->active) && !gate->deaf && gate->tidy_at_ns == 0) return -1;
    uint64_t now = now_ns(), next = gate->next_turn_ns;
    if (gate->deaf && gate->hear_at_ns < next) next = gate->hear_at_ns;
    return next > now ? (int)((next - now + 999999) / 1000000) : 0;
}

static void *run_gate(void *context)
{
    Gate *gate = context;
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(gate->events, events, EVENTS, patience(gate));
        for (int i = 0; i < count; i++) {
            void *source = events[i].data.ptr;
            if (source == &gate->wake)
                return NULL;
            else if (source >= (void *)gate->sockets && source < (void *)(gate->sockets + LISTEN_MOST))
                accept_some(gate, *(int *)source);
            else
                on_event(gate, source, events[i].events);
        }
        turn(gate);
        free_gone(gate);
    }
}

/* --- its life --- */

/* Laptops allow a process 1024 at first, which is soon used up here. */
static size_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit most = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &most) == 0) limit = most;
    }
    return limit.rlim_cur < METERS_MOST ? (size_t)limit.rlim_cur : METERS_MOST;
}

static Status allocate(Axon *axon, Error *error)
{
    size_t descriptors = raise_descriptors();
    Gate *gate = calloc(1, sizeof *gate + descriptors * sizeof *gate->meters);
    if (!gate) return error_set_errno(error, ENOMEM, "the gate for %zu descriptors", descriptors);
    axon->gate = gate;
    gate->axon = axon;
    gate->meter_count = descriptors;
    gate->events = gate->wake = -1;
    TAILQ_INIT(&gate->waiting);
    TAILQ_INIT(&gate->active);
    TAILQ_INIT(&gate->quiet);
    TAILQ_INIT(&gate->gone);
    size_t most = descriptors > 2 * OTHERS ? (descriptors - OTHERS) / 2 : OTHERS / 2;
    if (most > CONNECTIONS_MOST) most = CONNECTIONS_MOST;
    guard_init(&gate->guard, most, most - most / HOST_FRACTION, axon->max_message_bytes);
    gate->credentials = grpc_insecure_server_credentials_create();
    gate->events = epoll_create1(EPOLL_CLOEXEC);
    gate->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (gate->events < 0 || gate->wake < 0) return error_set_errno(error, errno, "the gate's descriptors");
    return STATUS_OK;
}

Status gate_open(Axon *axon, const char *text, Error *error)
{
    char host[PEER_ADDRESS_SIZE];
    RETURN_IF_ERROR(address_parse(text, host, &axon->port, error));
    RETURN_IF_ERROR(allocate(axon, error));
    Gate *gate = axon->gate;
    RETURN_IF_ERROR(listen_at(host, &axon->port, gate->sockets, &gate->socket_count, error));
    snprintf(axon->address, sizeof axon->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, axon->port);
    return STATUS_OK;
}

static bool watch(const Gate *gate, int fd, void *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    return epoll_ctl(gate->events, EPOLL_CTL_ADD, fd, &event) == 0;
}

Status gate_start(Axon *axon, Error *error)
{
    Gate *gate = axon->gate;
    bool watched = watch(gate, gate->wake, &gate->wake);
    for (int i = 0; i < gate->socket_count; i++)
        watched = watched && watch(gate, gate->sockets[i], &gate->sockets[i]);
    if (!watched) return error_set_errno(error, errno, "cannot wait for connections");
    RETURN_IF_ERROR(ushers_start(axon->server, gate->credentials, gate->meter_count, &gate->ushers, error));
    RETURN_IF_ERROR(rpc_thread_start(&gate->thread, run_gate, gate, "axon-gate", error));
    gate->started = true;
    return STATUS_OK;
}

void gate_end(Axon *axon)
{
    Gate *gate = axon->gate;
    Connection *connection;
    uint64_t one = 1;
    if (gate->started && write(gate->wake, &one, sizeof one) == sizeof one) pthread_join(gate->thread, NULL);
    gate->started = false;
    while (gate->socket_count > 0)
        close(gate->sockets[--gate->socket_count]);
    if (gate->ushers && ushers_end(gate->ushers))
        TAILQ_FOREACH(connection, &gate->active, place) shutdown(connection->fd, SHUT_RDWR);
    ushers_free(gate->ushers);
    gate->ushers = NULL;
    while ((connection = TAILQ_FIRST(&gate->waiting)) || (connection = TAILQ_FIRST(&gate->active)) ||
           (connection = TAILQ_FIRST(&gate->quiet)))
        forget(gate, connection);
    free_gone(gate);
}

void gate_free(Axon *axon)
{
    Gate *gate = axon->gate;
    if (!gate) return;
    gate_end(axon);
    if (gate->events >= 0) close(gate->events);
    if (gate->wake >= 0) close(gate->wake);
    grpc_server_credentials_release(gate->credentials);
    free(gate);
    axon->gate = NULL;
}
