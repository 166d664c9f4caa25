/* The axon, asked by our own client and by raw bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/raw.h"
#include "net/stub.h"
#include "support/suite.h"
#include "wire/message.h"

/* The axon still answers as it should. */
static void expect_alive(const Axon *axon, const Stub *stub)
{
    Tensor input = make_images(3, 1), answer;
    Error error = {0};
    float expected[3 * NETWORK_DIM];
    stub_expect(stub->factor, &input, expected);
    ck_assert_msg(ask(axon, "soma", &input, MODALITY_IMAGE, &answer, &error) == STATUS_OK, "%s", error.message);
    ck_assert(shape_equal(answer.shape, shape_of(3, 1, NETWORK_DIM)));
    ck_assert_mem_eq(answer.data, expected, sizeof expected);
    tensor_destroy(&answer);
    tensor_destroy(&input);
}

static void expect_refused(const Axon *axon, const char *key, const Tensor *input, Modality modality, Status expected,
                           const char *part)
{
    Tensor answer;
    Error error = {0};
    Status status = ask(axon, key, input, modality, &answer, &error);
    ck_assert_msg(status == expected, "%s instead of %s: %s", status_name(status), status_name(expected),
                  error.message);
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' lacks '%s'", error.message, part);
}

START_TEST(forward_answers_with_and_without_a_key)
{
    Stub stub;
    stub_init(&stub, 2);
    Axon *axon = stub_serve(&stub);
    expect_alive(axon, &stub);
    Tensor input = make_images(2, 3), answer;
    ck_assert_int_eq(ask(axon, "", &input, MODALITY_IMAGE, &answer, NULL), STATUS_OK);
    ck_assert(shape_equal(answer.shape, shape_of(2, 3, NETWORK_DIM)));
    tensor_destroy(&answer);
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(every_modality_is_served)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    int64_t ids[6] = {11, 12, 13, 14, 15, 16};
    int32_t small[6] = {11, 12, 13, 14, 15, 16};
    double doubles[8] = {1.5, 2, 3, 4, 5, 6, 7, 8};
    Tensor inputs[] = {tensor_view(DTYPE_I64, shape_of(2, 3), ids), tensor_view(DTYPE_I32, shape_of(2, 3), small),
                       tensor_view(DTYPE_F64, shape_of(2, 2, 2), doubles)};
    Tensor answers[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ask(axon, "soma", &inputs[i], i < 2 ? MODALITY_TEXT : MODALITY_TENSOR, &answers[i], NULL),
                         STATUS_OK);
    ck_assert_float_eq(tensor_f32(&answers[0])[0], 11);
    ck_assert_mem_eq(answers[0].data, answers[1].data, answers[0].size);
    ck_assert_float_eq(tensor_f32(&answers[2])[1], 2.5f);
    for (int i = 0; i < 3; i++)
        tensor_destroy(&answers[i]);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(backward_brings_the_gradient_and_returns_the_inputs)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    Tensor input = make_images(2, 1), gradient = {0}, answer;
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(2, 1, NETWORK_DIM), &gradient, NULL), STATUS_OK);
    for (int i = 0; i < 2 * NETWORK_DIM; i++)
        tensor_f32(&gradient)[i] = (float)i - 7.5f;
    ck_assert_int_eq(ask_backward(axon, "soma", &input, MODALITY_IMAGE, &gradient, &answer, NULL), STATUS_OK);
    ck_assert(shape_equal(answer.shape, input.shape));
    ck_assert_float_eq(tensor_f32(&answer)[5], 2 * tensor_f32(&input)[5]);
    ck_assert(stub_learnt(&stub, &input, &gradient));
    tensor_destroy(&answer);

    int64_t ids[2] = {1, 2};
    Tensor text = tensor_view(DTYPE_I64, shape_of(2, 1), ids);
    ck_assert_int_eq(ask_backward(axon, "soma", &text, MODALITY_TEXT, &gradient, &answer, NULL), STATUS_OK);
    ck_assert(shape_equal(answer.shape, shape_of(1, 1)));
    tensor_destroy(&answer);
    tensor_destroy(&gradient);
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(keys_choose_the_soma)
{
    Stub one, two;
    stub_init(&one, 1);
    stub_init(&two, 2);
    Axon *axon = stub_serve(&one);
    Tensor input = make_images(1, 1), answer;
    expect_refused(axon, "other", &input, MODALITY_IMAGE, STATUS_NOT_FOUND, "'other'");
    ck_assert_int_eq(axon_serve(axon, "other", stub_handler(&two), NULL), STATUS_OK);
    ck_assert_int_eq(ask(axon, "other", &input, MODALITY_IMAGE, &answer, NULL), STATUS_OK);
    ck_assert_float_eq(tensor_f32(&answer)[1], 2);
    tensor_destroy(&answer);
    expect_refused(axon, "", &input, MODALITY_IMAGE, STATUS_INVALID_ARGUMENT, "2 somas");
    ck_assert_int_eq(axon_serve(axon, "soma", stub_handler(&two), NULL), STATUS_OK); /* in place of the first */
    ck_assert_int_eq(ask(axon, "soma", &input, MODALITY_IMAGE, &answer, NULL), STATUS_OK);
    ck_assert_float_eq(tensor_f32(&answer)[1], 2);
    tensor_destroy(&answer);
    ck_assert_int_eq(axon_withdraw(axon, "other", NULL), STATUS_OK);
    ck_assert_int_eq(axon_withdraw(axon, "other", NULL), STATUS_NOT_FOUND);
    expect_refused(axon, "other", &input, MODALITY_IMAGE, STATUS_NOT_FOUND, "'other'");
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&one);
    stub_clear(&two);
}
END_TEST

