/* Where plans come from: the file, heuristics, a search; each takes what the one before it lacks. */
#include "backend/cuda/algorithms.h"
#include "backend/cuda/plans_ahead.h"
#include "base/file.h"
#include "library_test.h"
#include "support/folder.h"

enum { PROBLEM = 512 };

static Error error;

typedef struct Rig {
    Folder folder;
    char file[FOLDER_PATH_SIZE];
    CudaContext cuda;
} Rig;

#define CHECK_OK(call) ck_assert_msg((call) == STATUS_OK, "%s", error.message)

static void open_ahead(Rig *rig, const char *tune)
{
    const BackendOptions options = {.plans_file = rig->file};
    setenv("NEURON_TUNE", tune, 1);
    CHECK_OK(plans_ahead_open(&options, "Simulated H100", true, &rig->cuda.ahead, &error));
}

static void reopen_ahead(Rig *rig, const char *tune)
{
    CHECK_OK(plans_ahead_save(rig->cuda.ahead, &error));
    plans_ahead_close(rig->cuda.ahead);
    open_ahead(rig, tune);
}

static Rig rig_make(const char *tune)
{
    Rig rig = {.folder = folder_make()};
    folder_path(&rig.folder, "plans.json", rig.file);
    rig.cuda.stream = stream_make();
    CHECK_OK(dnn_open(&rig.cuda.dnn, &error));
    CHECK_OK(blas_open(&rig.cuda.blas, &error));
    open_ahead(&rig, tune);
    return rig;
}

static void rig_free(Rig *rig)
{
    plans_ahead_close(rig->cuda.ahead);
    dnn_close(rig->cuda.dnn);
    blas_close(rig->cuda.blas);
    CHECK_CUDA(cudaStreamDestroy(rig->cuda.stream));
    folder_remove(&rig->folder);
}

static const DnnConvolution CONVOLUTION = {.kind = DNN_GRAD_FILTER,
                                           .type = DTYPE_F32,
                                           .n = 2,
                                           .channels = 3,
                                           .rows = 7,
                                           .columns = 6,
                                           .out = 4,
                                           .kernel = {3, 2},
                                           .stride = {1, 1},
                                           .groups = 1};
static const BlasMatmul PRODUCT = {
    .m = 8, .n = 16, .k = 12, .transpose_a = true, .type = DTYPE_F32, .epilogue = BLAS_BIAS_GRAD_A};

/* The names of the engines that are chosen now. */
static void chosen(const Rig *rig, char convolution[32], char product[32])
{
    DnnPlan *dnn = NULL;
    BlasPlan *blas = NULL;
    CHECK_OK(plan_convolution(&rig->cuda, &CONVOLUTION, &dnn, &error));
    CHECK_OK(plan_product(&rig->cuda, &PRODUCT, &blas, &error));
    snprintf(convolution, 32, "%s", dnn_plan_name(dnn));
    snprintf(product, 32, "%s", blas_plan_name(blas));
    dnn_plan_destroy(dnn);
    blas_plan_destroy(blas);
}

/* The only problem in the file that begins so. */
static void only_problem(const Rig *rig, const char *begins, char out[PROBLEM])
{
    char *text, piece[64];
    size_t size;
    CHECK_OK(file_read(rig->file, 1 << 16, &text, &size, &error));
    snprintf(piece, sizeof piece, "\"problem\": \"%s", begins);
    const char *at = strstr(text, piece);
    ck_assert_ptr_nonnull(at);
    at += strlen("\"problem\": \"");
    snprintf(out, PROBLEM, "%.*s", (int)strcspn(at, "\""), at);
    ck_assert_ptr_null(strstr(at, piece));
    free(text);
}

START_TEST(search_keeps_what_it_finds)
{
    Rig rig = rig_make("1");
    char convolution[32], product[32], again[2][32], problem[PROBLEM];
    chosen(&rig, convolution, product);
    reopen_ahead(&rig, "0");
    only_problem(&rig, "convolution filter gradient", problem);
    ck_assert_ptr_nonnull(strstr(problem, "x 2x3x7x6, w 4x3x2"));
    only_problem(&rig, "product 8x16x12", problem);
    chosen(&rig, again[0], again[1]);
    ck_assert_str_eq(again[0], convolution);
    ck_assert_str_eq(again[1], product);
    rig_free(&rig);
}
END_TEST

START_TEST(without_a_search_nothing_is_kept)
{
    Rig rig = rig_make("0");
    char names[2][32];
    chosen(&rig, names[0], names[1]);
    CHECK_OK(plans_ahead_save(rig.cuda.ahead, &error));
    ck_assert_uint_eq(folder_count(&rig.folder), 0);
    rig_free(&rig);
}
END_TEST

