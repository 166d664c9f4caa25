#include "tensor/shape.h"

#include <string.h>

#include "support/suite.h"

START_TEST(test_of_takes_dimensions)
{
    Shape shape = shape_of(64, 1, 28, 28);
    ck_assert_int_eq(shape.rank, 4);
    ck_assert_int_eq(shape.dims[0], 64);
    ck_assert_int_eq(shape.dims[3], 28);
    ck_assert_int_eq(shape_count(shape), 50176);
    ck_assert_int_eq(shape_count(shape_scalar()), 1);
    ck_assert_int_eq(shape_count(shape_of(3, 0, 5)), 0);
}
END_TEST

START_TEST(test_equal)
{
    ck_assert(shape_equal(shape_of(2, 3), shape_of(2, 3)));
    ck_assert(!shape_equal(shape_of(2, 3), shape_of(3, 2)));
    ck_assert(!shape_equal(shape_of(2, 3), shape_of(2, 3, 1)));
    ck_assert(shape_equal(shape_scalar(), shape_scalar()));
}
END_TEST

START_TEST(test_text)
{
    char text[SHAPE_TEXT_SIZE];
    ck_assert_str_eq(shape_text(shape_of(64, 1, 28, 28), text), "[64, 1, 28, 28]");
    ck_assert_str_eq(shape_text(shape_of(7), text), "[7]");
    ck_assert_str_eq(shape_text(shape_scalar(), text), "[]");
}
END_TEST

START_TEST(test_longest_text_fits)
{
    char text[SHAPE_TEXT_SIZE];
    const int64_t least = INT64_MIN;
    shape_text(shape_of(least, least, least, least, least, least), text);
    ck_assert_uint_eq(strlen(text), 6 * 20 + 5 * 2 + 2);
    ck_assert_int_eq(text[strlen(text) - 1], ']');
}
END_TEST

START_TEST(test_bytes)
{
    size_t bytes = 0;
    ck_assert(shape_bytes(shape_of(64, 1, 28, 28), 4, &bytes));
    ck_assert_uint_eq(bytes, 200704);
    ck_assert(shape_bytes(shape_scalar(), 8, &bytes));
    ck_assert_uint_eq(bytes, 8);
    ck_assert(shape_bytes(shape_of(5, 0), 8, &bytes));
    ck_assert_uint_eq(bytes, 0);
}
END_TEST

START_TEST(test_bytes_refuses_what_cannot_be_counted)
{
    const int64_t huge = INT64_C(1) << 62;
    size_t bytes = 9;
    ck_assert(!shape_bytes(shape_of(2, -1), 4, &bytes));
    ck_assert(!shape_bytes(shape_of(-1, -1), 4, &bytes));
    ck_assert(!shape_bytes(shape_of(0, -1), 4, &bytes));
    ck_assert(!shape_bytes(shape_of(huge, 4), 1, &bytes));
    ck_assert(!shape_bytes(shape_of(huge), 4, &bytes));
    ck_assert(!shape_bytes(shape_of(huge, 2), 1, &bytes)); /* fits a size_t, not a ptrdiff_t */
    ck_assert(!shape_bytes(shape_of(0, huge, huge), 1, &bytes));
    ck_assert(!shape_bytes(shape_of(huge, huge, 0), 1, &bytes));
    ck_assert_uint_eq(bytes, 9);
    ck_assert(shape_bytes(shape_of(huge), 1, &bytes));
    ck_assert_uint_eq(bytes, (size_t)huge);
}
END_TEST

START_TEST(test_rank_out_of_range_is_refused)
{
    char text[SHAPE_TEXT_SIZE];
    size_t bytes;
    Shape shape = shape_of(1, 2, 3, 4, 5, 6, 7);
    ck_assert_int_eq(shape.rank, -1);
    ck_assert(!shape_bytes(shape, 1, &bytes));
    ck_assert_str_eq(shape_text(shape, text), "[of no valid rank]");
    shape = (Shape){.rank = 100};
    ck_assert(!shape_bytes(shape, 1, &bytes));
    ck_assert_str_eq(shape_text(shape, text), "[of no valid rank]");
}
END_TEST

SUITE_MAIN("shape", test_of_takes_dimensions, test_equal, test_text, test_longest_text_fits, test_bytes,
           test_bytes_refuses_what_cannot_be_counted, test_rank_out_of_range_is_refused)
