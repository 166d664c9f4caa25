/* Means over the simulated GPUs of one host (backend/cuda/ranks.c on the NCCL stand-in), and the rules of NCCL's calls.
 */
#include <nccl.h>

#include "backend/cuda/ranks.h"
#include "library_test.h"

enum { COUNT = 1000, MOST = 3 };

typedef struct Rig {
    int count;
    Ranks *ranks;
    float *buffers[MOST];
    cudaStream_t streams[MOST], compute[MOST];
    cudaEvent_t made[MOST], reduced[MOST];
} Rig;

static float element(int rank, int i)
{
    return (float)((rank + 1) * (i % 17)) * 0.125f - (float)(i % 5);
}

/* A rank's numbers, on its device, which stays the current one. */
static float *numbers_of(int rank)
{
    float host[COUNT];
    for (int i = 0; i < COUNT; i++)
        host[i] = element(rank, i);
    CHECK_CUDA(cudaSetDevice(rank));
    return device_memory(host, sizeof host);
}

static void wait_on(Rig *rig, int rank, cudaEvent_t event, cudaStream_t leader, cudaStream_t follower)
{
    CHECK_CUDA(cudaSetDevice(rank % rig->count));
    CHECK_CUDA(cudaEventRecord(event, leader));
    CHECK_CUDA(cudaStreamWaitEvent(follower, event, 0));
}

static Rig rig_make(int count)
{
    static const int devices[MOST] = {0, 1, 2};
    Rig rig = {.count = count};
    Error error = {.message = ""};
    setenv("SIM_DEVICES", "3", 1);
    ck_assert_msg(ranks_open(devices, count, &rig.ranks, &error) == STATUS_OK, "%s", error.message);
    for (int rank = 0; rank < count; rank++) {
        rig.buffers[rank] = numbers_of(rank);
        rig.streams[rank] = stream_make();
        rig.compute[rank] = stream_make();
        rig.made[rank] = event_make();
        rig.reduced[rank] = event_make();
    }
    CHECK_CUDA(cudaSetDevice(0));
    return rig;
}

static void rig_free(Rig *rig)
{
    for (int rank = 0; rank < rig->count; rank++) {
        CHECK_CUDA(cudaSetDevice(rank));
        CHECK_CUDA(cudaFree(rig->buffers[rank]));
        CHECK_CUDA(cudaStreamDestroy(rig->streams[rank]));
        CHECK_CUDA(cudaStreamDestroy(rig->compute[rank]));
        CHECK_CUDA(cudaEventDestroy(rig->made[rank]));
        CHECK_CUDA(cudaEventDestroy(rig->reduced[rank]));
    }
    ranks_close(rig->ranks);
}

static void synchronize(const Rig *rig)
{
    for (int rank = 0; rank < rig->count; rank++)
        CHECK_CUDA(cudaStreamSynchronize(rig->streams[rank]));
}

/* Elements from `begin` on, on every rank: `scale` times their mean. */
static void check_means(const Rig *rig, int begin, int end, float scale)
{
    for (int rank = 0; rank < rig->count; rank++) {
        float host[COUNT];
        CHECK_CUDA(cudaSetDevice(rank));
        read_device(host, rig->buffers[rank], sizeof host);
        for (int i = begin; i < end; i++) {
            float sum = 0;
            for (int r = 0; r < rig->count; r++)
                sum += element(r, i) * scale / (float)rig->count;
            ck_assert_float_eq_tol(host[i], sum, 1e-5f);
        }
    }
    CHECK_CUDA(cudaSetDevice(0));
}

START_TEST(test_means_of_one_two_and_three_ranks)
{
    for (int count = 1; count <= MOST; count++) {
        Rig rig = rig_make(count);
        ck_assert_int_eq(ranks_count(rig.ranks), count);
        ck_assert_int_eq(ranks_all_reduce_mean(rig.ranks, rig.buffers, COUNT, rig.streams, NULL), STATUS_OK);
        synchronize(&rig);
        check_means(&rig, 0, COUNT, 1);
        rig_free(&rig);
    }
}
END_TEST

/* The second half is reduced first, while "the backward pass" still works on the first half. */
static void reduce_buckets(Rig *rig)
{
    float *late[MOST];
    for (int rank = 0; rank < rig->count; rank++)
        late[rank] = rig->buffers[rank] + COUNT / 2;
    for (int bucket = 1; bucket >= 0; bucket--) {
        for (int rank = 0; rank < rig->count; rank++) {
            CHECK_CUDA(cudaSetDevice(rank));
            CHECK_CUDA(cudaMemsetAsync(rig->buffers[rank] + bucket * COUNT / 2, 0, 4, rig->compute[rank]));
            wait_on(rig, rank, rig->made[rank], rig->compute[rank], rig->streams[rank]);
        }
        ck_assert_int_eq(ranks_all_reduce_mean(rig->ranks, bucket ? late : rig->buffers, COUNT / 2, rig->streams, NULL),
                         STATUS_OK);
    }
    for (int rank = 0; rank < rig->count; rank++)
        wait_on(rig, rank, rig->reduced[rank], rig->streams[rank], rig->compute[rank]);
}