/* Another candidate than the heuristics' first is put into the file: it is the one that is taken. */
START_TEST(file_beats_heuristics)
{
    Rig rig = rig_make("1");
    char first[32], product[32], other[32] = "", problem[PROBLEM], names[2][32];
    Algorithms *file = NULL;
    Error damage;
    DnnPlan *plan = NULL;
    chosen(&rig, first, product);
    reopen_ahead(&rig, "0");
    chosen(&rig, first, product);
    only_problem(&rig, "convolution filter gradient", problem);
    CHECK_OK(dnn_plan_create(rig.cuda.dnn, &CONVOLUTION, CUDA_WORKSPACE_LIMIT, NULL, &plan, &error));
    for (int i = 0; i < dnn_plan_candidates(plan) && (other[0] == '\0' || strcmp(other, first) == 0); i++) {
        if (dnn_plan_choose(plan, i, &error) != STATUS_OK) continue;
        snprintf(other, sizeof other, "%s", dnn_plan_name(plan));
    }
    ck_assert_str_ne(other, first);
    char versions[96];
    snprintf(versions, sizeof versions, "cuDNN %zu, cuBLASLt %zu", cudnnGetVersion(), cublasLtGetVersion());
    CHECK_OK(algorithms_open(rig.file, "Simulated H100", versions, &file, &damage, &error));
    ck_assert_ptr_nonnull(algorithms_find(file, problem));
    CHECK_OK(algorithms_put(file, problem, dnn_plan_text(plan), &error));
    CHECK_OK(algorithms_save(file, &error));
    reopen_ahead(&rig, "1");
    chosen(&rig, names[0], names[1]);
    ck_assert_str_eq(names[0], other);
    ck_assert_str_eq(names[1], product);

    /* And one that is of another convolution counts as none. */
    CHECK_OK(algorithms_put(file, problem, "{}", &error));
    CHECK_OK(algorithms_save(file, &error));
    reopen_ahead(&rig, "0");
    chosen(&rig, names[0], names[1]);
    algorithms_close(file);
    dnn_plan_destroy(plan);
    rig_free(&rig);
}
END_TEST

START_TEST(no_memory_for_a_search_leaves_it_to_heuristics)
{
    Rig rig = rig_make("1");
    DnnPlan *plan = NULL;
    setenv("SIM_FAIL", "cudaMalloc:1", 1);
    CHECK_OK(plan_convolution(&rig.cuda, &CONVOLUTION, &plan, &error));
    unsetenv("SIM_FAIL");
    CHECK_OK(plans_ahead_save(rig.cuda.ahead, &error));
    ck_assert_uint_eq(folder_count(&rig.folder), 0);
    CHECK_CUDA(cudaGetLastError());
    dnn_plan_destroy(plan);
    rig_free(&rig);
}
END_TEST

/* What no library can plan is told as the library tells it: callers ask for less then. */
START_TEST(what_the_library_has_not_stays_unimplemented)
{
    Rig rig = rig_make("1");
    DnnPlan *plan = NULL;
    DnnConvolution c = CONVOLUTION;
    c.type = DTYPE_BF16;
    c.result = DTYPE_F32;
    ck_assert_int_eq(plan_convolution(&rig.cuda, &c, &plan, &error), STATUS_UNIMPLEMENTED);
    rig_free(&rig);
}
END_TEST

START_TEST(plans_to_be_kept_need_a_file_of_plans)
{
    Rig rig = rig_make("0");
    PlansAhead *ahead = NULL;
    const BackendOptions options = {.plans_file = rig.file, .keep_plans = true};
    folder_write(&rig.folder, "plans.json", "[]", 2);
    ck_assert_int_ne(plans_ahead_open(&options, "NVIDIA L4", false, &ahead, &error), STATUS_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "expected a file of plans"));
    unsetenv("NEURON_PLANS");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    ck_assert_int_eq(plans_ahead_open(&(BackendOptions){.keep_plans = true}, "NVIDIA L4", false, &ahead, &error),
                     STATUS_FAILED_PRECONDITION);
    CHECK_OK(plans_ahead_open(&(BackendOptions){.threads = 1}, "NVIDIA L4", false, &ahead, &error));
    plans_ahead_close(ahead);
    rig_free(&rig);
}
END_TEST

SUITE_MAIN("plans_ahead", search_keeps_what_it_finds, without_a_search_nothing_is_kept, file_beats_heuristics,
           no_memory_for_a_search_leaves_it_to_heuristics, what_the_library_has_not_stays_unimplemented,
           plans_to_be_kept_need_a_file_of_plans)
