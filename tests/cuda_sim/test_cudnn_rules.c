/* The rules of running a plan, which the real cuDNN doesn't check: each ends the process with a message that names the
 * call. Then streams, capture, and calls that fail. */
#include <cudnn.h>
#include <stdint.h>

#include "cuda_sim/dnn_descriptors.h"
#include "cuda_sim/library_test.h"

size_t cudnn_sim_live_objects(void);

enum { X = 1, W, Y }; /* unique ids */
enum { X_BYTES = 2 * 3 * 6 * 6 * 4, W_BYTES = 4 * 3 * 3 * 3 * 4, Y_BYTES = 2 * 4 * 4 * 4 * 4 };

/* --- a plan and its memory, by the library's own calls --- */

#define CHECK_CUDNN(call) ck_assert_int_eq((call), CUDNN_STATUS_SUCCESS)

static Descriptor device_of(cudnnHandle_t handle)
{
    Descriptor d = desc_make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    desc_set(d, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    desc_finalize(d);
    return d;
}

/* The first configuration of which a plan with a workspace comes. */
static Descriptor plan_with_workspace(cudnnHandle_t handle, int64_t *workspace)
{
    const Descriptor device = device_of(handle);
    const Descriptor operation = desc_forward(desc_convolution(desc_convolution_parts(0)), desc_dense(2, 3, 6, 6, X),
                                              desc_dense(4, 3, 3, 3, W), desc_dense(2, 4, 4, 4, Y), true);
    Descriptor configs[DESC_CONFIGS];
    const int64_t count = desc_configs(desc_heuristics(device, desc_graph(&operation, 1)), configs);
    for (int64_t i = 0; i < count; i++) {
        Descriptor plan = desc_plan(device, configs[i]);
        CHECK_CUDNN(desc_refusal());
        if (cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS) continue;
        CHECK_CUDNN(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, NULL,
                                             workspace));
        if (*workspace > 0) return plan;
    }
    ck_abort_msg("no plan has a workspace");
}

typedef struct Run {
    cudnnHandle_t handle;
    Descriptor plan, pack;
    int64_t uids[4], count;
    void *pointers[4], *workspace;
    int64_t workspace_size;
} Run;

static Run good_run(void)
{
    Run run = {.uids = {X, W, Y}, .count = 3};
    CHECK_CUDNN(cudnnCreate(&run.handle));
    run.plan = plan_with_workspace(run.handle, &run.workspace_size);
    run.pointers[0] = device_memory(NULL, X_BYTES);
    run.pointers[1] = device_memory(NULL, W_BYTES);
    run.pointers[2] = device_memory(NULL, Y_BYTES);
    run.workspace = device_memory(NULL, (size_t)run.workspace_size);
    CHECK_CUDA(cudaMemset(run.pointers[0], 0, X_BYTES));
    CHECK_CUDA(cudaMemset(run.pointers[1], 0, W_BYTES));
    return run;
}

static cudnnStatus_t execute(Run *run)
{
    run->pack = desc_make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    desc_set(run->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, run->count, run->uids);
    desc_set(run->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, run->count, run->pointers);
    desc_set(run->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &run->workspace);
    desc_finalize(run->pack);
    CHECK_CUDNN(desc_refusal());
    return cudnnBackendExecute(run->handle, run->plan, run->pack);
}

/* --- one mistake each --- */

enum Mistake {
    ODD_POINTER,
    NULL_POINTER,
    HOST_POINTER,
    FREED_POINTER,
    SHORT_MEMORY,
    MISSING_TENSOR,
    UNKNOWN_TENSOR,
    RESULT_OVER_INPUT,
    NO_WORKSPACE,
    SHORT_WORKSPACE,
    ODD_WORKSPACE,
    WORKSPACE_OVER_RESULT,
    DESTROYED_HANDLE,
    DESTROYED_PLAN,
    PACK_FOR_PLAN,
    OTHER_DEVICE,
    OTHER_DEVICE_MEMORY,
    MISTAKES
};

