#include "net/stub.h"

#include <arpa/inet.h>
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void sleep_ms(int milliseconds)
{
    struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&span, NULL);
}

void stub_init(Stub *stub, float factor)
{
    memset(stub, 0, sizeof *stub);
    stub->factor = factor;
    pthread_mutex_init(&stub->lock, NULL);
}

void stub_clear(Stub *stub)
{
    tensor_destroy(&stub->input);
    tensor_destroy(&stub->gradient);
    pthread_mutex_destroy(&stub->lock);
}

static double first_of_row(const Tensor *input, size_t row, size_t rows)
{
    size_t stride = (size_t)shape_count(input->shape) / rows;
    return input->dtype == DTYPE_I64 ? (double)((const int64_t *)input->data)[row * stride]
                                     : (double)tensor_f32(input)[row * stride];
}

void stub_expect(float factor, const Tensor *input, float *out)
{
    size_t rows = (size_t)(input->shape.dims[0] * input->shape.dims[1]);
    for (size_t row = 0; row < rows; row++)
        for (size_t f = 0; f < NETWORK_DIM; f++)
            out[row * NETWORK_DIM + f] = factor * (float)(first_of_row(input, row, rows) + (double)f);
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static Status act(Stub *stub, int count, Error *error)
{
    if (atomic_exchange(&stub->inside, true)) abort();
    atomic_fetch_add(&stub->runs, 1);
    if (count > stub->joined) stub->joined = count;
    while (stub->held)
        sleep_ms(1);
    for (uint64_t begun = thread_cpu_ns(); stub->burn_ns > thread_cpu_ns() - begun;)
        ;
    if (stub->delay_ns) sleep_ms((int)(stub->delay_ns / 1000000));
    Status failure = (Status)atomic_load(&stub->failure);
    return failure == STATUS_OK ? STATUS_OK : error_set(error, failure, "the stub was told to fail");
}

static Tensor input_of(const AxonRequest *request)
{
    Tensor input;
    DType dtype = request->modality == MODALITY_TEXT ? DTYPE_I64 : DTYPE_F32;
    ck_assert_int_eq(tensor_create(dtype, request->shape, &input, NULL), STATUS_OK);
    axon_read_input(request, 0, (size_t)shape_count(request->shape), input.data);
    return input;
}

static void answer_one(Stub *stub, AxonRequest *request)
{
    Tensor input = input_of(request), answer;
    stub->caller = request->caller;
    Shape shape = shape_of(input.shape.dims[0], input.shape.dims[1], NETWORK_DIM);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape, &answer, NULL), STATUS_OK);
    stub_expect(stub->factor, &input, tensor_f32(&answer));
    if (stub->mode == STUB_NOT_FINITE) tensor_f32(&answer)[7] = NAN;
    tensor_destroy(&input);
    uint64_t version = stub->version;
    axon_answer(request, &answer, version ? &version : NULL);
}

static void forward(void *context, AxonRequest *const *requests, size_t count)
{
    Stub *stub = context;
    Error error;
    Status status = act(stub, (int)count, &error);
    for (size_t i = 0; i < count; i++)
        if (status == STATUS_OK)
            answer_one(stub, requests[i]);
        else
            axon_fail(requests[i], &error);
    stub->inside = false;
}

static void keep(Stub *stub, const Tensor *input, const AxonRequest *request)
{
    pthread_mutex_lock(&stub->lock);
    tensor_destroy(&stub->input);
    tensor_destroy(&stub->gradient);
    ck_assert_int_eq(tensor_copy(input, &stub->input, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_F32, request->gradient_shape, &stub->gradient, NULL), STATUS_OK);
    axon_read_gradient(request, 0, (size_t)shape_count(request->gradient_shape), tensor_f32(&stub->gradient));
    stub->has_learnt_version = request->has_version;
    stub->learnt_version = request->version;
    pthread_mutex_unlock(&stub->lock);
}

