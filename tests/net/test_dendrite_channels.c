/* Connections: shared, made again when they break, probed after a while, left behind when a peer moves. */
#include <stdlib.h>
#include <string.h>

#include "net/peers.h"
#include "net/script.h"
#include "support/suite.h"

static Script *script;
static Tensor answer;

/* A script that answers Forward with zeros. */
static Script *start_script(int port)
{
    Script *started = script_start(port);
    if (!answer.data)
        ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), &answer, NULL), STATUS_OK);
    script_answer_tensor(started, SCRIPT_FORWARD, &answer);
    return started;
}

/* A net whose first peer is a script. */
static Net *make_scripted(void)
{
    Net *net = make_net();
    script = start_script(0);
    add_address(net, script_address(script));
    return net;
}

static void end_scripted(Net *net)
{
    close_net(net);
    script_stop(script);
    tensor_destroy(&answer);
}

START_TEST(a_broken_call_is_sent_once_more_and_counted)
{
    Net *net = make_scripted();
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    script_fail_next(script, SCRIPT_FORWARD, STATUS_UNAVAILABLE, 1);
    ck_assert_uint_eq(ask_once(net), 1);
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_eq(stats.retries, 1);
    ck_assert_uint_eq(stats.forwards, 1);
    ck_assert_uint_eq(stats.forward_failures[DENDRITE_UNAVAILABLE], 0);
    ck_assert_int_eq(stats.state, DENDRITE_WELL);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 2);
    end_scripted(net);
}
END_TEST

START_TEST(a_call_that_breaks_twice_fails)
{
    Net *net = make_scripted();
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    script_fail(script, SCRIPT_FORWARD, STATUS_UNAVAILABLE);
    ck_assert_uint_eq(ask_once(net), 0);
    expect_failed(net, 0, DENDRITE_UNAVAILABLE, "told to fail");
    ck_assert_uint_eq(stats_of(net, 0).retries, 1);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 2);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_LEFT_ALONE);
    end_scripted(net);
}
END_TEST

START_TEST(other_failures_are_not_sent_again)
{
    Net *net = make_scripted();
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    script_fail(script, SCRIPT_FORWARD, STATUS_RESOURCE_EXHAUSTED);
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(stats_of(net, 0).retries, 0);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 1);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_WELL); /* it is there */
    end_scripted(net);
}
END_TEST

START_TEST(calls_in_flight_on_a_connection_that_breaks_are_answered_by_the_peer_come_back)
{
    enum { CALLS = 4 };
    Net *net = make_scripted();
    DendriteCall *calls[CALLS];
    int port = script_port(script);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms});
    ck_assert_uint_eq(ask_once(net), 1);
    script_hold(script, SCRIPT_FORWARD, true);
    for (int i = 0; i < CALLS; i++)
        calls[i] = send_question(net);
    Script *old = script;
    for (int i = 0; i < 1000 && script_calls(old, SCRIPT_FORWARD) < 1 + CALLS; i++)
        sleep_ms(5);
    script = start_script(port); /* gRPC's servers share ports: both listen for a moment */
    script_stop(old);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_uint_eq(wait_for(net, calls[i]), 1);
        dendrite_release(calls[i]);
    }
    ck_assert_uint_eq(stats_of(net, 0).forwards, 1 + CALLS);
    end_scripted(net);
}
END_TEST

static bool is_left_alone(Net *net)
{
    return stats_of(net, 0).state == DENDRITE_LEFT_ALONE;
}

static bool is_well(Net *net)
{
    return stats_of(net, 0).state == DENDRITE_WELL;
}

START_TEST(a_peer_that_comes_back_is_found_by_the_first_probe)
{
    Net *net = make_net();
    atomic_uint_fast64_t now = 1000;
    add_dead(net);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms, .clock = test_clock(&now)});
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 1);
    now += 190 * ms; /* 0.25 s, a fifth less at most */
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 1);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 1);
    now += 120 * ms; /* a fifth more at most */
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert(soon(is_left_alone, net));
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 2);

    script = start_script(atoi(strrchr(net->peers[0].address, ':') + 1));
    now += 20000 * ms;
    ask_once(net); /* nobody waits for the probe, but it finds out */
    ck_assert(soon(is_well, net));
    ck_assert_uint_eq(ask_once(net), 1);
    end_scripted(net);
}
END_TEST

START_TEST(while_one_call_probes_the_others_are_masked)
{
    Net *net = make_scripted();
    atomic_uint_fast64_t now = 1000;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms, .clock = test_clock(&now)});
    script_fail_next(script, SCRIPT_FORWARD, STATUS_UNAVAILABLE, 2);
    DendriteCall *failing = send_question(net);
    ck_assert(soon(is_left_alone, net)); /* though nobody waited for it yet */
    dendrite_release(failing);
    script_hold(script, SCRIPT_FORWARD, true);
    now += 1000 * ms;
    DendriteCall *probe = send_question(net);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_PROBING);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 3);
    ck_assert_uint_eq(wait_for(net, probe), 0); /* at once */
    dendrite_release(probe);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_PROBING);
    script_hold(script, SCRIPT_FORWARD, false);
    ck_assert(soon(is_well, net));
    ck_assert_uint_eq(ask_once(net), 1);
    end_scripted(net);
}
END_TEST

