/* What isn't sent: beyond the peer's limit, as its Hello tells it, beyond our own, or beyond the memory in flight. */
#include <proto/neuron.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/peers.h"
#include "net/script.h"
#include "support/suite.h"

enum { REQUEST_BYTES = 64 }; /* less than any request here has */

static Script *script;

static Net *make_scripted(void)
{
    Net *net = make_net();
    Tensor answer;
    script = script_start(0);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), &answer, NULL), STATUS_OK);
    script_answer_tensor(script, SCRIPT_FORWARD, &answer);
    script_answer_tensor(script, SCRIPT_BACKWARD, &answer);
    tensor_destroy(&answer);
    add_address(net, script_address(script));
    return net;
}

static void end_scripted(Net *net)
{
    close_net(net);
    script_stop(script);
}

static bool limit_known(Net *net)
{
    return stats_of(net, 0).max_message_bytes != 0;
}

/* --- Hello --- */

START_TEST(a_neuron_tells_its_limit_and_key)
{
    Net *net = make_scripted();
    script_hello(script, 12345678);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 0);
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert(soon(limit_known, net));
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_eq(stats.max_message_bytes, 12345678);
    ck_assert_str_eq(stats.neuron_key, "scripted");
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_int_eq(script_calls(script, SCRIPT_HELLO), 1);
    end_scripted(net);
}
END_TEST

/* Our own axon's answer, as the neuron room would give it; what was asked is in `context`. */
static Status say_hello(void *context, const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size, Error *error)
{
    Neuron__HelloReply reply = NEURON__HELLO_REPLY__INIT;
    Neuron__HelloRequest *request = neuron__hello_request__unpack(NULL, size, bytes);
    if (!request) return error_set(error, STATUS_INVALID_ARGUMENT, "not a Hello");
    snprintf(context, 64, "%s %llu", request->neuron_key, (unsigned long long)request->max_message_bytes);
    neuron__hello_request__free_unpacked(request, NULL);
    reply.neuron_key = (char *)(uintptr_t) "server";
    reply.max_message_bytes = 777777;
    *out_size = neuron__hello_reply__get_packed_size(&reply);
    *out = malloc(*out_size);
    neuron__hello_reply__pack(&reply, *out);
    return STATUS_OK;
}

START_TEST(our_axon_is_told_who_asks_and_says_what_it_receives)
{
    Net *net = make_net();
    char asked[64] = "";
    const AxonMethod hello = {"/neuron.Neuron/Hello", say_hello, asked};
    const AxonOptions options = {.listen = "127.0.0.1:0", .neuron_key = "server"};
    stub_init(&net->stubs[0], 1);
    ck_assert_int_eq(axon_start_with_methods(&options, &hello, 1, &net->axons[0], NULL), STATUS_OK);
    ck_assert_int_eq(axon_serve(net->axons[0], "soma", stub_handler(&net->stubs[0]), NULL), STATUS_OK);
    net->peers[net->count++] = stub_peer(net->axons[0]);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms, .max_message_bytes = 123456});
    ck_assert_uint_eq(ask_once(net), 1);
    expect_answer(net, 0);
    ck_assert(soon(limit_known, net));
    ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 777777);
    ck_assert_str_eq(stats_of(net, 0).neuron_key, "server");
    axon_stop(net->axons[0], 1000 * ms); /* no call reads `asked` any more */
    ck_assert_str_eq(asked, "client 123456");
    close_net(net);
}
END_TEST

START_TEST(a_neuron_without_hello_receives_four_mebibytes)
{
    Net *net = make_scripted();
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert(soon(limit_known, net));
    ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 4194304);
    end_scripted(net);
}
END_TEST

START_TEST(forward_does_not_wait_for_hello)
{
    Net *net = make_scripted();
    script_hold(script, SCRIPT_HELLO, true);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 0);
    end_scripted(net); /* with the Hello in flight */
}
END_TEST

START_TEST(a_hello_that_failed_is_asked_again_after_a_second)
{
    Net *net = make_scripted();
    atomic_uint_fast64_t now = 1000;
    script_fail(script, SCRIPT_HELLO, STATUS_INTERNAL);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms, .clock = test_clock(&now)});
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_int_eq(script_calls(script, SCRIPT_HELLO), 1);
    ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 0);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_WELL);
    script_hello(script, 1 << 20);
    sleep_ms(100); /* for the first one to be over, which nothing shows */
    now += 1100 * ms;
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert(soon(limit_known, net));
    end_scripted(net);
}
END_TEST

START_TEST(hostile_hellos_say_nothing)
{
    static uint8_t flood[100000];
    static const struct {
        const void *bytes;
        size_t size;
    } replies[] = {{"", 0}, {"\xff\xff\xff", 3}, {"\x0a\x05ok", 4}, {flood, sizeof flood}, {"\x18\x00", 2}};
    for (size_t at = 0; at < sizeof flood; at += 2)
        memcpy(flood + at, "\x22", 2); /* 50,000 somas without a name */
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        Net *net = make_scripted();
        script_answer(script, SCRIPT_HELLO, replies[i].bytes, replies[i].size);
        open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
        ck_assert_uint_eq(ask_once(net), 1);
        sleep_ms(50);
        ck_assert_uint_eq(stats_of(net, 0).max_message_bytes, 0);
        ck_assert_uint_eq(ask_once(net), 1);
        end_scripted(net);
    }
}
END_TEST

