/* Variables: initial values, names, copies, and what is refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "support/suite.h"

static Backend *open_reference(void)
{
    Backend *backend = NULL;
    ck_assert_int_eq(backend_open("reference", NULL, &backend, NULL), STATUS_OK);
    return backend;
}

static Variables *create(Backend *backend)
{
    Variables *variables = NULL;
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
    return variables;
}

static void read_all(const Variables *variables, const char *name, void *out, size_t bytes)
{
    Error error = {0};
    const int index = variables_find(variables, name);
    ck_assert_msg(index >= 0, "no variable '%s'", name);
    ck_assert_msg(variables_read(variables, index, out, bytes, &error) == STATUS_OK, "%s", error.message);
}

START_TEST(initial_values_depend_on_seed_and_name_alone)
{
    Backend *backend = open_reference();
    float value[4][64];
    const uint64_t seeds[] = {1, 1, 2};
    for (int i = 0; i < 3; i++) {
        Graph *graph = graph_create(DTYPE_F32, true);
        if (i == 1) graph_parameter(graph, "other", shape_of(1000), 1); /* declared before */
        graph_parameter(graph, "weight", shape_of(8, 8), 0.5);
        graph_parameter(graph, "twin", shape_of(8, 8), 0.5);
        Variables *variables = create(backend);
        ck_assert_int_eq(variables_declare(variables, graph, seeds[i], NULL), STATUS_OK);
        read_all(variables, "weight", value[i], sizeof value[i]);
        if (i == 0) read_all(variables, "twin", value[3], sizeof value[3]);
        variables_destroy(variables);
        graph_destroy(graph);
    }
    ck_assert_mem_eq(value[0], value[1], sizeof value[0]);
    ck_assert_mem_ne(value[0], value[2], sizeof value[0]); /* another seed */
    ck_assert_mem_ne(value[0], value[3], sizeof value[0]); /* another name */
    backend_close(backend);
}
END_TEST

/* Means and variances within five standard errors of the distributions'. */
START_TEST(initial_values_have_their_distribution)
{
    enum { COUNT = 20000 };
    static double uniform[COUNT], normal[COUNT], one[COUNT], zero[COUNT];
    Backend *backend = open_reference();
    Variables *variables = create(backend);
    Graph *graph = graph_create(DTYPE_F64, true);
    graph_parameter(graph, "uniform", shape_of(COUNT), 0.25);
    graph_state(graph, "normal", DTYPE_F64, shape_of(COUNT), INITIALIZE_NORMAL, 3);
    graph_state(graph, "one", DTYPE_F64, shape_of(COUNT), INITIALIZE_ONE, 0);
    graph_state(graph, "zero", DTYPE_F64, shape_of(COUNT), INITIALIZE_ZERO, 0);
    ck_assert_int_eq(variables_declare(variables, graph, 1, NULL), STATUS_OK);
    read_all(variables, "uniform", uniform, sizeof uniform);
    read_all(variables, "normal", normal, sizeof normal);
    read_all(variables, "one", one, sizeof one);
    read_all(variables, "zero", zero, sizeof zero);
    double sums[4] = {0};
    for (int i = 0; i < COUNT; i++) {
        ck_assert(uniform[i] >= -0.25 && uniform[i] < 0.25);
        ck_assert(one[i] == 1 && zero[i] == 0);
        sums[0] += uniform[i];
        sums[1] += uniform[i] * uniform[i];
        sums[2] += normal[i];
        sums[3] += normal[i] * normal[i];
    }
    const double variance = 0.25 * 0.25 / 3, root = sqrt(COUNT);
    ck_assert_double_le(fabs(sums[0] / COUNT), 5 * sqrt(variance) / root);
    ck_assert_double_le(fabs(sums[1] / COUNT - variance), 5 * variance * sqrt(0.8) / root);
    ck_assert_double_le(fabs(sums[2] / COUNT), 5 * 3 / root);
    ck_assert_double_le(fabs(sums[3] / COUNT - 9), 5 * 9 * sqrt(2) / root);
    graph_destroy(graph);
    variables_destroy(variables);
    backend_close(backend);
}
END_TEST

START_TEST(single_precision_is_double_precision_rounded)
{
    float single[32];
    double twice[32];
    Backend *backend = open_reference();
    for (int i = 0; i < 2; i++) {
        Graph *graph = graph_create(i ? DTYPE_F64 : DTYPE_F32, true);
        graph_parameter(graph, "w", shape_of(32), 0.1);
        Variables *variables = create(backend);
        ck_assert_int_eq(variables_declare(variables, graph, 3, NULL), STATUS_OK);
        if (i)
            read_all(variables, "w", twice, sizeof twice);
        else
            read_all(variables, "w", single, sizeof single);
        variables_destroy(variables);
        graph_destroy(graph);
    }
    for (int i = 0; i < 32; i++)
        ck_assert_float_eq(single[i], (float)twice[i]);
    backend_close(backend);
}
END_TEST