static const char *const messages[MISTAKES] = {
    [ODD_POINTER] = "cudnnBackendExecute: tensor 1 is at 0x",
    [NULL_POINTER] = "cudnnBackendExecute: tensor 2 is at (nil), which is no device memory",
    [HOST_POINTER] = "which is no device memory",
    [FREED_POINTER] = "which is no device memory",
    [SHORT_MEMORY] = "cudnnBackendExecute: tensor 3 has 496 bytes, expected 512",
    [MISSING_TENSOR] = "cudnnBackendExecute: the variant pack has no tensor 3",
    [UNKNOWN_TENSOR] = "cudnnBackendExecute: the variant pack has tensor 9, which the plan doesn't know",
    [RESULT_OVER_INPUT] = "cudnnBackendExecute: tensor 3 and tensor 1 overlap",
    [NO_WORKSPACE] = "cudnnBackendExecute: workspace is at (nil), which is no device memory",
    [SHORT_WORKSPACE] = "cudnnBackendExecute: workspace has ",
    [ODD_WORKSPACE] = "expected memory aligned to 256 bytes",
    [WORKSPACE_OVER_RESULT] = "cudnnBackendExecute: tensor 3 and workspace overlap",
    [DESTROYED_HANDLE] = "is no handle, or one that was destroyed",
    [DESTROYED_PLAN] = "cudnnBackendExecute: 0x",
    [PACK_FOR_PLAN] = "cudnnBackendExecute: executes a variant pack with a variant pack, expected an execution plan",
    [OTHER_DEVICE] = "cudnnBackendExecute: the handle is of device 0, and device 1 is current",
    [OTHER_DEVICE_MEMORY] = "cudnnBackendExecute: tensor 1 is on device 1, the handle on device 0",
};

static void change_memory(Run *run, enum Mistake mistake)
{
    static _Alignas(256) float host[X_BYTES / 4];
    switch (mistake) {
    case ODD_POINTER:
        run->pointers[0] = (char *)device_memory(NULL, X_BYTES + 4) + 4;
        break;
    case NULL_POINTER:
        run->pointers[1] = NULL;
        break;
    case HOST_POINTER:
        run->pointers[0] = host;
        break;
    case FREED_POINTER:
        CHECK_CUDA(cudaFree(run->pointers[0]));
        break;
    case SHORT_MEMORY:
        run->pointers[2] = device_memory(NULL, Y_BYTES - 16);
        break;
    case RESULT_OVER_INPUT:
        run->pointers[2] = run->pointers[0] = device_memory(NULL, X_BYTES);
        break;
    case OTHER_DEVICE_MEMORY:
        CHECK_CUDA(cudaSetDevice(1));
        run->pointers[0] = device_memory(NULL, X_BYTES);
        CHECK_CUDA(cudaSetDevice(0));
        break;
    default:
        break;
    }
}

static void change_workspace(Run *run, enum Mistake mistake)
{
    if (mistake == NO_WORKSPACE) run->workspace = NULL;
    if (mistake == SHORT_WORKSPACE) run->workspace = device_memory(NULL, (size_t)run->workspace_size - 1);
    if (mistake == ODD_WORKSPACE) run->workspace = (char *)device_memory(NULL, (size_t)run->workspace_size + 128) + 128;
    if (mistake == WORKSPACE_OVER_RESULT)
        run->workspace = run->pointers[2] = device_memory(NULL, (size_t)run->workspace_size + Y_BYTES);
}

static void make_mistake(void *argument)
{
    const enum Mistake mistake = *(enum Mistake *)argument;
    Run run = good_run();
    change_memory(&run, mistake);
    change_workspace(&run, mistake);
    if (mistake == MISSING_TENSOR) run.count = 2;
    if (mistake == UNKNOWN_TENSOR) {
        run.uids[3] = 9;
        run.pointers[3] = device_memory(NULL, 16);
        run.count = 4;
    }
    if (mistake == DESTROYED_HANDLE) CHECK_CUDNN(cudnnDestroy(run.handle));
    if (mistake == DESTROYED_PLAN) CHECK_CUDNN(cudnnBackendDestroyDescriptor(run.plan));
    if (mistake == PACK_FOR_PLAN) run.plan = desc_make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    if (mistake == OTHER_DEVICE) CHECK_CUDA(cudaSetDevice(1));
    execute(&run);
}

START_TEST(each_mistake_ends_the_process)
{
    for (enum Mistake mistake = 0; mistake < MISTAKES; mistake++)
        check_dies(make_mistake, &mistake, messages[mistake]);
}
END_TEST

