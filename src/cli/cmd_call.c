#include <math.h>
#include <string.h>

#include "base/text.h"
#include "cli/command.h"
#include "cli/key_file.h"
#include "dendrite/dendrite.h"
#include "tensor/safetensors.h"
#include "wire/peer.h"

/* The tensor of that name, else the first of the file; it lives as long as *file. */
static Status open_tensor(const char *path, const char *name, Safetensors **file, const Tensor **out, Error *error)
{
    RETURN_IF_ERROR(safetensors_open(path, file, error));
    *out = safetensors_find(*file, name);
    if (*out == NULL && safetensors_count(*file) > 0) *out = safetensors_at(*file, 0);
    if (*out != NULL) return STATUS_OK;
    return error_set(error, STATUS_INVALID_ARGUMENT, "%s holds no tensor, expected one named '%s' or any", path, name);
}

static double element(const Tensor *tensor, int64_t index)
{
    switch (tensor->dtype) {
    case DTYPE_F32:
        return (double)((const float *)tensor->data)[index];
    case DTYPE_F64:
        return ((const double *)tensor->data)[index];
    case DTYPE_I32:
        return ((const int32_t *)tensor->data)[index];
    case DTYPE_I64:
        return (double)((const int64_t *)tensor->data)[index];
    default:
        return (double)NAN; /* no other dtype comes over the wire */
    }
}

typedef struct Summary {
    double least, mean, most; /* of the finite elements; NaN where there are none */
    bool finite;              /* all are */
} Summary;

static Summary summarize(const Tensor *tensor)
{
    Summary s = {.least = (double)INFINITY, .most = (double)-INFINITY, .finite = true};
    int64_t count = shape_count(tensor->shape), finite = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = element(tensor, i);
        if (!isfinite(x)) {
            s.finite = false;
            continue;
        }
        s.least = fmin(s.least, x);
        s.most = fmax(s.most, x);
        s.mean += x;
        finite++;
    }
    s.mean /= (double)finite;
    if (finite == 0) s.least = s.most = s.mean = (double)NAN;
    return s;
}

static void report(const Options *options, const Peer *peer, const Tensor *answer, uint64_t latency_ns, Output *output)
{
    Summary summary = summarize(answer);
    double milliseconds = (double)latency_ns * 1e-6;
    Event event = event_make("call");
    event_text(&event, "peer", peer->address);
    event_integers(&event, "shape", answer->shape.dims, (size_t)answer->shape.rank);
    event_text(&event, "dtype", dtype_name(answer->dtype));
    event_real(&event, "latency_ms", milliseconds);
    event_boolean(&event, "finite", summary.finite);
    output_event(output, &event);
    if (options->json) return;

    Text text = {0};
    char shape[SHAPE_TEXT_SIZE];
    text_append(&text, "%s %s from %s in %.2f ms: min %.6g, mean %.6g, max %.6g%s\n", dtype_name(answer->dtype),
                shape_text(answer->shape, shape), peer->address, milliseconds, summary.least, summary.mean,
                summary.most, summary.finite ? "" : " (of the finite elements; others are not finite)");
    if (text.data) output_result(output, text.data);
    text_free(&text);
}

/* Asks, and puts the peer's name and status before its sentence where it fails. */
static Status ask(const Options *options, const Peer *peer, const Tensor *input, const Tensor *gradient, Tensor *answer,
                  uint64_t *latency_ns, Error *error)
{
    Modality modality = MODALITY_TENSOR;
    Identity identity;
    RETURN_IF_ERROR(key_file_open(options, &identity, error));
    modality_from_name(options->modality, &modality); /* the table of options lets no other word through */
    DendriteOptions dendrite = {.neuron_key = identity.text,
                                .deadline_ns = options->deadline,
                                .max_message_bytes = (size_t)options->max_message};
    Status status = gradient == NULL
                        ? dendrite_call_forward(&dendrite, peer, input, modality, answer, latency_ns, error)
                        : dendrite_call_backward(&dendrite, peer, input, modality, gradient, answer, latency_ns, error);
    if (status != STATUS_OK) error_prefix(error, "%s: %s", peer->address, status_name(status));
    return status;
}

static Status call(const Options *options, const Peer *peer, Output *output, Error *error)
{
    Safetensors *files[2] = {NULL, NULL};
    const Tensor *input = NULL, *gradient = NULL;
    Tensor answer = {0};
    uint64_t latency = 0;
    Status status;
    GOTO_IF_ERROR(open_tensor(options->input, "input", &files[0], &input, error), done);
    if (options->gradient != NULL)
        GOTO_IF_ERROR(open_tensor(options->gradient, "gradient", &files[1], &gradient, error), done);
    GOTO_IF_ERROR(ask(options, peer, input, gradient, &answer, &latency, error), done);
    if (options->out != NULL) {
        NamedTensor named = {"output", answer};
        GOTO_IF_ERROR(safetensors_write(options->out, &named, 1, NULL, 0, error), done);
    }
    report(options, peer, &answer, latency, output);
done:
    tensor_destroy(&answer);
    safetensors_close(files[0]);
    safetensors_close(files[1]);
    return status;
}

static int run(const Options *options, Output *output)
{
    Peer peer;
    Error error = {0};
    if (peer_parse(options->operands[0], &peer, &error) != STATUS_OK) {
        output_error(output, "%s", error.message);
        return EXIT_USAGE;
    }
    if ((options->input != NULL) == (options->text != NULL)) {
        output_error(output, "neuron call needs one input, expected either --input FILE or --text TEXT");
        return EXIT_USAGE;
    }
    if (options->text != NULL) {
        output_error(output, "--text needs a vocabulary to become token ids, and no soma of this program has one; "
                             "expected --input FILE with i64 ids [batch, seq] and --modality text");
        return EXIT_FAILED;
    }
    if (call(options, &peer, output, &error) == STATUS_OK) return EXIT_DONE;
    output_error(output, "%s", error.message);
    return EXIT_FAILED;
}

const Command command_call = {
    .name = "call",
    .set = COMMAND_CALL,
    .summary = "one request as a dendrite would make it",
    .operands = "PEER",
    .least_operands = 1,
    .most_operands = 1,
    .description =
        "Sends one tensor to a neuron, and prints what kind of answer came, and how fast: Forward, or with --gradient\n"
        "Backward. PEER is HOST:PORT[/SYNAPSE_KEY]; the key may be left out where the peer serves one soma only.\n"
        "\n"
        "The input is sent in the shape and dtype of the file: an image as f32 [batch, seq, channels, rows, columns],\n"
        "a text as i64 ids [batch, seq], a tensor as f32 [batch, seq, features]. A gradient has the shape of the\n"
        "answer to Forward, [batch, seq, 512]; the answer to Backward has the input's. A refusal is told with the\n"
        "peer's status and sentence.\n",
    .files = "FILE of --input, --gradient\n"
             "    safetensors; the tensor named 'input' (or 'gradient'), else the first\n"
             "FILE of --out\n"
             "    safetensors with the answer, named 'output'\n",
    .examples = "neuron call 127.0.0.1:8091 --input image.safetensors --modality image --out hidden.safetensors\n"
                "neuron call 127.0.0.1:8091 --input image.safetensors --modality image --gradient g.safetensors\n",
    .run = run,
};
