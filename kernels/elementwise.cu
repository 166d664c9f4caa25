/* Operations on each element by itself; any shape, seen as [count].
 *
 *   affine      y = scale x + shift
 *   add         y = a + b
 *   saturate    y = x, but no finite x becomes infinite
 *   add_scaled  y = a + s b; b isn't read where s = 0; a may be absent: zeros
 *   relu        y = max(x, 0), NaN stays
 *   relu_grad   dx = dy where y > 0, else 0
 *   gelu        y = x P(x)
 *   gelu_grad   dx = dy (P(x) + x P'(x))
 *
 * Each is memory bound: a thread moves packs of 16 bytes, then single elements where the count or an address doesn't
 * divide by them. The result may be in an input's place. */
#include "device.cuh"

struct Affine {
    float scale, shift;
    __device__ float operator()(float x) const
    {
        return scale * x + shift;
    }
};

struct Saturate {
    float most; /* of the type */
    __device__ float operator()(float x) const
    {
        return isfinite(x) ? fminf(fmaxf(x, -most), most) : x;
    }
};

struct Relu {
    __device__ float operator()(float x) const
    {
        return relu(x);
    }
};

/* Elements of a pack of the wider type fill 16 bytes. */
template <class From, class To>
constexpr int map_width = 16 / (int)(sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));

template <class From, class To, class Formula>
__global__ void __launch_bounds__(BLOCK) map_kernel(const From *x, To *y, int64_t count, int64_t packs, Formula formula)
{
    constexpr int width = map_width<From, To>;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<From, width> in = load_pack<width>(x + i * width);
        Pack<To, width> out;
        for (int k = 0; k < width; k++)
            from_float(formula(to_float(in.at[k])), &out.at[k]);
        store_pack(y + i * width, out);
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads())
        from_float(formula(to_float(x[i])), &y[i]);
}

