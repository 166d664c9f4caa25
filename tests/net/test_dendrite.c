/* The dendrite against axons of this process and dead ports: answers, masks, lateness, lifetimes. */
#include <stdlib.h>
#include <string.h>

#include "net/peers.h"
#include "support/suite.h"

START_TEST(all_peers_answer)
{
    Net *net = make_net();
    for (int i = 0; i < 4; i++)
        add_peer(net, 1 + (float)i);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    for (int round = 0; round < 5; round++) {
        ck_assert_uint_eq(ask_once(net), 4);
        for (size_t i = 0; i < 4; i++)
            expect_answer(net, i);
    }
    DendriteStats stats = stats_of(net, 2);
    ck_assert_uint_eq(stats.forwards, 5);
    ck_assert_int_eq(stats.state, DENDRITE_WELL);
    ck_assert_str_eq(stats.peer.address, net->peers[2].address);
    ck_assert(stats.mean_latency_s > 0 && stats.mean_latency_s < 10);
    ck_assert_uint_gt(stats.bytes_in, 5 * ROW * 4);
    ck_assert_uint_gt(stats.bytes_out, 5 * BATCH * 16);
    ck_assert_uint_eq(dendrite_in_flight_bytes(net->dendrite), 0);
    close_net(net);
}
END_TEST

START_TEST(sequences_are_answered_row_by_row)
{
    Net *net = make_net();
    add_peer(net, 3);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    Tensor input = make_images(1, BATCH); /* as many rows, the other way round */
    float expected[ROW];
    DendriteCall *call;
    stub_expect(3, &input, expected);
    ck_assert_int_eq(dendrite_forward(net->dendrite, &input, MODALITY_IMAGE, &call, NULL), STATUS_OK);
    ck_assert_uint_eq(wait_for(net, call), 1);
    ck_assert_mem_eq(net->answers, expected, sizeof expected);
    dendrite_release(call);
    close_net(net);
}
END_TEST

START_TEST(a_dead_and_a_slow_peer_are_masked_and_the_others_exact)
{
    Net *net = make_net();
    add_peer(net, 1);
    add_dead(net);
    add_peer(net, 2)->delay_ns = 3000 * ms;
    add_peer(net, 3);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 1500 * ms});
    uint64_t begun = clock_now(clock_monotonic());
    ck_assert_uint_eq(ask_once(net), 2);
    uint64_t took = clock_now(clock_monotonic()) - begun;
    ck_assert_uint_ge(took, 1450 * ms);
    ck_assert_uint_lt(took, 2900 * ms);
    expect_answer(net, 0);
    expect_failed(net, 1, DENDRITE_UNAVAILABLE, "");
    expect_failed(net, 2, DENDRITE_TIMEOUT, ""); /* our clock or gRPC's, whichever was first */
    expect_answer(net, 3);
    close_net(net);
}
END_TEST

START_TEST(late_answers_are_never_written)
{
    Net *net = make_net();
    add_peer(net, 1)->delay_ns = 300 * ms;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 100 * ms});
    ck_assert_uint_eq(ask_once(net), 0);
    for (size_t i = 0; i < ROW; i++)
        net->answers[i] = 42;
    sleep_ms(600);
    for (size_t i = 0; i < ROW; i++)
        ck_assert(net->answers[i] == 42);
    close_net(net);
}
END_TEST

START_TEST(a_dead_peer_does_not_slow_the_others)
{
    Net *net = make_net();
    add_dead(net);
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms});
    uint64_t begun = clock_now(clock_monotonic());
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(ask_once(net), 1);
    ck_assert_uint_lt(clock_now(clock_monotonic()) - begun, 4000 * ms);
    ck_assert_uint_ge(failures(net, 0, DENDRITE_BACKING_OFF), 5); /* not tried at each step */
    close_net(net);
}
END_TEST

