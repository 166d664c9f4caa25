/* Which connections are shut, and who comes in: the guard, on a clock that the test moves, and the gate with real
 * connections. tests/e2e/test_flood.py makes the floods. */
#include "axon/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/crowd.h"
#include "support/suite.h"

static const uint64_t ms = 1000000, second = 1000000000, mib = 1 << 20;

enum { MOST = 8, MOST_OF_HOST = 4 };

/* One connection or two, looked at every 20 ms, and a network thread. */
typedef struct Scene {
    Guard guard;
    GuardConnection one, other;
    GuardUse of_one, of_other;
    uint64_t now, work, purpose;
} Scene;

static Scene scene;

static void enter(GuardConnection *connection, uint64_t host)
{
    ck_assert_ptr_null(guard_come(&scene.guard, connection, host, scene.now));
    ck_assert(guard_enter(&scene.guard, connection, true, scene.now));
}

static void begin(void)
{
    scene = (Scene){.now = 1000 * second};
    guard_init(&scene.guard, MOST, MOST_OF_HOST, 64 * mib);
    enter(&scene.one, 1);
    enter(&scene.other, 2);
}

/* Lets 20 ms pass, of which the thread worked for so many; the verdict on `one`. */
static ConnectionEnd turn(uint64_t worked_ms)
{
    scene.now += 20 * ms;
    scene.work += worked_ms * ms;
    guard_look(&scene.guard, &scene.one, &scene.of_one, scene.now);
    guard_look(&scene.guard, &scene.other, &scene.of_other, scene.now);
    double excess = guard_excess(&scene.guard, scene.work, scene.purpose, scene.now);
    if (excess > 0) {
        guard_charge(&scene.guard, &scene.one, excess);
        guard_charge(&scene.guard, &scene.other, excess);
    }
    return scene.one.verdict;
}

/* Requests that arrive and are answered. */
static void bring(GuardUse *use, uint64_t calls, uint64_t bytes)
{
    use->received += calls * (bytes + 100);
    use->begun += calls;
    use->begun_bytes += calls * bytes;
    use->good += calls;
}

static ConnectionEnd turns(int count, uint64_t worked_ms, void (*act)(void))
{
    for (int i = 0; i < count && scene.one.verdict == CONNECTION_STAYS; i++) {
        act();
        turn(worked_ms);
    }
    return scene.one.verdict;
}

/* --- those who mean well stay --- */

static void ask_fast(void)
{
    bring(&scene.of_one, 2000, 4096);
}

START_TEST(a_fast_caller_stays)
{
    begin(); /* 100,000 calls a second on a thread that does nothing else */
    ck_assert_int_eq(turns(1000, 20, ask_fast), CONNECTION_STAYS);
}
END_TEST

