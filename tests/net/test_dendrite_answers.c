/* Answers that no axon of ours sends: a raw server says them, and the dendrite masks the peer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/peers.h"
#include "net/raw.h"
#include "net/script.h"
#include "support/suite.h"

static Script *script;

/* A net whose one peer answers with these bytes, asked once. */
static Net *ask_raw(const void *bytes, size_t size)
{
    Net *net = make_net();
    script = script_start(0);
    script_answer(script, SCRIPT_FORWARD, bytes, size);
    add_address(net, script_address(script));
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ask_once(net);
    return net;
}

static Net *ask_tensor(const Tensor *tensor)
{
    Net *net = make_net();
    script = script_start(0);
    script_answer_tensor(script, SCRIPT_FORWARD, tensor);
    add_address(net, script_address(script));
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ask_once(net);
    return net;
}

static void close_script(Net *net)
{
    close_net(net);
    script_stop(script);
}

static void expect_raw_failed(const void *bytes, size_t size, DendriteFailure kind, const char *part)
{
    Net *net = ask_raw(bytes, size);
    expect_failed(net, 0, kind, part);
    close_script(net);
}

static void expect_tensor_failed(DType dtype, Shape shape, DendriteFailure kind, const char *part)
{
    Tensor tensor;
    ck_assert_int_eq(tensor_create(dtype, shape, &tensor, NULL), STATUS_OK);
    Net *net = ask_tensor(&tensor);
    expect_failed(net, 0, kind, part);
    close_script(net);
    tensor_destroy(&tensor);
}

START_TEST(malformed_and_empty_answers_are_masked)
{
    expect_raw_failed("", 0, DENDRITE_EMPTY, "no tensor");
    expect_raw_failed("\x0a\x05"
                      "0.0.0",
                      7, DENDRITE_EMPTY, "no tensor");
    expect_raw_failed("\xff\xff", 2, DENDRITE_MALFORMED, "malformed message");
    expect_raw_failed("\x32\x00", 2, DENDRITE_MALFORMED, "UNKNOWN");
    expect_raw_failed("\x32\x08\x12\x01x\x1a\x01\x03\x20\x01", 10, DENDRITE_MALFORMED, "buffer of answer has 1 bytes");
}
END_TEST

START_TEST(answers_of_another_shape_are_masked)
{
    expect_tensor_failed(DTYPE_F32, shape_of(BATCH, 1, 511), DENDRITE_WRONG_SHAPE, "[3, 1, 511]");
    expect_tensor_failed(DTYPE_F32, shape_of(BATCH + 1, 1, NETWORK_DIM), DENDRITE_WRONG_SHAPE, "[4, 1, 512]");
    expect_tensor_failed(DTYPE_F32, shape_of(BATCH, NETWORK_DIM), DENDRITE_WRONG_SHAPE, "[3, 512]");
    expect_tensor_failed(DTYPE_F32, shape_of(1, 1), DENDRITE_WRONG_SHAPE, "[1, 1]");
    expect_tensor_failed(DTYPE_F32, shape_scalar(), DENDRITE_WRONG_SHAPE, "[]");
    expect_tensor_failed(DTYPE_I64, shape_of(BATCH, 1, NETWORK_DIM), DENDRITE_MALFORMED, "i64");
}
END_TEST

START_TEST(an_answer_far_too_long_is_masked_unread)
{
    expect_tensor_failed(DTYPE_F32, shape_of(BATCH, 3, NETWORK_DIM), DENDRITE_WRONG_SHAPE, "answer has 18");
}
END_TEST

