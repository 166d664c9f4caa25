/* Requests in a test's hands: the four functions with which a handler reads a request and answers it, without an axon
 * or a network. A program that includes this gets them from here. Failures end the test. */
#pragma once

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "axon/axon.h"
#include "wire/message.h"

typedef struct TestRequest {
    AxonRequest asked;              /* first: the handler gets its address */
    Tensor input, gradient;         /* borrowed; f32, text i64 */
    void (*on_read)(void *context); /* called in the middle of the handler, once; NULL: nothing happens */
    void *context;

    int ended; /* how often: must be 1 */
    Status status;
    Error error;
    Tensor answer;
    bool has_version;
    uint64_t version;
} TestRequest;

static inline TestRequest request_of(Modality modality, const Tensor *input, const Tensor *gradient)
{
    TestRequest request = {.asked = {.modality = modality, .shape = input->shape}, .input = *input};
    if (gradient != NULL) {
        request.asked.gradient_shape = gradient->shape;
        request.gradient = *gradient;
    }
    return request;
}

static inline void request_free(TestRequest *request)
{
    tensor_destroy(&request->answer);
}

static inline void read_tensor(const AxonRequest *asked, const Tensor *from, size_t first, size_t count, void *to)
{
    TestRequest *request = (TestRequest *)(uintptr_t)asked;
    size_t size = dtype_size(from->dtype);
    ck_assert_int_eq(request->ended, 0);
    ck_assert_uint_le((first + count) * size, from->size);
    memcpy(to, (const char *)from->data + first * size, count * size);
    void (*on_read)(void *) = request->on_read;
    request->on_read = NULL;
    if (on_read != NULL) on_read(request->context);
}

void axon_read_input(const AxonRequest *asked, size_t first, size_t count, void *to)
{
    read_tensor(asked, &((const TestRequest *)asked)->input, first, count, to);
}

void axon_read_gradient(const AxonRequest *asked, size_t first, size_t count, float *to)
{
    read_tensor(asked, &((const TestRequest *)asked)->gradient, first, count, to);
}

void axon_answer(AxonRequest *asked, Tensor *answer, const uint64_t *version)
{
    TestRequest *request = (TestRequest *)asked;
    ck_assert_int_eq(request->ended++, 0);
    ck_assert(floats_finite(tensor_f32(answer), answer->size / sizeof(float)));
    request->status = STATUS_OK;
    request->answer = *answer;
    *answer = (Tensor){0};
    request->has_version = version != NULL;
    if (version != NULL) request->version = *version;
}

void axon_fail(AxonRequest *asked, const Error *error)
{
    TestRequest *request = (TestRequest *)asked;
    ck_assert_int_eq(request->ended++, 0);
    ck_assert_int_ne(error->status, STATUS_OK);
    request->status = error->status;
    request->error = *error;
}

/* Hands a batch to the handler; every request must end. */
static inline void handle_forward(AxonHandler handler, TestRequest *requests, size_t count)
{
    AxonRequest *asked[256];
    ck_assert_uint_le(count, sizeof asked / sizeof *asked);
    for (size_t i = 0; i < count; i++)
        asked[i] = &requests[i].asked;
    handler.forward(handler.context, asked, count);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(requests[i].ended, 1);
}

static inline void handle_backward(AxonHandler handler, TestRequest *request)
{
    handler.backward(handler.context, &request->asked);
    ck_assert_int_eq(request->ended, 1);
}

static inline void expect_failure(const TestRequest *request, Status status, const char *words)
{
    ck_assert_msg(request->status == status, "expected %s, not %s: %s", status_name(status),
                  status_name(request->status), request->error.message);
    ck_assert_msg(strstr(request->error.message, words) != NULL, "expected '%s' in: %s", words, request->error.message);
}
