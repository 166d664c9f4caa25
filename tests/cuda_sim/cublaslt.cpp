// A stand-in for cuBLASLt, under the real names: the calls that the cuda backend makes. What the real library answers
// by a status is answered by the same status; what it lets pass, or crashes on, is a violation (machine.h).
//
// Heuristics give up to three algorithms. The first two want their pointers aligned to 16 bytes and a workspace, which
// they fill with rubbish; the last needs nothing. All of them give the same numbers run after run, but not the same as
// each other: the first splits the sum over k. An algorithm belongs to the problem that heuristics were asked about.
#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cublaslt_descriptors.h"
#include "cublaslt_product.h"
#include "machine.h"

using namespace cublaslt;

namespace
{

// What one call asks for: shapes, types and epilogue, without the matrices' pointers.
struct Problem {
    Product product;
    const void *bias, *aux; // the descriptor's pointers, if the epilogue has any
    bool has_bias, has_aux;
    bool writes_bias, writes_aux;
};

struct Matrix {
    int64_t rows, columns, ld;
    cudaDataType type;
};

Matrix matrix_of(const char *call, const Descriptor &layout)
{
    if (layout.get<int32_t>(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL) != CUBLASLT_ORDER_COL)
        machine::violation(call, "a matrix is in CUBLASLT_ORDER_ROW, expected CUBLASLT_ORDER_COL: row-major results "
                                 "have no epilogues, and products of them aren't simulated");
    return {layout.get<int64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, 0), layout.get<int64_t>(CUBLASLT_MATRIX_LAYOUT_COLS, 0),
            layout.get<int64_t>(CUBLASLT_MATRIX_LAYOUT_LD, 0),
            static_cast<cudaDataType>(layout.get<int32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, 0))};
}

// Which types go together (the table of cublasLtMatmul for float sums).
bool types_fit(const Matrix &a, const Matrix &b, const Matrix &d, cublasComputeType_t compute)
{
    if (a.type != b.type) return false;
    if (a.type != CUDA_R_32F && compute != CUBLAS_COMPUTE_32F) return false;
    return d.type == a.type || d.type == CUDA_R_32F;
}

// --- epilogues ---

bool is_any_of(uint32_t epilogue, std::initializer_list<uint32_t> list)
{
    return std::find(list.begin(), list.end(), epilogue) != list.end();
}

void read_epilogue(const Descriptor &operation, Problem &problem)
{
    Product &product = problem.product;
    const uint32_t epilogue = operation.get<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    product.epilogue = epilogue;
    problem.writes_bias =
        is_any_of(epilogue, {CUBLASLT_EPILOGUE_DRELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB});
    problem.has_bias = problem.writes_bias || epilogue & CUBLASLT_EPILOGUE_BIAS;
    problem.has_aux = epilogue & 128; // what all epilogues with an auxiliary buffer have in common
    problem.writes_aux = problem.has_aux && epilogue & (CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_GELU);
    problem.bias = operation.get<const void *>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
    problem.aux = operation.get<const void *>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
    product.aux_ld = operation.get<int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0);
}

bool is_bit_mask(uint32_t epilogue)
{
    return epilogue & (CUBLASLT_EPILOGUE_RELU | 8); // ReLU and its gradient
}

// A type of bias or auxiliary buffer: that of the results, or left to the library.
bool type_fits(const Descriptor &operation, int attribute, cudaDataType results)
{
    const int32_t type = operation.get<int32_t>(attribute, -1);
    return type == -1 || type == results;
}

// Products that the real library has no kernel for, as far as is known (see blas.c).
bool has_kernel(const Problem &problem)
{
    const Product &p = problem.product;
    if (problem.has_aux && !problem.writes_aux) return p.k > 1;
    if (p.epilogue == CUBLASLT_EPILOGUE_BGRADA) return p.m > 1 && !p.a.transposed;
    if (p.epilogue == CUBLASLT_EPILOGUE_BGRADB) return p.n > 1 && p.b.transposed;
    return true;
}

