#include <string.h>

#include "cli/bench_layers.h"
#include "cli/bench_step.h"
#include "cli/command.h"
#include "cli/session.h"

static int run(const Options *options, Output *output)
{
    static const char *const kinds[] = {"layers", "step"};
    const char *kind = options->operands[0];
    bool layers = strcmp(kind, "layers") == 0;
    if (!layers && strcmp(kind, "step") != 0) return command_unknown_word(output, "benchmark", kind, kinds, 2);

    Backend *backend = NULL, *reference = NULL;
    Error error = {0};
    Status status;
    GOTO_IF_ERROR(session_backend(options, options->threads, output, &backend, &error), done);
    GOTO_IF_ERROR(backend_open("reference", NULL, &reference, &error), done);
    if (layers)
        GOTO_IF_ERROR(bench_layers(options, backend, reference, output, &error), done);
    else
        GOTO_IF_ERROR(bench_step(options, backend, reference, output, &error), done);
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
    .operands = "layers | step",
    .least_operands = 1,
    .most_operands = 1,
    .description =
        "Measures how fast this machine trains a soma and answers with it. No data is needed: images and labels are\n"
        "random.\n"
        "\n"
        "step    whole training steps, and inferences from the image to the local target's logits with frozen\n"
        "        weights, as they are and with linear layers folded: median and minimum, and samples a second\n"
        "layers  each step of the compiled plan, by layer: microseconds (the median of several means), GFLOP/s,\n"
        "        GB/s, and the fraction of this machine's peak, which is measured first\n"
        "\n"
        "--fold false leaves the folded inference out. --backward leaves both inferences out, and layers then prints\n"
        "the backward pass alone.\n"
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
        "step takes.\n",
    .files = NULL,
    .examples = "neuron bench step --batch 1,64 --threads 2\n"
                "neuron bench layers --batch 64\n"
                "neuron bench step --fold false --repeat 200 --json\n",
    .run = run,
};