START_TEST(a_peer_that_was_left_alone_meanwhile_is_not_waited_for)
{
    Net *net = make_scripted();
    DendriteCall *calls[4];
    open_dendrite(net, (DendriteOptions){.deadline_ns = 400 * ms});
    script_hold(script, SCRIPT_FORWARD, true);
    for (int i = 0; i < 4; i++) {
        if (i == 3) sleep_ms(200);
        calls[i] = send_question(net);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(wait_for(net, calls[i]), 0);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_LEFT_ALONE);
    ck_assert(dendrite_settled(calls[3])); /* 200 ms before its deadline */
    ck_assert_uint_eq(wait_for(net, calls[3]), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_TIMEOUT), 4);
    for (int i = 0; i < 4; i++)
        dendrite_release(calls[i]);
    script_hold(script, SCRIPT_FORWARD, false);
    end_scripted(net);
}
END_TEST

START_TEST(a_peer_that_times_out_again_and_again_is_left_alone)
{
    Net *net = make_scripted();
    atomic_uint_fast64_t now = 1000;
    script_hold(script, SCRIPT_FORWARD, true);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 50 * ms, .clock = test_clock(&now)});
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_TIMEOUT), 3);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 2);
    end_scripted(net);
}
END_TEST

START_TEST(peers_at_one_address_share_a_connection)
{
    Net *net = make_scripted();
    add_address(net, script_address(script));
    add_address(net, script_address(script));
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(ask_once(net), 3);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 3);
    ck_assert_int_eq(script_connections(script), 1);
    end_scripted(net);
}
END_TEST

START_TEST(a_moved_peer_is_asked_at_its_new_place_and_the_old_calls_end_at_the_old)
{
    Net *net = make_scripted();
    Script *second = start_script(0);
    Peer place;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms});
    script_hold(script, SCRIPT_FORWARD, true);
    DendriteCall *old = send_question(net);
    ck_assert_int_eq(peer_parse(script_address(second), &place, NULL), STATUS_OK);
    ck_assert_int_eq(dendrite_move(net->dendrite, 0, &place, NULL), STATUS_OK);
    ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_int_eq(script_calls(second, SCRIPT_FORWARD), 1);
    ck_assert_str_eq(stats_of(net, 0).peer.address, script_address(second));
    script_hold(script, SCRIPT_FORWARD, false);
    ck_assert_uint_eq(wait_for(net, old), 1);
    dendrite_release(old);
    ck_assert_int_eq(script_calls(script, SCRIPT_FORWARD), 1);
    close_net(net);
    script_stop(second);
    script_stop(script);
    tensor_destroy(&answer);
}
END_TEST

START_TEST(moving_ends_the_back_off)
{
    Net *net = make_net();
    Peer place;
    add_dead(net);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms});
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_LEFT_ALONE);
    script = start_script(0);
    ck_assert_int_eq(peer_parse(script_address(script), &place, NULL), STATUS_OK);
    ck_assert_int_eq(dendrite_move(net->dendrite, 0, &place, NULL), STATUS_OK);
    ck_assert_int_eq(stats_of(net, 0).state, DENDRITE_UNASKED);
    ck_assert_uint_eq(ask_once(net), 1);
    end_scripted(net);
}
END_TEST

START_TEST(moving_to_and_fro_leaves_nothing_behind)
{
    Net *net = make_scripted();
    Script *second = start_script(0);
    Peer places[2];
    ck_assert_int_eq(peer_parse(script_address(script), &places[0], NULL), STATUS_OK);
    ck_assert_int_eq(peer_parse(script_address(second), &places[1], NULL), STATUS_OK);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    for (int i = 1; i <= 20; i++) {
        DendriteCall *call = send_question(net);
        ck_assert_int_eq(dendrite_move(net->dendrite, 0, &places[i % 2], NULL), STATUS_OK);
        if (i % 3) ck_assert_uint_eq(wait_for(net, call), 1);
        dendrite_release(call);
    }
    close_net(net); /* the leak checker has the word */
    script_stop(second);
    script_stop(script);
    tensor_destroy(&answer);
}
END_TEST

SUITE_MAIN("dendrite channels", a_broken_call_is_sent_once_more_and_counted, a_call_that_breaks_twice_fails,
           other_failures_are_not_sent_again,
           calls_in_flight_on_a_connection_that_breaks_are_answered_by_the_peer_come_back,
           a_peer_that_comes_back_is_found_by_the_first_probe, while_one_call_probes_the_others_are_masked,
           a_peer_that_was_left_alone_meanwhile_is_not_waited_for, a_peer_that_times_out_again_and_again_is_left_alone,
           peers_at_one_address_share_a_connection,
           a_moved_peer_is_asked_at_its_new_place_and_the_old_calls_end_at_the_old, moving_ends_the_back_off,
           moving_to_and_fro_leaves_nothing_behind)
