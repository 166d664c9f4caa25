/* A table for people: columns as wide as their widest cell, numbers flush right.
 *
 *     layer      shape             us   GFLOP/s
 *     conv1      [64, 1, 28, 28]   41      38.2
 *
 * Declare the columns, then add the cells row by row; print. Zero-initialise; free with table_free. Lack of memory
 * shows as missing cells, never as a crash. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "observe/output.h"

enum { TABLE_COLUMNS = 16 };

typedef enum TableAlignment { TABLE_LEFT, TABLE_RIGHT } TableAlignment;

typedef struct Table {
    size_t columns, cells, capacity;
    TableAlignment alignments[TABLE_COLUMNS];
    char **texts; /* the headings, then the rows */
} Table;

/* At most TABLE_COLUMNS, all before the first cell. */
void table_column(Table *table, const char *heading, TableAlignment alignment);

/* The next cell; a row is full after as many cells as there are columns. */
void table_cell(Table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends the lines to `text`, or gives them to the output as a result. A last row that isn't full has empty cells. */
void table_format(const Table *table, Text *text);
void table_print(const Table *table, Output *output);
void table_free(Table *table);
