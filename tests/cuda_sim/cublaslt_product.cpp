// The arithmetic of the cuBLASLt stand-in. Both operands are converted to float and packed into panels (16 rows of a, 6
// columns of b, k innermost), so that the innermost loop runs over registers, whatever the layout and the type were.
#include "cublaslt_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace cublaslt
{

namespace
{

constexpr int ROWS = 16, COLUMNS = 6; // of a tile of d
constexpr uint32_t AUX = 128;         // of an epilogue

// --- numbers ---

float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Drops the lowest `count` bits, to nearest even.
uint32_t rounded(uint32_t bits, int count)
{
    const uint32_t half = (1u << (count - 1)) - 1, odd = bits >> count & 1;
    return (bits + half + odd) >> count << count;
}

float rounded_to_tf32(float value)
{
    return std::isfinite(value) ? float_from_bits(rounded(bits_of(value), 13)) : value;
}

uint16_t bf16_from_float(float value)
{
    if (std::isnan(value)) return 0x7fff;
    return static_cast<uint16_t>(rounded(bits_of(value), 16) >> 16);
}

float float_from_bf16(uint16_t bits)
{
    return float_from_bits(static_cast<uint32_t>(bits) << 16);
}

uint16_t f16_from_float(float value)
{
    const uint16_t sign = static_cast<uint16_t>(bits_of(value) >> 16 & 0x8000);
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00; // half a step above the largest
    if (size < 0x1p-14f) return sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24f));
    const uint32_t bits = rounded(bits_of(size), 13);
    return sign | static_cast<uint16_t>((bits >> 13) - (112u << 10)); // 112: the difference of the exponents' biases
}

float float_from_f16(uint16_t bits)
{
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, rest = bits & 1023;
    if (exponent == 0) return std::copysign(static_cast<float>(rest) * 0x1p-24f, sign ? -1.0f : 1.0f);
    return float_from_bits(sign | (exponent == 31 ? 255u : exponent + 112) << 23 | rest << 13);
}

float load(const void *data, cudaDataType type, int64_t index)
{
    if (type == CUDA_R_32F) return static_cast<const float *>(data)[index];
    const uint16_t bits = static_cast<const uint16_t *>(data)[index];
    return type == CUDA_R_16BF ? float_from_bf16(bits) : float_from_f16(bits);
}

void store(void *data, cudaDataType type, int64_t index, float value)
{
    if (type == CUDA_R_32F)
        static_cast<float *>(data)[index] = value;
    else
        static_cast<uint16_t *>(data)[index] = type == CUDA_R_16BF ? bf16_from_float(value) : f16_from_float(value);
}

// --- panels ---

// panel[i * width + lane] = element (along k: i) of row or column `first + lane`; zeros beyond `count`. `along_k` and
// `across` are the strides in memory.
template <typename Load>
void pack_with(float *panel, int width, int64_t first, int64_t count, int64_t k, int64_t along_k, int64_t across,
               Load element)
{
    const int lanes = static_cast<int>(std::min<int64_t>(width, count - first));
    if (lanes < width) std::fill(panel, panel + k * width, 0.0f);
    if (across == 1)
        for (int64_t i = 0; i < k; i++)
            for (int lane = 0; lane < lanes; lane++)
                panel[i * width + lane] = element(first + lane + i * along_k);
    else
        for (int lane = 0; lane < lanes; lane++)
            for (int64_t i = 0; i < k; i++)
                panel[i * width + lane] = element((first + lane) * across + i * along_k);
}

void pack(float *panel, int width, const Operand &operand, int64_t first, int64_t count, int64_t k, int64_t along_k,
          int64_t across, bool tf32)
{
    const void *data = operand.data;
    const auto wide = static_cast<const float *>(data);
    const auto narrow = static_cast<const uint16_t *>(data);
    const auto pack_each = [&](auto element) { pack_with(panel, width, first, count, k, along_k, across, element); };
    if (operand.type == CUDA_R_16BF) pack_each([=](int64_t i) { return float_from_bf16(narrow[i]); });
    if (operand.type == CUDA_R_16F) pack_each([=](int64_t i) { return float_from_f16(narrow[i]); });
    if (operand.type == CUDA_R_32F && tf32) pack_each([=](int64_t i) { return rounded_to_tf32(wide[i]); });
    if (operand.type == CUDA_R_32F && !tf32) pack_each([=](int64_t i) { return wide[i]; });
}

