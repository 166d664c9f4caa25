#include "net/peers.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Net *make_net(void)
{
    return calloc(1, sizeof(Net));
}

void close_net(Net *net)
{
    dendrite_destroy(net->dendrite);
    for (size_t i = 0; i < net->count; i++)
        if (net->axons[i]) {
            axon_destroy(net->axons[i]);
            stub_clear(&net->stubs[i]);
        }
    free(net);
}

Stub *add_peer(Net *net, float factor)
{
    size_t i = net->count++;
    stub_init(&net->stubs[i], factor);
    net->axons[i] = stub_serve(&net->stubs[i]);
    net->peers[i] = stub_peer(net->axons[i]);
    return &net->stubs[i];
}

void add_dead(Net *net)
{
    net->peers[net->count++] = dead_peer();
}

void add_address(Net *net, const char *address)
{
    ck_assert_int_eq(peer_parse(address, &net->peers[net->count++], NULL), STATUS_OK);
}

void open_dendrite(Net *net, DendriteOptions options)
{
    Error error = {0};
    options.neuron_key = "client";
    ck_assert_msg(dendrite_create(&options, net->peers, net->count, &net->dendrite, &error) == STATUS_OK, "%s",
                  error.message);
}

DendriteCall *send_question(Net *net)
{
    Error error = {0};
    DendriteCall *call = NULL;
    Tensor input = make_images(BATCH, 1);
    ck_assert_msg(dendrite_forward(net->dendrite, &input, MODALITY_IMAGE, &call, &error) == STATUS_OK, "%s",
                  error.message);
    ck_assert_ptr_null(input.data);
    return call;
}

size_t wait_for(Net *net, DendriteCall *call)
{
    for (size_t i = 0; i < net->count * ROW; i++)
        net->answers[i] = NAN;
    return dendrite_wait(call, net->answers, net->arrived);
}

size_t ask_once(Net *net)
{
    DendriteCall *call = send_question(net);
    size_t arrived = wait_for(net, call);
    dendrite_release(call);
    return arrived;
}

void expect_answer(const Net *net, size_t peer)
{
    float expected[ROW];
    Tensor input = make_images(BATCH, 1);
    stub_expect(net->stubs[peer].factor, &input, expected);
    ck_assert_uint_eq(net->arrived[peer], 1);
    ck_assert_mem_eq(net->answers + peer * ROW, expected, sizeof expected);
    tensor_destroy(&input);
}

void expect_masked(const Net *net, size_t peer)
{
    ck_assert_uint_eq(net->arrived[peer], 0);
    for (size_t i = 0; i < ROW; i++)
        ck_assert(net->answers[peer * ROW + i] == 0);
}

DendriteStats stats_of(const Net *net, size_t peer)
{
    DendriteStats stats;
    dendrite_stats(net->dendrite, peer, &stats);
    return stats;
}

uint64_t failures(const Net *net, size_t peer, DendriteFailure kind)
{
    return stats_of(net, peer).forward_failures[kind];
}

void expect_failed(const Net *net, size_t peer, DendriteFailure kind, const char *part)
{
    Error error;
    expect_masked(net, peer);
    dendrite_last_failure(net->dendrite, peer, &error);
    ck_assert_msg(failures(net, peer, kind) == 1, "peer %zu: no '%s', but: %s", peer, dendrite_failure_name(kind),
                  error.message);
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' lacks '%s'", error.message, part);
}

static uint64_t read_clock(void *context)
{
    return atomic_load((atomic_uint_fast64_t *)context);
}

Clock test_clock(atomic_uint_fast64_t *now)
{
    return (Clock){read_clock, now};
}

bool soon(bool (*condition)(Net *net), Net *net)
{
    for (int i = 0; i < 1000; i++) {
        if (condition(net)) return true;
        sleep_ms(5);
    }
    return false;
}
