/* The MNIST soma: its parameters, and its values, losses and gradients against PyTorch's
 * (golden/mnist_soma.safetensors, made by golden/make_mnist.py in double) on every backend. */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "graph/rewrite.h"
#include "models/golden.h"
#include "models/soma.h"
#include "support/suite.h"
#include "tensor/safetensors.h"

enum { MOST_PARAMETERS = 32, KEY_DIM = 100, MOST_PEERS = 3, NAME_SIZE = 192 };

/* --- parameters --- */

/* Names and shapes of the reference network's state, and the gate's keys for three peers. */
static const struct {
    const char *name;
    Shape shape;
} parameters[] = {
    {"transform_conv1.weight", {4, {10, 1, 5, 5}}},
    {"transform_conv1.bias", {1, {10}}},
    {"transform_conv2.weight", {4, {20, 10, 5, 5}}},
    {"transform_conv2.bias", {1, {20}}},
    {"context_layer1.weight", {2, {256, 320}}},
    {"context_layer1.bias", {1, {256}}},
    {"context_layer2.weight", {2, {512, 256}}},
    {"context_layer2.bias", {1, {512}}},
    {"hidden_layer1.weight", {2, {512, 832}}},
    {"hidden_layer1.bias", {1, {512}}},
    {"hidden_layer2.weight", {2, {512, 512}}},
    {"hidden_layer2.bias", {1, {512}}},
    {"target_layer1.weight", {2, {256, 512}}},
    {"target_layer1.bias", {1, {256}}},
    {"target_layer2.weight", {2, {10, 256}}},
    {"target_layer2.bias", {1, {10}}},
    {"router.gate.projection.weight", {2, {100, 320}}},
    {"router.gate.projection.bias", {1, {100}}},
    {"router.keys.weight", {2, {3, 100}}},
};
enum { PARAMETERS = sizeof parameters / sizeof *parameters };

START_TEST(has_the_parameters_of_the_reference_network)
{
    Graph *g = graph_create(DTYPE_F32, true);
    soma_mnist.declare(g, &(SomaConfig){.batch = 2, .rows = 28, .columns = 28, .peers = 3});
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    Value found[MOST_PARAMETERS];
    ck_assert_int_eq(graph_parameters(g, found, MOST_PARAMETERS), PARAMETERS);
    int64_t count = 0;
    for (int i = 0; i < PARAMETERS; i++) {
        const Value value = graph_find(g, parameters[i].name);
        ck_assert_msg(value_exists(value), "there is no '%s'", parameters[i].name);
        char text[SHAPE_TEXT_SIZE];
        ck_assert_msg(shape_equal(graph_shape(g, value), parameters[i].shape), "shape of '%s' is %s",
                      parameters[i].name, shape_text(graph_shape(g, value), text));
        count += shape_count(graph_shape(g, value));
    }
    ck_assert_int_eq(count - 3 * KEY_DIM, 1074190);
    graph_destroy(g);
}
END_TEST

START_TEST(answering_needs_neither_labels_nor_target)
{
    Graph *g = graph_create(DTYPE_F32, false);
    SomaValues v =
        soma_mnist.declare(g, &(SomaConfig){.batch = 2, .rows = 28, .columns = 28, .peers = 3, .answering = true});
    ck_assert_int_eq(graph_check(g, NULL), STATUS_OK);
    ck_assert(shape_equal(graph_shape(g, v.local_hidden), shape_of(2, SOMA_NETWORK_DIM)));
    ck_assert(!value_exists(v.loss) && !value_exists(v.labels));
    ck_assert(!value_exists(graph_find(g, "target_layer1.weight")));
    ck_assert(!value_exists(graph_find(g, "router.keys.weight")));
    graph_destroy(g);
}
END_TEST

