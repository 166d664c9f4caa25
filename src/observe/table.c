#include "observe/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Columns that a UTF-8 string takes: one a code point, which is right for the letters and units of our tables. */
static size_t text_columns(const char *text)
{
    size_t columns = 0;
    for (; text && *text; text++)
        if (((unsigned char)*text & 0xC0) != 0x80) columns++;
    return columns;
}

/* Takes `text`, which may be NULL: an empty cell. */
static void add(Table *table, char *text)
{
    if (table->cells == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        char **texts = realloc(table->texts, capacity * sizeof *texts);
        if (!texts) {
            free(text);
            return;
        }
        table->texts = texts;
        table->capacity = capacity;
    }
    table->texts[table->cells++] = text;
}

static char *format_text(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

static char *format_text(const char *format, va_list arguments)
{
    char *text = NULL;
    return vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

void table_cell(Table *table, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(table, format_text(format, arguments));
    va_end(arguments);
}

void table_column(Table *table, const char *heading, TableAlignment alignment)
{
    if (table->columns == TABLE_COLUMNS) return;
    table->alignments[table->columns++] = alignment;
    table_cell(table, "%s", heading);
}

/* The last column on the left of its place needs no padding, so lines have no trailing spaces. */
static void format_cell(const Table *table, Text *text, size_t column, size_t width, const char *cell)
{
    int padding = (int)(width - text_columns(cell));
    bool last = column + 1 == table->columns;
    if (column) text_append(text, "  ");
    if (table->alignments[column] == TABLE_RIGHT)
        text_append(text, "%*s%s", padding, "", cell ? cell : "");
    else
        text_append(text, "%s%*s", cell ? cell : "", last ? 0 : padding, "");
    if (last) text_append(text, "\n");
}

void table_format(const Table *table, Text *text)
{
    if (!table->columns) return;
    size_t widths[TABLE_COLUMNS] = {0};
    for (size_t i = 0; i < table->cells; i++) {
        size_t width = text_columns(table->texts[i]), column = i % table->columns;
        if (width > widths[column]) widths[column] = width;
    }
    size_t rows = (table->cells + table->columns - 1) / table->columns;
    for (size_t i = 0; i < rows * table->columns; i++) {
        size_t column = i % table->columns;
        format_cell(table, text, column, widths[column], i < table->cells ? table->texts[i] : NULL);
    }
}

void table_print(const Table *table, Output *output)
{
    Text text = {0};
    table_format(table, &text);
    if (text.data) output_result(output, text.data);
    text_free(&text);
}

void table_free(Table *table)
{
    for (size_t i = 0; i < table->cells; i++)
        free(table->texts[i]);
    free(table->texts);
    *table = (Table){0};
}
