#include "base/text.h"
#include "cli/command.h"

#include <string.h>

const Command *const commands[] = {
    &command_run,   &command_train, &command_eval, &command_serve, &command_call,
    &command_peers, &command_bench, &command_plan, &command_key,   &command_help,
};

const size_t command_count = sizeof commands / sizeof *commands;

const Command *command_find(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

int command_unknown_word(Output *output, const char *what, const char *word, const char *const *expected, size_t count)
{
    const char *nearest = text_nearest(word, expected, count);
    if (nearest) {
        output_error(output, "unknown %s '%s'; did you mean '%s'?", what, word, nearest);
        return EXIT_USAGE;
    }
    Text list = {0};
    for (size_t i = 0; i < count; i++)
        text_append(&list, "%s%s", !i ? "" : i + 1 == count ? " or " : ", ", expected[i]);
    output_error(output, "unknown %s '%s', expected %s", what, word, list.data ? list.data : "another");
    text_free(&list);
    return EXIT_USAGE;
}