START_TEST(a_good_run_is_good)
{
    float y[Y_BYTES / 4];
    Run run = good_run();
    CHECK_CUDNN(execute(&run));
    CHECK_CUDA(cudaDeviceSynchronize());
    read_device(y, run.pointers[2], Y_BYTES);
    for (size_t i = 0; i < Y_BYTES / 4; i++)
        ck_assert(y[i] == 0);
}
END_TEST

/* An engine keeps nothing in its workspace that a caller may rely on. */
START_TEST(the_workspace_is_filled_with_rubbish)
{
    Run run = good_run();
    unsigned char *seen = malloc((size_t)run.workspace_size);
    CHECK_CUDA(cudaMemset(run.workspace, 0, (size_t)run.workspace_size));
    CHECK_CUDNN(execute(&run));
    CHECK_CUDA(cudaDeviceSynchronize());
    read_device(seen, run.workspace, (size_t)run.workspace_size);
    for (int64_t i = 0; i < run.workspace_size; i++)
        ck_assert_uint_ne(seen[i], 0);
    free(seen);
}
END_TEST

START_TEST(what_is_missing_is_refused)
{
    Run run = good_run();
    Descriptor pack = desc_make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR),
               plan = desc_make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    ck_assert_int_eq(cudnnBackendExecute(run.handle, run.plan, NULL), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    ck_assert_int_eq(cudnnBackendExecute(run.handle, NULL, pack), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    ck_assert_int_eq(cudnnBackendExecute(run.handle, run.plan, pack), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    ck_assert_int_eq(cudnnBackendExecute(run.handle, plan, pack), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
}
END_TEST

/* A device that failed takes no more work. */
START_TEST(a_failed_device_is_told)
{
    Run run = good_run();
    CHECK_CUDA(cudaDeviceSynchronize());
    setenv("SIM_FAIL", "cudaDeviceSynchronize:1", 1);
    ck_assert_int_ne(cudaDeviceSynchronize(), cudaSuccess);
    unsetenv("SIM_FAIL");
    ck_assert_int_eq(execute(&run), CUDNN_STATUS_EXECUTION_FAILED_CUDART);
}
END_TEST

/* --- streams and capture --- */

static void run_on_two_streams(void *argument)
{
    const cudaStream_t streams[2] = {stream_make(), stream_make()};
    const bool ordered = *(bool *)argument;
    Run run = good_run();
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDNN(cudnnSetStream(run.handle, streams[0]));
    CHECK_CUDNN(execute(&run));
    if (ordered) stream_follow(streams[1], streams[0]);
    CHECK_CUDNN(cudnnSetStream(run.handle, streams[1]));
    CHECK_CUDNN(execute(&run));
    CHECK_CUDA(cudaDeviceSynchronize());
}

START_TEST(a_missing_event_between_streams_is_caught)
{
    bool ordered = true;
    run_on_two_streams(&ordered);
    ordered = false;
    check_dies(run_on_two_streams, &ordered, "cudnnBackendExecute");
}
END_TEST

START_TEST(a_stream_of_another_device_is_refused)
{
    cudaStream_t found = NULL;
    Run run = good_run();
    CHECK_CUDA(cudaSetDevice(1));
    const cudaStream_t stream = stream_make();
    ck_assert_int_eq(cudnnSetStream(run.handle, stream), CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH);
    CHECK_CUDNN(cudnnGetStream(run.handle, &found));
    ck_assert_ptr_null(found);
}
END_TEST

START_TEST(a_run_can_be_captured_and_launched)
{
    float y[Y_BYTES / 4];
    Run run = good_run();
    CHECK_CUDA(cudaDeviceSynchronize());
    cudaStream_t stream = capture_begin();
    CHECK_CUDNN(cudnnSetStream(run.handle, stream));
    CHECK_CUDNN(execute(&run));
    const cudaGraphExec_t executable = capture_end(stream);
    for (int i = 0; i < 2; i++) {
        CHECK_CUDA(cudaMemset(run.pointers[2], 0xff, Y_BYTES));
        CHECK_CUDA(cudaDeviceSynchronize());
        CHECK_CUDA(cudaGraphLaunch(executable, stream));
        CHECK_CUDA(cudaStreamSynchronize(stream));
        read_device(y, run.pointers[2], Y_BYTES);
        ck_assert(y[0] == 0 && y[Y_BYTES / 4 - 1] == 0);
    }
    CHECK_CUDA(cudaGraphExecDestroy(executable));
}
END_TEST

static void create_while_capturing(void *argument)
{
    cudnnHandle_t handle;
    (void)argument;
    capture_begin();
    cudnnCreate(&handle);
}

static void destroy_twice(void *argument)
{
    Descriptor d = desc_make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    (void)argument;
    CHECK_CUDNN(cudnnBackendDestroyDescriptor(d));
    cudnnBackendDestroyDescriptor(d);
}

static void destroy_handle_twice(void *argument)
{
    cudnnHandle_t handle;
    (void)argument;
    CHECK_CUDNN(cudnnCreate(&handle));
    CHECK_CUDNN(cudnnDestroy(handle));
    cudnnDestroy(handle);
}

static void make_pooling(void *argument)
{
    (void)argument;
    desc_make(CUDNN_BACKEND_RESAMPLE_DESCRIPTOR);
}

START_TEST(lifetimes_are_checked)
{
    static const Rule rules[] = {
        {create_while_capturing, "cudnnCreate: allocates memory, while a stream is being captured"},
        {destroy_twice, "cudnnBackendDestroyDescriptor: 0x"},
        {destroy_handle_twice, "cudnnDestroy: 0x"},
        {make_pooling, "cudnnBackendCreateDescriptor: descriptors of type"},
    };
    check_rules(rules, sizeof rules / sizeof rules[0], NULL);
}
END_TEST

/* --- calls that fail --- */

static Status create_and_run(Dnn *dnn, const char *text, Error *error)
{
    const DnnConvolution c = {.type = DTYPE_F32,
                              .n = 2,
                              .channels = 3,
                              .rows = 6,
                              .columns = 6,
                              .out = 4,
                              .kernel = {3, 3},
                              .stride = {1, 1},
                              .groups = 1,
                              .bias = true,
                              .relu = true};
    DnnPlan *plan = NULL;
    Status status = dnn_plan_create(dnn, &c, 1 << 20, text, &plan, error);
    if (status != STATUS_OK) return status;
    void *x = device_memory(NULL, X_BYTES), *w = device_memory(NULL, W_BYTES), *bias = device_memory(NULL, 16),
         *y = device_memory(NULL, Y_BYTES), *workspace = device_memory(NULL, dnn_plan_workspace(plan) + 1);
    status = dnn_plan_run(plan, 0, x, w, bias, y, workspace, error);
    dnn_plan_destroy(plan);
    return status;
}

static Status open_create_and_run(Error *error)
{
    Dnn *dnn = NULL;
    Status status = dnn_open(&dnn, error);
    if (status == STATUS_OK) status = create_and_run(dnn, NULL, error);
    dnn_close(dnn);
    return status;
}

/* Whichever call fails, there is a sentence that names it, and nothing stays behind. (A candidate that fails gives way
 * to the next, so not every failure is one in the end.) */
START_TEST(any_call_may_fail)
{
    static const char *const calls[] = {"cudnnCreate",
                                        "cudnnSetStream",
                                        "cudnnBackendExecute",
                                        "cudnnBackendCreateDescriptor",
                                        "cudnnBackendSetAttribute",
                                        "cudnnBackendFinalize",
                                        "cudnnBackendGetAttribute"};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int failures = 0;
        for (int n = 1; n < 200; n++) {
            char setting[64];
            Error error = {.message = ""};
            snprintf(setting, sizeof setting, "%s:%d", calls[i], n);
            setenv("SIM_FAIL", setting, 1);
            const Status status = open_create_and_run(&error);
            unsetenv("SIM_FAIL");
            ck_assert_uint_eq(cudnn_sim_live_objects(), 0);
            if (status == STATUS_OK) continue;
            failures++;
            ck_assert_msg(strstr(error.message, calls[i]) != NULL, "%s: '%s'", setting, error.message);
        }
        ck_assert_msg(failures > 0, "%s never failed", calls[i]);
    }
}
END_TEST

SUITE_MAIN("cudnn rules", a_good_run_is_good, each_mistake_ends_the_process, the_workspace_is_filled_with_rubbish,
           what_is_missing_is_refused, a_failed_device_is_told, a_missing_event_between_streams_is_caught,
           a_stream_of_another_device_is_refused, a_run_can_be_captured_and_launched, lifetimes_are_checked,
           any_call_may_fail)