cublasStatus_t check_epilogue(const char *call, const Descriptor &operation, const Problem &problem)
{
    const Product &p = problem.product;
    if (is_any_of(p.epilogue, {CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_DGELU_BGRAD}))
        machine::violation(call, "epilogue %u isn't simulated", p.epilogue);
    if (problem.has_bias && !type_fits(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, p.d_type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!has_kernel(problem)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!problem.has_aux) return CUBLAS_STATUS_SUCCESS;
    if (!is_bit_mask(p.epilogue) && !type_fits(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, p.d_type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!problem.aux || p.aux_ld < p.m || p.aux_ld % (is_bit_mask(p.epilogue) ? 128 : 8))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

// --- problems ---

cublasStatus_t describe(const char *call, cublasLtMatmulDesc_t operation_handle, cublasLtMatrixLayout_t a_handle,
                        cublasLtMatrixLayout_t b_handle, cublasLtMatrixLayout_t c_handle,
                        cublasLtMatrixLayout_t d_handle, Problem &problem)
{
    const Descriptor *operation = operation_of(call, operation_handle);
    const Descriptor *layouts[] = {layout_of(call, a_handle), layout_of(call, b_handle), layout_of(call, c_handle),
                                   layout_of(call, d_handle)};
    if (!operation || std::find(layouts, layouts + 4, nullptr) != layouts + 4) return CUBLAS_STATUS_INVALID_VALUE;
    const Matrix a = matrix_of(call, *layouts[0]), b = matrix_of(call, *layouts[1]), c = matrix_of(call, *layouts[2]),
                 d = matrix_of(call, *layouts[3]);
    const bool transpose_a = operation->get<int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) != CUBLAS_OP_N;
    const bool transpose_b = operation->get<int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) != CUBLAS_OP_N;
    const auto compute_type =
        static_cast<cublasComputeType_t>(operation->get<int32_t>(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, 0));
    const int64_t k = transpose_a ? a.rows : a.columns;
    if ((transpose_a ? a.columns : a.rows) != d.rows || (transpose_b ? b.rows : b.columns) != d.columns ||
        (transpose_b ? b.columns : b.rows) != k || c.rows != d.rows || c.columns != d.columns || c.type != d.type)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(a, b, d, compute_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    Product &product = problem.product;
    product.m = d.rows;
    product.n = d.columns;
    product.k = k;
    product.a = {nullptr, a.type, a.ld, transpose_a};
    product.b = {nullptr, b.type, b.ld, transpose_b};
    product.tf32 = compute_type == CUBLAS_COMPUTE_32F_FAST_TF32;
    product.d_type = d.type;
    product.ldd = d.ld;
    read_epilogue(*operation, problem);
    return check_epilogue(call, *operation, problem);
}

uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * 0x9e3779b97f4a7c15u ^ hash >> 29;
}

// Two problems that an algorithm can tell apart have different ones.
uint64_t fingerprint(const Product &p)
{
    uint64_t hash = 1;
    for (const int64_t number : {p.m, p.n, p.k, p.a.ld, p.b.ld, p.ldd, p.aux_ld})
        hash = mix(hash, static_cast<uint64_t>(number));
    for (const int number :
         {static_cast<int>(p.a.type), static_cast<int>(p.d_type), static_cast<int>(p.epilogue),
          static_cast<int>(p.tf32), static_cast<int>(p.a.transposed), static_cast<int>(p.b.transposed)})
        hash = mix(hash, static_cast<uint64_t>(number));
    return hash;
}

// --- algorithms ---

constexpr uint64_t MAGIC = 0x6d69732d746c; // "lt-sim"

struct Kind {
    int32_t id;
    uint32_t alignment; // of the matrices, and of what the epilogue points to
    int splits;
    size_t workspace_parts; // a workspace of so many results in float
};

constexpr Kind KINDS[] = {{21, 16, 2, 2}, {24, 16, 1, 1}, {0, 1, 1, 0}};

struct Algorithm { // what lies in a cublasLtMatmulAlgo_t
    uint64_t magic;
    uint64_t fingerprint;
    uint64_t workspace;
    int32_t kind; // index into KINDS
    uint32_t epilogue_alignment;
    uint64_t unused[4];
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm fills its struct");

// False for bytes that never were an algorithm of this library.
bool read_algorithm(const cublasLtMatmulAlgo_t *opaque, Algorithm &algorithm)
{
    memcpy(&algorithm, opaque, sizeof algorithm);
    return algorithm.magic == MAGIC && algorithm.kind >= 0 &&
           algorithm.kind < static_cast<int32_t>(sizeof KINDS / sizeof KINDS[0]);
}

uint32_t alignment_of(const void *pointer)
{
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    return pointer ? static_cast<uint32_t>(std::min<uintptr_t>(16, address & -address)) : 16;
}

Algorithm make_algorithm(const Problem &problem, size_t kind)
{
    const auto &p = problem.product;
    const size_t bytes = KINDS[kind].workspace_parts * static_cast<size_t>(p.m * p.n) * sizeof(float);
    Algorithm algorithm = {};
    algorithm.magic = MAGIC;
    algorithm.fingerprint = fingerprint(p);
    algorithm.workspace = (bytes + 255) / 256 * 256;
    algorithm.kind = static_cast<int32_t>(kind);
    if (KINDS[kind].alignment > 1) {
        algorithm.epilogue_alignment = 16;
        if (problem.has_bias) algorithm.epilogue_alignment = alignment_of(problem.bias);
        if (problem.has_aux)
            algorithm.epilogue_alignment = std::min(algorithm.epilogue_alignment, alignment_of(problem.aux));
    }
    return algorithm;
}

uint32_t promised_alignment(const Descriptor &preference)
{
    uint32_t least = 256;
    for (const int attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        least = std::min(least, preference.get<uint32_t>(attribute, 256));
    return least;
}

cublasLtMatmulHeuristicResult_t result_of(const Algorithm &algorithm)
{
    cublasLtMatmulHeuristicResult_t result = {};
    memcpy(&result.algo, &algorithm, sizeof result.algo);
    result.workspaceSize = algorithm.workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1;
    return result;
}

void check_handle(const char *call, cublasLtHandle_t handle)
{
    if (handle->device != machine::current_device())
        machine::violation(call, "the handle is of device %d, the current device is %d", handle->device,
                           machine::current_device());
}

// --- pointers ---

size_t span(int64_t rows, int64_t columns, int64_t ld, size_t element)
{
    return static_cast<size_t>((columns - 1) * ld + rows) * element;
}

void check_pointer(const char *call, const char *name, const void *pointer, int device, uint32_t alignment)
{
    const int where = machine::device_of(pointer);
    if (where < 0) machine::violation(call, "%s (%p) is no device memory", name, pointer);
    if (where != device)
        machine::violation(call, "%s (%p) is memory of device %d, the handle is of device %d", name, pointer, where,
                           device);
    if (reinterpret_cast<uintptr_t>(pointer) % alignment)
        machine::violation(call, "%s (%p) isn't aligned to the %u bytes that heuristics were promised", name, pointer,
                           alignment);
}

struct NamedAccess {
    const char *name;
    machine::Access access;
};

void check_overlaps(const char *call, const std::vector<NamedAccess> &accesses)
{
    for (const NamedAccess &written : accesses) {
        if (!written.access.write) continue;
        const auto from = reinterpret_cast<uintptr_t>(written.access.begin), to = from + written.access.bytes;
        for (const NamedAccess &other : accesses) {
            const auto begin = reinterpret_cast<uintptr_t>(other.access.begin), end = begin + other.access.bytes;
            if (&other != &written && begin < to && from < end)
                machine::violation(call, "%s overlaps %s, which the product writes", other.name, written.name);
        }
    }
}

// Everything that the product touches, each pointer checked.
std::vector<NamedAccess> accesses_of(const char *call, int device, const Algorithm &algorithm, const Problem &problem,
                                     void *workspace, size_t workspace_bytes)
{
    const Product &p = problem.product;
    const uint32_t alignment = std::max<uint32_t>(KINDS[algorithm.kind].alignment, 2);
    const size_t in = bytes_of(p.a.type), out = bytes_of(p.d_type);
    check_pointer(call, "A", p.a.data, device, alignment);
    check_pointer(call, "B", p.b.data, device, alignment);
    check_pointer(call, "D", p.d, device, alignment);
    std::vector<NamedAccess> list = {
        {"A", {p.a.data, span(p.a.transposed ? p.k : p.m, p.a.transposed ? p.m : p.k, p.a.ld, in), false}},
        {"B", {p.b.data, span(p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n, p.b.ld, in), false}},
        {"D", {p.d, span(p.m, p.n, p.ldd, out), true}},
    };
    const uint32_t epilogue_alignment = std::max<uint32_t>(algorithm.epilogue_alignment, 1);
    if (problem.has_bias) {
        check_pointer(call, "the bias", problem.bias, device, epilogue_alignment);
        const int64_t count = p.epilogue == CUBLASLT_EPILOGUE_BGRADB ? p.n : p.m;
        list.push_back({"the bias", {problem.bias, static_cast<size_t>(count) * out, problem.writes_bias}});
    }
    if (problem.has_aux) {
        check_pointer(call, "the auxiliary buffer", problem.aux, device, epilogue_alignment);
        const size_t bytes =
            is_bit_mask(p.epilogue) ? static_cast<size_t>(p.n * p.aux_ld / 8) : span(p.m, p.n, p.aux_ld, out);
        list.push_back({"the auxiliary buffer", {problem.aux, bytes, problem.writes_aux}});
    }
    if (workspace_bytes) {
        check_pointer(call, "the workspace", workspace, device, 256);
        list.push_back({"the workspace", {workspace, workspace_bytes, true}});
    }
    return list;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    if (machine::fails(__func__)) return CUBLAS_STATUS_ALLOC_FAILED;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    if (machine::current_device() < 0) return CUBLAS_STATUS_NOT_INITIALIZED;
    *out = handles.add(new cublasLtContext{machine::current_device()});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (!handles.has(__func__, handle)) return CUBLAS_STATUS_INVALID_VALUE;
    handles.remove(handle);
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "unrecognized status";
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference_handle, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    const char *call = __func__;
    if (machine::fails(call)) return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!handles.has(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    check_handle(call, handle);
    const Descriptor *preference = preference_of(call, preference_handle);
    if (!preference || wanted <= 0 || !results || !count) return CUBLAS_STATUS_INVALID_VALUE;
    *count = 0;
    Problem problem = {};
    const cublasStatus_t status = describe(call, operation, a, b, c, d, problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const auto limit = preference->get<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 0);
    for (size_t kind = 0; kind < sizeof KINDS / sizeof KINDS[0] && *count < wanted; kind++) {
        const Algorithm algorithm = make_algorithm(problem, kind);
        if (algorithm.workspace <= limit && KINDS[kind].alignment <= promised_alignment(*preference))
            results[(*count)++] = result_of(algorithm);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *opaque,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    const char *call = __func__;
    if (machine::fails(call)) return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!handles.has(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    check_handle(call, handle);
    if (!opaque || !result) return CUBLAS_STATUS_INVALID_VALUE;
    Problem problem = {};
    const cublasStatus_t status = describe(call, operation, a, b, c, d, problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    Algorithm algorithm;
    if (!read_algorithm(opaque, algorithm) || algorithm.fingerprint != fingerprint(problem.product))
        return CUBLAS_STATUS_INVALID_VALUE;
    const cublasLtMatmulAlgo_t untouched = result->algo;
    *result = result_of(algorithm);
    result->algo = untouched;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *opaque,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t size, size_t *written)
{
    Algorithm algorithm;
    if (machine::fails(__func__)) return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!opaque || !value || size != sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!read_algorithm(opaque, algorithm)) machine::violation(__func__, "%p holds no algorithm", (const void *)opaque);
    if (attribute != CUBLASLT_ALGO_CONFIG_ID)
        machine::violation(__func__, "attribute %d of an algorithm isn't simulated", static_cast<int>(attribute));
    memcpy(value, &KINDS[algorithm.kind].id, size);
    if (written) *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *opaque, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    const char *call = __func__;
    if (machine::fails(call)) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!handles.has(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    check_handle(call, handle);
    if (machine::device_of_stream(stream) != handle->device)
        machine::violation(call, "the stream is of device %d, the handle of device %d",
                           machine::device_of_stream(stream), handle->device);
    if (!alpha || !beta || !A || !B || !C || !D) return CUBLAS_STATUS_INVALID_VALUE;
    if (machine::device_of(alpha) >= 0 || machine::device_of(beta) >= 0)
        machine::violation(call, "alpha or beta is in device memory, and the pointer mode is host");
    Problem problem = {};
    Product &product = problem.product;
    const cublasStatus_t status = describe(call, operation, a, b, c, d, problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (*static_cast<const float *>(beta) != 0) machine::violation(call, "beta isn't 0, which isn't simulated");
    if (!opaque) machine::violation(call, "no algorithm is given: heuristics would run at every call");
    Algorithm algorithm;
    if (!read_algorithm(opaque, algorithm) || algorithm.fingerprint != fingerprint(product))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < algorithm.workspace || (algorithm.workspace && !workspace))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (problem.has_bias && !problem.bias)
        machine::violation(call, "epilogue %u wants a pointer to a bias, which is NULL", product.epilogue);
    product.alpha = *static_cast<const float *>(alpha);
    product.splits = KINDS[algorithm.kind].splits;
    product.a.data = A;
    product.b.data = B;
    product.d = D;
    product.bias = const_cast<void *>(problem.bias);
    product.aux = const_cast<void *>(problem.aux);
    const auto named = accesses_of(call, handle->device, algorithm, problem, workspace, workspace_bytes);
    check_overlaps(call, named);
    std::vector<machine::Access> accesses;
    for (const NamedAccess &each : named)
        accesses.push_back(each.access);
    const Product work = product;
    const cudaError_t result = machine::enqueue(stream, call, std::move(accesses), [=] {
        if (workspace_bytes) memset(workspace, 0xa5, workspace_bytes);
        compute(work);
    });
    return result == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