START_TEST(k_of_n_may_fail)
{
    Net *net = make_net();
    for (int i = 0; i < 6; i++)
        add_peer(net, 1 + (float)i);
    net->stubs[1].failure = STATUS_RESOURCE_EXHAUSTED;
    net->stubs[4].failure = STATUS_INTERNAL;
    axon_destroy(net->axons[3]);
    net->axons[3] = NULL;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(ask_once(net), 3);
    expect_answer(net, 0);
    expect_failed(net, 1, DENDRITE_REFUSED, "told to fail");
    expect_answer(net, 2);
    expect_failed(net, 3, DENDRITE_UNAVAILABLE, "");
    expect_failed(net, 4, DENDRITE_REFUSED, "told to fail");
    expect_answer(net, 5);
    stub_clear(&net->stubs[3]);
    close_net(net);
}
END_TEST

START_TEST(an_input_that_cannot_be_sent_is_an_error_and_taken_all_the_same)
{
    Net *net = make_net();
    DendriteCall *call = NULL;
    Error error;
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.max_message_bytes = 4096});
    for (int text = 0; text < 2; text++) {
        Tensor flat;
        ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(2, 4), &flat, NULL), STATUS_OK);
        ck_assert_int_eq(dendrite_forward(net->dendrite, &flat, text ? MODALITY_TEXT : MODALITY_IMAGE, &call, &error),
                         STATUS_INVALID_ARGUMENT);
        if (!text) ck_assert_ptr_nonnull(strstr(error.message, "[2, 4]"));
        ck_assert_ptr_null(flat.owned);
    }
    Tensor large = make_images(300, 1);
    ck_assert_int_eq(dendrite_forward(net->dendrite, &large, MODALITY_IMAGE, &call, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_null(large.owned);
    float value = 1;
    Tensor borrowed = tensor_view(DTYPE_F32, shape_of(1, 1, 1, 1, 1), &value);
    ck_assert_int_eq(dendrite_forward(net->dendrite, &borrowed, MODALITY_IMAGE, &call, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_null(call);
    close_net(net);
}
END_TEST

/* --- many at once --- */

START_TEST(many_questions_are_in_flight_and_answered_in_any_order)
{
    enum { CALLS = 24 };
    Net *net = make_net();
    DendriteCall *calls[CALLS];
    float expected[ROW];
    add_peer(net, 2);
    add_peer(net, 3);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 20000 * ms});
    for (int i = 0; i < CALLS; i++) {
        Tensor input = make_images(BATCH, 1);
        tensor_f32(&input)[0] = (float)i; /* the first row tells them apart */
        ck_assert_int_eq(dendrite_forward(net->dendrite, &input, MODALITY_IMAGE, &calls[i], NULL), STATUS_OK);
    }
    for (int i = CALLS - 1; i >= 0; i--) {
        ck_assert_uint_eq(wait_for(net, calls[i]), 2);
        ck_assert(tensor_f32(dendrite_input(calls[i]))[0] == (float)i);
        for (size_t peer = 0; peer < 2; peer++) {
            stub_expect(net->stubs[peer].factor, dendrite_input(calls[i]), expected);
            ck_assert_mem_eq(net->answers + peer * ROW, expected, sizeof expected);
        }
        dendrite_release(calls[i]);
    }
    close_net(net);
}
END_TEST

static bool is_settled;
static DendriteCall *watched;

static bool settled(Net *net)
{
    (void)net;
    return is_settled = dendrite_settled(watched);
}

START_TEST(a_settled_question_returns_at_once_and_knows_its_latency)
{
    Net *net = make_net();
    add_peer(net, 1)->delay_ns = 50 * ms;
    add_peer(net, 2);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    watched = send_question(net);
    ck_assert(!dendrite_settled(watched)); /* the stub sleeps */
    ck_assert(soon(settled, net));
    ck_assert_uint_eq(wait_for(net, watched), 2);
    ck_assert_uint_ge(dendrite_call_latency(watched), 50 * ms); /* the slower one's */
    ck_assert_uint_lt(dendrite_call_latency(watched), 5000 * ms);
    dendrite_release(watched);
    close_net(net);
}
END_TEST

START_TEST(a_question_past_its_deadline_is_settled)
{
    Net *net = make_net();
    add_peer(net, 1)->delay_ns = 1000 * ms;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 50 * ms});
    watched = send_question(net);
    ck_assert(soon(settled, net));
    ck_assert_uint_eq(wait_for(net, watched), 0);
    ck_assert_uint_eq(dendrite_call_latency(watched), 0);
    dendrite_release(watched);
    close_net(net);
}
END_TEST

