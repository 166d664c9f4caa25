// What a kernel sees when it is compiled as plain C++ (kernels/launch.h includes this where the compiler isn't nvcc):
// CUDA's keywords, threadIdx and its kin, barriers, warp operations, atomics, intrinsics, and LAUNCH. Types, vectors,
// fp16 and bf16 come from the toolkit's own headers, which have host paths.
//
// Each thread of a block is a fibre on one CPU thread (simt.cpp), so barriers, shuffles and shared memory mean what
// they mean on a device; blocks run one after another. SIM_THREADS=fwd|rev|rand:SEED is the order of threads and of
// blocks. A launch is late: it copies its arguments and puts itself on its stream (machine.h).
//
// Compile with -ffp-contract=off -fno-strict-aliasing -Wno-unknown-pragmas (for "#pragma unroll").
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <vector>

#include "machine.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__    static const
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static_assert(false, "write SHARED(type, name, [count]) of kernels/launch.h, not __shared__");

namespace simt
{

// Where a barrier or a warp operation stands: its identity.
struct Site {
    const char *file;
    int line;
};
#define SIMT_HERE simt::Site at = {__builtin_FILE(), __builtin_LINE()}

extern const uint3 *thread_index;
extern uint3 block_index;
extern dim3 block_size, grid_size;

// --- launching ---

// A kernel's arguments as the launch sees them: every pointer among them is checked and noted as an access.
class Arguments
{
  public:
    explicit Arguments(const char *kernel);
    void pointer(const void *pointer, size_t size, size_t alignment, bool write);
    void bytes(const void *begin, size_t size); // a struct: what looks like device pointers in it must be alive

    template <class T> void add(const T &value)
    {
        number_++;
        if constexpr (std::is_pointer_v<T>) {
            using Element = std::remove_pointer_t<T>;
            if constexpr (std::is_void_v<Element>)
                pointer(value, 1, 1, !std::is_const_v<Element>);
            else
                pointer(value, sizeof(Element), alignof(Element), !std::is_const_v<Element>);
        } else if constexpr (std::is_class_v<T>) {
            bytes(&value, sizeof value);
        }
    }

    std::string call; // "kernel NAME"
    std::vector<machine::Access> accesses;

  private:
    int number_ = 0;
};

struct Launch {
    dim3 grid, block;
    size_t shared;
    // One thread's run: call(arguments).
    void (*call)(const void *arguments);
    std::shared_ptr<const void> arguments;
    size_t arguments_size;
};
void launch(Launch launch, cudaStream_t stream, Arguments &&arguments);

template <class... P> struct Bound {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> arguments;
    static void call(const void *self)
    {
        const Bound &bound = *static_cast<const Bound *>(self);
        std::apply(bound.kernel, bound.arguments);
    }
};

template <class... P, class... A>
void launch_kernel(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void (*kernel)(P...),
                   A &&...values)
{
    static_assert(sizeof(Bound<P...>) <= 4096, "a kernel takes at most 4 KiB of arguments");
    static_assert((std::is_trivially_copyable_v<std::decay_t<P>> && ...), "arguments are copied as bytes");
    auto bound = std::make_shared<Bound<P...>>(
        Bound<P...>{kernel, std::tuple<std::decay_t<P>...>(static_cast<std::decay_t<P>>(values)...)});
    Arguments arguments(name);
    std::apply([&](const auto &...value) { (arguments.add(value), ...); }, bound->arguments);
    launch({grid, block, shared, Bound<P...>::call, bound, sizeof(Bound<P...>)}, stream, std::move(arguments));
}

// --- shared memory ---

// Where a SHARED variable lies in the launch that runs.
struct SharedPlace {
    unsigned long long launch;
    char *begin;
};
void *shared_variable(SharedPlace &place, size_t size, size_t alignment, const char *name);
void *dynamic_shared();

// --- what threads do together ---

enum class Warp { SYNC, INDEX, UP, DOWN, XOR, BALLOT };
void barrier(Site at);
int barrier_count(bool predicate, Site at);
uint64_t warp(Warp operation, unsigned mask, uint64_t value, int argument, int width, Site at);
void fence();
void atomic_access(void *pointer, size_t size); // before each atomic: bounds, and a mark for the tracer
[[noreturn]] void trap();

template <class T> T shuffle(Warp operation, unsigned mask, T value, int argument, int width, Site at)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp(operation, mask, bits, argument, width, at);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
inline constexpr bool has_atomics =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long> ||
    std::is_same_v<T, float> || std::is_same_v<T, double>;

template <class T, class F> __attribute__((noinline, no_sanitize("thread"))) T atomic_update(T *pointer, F change)
{
    static_assert(has_atomics<T>, "no atomics for this type");
    atomic_access(pointer, sizeof *pointer);
    const T old = *pointer;
    *pointer = change(old);
    return old;
}

template <class To, class From> To bits_of(From value)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &value, sizeof to);
    return to;
}

