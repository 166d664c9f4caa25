#include "dendrite/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dendrite/hello.h"
#include "dendrite/internal.h"

static const uint64_t hello_again_ns = 1000000000, hello_renew_ns = 60000000000;

static const char *const method_paths[PEER_METHODS] = {
    [PEER_FORWARD] = "/Bittensor/Forward",
    [PEER_BACKWARD] = "/Bittensor/Backward",
    [PEER_HELLO] = "/neuron.Neuron/Hello",
};

/* --- the table --- */

static Channel *create(Dendrite *dendrite, const char *address)
{
    Channel *channel = calloc(1, sizeof *channel);
    if (!channel) return NULL;
    channel->dendrite = dendrite;
    channel->references = 1;
    strcpy(channel->address, address);
    channel->grpc = unary_channel(address, dendrite->max_message_bytes, dendrite->deadline_ns);
    for (int method = 0; method < PEER_METHODS; method++)
        channel->methods[method] = grpc_channel_register_call(channel->grpc, method_paths[method], NULL, NULL);
    channel->next = dendrite->channels;
    dendrite->channels = channel;
    return channel;
}

Status channel_open(Dendrite *dendrite, const char *address, Channel **out, Error *error)
{
    for (Channel *channel = dendrite->channels; channel; channel = channel->next)
        if (!channel->replaced && strcmp(channel->address, address) == 0) {
            *out = channel_ref(channel);
            return STATUS_OK;
        }
    *out = create(dendrite, address);
    return *out ? STATUS_OK : error_set_errno(error, ENOMEM, "a channel to %s", address);
}

Channel *channel_ref(Channel *channel)
{
    channel->references++;
    return channel;
}

void channel_unref(Channel *channel)
{
    if (--channel->references) return;
    Channel **place = &channel->dendrite->channels;
    while (*place != channel)
        place = &(*place)->next;
    *place = channel->next;
    grpc_channel_destroy(channel->grpc);
    free(channel);
}

void channel_replace(Channel *broken)
{
    Dendrite *dendrite = broken->dendrite;
    if (broken->replaced) return;
    Channel *fresh = create(dendrite, broken->address);
    if (!fresh) return;
    broken->replaced = true;
    fresh->max_message_bytes = broken->max_message_bytes; /* likely the same neuron, until its Hello says otherwise */
    channel_ref(broken);
    for (size_t i = 0; i < dendrite->count; i++)
        if (dendrite->links[i].channel == broken) {
            dendrite->links[i].channel = channel_ref(fresh);
            channel_unref(broken);
        }
    channel_unref(broken);
    channel_unref(fresh);
}

/* --- Hello --- */

/* On the dendrite thread, without the lock. */
static void on_hello(UnaryCall *unary)
{
    Channel *channel = (Channel *)unary;
    Dendrite *dendrite = channel->dendrite;
    uint64_t limit, now = clock_now(dendrite->clock);
    char neuron_key[KEY_SIZE];
    bool told = hello_read(unary, &limit, neuron_key);
    pthread_mutex_lock(&dendrite->lock);
    unary_clear(unary); /* with the lock held, since channels_cancel looks for it */
    if (told) channel->max_message_bytes = limit;
    for (size_t i = 0; i < dendrite->count; i++)
        if (told && *neuron_key && dendrite->links[i].channel == channel)
            strcpy(dendrite->links[i].stats.neuron_key, neuron_key);
    channel->greeting = false;
    channel->next_hello = now + (told ? hello_renew_ns : hello_again_ns);
    channel_unref(channel);
    outstanding_ended(dendrite);
    pthread_mutex_unlock(&dendrite->lock);
}

void channel_greet(Channel *channel, uint64_t now)
{
    Dendrite *dendrite = channel->dendrite;
    bool due = !channel->greeted || now >= channel->next_hello;
    if (!due || channel->greeting || dendrite->ending) return;
    channel->hello.done = on_hello;
    channel->greeted = true;
    channel->next_hello = now + hello_again_ns;
    grpc_byte_buffer *request = hello_request(dendrite->neuron_key, dendrite->max_message_bytes);
    if (unary_start(&channel->hello, channel->grpc, dendrite->completions, channel->methods[PEER_HELLO], request,
                    rpc_deadline_after(dendrite->deadline_ns), NULL) != STATUS_OK)
        return;
    channel->greeting = true;
    channel_ref(channel);
    dendrite->outstanding++;
}

void channels_cancel(Dendrite *dendrite)
{
    for (Channel *channel = dendrite->channels; channel; channel = channel->next)
        if (channel->greeting) unary_cancel(&channel->hello);
}
