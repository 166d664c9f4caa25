/* Run folders: what is saved comes back bit for bit; a save that dies anywhere leaves the old state or the new one; and
 * every kind of damage is an error that names the file. */
#include "train/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "graph/ops.h"
#include "support/folder.h"
#include "support/suite.h"
#include "tensor/safetensors.h"
#include "train/toy.h"

static Error error;
static Folder folder;
static Backend *backend;
static char run[FOLDER_PATH_SIZE];

static void count_line(void *context, LogLevel level, const char *line)
{
    (void)level, (void)line;
    ++*(int *)context;
}

static int warnings;

static void set_up(void)
{
    folder = folder_make();
    folder_path(&folder, "run", run);
    backend = toy_backend("reference", 1);
    log_set_sink(count_line, &warnings);
}

static void tear_down(void)
{
    backend_close(backend);
    folder_remove(&folder);
}

/* Two parameters, a momentum, and a counter of another dtype; `hidden` units decide the shapes. */
static Variables *declare(uint64_t seed, int64_t hidden)
{
    Variables *variables = NULL;
    Graph *g = graph_create(DTYPE_F32, true);
    graph_parameter(g, "layer.weight", shape_of(hidden, 4), 1);
    graph_parameter(g, "layer.bias", shape_of(hidden), 1);
    graph_state(g, "layer.weight.momentum", DTYPE_F32, shape_of(hidden, 4), INITIALIZE_NORMAL, 1);
    graph_state(g, "count", DTYPE_I64, shape_of(1), INITIALIZE_ZERO, 0);
    ck_assert_int_eq(variables_create(backend, &variables, NULL), STATUS_OK);
    ck_assert_int_eq(variables_declare(variables, g, seed, NULL), STATUS_OK);
    graph_destroy(g);
    return variables;
}

static void set(Variables *variables, const char *name, const void *bytes, size_t size)
{
    ck_assert_int_eq(variables_write(variables, variables_find(variables, name), bytes, size, NULL), STATUS_OK);
}

static CheckpointValues values_of(int64_t step)
{
    return (CheckpointValues){2, {{"step", step}, {"seed", -7}}};
}

static Status save(const Variables *variables, int64_t step)
{
    const CheckpointValues values = values_of(step);
    return checkpoint_save(run, variables, &values, "{\"a\": 1}", &error);
}

static Status load(Variables *variables, int64_t *step)
{
    CheckpointValues values = values_of(-1);
    const Status status = checkpoint_load(run, variables, &values, &error);
    *step = values.items[0].value;
    return status;
}

static void expect_words(const char *words)
{
    ck_assert_msg(strstr(error.message, words) != NULL, "expected '%s' in: %s", words, error.message);
}

