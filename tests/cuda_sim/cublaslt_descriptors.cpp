// Descriptors of the cuBLASLt stand-in. Attributes and their sizes, and what is answered to a wrong one, are those of
// the real library (tests/cuda_real/test_cublaslt.c holds it to them).
#include "cublaslt_descriptors.h"

#include "cublaslt_attributes.h"

namespace cublaslt
{

Living<cublasLtContext> handles("handle of cuBLASLt");

namespace
{

Living<Descriptor> operations("descriptor of a product"), layouts("layout of a matrix"), preferences("preference");

// Of an attribute's value; 0: there is no such attribute.
template <size_t N> size_t size_of(const CublasLtAttribute (&attributes)[N], int attribute)
{
    for (const CublasLtAttribute &known : attributes)
        if (known.attribute == attribute) return known.size;
    return 0;
}

// --- values that the real library stores without a word ---

void expect(const char *call, bool valid, const char *name, long long value, const char *expected)
{
    if (!valid) machine::violation(call, "%s is %lld, expected %s", name, value, expected);
}

bool is_epilogue(uint32_t value)
{
    static const std::set<uint32_t> known = {
        CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_RELU,        CUBLASLT_EPILOGUE_RELU_AUX,
        CUBLASLT_EPILOGUE_BIAS,     CUBLASLT_EPILOGUE_RELU_BIAS,   CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
        CUBLASLT_EPILOGUE_DRELU,    CUBLASLT_EPILOGUE_DRELU_BGRAD, CUBLASLT_EPILOGUE_GELU,
        CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_BIAS,   CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,
        CUBLASLT_EPILOGUE_BGRADB,
    };
    return known.count(value) != 0;
}

bool is_compute(long long value)
{
    return value == CUBLAS_COMPUTE_32F || value == CUBLAS_COMPUTE_32F_FAST_TF32;
}

bool is_data(long long value)
{
    return value == CUDA_R_32F || value == CUDA_R_16F || value == CUDA_R_16BF;
}

void check_operation(const char *call, const Descriptor &operation, int attribute)
{
    const int32_t value = operation.get<int32_t>(attribute, 0);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return expect(call, is_compute(value), "compute type", value, "32F or 32F_FAST_TF32 (no other is simulated)");
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return expect(call, value == CUDA_R_32F, "scale type", value, "CUDA_R_32F, as the compute type has it");
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return expect(call, value == CUBLASLT_POINTER_MODE_HOST, "pointer mode", value,
                      "CUBLASLT_POINTER_MODE_HOST (no other is simulated)");
    case CUBLASLT_MATMUL_DESC_TRANSA:
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return expect(call, value == CUBLAS_OP_N || value == CUBLAS_OP_T, "transposition", value,
                      "CUBLAS_OP_N or CUBLAS_OP_T");
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return expect(call, is_epilogue(static_cast<uint32_t>(value)), "epilogue", value, "one of cublasLtEpilogue_t");
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return expect(call, value == -1 || is_data(value), "data type", value, "CUDA_R_32F, CUDA_R_16F or CUDA_R_16BF");
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: // known once the product is: checked there
        return;
    default:
        expect(call, operation.get<uint64_t>(attribute, 0) == 0, "attribute", attribute,
               "one that is simulated, or the value 0");
    }
}

void check_layout(const char *call, const Descriptor &layout, int attribute)
{
    const long long value = layout.get<int64_t>(attribute, 0);
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return expect(call, is_data(value), "data type", value, "CUDA_R_32F, CUDA_R_16F or CUDA_R_16BF");
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return expect(call, value == CUBLASLT_ORDER_COL || value == CUBLASLT_ORDER_ROW, "order", value,
                      "CUBLASLT_ORDER_COL or CUBLASLT_ORDER_ROW");
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return expect(call, value >= 1 && value <= INT32_MAX, "dimension", value, "1 to 2147483647");
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return expect(call, value >= layout.get<int64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, 0), "leading dimension", value,
                      "at least the number of rows");
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return expect(call, value == 1, "batch count", value, "1 (no other is simulated)");
    default:
        expect(call, value == 0, "attribute", attribute, "one that is simulated, or the value 0");
    }
}

