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

static Status act(Stub *stub, Error *error)
{
    atomic_fetch_add(&stub->runs, 1);
    if (stub->delay_ns) sleep_ms((int)(stub->delay_ns / 1000000));
    if (stub->mode == STUB_SILENT) return STATUS_ABORTED;
    Status failure = (Status)atomic_load(&stub->failure);
    return failure == STATUS_OK ? STATUS_OK : error_set(error, failure, "the stub was told to fail");
}

static Status forward(void *context, const Tensor *input, Modality modality, Tensor *answer, Error *error)
{
    Stub *stub = context;
    (void)modality;
    RETURN_IF_ERROR(act(stub, error));
    if (stub->mode == STUB_NO_ANSWER) return STATUS_OK;
    Shape shape = shape_of(input->shape.dims[0], input->shape.dims[1], NETWORK_DIM);
    RETURN_IF_ERROR(tensor_create(stub->mode == STUB_INTEGERS ? DTYPE_I64 : DTYPE_F32, shape, answer, error));
    if (stub->mode == STUB_INTEGERS) return STATUS_OK;
    stub_expect(stub->factor, input, tensor_f32(answer));
    if (stub->mode == STUB_NOT_FINITE) tensor_f32(answer)[7] = NAN;
    return STATUS_OK;
}

/* The gradient with respect to the input is the input doubled, so that it can be told apart. */
static Status backward(void *context, const Tensor *input, Modality modality, const Tensor *gradient,
                       Tensor *input_gradient, Error *error)
{
    Stub *stub = context;
    (void)modality;
    RETURN_IF_ERROR(act(stub, error));
    pthread_mutex_lock(&stub->lock);
    tensor_destroy(&stub->input);
    tensor_destroy(&stub->gradient);
    Status status = tensor_copy(input, &stub->input, error);
    if (status == STATUS_OK) status = tensor_copy(gradient, &stub->gradient, error);
    pthread_mutex_unlock(&stub->lock);
    RETURN_IF_ERROR(status);
    if (input->dtype != DTYPE_F32) return tensor_create(DTYPE_F32, shape_of(1, 1), input_gradient, error);
    RETURN_IF_ERROR(tensor_create(DTYPE_F32, input->shape, input_gradient, error));
    for (size_t i = 0; i < input->size / sizeof(float); i++)
        tensor_f32(input_gradient)[i] = 2 * tensor_f32(input)[i];
    return STATUS_OK;
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
    return (AxonHandler){stub, forward, backward};
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
