// kernels/elementwise.cu, bias.cu and dropout.cu against the reference backend's loops.
#include "elementwise_cases.h"

#include <cmath>

extern "C" {
#include "base/rng.h"
}

using namespace kernel_check;

static void test_affine()
{
    Attributes attributes = {};
    attributes.affine.scale = static_cast<float>(1 / 0.3081);
    attributes.affine.shift = static_cast<float>(-0.1307 / 0.3081);
    const float scale = static_cast<float>(attributes.affine.scale);
    const float shift = static_cast<float>(attributes.affine.shift);
    for_cases([&](DType type, size_t count, const std::vector<size_t> &offset) {
        for (DType to : real_types) {
            Numbers x = with_specials(count, 1), wanted(count);
            const Dims dims = {static_cast<int64_t>(count)};
            Reals in(type, x, offset[0]), out(to, count, offset[2]);
            run(
                [&] {
                    return kernel_affine(type, in.at(), to, out.at(), static_cast<int64_t>(count), scale, shift,
                                         stream());
                },
                {&out});
            reference(OP_AFFINE, attributes, {view(x, dims)}, {view(wanted, dims)});
            expect_close("y", to, out.numbers(), wanted);
        }
    });
}

// Conversion alone, from bytes and from each type to itself: exact.
static void test_affine_exact()
{
    for (DType to : real_types)
        for (size_t count : counts) {
            set_context("u8 to %s, %zu elements", dtype_name(to), count);
            std::vector<uint8_t> bytes(count);
            Numbers wanted(count);
            for (size_t i = 0; i < count; i++)
                wanted[i] = bytes[i] = static_cast<uint8_t>(i * 37);
            Array<uint8_t> in(bytes);
            Reals out(to, count);
            run(
                [&] {
                    return kernel_affine(DTYPE_U8, in.at(), to, out.at(), static_cast<int64_t>(count), 1, 0, stream());
                },
                {&out});
            expect_equal("y", out.numbers(), wanted);
            Reals again(to, count);
            run(
                [&] {
                    return kernel_affine(to, out.at(), to, again.at(), static_cast<int64_t>(count), 1, 0, stream());
                },
                {&again});
            expect_equal("y of y", again.numbers(), wanted);
        }
}

// What a smaller type hasn't becomes its largest; infinities and NaN stay what they are.
static void test_saturate()
{
    const double largest[] = {65504, 3.3895313892515355e38}, beyond[] = {65520, 3.4e38};
    for (int i = 0; i < 2; i++) {
        const DType to = i == 0 ? DTYPE_F16 : DTYPE_BF16;
        for (size_t count : counts) {
            set_context("%s, %zu elements", dtype_name(to), count);
            Numbers x = with_specials(count, 1), wanted(count);
            const Dims dims = {static_cast<int64_t>(count)};
            if (count > 3) x[count - 1] = beyond[i], x[count - 2] = -beyond[i], x[count - 3] = largest[i];
            Reals in(DTYPE_F32, x), out(to, count);
            run([&] { return kernel_saturate(in.f32(), to, out.at(), static_cast<int64_t>(count), stream()); }, {&out});
            for (size_t k = 0; k < count; k++)
                wanted[k] = std::isinf(x[k]) ? x[k] : std::fmax(std::fmin(x[k], largest[i]), -largest[i]);
            for (size_t k = 0; k < count; k++)
                if (std::isnan(x[k])) wanted[k] = x[k];
            expect_close("y", to, out.numbers(), wanted);
        }
    }
    EXPECT(kernel_saturate(nullptr, DTYPE_F32, nullptr, 1, stream()) == cudaErrorInvalidValue);
}

static void test_add()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        Numbers a = with_specials(count, 1), b = uniform(count, 2), wanted(count);
        const Dims dims = {static_cast<int64_t>(count)};
        Reals left(type, a, offset[0]), right(type, b, offset[1]), out(type, count, offset[2]);
        run([&] { return kernel_add(type, left.at(), right.at(), out.at(), static_cast<int64_t>(count), stream()); },
            {&out});
        reference(OP_ADD, {}, {view(a, dims), view(b, dims)}, {view(wanted, dims)});
        expect_close("y", type, out.numbers(), wanted);
    });
}