START_TEST(bad_inputs_get_a_status_and_the_axon_goes_on)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    float zeros[64] = {0};
    Tensor ints = tensor_view(DTYPE_I32, shape_of(1, 1, 1, 2, 2), zeros);
    Tensor flat = tensor_view(DTYPE_F32, shape_of(2, 2), zeros);
    Tensor empty = tensor_view(DTYPE_F32, shape_of(0, 1, 1, 2, 2), zeros);
    Tensor good = tensor_view(DTYPE_F32, shape_of(1, 1, 1, 2, 2), zeros);
    expect_refused(axon, "soma", &ints, MODALITY_IMAGE, STATUS_INVALID_ARGUMENT, "expected f32");
    expect_refused(axon, "soma", &flat, MODALITY_IMAGE, STATUS_INVALID_ARGUMENT, "expected 5");
    expect_refused(axon, "soma", &flat, MODALITY_TEXT, STATUS_INVALID_ARGUMENT, "expected i64 or i32");
    expect_refused(axon, "soma", &empty, MODALITY_IMAGE, STATUS_INVALID_ARGUMENT, "below 1");
    expect_refused(axon, "soma", &good, (Modality)9, STATUS_INVALID_ARGUMENT, "modality of input is 9");
    ck_assert_int_eq(atomic_load(&stub.runs), 0);
    expect_alive(axon, &stub);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(bad_bytes_get_a_status_and_the_axon_goes_on)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
