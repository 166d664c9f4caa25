// What the tests of kernels share: device memory of exact size, values that both sides see alike, the reference
// backend's loops in double to compare with, and a main that runs named tests.
//
// Only the CUDA runtime's names are used, so the same tests run on a device. Every output goes into a digest: with
// --orders the program runs again with other orders of threads and blocks (SIM_THREADS), and the digests must agree.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

extern "C" {
#include "backend/reference/loops.h"
}

#include "kernels/kernels.h"

namespace kernel_check
{

using Numbers = std::vector<double>;
using Dims = std::vector<int64_t>;

// Ends the test: "FAILED test, context: sentence", exit status 1.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// What the next failures are about: "bf16, 257 elements".
void set_context(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) kernel_check::fail("%s:%d: expected %s", __FILE__, __LINE__, #condition);                    \
    } while (0)
#define EXPECT_CUDA(call) kernel_check::expect_success((call), #call)
void expect_success(cudaError_t result, const char *call);

// --- device memory ---

// `size` bytes that begin `offset` bytes into an allocation that ends with them.
class Memory
{
  public:
    explicit Memory(size_t size, size_t offset = 0);
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory();
    void *at() const;
    size_t size() const;
    void write(const void *from);
    void read(void *to) const;

  private:
    char *allocation_ = nullptr;
    size_t offset_, size_;
};

// Real numbers of a type. What is written is rounded to the type in the caller's vector too.
class Reals : public Memory
{
  public:
    Reals(DType type, size_t count, size_t offset = 0); // in elements; unset
    Reals(DType type, Numbers &values, size_t offset = 0);
    Numbers numbers() const;
    void write_numbers(Numbers &values);
    float *f32() const;

  private:
    DType type_;
    size_t count_;
};

template <class T> class Array : public Memory
{
  public:
    explicit Array(size_t count) : Memory(count * sizeof(T))
    {
    }
    explicit Array(const std::vector<T> &values) : Memory(values.size() * sizeof(T))
    {
        if (!values.empty()) write(values.data());
    }
    T *get() const
    {
        return static_cast<T *>(at());
    }
    std::vector<T> values() const
    {
        std::vector<T> result(size() / sizeof(T));
        if (!result.empty()) read(result.data());
        return result;
    }
};

// Scratch of a reduction, as it is before the first launch; the destructor expects its counter to be 0 again.
class Scratch : public Memory
{
  public:
    Scratch();
    ~Scratch();
};

// --- running ---

cudaStream_t stream();
// Launches, waits, and launches again: the same bits must be in `outputs`. They go into the digest.
void run(const std::function<cudaError_t()> &launch, const std::vector<const Memory *> &outputs);
void add_to_digest(const void *bytes, size_t size);

struct Test {
    const char *name;
    void (*function)();
};
// Runs the tests whose names are given (all of them), then, with --orders, once more for each other order.
int run_tests(int argc, char **argv, const std::vector<Test> &tests);

// --- values ---

extern const std::vector<DType> real_types; // F32, BF16, F16
size_t real_size(DType type);
// Uniform in -1 .. 1; a pure function of its arguments.
Numbers uniform(size_t count, unsigned seed);
// The same, and some of them NaN, infinities, zeros of both signs.
Numbers with_specials(size_t count, unsigned seed);
std::vector<int32_t> labels(size_t count, int32_t classes, unsigned seed); // -1 .. classes - 1

// --- the reference ---

Tensor view(Numbers &values, const Dims &dims);
Tensor view(std::vector<int32_t> &values, const Dims &dims);
Tensor view(std::vector<uint8_t> &values, const Dims &dims);
Tensor view(std::vector<int64_t> &values, const Dims &dims);
// Runs the loop in double, as in training; an input whose data is null is absent.
void reference(OperationKind operation, const Attributes &attributes, const std::vector<Tensor> &inputs,
               std::vector<Tensor> outputs);

// --- arguments of kernels ---

KernelPool pool_of(int64_t planes, int rows, int columns, const int kernel[2], const int stride[2]);
// The fused pools': windows of 2x2 that don't overlap.
KernelPool halving_pool(int64_t planes, int rows, int columns);
KernelDropout dropout_of(const int64_t *random, uint32_t layer, double probability);

// --- agreement ---

// Norm of the difference relative to the norm of what is wanted; NaN must meet NaN, an infinity the same one.
void expect_close(const char *what, DType type, const Numbers &got, const Numbers &wanted);
void expect_close(const char *what, double tolerance, const Numbers &got, const Numbers &wanted);
double tolerance_of(DType type); // F32 1e-6, BF16 8e-3, F16 1e-3

template <class T> void expect_equal(const char *what, const std::vector<T> &got, const std::vector<T> &wanted)
{
    if (got.size() != wanted.size()) fail("%s: %zu elements, expected %zu", what, got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); i++)
        if (!(got[i] == wanted[i]))
            fail("%s: element %zu is %g, expected %g", what, i, static_cast<double>(got[i]),
                 static_cast<double>(wanted[i]));
}

} // namespace kernel_check
