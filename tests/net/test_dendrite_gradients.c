/* Backward: each peer's own gradient, the version that was asked, and what stays here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/peers.h"
#include "net/script.h"
#include "support/suite.h"

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
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    return net;
}

static void end_scripted(Net *net)
{
    close_net(net);
    script_stop(script);
}

static void send_back(Net *net, DendriteCall *call, const float *gradients)
{
    const uint8_t mask[MAX_PEERS] = {1};
    ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 10000 * ms), 0);
}

static const float zeros[ROW];

START_TEST(backward_brings_each_peer_its_own_gradient)
{
    Net *net = make_net();
    static float gradients[3 * ROW];
    const uint8_t mask[3] = {1, 0, 1};
    for (int i = 0; i < 3; i++)
        add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    Tensor input = make_images(BATCH, 1);
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 3);
    for (int i = 0; i < 3 * ROW; i++)
        gradients[i] = (float)i / 8;
    ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
    dendrite_release(call);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 10000 * ms), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(stats_of(net, (size_t)i).backwards, mask[i]);
        Tensor sent = tensor_view(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), gradients + i * ROW);
        ck_assert(stub_learnt(&net->stubs[i], mask[i] ? &input : NULL, mask[i] ? &sent : NULL));
    }
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

START_TEST(the_version_of_the_weights_goes_back_with_the_gradient)
{
    Net *net = make_scripted();
    char version[64];
    script_weights_version(script, "18446744073709551615");
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    script_weights_version(script, "7"); /* the peer has learnt meanwhile */
    send_back(net, call, zeros);
    dendrite_release(call);
    ck_assert(script_last_version(script, version));
    ck_assert_str_eq(version, "18446744073709551615");
    end_scripted(net);
}
END_TEST

START_TEST(versions_that_are_no_numbers_are_ignored)
{
    static const char *const hostile[] = {NULL, "x", "-1", "12 ", "18446744073709551616", "1e3"};
    Net *net = make_scripted();
    char version[64];
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        script_weights_version(script, hostile[i]);
        DendriteCall *call = send_question(net);
        ck_assert_uint_eq(wait_for(net, call), 1);
        send_back(net, call, zeros);
        dendrite_release(call);
        ck_assert_msg(!script_last_version(script, version), "'%s' became '%s'", hostile[i], version);
    }
    ck_assert_uint_eq(stats_of(net, 0).backwards, sizeof hostile / sizeof hostile[0]);
    end_scripted(net);
}
END_TEST

START_TEST(the_version_comes_and_goes_with_our_own_axon)
{
    Net *net = make_net();
    Stub *stub = add_peer(net, 1);
    stub->version = 41;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    send_back(net, call, zeros);
    dendrite_release(call);
    pthread_mutex_lock(&stub->lock);
    ck_assert(stub->has_learnt_version);
    ck_assert_uint_eq(stub->learnt_version, 41);
    pthread_mutex_unlock(&stub->lock);
    close_net(net);
}
END_TEST

START_TEST(gradients_that_are_not_finite_stay_here)
{
    Net *net = make_scripted();
    static float gradients[ROW];
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    gradients[100] = NAN;
    send_back(net, call, gradients);
    dendrite_release(call);
    ck_assert_uint_eq(stats_of(net, 0).backward_dropped, 1);
    ck_assert_uint_eq(stats_of(net, 0).backwards, 0);
    ck_assert_int_eq(script_calls(script, SCRIPT_BACKWARD), 0);
    end_scripted(net);
}
END_TEST

START_TEST(backward_is_never_sent_twice)
{
    Net *net = make_scripted();
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    script_fail_next(script, SCRIPT_BACKWARD, STATUS_UNAVAILABLE, 1);
    send_back(net, call, zeros);
    ck_assert_int_eq(script_calls(script, SCRIPT_BACKWARD), 1);
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_eq(stats.retries, 0);
    ck_assert_uint_eq(stats.backward_failures[DENDRITE_UNAVAILABLE], 1);
    send_back(net, call, zeros); /* left alone for now */
    ck_assert_uint_eq(stats_of(net, 0).backward_failures[DENDRITE_BACKING_OFF], 1);
    dendrite_release(call);
    end_scripted(net);
}
END_TEST

START_TEST(a_gradient_does_not_go_to_whoever_took_the_peers_place)
{
    Net *net = make_scripted();
    Script *other = script_start(0);
    Peer place;
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    ck_assert_int_eq(peer_parse(script_address(other), &place, NULL), STATUS_OK);
    ck_assert_int_eq(dendrite_move(net->dendrite, 0, &place, NULL), STATUS_OK);
    send_back(net, call, zeros);
    dendrite_release(call);
    ck_assert_uint_eq(stats_of(net, 0).backward_dropped, 1);
    ck_assert_int_eq(script_calls(other, SCRIPT_BACKWARD), 0);
    end_scripted(net);
    script_stop(other);
}
END_TEST

START_TEST(failures_are_counted_by_kind)
{
    Net *net = make_scripted();
    Error error;
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    script_fail(script, SCRIPT_BACKWARD, STATUS_FAILED_PRECONDITION);
    send_back(net, call, zeros);
    script_answer(script, SCRIPT_BACKWARD, "", 0);
    send_back(net, call, zeros);
    dendrite_release(call);
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_eq(stats.backward_failures[DENDRITE_REFUSED], 1);
    ck_assert_uint_eq(stats.backward_failures[DENDRITE_EMPTY], 1);
    ck_assert_int_eq(dendrite_last_failure(net->dendrite, 0, &error), STATUS_UNKNOWN);
    end_scripted(net);
}
END_TEST

SUITE_MAIN("dendrite gradients", backward_brings_each_peer_its_own_gradient,
           the_version_of_the_weights_goes_back_with_the_gradient, versions_that_are_no_numbers_are_ignored,
           the_version_comes_and_goes_with_our_own_axon, gradients_that_are_not_finite_stay_here,
           backward_is_never_sent_twice, a_gradient_does_not_go_to_whoever_took_the_peers_place,
           failures_are_counted_by_kind)