#define BYTES(text) text, sizeof(text) - 1
        {BYTES(""), "message has 0 tensors"},
        {BYTES("\x1a\x04soma"), "message has 0 tensors"},
        {BYTES("\xff\xff\xff\xff"), "malformed message"},
        {BYTES("\x32\x7f\x12"), "claims 127 bytes"},
        {BYTES("\x32\x00"), "dtype of input is 0"},
        /* FLOAT32, IMAGE, and a shape of five times -1 */
        {BYTES("\x32\x38\x1a\x32"
               "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
               "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
               "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x01\x28\x01"),
         "not inferred"},
        /* [2^62, 2^62, 1, 1, 1] */
        {BYTES("\x32\x1b\x1a\x15"
               "\x80\x80\x80\x80\x80\x80\x80\x80\x40\x80\x80\x80\x80\x80\x80\x80\x80\x40\x01\x01\x01\x20\x01\x28\x01"),
         "more elements"},
        /* [1, 1, 1, 2, 2] with 3 bytes */
        {BYTES("\x32\x10\x12\x03"
               "abc\x1a\x05\x01\x01\x01\x02\x02\x20\x01\x28\x01"),
         "buffer of input has 3 bytes"},
    };
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error error = {0};
        ck_assert_int_eq(raw_call(axon_address(axon), "/Bittensor/Forward", cases[i].bytes, cases[i].size, &error),
                         STATUS_INVALID_ARGUMENT);
        ck_assert_msg(strstr(error.message, cases[i].part) != NULL, "'%s' lacks '%s'", error.message, cases[i].part);
        ck_assert_int_eq(raw_call(axon_address(axon), "/Bittensor/Backward", cases[i].bytes, cases[i].size, &error),
                         STATUS_INVALID_ARGUMENT);
    }
    expect_alive(axon, &stub);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(random_bytes_never_get_ok)
{
    Stub stub;
    Rng rng = rng_make(5, RNG_STREAM_TEST);
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    for (int i = 0; i < 100; i++) {
        uint8_t bytes[200];
        size_t size = rng_below(&rng, sizeof bytes);
        for (size_t b = 0; b < size; b++)
            bytes[b] = (uint8_t)rng_u32(&rng);
        ck_assert_int_eq(raw_call(axon_address(axon), "/Bittensor/Forward", bytes, size, NULL),
                         STATUS_INVALID_ARGUMENT);
    }
    expect_alive(axon, &stub);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(an_unknown_method_is_unimplemented)
{
    Stub stub;
    Error error = {0};
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(raw_call(axon_address(axon), "/Bittensor/Sideways", "", 0, &error), STATUS_UNIMPLEMENTED);
    ck_assert_ptr_nonnull(strstr(error.message, "/Bittensor/Sideways"));
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(messages_beyond_the_limit_are_refused)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve_with(&stub, (AxonOptions){.max_message_bytes = 100000});
    Tensor large, answer_too_large = make_images(60, 1);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(1, 1, 1, 200, 200), &large, NULL), STATUS_OK);
    expect_refused(axon, "soma", &large, MODALITY_IMAGE, STATUS_RESOURCE_EXHAUSTED, "100000");
    ck_assert_int_eq(atomic_load(&stub.runs), 0);
    expect_refused(axon, "soma", &answer_too_large, MODALITY_IMAGE, STATUS_RESOURCE_EXHAUSTED, "answer");
    expect_alive(axon, &stub);
    tensor_destroy(&large);
    tensor_destroy(&answer_too_large);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(bad_gradients_are_refused)
{
    Stub stub;
    Error error = {0};
    Tensor answer;
    float values[4] = {1, 2, INFINITY, 4};
    int64_t integers[4] = {0};
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    Tensor input = make_images(1, 1);
    Tensor infinite = tensor_view(DTYPE_F32, shape_of(1, 1, 4), values);
    Tensor whole = tensor_view(DTYPE_I64, shape_of(1, 1, 4), integers);
    ck_assert_int_eq(ask_backward(axon, "soma", &input, MODALITY_IMAGE, &infinite, &answer, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "element 2 of gradient"));
    ck_assert_int_eq(ask_backward(axon, "soma", &input, MODALITY_IMAGE, &whole, &answer, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "dtype of gradient is i64"));
    ck_assert_int_eq(atomic_load(&stub.runs), 0);
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(failures_of_the_soma_reach_the_caller)
{
    Stub stub;
    stub_init(&stub, 1);
    stub.failure = STATUS_OUT_OF_RANGE;
    Axon *axon = stub_serve(&stub);
    Tensor input = make_images(1, 1);
    expect_refused(axon, "soma", &input, MODALITY_IMAGE, STATUS_OUT_OF_RANGE, "told to fail");
    stub.failure = STATUS_OK;
    stub.mode = STUB_NOT_FINITE;
    expect_refused(axon, "soma", &input, MODALITY_IMAGE, STATUS_INTERNAL, "element 7");
    stub.mode = STUB_NO_ANSWER;
    expect_refused(axon, "soma", &input, MODALITY_IMAGE, STATUS_INTERNAL, "answer");
    stub.mode = STUB_INTEGERS;
    expect_refused(axon, "soma", &input, MODALITY_IMAGE, STATUS_INTERNAL, "i64");
    stub.mode = STUB_SILENT;
    expect_refused(axon, "soma", &input, MODALITY_IMAGE, STATUS_ABORTED, "without saying why");
    stub.mode = STUB_GOOD;
    expect_alive(axon, &stub);
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_soma_without_backward_says_so)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    AxonHandler handler = stub_handler(&stub);
    handler.backward = NULL;
    axon_serve(axon, "soma", handler, NULL);
    Tensor input = make_images(1, 1), answer;
    Error error = {0};
    ck_assert_int_eq(ask_backward(axon, "soma", &input, MODALITY_IMAGE, &input, &answer, &error), STATUS_UNIMPLEMENTED);
    tensor_destroy(&input);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

/* --- start and stop --- */

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
    expect_alive(axon, &stub);
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
    expect_alive(axon, &stub);
    strcpy(address, axon_address(axon));
    axon_destroy(axon);
    axon = stub_serve_with(&stub, (AxonOptions){.listen = address});
    expect_alive(axon, &stub);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

typedef struct Caller {
    pthread_t thread;
    const Axon *axon;
    uint64_t deadline_ns;
    Status status;
    Error why;
} Caller;

static void *call(void *context)
{
    Caller *caller = context;
    DendriteOptions options = {.neuron_key = "caller", .deadline_ns = caller->deadline_ns};
    Peer peer = stub_peer(caller->axon);
    Tensor input = make_images(2, 1), answer = {0};
    caller->status = dendrite_call_forward(&options, &peer, &input, MODALITY_IMAGE, &answer, NULL, &caller->why);
    tensor_destroy(&answer);
    tensor_destroy(&input);
    return NULL;
}

static void start_callers(Caller *callers, int count, const Axon *axon, uint64_t deadline_ns)
{
    for (int i = 0; i < count; i++) {
        callers[i] = (Caller){.axon = axon, .deadline_ns = deadline_ns};
        pthread_create(&callers[i].thread, NULL, call, &callers[i]);
    }
}

/* How many of them got this status. */
static int join_callers(Caller *callers, int count, Status wanted)
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        found += callers[i].status == wanted;
    }
    return found;
}