START_TEST(declaring_again_keeps_values)
{
    Backend *backend = open_reference();
    Variables *variables = create(backend);
    Graph *graph = graph_create(DTYPE_F32, true);
    graph_parameter(graph, "w", shape_of(2), 1);
    graph_state(graph, "w.momentum", DTYPE_F32, shape_of(2), INITIALIZE_ZERO, 0);
    ck_assert_int_eq(variables_declare(variables, graph, 1, NULL), STATUS_OK);
    const float written[2] = {7, 8};
    float found[2];
    ck_assert_int_eq(variables_write(variables, variables_find(variables, "w"), written, sizeof written, NULL),
                     STATUS_OK);
    ck_assert_int_eq(variables_declare(variables, graph, 2, NULL), STATUS_OK);
    graph_destroy(graph); /* names are the variables' own */
    ck_assert_int_eq(variables_count(variables), 2);
    read_all(variables, "w", found, sizeof found);
    ck_assert_mem_eq(found, written, sizeof found);
    ck_assert(variables_trainable(variables, variables_find(variables, "w")));
    ck_assert(!variables_trainable(variables, variables_find(variables, "w.momentum")));
    ck_assert_str_eq(variables_name(variables, 0), "w");
    ck_assert_int_eq(variables_dtype(variables, 0), DTYPE_F32);
    ck_assert(shape_equal(variables_shape(variables, 0), shape_of(2)));
    ck_assert_int_eq(variables_find(variables, "v"), -1);
    variables_destroy(variables);
    backend_close(backend);
}
END_TEST

START_TEST(another_shape_or_dtype_is_refused)
{
    Backend *backend = open_reference();
    Variables *variables = create(backend);
    const Shape shapes[] = {shape_of(2, 3), shape_of(3, 2), shape_of(2, 3)};
    const DType dtypes[] = {DTYPE_F32, DTYPE_F32, DTYPE_F64};
    for (int i = 0; i < 3; i++) {
        Graph *graph = graph_create(DTYPE_F32, true);
        Error error = {0};
        graph_state(graph, "w", dtypes[i], shapes[i], INITIALIZE_ZERO, 0);
        const Status status = variables_declare(variables, graph, 1, &error);
        ck_assert_int_eq(status, i == 0 ? STATUS_OK : STATUS_INVALID_ARGUMENT);
        if (i == 1) ck_assert_str_eq(error.message, "variable 'w' is f32 [2, 3], the graph expects f32 [3, 2]");
        graph_destroy(graph);
    }
    float few[5];
    Error error = {0};
    ck_assert_int_eq(variables_read(variables, 0, few, sizeof few, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "variable 'w' has 24 bytes, not 20");
    ck_assert_int_eq(variables_write(variables, 0, few, sizeof few, NULL), STATUS_INVALID_ARGUMENT);
    variables_destroy(variables);
    backend_close(backend);
}
END_TEST

/* Between sets of different backends as well; what isn't trainable (a momentum) stays. */
START_TEST(copies_take_the_parameters_that_both_have)
{
    Backend *backend = open_reference(), *other = open_reference();
    Variables *from = create(backend), *to = create(other);
    Graph *first = graph_create(DTYPE_F32, true), *second = graph_create(DTYPE_F32, true);
    graph_parameter(first, "mine", shape_of(1), 1);
    graph_parameter(first, "shared", shape_of(1), 1);
    graph_state(first, "shared.momentum", DTYPE_F32, shape_of(1), INITIALIZE_ONE, 0);
    graph_state(second, "shared.momentum", DTYPE_F32, shape_of(1), INITIALIZE_ZERO, 0);
    graph_parameter(second, "shared", shape_of(1), 1);
    graph_parameter(second, "yours", shape_of(1), 0);
    ck_assert_int_eq(variables_declare(from, first, 1, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(to, second, 2, NULL), STATUS_OK);
    float original = 0, shared = 0, momentum = 1, yours = 1;
    read_all(from, "shared", &original, sizeof original);
    read_all(to, "shared", &shared, sizeof shared);
    ck_assert_float_ne(original, shared);
    ck_assert_int_eq(variables_copy_parameters(to, from, NULL), STATUS_OK);
    read_all(to, "shared", &shared, sizeof shared);
    read_all(to, "shared.momentum", &momentum, sizeof momentum);
    read_all(to, "yours", &yours, sizeof yours);
    ck_assert_float_eq(shared, original);
    ck_assert_float_eq(momentum, 0);
    ck_assert_float_eq(yours, 0);
    ck_assert_int_eq(variables_count(to), 3);
    graph_destroy(first);
    graph_destroy(second);
    variables_destroy(from);
    variables_destroy(to);
    backend_close(backend);
    backend_close(other);
}
END_TEST

/* Thousands of names grow the table several times; all are found, and the values of early ones have not moved. */
START_TEST(thousands_of_names_are_found)
{
    enum { COUNT = 5000 };
    Backend *backend = open_reference();
    Variables *variables = create(backend);
    Graph *graph = graph_create(DTYPE_F32, true);
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "layer%d.weight", i);
        graph_parameter(graph, name, shape_of(3), 1);
    }
    ck_assert_int_eq(variables_declare(variables, graph, 1, NULL), STATUS_OK);
    ck_assert_int_eq(variables_count(variables), COUNT);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "layer%d.weight", i);
        ck_assert_int_eq(variables_find(variables, name), i);
    }
    ck_assert_int_eq(variables_find(variables, "layer5000.weight"), -1);
    graph_destroy(graph);
    variables_destroy(variables);
    backend_close(backend);
}
END_TEST

SUITE_MAIN("variables", initial_values_depend_on_seed_and_name_alone, initial_values_have_their_distribution,
           single_precision_is_double_precision_rounded, declaring_again_keeps_values,
           another_shape_or_dtype_is_refused, copies_take_the_parameters_that_both_have, thousands_of_names_are_found)