static void check_add_scaled(DType type, size_t count, const std::vector<size_t> &offset, double scale)
{
    Numbers a = uniform(count, 1), b = with_specials(count, 2), s = {scale}, wanted(count);
    const Dims dims = {static_cast<int64_t>(count)};
    Reals left(type, a, offset[0]), right(type, b, offset[1]), factor(DTYPE_F32, s), out(type, count, offset[2]);
    run(
        [&] {
            return kernel_add_scaled(type, left.at(), right.at(), factor.f32(), out.at(), static_cast<int64_t>(count),
                                     stream());
        },
        {&out});
    reference(OP_ADD_SCALED, {}, {view(a, dims), view(b, dims), view(s, {})}, {view(wanted, dims)});
    if (scale == 0)
        expect_equal("y", out.numbers(), wanted);
    else
        expect_close("y", type, out.numbers(), wanted);
}

static void test_add_scaled()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        check_add_scaled(type, count, offset, 0.3);
        check_add_scaled(type, count, offset, 0);
    });
}

// Without a, it is y = s b.
static void test_scale_by()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        Numbers b = with_specials(count, 2), s = {0.3}, wanted(count);
        const Dims dims = {static_cast<int64_t>(count)};
        Reals right(type, b, offset[1]), factor(DTYPE_F32, s), out(type, count, offset[2]);
        run(
            [&] {
                return kernel_add_scaled(type, nullptr, right.at(), factor.f32(), out.at(), static_cast<int64_t>(count),
                                         stream());
            },
            {&out});
        reference(OP_SCALE_BY, {}, {view(b, dims), view(s, {})}, {view(wanted, dims)});
        expect_close("y", type, out.numbers(), wanted);
    });
}

// With s = 0, b isn't read: here it has never been written, which a tracing build reports.
static void test_add_scaled_unread()
{
    Numbers a = uniform(1000, 1), s = {0};
    Reals left(DTYPE_F32, a), right(DTYPE_F32, 1000), factor(DTYPE_F32, s), out(DTYPE_F32, 1000);
    run([&] { return kernel_add_scaled(DTYPE_F32, left.at(), right.at(), factor.f32(), out.at(), 1000, stream()); },
        {&out});
    expect_equal("y", out.numbers(), a);
}

static void test_relu()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        Numbers x = with_specials(count, 1), wanted(count);
        const Dims dims = {static_cast<int64_t>(count)};
        Reals in(type, x, offset[0]), out(type, count, offset[2]);
        run([&] { return kernel_relu(type, in.at(), out.at(), static_cast<int64_t>(count), stream()); }, {&out});
        reference(OP_RELU, {}, {view(x, dims)}, {view(wanted, dims)});
        expect_close("y", 0.0, out.numbers(), wanted);
    });
}

static void test_relu_grad()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        Numbers dy = uniform(count, 1), y = with_specials(count, 2), wanted(count);
        const Dims dims = {static_cast<int64_t>(count)};
        Reals gradient(type, dy, offset[0]), value(type, y, offset[1]), out(type, count, offset[2]);
        run(
            [&] {
                return kernel_relu_grad(type, gradient.at(), value.at(), out.at(), static_cast<int64_t>(count),
                                        stream());
            },
            {&out});
        reference(OP_RELU_GRAD, {}, {view(dy, dims), view(y, dims)}, {view(wanted, dims)});
        expect_close("dx", 0.0, out.numbers(), wanted);
    });
}

// The result in an input's place.
static void test_in_place()
{
    for (DType type : real_types) {
        set_context("%s", dtype_name(type));
        Numbers x = uniform(1003, 1), b = uniform(1003, 2), wanted(1003);
        const Dims dims = {1003};
        Reals memory(type, x), right(type, b);
        EXPECT_CUDA(kernel_relu(type, memory.at(), memory.at(), 1003, stream()));
        EXPECT_CUDA(kernel_add(type, memory.at(), right.at(), memory.at(), 1003, stream()));
        EXPECT_CUDA(cudaStreamSynchronize(stream()));
        reference(OP_RELU, {}, {view(x, dims)}, {view(wanted, dims)});
        reference(OP_ADD, {}, {view(wanted, dims), view(b, dims)}, {view(wanted, dims)});
        expect_close("y", type, memory.numbers(), wanted);
    }
}

// More elements than a grid has threads, one at a time: threads go round more than once.
static void test_long()
{
    const size_t count = 2048 * 256 + 300;
    set_context("%zu elements", count);
    Numbers x = uniform(count, 1), wanted(count);
    const Dims dims = {static_cast<int64_t>(count)};
    Reals in(DTYPE_F16, x, 1), out(DTYPE_F16, count);
    EXPECT_CUDA(kernel_relu(DTYPE_F16, in.at(), out.at(), static_cast<int64_t>(count), stream()));
    EXPECT_CUDA(cudaStreamSynchronize(stream()));
    reference(OP_RELU, {}, {view(x, dims)}, {view(wanted, dims)});
    expect_equal("y", out.numbers(), wanted);
}

