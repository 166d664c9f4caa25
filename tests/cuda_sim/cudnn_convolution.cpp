#include "cudnn_convolution.h"

#include <algorithm>
#include <atomic>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace cudnn
{

namespace
{

// --- numbers ---

float load(const void *data, cudnnDataType_t type, int64_t index)
{
    if (type == CUDNN_DATA_BFLOAT16) return __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[index]);
    if (type == CUDNN_DATA_HALF) return __half2float(static_cast<const __half *>(data)[index]);
    return static_cast<const float *>(data)[index];
}

void store(void *data, cudnnDataType_t type, int64_t index, float value)
{
    if (type == CUDNN_DATA_BFLOAT16)
        static_cast<__nv_bfloat16 *>(data)[index] = __float2bfloat16_rn(value);
    else if (type == CUDNN_DATA_HALF)
        static_cast<__half *>(data)[index] = __float2half_rn(value);
    else
        static_cast<float *>(data)[index] = value;
}

float rounded_to(cudnnDataType_t type, float value)
{
    if (type == CUDNN_DATA_BFLOAT16) return __bfloat162float(__float2bfloat16_rn(value));
    return type == CUDNN_DATA_HALF ? __half2float(__float2half_rn(value)) : value;
}

// 10 bits of fraction, to nearest even.
float rounded_to_tf32(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7f800000u) == 0x7f800000u) return value;
    bits = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

// What an engine makes of an input.
float rounded_for(int64_t engine, float value)
{
    if (engine == TENSOR_CORE) return rounded_to_tf32(value);
    return engine == DOWN_CONVERTING ? rounded_to(CUDNN_DATA_BFLOAT16, value) : value;
}

cudnnDataType_t sums_of(int64_t engine, const Problem &problem)
{
    if (engine == HALF_SUMS) return problem.w.type;
    return engine == WINOGRAD ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

// --- arrays of floats in the order n, c, h, w ---

struct Image {
    int64_t n, c, h, w;
    std::vector<float> data;

    Image(int64_t batch, int64_t channels, int64_t rows, int64_t columns)
        : n(batch), c(channels), h(rows), w(columns), data(static_cast<size_t>(batch * channels * rows * columns))
    {
    }
    float *row(int64_t i, int64_t j, int64_t k)
    {
        return data.data() + ((i * c + j) * h + k) * w;
    }
    const float *row(int64_t i, int64_t j, int64_t k) const
    {
        return data.data() + ((i * c + j) * h + k) * w;
    }
};

// With zeros around it.
Image read_image(const TensorMeaning &tensor, const void *data, const int64_t padding[2], int64_t engine)
{
    const auto &d = tensor.dims, &s = tensor.strides;
    Image image(d[0], d[1], d[2] + 2 * padding[0], d[3] + 2 * padding[1]);
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t h = 0; h < d[2]; h++) {
                float *to = image.row(n, c, h + padding[0]) + padding[1];
                const int64_t from = n * s[0] + c * s[1] + h * s[2];
                for (int64_t w = 0; w < d[3]; w++) {
                    const float value = load(data, tensor.type, from + w * s[3]);
                    to[w] = rounded_for(engine, value);
                }
            }
    return image;
}

// The part inside the padding.
void write_image(const TensorMeaning &tensor, void *data, const int64_t padding[2], const Image &image)
{
    const auto &d = tensor.dims, &s = tensor.strides;
    for (int64_t n = 0; n < d[0]; n++)
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t h = 0; h < d[2]; h++) {
                const float *from = image.row(n, c, h + padding[0]) + padding[1];
                for (int64_t w = 0; w < d[3]; w++)
                    store(data, tensor.type, n * s[0] + c * s[1] + h * s[2] + w * s[3], from[w]);
            }
}

// --- convolutions ---

struct Loop {
    const Problem &problem;
    cudnnDataType_t sums; // what sums are rounded to after each addition to a row
    bool backwards;       // the batch from its end, which gives sums in another order
};

// Calls f(n, o, channel of x, channel of w, p, q), where y's channel o reads x's.
template <typename F> void each_weight(const Loop &loop, int64_t batch, F f)
{
    const auto &w = loop.problem.w.dims;
    const int64_t out = w[0] / loop.problem.groups;
    for (int64_t i = 0; i < batch; i++)
        for (int64_t o = 0; o < w[0]; o++)
            for (int64_t c = 0; c < w[1]; c++)
                for (int64_t p = 0; p < w[2]; p++)
                    for (int64_t q = 0; q < w[3]; q++)
                        f(loop.backwards ? batch - 1 - i : i, o, o / out * w[1] + c, c, p, q);
}

void round_row(cudnnDataType_t type, float *row, int64_t count)
{
    if (type == CUDNN_DATA_FLOAT) return;
    for (int64_t i = 0; i < count; i++)
        row[i] = rounded_to(type, row[i]);
}

