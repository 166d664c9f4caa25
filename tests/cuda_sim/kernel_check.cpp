#include "kernel_check.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace kernel_check
{

const std::vector<DType> real_types = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

// Of the test that runs, for messages; and of all outputs so far.
static std::string test_name, test_context;
static uint64_t digest = 14695981039346656037u;

void set_context(const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    test_context = text;
}

void fail(const char *format, ...)
{
    fprintf(stderr, "FAILED %s, %s: ", test_name.c_str(), test_context.c_str());
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    _Exit(1);
}

void expect_success(cudaError_t result, const char *call)
{
    if (result != cudaSuccess) fail("%s: %s", call, cudaGetErrorString(result));
}

// --- device memory ---

// Of no bytes: 16 that nobody may use.
Memory::Memory(size_t size, size_t offset) : offset_(size > 0 ? offset : 0), size_(size)
{
    void *allocation = nullptr;
    EXPECT_CUDA(cudaMalloc(&allocation, size > 0 ? size + offset : 16));
    allocation_ = static_cast<char *>(allocation);
}

Memory::~Memory()
{
    cudaFree(allocation_);
}

void *Memory::at() const
{
    return allocation_ + offset_;
}

size_t Memory::size() const
{
    return size_;
}

void Memory::write(const void *from)
{
    if (size_ > 0) EXPECT_CUDA(cudaMemcpy(at(), from, size_, cudaMemcpyHostToDevice));
}

void Memory::read(void *to) const
{
    if (size_ > 0) EXPECT_CUDA(cudaMemcpy(to, at(), size_, cudaMemcpyDeviceToHost));
}

size_t real_size(DType type)
{
    return type == DTYPE_F32 ? 4 : 2;
}

// Writes the number at `to` as the type has it, and returns what it has become.
static double encode(DType type, double number, char *to)
{
    if (type == DTYPE_F32) {
        const float value = static_cast<float>(number);
        memcpy(to, &value, sizeof value);
        return value;
    }
    if (type == DTYPE_BF16) {
        const __nv_bfloat16 value = __float2bfloat16(static_cast<float>(number));
        memcpy(to, &value, sizeof value);
        return __bfloat162float(value);
    }
    const __half value = __float2half(static_cast<float>(number));
    memcpy(to, &value, sizeof value);
    return __half2float(value);
}

static double decode(DType type, const char *from)
{
    if (type == DTYPE_F32) {
        float value;
        memcpy(&value, from, sizeof value);
        return value;
    }
    if (type == DTYPE_BF16) {
        __nv_bfloat16 value;
        memcpy(&value, from, sizeof value);
        return __bfloat162float(value);
    }
    __half value;
    memcpy(&value, from, sizeof value);
    return __half2float(value);
}

Reals::Reals(DType type, size_t count, size_t offset)
    : Memory(count * real_size(type), offset * real_size(type)), type_(type), count_(count)
{
}

Reals::Reals(DType type, Numbers &values, size_t offset) : Reals(type, values.size(), offset)
{
    write_numbers(values);
}

void Reals::write_numbers(Numbers &values)
{
    std::vector<char> bytes(size());
    for (size_t i = 0; i < count_; i++)
        values[i] = encode(type_, values[i], bytes.data() + i * real_size(type_));
    write(bytes.data());
}

Numbers Reals::numbers() const
{
    std::vector<char> bytes(size());
    read(bytes.data());
    Numbers result(count_);
    for (size_t i = 0; i < count_; i++)
        result[i] = decode(type_, bytes.data() + i * real_size(type_));
    return result;
}

float *Reals::f32() const
{
    return static_cast<float *>(at());
}

Scratch::Scratch() : Memory(KERNEL_SCRATCH_BYTES)
{
    EXPECT_CUDA(cudaMemset(at(), 0, 4));
}

Scratch::~Scratch()
{
    uint32_t counter = 1;
    EXPECT_CUDA(cudaMemcpy(&counter, at(), sizeof counter, cudaMemcpyDeviceToHost));
    if (counter != 0) fail("the scratch's counter is %u after its last launch, expected 0", counter);
}

// --- running ---

cudaStream_t stream()
{
    static cudaStream_t one = nullptr;
    if (!one) EXPECT_CUDA(cudaStreamCreate(&one));
    return one;
}

void add_to_digest(const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        digest = (digest ^ static_cast<const unsigned char *>(bytes)[i]) * 1099511628211u;
}

static std::vector<char> bytes_of(const std::vector<const Memory *> &outputs)
{
    std::vector<char> all;
    for (const Memory *memory : outputs) {
        std::vector<char> one(memory->size());
        memory->read(one.data());
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

void run(const std::function<cudaError_t()> &launch, const std::vector<const Memory *> &outputs)
{
    std::vector<char> first;
    for (int time = 0; time < 2; time++) {
        EXPECT_CUDA(launch());
        EXPECT_CUDA(cudaStreamSynchronize(stream()));
        const std::vector<char> bytes = bytes_of(outputs);
        if (time == 0) first = bytes;
        if (bytes != first) fail("the second run gives other bits than the first");
    }
    add_to_digest(first.data(), first.size());
}

// --- values ---

Numbers uniform(size_t count, unsigned seed)
{
    std::mt19937 random(seed);
    Numbers values(count);
    for (double &value : values)
        value = static_cast<double>(random()) / 2147483648.0 - 1;
    return values;
}

Numbers with_specials(size_t count, unsigned seed)
{
    static const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-40};
    Numbers values = uniform(count, seed);
    for (size_t i = 0; i < count; i += 5)
        values[i] = special[i / 5 % 6];
    return values;
}

std::vector<int32_t> labels(size_t count, int32_t classes, unsigned seed)
{
    std::mt19937 random(seed);
    std::vector<int32_t> values(count);
    for (int32_t &value : values)
        value = static_cast<int32_t>(random() % static_cast<unsigned>(classes + 1)) - 1;
    return values;
}

// --- the reference ---

static Tensor view_of(DType type, void *data, size_t count, size_t size, const Dims &dims)
{
    Tensor tensor = {};
    tensor.dtype = type;
    tensor.shape = shape_make(static_cast<int>(dims.size()), dims.data());
    tensor.data = data;
    tensor.size = count * size;
    if (shape_count(tensor.shape) != static_cast<int64_t>(count))
        fail("a view of %zu elements has a shape of %ld", count, static_cast<long>(shape_count(tensor.shape)));
    return tensor;
}

Tensor view(Numbers &values, const Dims &dims)
{
    return view_of(DTYPE_F64, values.data(), values.size(), sizeof(double), dims);
}

Tensor view(std::vector<int32_t> &values, const Dims &dims)
{
    return view_of(DTYPE_I32, values.data(), values.size(), sizeof(int32_t), dims);
}

Tensor view(std::vector<uint8_t> &values, const Dims &dims)
{
    return view_of(DTYPE_U8, values.data(), values.size(), sizeof(uint8_t), dims);
}

Tensor view(std::vector<int64_t> &values, const Dims &dims)
{
    return view_of(DTYPE_I64, values.data(), values.size(), sizeof(int64_t), dims);
}

void reference(OperationKind operation, const Attributes &attributes, const std::vector<Tensor> &inputs,
               std::vector<Tensor> outputs)
{
    std::vector<Value> values(inputs.size());
    for (size_t i = 0; i < inputs.size(); i++)
        values[i].id = inputs[i].dtype != DTYPE_NONE ? static_cast<int32_t>(i) : -1;
    Node node = {};
    node.operation = operation;
    node.input_count = static_cast<int>(inputs.size());
    node.output_count = static_cast<int>(outputs.size());
    node.inputs = values.data();
    node.attributes = attributes;
    LoopArguments arguments = {};
    arguments.node = &node;
    arguments.training = true;
    arguments.inputs = inputs.data();
    arguments.outputs = outputs.data();
    Error error = {};
    if (reference_loops_f64[operation](&arguments, &error) != STATUS_OK) fail("the reference: %s", error.message);
}

// --- arguments of kernels ---

KernelPool pool_of(int64_t planes, int rows, int columns, const int kernel[2], const int stride[2])
{
    KernelPool pool = {};
    pool.planes = planes;
    pool.rows = rows;
    pool.columns = columns;
    pool.out_rows = (rows - kernel[0]) / stride[0] + 1;
    pool.out_columns = (columns - kernel[1]) / stride[1] + 1;
    for (int i = 0; i < 2; i++) {
        pool.kernel[i] = kernel[i];
        pool.stride[i] = stride[i];
    }
    return pool;
}

KernelPool halving_pool(int64_t planes, int rows, int columns)
{
    const int two[2] = {2, 2};
    return pool_of(planes, rows, columns, two, two);
}

KernelDropout dropout_of(const int64_t *random, uint32_t layer, double probability)
{
    KernelDropout dropout = {};
    dropout.random = random;
    dropout.layer = layer;
    dropout.probability = probability;
    return dropout;
}

// --- agreement ---

double tolerance_of(DType type)
{
    return type == DTYPE_F32 ? 1e-6 : type == DTYPE_BF16 ? 8e-3 : 1e-3;
}

void expect_close(const char *what, double tolerance, const Numbers &got, const Numbers &wanted)
{
    if (got.size() != wanted.size()) fail("%s: %zu elements, expected %zu", what, got.size(), wanted.size());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < got.size(); i++) {
        if (std::isfinite(got[i]) && std::isfinite(wanted[i])) {
            difference += (got[i] - wanted[i]) * (got[i] - wanted[i]);
            norm += wanted[i] * wanted[i];
        } else if (!(std::isnan(got[i]) && std::isnan(wanted[i])) && got[i] != wanted[i]) {
            fail("%s: element %zu is %.9g, expected %.9g", what, i, got[i], wanted[i]);
        }
    }
    if (difference > 0 && std::sqrt(difference) > tolerance * std::sqrt(norm))
        fail("%s: relative difference %.3g, expected at most %.3g", what, std::sqrt(difference / norm), tolerance);
}

void expect_close(const char *what, DType type, const Numbers &got, const Numbers &wanted)
{
    expect_close(what, tolerance_of(type), got, wanted);
}

// --- main ---

static bool chosen(const char *name, const std::vector<std::string> &names)
{
    for (const std::string &one : names)
        if (one == name) return true;
    return names.empty();
}

// The digest of the same run with another order of threads and blocks.
static std::string digest_with_order(const char *program, const char *order, const std::vector<std::string> &names)
{
    std::string command = std::string("SIM_THREADS=") + order + " '" + program + "'";
    for (const std::string &name : names)
        command += " '" + name + "'";
    FILE *pipe = popen(command.c_str(), "r");
    if (!pipe) fail("popen: %m");
    char line[256], last[256] = "";
    while (fgets(line, sizeof line, pipe))
        memcpy(last, line, sizeof last);
    if (pclose(pipe) != 0) fail("the run with SIM_THREADS=%s failed", order);
    return last;
}

int run_tests(int argc, char **argv, const std::vector<Test> &tests)
{
    bool orders = false;
    std::vector<std::string> names;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--orders"))
            orders = true;
        else
            names.push_back(argv[i]);
    for (const Test &test : tests) {
        if (!chosen(test.name, names)) continue;
        test_name = test.name;
        set_context("at its beginning");
        test.function();
    }
    char own[256];
    snprintf(own, sizeof own, "digest %016lx\n", static_cast<unsigned long>(digest));
    fputs(own, stdout);
    if (!orders) return 0;
    test_name = "orders of threads";
    for (const char *order : {"rev", "rand:7"}) {
        set_context("%s", order);
        const std::string other = digest_with_order(argv[0], order, names);
        if (other != own) fail("'%s', expected '%s'", other.c_str(), own);
    }
    return 0;
}

} // namespace kernel_check
