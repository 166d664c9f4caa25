/* The program: finds the command, reads its options, runs it, and ends with its status. */
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/subnormals.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/signals.h"

extern char **environ;

/* Messages of megabytes come and go: glibc would map fresh pages for each, and the kernel clear them. Keeping them is
 * worth a quarter of the rate at 16 MiB (bench wire, 4 calls in flight: 1.55 GB/s each way without, 1.95 with). */
static void tune_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that glibc takes */
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

static int print_usage(void)
{
    Text usage = {0};
    help_usage(&usage);
    fputs(usage.data ? usage.data : "usage: neuron COMMAND\n", stderr);
    text_free(&usage);
    return EXIT_USAGE;
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

/* The page of one command, or the overview for NULL. An unknown command is told there. */
static int print_help(const char *name, Output *output)
{
    Options options = {.operands = &name, .operand_count = name != NULL};
    return command_help.run(&options, output);
}

static int fail(Output *output, const Error *error)
{
    output_error(output, "%s", error->message);
    return error->status == STATUS_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

static int run_command(const Command *command, Options *options, Output *output)
{
    Error error = {0};
    if (options->version) {
        output_result(output, "neuron " NEURON_VERSION "\n");
        return EXIT_DONE;
    }
    if (options->help) return print_help(command == &command_help ? NULL : command->name, output);
    int refused = check_operands(command, options, output);
    if (refused) return refused;
    if (options_read_run_folder(options, &error) != STATUS_OK || signals_install(&error) != STATUS_OK)
        return fail(output, &error);
    return command->run(options, output);
}

int main(int argc, char **argv)
{
    subnormals_flush();
    tune_malloc();
    Error error = {0};
    Options options = {0};
    Output output;
    int exit_status;

    if (argc < 2) return print_usage();
    bool is_option = argv[1][0] == '-'; /* "neuron --help" and "neuron --version" are calls of help */
    const Command *command = is_option ? &command_help : command_find(argv[1]);
    int used = is_option ? 1 : 2;

    Status parsed = STATUS_OK;
    if (command) parsed = options_parse(&options, command->set, argc - used, argv + used, environ, &error);
    if (output_open(&output, stdout, stderr, options.json, options.quiet, NULL) != STATUS_OK) return EXIT_FAILED;
    log_set_sink(output_log_sink, &output);
    if (!command) {
        print_help(argv[1], &output);
        exit_status = EXIT_USAGE;
    } else if (parsed != STATUS_OK) {
        exit_status = fail(&output, &error);
    } else {
        exit_status = run_command(command, &options, &output);
    }

    log_set_sink(NULL, NULL);
    if (output_finish(&output, &error) != STATUS_OK) {
        fprintf(stderr, "neuron: %s\n", error.message);
        if (exit_status == EXIT_DONE) exit_status = EXIT_FAILED;
    }
    options_free(&options);
    return exit_status;
}