START_TEST(percentiles_tell_the_rare_slow_answer)
{
    Net *net = make_net();
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    for (int i = 0; i < 20; i++) {
        net->stubs[0].delay_ns = i == 10 ? 200 * ms : 0;
        ck_assert_uint_eq(ask_once(net), 1);
    }
    DendriteStats stats = stats_of(net, 0);
    ck_assert_uint_gt(stats.latency_p50_ns, 0);
    ck_assert_uint_lt(stats.latency_p50_ns, 150 * ms);
    ck_assert_uint_ge(stats.latency_p99_ns, 200 * ms);
    close_net(net);
}
END_TEST

/* --- lifetimes --- */

START_TEST(calls_may_be_released_at_any_time)
{
    Net *net = make_net();
    add_peer(net, 1)->delay_ns = 100 * ms;
    add_dead(net);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms});
    for (int i = 0; i < 5; i++) {
        DendriteCall *call = send_question(net);
        if (i > 2) sleep_ms(150); /* answered, and not looked at */
        dendrite_release(call);
    }
    dendrite_release(NULL);
    close_net(net);
}
END_TEST

static bool nothing_in_flight(Net *net)
{
    return dendrite_in_flight_bytes(net->dendrite) == 0 && stats_of(net, 0).in_flight == 0;
}

START_TEST(answers_after_release_give_their_memory_back)
{
    Net *net = make_net();
    add_peer(net, 1)->delay_ns = 50 * ms;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms});
    for (int i = 0; i < 4; i++) {
        DendriteCall *call = send_question(net);
        ck_assert_uint_gt(dendrite_in_flight_bytes(net->dendrite), ROW * sizeof(float));
        dendrite_release(call);
    }
    ck_assert(soon(nothing_in_flight, net));
    close_net(net);
}
END_TEST

START_TEST(a_dendrite_may_end_with_calls_in_flight)
{
    Net *net = make_net();
    static float gradients[ROW];
    const uint8_t mask[1] = {1};
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 60000 * ms});
    DendriteCall *call = send_question(net);
    ck_assert_uint_eq(wait_for(net, call), 1);
    net->stubs[0].delay_ns = 300 * ms;
    for (int i = 0; i < 4; i++)
        dendrite_backward(net->dendrite, call, gradients, mask, NULL);
    dendrite_release(call);
    dendrite_release(send_question(net));
    close_net(net);
}
END_TEST

START_TEST(no_peers_is_fine)
{
    Net *net = make_net();
    open_dendrite(net, (DendriteOptions){0});
    ck_assert_uint_eq(dendrite_count(net->dendrite), 0);
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 0), 0);
    close_net(net);
    dendrite_destroy(NULL);
}
END_TEST

SUITE_MAIN("dendrite", all_peers_answer, sequences_are_answered_row_by_row,
           a_dead_and_a_slow_peer_are_masked_and_the_others_exact, late_answers_are_never_written,
           a_dead_peer_does_not_slow_the_others, k_of_n_may_fail,
           an_input_that_cannot_be_sent_is_an_error_and_taken_all_the_same,
           many_questions_are_in_flight_and_answered_in_any_order,
           a_settled_question_returns_at_once_and_knows_its_latency, a_question_past_its_deadline_is_settled,
           percentiles_tell_the_rare_slow_answer, calls_may_be_released_at_any_time,
           answers_after_release_give_their_memory_back, a_dendrite_may_end_with_calls_in_flight, no_peers_is_fine)
