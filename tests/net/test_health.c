/* grpc.health.v1 of an axon, asked by raw calls. */
#include <grpc/grpc.h>
#include <stdio.h>
#include <string.h>

#include "axon/axon.h"
#include "base/clock.h"
#include "net/raw.h"
#include "net/stream.h"
#include "rpc/unary.h"
#include "support/suite.h"

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3, MOST_WATCHERS = 256, CHANNELS = 16 };

static const uint64_t second = 1000000000;
static const char check_path[] = "/grpc.health.v1.Health/Check", watch_path[] = "/grpc.health.v1.Health/Watch";

static void forward(void *context, AxonRequest *const *requests, size_t count)
{
    Error error;
    (void)context;
    error_set(&error, STATUS_UNIMPLEMENTED, "not what is tested here");
    for (size_t i = 0; i < count; i++)
        axon_fail(requests[i], &error);
}

static Axon *start(void)
{
    Axon *axon;
    Error error = {0};
    AxonOptions options = {.listen = "127.0.0.1:0", .neuron_key = "0xneuron"};
    ck_assert_msg(axon_start(&options, &axon, &error) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(axon_serve(axon, "soma", (AxonHandler){.forward = forward}, NULL), STATUS_OK);
    return axon;
}

static size_t request(char *out, const char *service)
{
    return (size_t)sprintf(out, "\x0a%c%s", (int)strlen(service), service);
}

static Status check(const Axon *axon, const char *service)
{
    char bytes[64];
    return raw_call(axon_address(axon), check_path, bytes, request(bytes, service), NULL);
}

static Stream *watch(grpc_channel *channel, const char *service)
{
    char bytes[64];
    Stream *stream = stream_open(channel, watch_path);
    stream_send(stream, bytes, request(bytes, service));
    stream_send_end(stream);
    return stream;
}

/* The state that comes next; -1: the stream has ended. */
static int next(Stream *stream)
{
    uint8_t bytes[8];
    int size = stream_next(stream, bytes, sizeof bytes);
    if (size < 0) return -1;
    ck_assert_int_eq(size, 2);
    ck_assert_int_eq(bytes[0], 0x08);
    return bytes[1];
}

/* The only answer of a Check. */
static int checked(grpc_channel *channel, const char *service)
{
    char bytes[64];
    Stream *stream = stream_open(channel, check_path);
    stream_send(stream, bytes, request(bytes, service));
    stream_send_end(stream);
    int state = next(stream);
    if (state >= 0) ck_assert_int_eq(stream_status(stream, NULL), STATUS_OK);
    stream_close(stream);
    return state;
}

START_TEST(check_tells_the_state_of_the_node_and_of_each_soma)
{
    rpc_start();
    Axon *axon = start();
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    ck_assert_int_eq(checked(channel, ""), SERVING);
    ck_assert_int_eq(checked(channel, "Bittensor"), SERVING);
    ck_assert_int_eq(checked(channel, "soma"), SERVING);
    axon_health_set(axon, "soma", false);
    ck_assert_int_eq(checked(channel, "soma"), NOT_SERVING);
    ck_assert_int_eq(checked(channel, ""), SERVING);
    axon_health_set(axon, "Bittensor", false);
    ck_assert_int_eq(checked(channel, ""), NOT_SERVING);
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

START_TEST(check_does_not_find_what_is_not_served)
{
    Axon *axon = start();
    ck_assert_int_eq(check(axon, "somebody"), STATUS_NOT_FOUND);
    ck_assert_int_eq(raw_call(axon_address(axon), check_path, "\x0a\x05soma\0", 7, NULL), STATUS_NOT_FOUND);
    ck_assert_int_eq(axon_withdraw(axon, "soma", NULL), STATUS_OK);
    ck_assert_int_eq(check(axon, "soma"), STATUS_NOT_FOUND);
    axon_destroy(axon);
}
END_TEST

START_TEST(bad_bytes_are_refused)
{
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"\x0a\x7f", 2}, {"\x08\x01", 2}, {"\x0a", 1},     {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11},
               {"\x00", 1},     {"\x0b", 1},     {"\x11\x01", 2}, {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}};
    static const char long_name[20000] = "\x0a";
    Axon *axon = start();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(raw_call(axon_address(axon), check_path, bad[i].bytes, bad[i].size, NULL),
                         STATUS_INVALID_ARGUMENT);
        ck_assert_int_eq(raw_call(axon_address(axon), watch_path, bad[i].bytes, bad[i].size, NULL),
                         STATUS_INVALID_ARGUMENT);
    }
    ck_assert_int_eq(raw_call(axon_address(axon), check_path, long_name, sizeof long_name, NULL),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(check(axon, "soma"), STATUS_OK);
    axon_destroy(axon);
}
END_TEST

