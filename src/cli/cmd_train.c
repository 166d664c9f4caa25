#include "cli/command.h"
#include "cli/session.h"

static int run(const Options *options, Output *output)
{
    Session session = {0};
    Error error = {0};
    Status status = session_open(&session, options, NULL, NULL, output, &error);
    if (status == STATUS_OK) status = session_learn(&session, &error);
    if (status != STATUS_OK) output_error(output, "%s", error.message);
    session_close(&session);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

const Command command_train = {
    .name = "train",
    .set = COMMAND_TRAIN,
    .summary = "train a soma alone",
    .operands = "",
    .description =
        "Trains a soma on its own data, without a network, and reports the losses and the test accuracy of its local\n"
        "path.\n"
        "\n"
        "With --out the run is saved at the end of each epoch (--save-every N: every N steps), at the end, and on\n"
        "SIGINT or SIGTERM. --resume continues a saved run bit for bit: weights, momenta, dropout, and its place in\n"
        "the data. A crash at any moment leaves the last saved state whole.\n",
    .files = "OUT/model.safetensors, OUT/state.safetensors, OUT/config.json\n"
             "    the run, as saved last\n"
             "DATA/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]\n"
             "    the data (scripts/get-data.sh fetches it)\n",
    .examples = "neuron train --epochs 10 --out runs/a\n"
                "neuron train --out runs/a --resume\n"
                "neuron train --load w.safetensors --shuffle none --dropout 0 --steps 100 --log-every 1 --json\n",
    .run = run,
};
