/* A TCP proxy on loopback that holds back every byte by half a round trip, both ways, with unlimited bandwidth: a far
 * network on one machine. delay_proxy TARGET_PORT ROUND_TRIP_MS prints the port that it listens on, and runs until it
 * is killed, or whoever started it ends.
 *
 * One thread. What arrives is kept in chunks with the time when each is due; order is kept, an end of stream is delayed
 * like data. Connections themselves are made at once. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536, EVENTS = 64, SPARE_CHUNKS = 1024 };

static const size_t most_in_flight = (size_t)1 << 30; /* bytes a direction: a reader that stalls stops the writer */

typedef struct Chunk {
    struct Chunk *next;
    int64_t due; /* ns */
    size_t begin, end;
    char data[CHUNK_BYTES];
} Chunk;

/* One direction of a connection. */
typedef struct Way {
    int from, to;
    Chunk *first, *last;
    size_t bytes;
    int64_t end_due;                /* of the end of the stream */
    bool ended, passed_on, blocked; /* the end was read; was written; `to` takes nothing more */
} Way;

typedef struct Pair Pair;

typedef struct Side {
    Pair *pair;
    int number; /* way `number` reads from here, the other one writes here */
    uint32_t interest;
} Side;

struct Pair {
    Pair *next;
    Way ways[2];
    Side sides[2];
    bool over;
};

typedef struct Proxy {
    int listener, epoll, target_port;
    int64_t delay; /* ns */
    Pair *pairs;
    Chunk *spare;
    size_t spare_count;
} Proxy;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* --- chunks: kept for reuse, since the system takes time to give pages back --- */

static Chunk *chunk_take(Proxy *proxy)
{
    Chunk *chunk = proxy->spare;
    if (chunk != NULL) {
        proxy->spare = chunk->next;
        proxy->spare_count--;
    } else if ((chunk = malloc(sizeof *chunk)) == NULL) {
        die("delay_proxy: memory");
    }
    chunk->next = NULL;
    return chunk;
}

static void chunk_give_back(Proxy *proxy, Chunk *chunk)
{
    if (proxy->spare_count >= SPARE_CHUNKS) {
        free(chunk);
        return;
    }
    chunk->next = proxy->spare;
    proxy->spare = chunk;
    proxy->spare_count++;
}

/* --- one direction --- */

/* Takes what has arrived. False: the connection is broken. */
static bool way_read(Proxy *proxy, Way *way, int64_t now)
{
    while (!way->ended && way->bytes < most_in_flight) {
        Chunk *chunk = chunk_take(proxy);
        ssize_t got = recv(way->from, chunk->data, CHUNK_BYTES, MSG_DONTWAIT);
        if (got <= 0) {
            int why = errno;
            chunk_give_back(proxy, chunk);
            if (got < 0) return why == EAGAIN || why == EINTR;
            way->ended = true;
            way->end_due = now + proxy->delay;
            break;
        }
        chunk->due = now + proxy->delay;
        chunk->begin = 0;
        chunk->end = (size_t)got;
        if (way->last != NULL)
            way->last->next = chunk;
        else
            way->first = chunk;
        way->last = chunk;
        way->bytes += (size_t)got;
        if (got < CHUNK_BYTES) break; /* there is no more, or an event will say so */
    }
    return true;
}

/* Passes on what is due. False: the connection is broken. */
static bool way_write(Proxy *proxy, Way *way, int64_t now)
{
    while (!way->blocked && way->first != NULL && way->first->due <= now) {
        Chunk *chunk = way->first;
        ssize_t sent =
            send(way->to, chunk->data + chunk->begin, chunk->end - chunk->begin, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            way->blocked = errno == EAGAIN;
            if (!way->blocked && errno != EINTR) return false;
            continue;
        }
        chunk->begin += (size_t)sent;
        way->bytes -= (size_t)sent;
        if (chunk->begin < chunk->end) continue;
        way->first = chunk->next;
        if (way->first == NULL) way->last = NULL;
        chunk_give_back(proxy, chunk);
    }
    if (way->ended && way->first == NULL && !way->passed_on && way->end_due <= now) {
        shutdown(way->to, SHUT_WR);
        way->passed_on = true;
    }
    return true;
}

/* When something is due next; -1: nothing waits for the clock. */
static int64_t way_due(const Way *way)
{
    if (way->first != NULL) return way->blocked ? -1 : way->first->due;
    return way->ended && !way->passed_on ? way->end_due : -1;
}