template <class From, class To, class Formula>
static cudaError_t launch_map(const void *x, void *y, int64_t count, Formula formula, cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    constexpr int width = map_width<From, To>;
    const bool wide = aligned(x, width * sizeof(From)) && aligned(y, width * sizeof(To));
    const int64_t packs = wide ? count / width : 0;
    LAUNCH((map_kernel<From, To, Formula>), blocks_for(wide ? packs + width : count, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const From *>(x), static_cast<To *>(y), count, packs, formula);
    return cudaGetLastError();
}

template <class From>
static cudaError_t launch_affine(const void *x, DType to, void *y, int64_t count, Affine affine, cudaStream_t stream)
{
    switch (to) {
    case DTYPE_F32:
        return launch_map<From, float>(x, y, count, affine, stream);
    case DTYPE_BF16:
        return launch_map<From, __nv_bfloat16>(x, y, count, affine, stream);
    case DTYPE_F16:
        return launch_map<From, __half>(x, y, count, affine, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t kernel_affine(DType from, const void *x, DType to, void *y, int64_t count, float scale, float shift,
                          cudaStream_t stream)
{
    Affine affine;
    affine.scale = scale;
    affine.shift = shift;
    if (from == DTYPE_U8) return launch_affine<uint8_t>(x, to, y, count, affine, stream);
    RETURN_FOR_TYPE(from, launch_affine, x, to, y, count, affine, stream);
}

cudaError_t kernel_saturate(const float *x, DType to, void *y, int64_t count, cudaStream_t stream)
{
    Saturate saturate;
    saturate.most = to == DTYPE_F16 ? 65504.0f : 3.3895313892515355e38f;
    if (to == DTYPE_F16) return launch_map<float, __half>(x, y, count, saturate, stream);
    if (to == DTYPE_BF16) return launch_map<float, __nv_bfloat16>(x, y, count, saturate, stream);
    return cudaErrorInvalidValue;
}

template <class T> static cudaError_t launch_relu(const void *x, void *y, int64_t count, cudaStream_t stream)
{
    return launch_map<T, T>(x, y, count, Relu(), stream);
}

cudaError_t kernel_relu(DType type, const void *x, void *y, int64_t count, cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_relu, x, y, count, stream);
}

/* --- gelu ---
 * Its P and the slope P + x P' by erf and by tanh: (1 + erf(u)) / 2 = erfc(-u) / 2 and (1 + tanh(u)) / 2 = 1 / (1 +
 * exp(-2 u)) hold no difference of nearly equal numbers. What is 0 times infinity far from 0 is 0, the limit. */

struct GeluByErf {
    __device__ static float share(float x)
    {
        return 0.5f * erfcf(-0.707106781f * x); /* sqrt(1 / 2) */
    }
    __device__ static float slope(float x)
    {
        const float density = 0.398942280f * expf(-0.5f * x * x); /* 1 / sqrt(2 pi) */
        return share(x) + (density == 0 ? 0 : x * density);
    }
};

struct GeluByTanh {
    __device__ static float decay(float x)
    {
        return expf(-1.595769122f * (x + 0.044715f * x * x * x)); /* 2 sqrt(2 / pi) */
    }
    __device__ static float share(float x)
    {
        return 1 / (1 + decay(x));
    }
    __device__ static float slope(float x)
    {
        const float rest = decay(x), share = 1 / (1 + rest);
        const float product = share == 0 ? 0 : share * (rest * share); /* P (1 - P) */
        return share + (product == 0 ? 0 : x * product * 1.595769122f * (1 + 0.134145f * x * x));
    }
};

template <class Form> struct Gelu {
    __device__ float operator()(float x) const
    {
        const float share = Form::share(x);
        return share == 0 ? 0 : x * share;
    }
};

template <class Form> struct GeluGrad {
    __device__ float operator()(float dy, float x) const
    {
        return dy * Form::slope(x);
    }
};

template <class T>
static cudaError_t launch_gelu(const void *x, void *y, int64_t count, bool by_tanh, cudaStream_t stream)
{
    return by_tanh ? launch_map<T, T>(x, y, count, Gelu<GeluByTanh>(), stream)
                   : launch_map<T, T>(x, y, count, Gelu<GeluByErf>(), stream);
}

cudaError_t kernel_gelu(DType type, const void *x, void *y, int64_t count, bool by_tanh, cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_gelu, x, y, count, by_tanh, stream);
}

/* --- of two inputs --- */

struct Add {
    __device__ float operator()(float a, float b) const
    {
        return a + b;
    }
};

struct ReluGrad {
    __device__ float operator()(float dy, float y) const
    {
        return y > 0 ? dy : 0;
    }
};

template <class T, class Formula>
__global__ void __launch_bounds__(BLOCK)
    map2_kernel(const T *a, const T *b, T *y, int64_t count, int64_t packs, Formula formula)
{
    constexpr int width = pack_width<T>;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<T, width> left = load_pack<width>(a + i * width), right = load_pack<width>(b + i * width);
        Pack<T, width> out;
        for (int k = 0; k < width; k++)
            from_float(formula(to_float(left.at[k]), to_float(right.at[k])), &out.at[k]);
        store_pack(y + i * width, out);
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads())
        from_float(formula(to_float(a[i]), to_float(b[i])), &y[i]);
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    add_scaled_kernel(const T *a, const T *b, const float *scale, T *y, int64_t count, int64_t packs)
{
    constexpr int width = pack_width<T>;
    const float s = *scale;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        Pack<T, width> out = {};
        if (a != nullptr) out = load_pack<width>(a + i * width);
        if (s != 0) {
            const Pack<T, width> right = load_pack<width>(b + i * width);
            for (int k = 0; k < width; k++)
                from_float(to_float(out.at[k]) + s * to_float(right.at[k]), &out.at[k]);
        }
        store_pack(y + i * width, out);
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads()) {
        const float left = a != nullptr ? to_float(a[i]) : 0;
        from_float(s == 0 ? left : left + s * to_float(b[i]), &y[i]);
    }
}

/* How many packs there are, and how many blocks to launch for them and what is left. */
template <class T> struct Map2Grid {
    int64_t packs;
    unsigned blocks;
    Map2Grid(const void *a, const void *b, const void *y, int64_t count)
    {
        const bool wide = aligned(a, 16) && aligned(b, 16) && aligned(y, 16);
        packs = wide ? count / pack_width<T> : 0;
        blocks = blocks_for(wide ? packs + pack_width<T> : count, MAX_BLOCKS);
    }
};

template <class T, class Formula>
static cudaError_t launch_map2(const void *a, const void *b, void *y, int64_t count, Formula formula,
                               cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    const Map2Grid<T> grid(a, b, y, count);
    LAUNCH((map2_kernel<T, Formula>), grid.blocks, BLOCK, 0, stream, static_cast<const T *>(a),
           static_cast<const T *>(b), static_cast<T *>(y), count, grid.packs, formula);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_add(const void *a, const void *b, void *y, int64_t count, cudaStream_t stream)
{
    return launch_map2<T>(a, b, y, count, Add(), stream);
}

cudaError_t kernel_add(DType type, const void *a, const void *b, void *y, int64_t count, cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_add, a, b, y, count, stream);
}

template <class T>
static cudaError_t launch_relu_grad(const void *dy, const void *y, void *dx, int64_t count, cudaStream_t stream)
{
    return launch_map2<T>(dy, y, dx, count, ReluGrad(), stream);
}

cudaError_t kernel_relu_grad(DType type, const void *dy, const void *y, void *dx, int64_t count, cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_relu_grad, dy, y, dx, count, stream);
}

template <class T>
static cudaError_t launch_gelu_grad(const void *dy, const void *x, void *dx, int64_t count, bool by_tanh,
                                    cudaStream_t stream)
{
    return by_tanh ? launch_map2<T>(dy, x, dx, count, GeluGrad<GeluByTanh>(), stream)
                   : launch_map2<T>(dy, x, dx, count, GeluGrad<GeluByErf>(), stream);
}

cudaError_t kernel_gelu_grad(DType type, const void *dy, const void *x, void *dx, int64_t count, bool by_tanh,
                             cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_gelu_grad, dy, x, dx, count, by_tanh, stream);
}

template <class T>
static cudaError_t launch_add_scaled(const void *a, const void *b, const float *s, void *y, int64_t count,
                                     cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    const Map2Grid<T> grid(a, b, y, count);
    LAUNCH(add_scaled_kernel<T>, grid.blocks, BLOCK, 0, stream, static_cast<const T *>(a), static_cast<const T *>(b), s,
           static_cast<T *>(y), count, grid.packs);
    return cudaGetLastError();
}

cudaError_t kernel_add_scaled(DType type, const void *a, const void *b, const float *s, void *y, int64_t count,
                              cudaStream_t stream)
{
    RETURN_FOR_TYPE(type, launch_add_scaled, a, b, s, y, count, stream);
}