START_TEST(test_buckets_are_reduced_while_others_are_made)
{
    static const char *const orders[] = {"late", "eager", "random:1", "random:2", "random:3"};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        setenv("SIM_ORDER", orders[i], 1);
        Rig rig = rig_make(2);
        reduce_buckets(&rig);
        CHECK_CUDA(cudaStreamSynchronize(rig.compute[0]));
        CHECK_CUDA(cudaStreamSynchronize(rig.compute[1]));
        check_means(&rig, 1, COUNT / 2, 1);
        check_means(&rig, COUNT / 2 + 1, COUNT, 1);
        rig_free(&rig);
    }
}
END_TEST

/* All ranks in one graph: rank 1's streams join the capture of rank 0's, and are joined to it again at the end. */
START_TEST(test_a_graph_of_all_ranks_is_launched_again_and_again)
{
    Rig rig = rig_make(2);
    CHECK_CUDA(cudaStreamBeginCapture(rig.compute[0], cudaStreamCaptureModeThreadLocal));
    stream_follow(rig.compute[1], rig.compute[0]);
    reduce_buckets(&rig);
    CHECK_CUDA(cudaSetDevice(1));
    stream_follow(rig.compute[0], rig.compute[1]);
    CHECK_CUDA(cudaSetDevice(0));
    const cudaGraphExec_t exec = capture_end(rig.compute[0]);
    for (int launch = 0; launch < 3; launch++) /* the mean of means is the same */
        CHECK_CUDA(cudaGraphLaunch(exec, rig.compute[0]));
    CHECK_CUDA(cudaStreamSynchronize(rig.compute[0]));
    check_means(&rig, 1, COUNT / 2, 1);
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    rig_free(&rig);
}
END_TEST

START_TEST(test_errors_leave_the_ranks_unusable)
{
    static const struct {
        const char *call, *message;
    } failures[] = {
        {"ncclAllReduce:2", "ncclAllReduce: unhandled cuda error (run with NCCL_DEBUG=INFO for details): simulated"},
        {"ncclGroupEnd:1", "ncclAllReduce: unhandled cuda error (run with NCCL_DEBUG=INFO for details): simulated"},
        {"ncclCommGetAsyncError:2", "rank 1 of 2: in the background of NCCL: unhandled system error (run with "
                                    "NCCL_DEBUG=INFO for details): simulated"},
    };
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        Rig rig = rig_make(2);
        Error error = {.message = ""};
        setenv("SIM_FAIL", failures[i].call, 1);
        ck_assert_int_eq(ranks_all_reduce_mean(rig.ranks, rig.buffers, COUNT, rig.streams, &error), STATUS_DATA_LOSS);
        ck_assert_str_eq(error.message, failures[i].message);
        unsetenv("SIM_FAIL");
        ck_assert_int_eq(ranks_all_reduce_mean(rig.ranks, rig.buffers, COUNT, rig.streams, &error), STATUS_DATA_LOSS);
        ck_assert_str_eq(error.message, "2 ranks can't go on: a call of NCCL failed before");
        synchronize(&rig);
        rig_free(&rig);
    }
}
END_TEST

