#include "dendrite/load.h"

#include <stdlib.h>
#include <string.h>

#include "net/stub.h"
#include "neuron/echo.h"
#include "support/suite.h"

static const uint64_t MILLISECOND = 1000000;

static atomic_int answers;

/* Ends a run after some hundred calls, on machines of any speed. */
static bool enough(void)
{
    return atomic_fetch_add(&answers, 1) > 300;
}

/* A neuron that answers with twice the input, in its shape, and two questions to it. */
typedef struct Setting {
    Echo echo;
    Axon *axon;
    Tensor inputs[2], expected[2];
    LoadCase cases[2];
    LoadOptions options;
} Setting;

static void set_up(Setting *s)
{
    *s = (Setting){.echo = {.raw = true}};
    AxonOptions axon = {.listen = "127.0.0.1:0", .neuron_key = "server"};
    ck_assert_int_eq(axon_start(&axon, &s->axon, NULL), STATUS_OK);
    ck_assert_int_eq(axon_serve(s->axon, "soma", echo_handler(&s->echo), NULL), STATUS_OK);
    for (int c = 0; c < 2; c++) {
        s->inputs[c] = make_images(1, 1);
        s->expected[c] = make_images(1, 1);
        for (int i = 0; i < 4; i++) {
            tensor_f32(&s->inputs[c])[i] += (float)c;
            tensor_f32(&s->expected[c])[i] = 2 * tensor_f32(&s->inputs[c])[i];
        }
        s->cases[c] = (LoadCase){.input = &s->inputs[c], .answer = s->inputs[c].shape, .expected = &s->expected[c]};
    }
    s->options = (LoadOptions){.peer = stub_peer(s->axon),
                               .neuron_key = "client",
                               .modality = MODALITY_IMAGE,
                               .cases = s->cases,
                               .case_count = 2,
                               .concurrency = 4,
                               .duration_ns = 60000 * MILLISECOND,
                               .deadline_ns = 20000 * MILLISECOND,
                               .stop = enough};
}

static void tear_down(Setting *s)
{
    axon_destroy(s->axon);
    for (int c = 0; c < 2; c++) {
        tensor_destroy(&s->inputs[c]);
        tensor_destroy(&s->expected[c]);
    }
}

static void run(const Setting *s, LoadResult *result)
{
    ck_assert_int_eq(load_run(&s->options, result, NULL), STATUS_OK);
}

START_TEST(test_closed_loop_counts_what_the_server_answered)
{
    Setting s;
    LoadResult r;
    AxonCounters counters;
    set_up(&s);
    run(&s, &r);
    axon_counters(s.axon, &counters);
    ck_assert_uint_gt(r.calls, 200);
    ck_assert_uint_eq(r.calls, r.latency.count);
    ck_assert_uint_eq(r.answered, counters.forwards);
    ck_assert_uint_eq(load_failed(&r), 0);
    ck_assert_int_eq(r.first.status, STATUS_OK);
    ck_assert_double_gt(r.seconds, 0);
    ck_assert_double_eq_tol(r.calls_per_second * r.seconds, (double)r.calls, 1e-3);
    ck_assert_double_eq_tol(r.megabytes_per_second_sent, 16e-6 * r.calls_per_second, 1e-9 * r.calls_per_second);
    ck_assert_uint_gt(histogram_percentile(&r.latency, 0.5), 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_calls_for_warmth_are_not_counted)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    s.options.warm_ns = s.options.duration_ns;
    run(&s, &r);
    ck_assert_uint_gt(r.answered, 200);
    ck_assert_uint_eq(r.calls, 0);
    ck_assert_uint_eq(r.latency.count, 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_clients_share_threads_and_channels)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    s.options.concurrency = 7;
    s.options.threads = 2;
    s.options.channels = 5;
    run(&s, &r);
    ck_assert_uint_gt(r.calls, 10);
    ck_assert_uint_eq(load_failed(&r), 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_an_answer_to_another_question_is_wrong)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    s.cases[0].expected = &s.expected[1];
    run(&s, &r);
    ck_assert_uint_gt(r.wrong, 0);
    ck_assert_uint_gt(r.calls, 0); /* the other question's */
    ck_assert_ptr_nonnull(strstr(r.first.message, "isn't the expected one"));
    s.options.tolerance = 1e-4;
    run(&s, &r);
    ck_assert_uint_gt(r.wrong, 0);
    ck_assert_ptr_nonnull(strstr(r.first.message, "of its norm"));
    s.options.tolerance = 10; /* nearly anything is near enough */
    run(&s, &r);
    ck_assert_uint_eq(load_failed(&r), 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_an_answer_of_another_shape_is_wrong)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    s.cases[0].answer = s.cases[1].answer = shape_of(1, 1, 512);
    s.cases[0].expected = s.cases[1].expected = NULL;
    run(&s, &r);
    ck_assert_uint_eq(r.calls, 0);
    ck_assert_uint_gt(r.wrong, 0);
    ck_assert_str_eq(r.first.message, "the answer is f32 [1, 1, 1, 2, 2], expected f32 [1, 1, 512]");
    tear_down(&s);
}
END_TEST

