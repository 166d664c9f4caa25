/* Server reflection of an axon: a stream as a client has it, and every kind of bytes to what answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "axon/service_call.h"
#include "base/rng.h"
#include "net/stream.h"
#include "rpc/unary.h"
#include "support/suite.h"

enum { FIELD_FILES = 4, FIELD_SERVICES = 6, FIELD_ERROR = 7 };

static const uint64_t second = 1000000000;
static const char path[] = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
static const char alpha_path[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
static const char services[1][KEY_SIZE] = {"Bittensor"};

static size_t request(char *out, char field, const char *text)
{
    return (size_t)sprintf(out, "%c%c%s", (char)(field << 3 | 2), (char)strlen(text), text);
}

/* The field of the answer's kind; its bytes follow for as long as the answer lives. */
static Field kind_of(const uint8_t *answer, size_t size)
{
    FieldReader reader = {answer, size};
    Field field, kind = {0};
    FieldResult result;
    while ((result = field_next(&reader, &field)) == FIELD_READ)
        if (field.number >= FIELD_FILES) kind = field;
    ck_assert_int_eq(result, FIELD_END);
    return kind;
}

/* Whether the answer to a question is a file that holds the text (NULL: is an error). */
static void expect(char field, const char *asked, const char *text)
{
    char bytes[128];
    FieldWriter answer = {0};
    ck_assert(reflection_answer((uint8_t *)bytes, request(bytes, field, asked), services, 1, &answer));
    Field kind = kind_of(answer.data, answer.size);
    ck_assert_msg(kind.number == (text ? FIELD_FILES : FIELD_ERROR), "%s: field %u", asked, kind.number);
    if (text) ck_assert_ptr_nonnull(memmem(kind.data, kind.size, text, strlen(text)));
    free(answer.data);
}

START_TEST(symbols_are_found_in_their_files)
{
    static const char *const bittensor[] = {
        "Bittensor", "Bittensor.Forward", "TensorMessage", "TensorMessage.synapse_key",
        "DataType",  "FLOAT32",           "Metagraph",
    };
    for (size_t i = 0; i < sizeof bittensor / sizeof *bittensor; i++)
        expect(4, bittensor[i], "bittensor.proto");
    expect(4, "grpc.health.v1.Health.Watch", "health.proto");
    expect(4, "grpc.health.v1.HealthCheckResponse.ServingStatus", "health.proto");
    expect(4, "grpc.health.v1.HealthCheckResponse.NOT_SERVING", "health.proto");
    expect(4, "grpc.reflection.v1.ServerReflectionRequest.message_request", "reflection.proto");
    expect(4, "grpc.reflection.v1alpha.ServerReflection", "reflection_v1alpha.proto");
    expect(4, "neuron.Neuron.Hello", "neuron.proto");
    expect(3, "neuron.proto", "HelloRequest");
}
END_TEST

