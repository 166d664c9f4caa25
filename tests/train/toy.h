/* What the tests of training share: a made-up data set in memory, and comparing variables bit for bit. Header only, so
 * that tests/neuron can use it as well. Failures end the test. */
#pragma once

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/rng.h"
#include "data/dataset.h"

/* `count` images of noise around one pattern a class: a soma learns them in a few steps. The same `seed`, the same
 * images; the patterns are the same for all seeds. Free with dataset_destroy. */
static inline Dataset toy_dataset(int64_t count, int64_t side, uint64_t seed)
{
    Dataset set = {.classes = 10, .name = "made up"};
    Rng noise = rng_make(seed, RNG_STREAM_TEST);
    ck_assert_int_eq(tensor_create(DTYPE_U8, shape_of(count, 1, side, side), &set.images, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_U8, shape_of(count), &set.labels, NULL), STATUS_OK);
    for (int64_t n = 0; n < count; n++) {
        const uint64_t label = rng_below(&noise, 10);
        Rng pattern = rng_make(label, RNG_STREAM_TEST + 1);
        ((uint8_t *)set.labels.data)[n] = (uint8_t)label;
        for (int64_t i = 0; i < side * side; i++)
            ((uint8_t *)set.images.data)[n * side * side + i] =
                (uint8_t)((3 * rng_below(&pattern, 256) + rng_below(&noise, 256)) / 4);
    }
    return set;
}

static inline Backend *toy_backend(const char *device, int threads)
{
    Backend *backend = NULL;
    Error error = {0};
    ck_assert_msg(backend_open(device, &(BackendOptions){.threads = threads}, &backend, &error) == STATUS_OK, "%s",
                  error.message);
    return backend;
}

/* The values of a variable, in host memory; free with tensor_destroy. */
static inline Tensor toy_read(const Variables *variables, const char *name)
{
    Tensor values;
    const int index = variables_find(variables, name);
    ck_assert_msg(index >= 0, "there is no variable '%s'", name);
    ck_assert_int_eq(tensor_create(variables_dtype(variables, index), variables_shape(variables, index), &values, NULL),
                     STATUS_OK);
    ck_assert_int_eq(variables_read(variables, index, values.data, values.size, NULL), STATUS_OK);
    return values;
}

/* Bit for bit, under the same names. */
static inline void toy_assert_equal(const Variables *found, const Variables *expected)
{
    ck_assert_int_eq(variables_count(found), variables_count(expected));
    for (int i = 0; i < variables_count(expected); i++) {
        const char *name = variables_name(expected, i);
        Tensor a = toy_read(found, name), b = toy_read(expected, name);
        ck_assert_uint_eq(a.size, b.size);
        ck_assert_msg(memcmp(a.data, b.data, a.size) == 0, "variable '%s' differs", name);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
}
