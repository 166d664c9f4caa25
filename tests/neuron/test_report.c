/* What a neuron reports: the Peers answer that it makes is the one that is read, and hostile bytes are refused. */
#include "neuron/report.h"

#include <stdlib.h>
#include <string.h>

#include "support/suite.h"

static Error error;

static Dendrite *make_dendrite(void)
{
    static const Peer peers[] = {{"127.0.0.1:1", "first"}, {"[::1]:2", ""}};
    const DendriteOptions options = {.neuron_key = "me"};
    Dendrite *dendrite = NULL;
    ck_assert_int_eq(dendrite_create(&options, peers, 2, &dendrite, &error), STATUS_OK);
    return dendrite;
}

static Report *make_report(ReportSources sources)
{
    Report *report = NULL;
    ck_assert_int_eq(report_create("me", 12345, &report, &error), STATUS_OK);
    report_about(report, &sources);
    return report;
}

START_TEST(peers_are_told_as_they_are_seen)
{
    Dendrite *dendrite = make_dendrite();
    Report *report = make_report((ReportSources){.dendrite = dendrite});
    uint8_t *bytes;
    size_t size;
    Neuron__PeersReply *reply;
    ck_assert_int_eq(report_peers(report, &bytes, &size, &error), STATUS_OK);
    ck_assert_int_eq(report_read_peers_reply(bytes, size, &reply, &error), STATUS_OK);
    ck_assert_str_eq(reply->neuron_key, "me");
    ck_assert_uint_eq(reply->n_peers, 2);
    ck_assert_str_eq(reply->peers[0]->synapse_key, "first");
    ck_assert_str_eq(reply->peers[1]->address, "[::1]:2");
    ck_assert_str_eq(reply->peers[1]->state, "unasked");
    ck_assert_ptr_null(reply->serving); /* nothing is served */
    neuron__peers_reply__free_unpacked(reply, NULL);
    free(bytes);
    report_destroy(report);
    dendrite_destroy(dendrite);
}
END_TEST

START_TEST(hello_tells_the_limit_and_what_is_served)
{
    Report *report = make_report((ReportSources){.synapse_key = "soma", .learns = true});
    AxonMethod methods[REPORT_METHODS];
    uint8_t *bytes;
    size_t size;
    ck_assert_uint_eq(report_methods(report, methods), REPORT_METHODS);
    ck_assert_str_eq(methods[0].path, "/neuron.Neuron/Hello");
    ck_assert_int_eq(methods[0].answer(methods[0].context, NULL, 0, &bytes, &size, &error), STATUS_OK);
    Neuron__HelloReply *reply = neuron__hello_reply__unpack(NULL, size, bytes);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(reply->max_message_bytes, 12345);
    ck_assert_uint_eq(reply->n_somas, 1);
    ck_assert_str_eq(reply->somas[0]->synapse_key, "soma");
    ck_assert(reply->somas[0]->learns);
    neuron__hello_reply__free_unpacked(reply, NULL);
    free(bytes);
    report_destroy(report);
}
END_TEST

START_TEST(requests_that_are_none_are_refused)
{
    static uint8_t long_one[REPORT_REQUEST_BYTES + 2] = {0x0A, 0xFF, 0x1F};
    static const uint8_t cut[] = {0x0A, 0x05, 'a'};
    Report *report = make_report((ReportSources){0});
    AxonMethod methods[REPORT_METHODS];
    uint8_t *bytes = NULL;
    size_t size;
    report_methods(report, methods);
    for (int i = 0; i < REPORT_METHODS; i++) {
        ck_assert_int_eq(methods[i].answer(methods[i].context, cut, sizeof cut, &bytes, &size, &error),
                         STATUS_INVALID_ARGUMENT);
        ck_assert_int_eq(methods[i].answer(methods[i].context, long_one, sizeof long_one, &bytes, &size, &error),
                         STATUS_INVALID_ARGUMENT);
    }
    report_destroy(report);
}
END_TEST

/* A neuron may say anything of its peers; a terminal must not obey it. */
START_TEST(texts_of_an_answer_are_cleaned)
{
    Neuron__PeersReply reply = NEURON__PEERS_REPLY__INIT, *read;
    Neuron__PeerReport peer = NEURON__PEER_REPORT__INIT, *peers[] = {&peer};
    Neuron__Count count = NEURON__COUNT__INIT, *counts[] = {&count};
    char address[] = "\x1B[2J", name[] = "a\nb\xFF", bytes[256];
    peer.address = address;
    count.name = name;
    peer.forward_failures = counts;
    peer.n_forward_failures = 1;
    reply.peers = peers;
    reply.n_peers = 1;
    size_t size = neuron__peers_reply__pack(&reply, (uint8_t *)bytes);
    ck_assert_int_eq(report_read_peers_reply((const uint8_t *)bytes, size, &read, &error), STATUS_OK);
    ck_assert_str_eq(read->peers[0]->address, "?[2J");
    ck_assert_str_eq(read->peers[0]->forward_failures[0]->name, "a?b?");
    neuron__peers_reply__free_unpacked(read, NULL);
    for (size_t cut = 1; cut < size; cut++) { /* cut anywhere: another message, or none; never a crash */
        read = NULL;
        if (report_read_peers_reply((const uint8_t *)bytes, cut, &read, &error) == STATUS_OK)
            neuron__peers_reply__free_unpacked(read, NULL);
        else
            ck_assert_int_eq(error.status, STATUS_DATA_LOSS);
    }
}
END_TEST

START_TEST(an_answer_beyond_the_limit_is_refused)
{
    uint8_t *bytes = calloc(1, REPORT_REPLY_BYTES + 1);
    Neuron__PeersReply *reply = NULL;
    ck_assert_int_eq(report_read_peers_reply(bytes, REPORT_REPLY_BYTES + 1, &reply, &error), STATUS_DATA_LOSS);
    free(bytes);
}
END_TEST

SUITE_MAIN("report", peers_are_told_as_they_are_seen, hello_tells_the_limit_and_what_is_served,
           requests_that_are_none_are_refused, texts_of_an_answer_are_cleaned, an_answer_beyond_the_limit_is_refused)
