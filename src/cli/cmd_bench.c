#include <string.h>

#include "cli/bench_derived.h"
#include "cli/bench_layers.h"
#include "cli/bench_serve.h"
#include "cli/bench_step.h"
#include "cli/bench_wire.h"
#include "cli/command.h"
#include "cli/session.h"

static const char *const kinds[] = {"layers", "step", "serve", "wire"};

static bool is(const Options *options, const char *kind)
{
    return strcmp(options->operands[0], kind) == 0;
}

/* What is measured inside this process, with a backend and one to check it with. */
static Status bench_plans(const Options *options, Output *output, Backend **backend, Backend *reference, Error *error)
{
    RETURN_IF_ERROR(session_backend(options, options->threads, output, backend, error));
    if (strcmp(backend_name(*backend), "sim") == 0)
        output_line(output, "times below are those of the simulator on this host's CPU, and say nothing about a GPU");
    if (is(options, "layers")) return bench_layers(options, *backend, reference, output, error);
    return bench_step(options, *backend, reference, output, error);
}

static int run(const Options *options, Output *output)
{
    bool known = false, wire = is(options, "wire");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        known = known || is(options, kinds[i]);
    if (!known)
        return command_unknown_word(output, "benchmark", options->operands[0], kinds, sizeof kinds / sizeof *kinds);
    if (!wire && session_soma(options) == NULL) {
        output_error(output, "--soma is '%s', which computes nothing, expected a model; neuron bench wire measures it",
                     options->soma);
        return EXIT_USAGE;
    }

    if (options->plan != NULL && !is(options, "layers")) {
        output_error(output, "--plan derives figures of layers, expected neuron bench layers --plan %s", options->plan);
        return EXIT_USAGE;
    }

    Backend *backend = NULL, *reference = NULL;
    Error error = {0};
    Status status;
    if (options->plan != NULL) {
        GOTO_IF_ERROR(bench_derived(options, output, &error), done);
        goto done;
    }
    if (!wire) GOTO_IF_ERROR(backend_open("reference", NULL, &reference, &error), done);
    if (wire)
        GOTO_IF_ERROR(bench_wire(options, output, &error), done);
    else if (is(options, "serve"))
        GOTO_IF_ERROR(bench_serve(options, reference, output, &error), done);
    else
        GOTO_IF_ERROR(bench_plans(options, output, &backend, reference, &error), done);
done:
    backend_close(reference);
    backend_close(backend);
    if (status == STATUS_OK) return EXIT_DONE;
    output_error(output, "%s", error.message);
    return EXIT_FAILED;
}

const Command command_bench = {
    .name = "bench",
    .set = COMMAND_BENCH,
    .summary = "throughput, layer by layer or as a whole",
    .operands = "layers | step | serve | wire",
    .least_operands = 1,
    .most_operands = 1,
    .description =
        "Measures how fast this machine trains a soma and answers with it, alone and over the network. No data is\n"
        "needed: weights, images and labels are random.\n"
        "\n"
        "step    whole training steps, and inferences from the image to the local target's logits with frozen\n"
        "        weights, as they are and with linear layers folded: median and minimum, and samples a second\n"
        "layers  each step of the compiled plan, by layer: microseconds (the median of several means), GFLOP/s,\n"
        "        GB/s, and the fraction of this machine's peak, which is measured first\n"
        "serve   calls to a neuron that serves the soma: --batch images a call, by --concurrency clients\n"
        "wire    calls to a neuron that serves soma echo: tensors of --size bytes, by --concurrency clients\n"
        "\n"
        "Of step and layers: --fold false leaves the folded inference out. --backward leaves both inferences out, and\n"
        "layers then prints the backward pass alone.\n"
        "\n"
        "On a GPU (--device cuda) layers holds each step against the roofline of the GPU's data sheet, where this "
        "program\n"
        "has it: the least time for its operations at the peak rate of their type, for its bytes at the memory's "
        "rate,\n"
        "and for its launches; the column 'bound' says which of the three is the longest. With --device sim all times\n"
        "are those of the simulator on this host's CPU, and say nothing about a GPU.\n"
        "\n"
        "layers --plan GPU measures nothing and needs no GPU: it derives what a plan for that GPU launches, computes "
        "and\n"
        "moves, step by step in the order of the plan, with the engines that cuDNN chooses for it (a matrix product "
        "counts\n"
        "as one call of cuBLASLt), and the roofline; then the totals of layers and phases. A launch is a kernel or a\n"
        "library call; all of them, and the copies from and to the host, are one CUDA graph. Every tensor that one "
        "launch\n"
        "leaves to another counts as written to memory and read from it, even where a cache would hold it, so that "
        "more\n"
        "than 100 % of a roofline is possible; what an engine does inside its workspace isn't counted. The time "
        "between\n"
        "two launches is an estimate. tests/cli/best_plan.py has the best training step that we know, to compare "
        "with.\n"
        "\n"
        "Before a time is printed the result is checked against plain loops on the same weights and images: the\n"
        "loss or the logits, and after a training step every weight and every gradient. A wrong result ends the\n"
        "program with status 1.\n"
        "\n"
        "Operations and bytes follow from shapes: a multiply-add counts 2, each input of a step is read once and\n"
        "each output written once. The peak of arithmetic is what a loop of multiply-adds on registers reaches, the\n"
        "peak of bandwidth what a loop over as much memory as the plan uses reaches, so that a plan that fits in a\n"
        "cache is held against the cache; each with the threads in use. The fraction is the larger of the two, and\n"
        "the column 'bound' says which; a step that finds its input in a nearer cache can pass 100 %. Steps are\n"
        "measured one by one with all threads waiting for each other, so their sum is a little more than a whole\n"
        "step takes.\n"
        "\n"
        "Of serve and wire: the neuron is one of the benchmark's own, on loopback in the same process (its soma\n"
        "computes with --threads threads; 0 means 1 here), or the one that --connect names. Every combination of\n"
        "--batch, or --size, with --concurrency is measured for --duration, after a fifth of it that isn't counted.\n"
        "--backward measures Backward calls. A client waits for its answer before it asks again (closed loop); with\n"
        "--rate calls are due at random times whatever comes back (open loop), --concurrency is the most that are out\n"
        "at once, and a latency counts from when the call was due, so that it includes what a slow neuron keeps\n"
        "waiting. MB/s are 10^6 bytes of tensors a second; us are microseconds.\n"
        "\n"
        "Every answer is compared: of wire with twice the input (cut or padded to 512 features, unless the neuron\n"
        "serves echo with --raw), of serve with what plain loops make of the same weights; of a neuron that --connect\n"
        "names only the shape can be known, and that all is finite. A wrong answer ends the program with status 1.\n"
        "Calls that fail are counted, by status, and told. --svg draws throughput and latency against concurrency.\n",
    .files = NULL,
    .examples = "neuron bench step --batch 1,64 --threads 2\n"
                "neuron bench layers --batch 64\n"
                "neuron bench layers --device cuda --plan h100 --dtype bf16 --batch 64\n"
                "neuron bench step --fold false --repeat 200 --json\n"
                "neuron bench serve --batch 1 --concurrency 1,8,64 --svg serve.svg\n"
                "neuron bench wire --raw --size 4096,16777216 --concurrency 4\n"
                "neuron bench serve --connect 10.0.0.2:8091 --rate 2000 --concurrency 256\n",
    .run = run,
};