START_TEST(everything_comes_back_bit_for_bit)
{
    set_up();
    Variables *saved = declare(1, 3), *loaded = declare(2, 3);
    const float odd[3] = {-0.0f, NAN, 1e-42f}; /* minus zero, not a number, subnormal */
    const int64_t count = INT64_MIN;
    int64_t step;
    set(saved, "layer.bias", odd, sizeof odd);
    set(saved, "count", &count, sizeof count);
    ck_assert_int_eq(save(saved, INT64_MAX), STATUS_OK);
    ck_assert_msg(load(loaded, &step) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(step, INT64_MAX);
    toy_assert_equal(loaded, saved);
    variables_destroy(saved);
    variables_destroy(loaded);
    tear_down();
}
END_TEST

START_TEST(a_save_replaces_the_generation_before)
{
    set_up();
    char path[FOLDER_PATH_SIZE], target[64] = "";
    const char *const names[] = {"model.safetensors", "state.safetensors", "config.json", "current"};
    for (int i = 0; i < 4; i++) {
        Variables *variables = declare((uint64_t)i, 3);
        ck_assert_int_eq(save(variables, i), STATUS_OK);
        variables_destroy(variables);
    }
    for (int i = 0; i < 4; i++) {
        struct stat info;
        snprintf(path, sizeof path, "%.400s/%s", run, names[i]);
        ck_assert_int_eq(lstat(path, &info), 0);
        ck_assert(S_ISLNK(info.st_mode));
        ck_assert_int_eq(stat(path, &info), 0); /* and leads somewhere */
    }
    ck_assert_int_gt(readlink(path, target, sizeof target - 1), 0);
    ck_assert_str_eq(target, "generation-3");
    Folder runs = {.path = ""};
    snprintf(runs.path, sizeof runs.path, "%.500s", run);
    ck_assert_uint_eq(folder_count(&runs), 5); /* the links and one generation */
    tear_down();
}
END_TEST

/* For each place of a save and each time it is passed: fails there, and then loads the old state or the new one.
 * Returns how many times a save passes the place. */
static int fail_at(const char *place, bool first)
{
    for (int hit = 1;; hit++) {
        char armed[64];
        int64_t step = -1;
        set_up();
        Variables *old = declare(1, 3), *new = declare(2, 3), *loaded = declare(3, 3);
        if (!first) ck_assert_int_eq(save(old, 1), STATUS_OK);
        snprintf(armed, sizeof armed, "%s=EIO@%d", place, hit);
        ck_assert_int_eq(failpoint_arm(armed, NULL), STATUS_OK);
        const Status status = save(new, 2);
        failpoint_arm(NULL, NULL);
        if (status != STATUS_OK) {
            ck_assert_uint_gt(strlen(error.message), 0);
            ck_assert_int_eq(checkpoint_exists(run), !first);
        }
        if (checkpoint_exists(run)) {
            ck_assert_msg(load(loaded, &step) == STATUS_OK, "after %s: %s", armed, error.message);
            ck_assert_int_eq(step, status == STATUS_OK ? 2 : 1);
            toy_assert_equal(loaded, step == 2 ? new : old);
        }
        ck_assert_int_eq(save(new, 3), STATUS_OK); /* nothing stands in the way of the next one */
        ck_assert_int_eq(load(loaded, &step), STATUS_OK);
        ck_assert_int_eq(step, 3);
        variables_destroy(old);
        variables_destroy(new);
        variables_destroy(loaded);
        tear_down();
        if (status == STATUS_OK) return hit - 1;
    }
}

START_TEST(a_save_that_fails_anywhere_leaves_a_whole_state)
{
    for (int first = 0; first < 2; first++) {
        ck_assert_int_eq(fail_at("file.open", first), 3);
        ck_assert_int_eq(fail_at("file.rename", first), 3);
        ck_assert_int_ge(fail_at("file.fsync", first), 3);
        ck_assert_int_ge(fail_at("file.write", first), 7);
        ck_assert_int_eq(fail_at("checkpoint.link", first), first ? 4 : 1);
    }
}
END_TEST

/* A crash before the first save was whole: links that lead nowhere are no checkpoint. */
START_TEST(a_first_save_that_died_is_no_checkpoint)
{
    set_up();
    Variables *variables = declare(1, 3);
    int64_t step;
    ck_assert_int_eq(failpoint_arm("checkpoint.link=EIO@4", NULL), STATUS_OK);
    ck_assert_int_ne(save(variables, 1), STATUS_OK);
    failpoint_arm(NULL, NULL);
    ck_assert(!checkpoint_exists(run));
    ck_assert_int_eq(load(variables, &step), STATUS_NOT_FOUND);
    expect_words(run);
    ck_assert_int_ne(checkpoint_load_model(run, variables, false, &error), STATUS_OK);
    variables_destroy(variables);
    tear_down();
}
END_TEST

START_TEST(a_file_in_the_place_of_a_link_is_left_alone)
{
    set_up();
    Variables *variables = declare(1, 3);
    char path[FOLDER_PATH_SIZE];
    ck_assert_int_eq(file_make_directories(run, NULL), STATUS_OK);
    folder_write(&folder, "run/model.safetensors", "mine", 4);
    ck_assert_int_eq(save(variables, 1), STATUS_ALREADY_EXISTS);
    expect_words("model.safetensors");
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(file_read(folder_path(&folder, "run/model.safetensors", path), 100, &text, &size, NULL),
                     STATUS_OK);
    ck_assert_str_eq(text, "mine");
    free(text);
    variables_destroy(variables);
    tear_down();
}
END_TEST

START_TEST(one_process_at_a_time)
{
    set_up();
    CheckpointLock lock, again;
    ck_assert_int_eq(checkpoint_lock(run, &lock, &error), STATUS_OK);
    const pid_t child = fork();
    if (child == 0) {
        const bool refused = checkpoint_lock(run, &again, &error) == STATUS_ALREADY_EXISTS;
        _exit(refused && strstr(error.message, run) != NULL ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    checkpoint_unlock(&lock);
    checkpoint_unlock(&lock); /* twice is fine */
    ck_assert_int_eq(checkpoint_lock(run, &again, &error), STATUS_OK);
    checkpoint_unlock(&again);
    tear_down();
}
END_TEST

/* --- damage --- */

/* Loads model and state after `file` was overwritten with `size` of its bytes, one of them flipped at `flip`. */
static void expect_damage(const char *file, size_t size, long flip)
{
    char path[FOLDER_PATH_SIZE], inner[64];
    char *bytes = NULL;
    size_t whole = 0;
    int64_t step;
    set_up();
    Variables *saved = declare(1, 3), *loaded = declare(2, 3), *untouched = declare(2, 3);
    ck_assert_int_eq(save(saved, 1), STATUS_OK);
    snprintf(inner, sizeof inner, "run/%s", file);
    ck_assert_int_eq(file_read(folder_path(&folder, inner, path), 1 << 20, &bytes, &whole, NULL), STATUS_OK);
    if (flip >= 0) bytes[flip] = (char)(bytes[flip] ^ 0x55);
    folder_write(&folder, inner, bytes, size < whole ? size : whole);
    ck_assert_int_ne(load(loaded, &step), STATUS_OK);
    expect_words(file);
    if (strcmp(file, "model.safetensors") == 0) {
        ck_assert_int_ne(checkpoint_load_model(run, loaded, false, &error), STATUS_OK);
        expect_words(file);
        toy_assert_equal(loaded, untouched);
    }
    free(bytes);
    variables_destroy(saved);
    variables_destroy(loaded);
    variables_destroy(untouched);
    tear_down();
}

START_TEST(damaged_files_are_errors)
{
    const size_t sizes[] = {0, 7, 8, 40, 200};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        expect_damage("model.safetensors", sizes[i], -1);
        expect_damage("state.safetensors", sizes[i], -1);
    }
    expect_damage("model.safetensors", SIZE_MAX, 0); /* the header's length */
    expect_damage("model.safetensors", SIZE_MAX, 8); /* its first brace */
    expect_damage("state.safetensors", SIZE_MAX, 3);
}
END_TEST

START_TEST(a_missing_file_is_an_error)
{
    set_up();
    Variables *variables = declare(1, 3);
    char path[FOLDER_PATH_SIZE];
    int64_t step;
    ck_assert_int_eq(save(variables, 1), STATUS_OK);
    ck_assert_int_eq(unlink(folder_path(&folder, "run/generation-0/state.safetensors", path)), 0);
    ck_assert_int_eq(load(variables, &step), STATUS_NOT_FOUND);
    expect_words("state.safetensors");
    variables_destroy(variables);
    tear_down();
}
END_TEST

/* Writes a file of float tensors "layer.weight" [rows, 4] and, with `bias`, "layer.bias" [rows]; all `fill`. */
static const char *write_model(const char *name, const char *weight, int64_t rows, bool bias, float fill, DType dtype)
{
    static char path[FOLDER_PATH_SIZE];
    Tensor w, b;
    ck_assert_int_eq(tensor_create(dtype, shape_of(rows, 4), &w, NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(rows), &b, NULL), STATUS_OK);
    for (int64_t i = 0; dtype == DTYPE_F32 && i < rows * 4; i++)
        tensor_f32(&w)[i] = fill;
    for (int64_t i = 0; i < rows; i++)
        tensor_f32(&b)[i] = fill;
    const NamedTensor tensors[] = {{weight, w}, {"layer.bias", b}};
    ck_assert_int_eq(safetensors_write(folder_path(&folder, name, path), tensors, bias ? 2 : 1, NULL, 0, &error),
                     STATUS_OK);
    tensor_destroy(&w);
    tensor_destroy(&b);
    return path;
}

static float first_of(const Variables *variables, const char *name)
{
    Tensor values = toy_read(variables, name);
    const float first = tensor_f32(&values)[0];
    tensor_destroy(&values);
    return first;
}

START_TEST(a_model_is_a_file_or_a_folder_with_one)
{
    set_up();
    Variables *variables = declare(1, 3);
    const char *file = write_model("model.safetensors", "layer.weight", 3, true, 2, DTYPE_F32);
    ck_assert_int_eq(checkpoint_load_model(file, variables, true, &error), STATUS_OK);
    ck_assert_float_eq(first_of(variables, "layer.weight"), 2);
    write_model("model.safetensors", "layer.weight", 3, true, 5, DTYPE_F32);
    ck_assert_int_eq(checkpoint_load_model(folder.path, variables, true, &error), STATUS_OK);
    ck_assert_float_eq(first_of(variables, "layer.bias"), 5);
    ck_assert_int_eq(warnings, 0);
    ck_assert_int_eq(checkpoint_load_model("/nonexistent/model", variables, true, &error), STATUS_NOT_FOUND);
    expect_words("/nonexistent/model");
    ck_assert_int_eq(checkpoint_load_model("/dev", variables, true, &error), STATUS_NOT_FOUND);
    expect_words("/dev/model.safetensors");
    variables_destroy(variables);
    tear_down();
}
END_TEST

START_TEST(a_missing_tensor_is_a_warning_or_with_strict_an_error)
{
    set_up();
    Variables *variables = declare(1, 3);
    const float before = first_of(variables, "layer.bias"), weight = first_of(variables, "layer.weight");
    const char *file = write_model("part.safetensors", "layer.weight", 3, false, 2, DTYPE_F32);
    ck_assert_int_eq(checkpoint_load_model(file, variables, true, &error), STATUS_FAILED_PRECONDITION);
    expect_words("layer.bias");
    ck_assert_float_eq(first_of(variables, "layer.weight"), weight);
    ck_assert_int_eq(checkpoint_load_model(file, variables, false, &error), STATUS_OK);
    ck_assert_int_eq(warnings, 1);
    ck_assert_float_eq(first_of(variables, "layer.weight"), 2);
    ck_assert_float_eq(first_of(variables, "layer.bias"), before);
    variables_destroy(variables);
    tear_down();
}
END_TEST

START_TEST(another_shape_or_dtype_changes_nothing)
{
    set_up();
    Variables *variables = declare(1, 3), *untouched = declare(1, 3);
    const char *file = write_model("wide.safetensors", "layer.weight", 5, true, 2, DTYPE_F32);
    ck_assert_int_eq(checkpoint_load_model(file, variables, false, &error), STATUS_INVALID_ARGUMENT);
    expect_words("[5, 4]");
    expect_words("[3, 4]");
    file = write_model("whole.safetensors", "layer.weight", 3, true, 2, DTYPE_I32);
    ck_assert_int_eq(checkpoint_load_model(file, variables, false, &error), STATUS_INVALID_ARGUMENT);
    expect_words("'layer.weight'");
    file = write_model("other.safetensors", "conv.weight", 3, false, 2, DTYPE_F32);
    ck_assert_int_eq(checkpoint_load_model(file, variables, false, &error), STATUS_INVALID_ARGUMENT);
    expect_words("none");
    toy_assert_equal(variables, untouched);
    variables_destroy(variables);
    variables_destroy(untouched);
    tear_down();
}
END_TEST

/* Resuming with another soma, or with a value that the save didn't have. */
START_TEST(a_run_of_another_kind_is_not_resumed)
{
    set_up();
    Variables *saved = declare(1, 3), *wider = declare(1, 5);
    int64_t step;
    ck_assert_int_eq(save(saved, 1), STATUS_OK);
    ck_assert_int_eq(load(wider, &step), STATUS_INVALID_ARGUMENT);
    CheckpointValues values = {1, {{"no such value", 0}}};
    ck_assert_int_eq(checkpoint_load(run, saved, &values, &error), STATUS_DATA_LOSS);
    expect_words("no such value");
    variables_destroy(saved);
    variables_destroy(wider);
    tear_down();
}
END_TEST

/* A run in f32 goes on in f16, whose loss scale then begins where it always does. */
START_TEST(a_run_in_another_precision_is_resumed)
{
    set_up();
    Variables *saved = declare(1, 3), *scaled = declare(2, 3);
    Graph *g = graph_create(DTYPE_F32, true);
    const float first = LOSS_SCALE_FIRST;
    int64_t step;
    loss_scale(g);
    ck_assert_int_eq(variables_declare(scaled, g, 0, NULL), STATUS_OK);
    graph_destroy(g);
    set(scaled, "loss_scale", &first, sizeof first);
    ck_assert_int_eq(save(saved, 1), STATUS_OK);
    ck_assert_msg(load(scaled, &step) == STATUS_OK, "%s", error.message);
    Tensor scale = toy_read(scaled, "loss_scale");
    ck_assert(*tensor_f32(&scale) == first);
    tensor_destroy(&scale);
    ck_assert_int_eq(save(scaled, 2), STATUS_OK);
    ck_assert_msg(load(saved, &step) == STATUS_OK, "%s", error.message);
    ck_assert_int_eq(step, 2);
    variables_destroy(saved);
    variables_destroy(scaled);
    tear_down();
}
END_TEST

START_TEST(a_folder_that_cannot_be_made_is_an_error)
{
    set_up();
    Variables *variables = declare(1, 3);
    CheckpointLock lock;
    folder_write(&folder, "run", "a file", 6);
    ck_assert_int_ne(save(variables, 1), STATUS_OK);
    expect_words(run);
    ck_assert_int_ne(checkpoint_lock(run, &lock, &error), STATUS_OK);
    expect_words(run);
    variables_destroy(variables);
    tear_down();
}
END_TEST

SUITE_MAIN("checkpoint", everything_comes_back_bit_for_bit, a_save_replaces_the_generation_before,
           a_save_that_fails_anywhere_leaves_a_whole_state, a_first_save_that_died_is_no_checkpoint,
           a_file_in_the_place_of_a_link_is_left_alone, one_process_at_a_time, damaged_files_are_errors,
           a_missing_file_is_an_error, a_model_is_a_file_or_a_folder_with_one,
           a_missing_tensor_is_a_warning_or_with_strict_an_error, another_shape_or_dtype_changes_nothing,
           a_run_of_another_kind_is_not_resumed, a_run_in_another_precision_is_resumed,
           a_folder_that_cannot_be_made_is_an_error)
