/* The dendrite against axons of this process, dead ports, and a server that sends what an axon never would. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/raw.h"
#include "net/stub.h"
#include "rpc/rpc.h"
#include "support/suite.h"

enum { MAX_PEERS = 8, BATCH = 3, ROW = BATCH * NETWORK_DIM };

static const uint64_t ms = 1000000;

/* Peers of every kind, and a dendrite that knows them in this order. */
typedef struct Net {
    Stub stubs[MAX_PEERS];
    Axon *axons[MAX_PEERS];
    Peer peers[MAX_PEERS];
    size_t count;
    Dendrite *dendrite;
    float answers[MAX_PEERS * ROW];
    uint8_t arrived[MAX_PEERS];
} Net;

static Stub *add_peer(Net *net, float factor)
{
    size_t i = net->count++;
    stub_init(&net->stubs[i], factor);
    net->axons[i] = stub_serve(&net->stubs[i]);
    net->peers[i] = stub_peer(net->axons[i]);
    return &net->stubs[i];
}

static void add_dead(Net *net)
{
    net->peers[net->count++] = dead_peer();
}

static void open_dendrite(Net *net, DendriteOptions options)
{
    Error error = {0};
    options.neuron_key = "client";
    ck_assert_msg(dendrite_create(&options, net->peers, net->count, &net->dendrite, &error) == STATUS_OK, "%s",
                  error.message);
}

static void close_net(Net *net)
{
    dendrite_destroy(net->dendrite);
    for (size_t i = 0; i < net->count; i++)
        if (net->axons[i]) {
            axon_destroy(net->axons[i]);
            stub_clear(&net->stubs[i]);
        }
    free(net);
}

static Net *make_net(void)
{
    return calloc(1, sizeof(Net));
}

/* One question; the call is still open. */
static size_t ask_all(Net *net, const Tensor *input, DendriteCall **call)
{
    Error error = {0};
    ck_assert_msg(dendrite_forward(net->dendrite, input, MODALITY_IMAGE, call, &error) == STATUS_OK, "%s",
                  error.message);
    for (size_t i = 0; i < net->count * ROW; i++)
        net->answers[i] = NAN;
    return dendrite_wait(*call, net->answers, net->arrived);
}

static size_t ask_once(Net *net)
{
    Tensor input = make_images(BATCH, 1);
    DendriteCall *call;
    size_t arrived = ask_all(net, &input, &call);
    dendrite_release(call);
    tensor_destroy(&input);
    return arrived;
}

static void expect_answer(const Net *net, size_t peer)
{
    float expected[ROW];
    Tensor input = make_images(BATCH, 1);
    stub_expect(net->stubs[peer].factor, &input, expected);
    ck_assert_uint_eq(net->arrived[peer], 1);
    ck_assert_mem_eq(net->answers + peer * ROW, expected, sizeof expected);
    tensor_destroy(&input);
}

static void expect_masked(const Net *net, size_t peer)
{
    ck_assert_uint_eq(net->arrived[peer], 0);
    for (size_t i = 0; i < ROW; i++)
        ck_assert(net->answers[peer * ROW + i] == 0);
}

static uint64_t failures(const Net *net, size_t peer, DendriteFailure kind)
{
    DendriteStats stats;
    dendrite_stats(net->dendrite, peer, &stats);
    return stats.forward_failures[kind];
}

static void expect_failed(const Net *net, size_t peer, DendriteFailure kind, const char *part)
{
    Error error;
    expect_masked(net, peer);
    dendrite_last_failure(net->dendrite, peer, &error);
    ck_assert_msg(failures(net, peer, kind) == 1, "peer %zu: no '%s', but: %s", peer, dendrite_failure_name(kind),
                  error.message);
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' lacks '%s'", error.message, part);
}

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
    DendriteStats stats;
    dendrite_stats(net->dendrite, 2, &stats);
    ck_assert_uint_eq(stats.forwards, 5);
    ck_assert(stats.mean_latency_s > 0 && stats.mean_latency_s < 10);
    ck_assert_uint_gt(stats.bytes_in, 5 * ROW * 4);
    ck_assert_uint_gt(stats.bytes_out, 5 * BATCH * 16);
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
    ck_assert_uint_eq(ask_all(net, &input, &call), 1);
    stub_expect(3, &input, expected);
    ck_assert_mem_eq(net->answers, expected, sizeof expected);
    dendrite_release(call);
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