/* The gradient with respect to the input is the input doubled, so that it can be told apart. */
static void backward(void *context, AxonRequest *request)
{
    Stub *stub = context;
    Error error;
    if (act(stub, 1, &error) != STATUS_OK) {
        stub->inside = false;
        axon_fail(request, &error);
        return;
    }
    Tensor input = input_of(request), answer;
    keep(stub, &input, request);
    Shape shape = input.dtype == DTYPE_F32 ? input.shape : shape_of(1, 1);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape, &answer, NULL), STATUS_OK);
    for (size_t i = 0; input.dtype == DTYPE_F32 && i < input.size / sizeof(float); i++)
        tensor_f32(&answer)[i] = 2 * tensor_f32(&input)[i];
    tensor_destroy(&input);
    stub->inside = false;
    axon_answer(request, &answer, NULL);
}

static bool same(const Tensor *one, const Tensor *other)
{
    if (!other) return one->data == NULL;
    return one->data && shape_equal(one->shape, other->shape) && memcmp(one->data, other->data, other->size) == 0;
}

bool stub_learnt(Stub *stub, const Tensor *input, const Tensor *gradient)
{
    pthread_mutex_lock(&stub->lock);
    bool equal = same(&stub->input, input) && same(&stub->gradient, gradient);
    pthread_mutex_unlock(&stub->lock);
    return equal;
}

AxonHandler stub_handler(Stub *stub)
{
    return (AxonHandler){.context = stub,
                         .batch_rows = stub->batch_rows,
                         .batch_wait_ns = stub->batch_wait_ns,
                         .forward = forward,
                         .backward = backward};
}

Axon *stub_serve_with(Stub *stub, AxonOptions options)
{
    Axon *axon;
    Error error = {0};
    if (!options.listen) options.listen = "127.0.0.1:0";
    if (!options.neuron_key) options.neuron_key = "server";
    ck_assert_msg(axon_start(&options, &axon, &error) == STATUS_OK, "%s", error.message);
    ck_assert_msg(axon_serve(axon, "soma", stub_handler(stub), &error) == STATUS_OK, "%s", error.message);
    return axon;
}

Axon *stub_serve(Stub *stub)
{
    return stub_serve_with(stub, (AxonOptions){0});
}

Peer stub_peer(const Axon *axon)
{
    Peer peer;
    char text[PEER_ADDRESS_SIZE + 16];
    snprintf(text, sizeof text, "%s/soma", axon_address(axon));
    ck_assert_int_eq(peer_parse(text, &peer, NULL), STATUS_OK);
    return peer;
}

Peer dead_peer(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    Peer peer = {.synapse_key = "soma"};
    snprintf(peer.address, sizeof peer.address, "127.0.0.1:%d", ntohs(address.sin_port));
    return peer;
}

Tensor make_images(int64_t batch, int64_t seq)
{
    Tensor images;
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(batch, seq, 1, 2, 2), &images, NULL), STATUS_OK);
    for (size_t i = 0; i < images.size / sizeof(float); i++)
        tensor_f32(&images)[i] = (float)i * 0.25f;
    return images;
}

static const DendriteOptions patient = {.neuron_key = "client", .deadline_ns = 10000000000};

Status ask(const Axon *axon, const char *key, const Tensor *input, Modality modality, Tensor *answer, Error *error)
{
    Peer peer = stub_peer(axon);
    snprintf(peer.synapse_key, sizeof peer.synapse_key, "%s", key);
    return dendrite_call_forward(&patient, &peer, input, modality, answer, NULL, error);
}

Status ask_backward(const Axon *axon, const char *key, const Tensor *input, Modality modality, const Tensor *gradient,
                    Tensor *answer, Error *error)
{
    Peer peer = stub_peer(axon);
    snprintf(peer.synapse_key, sizeof peer.synapse_key, "%s", key);
    return dendrite_call_backward(&patient, &peer, input, modality, gradient, answer, NULL, error);
}
