#include "observe/table.h"

#include "support/suite.h"

static void check_table(const Table *table, const char *expected)
{
    Text text = {0};
    table_format(table, &text);
    ck_assert_str_eq(text.data ? text.data : "", expected);
    text_free(&text);
}

START_TEST(test_columns_are_aligned)
{
    Table table = {0};
    table_column(&table, "layer", TABLE_LEFT);
    table_column(&table, "shape", TABLE_LEFT);
    table_column(&table, "us", TABLE_RIGHT);
    table_cell(&table, "conv1");
    table_cell(&table, "[%d, 1]", 64);
    table_cell(&table, "%.1f", 41.25);
    table_cell(&table, "hidden_layer");
    table_cell(&table, "[1]");
    table_cell(&table, "%.1f", 1041.0);
    check_table(&table, "layer         shape        us\n"
                        "conv1         [64, 1]    41.2\n"
                        "hidden_layer  [1]      1041.0\n");
    table_free(&table);
}
END_TEST

START_TEST(test_letters_of_two_bytes_are_one_column)
{
    Table table = {0};
    table_column(&table, "µs", TABLE_RIGHT);
    table_column(&table, "n", TABLE_LEFT);
    table_cell(&table, "1");
    table_cell(&table, "a");
    check_table(&table, "µs  n\n"
                        " 1  a\n");
    table_free(&table);
}
END_TEST

START_TEST(test_last_row_may_be_short)
{
    Table table = {0};
    table_column(&table, "a", TABLE_LEFT);
    table_column(&table, "bb", TABLE_RIGHT);
    table_cell(&table, "x");
    check_table(&table, "a  bb\nx    \n");
    table_free(&table);
}
END_TEST

START_TEST(test_no_columns_no_table)
{
    Table table = {0};
    check_table(&table, "");
    table_free(&table);
}
END_TEST

START_TEST(test_hundreds_of_rows)
{
    Table table = {0};
    Text expected = {0};
    table_column(&table, "n", TABLE_RIGHT);
    text_append(&expected, "  n\n");
    for (int i = 0; i < 500; i++) {
        table_cell(&table, "%d", i);
        text_append(&expected, "%3d\n", i);
    }
    check_table(&table, expected.data);
    text_free(&expected);
    table_free(&table);
}
END_TEST

SUITE_MAIN("table", test_columns_are_aligned, test_letters_of_two_bytes_are_one_column, test_last_row_may_be_short,
           test_no_columns_no_table, test_hundreds_of_rows)
