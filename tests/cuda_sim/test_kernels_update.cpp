// kernels/update.cu against the reference backend's loops.
#include "kernel_check.h"

#include <cmath>
#include <memory>

using namespace kernel_check;

// The parameters of MNIST's soma, in small, and tables with empty, tiny and odd tensors, more than a warp has lanes.
static const std::vector<std::vector<size_t>> tables = {
    {250, 10, 5000, 20, 832 * 64, 64, 5120, 10},
    {1},
    {3, 0, 31, 33, 0, 257, 0},
    {0, 2048, 2048, 1},
    {5000, 2047, 2},
    std::vector<size_t>(40, 77),
    {832 * 512},
};

struct TensorData {
    Numbers gradient, parameter, momentum;
    std::unique_ptr<Reals> gradients, parameters, momenta, lows;
};

// A table and what it points to, on both sides.
struct Table {
    std::vector<TensorData> tensors;
    std::unique_ptr<Array<KernelTensor>> table;
    int64_t elements = 0;

    Table(const std::vector<size_t> &counts, DType low, size_t offset)
    {
        std::vector<KernelTensor> rows;
        for (size_t count : counts) {
            TensorData data;
            const unsigned seed = static_cast<unsigned>(3 * rows.size());
            data.gradient = uniform(count, seed);
            data.parameter = uniform(count, seed + 1);
            data.momentum = uniform(count, seed + 2);
            data.gradients = std::make_unique<Reals>(DTYPE_F32, data.gradient, offset);
            data.parameters = std::make_unique<Reals>(DTYPE_F32, data.parameter);
            data.momenta = std::make_unique<Reals>(DTYPE_F32, data.momentum, offset);
            if (low != DTYPE_NONE) data.lows = std::make_unique<Reals>(low, count);
            KernelTensor row = {};
            row.first = elements;
            row.count = static_cast<int64_t>(count);
            row.gradient = data.gradients->f32();
            row.parameter = data.parameters->f32();
            row.momentum = data.momenta->f32();
            row.low = data.lows ? data.lows->at() : nullptr;
            elements += row.count;
            rows.push_back(row);
            tensors.push_back(std::move(data));
        }
        table = std::make_unique<Array<KernelTensor>>(rows);
    }
    int count() const
    {
        return static_cast<int>(tensors.size());
    }
};

static Dims dims_of(const Numbers &values)
{
    return {static_cast<int64_t>(values.size())};
}

// --- norm and clipping ---

static void run_norm(const Table &table, const Reals &norm)
{
    Scratch scratch;
    run(
        [&] {
            return kernel_global_norm(table.table->get(), table.count(), table.elements, norm.f32(), scratch.at(),
                                      stream());
        },
        {&norm});
}

static void check_norm(const std::vector<size_t> &counts, size_t offset)
{
    Table table(counts, DTYPE_NONE, offset);
    Reals norm(DTYPE_F32, 1);
    run_norm(table, norm);
    std::vector<Tensor> inputs;
    for (TensorData &data : table.tensors)
        inputs.push_back(view(data.gradient, dims_of(data.gradient)));
    Numbers wanted(1);
    reference(OP_GLOBAL_NORM, {}, inputs, {view(wanted, {})});
    expect_close("norm", 1e-7, norm.numbers(), wanted);
}

static void test_norm()
{
    for (size_t i = 0; i < tables.size(); i++)
        for (size_t offset : {0, 1}) {
            set_context("table %zu, offset %zu", i, offset);
            check_norm(tables[i], offset);
        }
}

static void test_norm_of_nothing()
{
    Reals norm(DTYPE_F32, 1);
    Scratch scratch;
    run([&] { return kernel_global_norm(nullptr, 0, 0, norm.f32(), scratch.at(), stream()); }, {&norm});
    expect_equal("norm", norm.numbers(), Numbers{0.0});
}

// One gradient that isn't finite is enough.
static void test_norm_not_finite()
{
    for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
        Table table(tables[0], DTYPE_NONE, 0);
        Numbers &values = table.tensors[4].gradient;
        values[values.size() - 1] = bad;
        table.tensors[4].gradients->write_numbers(values);
        Reals norm(DTYPE_F32, 1), factor(DTYPE_F32, 1);
        run_norm(table, norm);
        run([&] { return kernel_clip_factor(norm.f32(), factor.f32(), 1, 1, stream()); }, {&factor});
        expect_equal("factor", factor.numbers(), Numbers{0.0});
    }
}

