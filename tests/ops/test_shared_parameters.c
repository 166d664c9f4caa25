/* Every plan computes with the present value of a parameter, whoever wrote it last: the host, another plan, or the plan
 * itself. All numbers are small integers, so that every precision has them exactly. */
#include <check.h>
#include <string.h>

#include "graph/ops.h"
#include "ops/harness.h"
#include "support/suite.h"

enum { ROWS = 3, INNER = 8, COLUMNS = 16 };

static const struct {
    const char *device;
    Precision precision;
} places[] = {{"reference", PRECISION_F32}, {"cpu", PRECISION_F32},  {"sim", PRECISION_F32},  {"sim", PRECISION_BF16},
              {"sim", PRECISION_F16},       {"cuda", PRECISION_F32}, {"cuda", PRECISION_BF16}};

enum { PLACES = sizeof places / sizeof *places };

static const SgdOptions plain = {.momentum = 0};

static Value parameter(Graph *g)
{
    return graph_parameter(g, "w", shape_of(COLUMNS, INNER), 1);
}

/* y = x w^T */
static void add_product(Graph *g, Value w)
{
    graph_output(g, "y", matmul(g, graph_input(g, "x", DTYPE_F32, shape_of(ROWS, INNER)), w, false, true));
}

/* w -= gradient, the rate being 1 */
static void add_update(Graph *g, Value w)
{
    graph_set_phase(g, PHASE_UPDATE);
    sgd(g, w, graph_input(g, "gradient", DTYPE_F32, shape_of(COLUMNS, INNER)),
        graph_input(g, "lr", DTYPE_F32, shape_scalar()), plain);
    graph_set_phase(g, PHASE_FORWARD);
}

static int pattern(int i, int seed)
{
    return (i * 7 + seed * 5) % 9 - 4;
}

static void fill(Tensor tensor, int seed)
{
    for (int64_t i = 0; i < shape_count(tensor.shape); i++)
        ((float *)tensor.data)[i] = (float)pattern((int)i, seed);
}

static void write_parameter(const Harness *harness, int seed)
{
    float w[COLUMNS * INNER];
    Error error = {0};
    for (int i = 0; i < COLUMNS * INNER; i++)
        w[i] = (float)pattern(i, seed);
    ck_assert_msg(variables_write(harness->variables, variables_find(harness->variables, "w"), w, sizeof w, &error) ==
                      STATUS_OK,
                  "%s", error.message);
}

/* y is the product with a parameter that is the sum of `factors[s]` times pattern s. */
static void check_product(const Harness *harness, const int factors[3])
{
    const Tensor x = harness_input(harness, "x"), y = harness_output(harness, "y");
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column++) {
            float expected = 0;
            for (int k = 0; k < INNER; k++) {
                float w = 0;
                for (int s = 0; s < 3; s++)
                    w += (float)(factors[s] * pattern(column * INNER + k, s));
                expected += ((const float *)x.data)[row * INNER + k] * w;
            }
            const float got = ((const float *)y.data)[row * COLUMNS + column];
            ck_assert_msg(got == expected, "%s: y[%d, %d] is %g, expected %g", harness->label, row, column, (double)got,
                          (double)expected);
        }
}

static Plan *compile(const Harness *harness, const Graph *graph)
{
    Plan *plan = NULL;
    Error error = {0};
    ck_assert_msg(variables_declare(harness->variables, graph, 1, &error) == STATUS_OK, "%s", error.message);
    ck_assert_msg(plan_compile(harness->backend, graph, harness->variables, &(PlanOptions){.rewrites = 0}, &plan,
                               &error) == STATUS_OK,
                  "%s", error.message);
    return plan;
}

static void run_update(Plan *plan, int seed)
{
    Error error = {0};
    fill(plan_input(plan, "gradient"), seed);
    *(float *)plan_input(plan, "lr").data = 1;
    ck_assert_msg(plan_run(plan, &error) == STATUS_OK, "%s", error.message);
}

static Harness open_place(int place, const Graph *graph)
{
    return harness_open_in(places[place].precision, places[place].device, 1, graph, 0);
}

static void check_writers(int place)
{
    Graph *graph = graph_create(DTYPE_F32, false), *updating = graph_create(DTYPE_F32, true);
    add_product(graph, parameter(graph));
    add_update(updating, parameter(updating));
    Harness harness = open_place(place, graph);
    Plan *before = compile(&harness, updating); /* compiled before and after the product has run */
    fill(harness_input(&harness, "x"), 3);
    write_parameter(&harness, 0);
    harness_run(&harness);
    check_product(&harness, (const int[]){1, 0, 0});
    write_parameter(&harness, 1);
    harness_run(&harness);
    check_product(&harness, (const int[]){0, 1, 0});
    run_update(before, 2);
    harness_run(&harness);
    check_product(&harness, (const int[]){0, 1, -1});
    Plan *after = compile(&harness, updating);
    run_update(after, 0);
    harness_run(&harness);
    check_product(&harness, (const int[]){-1, 1, -1});
    ck_assert_int_eq(variables_move(harness.variables, harness.variables, variables_find(harness.variables, "w"), NULL),
                     STATUS_OK); /* leaves zeros */
    harness_run(&harness);
    check_product(&harness, (const int[]){0, 0, 0});
    plan_destroy(before);
    plan_destroy(after);
    harness_close(&harness);
    graph_destroy(graph);
    graph_destroy(updating);
}

START_TEST(a_plan_sees_what_the_host_and_other_plans_write)
{
    for (int place = 0; place < PLACES; place++)
        if (harness_available(places[place].device, places[place].precision)) check_writers(place);
}
END_TEST

static void check_update(int place, bool update_first)
{
    Graph *graph = graph_create(DTYPE_F32, true);
    const Value w = parameter(graph);
    if (update_first) add_update(graph, w);
    add_product(graph, w);
    if (!update_first) add_update(graph, w);
    Harness harness = open_place(place, graph);
    write_parameter(&harness, 0);
    fill(harness_input(&harness, "x"), 3);
    run_update(harness.plan, 1);
    check_product(&harness, (const int[]){1, 0, 0});
    run_update(harness.plan, 2);
    check_product(&harness, (const int[]){1, -1, 0});
    run_update(harness.plan, 2);
    check_product(&harness, (const int[]){1, -1, -1});
    harness_close(&harness);
    graph_destroy(graph);
}

/* Nodes read what a state held before the run, those after its update too. */
START_TEST(a_plan_updates_what_it_reads)
{
    for (int place = 0; place < PLACES; place++) {
        if (!harness_available(places[place].device, places[place].precision)) continue;
        check_update(place, false);
        check_update(place, true);
    }
}
END_TEST

SUITE_MAIN("shared_parameters", a_plan_sees_what_the_host_and_other_plans_write, a_plan_updates_what_it_reads)