/* --- limits --- */

START_TEST(a_request_beyond_the_peers_limit_is_not_sent)
{
    Net *net = make_scripted();
    Error error;
    script_hello(script, REQUEST_BYTES);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ask_once(net); /* goes out with the Hello */
    ck_assert(soon(limit_known, net));
    int calls = script_calls(script, SCRIPT_FORWARD);
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_TOO_LARGE), 1);
    ck_assert_int_eq(dendrite_last_failure(net->dendrite, 0, &error), STATUS_RESOURCE_EXHAUSTED);
    size_t own = 0, theirs = 0;
    ck_assert_int_eq(sscanf(error.message, "request has %zu bytes, and the peer receives at most %zu", &own, &theirs),
                     2);
    ck_assert_uint_gt(own, REQUEST_BYTES);
    ck_assert_uint_eq(theirs, REQUEST_BYTES);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), calls);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_WELL);
    end_scripted(net);
}
END_TEST

START_TEST(a_question_whose_answer_would_be_too_large_is_not_sent)
{
    Net *net = make_scripted();
    Error error;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms, .max_message_bytes = ROW * sizeof(float) - 1});
    ck_assert_uint_eq(ask_once(net), 0);
    expect_failed(net, 0, DENDRITE_TOO_LARGE, "6144 bytes");
    dendrite_last_failure(net->dendrite, 0, &error);
    ck_assert_ptr_nonnull(strstr(error.message, "at most 6143"));
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 0);
    end_scripted(net);
}
END_TEST

/* --- memory --- */

static bool nothing_in_flight(Net *net)
{
    return dendrite_in_flight_bytes(net->dendrite) == 0;
}

START_TEST(questions_beyond_the_memory_are_masked_until_there_is_room)
{
    enum { CALLS = 5 };
    Net *net = make_scripted();
    DendriteCall *calls[CALLS];
    const size_t bound = 3 * (ROW * sizeof(float) + 1500); /* room for three answers, their inputs and headers */
    script_hold(script, SCRIPT_FORWARD, true);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms, .memory_bytes = bound});
    for (int i = 0; i < CALLS; i++) {
        calls[i] = send_question(net);
        ck_assert_uint_le(dendrite_in_flight_bytes(net->dendrite), bound);
    }
    ck_assert_uint_eq(stats_of(net, 0).in_flight, 3);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_NO_ROOM), 2);
    script_hold(script, SCRIPT_FORWARD, false);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_uint_eq(wait_for(net, calls[i]), i < 3 ? 1 : 0);
        dendrite_release(calls[i]);
    }
    ck_assert(soon(nothing_in_flight, net));
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_WELL);
    end_scripted(net);
}
END_TEST

START_TEST(an_input_counts_once_however_many_peers_it_goes_to)
{
    Net *net = make_scripted();
    Tensor input;
    DendriteCall *call;
    for (int i = 1; i < 4; i++)
        add_address(net, script_address(script));
    script_hold(script, SCRIPT_FORWARD, true);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms});
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(BATCH, 1, 1, 512, 512), &input, NULL), STATUS_OK);
    size_t bytes = input.size;
    ck_assert_int_eq(dendrite_forward(net->dendrite, &input, MODALITY_IMAGE, &call, NULL), STATUS_OK);
    ck_assert_uint_ge(dendrite_in_flight_bytes(net->dendrite), bytes);
    ck_assert_uint_lt(dendrite_in_flight_bytes(net->dendrite), 2 * bytes);
    dendrite_release(call);
    ck_assert(soon(nothing_in_flight, net));
    end_scripted(net);
}
END_TEST

START_TEST(gradients_beyond_the_memory_are_dropped_and_counted)
{
    Net *net = make_scripted();
    static float gradients[ROW];
    const uint8_t mask[1] = {1};
    const size_t bound = 3 * (ROW * sizeof(float) + 1500);
    script_hold(script, SCRIPT_BACKWARD, true);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms, .memory_bytes = bound});
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
        ck_assert_uint_le(dendrite_in_flight_bytes(net->dendrite), bound);
    }
    dendrite_release(call);
    ck_assert_uint_gt(dendrite_in_flight_bytes(net->dendrite), 0); /* the input goes with the last gradient */
    script_hold(script, SCRIPT_BACKWARD, false);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 10000 * ms), 0);
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_gt(stats.backwards, 0);
    ck_assert_uint_eq(stats.backwards + stats.backward_dropped, 10);
    ck_assert_uint_eq(dendrite_in_flight_bytes(net->dendrite), 0);
    end_scripted(net);
}
END_TEST

SUITE_MAIN("dendrite limits", a_neuron_tells_its_limit_and_key, our_axon_is_told_who_asks_and_says_what_it_receives,
           a_neuron_without_hello_receives_four_mebibytes, forward_does_not_wait_for_hello,
           a_hello_that_failed_is_asked_again_after_a_second, hostile_hellos_say_nothing,
           a_request_beyond_the_peers_limit_is_not_sent, a_question_whose_answer_would_be_too_large_is_not_sent,
           questions_beyond_the_memory_are_masked_until_there_is_room,
           an_input_counts_once_however_many_peers_it_goes_to, gradients_beyond_the_memory_are_dropped_and_counted)