// --- tiles: 16 x 6 sums in registers, in vectors of `WIDTH` floats ---

template <int WIDTH> struct Vector {
    typedef float Type __attribute__((vector_size(WIDTH * 4), aligned(4)));
};

template <int WIDTH>
inline __attribute__((always_inline)) void tile_body(const float *a, const float *b, int64_t k, float *sums)
{
    typedef typename Vector<WIDTH>::Type V;
    constexpr int VECTORS = ROWS / WIDTH;
    V sum[COLUMNS][VECTORS] = {};
    for (int64_t i = 0; i < k; i++, a += ROWS, b += COLUMNS) {
        const V *rows = reinterpret_cast<const V *>(a);
#pragma GCC unroll 6
        for (int column = 0; column < COLUMNS; column++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sum[column][v] += rows[v] * b[column];
    }
    memcpy(sums, sum, sizeof sum);
}

using Tile = void(const float *a, const float *b, int64_t k, float *sums);

void tile_plain(const float *a, const float *b, int64_t k, float *sums)
{
    tile_body<4>(a, b, k, sums);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void tile_avx2(const float *a, const float *b, int64_t k, float *sums)
{
    tile_body<8>(a, b, k, sums);
}

__attribute__((target("avx512f,fma"))) void tile_avx512(const float *a, const float *b, int64_t k, float *sums)
{
    tile_body<16>(a, b, k, sums);
}
#endif

Tile *best_tile()
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return tile_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return tile_avx2;
#endif
    return tile_plain;
}

void split_tile(Tile *tile, const float *a, const float *b, const Product &product, float *sums)
{
    float part[ROWS * COLUMNS];
    const int64_t length = (product.k + product.splits - 1) / product.splits;
    tile(a, b, std::min(length, product.k), sums);
    for (int64_t first = length; first < product.k; first += length) {
        tile(a + first * ROWS, b + first * COLUMNS, std::min(length, product.k - first), part);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            sums[i] += part[i];
    }
}

// --- epilogues ---

constexpr float GELU_SCALE = 0.7978845608028654f, GELU_CUBE = 0.044715f; // sqrt(2 / pi)

float gelu(float x)
{
    return 0.5f * x * (1 + std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x)));
}

float gelu_derivative(float x)
{
    const float t = std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x);
}

void set_bit(void *bits, int64_t index, bool value)
{
    auto &byte = static_cast<uint8_t *>(bits)[index / 8];
    const auto bit = static_cast<uint8_t>(1u << index % 8);
    byte = static_cast<uint8_t>(value ? byte | bit : byte & ~bit);
}

bool get_bit(const void *bits, int64_t index)
{
    return static_cast<const uint8_t *>(bits)[index / 8] >> index % 8 & 1;
}

// One element; `sums` [m] are of the results, for the gradient of a bias.
float finish(const Product &p, int64_t row, int64_t column, float x, std::vector<float> &sums)
{
    const int64_t aux = column * p.aux_ld + row;
    if (p.epilogue & CUBLASLT_EPILOGUE_BIAS) x += load(p.bias, p.d_type, row);
    switch (p.epilogue & ~static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS)) {
    case CUBLASLT_EPILOGUE_RELU_AUX:
        set_bit(p.aux, aux, x > 0);
        return x <= 0 ? 0 : x; // NaN stays
    case CUBLASLT_EPILOGUE_RELU:
        return x <= 0 ? 0 : x; // NaN stays
    case CUBLASLT_EPILOGUE_GELU_AUX:
        store(p.aux, p.d_type, aux, x);
        return gelu(x);
    case CUBLASLT_EPILOGUE_GELU:
        return gelu(x);
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD:
        x = get_bit(p.aux, aux) ? x : 0;
        break;
    case CUBLASLT_EPILOGUE_DGELU:
        x *= gelu_derivative(load(p.aux, p.d_type, aux));
        break;
    default:
        break;
    }
    if (p.epilogue == CUBLASLT_EPILOGUE_DRELU_BGRAD) sums[static_cast<size_t>(row)] += x;
    return x;
}

