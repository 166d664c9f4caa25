#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "cli/option_table.h"
#include "support/suite.h"

enum { COMMANDS = 10 };

/* Lines of `text` that begin with an option's heading, "       --NAME" and a space or the line's end. */
static int count_headings(const char *text, const char *name)
{
    char heading[64];
    int found = 0;
    int length = snprintf(heading, sizeof heading, "\n       --%s", name);
    for (const char *at = text; (at = strstr(at, heading)); at += length)
        found += at[length] == ' ' || at[length] == '\n';
    return found;
}

static bool takes(const OptionRow *row, unsigned set)
{
    return (row->commands & set) != 0;
}

START_TEST(test_page_has_every_option_of_the_command_once_and_no_other)
{
    for (unsigned bit = 0; bit < COMMANDS; bit++) {
        Command command = {.name = option_command_names[bit],
                           .set = (CommandSet)(1u << bit),
                           .summary = "do it",
                           .operands = "",
                           .description = "Does it.\n"};
        Text page = {0};
        help_page(&command, &page);
        for (size_t i = 0; i < option_table_length; i++) {
            const char *name = option_table[i].name;
            ck_assert_msg(count_headings(page.data, name) == (option_find(name, command.set) ? 1 : 0), "%s --%s",
                          command.name, name);
        }
        text_free(&page);
    }
}
END_TEST

START_TEST(test_page_has_its_sections)
{
    static const char *const sections[] = {"NAME\n",    "\nSYNOPSIS\n",    "\nDESCRIPTION\n", "\nOPTIONS\n",
                                           "\nFILES\n", "\nEXIT STATUS\n", "\nEXAMPLES\n"};
    Text page = {0};
    help_page(&command_key, &page);
    const char *at = page.data;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        at = strstr(at, sections[i]);
        ck_assert_msg(at != NULL, "%s", sections[i]);
    }
    text_free(&page);
}
END_TEST

START_TEST(test_generated_lines_fit_the_terminal)
{
    Text page = {0};
    help_page(&command_key, &page);
    for (char *line = strtok(page.data, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_msg(strlen(line) <= 100, "%s", line);
    text_free(&page);
}
END_TEST

START_TEST(test_overview_names_every_command)
{
    Text page = {0};
    help_overview(&page);
    for (size_t i = 0; i < command_count; i++) {
        ck_assert_ptr_nonnull(strstr(page.data, commands[i]->name));
        ck_assert_ptr_nonnull(strstr(page.data, commands[i]->summary));
        ck_assert_ptr_eq(command_find(commands[i]->name), commands[i]);
        ck_assert(commands[i]->run != NULL);
    }
    ck_assert_ptr_null(command_find("trian"));
    text_free(&page);
}
END_TEST

/* One command may not have two options of one name, nor may two options share a field. */
START_TEST(test_table_is_consistent)
{
    for (size_t i = 0; i < option_table_length; i++) {
        const OptionRow *row = &option_table[i];
        ck_assert_msg(row->commands && row->help && row->help[strlen(row->help) - 1] == '.', "%s", row->name);
        ck_assert_msg((row->type == OPTION_CHOICE) == (row->choices != NULL), "%s", row->name);
        for (size_t j = i + 1; j < option_table_length; j++) {
            bool same_name = strcmp(row->name, option_table[j].name) == 0;
            ck_assert_msg(!same_name || !takes(row, option_table[j].commands), "%s", row->name);
            ck_assert_msg(same_name || row->offset != option_table[j].offset, "%s", row->name);
        }
    }
}
END_TEST

START_TEST(test_environment_names)
{
    char name[64];
    option_environment_name(option_find("weight-decay", COMMAND_TRAIN), name, sizeof name);
    ck_assert_str_eq(name, "NEURON_WEIGHT_DECAY");
    option_environment_name(option_find("distill.detach", COMMAND_TRAIN), name, sizeof name);
    ck_assert_str_eq(name, "NEURON_DISTILL_DETACH");
}
END_TEST

SUITE_MAIN("help", test_page_has_every_option_of_the_command_once_and_no_other, test_page_has_its_sections,
           test_generated_lines_fit_the_terminal, test_overview_names_every_command, test_table_is_consistent,
           test_environment_names)
