/* The axon's beginning and end: ports, draining, stopping. */
#include <string.h>

#include "net/crowd.h"
#include "support/suite.h"

static const uint64_t ms = 1000000;

static void expect_alive(const Axon *axon)
{
    Tensor input = make_images(3, 1), answer;
    Error error = {0};
    ck_assert_msg(ask(axon, "soma", &input, MODALITY_IMAGE, &answer, &error) == STATUS_OK, "%s", error.message);
    tensor_destroy(&answer);
    tensor_destroy(&input);
}

START_TEST(a_port_in_use_is_an_error)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub), *second = NULL;
    Error error = {0};
    AxonOptions options = {.listen = axon_address(axon), .neuron_key = "k"};
    ck_assert_int_eq(axon_start(&options, &second, &error), STATUS_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, axon_address(axon)));
    ck_assert_ptr_nonnull(strstr(error.message, "in use"));
    ck_assert_ptr_null(second);
    expect_alive(axon);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(wrong_addresses_are_errors)
{
    static const char *const wrong[] = {
        "", "8091", "127.0.0.1", "127.0.0.1:70000", "192.0.2.1:0", "no-such-host.invalid:0", "[::1]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Axon *axon = NULL;
        Error error = {0};
        AxonOptions options = {.listen = wrong[i], .neuron_key = "k"};
        ck_assert_int_ne(axon_start(&options, &axon, &error), STATUS_OK);
        ck_assert_uint_gt(strlen(error.message), 10);
        ck_assert_ptr_null(axon);
    }
}
END_TEST

START_TEST(a_port_is_free_again_after_the_axon_has_gone)
{
    Stub stub;
    char address[PEER_ADDRESS_SIZE];
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    expect_alive(axon);
    strcpy(address, axon_address(axon));
    axon_destroy(axon);
    axon = stub_serve_with(&stub, (AxonOptions){.listen = address});
    expect_alive(axon);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(axons_may_come_and_go)
{
    for (int i = 0; i < 5; i++) {
        Stub stub;
        stub_init(&stub, (float)i);
        Axon *one = stub_serve(&stub), *two = stub_serve(&stub);
        expect_alive(two);
        axon_destroy(one);
        expect_alive(two);
        axon_destroy(two);
        stub_clear(&stub);
    }
    axon_destroy(NULL);
}
END_TEST

/* --- the end --- */

static void wait_for_calls(const Axon *axon, uint64_t calls)
{
    AxonCounters counters;
    do
        axon_counters(axon, &counters);
    while (counters.calls < calls);
}

START_TEST(a_stop_with_grace_answers_what_is_in_flight)
{
    Stub stub;
    stub_init(&stub, 1);
    stub.delay_ns = 50 * ms;
    Axon *axon = stub_serve(&stub);
    Crowd *crowd = crowd_create(axon);
    Tensor input = make_images(2, 1);
    crowd_send(crowd, "caller", 3, &input, 20000 * ms);
    wait_for_calls(axon, 3);
    axon_stop(axon, 20000 * ms);
    crowd_wait(crowd, 3);
    ck_assert_int_eq(crowd_count(crowd, 0, 3, STATUS_OK), 3);
    axon_stop(axon, 0); /* nothing more to do */
    axon_destroy(axon);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_stop_without_grace_runs_nothing_more)
{
    Stub stub;
    stub_init(&stub, 1);
    stub.delay_ns = 100 * ms;
    Axon *axon = stub_serve(&stub);
    Crowd *crowd = crowd_create(axon);
    Tensor input = make_images(2, 1);
    crowd_send(crowd, "caller", 5, &input, 20000 * ms);
    wait_for_calls(axon, 5);
    axon_destroy(axon);
    crowd_wait(crowd, 5);
    ck_assert_int_eq(crowd_count(crowd, 0, 5, STATUS_OK), 0);
    ck_assert_int_le(atomic_load(&stub.runs), 1);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_drain_answers_what_came_and_refuses_what_comes)
{
    Stub stub;
    stub_init(&stub, 1);
    stub.held = true;
    Axon *axon = stub_serve(&stub);
    Crowd *crowd = crowd_create(axon);
    Tensor input = make_images(2, 1);
    crowd_send(crowd, "caller", 4, &input, 20000 * ms);
    wait_for_calls(axon, 4);
    ck_assert(!axon_drain(axon, 10 * ms));
    crowd_send(crowd, "caller", 2, &input, 20000 * ms);
    crowd_wait(crowd, 2); /* the latter two: the others are held */
    ck_assert_int_eq(crowd_count(crowd, 4, 2, STATUS_UNAVAILABLE), 2);
    stub.held = false;
    ck_assert(axon_drain(axon, 20000 * ms));
    crowd_wait(crowd, 6);
    ck_assert_int_eq(crowd_count(crowd, 0, 4, STATUS_OK), 4);
    axon_destroy(axon);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    stub_clear(&stub);
}
END_TEST

typedef struct Stopper {
    Axon *axon;
    pthread_t thread;
} Stopper;

static void *stop_soon(void *context)
{
    Stopper *stopper = context;
    wait_for_calls(stopper->axon, 300);
    axon_stop(stopper->axon, 10000 * ms);
    return NULL;
}

/* A caller that goes on sending while the axon stops gets an answer or a refusal that says that nothing was done; as
 * many answers as the axon says it gave. */
START_TEST(a_stop_under_load_loses_no_accepted_call)
{
    Stub stub;
    AxonCounters counters;
    stub_init(&stub, 1);
    stub.batch_rows = 16;
    Axon *axon = stub_serve_with(&stub, (AxonOptions){.threads = 3});
    Crowd *crowd = crowd_create(axon);
    Tensor input = make_images(1, 1);
    Stopper stopper = {.axon = axon};
    pthread_create(&stopper.thread, NULL, stop_soon, &stopper);
    crowd_send(crowd, "caller", 16, &input, 20000 * ms);
    for (int done = 0; crowd->count < CROWD_CALLS; done++) {
        crowd_wait(crowd, done + 1);
        crowd_send(crowd, "caller", 1, &input, 20000 * ms);
    }
    crowd_wait(crowd, CROWD_CALLS);
    pthread_join(stopper.thread, NULL);
    axon_counters(axon, &counters);
    int answered = crowd_count(crowd, 0, CROWD_CALLS, STATUS_OK);
    ck_assert_int_ge(answered, 280);
    ck_assert_uint_eq((uint64_t)answered, counters.forwards);
    int refused = crowd_count(crowd, 0, CROWD_CALLS, STATUS_UNAVAILABLE) +
                  crowd_count(crowd, 0, CROWD_CALLS, STATUS_CANCELLED); /* by gRPC, which hadn't handed them over */
    ck_assert_int_eq(answered + refused, CROWD_CALLS);
    axon_destroy(axon);
    crowd_destroy(crowd);
    tensor_destroy(&input);
    stub_clear(&stub);
}
END_TEST

SUITE_MAIN("axon_stop", a_port_in_use_is_an_error, wrong_addresses_are_errors,
           a_port_is_free_again_after_the_axon_has_gone, axons_may_come_and_go,
           a_stop_with_grace_answers_what_is_in_flight, a_stop_without_grace_runs_nothing_more,
           a_drain_answers_what_came_and_refuses_what_comes, a_stop_under_load_loses_no_accepted_call)