START_TEST(test_devices_are_checked)
{
    Ranks *ranks = NULL;
    Error error = {.message = ""};
    ck_assert_int_eq(ranks_open(NULL, 0, &ranks, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "number of ranks is 0, expected 1 or more");
    ck_assert_int_eq(ranks_open((const int[]){0, 0}, 2, &ranks, &error), STATUS_INTERNAL);
    ck_assert_str_eq(error.message, "ncclCommInitAll: invalid usage (run with NCCL_DEBUG=WARN for details): simulated");
    ck_assert_int_eq(ranks_open((const int[]){0, 7}, 2, &ranks, &error), STATUS_INTERNAL);
    ranks_close(NULL);
}
END_TEST

/* --- raw calls --- */

typedef struct Raw {
    ncclComm_t comms[2];
    float *send[2], *receive[2];
    cudaStream_t streams[2];
} Raw;

static Raw raw_make(void)
{
    Raw raw;
    ck_assert_int_eq(ncclCommInitAll(raw.comms, 2, NULL), ncclSuccess);
    for (int rank = 0; rank < 2; rank++) {
        raw.send[rank] = numbers_of(rank);
        raw.receive[rank] = device_memory(NULL, COUNT * sizeof(float));
        raw.streams[rank] = stream_make();
    }
    CHECK_CUDA(cudaSetDevice(0));
    return raw;
}

static void raw_free(const Raw *raw)
{
    for (int rank = 0; rank < 2; rank++)
        ck_assert_int_eq(ncclCommDestroy(raw->comms[rank]), ncclSuccess);
}

static ncclResult_t reduce_rank(const Raw *raw, int rank, size_t count, ncclDataType_t type, ncclRedOp_t operation)
{
    return ncclAllReduce(raw->send[rank], raw->receive[rank], count, type, operation, raw->comms[rank],
                         raw->streams[rank]);
}

START_TEST(test_sums_extremes_and_broadcasts)
{
    static const ncclRedOp_t operations[] = {ncclSum, ncclMax, ncclMin};
    Raw raw = raw_make();
    float host[COUNT];
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ncclGroupStart(), ncclSuccess);
        for (int rank = 0; rank < 2; rank++)
            ck_assert_int_eq(reduce_rank(&raw, rank, COUNT, ncclFloat32, operations[i]), ncclSuccess);
        ck_assert_int_eq(ncclGroupEnd(), ncclSuccess);
        CHECK_CUDA(cudaStreamSynchronize(raw.streams[1]));
        read_device(host, raw.receive[1], sizeof host);
        const float a = element(0, 7), b = element(1, 7);
        ck_assert(host[7] == (i == 0 ? a + b : i == 1 ? (a > b ? a : b) : (a < b ? a : b)));
    }
    ck_assert_int_eq(ncclGroupStart(), ncclSuccess);
    for (int rank = 0; rank < 2; rank++)
        ck_assert_int_eq(
            ncclBroadcast(raw.send[rank], raw.receive[rank], COUNT, ncclFloat32, 1, raw.comms[rank], raw.streams[rank]),
            ncclSuccess);
    ck_assert_int_eq(ncclGroupEnd(), ncclSuccess);
    CHECK_CUDA(cudaStreamSynchronize(raw.streams[0]));
    read_device(host, raw.receive[0], sizeof host);
    ck_assert(host[7] == element(1, 7));
    raw_free(&raw);
}
END_TEST

START_TEST(test_results_of_the_real_library)
{
    Raw raw = raw_make();
    int version = 0, count = 0, rank = 0;
    ck_assert_int_eq(ncclGetVersion(&version), ncclSuccess);
    ck_assert_int_eq(version, NCCL_VERSION_CODE);
    ck_assert_int_eq(ncclGetVersion(NULL), ncclInvalidArgument);
    ck_assert_int_eq(ncclGroupEnd(), ncclInvalidUsage);
    ck_assert_int_eq(ncclCommDestroy(NULL), ncclSuccess);
    ck_assert_int_eq(ncclCommCount(NULL, &count), ncclInvalidArgument);
    ck_assert_int_eq(ncclCommCount(raw.comms[1], &count), ncclSuccess);
    ck_assert_int_eq(ncclCommUserRank(raw.comms[1], &rank), ncclSuccess);
    ck_assert(count == 2 && rank == 1);
    ck_assert_int_eq(ncclAllReduce(NULL, NULL, 0, ncclFloat, ncclSum, NULL, NULL), ncclInvalidArgument);
    ck_assert_int_eq(ncclGroupStart(), ncclSuccess);
    ck_assert_int_eq(reduce_rank(&raw, 0, COUNT, ncclNumTypes, ncclSum), ncclInvalidArgument);
    ck_assert_int_eq(reduce_rank(&raw, 1, COUNT, ncclFloat32, ncclSum), ncclSuccess);
    ck_assert_int_eq(ncclGroupEnd(), ncclInvalidArgument); /* and nothing of the group is launched */
    raw_free(&raw);
}
END_TEST

/* --- what ends the process --- */

static void leave_a_rank_out(void *raw)
{
    reduce_rank(raw, 1, COUNT, ncclFloat32, ncclSum);
}

static void differ(const Raw *raw, size_t count, ncclDataType_t type, ncclRedOp_t operation)
{
    ncclGroupStart();
    reduce_rank(raw, 0, COUNT / 2, ncclFloat32, ncclSum);
    reduce_rank(raw, 1, count, type, operation);
    ncclGroupEnd();
}

static void differ_in_count(void *raw)
{
    differ(raw, COUNT / 2 - 1, ncclFloat32, ncclSum);
}

static void differ_in_type(void *raw)
{
    differ(raw, COUNT / 2, ncclFloat64, ncclSum);
}

static void differ_in_operation(void *raw)
{
    differ(raw, COUNT / 2, ncclFloat32, ncclAvg);
}