START_TEST(a_fast_caller_stays_where_calls_are_slow)
{
    begin();
    for (int i = 0; i < 1000; i++) { /* 200 us a call: all that work has no explanation but the calls */
        bring(&scene.of_one, 100, 4096);
        ck_assert_int_eq(turn(20), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(messages_that_take_long_to_arrive_are_no_offence)
{
    begin();
    bring(&scene.of_one, 1, 100);
    for (int i = 0; i < 64; i++) { /* 64 of 16 MiB at once, at 1 GB/s, and then they are there */
        scene.of_one.received += 16 * mib;
        ck_assert_int_eq(turn(20), CONNECTION_STAYS);
    }
    bring(&scene.of_one, 64, 16 * mib);
    scene.of_one.received -= 64 * 16 * mib;
    ck_assert_int_eq(turn(20), CONNECTION_STAYS);
}
END_TEST

START_TEST(calls_that_are_taken_back_now_and_then_are_no_offence)
{
    begin();
    for (int i = 0; i < 3000; i++) { /* every third one */
        bring(&scene.of_one, 20, 4096);
        scene.of_one.begun += 10;
        scene.of_one.begun_bytes += 10 * 4096;
        scene.of_one.received += 10 * 4200;
        scene.of_one.bad += 10;
        scene.of_one.bad_bytes += 10 * 4096;
        ck_assert_int_eq(turn(1), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(a_message_that_is_refused_is_no_offence)
{
    begin();
    for (int i = 0; i < 100; i++) { /* one a second, 4 MiB until the caller has heard of it */
        scene.of_one.received += 4 * mib;
        scene.of_one.bad += 1;
        for (int j = 0; j < 50; j++)
            ck_assert_int_eq(turn(1), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(whoever_has_made_a_request_may_be_silent)
{
    begin();
    bring(&scene.of_one, 1, 100);
    for (int i = 0; i < 360; i++) { /* a ping of the keep-alive every 10 s */
        scene.of_one.received += 17;
        scene.now += 10 * second;
        ck_assert_int_eq(turn(0), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(a_large_message_on_a_slow_line_stays)
{
    begin();
    for (int i = 0; i < 600; i++) { /* 64 KB/s for ten minutes, as the first request */
        scene.of_one.received += 64 << 10;
        scene.now += second - 20 * ms;
        ck_assert_int_eq(turn(1), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(the_work_of_handlers_is_nobodys_offence)
{
    begin();
    for (int i = 0; i < 500; i++) { /* a message arrives for 10 s, while a handler computes */
        scene.of_one.received += 20000;
        scene.purpose += 20 * ms;
        ck_assert_int_eq(turn(20), CONNECTION_STAYS);
    }
}
END_TEST

START_TEST(answers_that_leave_slowly_are_no_echo)
{
    begin();
    bring(&scene.of_one, 64, 4096);
    scene.of_one.answer_bytes = 64 * mib;
    for (int i = 0; i < 64; i++) {
        scene.of_one.sent += mib + 600;
        ck_assert_int_eq(turn(1), CONNECTION_STAYS);
    }
}
END_TEST

/* --- those who don't, go --- */

static void take_back(void)
{
    for (int i = 0; i < 50; i++) {
        scene.of_one.received += 300;
        scene.of_one.bad++;
    }
    bring(&scene.of_one, 1, 3000);
}

START_TEST(calls_that_are_taken_back_at_once_are_shut)
{
    begin();
    ck_assert_int_eq(turns(10, 5, take_back), CONNECTION_USELESS_CALLS);
}
END_TEST

static void take_whole_ones_back(void)
{
    scene.of_one.received += 50 * 3300;
    scene.of_one.begun += 50;
    scene.of_one.begun_bytes += 50 * 3000;
    scene.of_one.bad += 50;
    scene.of_one.bad_bytes += 50 * 3000;
}

START_TEST(calls_with_messages_that_are_taken_back_are_shut)
{
    begin();
    ck_assert_int_eq(turns(10, 5, take_whole_ones_back), CONNECTION_USELESS_CALLS);
}
END_TEST

static void send_pings(void)
{
    scene.of_one.received += 20000 * 17;
    bring(&scene.of_other, 10, 3200);
}

START_TEST(frames_without_calls_are_shut_and_the_others_stay)
{
    begin();
    ck_assert_int_eq(turns(20, 20, send_pings), CONNECTION_USELESS_WORK);
    ck_assert_int_eq(scene.other.verdict, CONNECTION_STAYS);
}
END_TEST

static void send_settings(void)
{
    scene.of_one.received += 5000 * 9;
    scene.of_one.sent += 5000 * 9;
}

START_TEST(frames_that_want_to_be_confirmed_are_shut)
{
    begin();
    ck_assert_int_eq(turns(10, 1, send_settings), CONNECTION_USELESS_WORK);
}
END_TEST

START_TEST(who_leaves_after_a_flood_was_useless)
{
    begin();
    bring(&scene.of_other, 100, 4096);
    scene.of_other.received += 100 << 10;
    scene.of_one.received = 100 << 10;
    turn(1);
    ck_assert(guard_was_useless(&scene.one));
    ck_assert(!guard_was_useless(&scene.other));
}
END_TEST

static void send_refused_bytes(void)
{
    scene.of_one.received += 10 * mib;
    if (scene.now % (200 * ms) == 0) scene.of_one.bad++;
}

START_TEST(bytes_of_refused_messages_are_shut)
{
    begin();
    ck_assert_int_eq(turns(50, 20, send_refused_bytes), CONNECTION_USELESS_BYTES);
}
END_TEST

START_TEST(large_messages_that_mean_nothing_are_shut)
{
    begin();
    for (int i = 0; i < 3; i++) {
        scene.of_one.received += 64 * mib;
        scene.of_one.begun += 1;
        scene.of_one.begun_bytes += 64 * mib;
        scene.of_one.bad += 1;
        scene.of_one.bad_bytes += 64 * mib;
        turn(20);
    }
    ck_assert_int_eq(scene.one.verdict, CONNECTION_USELESS_BYTES);
}
END_TEST

static void pass_a_second(void)
{
    scene.now += second - 20 * ms;
}

START_TEST(silence_is_shut_after_a_while)
{
    begin();
    scene.of_one.received = 60; /* a greeting */
    ck_assert_int_eq(turns(29, 0, pass_a_second), CONNECTION_STAYS);
    ck_assert_int_eq(turns(2, 0, pass_a_second), CONNECTION_SILENT);
    GuardConnection at_the_door;
    static const GuardUse nothing;
    guard_come(&scene.guard, &at_the_door, 3, scene.now);
    guard_look(&scene.guard, &at_the_door, &nothing, scene.now + 10 * second);
    ck_assert_int_eq(at_the_door.verdict, CONNECTION_STAYS);
    guard_look(&scene.guard, &at_the_door, &nothing, scene.now + 11 * second);
    ck_assert_int_eq(at_the_door.verdict, CONNECTION_SILENT);
}
END_TEST

static void send_a_trickle(void)
{
    pass_a_second();
    scene.of_one.received += 1000;
}

START_TEST(a_request_that_never_arrives_is_shut)
{
    begin();
    bring(&scene.of_one, 1, 100);
    ck_assert_int_eq(turns(90, 0, send_a_trickle), CONNECTION_SLOW);
}
END_TEST

/* --- room --- */

START_TEST(the_oldest_of_a_full_host_that_asked_nothing_makes_room)
{
    static GuardConnection crowd[MOST_OF_HOST + 2];
    begin();
    for (int i = 0; i < MOST_OF_HOST; i++)
        ck_assert_ptr_null(guard_come(&scene.guard, &crowd[i], 7, scene.now));
    GuardUse use = {0};
    bring(&use, 1, 100);
    guard_look(&scene.guard, &crowd[0], &use, scene.now); /* this one is known */
    ck_assert_ptr_eq(guard_come(&scene.guard, &crowd[MOST_OF_HOST], 7, scene.now), &crowd[1]);
    guard_go(&scene.guard, &crowd[1]);
    for (int i = 2; i <= MOST_OF_HOST; i++)
        guard_look(&scene.guard, &crowd[i], &use, scene.now);
    GuardConnection *newest = &crowd[MOST_OF_HOST + 1];
    ck_assert_ptr_eq(guard_come(&scene.guard, newest, 7, scene.now), newest);
}
END_TEST

START_TEST(a_crowd_makes_room_for_another_host)
{
    static GuardConnection crowd[MOST];
    begin(); /* two are there */
    for (int i = 0; i < MOST_OF_HOST; i++)
        ck_assert_ptr_null(guard_come(&scene.guard, &crowd[i], 7, scene.now));
    ck_assert_ptr_null(guard_come(&scene.guard, &crowd[4], 8, scene.now));
    ck_assert_ptr_null(guard_come(&scene.guard, &crowd[5], 9, scene.now));
    ck_assert_ptr_eq(guard_come(&scene.guard, &crowd[6], 10, scene.now), &crowd[0]);
}
END_TEST

/* --- after offences --- */

static void offend(int times)
{
    for (int i = 0; i < times; i++)
        guard_offence(&scene.guard, &scene.one, scene.now);
}

START_TEST(offences_are_forgotten)
{
    begin();
    ck_assert(guard_trusts(scene.one.host, scene.now));
    offend(100);
    ck_assert(!guard_trusts(scene.one.host, scene.now + 60 * second));
    ck_assert(guard_trusts(scene.one.host, scene.now + 120 * second));
    ck_assert(guard_trusts(scene.other.host, scene.now));
}
END_TEST

static int entries(bool patient, uint64_t seconds)
{
    GuardConnection connection;
    int count = 0;
    for (uint64_t end = scene.now + seconds * second; scene.now < end; scene.now += 20 * ms) {
        guard_come(&scene.guard, &connection, 1, scene.now);
        count += guard_enter(&scene.guard, &connection, patient, scene.now);
        guard_go(&scene.guard, &connection);
    }
    return count;
}

START_TEST(a_host_with_offences_comes_in_by_turns_and_the_patient_first)
{
    begin();
    ck_assert_int_eq(entries(false, 1), 50);
    offend(8);
    ck_assert_int_le(entries(false, 10), 2);
    int patient = entries(true, 5);
    ck_assert_int_ge(patient, 20);
    ck_assert_int_le(patient, 24);
}
END_TEST

START_TEST(newcomers_of_a_host_with_offences_have_smaller_buckets)
{
    begin();
    offend(1);
    GuardConnection newcomer;
    guard_come(&scene.guard, &newcomer, 1, scene.now);
    ck_assert(guard_enter(&scene.guard, &newcomer, true, scene.now));
    GuardUse use = {.bad = 70, .received = 7000};
    scene.of_one = use;
    ck_assert_int_eq(turn(0), CONNECTION_STAYS);
    guard_look(&scene.guard, &newcomer, &use, scene.now);
    ck_assert_int_eq(newcomer.verdict, CONNECTION_USELESS_CALLS);
}
END_TEST

START_TEST(a_greeting_is_told_from_more)
{
    static const char greeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                   "\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0"
                                   "\0\0\4\10\0\0\0\0\0\0\1\0\0"
                                   "\0\0\10\6\0\0\0\0\0flooding";
    const uint8_t *bytes = (const uint8_t *)greeting;
    const size_t settings = 24 + 9 + 6, window = settings + 9 + 4;
    ck_assert(guard_greeting(bytes, settings));
    ck_assert(guard_greeting(bytes, window));
    ck_assert(!guard_greeting(bytes, sizeof greeting - 1)); /* a ping */
    ck_assert(!guard_greeting(bytes, window - 1));
    ck_assert(!guard_greeting(bytes, 24));
    ck_assert(!guard_greeting((const uint8_t *)"GET / HTTP/1.1\r\nHost: neuron\r\n\r\n", 33));
}
END_TEST

/* --- the gate --- */

typedef struct Served {
    Stub stub;
    Axon *axon;
    AxonCounters counters;
} Served;

static void serve(Served *served)
{
    stub_init(&served->stub, 1);
    served->axon = stub_serve(&served->stub);
}

static void end(Served *served)
{
    axon_destroy(served->axon);
    stub_clear(&served->stub);
}

static uint64_t shut_ones(Served *served)
{
    uint64_t sum = 0;
    axon_counters(served->axon, &served->counters);
    for (int why = 0; why < CONNECTION_ENDS; why++)
        sum += served->counters.connections_shut[why];
    return sum;
}

static int connect_to(const Axon *axon)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)axon_port(axon));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void expect_connections(Served *served, uint64_t count)
{
    do
        axon_counters(served->axon, &served->counters);
    while (served->counters.connections != count); /* the test's time limit ends it */
}

START_TEST(connections_are_counted_as_they_come_and_go)
{
    Served served;
    serve(&served);
    int fds[20];
    for (int i = 0; i < 20; i++)
        fds[i] = connect_to(served.axon);
    expect_connections(&served, 20);
    for (int i = 0; i < 10; i++) /* gRPC has these for a moment */
        ck_assert_int_eq(send(fds[i], "GET / HTTP/1.0", 14, MSG_NOSIGNAL), 14);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
    expect_connections(&served, 0);
    ck_assert_uint_eq(served.counters.connections_taken, 20);
    ck_assert_uint_eq(shut_ones(&served), 0);
    end(&served);
}
END_TEST

/* Until the other side ends the connection, of which a sender doesn't hear while the window is closed. */
static void flood(int fd)
{
    static char burst[1000 * 9], answers[1 << 16];
    const struct timeval patience = {.tv_usec = 100000};
    for (size_t i = 3; i < sizeof burst; i += 9)
        burst[i] = 4; /* empty SETTINGS; gRPC itself minds pings */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t got;
    do {
        send(fd, burst, sizeof burst, MSG_NOSIGNAL);
        got = recv(fd, answers, sizeof answers, MSG_DONTWAIT);
    } while (got > 0 || (got < 0 && errno == EAGAIN));
}

START_TEST(a_flood_of_frames_is_shut_and_a_caller_of_the_same_host_stays)
{
    Served served;
    serve(&served);
    Crowd *crowd = crowd_create(served.axon);
    Tensor input = make_images(2, 1);
    crowd_send(crowd, "caller", 1, &input, 10 * second);
    crowd_wait(crowd, 1);
    int fd = connect_to(served.axon);
    ck_assert_int_eq(send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33, MSG_NOSIGNAL), 33);
    flood(fd);
    close(fd);
    ck_assert_uint_eq(shut_ones(&served), 1);
    crowd_send(crowd, "caller", 10, &input, 10 * second);
    crowd_wait(crowd, 11);
    ck_assert_int_eq(crowd_count(crowd, 0, 11, STATUS_OK), 11);
    ck_assert_uint_eq(served.counters.connections_taken, 2);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    end(&served);
}
END_TEST

START_TEST(a_crowd_of_calls_is_no_flood)
{
    Served served;
    serve(&served);
    Crowd *crowd = crowd_create(served.axon);
    Tensor input = make_images(1, 1);
    for (int sent = 0; sent + 100 <= CROWD_CALLS; sent += 100) { /* every tenth one is taken back */
        crowd_send(crowd, "caller", 100, &input, 10 * second);
        crowd_cancel(crowd, sent, 10);
        crowd_wait(crowd, sent + 100);
    }
    ck_assert_uint_eq(shut_ones(&served), 0);
    ck_assert_uint_eq(served.counters.connections, 1);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    end(&served);
}
END_TEST

SUITE_MAIN("guard", a_fast_caller_stays, a_fast_caller_stays_where_calls_are_slow,
           messages_that_take_long_to_arrive_are_no_offence, calls_that_are_taken_back_now_and_then_are_no_offence,
           a_message_that_is_refused_is_no_offence, whoever_has_made_a_request_may_be_silent,
           a_large_message_on_a_slow_line_stays, the_work_of_handlers_is_nobodys_offence,
           calls_that_are_taken_back_at_once_are_shut, calls_with_messages_that_are_taken_back_are_shut,
           answers_that_leave_slowly_are_no_echo, frames_that_want_to_be_confirmed_are_shut,
           who_leaves_after_a_flood_was_useless, frames_without_calls_are_shut_and_the_others_stay,
           bytes_of_refused_messages_are_shut, large_messages_that_mean_nothing_are_shut, silence_is_shut_after_a_while,
           a_request_that_never_arrives_is_shut, the_oldest_of_a_full_host_that_asked_nothing_makes_room,
           a_crowd_makes_room_for_another_host, offences_are_forgotten,
           a_host_with_offences_comes_in_by_turns_and_the_patient_first,
           newcomers_of_a_host_with_offences_have_smaller_buckets, a_greeting_is_told_from_more,
           connections_are_counted_as_they_come_and_go, a_flood_of_frames_is_shut_and_a_caller_of_the_same_host_stays,
           a_crowd_of_calls_is_no_flood)
