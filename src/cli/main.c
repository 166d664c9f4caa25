/* The program: finds the command, reads its options, runs it, and ends with its status. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/help.h"
#include "cli/signals.h"

extern char **environ;

/* oneDNN brings OpenMP, whose threads spin while they wait unless this variable is set before the program starts: spinning
 * teams starve each other. Sets it and starts the program again, once. When that fails, it is merely slower. */
static void start_with_passive_openmp(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
}

/* "neuron", "neuron --help" and so on are calls of help. */
static const Command *choose_command(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (word[0] == '-') return &command_help;
    return command_find(word);
}

static int print_version(Output *output)
{
    output_result(output, "neuron " NEURON_VERSION "\n");
    return EXIT_DONE;
}

static int check_operands(const Command *command, const Options *options, Output *output)
{
    size_t count = options->operand_count;
    if (count < command->least_operands)
        output_error(output, "neuron %s needs %s; see 'neuron help %s'", command->name, command->operands,
                     command->name);
    else if (count > command->most_operands)
        output_error(output, "neuron %s has no place for '%s'; see 'neuron help %s'", command->name,
                     options->operands[command->most_operands], command->name);
    else
        return EXIT_DONE;
    return EXIT_USAGE;
}

/* Everything but the first word of the command line. */
static int run_command(const Command *command, const Options *options, Output *output)
{
    if (options->version) return print_version(output);
    if (options->help) {
        Options page = {.operands = &command->name, .operand_count = command != &command_help};
        return command_help.run(&page, output);
    }
    int refused = check_operands(command, options, output);
    return refused ? refused : command->run(options, output);
}

static int fail(Output *output, const Error *error)
{
    output_error(output, "%s", error->message);
    return error->status == STATUS_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    Error error = {0};
    Options options = {0};
    Output output;
    int exit_status;

    start_with_passive_openmp(argv);
    const Command *command = choose_command(argc, argv);
    if (argc < 2 || !command) {
        Text usage = {0};
        help_usage(&usage);

    }
}