static void swap_streams(void *raw)
{
    ((Raw *)raw)->streams[1] = ((Raw *)raw)->streams[0];
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void swap_buffers(void *raw)
{
    ((Raw *)raw)->send[1] = ((Raw *)raw)->send[0];
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void use_host_memory(void *raw)
{
    ((Raw *)raw)->send[1] = malloc(COUNT * sizeof(float));
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void use_short_memory(void *raw)
{
    cudaSetDevice(1);
    ((Raw *)raw)->receive[1] = device_memory(NULL, COUNT);
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void overlap(void *raw)
{
    ((Raw *)raw)->receive[1] = ((Raw *)raw)->send[1] + 1;
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void use_destroyed(void *raw)
{
    ncclCommDestroy(((Raw *)raw)->comms[1]);
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
}

static void use_other_type(void *raw)
{
    reduce_rank(raw, 0, COUNT, ncclInt32, ncclSum);
}

static void use_product(void *raw)
{
    reduce_rank(raw, 0, COUNT, ncclFloat32, ncclProd);
}

static void call_something_else(void *raw)
{
    Raw *r = raw;
    ncclGroupStart();
    reduce_rank(r, 0, COUNT, ncclFloat32, ncclSum);
    ncclBroadcast(r->send[1], r->receive[1], COUNT, ncclFloat32, 0, r->comms[1], r->streams[1]);
    ncclGroupEnd();
}

static void meet_in_a_capture(void *raw)
{
    cudaStreamBeginCapture(((Raw *)raw)->streams[0], cudaStreamCaptureModeThreadLocal);
    ncclCommInitAll(((Raw *)raw)->comms, 2, NULL);
}

static void destroy_too_early(void *raw)
{
    setenv("SIM_ORDER", "late", 1);
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
    ncclCommDestroy(((Raw *)raw)->comms[0]);
}

static void destroy_in_a_group(void *raw)
{
    ncclGroupStart();
    ncclCommDestroy(((Raw *)raw)->comms[0]);
}

static void destroy_after_an_error(void *raw)
{
    ncclResult_t background;
    setenv("SIM_FAIL", "ncclCommGetAsyncError:1", 1);
    ncclCommGetAsyncError(((Raw *)raw)->comms[0], &background);
    ncclCommDestroy(((Raw *)raw)->comms[0]);
}

/* Rank 1's sums are read on a stream that doesn't wait for them. */
static void forget_event(void *raw)
{
    Raw *r = raw;
    differ(raw, COUNT / 2, ncclFloat32, ncclSum);
    cudaSetDevice(1);
    cudaMemcpyAsync(r->send[1], r->receive[1], COUNT, cudaMemcpyDeviceToDevice, stream_make());
    cudaDeviceSynchronize();
}

START_TEST(test_violations)
{
    static const Rule rules[] = {
        {leave_a_rank_out, "sim: ncclAllReduce: rank 1 of 2 makes 1 calls in the group, rank 0 0"},
        {differ_in_count, "sim: ncclAllReduce: rank 1 has 499 elements, rank 0 500"},
        {differ_in_type, "sim: ncclAllReduce: rank 1 has type 8, rank 0 type 7"},
        {differ_in_operation, "sim: ncclAllReduce: rank 1 has operation 4"},
        {swap_streams, "sim: ncclAllReduce: the stream of rank 1 is of device 0, its communicator of device 1"},
        {swap_buffers, "sim: ncclAllReduce: send buffer of rank 1"},
        {use_host_memory, "is no memory of its device 1"},
        {use_short_memory, "receive buffer of rank 1 has 1000 bytes left in its allocation, expected 2000"},
        {overlap, "sim: ncclAllReduce: send and receive buffer of rank 1 overlap"},
        {use_destroyed, "is no communicator, or one that was destroyed"},
        {use_other_type, "sim: ncclAllReduce: type 2 isn't simulated"},
        {use_product, "sim: ncclAllReduce: ncclProd isn't simulated"},
        {call_something_else, "sim: ncclAllReduce: rank 1 calls ncclBroadcast, rank 0 ncclAllReduce"},
        {meet_in_a_capture, "sim: ncclCommInitAll: a stream is being captured"},
        {destroy_too_early, "sim: ncclCommDestroy: 1 collectives haven't run: wait for their streams first"},
        {destroy_in_a_group, "sim: ncclCommDestroy: a group is open"},
        {destroy_after_an_error, "sim: ncclCommDestroy: rank 0 has failed, expected ncclCommAbort"},
        {forget_event, "ncclAllReduce"},
    };
    Raw raw = raw_make();
    check_rules(rules, sizeof rules / sizeof rules[0], &raw);
    raw_free(&raw);
}
END_TEST

SUITE_MAIN("nccl ranks", test_means_of_one_two_and_three_ranks, test_buckets_are_reduced_while_others_are_made,
           test_a_graph_of_all_ranks_is_launched_again_and_again, test_errors_leave_the_ranks_unusable,
           test_devices_are_checked, test_sums_extremes_and_broadcasts, test_results_of_the_real_library,
           test_violations)