void finish_tile(const Product &p, int64_t row, int64_t column, const float *tile, std::vector<float> &sums)
{
    const int64_t rows = std::min<int64_t>(ROWS, p.m - row), columns = std::min<int64_t>(COLUMNS, p.n - column);
    const bool plain = p.epilogue == CUBLASLT_EPILOGUE_DEFAULT && p.d_type == CUDA_R_32F && p.alpha == 1;
    for (int64_t j = 0; j < columns; j++) {
        const float *sum = tile + j * ROWS;
        const int64_t start = (column + j) * p.ldd + row;
        if (plain) {
            memcpy(static_cast<float *>(p.d) + start, sum, static_cast<size_t>(rows) * sizeof(float));
            continue;
        }
        for (int64_t i = 0; i < rows; i++)
            store(p.d, p.d_type, start + i, finish(p, row + i, column + j, p.alpha * sum[i], sums));
    }
}

// The sum over k of each row of a, or of each column of b.
void sum_operand(const Product &p)
{
    const bool of_a = p.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    const Operand &operand = of_a ? p.a : p.b;
    const bool along_column = of_a ? operand.transposed : !operand.transposed; // whether k is contiguous
    for (int64_t i = 0; i < (of_a ? p.m : p.n); i++) {
        float sum = 0;
        for (int64_t l = 0; l < p.k; l++)
            sum += load(operand.data, operand.type, along_column ? i * operand.ld + l : l * operand.ld + i);
        store(p.bias, p.d_type, i, sum);
    }
}

} // namespace

size_t bytes_of(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF || type == CUDA_R_16F ? 2 : 0;
}

void compute(const Product &p)
{
    Tile *const tile = best_tile();
    const int64_t panels = (p.n + COLUMNS - 1) / COLUMNS;
    std::vector<float> a(static_cast<size_t>(p.k * ROWS)), b(static_cast<size_t>(panels * p.k * COLUMNS));
    std::vector<float> sums(static_cast<size_t>(p.m));
    float result[ROWS * COLUMNS];
    // Nobody may rely on the bits between the rows and the leading dimension.
    if (p.epilogue & CUBLASLT_EPILOGUE_RELU && p.epilogue & AUX)
        memset(p.aux, 0xff, static_cast<size_t>(p.n * p.aux_ld / 8));
    for (int64_t panel = 0; panel < panels; panel++)
        pack(&b[static_cast<size_t>(panel * p.k * COLUMNS)], COLUMNS, p.b, panel * COLUMNS, p.n, p.k,
             p.b.transposed ? p.b.ld : 1, p.b.transposed ? 1 : p.b.ld, p.tf32);
    for (int64_t row = 0; row < p.m; row += ROWS) {
        pack(a.data(), ROWS, p.a, row, p.m, p.k, p.a.transposed ? 1 : p.a.ld, p.a.transposed ? p.a.ld : 1, p.tf32);
        for (int64_t panel = 0; panel < panels; panel++) {
            split_tile(tile, a.data(), &b[static_cast<size_t>(panel * p.k * COLUMNS)], p, result);
            finish_tile(p, row, panel * COLUMNS, result, sums);
        }
    }
    if (p.epilogue == CUBLASLT_EPILOGUE_DRELU_BGRAD)
        for (int64_t row = 0; row < p.m; row++)
            store(p.bias, p.d_type, row, sums[static_cast<size_t>(row)]);
    if (p.epilogue == CUBLASLT_EPILOGUE_BGRADA || p.epilogue == CUBLASLT_EPILOGUE_BGRADB) sum_operand(p);
}

} // namespace cublaslt