START_TEST(a_dead_and_a_slow_peer_are_masked_and_the_others_exact)
{
    Net *net = make_net();
    add_peer(net, 1);
    add_dead(net);
    add_peer(net, 2)->delay_ns = 1500 * ms;
    add_peer(net, 3);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 600 * ms});
    uint64_t begun = clock_now(clock_monotonic());
    ck_assert_uint_eq(ask_once(net), 2);
    uint64_t took = clock_now(clock_monotonic()) - begun;
    ck_assert_uint_ge(took, 550 * ms);
    ck_assert_uint_lt(took, 1400 * ms);
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
    net->stubs[3].mode = STUB_NOT_FINITE; /* its own axon refuses to send that */
    net->stubs[4].failure = STATUS_INTERNAL;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ck_assert_uint_eq(ask_once(net), 3);
    expect_answer(net, 0);
    expect_failed(net, 1, DENDRITE_REFUSED, "told to fail");
    expect_answer(net, 2);
    expect_failed(net, 3, DENDRITE_REFUSED, "finite");
    expect_failed(net, 4, DENDRITE_REFUSED, "told to fail");
    expect_answer(net, 5);
    close_net(net);
}
END_TEST

/* --- answers that no axon of ours sends --- */

static grpc_byte_buffer *message_of(const Tensor *tensor)
{
    EncodedMessage encoded;
    Tensor copy;
    grpc_slice payload;
    MessageTensor item = {tensor, MODALITY_TENSOR};
    ck_assert_int_eq(message_encode("raw", "soma", &item, 1, 1 << 26, &encoded, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_copy(tensor, &copy, NULL), STATUS_OK);
    ck_assert_int_eq(rpc_payload(&copy, &payload, NULL), STATUS_OK);
    grpc_byte_buffer *buffer = rpc_message(&encoded, &payload);
    grpc_slice_unref(payload);
    return buffer;
}

/* The bytes of a message with this tensor as its answer. */
static uint8_t *bytes_of(const Tensor *tensor, size_t *size)
{
    grpc_byte_buffer *buffer = message_of(tensor);
    Segment *segments;
    size_t count, at = 0;
    ck_assert_int_eq(rpc_segments(buffer, &segments, &count, NULL), STATUS_OK);
    *size = grpc_byte_buffer_length(buffer);
    uint8_t *bytes = malloc(*size);
    for (size_t i = 0; i < count; at += segments[i].size, i++)
        memcpy(bytes + at, segments[i].data, segments[i].size);
    free(segments);
    grpc_byte_buffer_destroy(buffer);
    return bytes;
}

/* A net whose one peer answers with these bytes, asked once. */
static Net *ask_raw(const void *bytes, size_t size, RawServer **server)
{
    Net *net = make_net();
    *server = raw_server_start(bytes, size, STATUS_OK);
    net->count = 1;
    ck_assert_int_eq(peer_parse(raw_server_address(*server), &net->peers[0], NULL), STATUS_OK);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    ask_once(net);
    return net;
}

static void expect_raw_failed(const void *bytes, size_t size, DendriteFailure kind, const char *part)
{
    RawServer *server;
    Net *net = ask_raw(bytes, size, &server);
    expect_failed(net, 0, kind, part);
    close_net(net);
    raw_server_stop(server);
}

static void expect_tensor_failed(DType dtype, Shape shape, DendriteFailure kind, const char *part)
{
    Tensor tensor;
    size_t size;
    ck_assert_int_eq(tensor_create(dtype, shape, &tensor, NULL), STATUS_OK);
    uint8_t *bytes = bytes_of(&tensor, &size);
    expect_raw_failed(bytes, size, kind, part);
    free(bytes);
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

START_TEST(an_answer_that_is_not_finite_is_masked)
{
    Tensor tensor;
    size_t size;
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), &tensor, NULL), STATUS_OK);
    tensor_f32(&tensor)[ROW - 1] = -INFINITY;
    uint8_t *bytes = bytes_of(&tensor, &size);
    expect_raw_failed(bytes, size, DENDRITE_NOT_FINITE, "element 1535");
    free(bytes);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(doubles_are_narrowed_and_those_too_large_for_floats_masked)
{
    Tensor tensor;
    size_t size;
    RawServer *server;
    ck_assert_int_eq(tensor_create(DTYPE_F64, shape_of(BATCH, 1, NETWORK_DIM), &tensor, NULL), STATUS_OK);
    double *values = tensor.data;
    for (int i = 0; i < ROW; i++)
        values[i] = i * 0.1;
    uint8_t *bytes = bytes_of(&tensor, &size);
    Net *net = ask_raw(bytes, size, &server);
    ck_assert_uint_eq(net->arrived[0], 1);
    for (int i = 0; i < ROW; i++)
        ck_assert(net->answers[i] == (float)(i * 0.1));
    close_net(net);
    raw_server_stop(server);
    free(bytes);
    values[0] = 1e300;
    bytes = bytes_of(&tensor, &size);
    expect_raw_failed(bytes, size, DENDRITE_NOT_FINITE, "element 0");
    free(bytes);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(an_input_that_cannot_be_sent_is_an_error)
{
    Net *net = make_net();
    float values[8] = {0};
    DendriteCall *call = NULL;
    Error error;
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.max_message_bytes = 4096});
    Tensor flat = tensor_view(DTYPE_F32, shape_of(2, 4), values), large = make_images(300, 1);
    ck_assert_int_eq(dendrite_forward(net->dendrite, &flat, MODALITY_IMAGE, &call, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "[2, 4]"));
    ck_assert_int_eq(dendrite_forward(net->dendrite, &flat, MODALITY_TEXT, &call, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(dendrite_forward(net->dendrite, &large, MODALITY_IMAGE, &call, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_null(call);
    tensor_destroy(&large);
    close_net(net);
}
END_TEST

/* --- gradients --- */

START_TEST(backward_brings_each_peer_its_own_gradient)
{
    Net *net = make_net();
    DendriteCall *call;
    DendriteStats stats;
    static float gradients[3 * ROW];
    const uint8_t mask[3] = {1, 0, 1};
    for (int i = 0; i < 3; i++)
        add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    Tensor input = make_images(BATCH, 1);
    ck_assert_uint_eq(ask_all(net, &input, &call), 3);
    for (int i = 0; i < 3 * ROW; i++)
        gradients[i] = (float)i / 8;
    ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
    dendrite_release(call);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 10000 * ms), 0);
    for (int i = 0; i < 3; i++) {
        dendrite_stats(net->dendrite, (size_t)i, &stats);
        ck_assert_uint_eq(stats.backwards, mask[i]);
        Tensor sent = tensor_view(DTYPE_F32, shape_of(BATCH, 1, NETWORK_DIM), gradients + i * ROW);
        ck_assert(stub_learnt(&net->stubs[i], mask[i] ? &input : NULL, mask[i] ? &sent : NULL));
    }
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

START_TEST(gradients_that_are_not_finite_stay_here)
{
    Net *net = make_net();
    DendriteCall *call;
    DendriteStats stats;
    static float gradients[ROW];
    const uint8_t mask[1] = {1};
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms});
    Tensor input = make_images(BATCH, 1);
    ask_all(net, &input, &call);
    gradients[100] = NAN;
    ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
    dendrite_drain(net->dendrite, 10000 * ms);
    dendrite_stats(net->dendrite, 0, &stats);
    ck_assert_uint_eq(stats.backward_dropped, 1);
    ck_assert_uint_eq(stats.backwards, 0);
    ck_assert_int_eq(atomic_load(&net->stubs[0].runs), 1);
    dendrite_release(call);
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

START_TEST(backward_calls_in_flight_are_bounded_and_failures_counted)
{
    Net *net = make_net();
    DendriteCall *call;
    DendriteStats stats;
    static float gradients[ROW];
    const uint8_t mask[1] = {1};
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 10000 * ms, .max_backward_calls = 3});
    Tensor input = make_images(BATCH, 1);
    ask_all(net, &input, &call);
    net->stubs[0].delay_ns = 100 * ms;
    net->stubs[0].failure = STATUS_FAILED_PRECONDITION;
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(dendrite_backward(net->dendrite, call, gradients, mask, NULL), STATUS_OK);
    dendrite_release(call);
    ck_assert_uint_eq(dendrite_drain(net->dendrite, 10000 * ms), 0);
    dendrite_stats(net->dendrite, 0, &stats);
    ck_assert_uint_eq(stats.backward_dropped, 7);
    ck_assert_uint_eq(stats.backward_failures[DENDRITE_REFUSED], 3);
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