static void test_clip_factor()
{
    for (double length : {0.0, 0.5, 1.0, 7.3, 1e30, static_cast<double>(NAN), static_cast<double>(INFINITY)})
        for (double max_norm : {1.0, 5.0, static_cast<double>(INFINITY)})
            for (double scale : {1.0, 0.125}) {
                set_context("norm %g, at most %g, scale %g", length, max_norm, scale);
                Attributes attributes = {};
                attributes.clip.max_norm = max_norm;
                attributes.clip.scale = scale;
                Numbers value = {length}, wanted(1);
                Reals norm(DTYPE_F32, value), factor(DTYPE_F32, 1);
                run([&] { return kernel_clip_factor(norm.f32(), factor.f32(), max_norm, scale, stream()); }, {&factor});
                reference(OP_CLIP_FACTOR, attributes, {view(value, {})}, {view(wanted, {})});
                expect_close("factor", 1e-7, factor.numbers(), wanted);
            }
}

// --- loss scale ---

// Everything that a step can end with, also where the states are replaced in place and where nobody wants them.
static void test_loss_scale()
{
    const double most = LOSS_SCALE_MOST;
    for (double length : {0.0, 7.3, 1e30, static_cast<double>(NAN), static_cast<double>(INFINITY)})
        for (double now : {1.0, 1024.0, most})
            for (int32_t good : {0, LOSS_SCALE_INTERVAL - 2, LOSS_SCALE_INTERVAL - 1}) {
                set_context("norm %g, scale %g, %d good steps", length, now, good);
                Numbers value = {length}, scales = {now}, unscales(1), nexts(1);
                std::vector<int32_t> steps = {good}, next_steps(1);
                Reals norm(DTYPE_F32, value), scale(DTYPE_F32, scales), unscale(DTYPE_F32, 1), next(DTYPE_F32, 1);
                Array<int32_t> count(steps), next_count(1);
                reference(OP_LOSS_SCALE, {}, {view(value, {}), view(scales, {}), view(steps, {})},
                          {view(unscales, {}), view(nexts, {}), view(next_steps, {})});
                run(
                    [&] {
                        return kernel_loss_scale(norm.f32(), scale.f32(), count.get(), unscale.f32(), next.f32(),
                                                 next_count.get(), LOSS_SCALE_MOST, LOSS_SCALE_INTERVAL, stream());
                    },
                    {&unscale, &next, &next_count});
                expect_equal("unscale", unscale.numbers(), unscales);
                expect_equal("next scale", next.numbers(), nexts);
                expect_equal("next count", next_count.values(), next_steps);
                EXPECT_CUDA(kernel_loss_scale(norm.f32(), scale.f32(), count.get(), unscale.f32(), nullptr, nullptr,
                                              LOSS_SCALE_MOST, LOSS_SCALE_INTERVAL, stream()));
                EXPECT_CUDA(kernel_loss_scale(norm.f32(), scale.f32(), count.get(), unscale.f32(), scale.f32(),
                                              count.get(), LOSS_SCALE_MOST, LOSS_SCALE_INTERVAL, stream()));
                EXPECT_CUDA(cudaStreamSynchronize(stream()));
                expect_equal("scale in place", scale.numbers(), nexts);
                expect_equal("count in place", count.values(), next_steps);
            }
}

// --- sgd ---

struct SgdCase {
    DType low;
    double momentum, weight_decay, gradient_scale; /* gradient_scale 1: none is given */
    bool nesterov;
    size_t offset;
};

static const std::vector<SgdCase> sgd_cases = {
    {DTYPE_NONE, 0.9, 0, 1, false, 0},   {DTYPE_F32, 0.9, 0.01, 0.25, true, 0}, {DTYPE_BF16, 0.9, 0.01, 0.5, false, 0},
    {DTYPE_F16, 0.5, 0.1, 1, true, 0},   {DTYPE_NONE, 0, 0, 2, false, 1},       {DTYPE_BF16, 0.9, 0.01, 1, true, 1},
    {DTYPE_BF16, 0.9, 0.01, 0, true, 0},
};

static KernelSgd sgd_of(const SgdCase &test, const Reals &lr, const Reals &scale)
{
    KernelSgd sgd = {};
    sgd.lr = lr.f32();
    sgd.gradient_scale = test.gradient_scale == 1 ? nullptr : scale.f32();
    sgd.momentum = static_cast<float>(test.momentum);
    sgd.weight_decay = static_cast<float>(test.weight_decay);
    sgd.nesterov = test.nesterov;
    sgd.low_type = test.low;
    return sgd;
}