/* --- connections --- */

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void pair_open(Proxy *proxy, int caller)
{
    struct sockaddr_in address = loopback(proxy->target_port);
    int target = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (target < 0) die("delay_proxy: socket");
    if (connect(target, (struct sockaddr *)&address, sizeof address) < 0) {
        close(target); /* nobody there: the caller sees a connection that ends */
        close(caller);
        return;
    }
    Pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL) die("delay_proxy: memory");
    int ends[2] = {caller, target};
    for (int i = 0; i < 2; i++) {
        setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        pair->ways[i] = (Way){.from = ends[i], .to = ends[1 - i]};
        pair->sides[i] = (Side){.pair = pair, .number = i, .interest = EPOLLIN};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &pair->sides[i]};
        if (epoll_ctl(proxy->epoll, EPOLL_CTL_ADD, ends[i], &event) < 0) die("delay_proxy: epoll");
    }
    pair->next = proxy->pairs;
    proxy->pairs = pair;
}

static void pair_close(Proxy *proxy, Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        close(pair->ways[i].from);
        for (Chunk *chunk = pair->ways[i].first, *next; chunk != NULL; chunk = next) {
            next = chunk->next;
            chunk_give_back(proxy, chunk);
        }
    }
    free(pair);
}

static void on_event(Proxy *proxy, const Side *side, uint32_t events, int64_t now)
{
    Pair *pair = side->pair;
    if (events & EPOLLOUT) pair->ways[1 - side->number].blocked = false;
    if (events & EPOLLERR) pair->over = true;
    if ((events & (EPOLLIN | EPOLLHUP)) && !way_read(proxy, &pair->ways[side->number], now)) pair->over = true;
}

/* Asks for the events that can be used now. */
static void watch(const Proxy *proxy, Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        const Way *in = &pair->ways[i], *out = &pair->ways[1 - i];
        uint32_t interest = 0;
        if (!in->ended && in->bytes < most_in_flight) interest |= EPOLLIN;
        if (out->blocked) interest |= EPOLLOUT;
        if (interest == pair->sides[i].interest) continue;
        pair->sides[i].interest = interest;
        struct epoll_event event = {.events = interest, .data.ptr = &pair->sides[i]};
        if (epoll_ctl(proxy->epoll, EPOLL_CTL_MOD, in->from, &event) < 0) die("delay_proxy: epoll");
    }
}

/* Passes on everything that is due, and forgets connections that are over. Returns when something is due next, or -1.
 */
static int64_t pass_on(Proxy *proxy, int64_t now)
{
    int64_t next = -1;
    for (Pair **at = &proxy->pairs; *at != NULL;) {
        Pair *pair = *at;
        for (int i = 0; i < 2; i++)
            if (!way_write(proxy, &pair->ways[i], now)) pair->over = true;
        if (pair->over || (pair->ways[0].passed_on && pair->ways[1].passed_on)) {
            *at = pair->next;
            pair_close(proxy, pair);
            continue;
        }
        watch(proxy, pair);
        for (int i = 0; i < 2; i++) {
            int64_t due = way_due(&pair->ways[i]);
            if (due >= 0 && (next < 0 || due < next)) next = due;
        }
        at = &pair->next;
    }
    return next;
}

static void run(Proxy *proxy)
{
    int64_t next = -1;
    for (;;) {
        struct epoll_event events[EVENTS];
        int64_t wait = next < 0 ? -1 : next - now_ns();
        struct timespec span = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
        int count = epoll_pwait2(proxy->epoll, events, EVENTS, next < 0 ? NULL : &span, NULL);
        if (count < 0 && errno != EINTR) die("delay_proxy: epoll");
        int64_t now = now_ns();
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr != NULL) {
                on_event(proxy, events[i].data.ptr, events[i].events, now);
                continue;
            }
            int caller = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
            if (caller >= 0) pair_open(proxy, caller);
        }
        next = pass_on(proxy, now);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || atoi(argv[1]) < 1 || atoi(argv[1]) > 65535 || atof(argv[2]) < 0) {
        fprintf(stderr, "usage: delay_proxy TARGET_PORT ROUND_TRIP_MS\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Proxy proxy = {.target_port = atoi(argv[1]), .delay = (int64_t)(atof(argv[2]) * 1e6 / 2)};
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    proxy.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (proxy.listener < 0 || bind(proxy.listener, (struct sockaddr *)&address, size) < 0 ||
        listen(proxy.listener, SOMAXCONN) < 0 || getsockname(proxy.listener, (struct sockaddr *)&address, &size) < 0)
        die("delay_proxy: listen");
    proxy.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (proxy.epoll < 0 || epoll_ctl(proxy.epoll, EPOLL_CTL_ADD, proxy.listener, &event) < 0) die("delay_proxy: epoll");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    run(&proxy);
}