/* --- back-off --- */

START_TEST(a_peer_that_failed_is_left_alone_until_its_time_and_then_comes_back)
{
    Net *net = make_net();
    uint64_t now = 1000;
    add_dead(net);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms, .clock = clock_manual(&now)});
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 1);
    now += 190 * ms; /* 0.25 s, a fifth less at most */
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 1);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 1);
    now += 120 * ms; /* a fifth more at most */
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_UNAVAILABLE), 2);
    now += 390 * ms; /* twice as long now */
    ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 2);

    stub_init(&net->stubs[0], 1); /* it comes up */
    net->axons[0] = stub_serve_with(&net->stubs[0], (AxonOptions){.listen = net->peers[0].address});
    size_t arrived = 0;
    for (int i = 0; i < 100 && !arrived; i++) {
        now += 20000 * ms;
        sleep_ms(100); /* gRPC connects by a clock of its own, after 2 s at most */
        arrived = ask_once(net);
    }
    ck_assert_uint_eq(arrived, 1);
    expect_answer(net, 0);
    close_net(net);
}
END_TEST

START_TEST(a_peer_that_times_out_again_and_again_is_left_alone)
{
    Net *net = make_net();
    uint64_t now = 1000;
    add_peer(net, 1)->delay_ns = 150 * ms;
    open_dendrite(net, (DendriteOptions){.deadline_ns = 50 * ms, .clock = clock_manual(&now)});
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(ask_once(net), 0);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_TIMEOUT), 3);
    ck_assert_uint_eq(failures(net, 0, DENDRITE_BACKING_OFF), 2);
    close_net(net);
}
END_TEST

