/* The axon, asked by our own client and by raw bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/crowd.h"
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
    int64_t integers[4] = {0};
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    Tensor input = make_images(1, 1);
    Tensor whole = tensor_view(DTYPE_I64, shape_of(1, 1, 4), integers);
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

START_TEST(versions_of_the_weights_come_and_go)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    Crowd *crowd = crowd_create(axon);
    Tensor input = make_images(1, 1);
    crowd_send(crowd, "caller", 1, &input, 10000000000);
    crowd_wait(crowd, 1);
    ck_assert_uint_eq(crowd->calls[0].version, 0);
    stub.version = UINT64_MAX;
    crowd_send(crowd, "caller", 1, &input, 10000000000);
    crowd_wait(crowd, 2);
    ck_assert_uint_eq(crowd->calls[1].version, UINT64_MAX);
    crowd_send_backward(crowd, "caller", &input, &input, 41);
    crowd_wait(crowd, 3);
    ck_assert(stub.has_learnt_version);
    ck_assert_uint_eq(stub.learnt_version, 41);
    crowd_send_backward(crowd, "caller", &input, &input, 0);
    crowd_wait(crowd, 4);
    ck_assert(!stub.has_learnt_version);
    ck_assert_int_eq(crowd_count(crowd, 0, 4, STATUS_OK), 4);
    tensor_destroy(&input);
    crowd_destroy(crowd);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

static uint64_t caller_of(Stub *stub, const Axon *axon, const char *key)
{
    Crowd *crowd = crowd_create(axon); /* a connection of its own */
    Tensor input = make_images(1, 1);
    crowd_send(crowd, key, 1, &input, 10000000000);
    crowd_wait(crowd, 1);
    ck_assert_int_eq(crowd_count(crowd, 0, 1, STATUS_OK), 1);
    tensor_destroy(&input);
    crowd_destroy(crowd);
    return stub->caller;
}

START_TEST(a_caller_is_known_by_its_key)
{
    Stub stub;
    stub_init(&stub, 1);
    Axon *axon = stub_serve(&stub);
    uint64_t one = caller_of(&stub, axon, "one"), other = caller_of(&stub, axon, "other");
    ck_assert_uint_eq(caller_of(&stub, axon, "one"), one);
    ck_assert_uint_ne(one, other);
    axon_destroy(axon);
    stub_clear(&stub);
}
END_TEST

static Status shout(void *context, const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size, Error *error)
{
    (void)context;
    if (size != 5) return error_set(error, STATUS_OUT_OF_RANGE, "%zu bytes, expected 5", size);
    *out = malloc(size);
    *out_size = size;
    for (size_t i = 0; i < size; i++)
        (*out)[i] = (uint8_t)(bytes[i] & ~0x20);
    return STATUS_OK;
}

START_TEST(further_methods_are_answered)
{
    Axon *axon;
    Error error = {0};
    AxonMethod method = {.path = "/neuron.Test/Shout", .answer = shout};
    AxonOptions options = {.listen = "127.0.0.1:0", .neuron_key = "k"};
    ck_assert_int_eq(axon_start_with_methods(&options, &method, 1, &axon, NULL), STATUS_OK);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(raw_call(axon_address(axon), method.path, "hello", 5, &error), STATUS_OK);
    ck_assert_int_eq(raw_call(axon_address(axon), method.path, "", 0, &error), STATUS_OUT_OF_RANGE);
    ck_assert_str_eq(error.message, "0 bytes, expected 5");
    axon_destroy(axon);
}
END_TEST

SUITE_MAIN("axon", forward_answers_with_and_without_a_key, every_modality_is_served,
           backward_brings_the_gradient_and_returns_the_inputs, keys_choose_the_soma,
           bad_inputs_get_a_status_and_the_axon_goes_on, bad_bytes_get_a_status_and_the_axon_goes_on,
           random_bytes_never_get_ok, an_unknown_method_is_unimplemented, messages_beyond_the_limit_are_refused,
           bad_gradients_are_refused, failures_of_the_soma_reach_the_caller, a_soma_without_backward_says_so,
           versions_of_the_weights_come_and_go, further_methods_are_answered, a_caller_is_known_by_its_key)