static void wait_for_runs(Stub *stub, int runs)
{
    while (atomic_load(&stub->runs) < runs)
        sleep_ms(1);
}

static const uint64_t ms = 1000000;

START_TEST(many_callers_at_once_are_all_answered)
{
    enum { CALLERS = 40 };
    Stub stub;
    Caller callers[CALLERS];
    AxonCounters counters;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    start_callers(callers, CALLERS, axon, 20000 * ms);
    join_callers(callers, CALLERS, STATUS_OK);
    for (int i = 0; i < CALLERS; i++)
        ck_assert_msg(callers[i].status == STATUS_OK, "caller %d: %s", i, callers[i].why.message);
    axon_counters(axon, &counters);
    ck_assert_uint_eq(counters.calls, CALLERS);
    ck_assert_uint_eq(counters.forwards, CALLERS);
    ck_assert_uint_gt(counters.bytes_in, CALLERS * 32);
    ck_assert_uint_gt(counters.bytes_out, CALLERS * 2 * NETWORK_DIM * 4);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_full_queue_refuses)
{
    enum { CALLERS = 8 };
    Stub stub;
    Caller callers[CALLERS];
    AxonCounters counters;
    stub_init(&stub, 1);
    stub.delay_ns = 400 * ms;
    Axon *axon = stub_serve_with(&stub, (AxonOptions){.queue_capacity = 2});
    start_callers(callers, CALLERS, axon, 20000 * ms);
    int refused = join_callers(callers, CALLERS, STATUS_RESOURCE_EXHAUSTED);
    ck_assert_int_ge(refused, 1);
    ck_assert_int_le(refused, CALLERS - 2); /* the queue had room for two */
    axon_counters(axon, &counters);
    ck_assert_uint_eq(counters.failures[STATUS_RESOURCE_EXHAUSTED], (uint64_t)refused);
    ck_assert_uint_eq(counters.forwards, (uint64_t)(CALLERS - refused));
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(too_many_waiting_bytes_are_refused)
{
    enum { CALLERS = 6 };
    Stub stub;
    Caller callers[CALLERS];
    stub_init(&stub, 1);
    stub.delay_ns = 400 * ms;
    Axon *axon = stub_serve_with(&stub, (AxonOptions){.queue_bytes = 200}); /* a request has some 80 */
    start_callers(callers, CALLERS, axon, 20000 * ms);
    ck_assert_int_ge(join_callers(callers, CALLERS, STATUS_RESOURCE_EXHAUSTED), 1);
    expect_alive(axon, &stub); /* the bytes are given back */
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(late_calls_are_dropped_before_the_soma_runs)
{
    enum { CALLERS = 6 };
    Stub stub;
    Caller callers[CALLERS];
    AxonCounters counters;
    stub_init(&stub, 1);
    stub.delay_ns = 2000 * ms;
    Axon *axon = stub_serve(&stub);
    start_callers(callers, CALLERS, axon, 1000 * ms);
    ck_assert_int_eq(join_callers(callers, CALLERS, STATUS_OK), 0);
    stub.delay_ns = 0;
    expect_alive(axon, &stub); /* after those in the queue */
    axon_counters(axon, &counters);
    ck_assert_int_le(atomic_load(&stub.runs), 2); /* the first, and the one just now */
    ck_assert_uint_ge(counters.failures[STATUS_CANCELLED] + counters.failures[STATUS_DEADLINE_EXCEEDED], 1);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_stop_with_grace_answers_what_is_in_flight)
{
    enum { CALLERS = 3 };
    Stub stub;
    Caller callers[CALLERS];
    AxonCounters counters = {0};
    stub_init(&stub, 1);
    stub.delay_ns = 200 * ms;
    Axon *axon = stub_serve(&stub);
    start_callers(callers, CALLERS, axon, 20000 * ms);
    while (counters.calls < CALLERS)
        axon_counters(axon, &counters);
    axon_stop(axon, 20000 * ms);
    ck_assert_int_eq(join_callers(callers, CALLERS, STATUS_OK), CALLERS);
    axon_stop(axon, 0); /* nothing more to do */
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

START_TEST(a_stop_without_grace_cancels_what_is_in_flight)
{
    enum { CALLERS = 3 };
    Stub stub;
    Caller callers[CALLERS];
    AxonCounters counters = {0};
    stub_init(&stub, 1);
    stub.delay_ns = 300 * ms;
    Axon *axon = stub_serve(&stub);
    start_callers(callers, CALLERS, axon, 20000 * ms);
    while (counters.calls < CALLERS)
        axon_counters(axon, &counters);
    wait_for_runs(&stub, 1);
    axon_destroy(axon);
    ck_assert_int_eq(join_callers(callers, CALLERS, STATUS_OK), 0);
    ck_assert_int_eq(atomic_load(&stub.runs), 1);
    stub_clear(&stub);
}
END_TEST

START_TEST(axons_may_come_and_go)
{
    for (int i = 0; i < 5; i++) {
        Stub stub;
        stub_init(&stub, (float)i);
        Axon *one = stub_serve(&stub), *two = stub_serve(&stub);
        expect_alive(two, &stub);
        axon_destroy(one);
        expect_alive(two, &stub);
        axon_destroy(two);
        stub_clear(&stub);
    }
    axon_destroy(NULL);
}
END_TEST

SUITE_MAIN("axon", forward_answers_with_and_without_a_key, every_modality_is_served,
           backward_brings_the_gradient_and_returns_the_inputs, keys_choose_the_soma,
           bad_inputs_get_a_status_and_the_axon_goes_on, bad_bytes_get_a_status_and_the_axon_goes_on,
           random_bytes_never_get_ok, an_unknown_method_is_unimplemented, messages_beyond_the_limit_are_refused,
           bad_gradients_are_refused, failures_of_the_soma_reach_the_caller, a_soma_without_backward_says_so,
           a_port_in_use_is_an_error, wrong_addresses_are_errors, a_port_is_free_again_after_the_axon_has_gone,
           many_callers_at_once_are_all_answered, a_full_queue_refuses, too_many_waiting_bytes_are_refused,
           late_calls_are_dropped_before_the_soma_runs, a_stop_with_grace_answers_what_is_in_flight,
           a_stop_without_grace_cancels_what_is_in_flight, axons_may_come_and_go)