/* --- lifetimes --- */

START_TEST(calls_may_be_released_at_any_time)
{
    Net *net = make_net();
    DendriteCall *call;
    add_peer(net, 1)->delay_ns = 100 * ms;
    add_dead(net);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 5000 * ms});
    Tensor input = make_images(BATCH, 1);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(dendrite_forward(net->dendrite, &input, MODALITY_IMAGE, &call, NULL), STATUS_OK);
        if (i > 2) sleep_ms(150); /* answered, and not looked at */
        dendrite_release(call);
    }
    dendrite_release(NULL);
    tensor_destroy(&input);
    close_net(net);
}
END_TEST

START_TEST(a_dendrite_may_end_with_calls_in_flight)
{
    Net *net = make_net();
    DendriteCall *call;
    static float gradients[ROW];
    const uint8_t mask[1] = {1};
    add_peer(net, 1);
    open_dendrite(net, (DendriteOptions){.deadline_ns = 60000 * ms});
    Tensor input = make_images(BATCH, 1);
    ask_all(net, &input, &call);
    net->stubs[0].delay_ns = 300 * ms;
    for (int i = 0; i < 4; i++)
        dendrite_backward(net->dendrite, call, gradients, mask, NULL);
    dendrite_release(call);
    tensor_destroy(&input);
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

/* --- one request --- */

START_TEST(one_request_returns_the_answer_as_it_came)
{
    RawServer *server;
    Tensor sent, answer;
    Peer peer;
    size_t size;
    uint64_t latency = 0;
    const DendriteOptions options = {.neuron_key = "client", .deadline_ns = 10000 * ms};
    ck_assert_int_eq(tensor_create(DTYPE_I32, shape_of(2, 7), &sent, NULL), STATUS_OK);
    ((int32_t *)sent.data)[13] = -5;
    uint8_t *bytes = bytes_of(&sent, &size);
    server = raw_server_start(bytes, size, STATUS_OK);
    peer_parse(raw_server_address(server), &peer, NULL);
    Tensor input = make_images(1, 1);
    ck_assert_int_eq(dendrite_call_forward(&options, &peer, &input, MODALITY_IMAGE, &answer, &latency, NULL),
                     STATUS_OK);
    ck_assert_int_eq(answer.dtype, DTYPE_I32);
    ck_assert(shape_equal(answer.shape, sent.shape));
    ck_assert_mem_eq(answer.data, sent.data, sent.size);
    ck_assert_uint_gt(latency, 0);
    tensor_destroy(&answer);
    raw_server_stop(server);
    free(bytes);
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

SUITE_MAIN("dendrite", all_peers_answer, sequences_are_answered_row_by_row,
           a_dead_and_a_slow_peer_are_masked_and_the_others_exact, late_answers_are_never_written,
           a_dead_peer_does_not_slow_the_others, k_of_n_may_fail, malformed_and_empty_answers_are_masked,
           answers_of_another_shape_are_masked, an_answer_that_is_not_finite_is_masked,
           doubles_are_narrowed_and_those_too_large_for_floats_masked, an_input_that_cannot_be_sent_is_an_error,
           backward_brings_each_peer_its_own_gradient, gradients_that_are_not_finite_stay_here,
           backward_calls_in_flight_are_bounded_and_failures_counted,
           a_peer_that_failed_is_left_alone_until_its_time_and_then_comes_back,
           a_peer_that_times_out_again_and_again_is_left_alone, calls_may_be_released_at_any_time,
           a_dendrite_may_end_with_calls_in_flight, no_peers_is_fine, one_request_returns_the_answer_as_it_came,
           one_request_tells_failures_apart)
