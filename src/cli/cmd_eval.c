#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/key_file.h"
#include "cli/session.h"
#include "cli/signals.h"
#include "neuron/ask.h"

typedef struct Evaluating {
    const Options *options;
    Backend *backend;
    Variables *variables;
    Dataset test;
    Evaluator *evaluator;
    Peer *peers; /* of the remote path */
    size_t peer_count;
    Dendrite *dendrite;
    Loader *loader; /* of the questions to the peers */
    Asker *asker;
} Evaluating;

static Status open_peers(Evaluating *e, Error *error)
{
    const Options *o = e->options;
    Identity identity;
    RETURN_IF_ERROR(peer_parse_list(o->peers, &e->peers, &e->peer_count, error));
    RETURN_IF_ERROR(key_file_open(o, &identity, error));
    RETURN_IF_ERROR(session_dendrite(o, e->peers, e->peer_count, identity.text, &e->dendrite, error));
    LoaderOptions loader = {
        .dataset = &e->test, .end = e->test.images.shape.dims[0], .labelled = true, .batch = o->batch};
    RETURN_IF_ERROR(loader_create(&loader, &e->loader, error));
    AskerOptions asker = {.loaders = {e->loader},
                          .batch = o->batch,
                          .rows = e->test.images.shape.dims[2],
                          .columns = e->test.images.shape.dims[3],
                          .dendrite = e->dendrite,
                          .deadline_ns = o->deadline};
    RETURN_IF_ERROR(asker_create(&asker, &e->asker, error));
    asker_limit(e->asker, loader_steps_per_epoch(e->loader));
    return STATUS_OK;
}

/* The gate of the remote path belongs to a certain network: initial values in its place would mean nothing. */
static Status load(Evaluating *e, bool remote, Error *error)
{
    const Options *o = e->options;
    Status status = checkpoint_load_model(o->load, e->variables, remote || o->strict, error);
    if (status != STATUS_OK && remote)
        return error_prefix(error, "can't evaluate the remote path with %zu peer%s", e->peer_count,
                            e->peer_count == 1 ? "" : "s");
    return status;
}

static Status open_evaluation(Evaluating *e, bool remote, Output *output, Error *error)
{
    const Options *o = e->options;
    RETURN_IF_ERROR(dataset_load_mnist(o->data, DATASET_TEST, &e->test, error));
    if (remote) RETURN_IF_ERROR(open_peers(e, error));
    RETURN_IF_ERROR(session_backend(o, o->threads, output, &e->backend, error));
    RETURN_IF_ERROR(variables_create(e->backend, &e->variables, error));
    EvaluatorOptions evaluator = {.soma = session_soma(o),
                                  .rows = e->test.images.shape.dims[2],
                                  .columns = e->test.images.shape.dims[3],
                                  .peers = (int)e->peer_count,
                                  .batch = o->batch,
                                  .fold = o->fold};
    RETURN_IF_ERROR(evaluator_create(e->backend, e->variables, &evaluator, &e->evaluator, error));
    return load(e, remote, error);
}

static Status nobody_answered(const Evaluating *e, Error *error)
{
    Error why = {0};
    dendrite_last_failure(e->dendrite, 0, &why);
    return error_set(error, STATUS_UNAVAILABLE, "no peer answered (%zu asked); %s: %s", e->peer_count,
                     e->peers[0].address, why.message);
}

static void report(const Options *options, const Evaluation *evaluation, bool remote, Output *output)
{
    output_line(output, "test accuracy %.2f %% (%s path, loss %.4f, %ld images)", 100 * evaluation->accuracy,
                options->path, evaluation->loss, (long)evaluation->samples);
    Event event = event_make("eval");
    event_text(&event, "path", options->path);
    event_real(&event, "accuracy", evaluation->accuracy);
    event_real(&event, "loss", evaluation->loss);
    event_integer(&event, "samples", evaluation->samples);
    if (remote) event_integer(&event, "answered", evaluation->answered);
    output_event(output, &event);
}

static int check_usage(const Options *options, bool remote, Output *output)
{
    bool peers = options->peers != NULL && options->peers[0] != '\0';
    if (options->load == NULL)
        output_error(output, "neuron eval needs the weights, expected --load PATH; see 'neuron help eval'");
    else if (remote && !peers)
        output_error(output, "--path remote asks the peers, expected --peers with it; see 'neuron help eval'");
    else if (!remote && peers)
        output_error(output, "--peers are asked by the remote path only, expected --path remote with it");
    else
        return EXIT_DONE;
    return EXIT_USAGE;
}

static int run(const Options *options, Output *output)
{
    Evaluating e = {.options = options};
    bool remote = strcmp(options->path, "remote") == 0;
    Evaluation evaluation;
    Error error = {0};
    Status status;

    int refused = check_usage(options, remote, output);
    if (refused) return refused;
    GOTO_IF_ERROR(open_evaluation(&e, remote, output, &error), done);
    GOTO_IF_ERROR(evaluator_run(e.evaluator, &e.test, remote, asker_evaluate, e.asker, signals_stop_requested,
                                &evaluation, &error),
                  done);
    if (remote && evaluation.answered == 0) GOTO_IF_ERROR(nobody_answered(&e, &error), done);
    report(options, &evaluation, remote, output);
done:
    if (status != STATUS_OK) output_error(output, "%s", error.message);
    evaluator_destroy(e.evaluator);
    variables_destroy(e.variables);
    backend_close(e.backend);
    asker_destroy(e.asker);
    loader_destroy(e.loader);
    dendrite_destroy(e.dendrite);
    dataset_destroy(&e.test);
    free(e.peers);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

const Command command_eval = {
    .name = "eval",
    .set = COMMAND_EVAL,
    .summary = "accuracy / loss of a checkpoint",
    .operands = "",
    .description =
        "Measures the accuracy and the loss of saved weights on the test images, in evaluation mode.\n"
        "\n"
        "--path local is the soma alone: what it knows when nobody else is there. --path remote asks --peers about\n"
        "every image, and joins their answers with the gate that was trained with the weights, so there must be as\n"
        "many peers as then, in the same order. Images that nobody answers for count as wrong.\n",
    .files = "LOAD/model.safetensors\n"
             "    the weights, if LOAD is a folder\n"
             "DATA/mnist/t10k-{images-idx3,labels-idx1}-ubyte[.gz]\n"
             "    the data (scripts/get-data.sh fetches it)\n",
    .examples = "neuron eval --load runs/a\n"
                "neuron eval --load weights.safetensors --strict --json\n"
                "neuron eval --load runs/c --path remote --peers 127.0.0.1:8091,127.0.0.1:8092\n",
    .run = run,
};