START_TEST(an_answer_that_is_not_finite_is_masked)
{
    Tensor tensor;
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), &tensor, NULL), STATUS_OK);
    tensor_f32(&tensor)[ROW - 1] = -INFINITY;
    Net *net = ask_tensor(&tensor);
    expect_failed(net, 0, DENDRITE_NOT_FINITE, "element 1535");
    close_script(net);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(doubles_are_narrowed_and_those_too_large_for_floats_masked)
{
    Tensor tensor;
    ck_assert_int_eq(tensor_create(DTYPE_F64, shape_of(BATCH, 1, NETWORK_DIM), &tensor, NULL), STATUS_OK);
    double *values = tensor.data;
    for (int i = 0; i < ROW; i++)
        values[i] = i * 0.1;
    Net *net = ask_tensor(&tensor);
    ck_assert_uint_eq(net->arrived[0], 1);
    for (int i = 0; i < ROW; i++)
        ck_assert(net->answers[i] == (float)(i * 0.1));
    close_script(net);
    values[0] = 1e300;
    net = ask_tensor(&tensor);
    expect_failed(net, 0, DENDRITE_NOT_FINITE, "element 0");
    close_script(net);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(one_request_returns_the_answer_as_it_came)
{
    Tensor sent, answer;
    Peer peer;
    uint64_t latency = 0;
    const DendriteOptions options = {.neuron_key = "client", .deadline_ns = 10000 * ms};
    ck_assert_int_eq(tensor_create(DTYPE_I32, shape_of(2, 7), &sent, NULL), STATUS_OK);
    ((int32_t *)sent.data)[13] = -5;
    script = script_start(0);
    script_answer_tensor(script, SCRIPT_FORWARD, &sent);
    peer_parse(script_address(script), &peer, NULL);
    Tensor input = make_images(1, 1);
    ck_assert_int_eq(dendrite_call_forward(&options, &peer, &input, MODALITY_IMAGE, &answer, &latency, NULL),
                     STATUS_OK);
    ck_assert_int_eq(answer.dtype, DTYPE_I32);
    ck_assert(shape_equal(answer.shape, sent.shape));
    ck_assert_mem_eq(answer.data, sent.data, sent.size);
    ck_assert_uint_gt(latency, 0);
    tensor_destroy(&answer);
    script_stop(script);
    tensor_destroy(&sent);
    tensor_destroy(&input);
}
END_TEST

static Status ask_raw_once(const void *bytes, size_t size, Status status, Error *error)
{
    RawServer *server = raw_server_start(bytes, size, status);
    Tensor answer, input = make_images(1, 1);
    Peer peer;
    const DendriteOptions options = {.neuron_key = "client", .deadline_ns = 10000 * ms};
    peer_parse(raw_server_address(server), &peer, NULL);
    Status got = dendrite_call_forward(&options, &peer, &input, MODALITY_IMAGE, &answer, NULL, error);
    raw_server_stop(server);
    tensor_destroy(&input);
    return got;
}

START_TEST(one_request_tells_failures_apart)
{
    Error error = {0};
    Tensor input = make_images(1, 1), answer;
    Peer dead = dead_peer();
    const DendriteOptions options = {.neuron_key = "client", .deadline_ns = 3000 * ms};
    ck_assert_int_eq(dendrite_call_forward(&options, &dead, &input, MODALITY_IMAGE, &answer, NULL, &error),
                     STATUS_UNAVAILABLE);
    ck_assert_int_eq(ask_raw_once("", 0, STATUS_OK, &error), STATUS_UNKNOWN);
    ck_assert_int_eq(ask_raw_once("\xff", 1, STATUS_OK, &error), STATUS_DATA_LOSS);
    ck_assert_int_eq(ask_raw_once(NULL, 0, STATUS_NOT_FOUND, &error), STATUS_NOT_FOUND);
    ck_assert_str_eq(error.message, "raw");
    ck_assert_int_eq(ask_raw_once("\xff", 1, STATUS_OK, NULL), STATUS_DATA_LOSS);
    tensor_destroy(&input);
}
END_TEST

SUITE_MAIN("dendrite answers", malformed_and_empty_answers_are_masked, answers_of_another_shape_are_masked,
           an_answer_far_too_long_is_masked_unread, an_answer_that_is_not_finite_is_masked,
           doubles_are_narrowed_and_those_too_large_for_floats_masked, one_request_returns_the_answer_as_it_came,
           one_request_tells_failures_apart)