START_TEST(what_is_not_there_is_an_error_in_the_answer)
{
    static const char *const unknown[] = {
        "",        ".",           "Bittensor.",      "Bittensor.Forward.x", "Bitten",
        "grpc",    "grpc.health", "grpc.health.v1",  "grpc.health.v1.",     ".Bittensor",
        "Forward", "neuron",      "DataType.FLOAT32"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        expect(4, unknown[i], NULL);
    expect(3, "bittensor", NULL);
    expect(6, "TensorMessage", NULL);
    expect(5, "", NULL);
    expect(9, "", NULL); /* no question */
}
END_TEST

START_TEST(bytes_of_any_kind_do_no_harm)
{
    Rng rng = rng_make(7, 0);
    for (int i = 0; i < 200000; i++) {
        char bytes[64];
        size_t size = request(bytes, (char)(1 + rng_below(&rng, 8)), "grpc.health.v1.Health");
        for (uint64_t changes = rng_below(&rng, 4); changes > 0; changes--)
            bytes[rng_below(&rng, size)] = (char)rng_u32(&rng);
        size_t kept = rng_below(&rng, size + 1);
        uint8_t *exact = malloc(kept + 1); /* so that a sanitizer sees a step beyond */
        memcpy(exact + 1, bytes, kept);
        FieldWriter answer = {0};
        if (reflection_answer(exact + 1, kept, services, 1, &answer)) kind_of(answer.data, answer.size);
        free(answer.data);
        free(exact);
    }
}
END_TEST

static Axon *start(void)
{
    Axon *axon;
    Error error = {0};
    AxonOptions options = {.listen = "127.0.0.1:0", .neuron_key = "0xneuron"};
    ck_assert_msg(axon_start(&options, &axon, &error) == STATUS_OK, "%s", error.message);
    return axon;
}

/* Two questions on one stream, then garbage, then the client's end. */
static void converse(const Axon *axon, const char *method)
{
    char bytes[64];
    uint8_t answer[4096];
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *stream = stream_open(channel, method);
    stream_send(stream, bytes, request(bytes, 7, ""));
    int size = stream_next(stream, answer, sizeof answer);
    ck_assert_int_gt(size, 0);
    Field kind = kind_of(answer, (size_t)size);
    ck_assert_int_eq(kind.number, FIELD_SERVICES);
    ck_assert_ptr_nonnull(memmem(kind.data, kind.size,
                                 "\x0a\x09"
                                 "Bittensor",
                                 11));
    ck_assert_ptr_nonnull(memmem(kind.data, kind.size, "grpc.health.v1.Health", 21));
    ck_assert_ptr_null(memmem(kind.data, kind.size, "Metagraph", 9)); /* known, but not served */
    stream_send(stream, bytes, request(bytes, 4, "Bittensor"));
    size = stream_next(stream, answer, sizeof answer);
    ck_assert_int_eq(kind_of(answer, (size_t)size).number, FIELD_FILES);
    stream_send_end(stream);
    ck_assert_int_eq(stream_next(stream, answer, sizeof answer), -1);
    ck_assert_int_eq(stream_status(stream, NULL), STATUS_OK);
    stream_close(stream);
    stream = stream_open(channel, method);
    stream_send(stream, "\xff\xff\xff", 3);
    ck_assert_int_eq(stream_status(stream, NULL), STATUS_INVALID_ARGUMENT);
    stream_close(stream);
    grpc_channel_destroy(channel);
}

START_TEST(a_stream_answers_until_its_client_ends_it)
{
    rpc_start();
    Axon *axon = start();
    converse(axon, path);
    converse(axon, alpha_path);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

START_TEST(streams_are_bounded_and_end_with_the_axon)
{
    rpc_start();
    Axon *axon = start();
    char bytes[64];
    uint8_t answer[4096];
    grpc_channel *channel = unary_channel(axon_address(axon), 1 << 20, 5 * second);
    Stream *streams[SERVICES_MAX_REFLECTIONS];
    for (int i = 0; i < SERVICES_MAX_REFLECTIONS; i++) {
        streams[i] = stream_open(channel, path);
        stream_send(streams[i], bytes, request(bytes, 7, ""));
        ck_assert_int_gt(stream_next(streams[i], answer, sizeof answer), 0);
    }
    Stream *refused = stream_open(channel, path);
    ck_assert_int_eq(stream_status(refused, NULL), STATUS_RESOURCE_EXHAUSTED);
    stream_close(refused);
    axon_stop(axon, second);
    for (int i = 0; i < SERVICES_MAX_REFLECTIONS; i++) {
        ck_assert_int_eq(stream_status(streams[i], NULL), STATUS_UNAVAILABLE);
        stream_close(streams[i]);
    }
    grpc_channel_destroy(channel);
    axon_destroy(axon);
    rpc_stop();
}
END_TEST

SUITE_MAIN("reflection", symbols_are_found_in_their_files, what_is_not_there_is_an_error_in_the_answer,
           bytes_of_any_kind_do_no_harm, a_stream_answers_until_its_client_ends_it,
           streams_are_bounded_and_end_with_the_axon)
