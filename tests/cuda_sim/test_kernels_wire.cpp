// kernels/wire.cu and route.cu against plain loops: no operation of the graph does what they do.
#include "kernel_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace kernel_check;

// --- int8 ---

static const std::vector<size_t> counts = {1, 3, 31, 33, 63, 64, 65, 128, 257, 1000, 64 * 512};

struct Packed {
    std::vector<int8_t> q;
    std::vector<float> scales;
};

static Packed pack(const Numbers &x)
{
    Packed packed;
    packed.q.resize(x.size());
    for (size_t first = 0; first < x.size(); first += KERNEL_WIRE_BLOCK) {
        const size_t last = std::min(x.size(), first + KERNEL_WIRE_BLOCK);
        float largest = 0;
        for (size_t i = first; i < last; i++)
            largest = std::max(largest, static_cast<float>(std::fabs(x[i])));
        const float scale = largest / 127;
        packed.scales.push_back(scale);
        for (size_t i = first; i < last; i++)
            packed.q[i] = scale == 0 ? 0 : static_cast<int8_t>(std::nearbyint(static_cast<float>(x[i]) / scale));
    }
    return packed;
}

static Numbers unpack(const Packed &packed)
{
    Numbers x(packed.q.size());
    for (size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(packed.q[i]) * packed.scales[i / KERNEL_WIRE_BLOCK];
    return x;
}

static void check_i8(DType type, size_t count, size_t offset)
{
    Numbers x = uniform(count, 1);
    for (size_t i = 0; i < std::min<size_t>(count, 64); i++)
        x[i] = 0; // a block of zeros
    for (size_t i = 64; i < std::min<size_t>(count, 128); i++)
        x[i] = (static_cast<double>(i) - 64) / 2; // halves: ties of the rounding
    Reals in(type, x, offset), out(type, count, offset);
    Array<int8_t> q(count);
    Array<float> scales((count + KERNEL_WIRE_BLOCK - 1) / KERNEL_WIRE_BLOCK);
    run([&] { return kernel_pack_i8(type, in.at(), q.get(), scales.get(), static_cast<int64_t>(count), stream()); },
        {&q, &scales});
    run([&] { return kernel_unpack_i8(q.get(), scales.get(), type, out.at(), static_cast<int64_t>(count), stream()); },
        {&out});
    const Packed wanted = pack(x);
    expect_equal("scales", scales.values(), wanted.scales);
    expect_equal("q", q.values(), wanted.q);
    Numbers back = unpack(wanted);
    Reals(type, back); // rounded
    expect_equal("x", out.numbers(), back);
}

static void test_i8()
{
    for (DType type : real_types)
        for (size_t count : counts)
            for (size_t offset : {0, 1}) {
                set_context("%s, %zu numbers, offset %zu", dtype_name(type), count, offset);
                check_i8(type, count, offset);
            }
}

// A block with a NaN or an infinity arrives as NaN; its neighbours are as they were. The smallest numbers vanish.
static void test_i8_specials()
{
    Numbers x(4 * KERNEL_WIRE_BLOCK, 0.5);
    x[5] = NAN;
    x[KERNEL_WIRE_BLOCK + 63] = -INFINITY;
    std::fill(x.begin() + 3 * KERNEL_WIRE_BLOCK, x.end(), 1e-45);
    Reals in(DTYPE_F32, x), out(DTYPE_F32, x.size());
    Array<int8_t> q(x.size());
    Array<float> scales(4);
    run(
        [&] {
            return kernel_pack_i8(DTYPE_F32, in.at(), q.get(), scales.get(), static_cast<int64_t>(x.size()), stream());
        },
        {&q, &scales});
    run(
        [&] {
            return kernel_unpack_i8(q.get(), scales.get(), DTYPE_F32, out.at(), static_cast<int64_t>(x.size()),
                                    stream());
        },
        {&out});
    Numbers wanted(x.size(), NAN);
    std::fill(wanted.begin() + 2 * KERNEL_WIRE_BLOCK, wanted.end(), 0.5);
    std::fill(wanted.begin() + 3 * KERNEL_WIRE_BLOCK, wanted.end(), 0.0);
    expect_close("x", 1e-6, out.numbers(), wanted);
}

// --- top_k ---

struct TopCase {
    int64_t n, m;
    int k;
};

static const std::vector<TopCase> top_cases = {{64, 8, 3},  {64, 10, 10}, {1, 1, 1},     {3, 33, 5},     {2, 128, 4},
                                               {2, 129, 4}, {5, 257, 9},  {2, 1000, 17}, {1, 3000, 100}, {33, 31, 0}};

// Scores with ties, and NaN and infinities among them.
static Numbers scores_of(const TopCase &test)
{
    Numbers x = with_specials(static_cast<size_t>(test.n * test.m), 1);
    for (double &value : x)
        value = std::isfinite(value) ? std::round(value * 8) / 8 : value;
    return x;
}

static void check_top_k(DType type, const TopCase &test)
{
    Numbers x = scores_of(test), values;
    Reals in(type, x), best(DTYPE_F32, static_cast<size_t>(test.n * test.k));
    Array<int32_t> columns(static_cast<size_t>(test.n * test.k));
    run([&] { return kernel_top_k(type, in.at(), best.f32(), columns.get(), test.n, test.m, test.k, stream()); },
        {&best, &columns});
    std::vector<int32_t> wanted;
    for (int64_t row = 0; row < test.n; row++) {
        double *scores = x.data() + row * test.m;
        std::vector<int32_t> order;
        for (int64_t column = 0; column < test.m; column++) {
            if (std::isnan(scores[column])) scores[column] = -INFINITY;
            order.push_back(static_cast<int32_t>(column));
        }
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
        for (int i = 0; i < test.k; i++) {
            wanted.push_back(order[static_cast<size_t>(i)]);
            values.push_back(scores[order[static_cast<size_t>(i)]]);
        }
    }
    expect_equal("columns", columns.values(), wanted);
    expect_equal("values", best.numbers(), values);
}

static void test_top_k()
{
    for (DType type : real_types)
        for (const TopCase &test : top_cases) {
            set_context("%s, %d of [%ld, %ld]", dtype_name(type), test.k, static_cast<long>(test.n),
                        static_cast<long>(test.m));
            check_top_k(type, test);
        }
    EXPECT(kernel_top_k(DTYPE_F32, nullptr, nullptr, nullptr, 1, 3, 4, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_top_k(DTYPE_F32, nullptr, nullptr, nullptr, 1, 3, -1, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_top_k(DTYPE_F32, nullptr, nullptr, nullptr, 0, 3, 2, stream()) == cudaSuccess);
}

// --- gather and scatter ---

struct RowsCase {
    int64_t n, count, d;
};

static const std::vector<RowsCase> rows_cases = {
    {64, 192, 512}, {64, 100, 320}, {1, 1, 1}, {5, 33, 31}, {33, 7, 257}, {3, 1000, 4}, {7, 31, 8},
};

static std::vector<int32_t> rows_of(const RowsCase &test)
{
    std::vector<int32_t> rows = labels(static_cast<size_t>(test.count), static_cast<int32_t>(test.n) + 1, 4);
    return rows; // -1 .. n: the first and the last are no rows
}

static void check_gather(DType type, const RowsCase &test, size_t offset)
{
    Numbers x = with_specials(static_cast<size_t>(test.n * test.d), 1), wanted;
    const std::vector<int32_t> rows = rows_of(test);
    Reals in(type, x, offset), out(type, static_cast<size_t>(test.count * test.d));
    Array<int32_t> chosen(rows);
    run([&] { return kernel_gather_rows(type, in.at(), chosen.get(), out.at(), test.n, test.count, test.d, stream()); },
        {&out});
    for (int32_t row : rows)
        for (int64_t i = 0; i < test.d; i++)
            wanted.push_back(row >= 0 && row < test.n ? x[static_cast<size_t>(row * test.d + i)] : 0);
    expect_close("y", 0.0, out.numbers(), wanted);
}

// In the order of i and in float, so the bits are those of the plain loop.
static void check_scatter(DType type, const RowsCase &test, size_t offset)
{
    Numbers x = uniform(static_cast<size_t>(test.count * test.d), 1);
    Numbers y = uniform(static_cast<size_t>(test.n * test.d), 2);
    const std::vector<int32_t> rows = rows_of(test);
    Reals in(type, x, offset), sums(DTYPE_F32, y);
    Array<int32_t> chosen(rows);
    EXPECT_CUDA(kernel_scatter_add_rows(type, in.at(), chosen.get(), sums.f32(), test.n, test.count, test.d, stream()));
    EXPECT_CUDA(cudaStreamSynchronize(stream()));
    for (size_t i = 0; i < rows.size(); i++)
        for (size_t k = 0; rows[i] >= 0 && rows[i] < test.n && k < static_cast<size_t>(test.d); k++) {
            double &sum = y[static_cast<size_t>(rows[i]) * static_cast<size_t>(test.d) + k];
            sum = static_cast<float>(sum) + static_cast<float>(x[i * static_cast<size_t>(test.d) + k]);
        }
    expect_equal("y", sums.numbers(), y);
}

static void test_rows()
{
    for (DType type : real_types)
        for (const RowsCase &test : rows_cases)
            for (size_t offset : {0, 1}) {
                set_context("%s, %ld of [%ld, %ld], offset %zu", dtype_name(type), static_cast<long>(test.count),
                            static_cast<long>(test.n), static_cast<long>(test.d), offset);
                check_gather(type, test, offset);
                check_scatter(type, test, offset);
            }
}

static void test_nothing()
{
    EXPECT(kernel_pack_i8(DTYPE_F32, nullptr, nullptr, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_unpack_i8(nullptr, nullptr, DTYPE_F32, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_gather_rows(DTYPE_F32, nullptr, nullptr, nullptr, 3, 0, 4, stream()) == cudaSuccess);
    EXPECT(kernel_scatter_add_rows(DTYPE_F32, nullptr, nullptr, nullptr, 3, 0, 4, stream()) == cudaSuccess);
    EXPECT(kernel_pack_i8(DTYPE_F64, nullptr, nullptr, nullptr, 1, stream()) == cudaErrorInvalidValue);
    // From no rows at all, every row is missing.
    Array<int32_t> rows(std::vector<int32_t>{0, 5});
    Reals out(DTYPE_F32, 6), none(DTYPE_F32, 0);
    run([&] { return kernel_gather_rows(DTYPE_F32, none.at(), rows.get(), out.at(), 0, 2, 3, stream()); }, {&out});
    expect_equal("y", out.numbers(), Numbers(6, 0.0));
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"i8", test_i8},
                      {"i8_specials", test_i8_specials},
                      {"top_k", test_top_k},
                      {"rows", test_rows},
                      {"nothing", test_nothing}});
}