// y += x * w
void forward(const Loop &loop, const Image &x, const Image &w, Image &y)
{
    const Geometry &g = loop.problem.geometry;
    each_weight(loop, y.n, [&](int64_t n, int64_t o, int64_t xc, int64_t c, int64_t p, int64_t q) {
        const float weight = w.row(o, c, p)[q];
        for (int64_t i = 0; i < y.h; i++) {
            const float *from = x.row(n, xc, i * g.stride[0] + p * g.dilation[0]) + q * g.dilation[1];
            float *to = y.row(n, o, i);
            if (g.stride[1] == 1)
                for (int64_t j = 0; j < y.w; j++)
                    to[j] += weight * from[j];
            else
                for (int64_t j = 0; j < y.w; j++)
                    to[j] += weight * from[j * g.stride[1]];
            round_row(loop.sums, to, y.w);
        }
    });
}

// dx += what each dy reaches
void gradient_of_input(const Loop &loop, Image &dx, const Image &w, const Image &dy)
{
    const Geometry &g = loop.problem.geometry;
    each_weight(loop, dy.n, [&](int64_t n, int64_t o, int64_t xc, int64_t c, int64_t p, int64_t q) {
        const float weight = w.row(o, c, p)[q];
        for (int64_t i = 0; i < dy.h; i++) {
            float *to = dx.row(n, xc, i * g.stride[0] + p * g.dilation[0]) + q * g.dilation[1];
            const float *from = dy.row(n, o, i);
            if (g.stride[1] == 1)
                for (int64_t j = 0; j < dy.w; j++)
                    to[j] += weight * from[j];
            else
                for (int64_t j = 0; j < dy.w; j++)
                    to[j * g.stride[1]] += weight * from[j];
            round_row(loop.sums, to, (dy.w - 1) * g.stride[1] + 1);
        }
    });
}

// dw += x dy over all places
void gradient_of_filter(const Loop &loop, const Image &x, Image &dw, const Image &dy)
{
    const Geometry &g = loop.problem.geometry;
    each_weight(loop, dy.n, [&](int64_t n, int64_t o, int64_t xc, int64_t c, int64_t p, int64_t q) {
        constexpr int64_t LANES = 8;
        float sums[LANES] = {0};
        for (int64_t i = 0; i < dy.h; i++) {
            const float *a = x.row(n, xc, i * g.stride[0] + p * g.dilation[0]) + q * g.dilation[1];
            const float *b = dy.row(n, o, i);
            int64_t j = 0;
            if (g.stride[1] == 1)
                for (; j + LANES <= dy.w; j += LANES)
                    for (int64_t l = 0; l < LANES; l++)
                        sums[l] += a[j + l] * b[j + l];
            for (; j < dy.w; j++)
                sums[0] += a[j * g.stride[1]] * b[j];
        }
        float *to = dw.row(o, c, p) + q;
        for (const float sum : sums)
            *to += sum;
        round_row(loop.sums, to, 1);
    });
}

void add_bias_and_relu(const Problem &problem, const void *bias, Image &y)
{
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t c = 0; c < y.c; c++) {
            const float b = problem.has_bias ? load(bias, problem.bias.type, c) : 0;
            float *plane = y.row(n, c, 0);
            for (int64_t i = 0; i < y.h * y.w; i++) {
                plane[i] += b;
                if (problem.relu && plane[i] < 0) plane[i] = 0;
            }
        }
}

} // namespace

void compute(const Problem &problem, int64_t engine, const Memory &memory)
{
    static const int64_t none[2] = {0, 0};
    static std::atomic<unsigned> runs{0};
    const auto &x = problem.x.dims, &w = problem.w.dims, &y = problem.y.dims;
    const int64_t *padding = problem.geometry.padding;
    const Loop loop{problem, sums_of(engine, problem), engine == SHUFFLED && runs++ % 2 == 1};
    if (problem.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
        Image result(y[0], y[1], y[2], y[3]);
        forward(loop, read_image(problem.x, memory.x, padding, engine), read_image(problem.w, memory.w, none, engine),
                result);
        add_bias_and_relu(problem, memory.bias, result);
        write_image(problem.y, memory.result, none, result);
    } else if (problem.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) {
        Image result(x[0], x[1], x[2] + 2 * padding[0], x[3] + 2 * padding[1]);
        gradient_of_input(loop, result, read_image(problem.w, memory.w, none, engine),
                          read_image(problem.y, memory.y, none, engine));
        write_image(problem.x, memory.result, padding, result);
    } else {
        Image result(w[0], w[1], w[2], w[3]);
        gradient_of_filter(loop, read_image(problem.x, memory.x, padding, engine), result,
                           read_image(problem.y, memory.y, none, engine));
        write_image(problem.w, memory.result, none, result);
    }
}

} // namespace cudnn
