#include "backend/cuda/plans_ahead.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/algorithms.h"
#include "backend/cuda/dnn_internal.h"
#include "base/size.h"

/* A search times each of the first CANDIDATES as the best of ROUNDS times RUNS runs, after one that isn't timed. */
enum { CANDIDATES = 8, ROUNDS = 2, RUNS = 5, PROBLEM_SIZE = 384 };

struct PlansAhead {
    Algorithms *algorithms; /* NULL: there is no place for a file */
    bool keeps;             /* everything goes into the file, and saving must succeed */
    bool searches;
};

/* --- the file --- */

static bool usual_path(char out[PATH_MAX])
{
    const char *given = getenv("NEURON_PLANS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (given != NULL && *given != '\0')
        length = snprintf(out, PATH_MAX, "%s", given);
    else if (cache != NULL && *cache == '/')
        length = snprintf(out, PATH_MAX, "%s/neuron/plans.json", cache);
    else if (home != NULL && *home != '\0')
        length = snprintf(out, PATH_MAX, "%s/.cache/neuron/plans.json", home);
    return length > 0 && length < PATH_MAX;
}

static bool wants_search(const char *device)
{
    const char *tune = getenv("NEURON_TUNE");
    if (tune != NULL && *tune != '\0') return strcmp(tune, "0") != 0;
    return strncmp(device, "Simulated", strlen("Simulated")) != 0;
}

static Status open_file(PlansAhead *ahead, const char *path, const char *device, Error *error)
{
    char versions[96];
    Error damage = {.status = STATUS_OK};
    snprintf(versions, sizeof versions, "cuDNN %zu, cuBLASLt %zu", cudnnGetVersion(), cublasLtGetVersion());
    RETURN_IF_ERROR(algorithms_open(path, device, versions, &ahead->algorithms, &damage, error));
    return ahead->keeps && damage.status != STATUS_OK
               ? error_set(error, damage.status, "%s, expected a file of plans", damage.message)
               : STATUS_OK;
}

Status plans_ahead_open(const BackendOptions *options, const char *device, bool searches, PlansAhead **out,
                        Error *error)
{
    char usual[PATH_MAX];
    const char *file = options->plans_file;
    PlansAhead *ahead = calloc(1, sizeof *ahead);
    if (ahead == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for plans made ahead");
    ahead->keeps = options->keep_plans;
    ahead->searches = searches && wants_search(device);
    if (file == NULL && usual_path(usual)) file = usual;
    Status status = STATUS_OK;
    if (file != NULL)
        status = open_file(ahead, file, device, error);
    else if (ahead->keeps)
        status = error_set(error, STATUS_FAILED_PRECONDITION,
                           "no place for plans: NEURON_PLANS, XDG_CACHE_HOME and HOME are all unset");
    if (status == STATUS_OK)
        *out = ahead;
    else
        plans_ahead_close(ahead);
    return status;
}

void plans_ahead_close(PlansAhead *ahead)
{
    if (ahead == NULL) return;
    algorithms_close(ahead->algorithms);
    free(ahead);
}

Status plans_ahead_save(PlansAhead *ahead, Error *error)
{
    if (ahead->algorithms == NULL) return STATUS_OK;
    const Status status = algorithms_save(ahead->algorithms, ahead->keeps ? error : NULL);
    return ahead->keeps ? status : STATUS_OK;
}

static const char *find(const PlansAhead *ahead, const char *problem)
{
    return ahead->algorithms != NULL ? algorithms_find(ahead->algorithms, problem) : NULL;
}

static Status keep(PlansAhead *ahead, const char *problem, const char *text, Error *error)
{
    if (ahead->algorithms == NULL || text == NULL || (!ahead->keeps && !ahead->searches)) return STATUS_OK;
    return algorithms_put(ahead->algorithms, problem, text, error);
}

/* --- the search --- */

/* A plan with candidates, of a convolution or of a product, and memory to run it on. */
typedef struct Contest {
    const CudaContext *cuda;
    DnnPlan *convolution;
    BlasPlan *product;
    size_t bytes[5]; /* of a, b, bias, mask, result; 0: there is none */
    unsigned char *memory, *parts[5], *workspace;
    cudaEvent_t begin, end;
} Contest;

enum { PART_A, PART_B, PART_BIAS, PART_MASK, PART_RESULT, PARTS };

static Status choose(const Contest *contest, int candidate, Error *error)
{
    return contest->convolution != NULL ? dnn_plan_choose(contest->convolution, candidate, error)
                                        : blas_plan_choose(contest->product, candidate, error);
}

static Status run(const Contest *contest, Error *error)
{
    unsigned char *const *part = contest->parts;
    const cudaStream_t stream = contest->cuda->stream;
    return contest->convolution != NULL
               ? dnn_plan_run(contest->convolution, stream, part[PART_A], part[PART_B], part[PART_BIAS],
                              part[PART_RESULT], contest->workspace, error)
               : blas_plan_run(contest->product, stream, part[PART_A], part[PART_B], part[PART_RESULT], part[PART_BIAS],
                               part[PART_MASK], contest->workspace, error);
}

/* Zeros everywhere: how long a dense product takes doesn't depend on its numbers. */
static Status enter(Contest *contest, Error *error)
{
    size_t bytes = 0, offset = 0;
    for (int i = 0; i < PARTS; i++)
        bytes += size_align(contest->bytes[i], CUDA_ALIGNMENT);
    RETURN_IF_CUDA(cudaMalloc((void **)&contest->memory, bytes + CUDA_WORKSPACE_LIMIT), error);
    for (int i = 0; i < PARTS; i++) {
        contest->parts[i] = contest->bytes[i] > 0 ? contest->memory + offset : NULL;
        offset += size_align(contest->bytes[i], CUDA_ALIGNMENT);
    }
    contest->workspace = contest->memory + bytes;
    RETURN_IF_CUDA(cudaMemsetAsync(contest->memory, 0, bytes + CUDA_WORKSPACE_LIMIT, contest->cuda->stream), error);
    RETURN_IF_CUDA(cudaEventCreateWithFlags(&contest->begin, cudaEventDefault), error);
    RETURN_IF_CUDA(cudaEventCreateWithFlags(&contest->end, cudaEventDefault), error);
    return STATUS_OK;
}

static void leave(Contest *contest)
{
    cudaStreamSynchronize(contest->cuda->stream);
    if (contest->begin != NULL) cudaEventDestroy(contest->begin);
    if (contest->end != NULL) cudaEventDestroy(contest->end);
    if (contest->memory != NULL) cudaFree(contest->memory);
}

static Status time_runs(const Contest *contest, float *best, Error *error)
{
    const cudaStream_t stream = contest->cuda->stream;
    RETURN_IF_ERROR(run(contest, error));
    for (int round = 0; round < ROUNDS; round++) {
        float milliseconds = 0;
        RETURN_IF_CUDA(cudaEventRecord(contest->begin, stream), error);
        for (int i = 0; i < RUNS; i++)
            RETURN_IF_ERROR(run(contest, error));
        RETURN_IF_CUDA(cudaEventRecord(contest->end, stream), error);
        RETURN_IF_CUDA(cudaEventSynchronize(contest->end), error);
        RETURN_IF_CUDA(cudaEventElapsedTime(&milliseconds, contest->begin, contest->end), error);
        if (round == 0 || milliseconds < *best) *best = milliseconds;
    }
    return STATUS_OK;
}

/* Leaves the fastest chosen. A candidate that can't be made or run drops out; a device that fails ends the search. */
static Status race(const Contest *contest, int count, Error *error)
{
    int winner = 0;
    float least = 0;
    bool any = false;
    for (int i = 0; i < count && i < CANDIDATES; i++) {
        Error why = {.status = STATUS_OK};
        float time = 0;
        Status status = choose(contest, i, &why);
        if (status == STATUS_OK) status = time_runs(contest, &time, &why);
        if (status == STATUS_DATA_LOSS) return error_set(error, status, "%s", why.message);
        if (status != STATUS_OK || (any && time >= least)) continue;
        winner = i;
        least = time;
        any = true;
    }
    return choose(contest, winner, error);
}

static int candidates(const Contest *contest)
{
    return contest->convolution != NULL ? dnn_plan_candidates(contest->convolution)
                                        : blas_plan_candidates(contest->product);
}

static const char *text(const Contest *contest)
{
    return contest->convolution != NULL ? dnn_plan_text(contest->convolution) : blas_plan_text(contest->product);
}

/* *searched is false where there is no memory for a search: the heuristics' first stays. */
static Status search(Contest *contest, bool *searched, Error *error)
{
    Error why = {.status = STATUS_OK};
    *searched = false;
    Status status = enter(contest, &why);
    if (status == STATUS_OK) {
        status = race(contest, candidates(contest), error);
        *searched = status == STATUS_OK;
    } else if (status == STATUS_RESOURCE_EXHAUSTED) {
        cudaGetLastError(); /* so that nobody finds this failure later */
        status = STATUS_OK;
    } else {
        error_set(error, status, "%s", why.message);
    }
    leave(contest);
    return status;
}

/* Searches where that is wanted, and keeps what was found. */
static Status settle(Contest *contest, const char *problem, Error *error)
{
    PlansAhead *ahead = contest->cuda->ahead;
    bool chosen = ahead->keeps;
    if (ahead->searches) RETURN_IF_ERROR(search(contest, &chosen, error));
    return chosen ? keep(ahead, problem, text(contest), error) : STATUS_OK;
}

/* --- convolutions --- */

static void describe_convolution(const DnnConvolution *c, char problem[PROBLEM_SIZE])
{
    static const char *const kinds[] = {
        [DNN_FORWARD] = "forward", [DNN_GRAD_INPUT] = "input gradient", [DNN_GRAD_FILTER] = "filter gradient"};
    snprintf(problem, PROBLEM_SIZE,
             "convolution %s, %s%s to %s, %s, x %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", w %" PRId64 "x%" PRId64
             "x%" PRId64 ", stride %" PRId64 "x%" PRId64 ", padding %" PRId64 "x%" PRId64 ", groups %" PRId64
             "%s%s, workspace %d",
             kinds[c->kind], dtype_name(c->type), c->tf32 ? " as tf32" : "",
             dtype_name(c->result != DTYPE_NONE ? c->result : c->type), c->channels_last ? "nhwc" : "nchw", c->n,
             c->channels, c->rows, c->columns, c->out, c->kernel[0], c->kernel[1], c->stride[0], c->stride[1],
             c->padding[0], c->padding[1], c->groups, c->bias ? ", bias" : "", c->relu ? ", relu" : "",
             CUDA_WORKSPACE_LIMIT);
}

static size_t tensor_bytes(const DnnTensor *tensor)
{
    size_t bytes = dtype_size(tensor->type);
    for (int i = 0; i < 4; i++)
        bytes *= (size_t)tensor->dims[i];
    return bytes;
}

static Contest convolution_contest(const CudaContext *cuda, const DnnConvolution *convolution, DnnPlan *plan)
{
    static const int order[][3] = {/* a, b, result */
                                   [DNN_FORWARD] = {DNN_UID_X, DNN_UID_W, DNN_UID_Y},
                                   [DNN_GRAD_INPUT] = {DNN_UID_Y, DNN_UID_W, DNN_UID_X},
                                   [DNN_GRAD_FILTER] = {DNN_UID_Y, DNN_UID_X, DNN_UID_W}};
    DnnTensor tensors[DNN_UID_COUNT];
    Contest contest = {.cuda = cuda, .convolution = plan};
    dnn_tensors(convolution, tensors);
    contest.bytes[PART_A] = tensor_bytes(&tensors[order[convolution->kind][0]]);
    contest.bytes[PART_B] = tensor_bytes(&tensors[order[convolution->kind][1]]);
    contest.bytes[PART_RESULT] = tensor_bytes(&tensors[order[convolution->kind][2]]);
    if (convolution->bias) contest.bytes[PART_BIAS] = (size_t)convolution->out * sizeof(float);
    return contest;
}

Status plan_convolution(const CudaContext *cuda, const DnnConvolution *convolution, DnnPlan **out, Error *error)
{
    char problem[PROBLEM_SIZE];
    DnnPlan *plan = NULL;
    describe_convolution(convolution, problem);
    const char *known = find(cuda->ahead, problem);
    if (known != NULL && dnn_plan_create(cuda->dnn, convolution, CUDA_WORKSPACE_LIMIT, known, out, NULL) == STATUS_OK)
        return STATUS_OK;
    RETURN_IF_ERROR(dnn_plan_create(cuda->dnn, convolution, CUDA_WORKSPACE_LIMIT, NULL, &plan, error));
    Contest contest = convolution_contest(cuda, convolution, plan);
    const Status status = settle(&contest, problem, error);
    if (status == STATUS_OK)
        *out = plan;
    else
        dnn_plan_destroy(plan);
    return status;
}

/* --- products --- */

static void describe_product(const BlasMatmul *m, char problem[PROBLEM_SIZE])
{
    static const char *const epilogues[] = {[BLAS_PLAIN] = "plain",
                                            [BLAS_BIAS] = "bias",
                                            [BLAS_RELU_BIAS] = "bias, relu",
                                            [BLAS_RELU_BIAS_MASK] = "bias, relu, mask",
                                            [BLAS_GELU_BIAS] = "bias, gelu",
                                            [BLAS_GELU_BIAS_MASK] = "bias, gelu, mask",
                                            [BLAS_RELU_GRAD] = "relu gradient",
                                            [BLAS_RELU_GRAD_BIAS] = "relu gradient, bias gradient",
                                            [BLAS_GELU_GRAD] = "gelu gradient",
                                            [BLAS_BIAS_GRAD_A] = "bias gradient of a"};
    snprintf(problem, PROBLEM_SIZE,
             "product %" PRId64 "x%" PRId64 "x%" PRId64 ", %s%s to %s, a %s %" PRId64 ", b %s %" PRId64 ", c %" PRId64
             ", %s, workspace %d",
             m->m, m->n, m->k, dtype_name(m->type), m->tf32 ? " as tf32" : "",
             dtype_name(m->result != DTYPE_NONE ? m->result : m->type), m->transpose_a ? "transposed" : "plain", m->lda,
             m->transpose_b ? "transposed" : "plain", m->ldb, m->ldc, epilogues[m->epilogue], CUDA_WORKSPACE_LIMIT);
}

/* Of a matrix in memory: the last row counts whole. */
static size_t matrix_bytes(int64_t rows, int64_t columns, int64_t stride, DType type)
{
    return (size_t)rows * (size_t)(stride > 0 ? stride : columns) * dtype_size(type);
}

static Contest product_contest(const CudaContext *cuda, const BlasMatmul *m, BlasPlan *plan)
{
    const DType result = m->result != DTYPE_NONE ? m->result : m->type;
    Contest contest = {.cuda = cuda, .product = plan};
    contest.bytes[PART_A] =
        m->transpose_a ? matrix_bytes(m->k, m->m, m->lda, m->type) : matrix_bytes(m->m, m->k, m->lda, m->type);
    contest.bytes[PART_B] =
        m->transpose_b ? matrix_bytes(m->n, m->k, m->ldb, m->type) : matrix_bytes(m->k, m->n, m->ldb, m->type);
    contest.bytes[PART_RESULT] = matrix_bytes(m->m, m->n, m->ldc, result);
    contest.bytes[PART_BIAS] = (size_t)(m->m > m->n ? m->m : m->n) * sizeof(float);
    contest.bytes[PART_MASK] = blas_mask_bytes(m);
    return contest;
}

Status plan_product(const CudaContext *cuda, const BlasMatmul *matmul, BlasPlan **out, Error *error)
{
    char problem[PROBLEM_SIZE];
    BlasPlan *plan = NULL;
    describe_product(matmul, problem);
    const char *known = find(cuda->ahead, problem);
    if (known != NULL && blas_plan_create(cuda->blas, matmul, CUDA_WORKSPACE_LIMIT, known, out, NULL) == STATUS_OK)
        return STATUS_OK;
    RETURN_IF_ERROR(blas_plan_create(cuda->blas, matmul, CUDA_WORKSPACE_LIMIT, NULL, &plan, error));
    Contest contest = product_contest(cuda, matmul, plan);
    const Status status = settle(&contest, problem, error);
    if (status == STATUS_OK)
        *out = plan;
    else
        blas_plan_destroy(plan);
    return status;
}