// CUDA's conversions saturate, and make 0 of NaN.
template <class To, class From> To saturate(From value)
{
    if (std::isnan(value)) return 0;
    if (value <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (value >= static_cast<From>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(value);
}

} // namespace simt

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    simt::launch_kernel(#kernel, (grid), (block), (shared_bytes), (stream), kernel, ##__VA_ARGS__)
#define SHARED(type, name, ...)                                                                                        \
    using name##_shared_type = type __VA_ARGS__;                                                                       \
    static simt::SharedPlace name##_shared_place;                                                                      \
    name##_shared_type &name = *static_cast<name##_shared_type *>(                                                     \
        simt::shared_variable(name##_shared_place, sizeof(name##_shared_type), alignof(name##_shared_type), #name))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(simt::dynamic_shared())

#define threadIdx (*simt::thread_index)
#define blockIdx  (static_cast<const uint3 &>(simt::block_index))
#define blockDim  (static_cast<const dim3 &>(simt::block_size))
#define gridDim   (static_cast<const dim3 &>(simt::grid_size))
#define warpSize  32

// clang-format off
inline void __syncthreads(SIMT_HERE) { simt::barrier(at); }
inline int __syncthreads_count(int p, SIMT_HERE) { return simt::barrier_count(p != 0, at); }
inline int __syncthreads_or(int p, SIMT_HERE) { return simt::barrier_count(p != 0, at) != 0; }
inline int __syncthreads_and(int p, SIMT_HERE) { return simt::barrier_count(p == 0, at) == 0; }
inline void __syncwarp(unsigned m = 0xffffffffu, SIMT_HERE) { simt::warp(simt::Warp::SYNC, m, 0, 0, 32, at); }
inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() {}
inline void __trap() { simt::trap(); }
template <class T> T __shfl_sync(unsigned m, T v, int lane, int w = 32, SIMT_HERE) { return simt::shuffle(simt::Warp::INDEX, m, v, lane, w, at); }
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_HERE) { return simt::shuffle(simt::Warp::UP, m, v, static_cast<int>(d), w, at); }
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_HERE) { return simt::shuffle(simt::Warp::DOWN, m, v, static_cast<int>(d), w, at); }
template <class T> T __shfl_xor_sync(unsigned m, T v, int d, int w = 32, SIMT_HERE) { return simt::shuffle(simt::Warp::XOR, m, v, d, w, at); }
inline unsigned __ballot_sync(unsigned m, int p, SIMT_HERE) { return static_cast<unsigned>(simt::warp(simt::Warp::BALLOT, m, p != 0, 0, 32, at)); }
inline int __any_sync(unsigned m, int p, SIMT_HERE) { return simt::warp(simt::Warp::BALLOT, m, p != 0, 0, 32, at) != 0; }
inline int __all_sync(unsigned m, int p, SIMT_HERE) { return simt::warp(simt::Warp::BALLOT, m, p != 0, 0, 32, at) == m; }

// The value's type follows the pointer's, as with CUDA's overloads.
template <class T> T atomicAdd(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return static_cast<T>(o + v); }); }
template <class T> T atomicSub(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return static_cast<T>(o - v); }); }
template <class T> T atomicMax(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return o > v ? o : v; }); }
template <class T> T atomicMin(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return o < v ? o : v; }); }
template <class T> T atomicExch(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T) { return v; }); }
template <class T> T atomicAnd(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return static_cast<T>(o & v); }); }
template <class T> T atomicOr(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return static_cast<T>(o | v); }); }
template <class T> T atomicXor(T *p, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return static_cast<T>(o ^ v); }); }
template <class T> T atomicCAS(T *p, std::common_type_t<T> c, std::common_type_t<T> v) { return simt::atomic_update(p, [=](T o) { return o == c ? v : o; }); }
inline unsigned atomicInc(unsigned *p, unsigned v) { return simt::atomic_update(p, [=](unsigned o) { return o >= v ? 0u : o + 1; }); }
inline unsigned atomicDec(unsigned *p, unsigned v) { return simt::atomic_update(p, [=](unsigned o) { return o == 0 || o > v ? v : o - 1; }); }

template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
template <class T> void __stcg(T *p, T v) { *p = v; }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return simt::saturate<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return simt::saturate<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return simt::saturate<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return simt::saturate<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return simt::saturate<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return simt::saturate<unsigned>(std::trunc(x)); }
inline long long __float2ll_rn(float x) { return simt::saturate<long long>(std::nearbyint(x)); }
inline int __double2int_rn(double x) { return simt::saturate<int>(std::nearbyint(x)); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline int __float_as_int(float x) { return simt::bits_of<int>(x); }
inline unsigned __float_as_uint(float x) { return simt::bits_of<unsigned>(x); }
inline float __int_as_float(int x) { return simt::bits_of<float>(x); }
inline float __uint_as_float(unsigned x) { return simt::bits_of<float>(x); }
inline long long __double_as_longlong(double x) { return simt::bits_of<long long>(x); }
inline double __longlong_as_double(long long x) { return simt::bits_of<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64); }
// clang-format on

// CUDA's min and max convert their arguments to the common type.
template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b)
{
    static_assert(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>);
    using T = std::common_type_t<A, B>;
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b)
{
    static_assert(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>);
    using T = std::common_type_t<A, B>;
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