static void test_nothing()
{
    const void *in = nullptr;
    EXPECT(kernel_affine(DTYPE_F32, in, DTYPE_F32, nullptr, 0, 1, 0, stream()) == cudaSuccess);
    EXPECT(kernel_add(DTYPE_F16, in, in, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_add_scaled(DTYPE_BF16, in, in, nullptr, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_relu(DTYPE_F32, in, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_relu_grad(DTYPE_F32, in, in, nullptr, 0, stream()) == cudaSuccess);
    EXPECT(kernel_dropout(DTYPE_F32, in, nullptr, 0, 1, {}, stream()) == cudaSuccess);
    EXPECT(kernel_relu(DTYPE_F64, in, nullptr, 1, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_relu(DTYPE_U8, in, nullptr, 1, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_affine(DTYPE_F32, in, DTYPE_I32, nullptr, 1, 1, 0, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_affine(DTYPE_I32, in, DTYPE_F32, nullptr, 1, 1, 0, stream()) == cudaErrorInvalidValue);
    EXPECT(kernel_dropout(DTYPE_F32, in, nullptr, 1, 0, {}, stream()) == cudaErrorInvalidValue);
}

// --- bias ---

struct BiasCase {
    int64_t n;
    int channels;
    int64_t inner;
    bool bias;
};

// A convolution's output, a linear layer's, and channels that no pack of 16 bytes divides.
static const std::vector<BiasCase> bias_cases = {
    {8, 10, 576, true}, {64, 20, 1, true}, {3, 5, 33, true}, {1, 1, 1, true}, {2, 3, 8, false},
};

// y = activation(x + bias): a convolution with one weight of 1 for each channel.
static Numbers bias_reference(const BiasCase &test, Numbers &x, Numbers &bias, bool rectify)
{
    Attributes attributes = {};
    attributes.conv2d.kernel[0] = attributes.conv2d.kernel[1] = 1;
    attributes.conv2d.stride[0] = attributes.conv2d.stride[1] = 1;
    attributes.conv2d.groups = test.channels;
    attributes.conv2d.activation = rectify ? ACTIVATION_RELU : ACTIVATION_NONE;
    const Dims dims = {test.n, test.channels, 1, test.inner};
    Numbers ones(static_cast<size_t>(test.channels), 1.0), y(x.size());
    reference(OP_CONV2D, attributes,
              {view(x, dims), view(ones, {test.channels, 1, 1, 1}), test.bias ? view(bias, {test.channels}) : Tensor{}},
              {view(y, dims)});
    return y;
}

static void check_bias(DType type, const BiasCase &test, size_t offset, bool rectify)
{
    Numbers x = with_specials(static_cast<size_t>(test.n * test.channels * test.inner), 1);
    Numbers bias = uniform(static_cast<size_t>(test.channels), 2);
    Reals in(type, x, offset), shift(DTYPE_F32, bias), out(type, x.size());
    run(
        [&] {
            return kernel_bias(type, in.at(), test.bias ? shift.f32() : nullptr, out.at(), test.n, test.channels,
                               test.inner, rectify, stream());
        },
        {&out});
    const Numbers wanted = bias_reference(test, x, bias, rectify);
    expect_close("y", type, out.numbers(), wanted);
    EXPECT_CUDA(kernel_bias(type, in.at(), test.bias ? shift.f32() : nullptr, in.at(), test.n, test.channels,
                            test.inner, rectify, stream()));
    EXPECT_CUDA(cudaStreamSynchronize(stream()));
    expect_close("y in x's place", type, in.numbers(), wanted);
}

static void test_bias()
{
    for (DType type : real_types)
        for (const BiasCase &test : bias_cases)
            for (size_t offset : {0, 1})
                for (bool rectify : {false, true}) {
                    set_context("%s, [%ld, %d, %ld], offset %zu", dtype_name(type), static_cast<long>(test.n),
                                test.channels, static_cast<long>(test.inner), offset);
                    check_bias(type, test, offset, rectify);
                }
    EXPECT(kernel_bias(DTYPE_F32, nullptr, nullptr, nullptr, 0, 3, 5, true, stream()) == cudaSuccess);
    EXPECT(kernel_bias(DTYPE_F64, nullptr, nullptr, nullptr, 1, 1, 1, true, stream()) == cudaErrorInvalidValue);
}

// --- dropout ---

// Steps beyond 32 bits and a negative seed use all words of the counter.
static const std::vector<std::vector<int64_t>> randoms = {{7, 3}, {-2, 0x123456789abLL}};

static void test_dropout()
{
    for_cases([](DType type, size_t count, const std::vector<size_t> &offset) {
        for (double probability : {0.5, 0.1}) {
            std::vector<int64_t> state = randoms[count % 2];
            Attributes attributes = {};
            attributes.dropout.probability = probability;
            attributes.dropout.layer = 5;
            Numbers x = with_specials(count, 1), wanted(count);
            const Dims dims = {static_cast<int64_t>(count)};
            Reals in(type, x, offset[0]), out(type, count, offset[2]);
            Array<int64_t> random(state);
            run(
                [&] {
                    return kernel_dropout(type, in.at(), out.at(), static_cast<int64_t>(count), 1,
                                          dropout_of(random.get(), 5, probability), stream());
                },
                {&out});
            reference(OP_DROPOUT, attributes, {view(x, dims), view(state, {2})}, {view(wanted, dims)});
            expect_close("y", type, out.numbers(), wanted);
        }
    });
}

// Of ones: each element says whether its word was below the threshold, exactly, up to probabilities that drop all but
// one word in 2^32.
static void test_dropout_masks()
{
    const size_t count = 4099;
    for (double probability : {0.0, 0.25, 0.5, 1 / 3.0, 0x1p-32, 1 - 0x1p-32, 1 - 0x1p-53})
        for (const std::vector<int64_t> &state : randoms) {
            set_context("probability %.17g, step %ld", probability, static_cast<long>(state[1]));
            Numbers x(count, 1.0);
            Reals in(DTYPE_F32, x), out(DTYPE_F32, count);
            Array<int64_t> random(state);
            run(
                [&] {
                    return kernel_dropout(DTYPE_F32, in.at(), out.at(), count, 1,
                                          dropout_of(random.get(), 5, probability), stream());
                },
                {&out});
            Numbers wanted(count);
            for (size_t i = 0; i < count; i++) {
                const uint32_t word =
                    rng_mask_word(static_cast<uint64_t>(state[0]), static_cast<uint64_t>(state[1]), 5, i);
                wanted[i] = word >= probability * 4294967296.0 ? static_cast<float>(1 / (1 - probability)) : 0;
            }
            expect_equal("mask", out.numbers(), wanted);
        }
}

// One decision a channel, for channels of odd and even sizes.
static void test_dropout2d()
{
    for (DType type : real_types)
        for (int64_t inner : {1, 3, 8, 25, 64, 144}) {
            set_context("%s, channels of %ld", dtype_name(type), static_cast<long>(inner));
            const Dims dims = {7, 20, inner};
            const size_t count = static_cast<size_t>(7 * 20 * inner);
            std::vector<int64_t> state = randoms[0];
            Attributes attributes = {};
            attributes.dropout.probability = 0.5;
            attributes.dropout.layer = 5;
            attributes.dropout.channels = true;
            Numbers x = with_specials(count, 1), wanted(count);
            Reals in(type, x), out(type, count);
            Array<int64_t> random(state);
            run(
                [&] {
                    return kernel_dropout(type, in.at(), out.at(), static_cast<int64_t>(count), inner,
                                          dropout_of(random.get(), 5, 0.5), stream());
                },
                {&out});
            reference(OP_DROPOUT, attributes, {view(x, dims), view(state, {2})}, {view(wanted, dims)});
            expect_close("y", type, out.numbers(), wanted);
        }
}

// Without random numbers nothing is dropped or scaled.
static void test_dropout_off()
{
    for (DType type : real_types) {
        set_context("%s", dtype_name(type));
        const KernelDropout dropout = dropout_of(nullptr, 0, 0.5);
        Numbers x = uniform(1001, 1);
        Reals in(type, x), out(type, 1001);
        run([&] { return kernel_dropout(type, in.at(), out.at(), 1001, 1, dropout, stream()); }, {&out});
        expect_equal("y", out.numbers(), x);
    }
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"affine", test_affine},
                      {"affine_exact", test_affine_exact},
                      {"saturate", test_saturate},
                      {"add", test_add},
                      {"add_scaled", test_add_scaled},
                      {"scale_by", test_scale_by},
                      {"add_scaled_unread", test_add_scaled_unread},
                      {"relu", test_relu},
                      {"relu_grad", test_relu_grad},
                      {"in_place", test_in_place},
                      {"long", test_long},
                      {"nothing", test_nothing},
                      {"bias", test_bias},
                      {"dropout", test_dropout},
                      {"dropout_masks", test_dropout_masks},
                      {"dropout2d", test_dropout2d},
                      {"dropout_off", test_dropout_off}});
}