// Two steps of the reference on one tensor.
static void sgd_reference(const SgdCase &test, TensorData &data, Numbers &lr)
{
    Attributes attributes = {};
    attributes.sgd.momentum = static_cast<float>(test.momentum);
    attributes.sgd.weight_decay = static_cast<float>(test.weight_decay);
    attributes.sgd.nesterov = test.nesterov;
    for (double &value : data.gradient)
        value *= test.gradient_scale;
    const Dims dims = dims_of(data.gradient);
    for (int step = 0; step < 2; step++)
        reference(OP_SGD, attributes,
                  {view(data.parameter, dims), view(data.momentum, dims), view(data.gradient, dims), view(lr, {})},
                  {view(data.parameter, dims), view(data.momentum, dims)});
}

static void check_sgd_tensor(const SgdCase &test, TensorData &data, Numbers &lr)
{
    if (test.gradient_scale == 0) { // nothing has changed
        expect_equal("parameter", data.parameters->numbers(), data.parameter);
        expect_equal("momentum", data.momenta->numbers(), data.momentum);
        return;
    }
    sgd_reference(test, data, lr);
    expect_close("parameter", DTYPE_F32, data.parameters->numbers(), data.parameter);
    expect_close("momentum", DTYPE_F32, data.momenta->numbers(), data.momentum);
    if (!data.lows) return;
    Numbers low = data.parameters->numbers();
    Reals(test.low, low);
    expect_equal("low", data.lows->numbers(), low);
}

static void check_sgd(const std::vector<size_t> &counts, const SgdCase &test)
{
    Table table(counts, test.low, test.offset);
    Numbers rate = {0.03}, factor = {test.gradient_scale};
    Reals lr(DTYPE_F32, rate), scale(DTYPE_F32, factor);
    const KernelSgd sgd = sgd_of(test, lr, scale);
    for (int step = 0; step < 2; step++)
        EXPECT_CUDA(kernel_sgd(table.table->get(), table.count(), table.elements, sgd, stream()));
    EXPECT_CUDA(cudaStreamSynchronize(stream()));
    for (TensorData &data : table.tensors) {
        const Numbers parameter = data.parameters->numbers();
        add_to_digest(parameter.data(), parameter.size() * sizeof parameter[0]);
        check_sgd_tensor(test, data, rate);
    }
}

static void test_sgd()
{
    for (size_t i = 0; i < tables.size(); i++)
        for (size_t k = 0; k < sgd_cases.size(); k++) {
            set_context("table %zu, case %zu", i, k);
            check_sgd(tables[i], sgd_cases[k]);
        }
}

// A gradient_scale of 0 leaves every bit as it was, whatever the gradients are.
static void test_sgd_left_out()
{
    Table table({33, 5000}, DTYPE_NONE, 0);
    Numbers bad = table.tensors[1].gradient, rate = {0.03}, zero = {0};
    bad[7] = NAN;
    table.tensors[1].gradients->write_numbers(bad);
    Reals lr(DTYPE_F32, rate), scale(DTYPE_F32, zero);
    const SgdCase test = {DTYPE_NONE, 0.9, 0.1, 0, true, 0};
    EXPECT_CUDA(kernel_sgd(table.table->get(), table.count(), table.elements, sgd_of(test, lr, scale), stream()));
    EXPECT_CUDA(cudaStreamSynchronize(stream()));
    for (TensorData &data : table.tensors)
        check_sgd_tensor(test, data, rate);
    EXPECT(kernel_sgd(nullptr, 0, 0, sgd_of(test, lr, scale), stream()) == cudaSuccess);
    const SgdCase wrong = {DTYPE_I32, 0.9, 0.1, 0, true, 0};
    EXPECT(kernel_sgd(table.table->get(), table.count(), table.elements, sgd_of(wrong, lr, scale), stream()) ==
           cudaErrorInvalidValue);
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv,
                     {{"norm", test_norm},
                      {"norm_of_nothing", test_norm_of_nothing},
                      {"norm_not_finite", test_norm_not_finite},
                      {"clip_factor", test_clip_factor},
                      {"loss_scale", test_loss_scale},
                      {"sgd", test_sgd},
                      {"sgd_left_out", test_sgd_left_out}});
}