START_TEST(watch_tells_every_change_once)
{
    rpc_start();
    Axon *axon = start();
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *stream = watch(channel, "soma");
    ck_assert_int_eq(next(stream), SERVING);
    axon_health_set(axon, "soma", true); /* no news */
    axon_health_set(axon, "soma", false);
    ck_assert_int_eq(next(stream), NOT_SERVING);
    axon_health_set(axon, "", false); /* somebody else's */
    axon_health_set(axon, "soma", true);
    ck_assert_int_eq(next(stream), SERVING);
    ck_assert_int_eq(axon_withdraw(axon, "soma", NULL), STATUS_OK);
    ck_assert_int_eq(next(stream), SERVICE_UNKNOWN);
    stream_close(stream);
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

START_TEST(watch_of_an_unknown_service_waits_for_it)
{
    rpc_start();
    Axon *axon = start();
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *stream = watch(channel, "later");
    ck_assert_int_eq(next(stream), SERVICE_UNKNOWN);
    ck_assert_int_eq(axon_serve(axon, "later", (AxonHandler){.forward = forward}, NULL), STATUS_OK);
    ck_assert_int_eq(next(stream), SERVING);
    stream_close(stream);
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

/* However often the state changes while nobody reads: what is read ends with the last one, and is little. */
START_TEST(a_slow_watcher_learns_the_last_state)
{
    rpc_start();
    Axon *axon = start();
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *stream = watch(channel, "soma");
    ck_assert_int_eq(next(stream), SERVING);
    for (int i = 0; i < 10001; i++)
        axon_health_set(axon, "soma", i % 2 != 0);
    ck_assert_int_eq(axon_withdraw(axon, "soma", NULL), STATUS_OK);
    int before = SERVING, count = 0;
    while (before != SERVICE_UNKNOWN) {
        int state = next(stream);
        ck_assert_int_ge(state, SERVING);
        ck_assert_int_ne(state, before);
        before = state;
        count++;
    }
    ck_assert_int_le(count, 10001);
    stream_close(stream);
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

START_TEST(a_drain_is_told_and_cannot_be_taken_back)
{
    rpc_start();
    Axon *axon = start();
    Error error = {0};
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *node = watch(channel, ""), *soma = watch(channel, "soma");
    ck_assert_int_eq(next(node), SERVING);
    ck_assert_int_eq(next(soma), SERVING);
    ck_assert(axon_drain(axon, second));
    ck_assert_int_eq(next(node), NOT_SERVING);
    ck_assert_int_eq(next(soma), NOT_SERVING);
    axon_health_set(axon, "soma", true);
    ck_assert_int_eq(checked(channel, ""), NOT_SERVING);
    ck_assert_int_eq(checked(channel, "soma"), NOT_SERVING);
    axon_stop(axon, second);
    ck_assert_int_eq(next(node), -1);
    ck_assert_int_eq(stream_status(node, &error), STATUS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(error.message, "about to end"));
    ck_assert_int_eq(next(soma), -1);
    stream_close(node);
    stream_close(soma);
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

/* 256 watchers are told; one more is refused, until one has gone. */
START_TEST(watchers_are_many_but_not_without_end)
{
    rpc_start();
    Axon *axon = start();
    grpc_channel *channels[CHANNELS];
    Stream *streams[MOST_WATCHERS];
    for (int i = 0; i < CHANNELS; i++)
        channels[i] = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    for (int i = 0; i < MOST_WATCHERS; i++)
        streams[i] = watch(channels[i % CHANNELS], "soma");
    for (int i = 0; i < MOST_WATCHERS; i++)
        ck_assert_int_eq(next(streams[i]), SERVING);
    Stream *refused = watch(channels[0], "soma");
    ck_assert_int_eq(stream_status(refused, NULL), STATUS_RESOURCE_EXHAUSTED);
    stream_close(refused);

    stream_close(streams[0]); /* cancels */
    uint64_t until = clock_now(clock_monotonic()) + 5 * second;
    for (int state = -1; state != SERVING;) {
        ck_assert(clock_now(clock_monotonic()) < until);
        streams[0] = watch(channels[0], "soma");
        state = next(streams[0]);
        if (state != SERVING) stream_close(streams[0]);
    }
    axon_health_set(axon, "soma", false);
    for (int i = 0; i < MOST_WATCHERS; i++)
        ck_assert_int_eq(next(streams[i]), NOT_SERVING);
    for (int i = 0; i < MOST_WATCHERS; i++)
        stream_close(streams[i]);
    for (int i = 0; i < CHANNELS; i++)
        grpc_channel_destroy(channels[i]);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

SUITE_MAIN("health", check_tells_the_state_of_the_node_and_of_each_soma, check_does_not_find_what_is_not_served,
           bad_bytes_are_refused, watch_tells_every_change_once, watch_of_an_unknown_service_waits_for_it,
           a_slow_watcher_learns_the_last_state, a_drain_is_told_and_cannot_be_taken_back,
           watchers_are_many_but_not_without_end)