START_TEST(an_image_without_columns_is_refused)
{
    Graph *g = graph_create(DTYPE_F32, true);
    Error error = {0};
    soma_mnist.declare(g, &(SomaConfig){.batch = 4, .rows = 28, .columns = 0});
    ck_assert_int_eq(graph_check(g, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "shape of 'image' is [4, 1, 28, 0], expected positive dimensions that fit memory");
    graph_destroy(g);
}
END_TEST

/* --- against PyTorch --- */

/* make_mnist.py has the same table. */
typedef struct Batch {
    const char *name;
    int64_t size, rows, labelled;
    int peers;
    uint8_t arrived[MOST_PEERS];
    bool detach, targets;
} Batch;

static const Batch batches[] = {
    {"local", 28, 5, 5, 0, {0}, false, false},
    {"pooled", 32, 4, 4, 0, {0}, false, false},
    {"remote", 28, 8, 5, 3, {1, 0, 1}, false, true},
    {"detached", 28, 6, 4, 2, {1, 1}, true, false},
};

typedef struct Setting {
    const char *device;
    int threads;
    unsigned rewrites;
    DType real;
    Precision precision;
    double tolerance, behind_kinks;
} Setting;

static void require(Status status, const Error *error)
{
    ck_assert_msg(status == STATUS_OK, "%s: %s", status_name(status), error->message);
}

static Graph *declare(const Batch *batch, DType real)
{
    Graph *g = graph_create(real, true);
    SomaConfig config = {.batch = batch->rows,
                         .rows = batch->size,
                         .columns = batch->size,
                         .peers = batch->peers,
                         .distill_detach = batch->detach,
                         .distill_targets = batch->targets};
    SomaValues v = soma_mnist.declare(g, &config);
    const struct {
        const char *name;
        Value value;
    } outputs[] = {{"local_hidden", v.local_hidden},
                   {"local_target", v.local_target},
                   {"remote_target", v.remote_target},
                   {"local_target_loss", v.local_target_loss},
                   {"remote_target_loss", v.remote_target_loss},
                   {"distillation_loss", v.distillation_loss},
                   {"imitation_loss", v.imitation_loss},
                   {"loss", v.loss}};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        graph_output(g, outputs[i].name, outputs[i].value);
    Value targets[MOST_PARAMETERS], gradients[MOST_PARAMETERS];
    int count = graph_parameters(g, targets, MOST_PARAMETERS - 1);
    targets[count++] = v.answers;
    graph_gradient(g, &v.loss, NULL, 1, targets, count, gradients);
    for (int i = 0; i < count; i++) {
        char name[NAME_SIZE];
        if (!value_exists(gradients[i])) continue;
        snprintf(name, sizeof name, "gradient of %s", graph_value(g, targets[i])->name);
        graph_output(g, name, gradients[i]);
    }
    return g;
}

/* The inputs of each output, as the weights have them: a bias of the same layer has no dimension that tells. */
static int64_t fan_in(const char *parameter)
{
    const size_t layer = (size_t)(strrchr(parameter, '.') - parameter);
    for (int i = 0; i < PARAMETERS; i++)
        if (strncmp(parameters[i].name, parameter, layer + 1) == 0)
            return shape_count(parameters[i].shape) / parameters[i].shape.dims[0];
    ck_abort_msg("there is no '%s'", parameter);
}

static void write_parameters(Variables *variables)
{
    for (int i = 0; i < variables_count(variables); i++) {
        const char *name = variables_name(variables, i);
        Tensor values;
        Error error = {0};
        require(tensor_create(variables_dtype(variables, i), variables_shape(variables, i), &values, &error), &error);
        if (strcmp(name, "router.keys.weight") == 0)
            golden_uniform(name, 0.1, &values);
        else
            golden_parameter(name, fan_in(name), &values);
        require(variables_write(variables, i, values.data, values.size, &error), &error);
        tensor_destroy(&values);
    }
}

static void write_inputs(const Batch *batch, Plan *plan)
{
    char name[NAME_SIZE];
    const Tensor image = plan_input(plan, "image"), labels = plan_input(plan, "labels");
    snprintf(name, sizeof name, "%s image", batch->name);
    golden_fractions(name, &image);
    snprintf(name, sizeof name, "%s labels", batch->name);
    golden_labels(name, batch->labelled, &labels);
    if (batch->peers == 0) return;
    const Tensor answers = plan_input(plan, "answers");
    snprintf(name, sizeof name, "%s answers", batch->name);
    golden_uniform(name, 1, &answers);
    memcpy(plan_input(plan, "arrived").data, batch->arrived, (size_t)batch->peers);
}

/* Gradients that come back through a relu or a max_pool. */
static bool is_behind_kinks(const char *output)
{
    return strncmp(output, "gradient", strlen("gradient")) == 0 && strstr(output, "target_layer") == NULL &&
           strstr(output, "context_layer") == NULL;
}

/* Every output of the graph has a golden sketch and the other way round. */
static void compare(const Setting *setting, const Batch *batch, const Graph *g, Plan *plan, const Safetensors *golden)
{
    int compared = 0, expected = 0;
    const size_t length = strlen(batch->name);
    for (size_t i = 0; i < safetensors_count(golden); i++)
        expected += strncmp(safetensors_name(golden, i), batch->name, length) == 0;
    for (int i = 0; i < graph_output_count(g); i++, compared++) {
        const char *output = graph_output_name(g, i);
        char name[2 * NAME_SIZE];
        snprintf(name, sizeof name, "%s: %s", batch->name, output);
        const Tensor *sketch = safetensors_find(golden, name), found = plan_output(plan, output);
        ck_assert_msg(sketch != NULL, "the golden file has no '%s'", name);
        ck_assert_msg(found.dtype == setting->real, "%s is %s", name, dtype_name(found.dtype));
        double values[GOLDEN_SKETCH_SIZE];
        golden_sketch(output, &found, values);
        const double difference = golden_difference(values, sketch->data);
        const double allowed = is_behind_kinks(output) ? setting->behind_kinks : setting->tolerance;
        ck_assert_msg(difference <= allowed, "%s, %d threads, %s, %s: %s differs by %g of its norm, not %g",
                      setting->device, setting->threads, dtype_name(setting->real), precision_name(setting->precision),
                      name, difference, allowed);
    }
    ck_assert_int_eq(compared, expected);
}

static void check_batch(const Setting *setting, const Batch *batch, const Safetensors *golden)
{
    Error error = {0};
    Backend *backend;
    Variables *variables;
    Plan *plan;
    Graph *g = declare(batch, setting->real);
    require(graph_check(g, &error), &error);
    const BackendOptions chosen = {.threads = setting->threads, .precision = setting->precision};
    require(backend_open(setting->device, &chosen, &backend, &error), &error);
    require(variables_create(backend, &variables, &error), &error);
    require(variables_declare(variables, g, 0, &error), &error);
    write_parameters(variables);
    const PlanOptions options = {.rewrites = setting->rewrites};
    require(plan_compile(backend, g, variables, &options, &plan, &error), &error);
    write_inputs(batch, plan);
    require(plan_run(plan, &error), &error);
    compare(setting, batch, g, plan, golden);
    plan_destroy(plan);
    variables_destroy(variables);
    backend_close(backend);
    graph_destroy(g);
}

static void check(const Setting *setting)
{
    Error error = {0};
    Safetensors *golden = NULL;
    require(safetensors_open(TEST_SOURCE_DIR "/golden/mnist_soma.safetensors", &golden, &error), &error);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        check_batch(setting, &batches[i], golden);
    safetensors_close(golden);
}

START_TEST(reference_in_double_is_pytorch)
{
    check(&(Setting){"reference", 1, 0, DTYPE_F64, PRECISION_F32, 1e-12, 1e-12});
}
END_TEST

START_TEST(reference_in_float_is_pytorch)
{
    check(&(Setting){"reference", 1, 0, DTYPE_F32, PRECISION_F32, 1e-5, 1e-5});
}
END_TEST

START_TEST(rewriting_changes_nothing)
{
    check(&(Setting){"reference", 1, REWRITE_ALL, DTYPE_F64, PRECISION_F32, 1e-12, 1e-12});
}
END_TEST

START_TEST(cpu_with_one_thread_is_pytorch)
{
    check(&(Setting){"cpu", 1, REWRITE_ALL, DTYPE_F32, PRECISION_F32, 1e-5, 1e-5});
}
END_TEST

START_TEST(cpu_with_two_threads_is_pytorch)
{
    check(&(Setting){"cpu", 2, REWRITE_ALL, DTYPE_F32, PRECISION_F32, 1e-5, 1e-5});
}
END_TEST

/* The simulated device, where this build has one. */
static void check_sim(Precision precision, double tolerance, double behind_kinks)
{
    Backend *backend = NULL;
    Error error = {0};
    if (backend_open("sim", &(BackendOptions){.threads = 1}, &backend, &error) != STATUS_OK) {
        printf("skipped: %s\n", error.message);
        return;
    }
    backend_close(backend);
    check(&(Setting){"sim", 1, REWRITE_ALL, DTYPE_F32, precision, tolerance, behind_kinks});
}

START_TEST(sim_is_pytorch)
{
    check_sim(PRECISION_F32, 1e-5, 1e-5);
}
END_TEST

/* tf32 and f16 have 11 bits: each rounding errs by 2^-12 at most, and the six layers on top of each other, with weights
 * and activations rounded, by some 2^-10; bf16 has 8 bits, so eight times that. Behind a relu or max_pool a gradient
 * errs by the square root: a share q of the values, that which lies nearer to the kink than the error of 2^-10, falls
 * on the other side, and sqrt(q) of the norm with it; few rows make that a matter of chance. */
START_TEST(sim_in_low_precision_is_pytorch)
{
    check_sim(PRECISION_TF32, 2e-3, 0.15);
    check_sim(PRECISION_F16, 2e-3, 0.15);
    check_sim(PRECISION_BF16, 1.6e-2, 0.4);
}
END_TEST

SUITE_MAIN("mnist", has_the_parameters_of_the_reference_network, answering_needs_neither_labels_nor_target,
           an_image_without_columns_is_refused, reference_in_double_is_pytorch, reference_in_float_is_pytorch,
           rewriting_changes_nothing, cpu_with_one_thread_is_pytorch, cpu_with_two_threads_is_pytorch, sim_is_pytorch,
           sim_in_low_precision_is_pytorch)