void check_preference(const char *call, const Descriptor &preference, int attribute)
{
    const uint32_t value = preference.get<uint32_t>(attribute, 0);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return expect(call, value && !(value & (value - 1)), "alignment", value, "a power of two");
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return;
    default:
        machine::violation(call, "attribute %d of a preference isn't simulated", attribute);
    }
}

// --- one way to set and get for all three ---

using Check = void(const char *call, const Descriptor &descriptor, int attribute);

template <typename Handle> Descriptor *descriptor_of(Handle handle)
{
    return reinterpret_cast<Descriptor *>(handle);
}

cublasStatus_t set_attribute(const char *call, Living<Descriptor> &living, void *handle, int attribute,
                             const void *value, size_t size, size_t expected, Check *check)
{
    if (machine::fails(call)) return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!living.has(call, handle) || !value || !expected || size != expected) return CUBLAS_STATUS_INVALID_VALUE;
    Descriptor *descriptor = descriptor_of(handle);
    uint64_t bits = 0;
    memcpy(&bits, value, size);
    descriptor->values[attribute] = bits;
    check(call, *descriptor, attribute);
    return CUBLAS_STATUS_SUCCESS;
}

template <typename Handle> cublasStatus_t destroy(const char *call, Living<Descriptor> &living, Handle handle)
{
    if (!living.has(call, handle)) return CUBLAS_STATUS_SUCCESS; // NULL is fine
    living.remove(handle);
    delete descriptor_of(handle);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

const Descriptor *operation_of(const char *call, cublasLtMatmulDesc_t descriptor)
{
    return operations.has(call, descriptor) ? descriptor_of(descriptor) : nullptr;
}

const Descriptor *layout_of(const char *call, cublasLtMatrixLayout_t descriptor)
{
    return layouts.has(call, descriptor) ? descriptor_of(descriptor) : nullptr;
}

const Descriptor *preference_of(const char *call, cublasLtMatmulPreference_t descriptor)
{
    return preferences.has(call, descriptor) ? descriptor_of(descriptor) : nullptr;
}

} // namespace cublaslt

using namespace cublaslt;

extern "C" {

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    const char *call = __func__;
    if (machine::fails(call)) return CUBLAS_STATUS_ALLOC_FAILED;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    Descriptor *descriptor = operations.add(new Descriptor);
    descriptor->set<int32_t>(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, compute);
    descriptor->set<int32_t>(CUBLASLT_MATMUL_DESC_SCALE_TYPE, scale);
    check_operation(call, *descriptor, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE);
    check_operation(call, *descriptor, CUBLASLT_MATMUL_DESC_SCALE_TYPE);
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(descriptor);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size)
{
    return set_attribute(__func__, operations, descriptor, attribute, value, size,
                         size_of(CUBLASLT_OPERATION_ATTRIBUTES, attribute), check_operation);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor)
{
    return destroy(__func__, operations, descriptor);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    const char *call = __func__;
    if (machine::fails(call)) return CUBLAS_STATUS_ALLOC_FAILED;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    Descriptor *descriptor = layouts.add(new Descriptor);
    descriptor->set<int32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE, type);
    descriptor->set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS, rows);
    descriptor->set<uint64_t>(CUBLASLT_MATRIX_LAYOUT_COLS, cols);
    descriptor->set<int64_t>(CUBLASLT_MATRIX_LAYOUT_LD, ld);
    for (const int attribute : {CUBLASLT_MATRIX_LAYOUT_TYPE, CUBLASLT_MATRIX_LAYOUT_ROWS, CUBLASLT_MATRIX_LAYOUT_COLS,
                                CUBLASLT_MATRIX_LAYOUT_LD})
        check_layout(call, *descriptor, attribute);
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(descriptor);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t descriptor,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t size)
{
    return set_attribute(__func__, layouts, descriptor, attribute, value, size,
                         size_of(CUBLASLT_LAYOUT_ATTRIBUTES, attribute), check_layout);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t descriptor)
{
    return destroy(__func__, layouts, descriptor);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    if (machine::fails(__func__)) return CUBLAS_STATUS_ALLOC_FAILED;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(preferences.add(new Descriptor));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t descriptor,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t size)
{
    return set_attribute(__func__, preferences, descriptor, attribute, value, size,
                         size_of(CUBLASLT_PREFERENCE_ATTRIBUTES, attribute), check_preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t descriptor)
{
    return destroy(__func__, preferences, descriptor);
}

} // extern "C"
