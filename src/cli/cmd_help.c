#include "cli/command.h"
#include "cli/help.h"

static int unknown_command(Output *output, const char *name)
{
    const char *names[32];
    size_t count = 0;
    while (count < command_count && count < sizeof names / sizeof *names) {
        names[count] = commands[count]->name;
        count++;
    }
    return command_unknown_word(output, "command", name, names, count);
}

static int run(const Options *options, Output *output)
{
    Text text = {0};
    const Command *command = NULL;
    if (options->operand_count) {
        command = command_find(options->operands[0]);
        if (!command) return unknown_command(output, options->operands[0]);
    }
    if (command)
        help_page(command, &text);
    else
        help_overview(&text);
    if (text.data) output_result(output, text.data);
    text_free(&text);
    return EXIT_DONE;
}

const Command command_help = {
    .name = "help",
    .set = COMMAND_HELP,
    .summary = "say what the program and its commands do",
    .operands = "[COMMAND]",
    .most_operands = 1,
    .description = "Prints the page of COMMAND, or the list of commands.\n",
    .examples = "neuron help key\n",
    .run = run,
};