START_TEST(test_failures_are_counted_by_status)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    strcpy(s.options.peer.synapse_key, "nobody");
    run(&s, &r);
    ck_assert_uint_eq(r.calls, 0);
    ck_assert_uint_gt(r.failures[STATUS_NOT_FOUND], 0);
    ck_assert_uint_eq(load_failed(&r), r.failures[STATUS_NOT_FOUND]);
    ck_assert_ptr_nonnull(strstr(r.first.message, "nobody"));
    s.options.peer = dead_peer();
    run(&s, &r);
    ck_assert_uint_gt(r.failures[STATUS_UNAVAILABLE], 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_backward_sends_the_gradient)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    for (int c = 0; c < 2; c++) {
        s.cases[c].input = &s.inputs[1 - c];
        s.cases[c].gradient = &s.inputs[c]; /* echo's gradient is twice the answer's, whatever the input */
    }
    run(&s, &r);
    ck_assert_msg(load_failed(&r) == 0, "%s", r.first.message);
    ck_assert_uint_gt(r.calls, 10);
    AxonCounters counters;
    axon_counters(s.axon, &counters);
    ck_assert_uint_eq(counters.forwards, 0);
    tear_down(&s);
}
END_TEST

START_TEST(test_open_loop_keeps_the_rate)
{
    Setting s;
    LoadResult r;
    set_up(&s);
    s.options.rate = 400;
    s.options.stop = NULL;
    s.options.concurrency = 64;
    s.options.duration_ns = 1000 * MILLISECOND;
    run(&s, &r);
    ck_assert_uint_eq(load_failed(&r), 0);
    ck_assert_uint_ge(r.latency.count + r.unsent, 300); /* 400, with a deviation of 20 */
    ck_assert_uint_le(r.latency.count, 500);
    tear_down(&s);
}
END_TEST

/* A neuron that needs 40 ms for each call is asked every 10 ms through one client: a call takes 40 ms from when it was
 * sent, and ever longer from when it was due. */
START_TEST(test_open_loop_charges_the_wait)
{
    Stub stub;
    LoadResult r;
    stub_init(&stub, 1);
    atomic_store(&stub.delay_ns, 40 * MILLISECOND);
    Axon *axon = stub_serve(&stub);
    Tensor images = make_images(1, 1);
    LoadCase item = {.input = &images, .answer = shape_of(1, 1, 512)};
    LoadOptions options = {.peer = stub_peer(axon),
                           .neuron_key = "client",
                           .modality = MODALITY_IMAGE,
                           .cases = &item,
                           .case_count = 1,
                           .rate = 100,
                           .duration_ns = 800 * MILLISECOND,
                           .deadline_ns = 5000 * MILLISECOND};
    ck_assert_int_eq(load_run(&options, &r, NULL), STATUS_OK);
    ck_assert_uint_eq(load_failed(&r), 0);
    ck_assert_uint_gt(histogram_percentile(&r.latency, 0.9), 150 * MILLISECOND);
    ck_assert_uint_gt(r.unsent, 20);
    tensor_destroy(&images);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(test_deadlines_pass)
{
    Stub stub;
    LoadResult r;
    stub_init(&stub, 1);
    atomic_store(&stub.delay_ns, 300 * MILLISECOND);
    Axon *axon = stub_serve(&stub);
    Tensor images = make_images(1, 1);
    LoadCase item = {.input = &images, .answer = shape_of(1, 1, 512)};
    LoadOptions options = {.peer = stub_peer(axon),
                           .modality = MODALITY_IMAGE,
                           .cases = &item,
                           .case_count = 1,
                           .duration_ns = 100 * MILLISECOND,
                           .deadline_ns = 50 * MILLISECOND};
    ck_assert_int_eq(load_run(&options, &r, NULL), STATUS_OK);
    ck_assert_uint_gt(r.failures[STATUS_DEADLINE_EXCEEDED], 0);
    ck_assert_uint_eq(r.calls, 0);
    tensor_destroy(&images);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

static bool at_once(void)
{
    return true;
}

START_TEST(test_stops_early)
{
    Setting s;
    LoadResult r;
    AxonCounters counters;
    set_up(&s);
    s.options.stop = at_once;
    run(&s, &r);
    axon_counters(s.axon, &counters);
    ck_assert_uint_eq(counters.forwards, 4); /* one a client */
    s.options.rate = 50;
    run(&s, &r);
    tear_down(&s);
}
END_TEST

START_TEST(test_an_input_beyond_the_limit_is_refused)
{
    Setting s;
    LoadResult r;
    Error error = {0};
    set_up(&s);
    s.options.max_message_bytes = 32;
    ck_assert_int_eq(load_run(&s.options, &r, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "limit"));
    tear_down(&s);
}
END_TEST

SUITE_MAIN("load", test_closed_loop_counts_what_the_server_answered, test_calls_for_warmth_are_not_counted,
           test_clients_share_threads_and_channels, test_an_answer_to_another_question_is_wrong,
           test_an_answer_of_another_shape_is_wrong, test_failures_are_counted_by_status,
           test_backward_sends_the_gradient, test_open_loop_keeps_the_rate, test_open_loop_charges_the_wait,
           test_deadlines_pass, test_stops_early, test_an_input_beyond_the_limit_is_refused)
