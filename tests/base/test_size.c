#include "base/size.h"

#include "support/suite.h"

START_TEST(test_product_and_sum)
{
    size_t out = 0;
    ck_assert(size_multiply(6, 7, &out));
    ck_assert_uint_eq(out, 42);
    ck_assert(size_add(40, 2, &out));
    ck_assert_uint_eq(out, 42);
    ck_assert(size_multiply(SIZE_MAX, 0, &out));
    ck_assert_uint_eq(out, 0);
}
END_TEST

START_TEST(test_overflow_leaves_the_result_alone)
{
    size_t out = 3;
    ck_assert(!size_multiply(SIZE_MAX / 2 + 1, 2, &out));
    ck_assert(!size_add(SIZE_MAX, 1, &out));
    ck_assert_uint_eq(out, 3);
}
END_TEST

START_TEST(test_align_rounds_up)
{
    ck_assert_uint_eq(size_align(0, 64), 0);
    ck_assert_uint_eq(size_align(1, 64), 64);
    ck_assert_uint_eq(size_align(64, 64), 64);
    ck_assert_uint_eq(size_align(65, 64), 128);
}
END_TEST

SUITE_MAIN("size", test_product_and_sum, test_overflow_leaves_the_result_alone, test_align_rounds_up)
