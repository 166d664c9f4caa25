#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "cli/option_table.h"
#include "cli/option_value.h"

enum { INDENT = 7, WIDTH = 80 };

/* --- layout ----------------------------------------------------------------------------------------------------------
 */

/* A paragraph, filled to WIDTH columns behind `indent` spaces. */
static void append_filled(Text *text, size_t indent, const char *words)
{
    size_t column = 0;
    for (const char *at = words; *at;) {
        size_t length = strcspn(at, " ");
        if (column && indent + column + 1 + length > WIDTH) {
            text_append(text, "\n");
            column = 0;
        }
        text_append(text, "%*s%.*s", column ? 1 : (int)indent, "", (int)length, at);
        column += length + (column ? 1 : 0);
        at += length;
        at += strspn(at, " ");
    }
    text_append(text, "\n");
}

/* Lines as they are, each behind the indent. */
static void append_lines(Text *text, const char *lines)
{
    for (const char *at = lines; *at;) {
        size_t length = strcspn(at, "\n");
        text_append(text, "%*s%.*s\n", length ? INDENT : 0, "", (int)length, at);
        at += length + (at[length] == '\n');
    }
}

static void append_heading(Text *text, const char *heading)
{
    text_append(text, "%s%s\n", text->length ? "\n" : "", heading);
}

/* --- options ---------------------------------------------------------------------------------------------------------
 */

static const char *placeholder(const OptionRow *row)
{
    if (row->placeholder) return row->placeholder;
    switch (row->type) {
    case OPTION_FLAG:
        return NULL;
    case OPTION_CHOICE:
        return row->choices;
    case OPTION_INTEGER:
        return "N";
    case OPTION_REAL:
        return "X";
    case OPTION_DURATION:
        return "DURATION";
    case OPTION_BOOLEAN:
        return "true|false";
    case OPTION_RANGE:
        return "A:B";
    case OPTION_INTEGERS:
        return "N,...";
    case OPTION_PEERS:
        return "PEER,...";
    case OPTION_STRING:
        break;
    }
    return "TEXT";
}

static void append_option(Text *text, const OptionRow *row)
{
    Text words = {0};
    const char *value = placeholder(row);
    text_append(text, "%*s--%s%s%s\n", INDENT, "", row->name, value ? " " : "", value ? value : "");
    text_append(&words, "%s", row->help);
    if (row->initial) text_append(&words, " Default %s.", row->initial);
    if (row->type == OPTION_DURATION) text_append(&words, " Such as 500ms, 3s or 2m.");
    if (row->type == OPTION_PEERS) text_append(&words, " PEER is HOST:PORT[/SYNAPSE_KEY].");
    if (words.data) append_filled(text, 2 * INDENT - 3, words.data);
    text_free(&words);
}

static void append_options(Text *text, const Command *command)
{
    append_heading(text, "OPTIONS");
    for (size_t i = 0; i < option_table_length; i++)
        if (option_table[i].commands & command->set) append_option(text, &option_table[i]);
    if (!option_find("config", command->set)) return;
    text_append(text, "\n");
    append_filled(
        text, INDENT,
        "An option may also stand in the file that --config names, or in an environment variable: NEURON_ and "
        "its name in capitals, with _ for - and dots. A flag wins over the environment, the environment "
        "over the file, the file over what a run folder remembers.");
}

/* --- pages -----------------------------------------------------------------------------------------------------------
 */

void help_page(const Command *command, Text *text)
{
    append_heading(text, "NAME");
    text_append(text, "%*sneuron-%s - %s\n", INDENT, "", command->name, command->summary);
    append_heading(text, "SYNOPSIS");
    text_append(text, "%*sneuron %s%s%s [OPTION]...\n", INDENT, "", command->name, *command->operands ? " " : "",
                command->operands);
    append_heading(text, "DESCRIPTION");
    append_lines(text, command->description);
    append_options(text, command);
    if (command->files) {
        append_heading(text, "FILES");
        append_lines(text, command->files);
    }
    append_heading(text, "EXIT STATUS");
    append_lines(text, "0  done\n1  failed; the reason is on stderr\n2  the command line, the environment or the "
                       "configuration is wrong\n");
    if (command->examples) {
        append_heading(text, "EXAMPLES");
        append_lines(text, command->examples);
    }
}

void help_overview(Text *text)
{
    append_heading(text, "NAME");
    text_append(text, "%*sneuron - a node of a network of models that learn from each other\n", INDENT, "");
    append_heading(text, "SYNOPSIS");
    append_lines(text, "neuron COMMAND [OPTION]...\nneuron help COMMAND\nneuron --version\n");
    append_heading(text, "COMMANDS");
    for (size_t i = 0; i < command_count; i++)
        text_append(text, "%*s%-7s %s\n", INDENT, "", commands[i]->name, commands[i]->summary);
}

void help_usage(Text *text)
{
    text_append(text, "usage: neuron COMMAND [OPTION]...\ncommands:");
    for (size_t i = 0; i < command_count; i++)
        text_append(text, " %s", commands[i]->name);
    text_append(text, "\n'neuron help' says what they do, 'neuron help COMMAND' how.\n");
}
