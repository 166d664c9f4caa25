#include "tensor/dtype.h"

#include "support/suite.h"

START_TEST(test_sizes)
{
    static const size_t expected[DTYPE_COUNT] = {[DTYPE_F32] = 4, [DTYPE_F64] = 8, [DTYPE_F16] = 2, [DTYPE_BF16] = 2,
                                                 [DTYPE_I32] = 4, [DTYPE_I64] = 8, [DTYPE_U8] = 1};
    for (int i = 0; i < DTYPE_COUNT; i++)
        ck_assert_uint_eq(dtype_size((DType)i), expected[i]);
}
END_TEST

START_TEST(test_names_go_both_ways)
{
    for (int i = DTYPE_NONE + 1; i < DTYPE_COUNT; i++)
        ck_assert_int_eq(dtype_from_name(dtype_name((DType)i)), i);
    ck_assert_str_eq(dtype_name(DTYPE_BF16), "bf16");
    ck_assert_str_eq(dtype_name(DTYPE_U8), "u8");
    ck_assert_int_eq(dtype_from_name("f8"), DTYPE_NONE);
    ck_assert_int_eq(dtype_from_name("F32"), DTYPE_NONE);
    ck_assert_int_eq(dtype_from_name(""), DTYPE_NONE);
}
END_TEST

START_TEST(test_floats)
{
    ck_assert(dtype_is_float(DTYPE_F16) && dtype_is_float(DTYPE_BF16) && dtype_is_float(DTYPE_F32) &&
              dtype_is_float(DTYPE_F64));
    ck_assert(!dtype_is_float(DTYPE_I32) && !dtype_is_float(DTYPE_I64) && !dtype_is_float(DTYPE_U8) &&
              !dtype_is_float(DTYPE_NONE));
}
END_TEST

/* Numbers from messages may be anything. */
START_TEST(test_numbers_out_of_range_are_none)
{
    ck_assert_uint_eq(dtype_size((DType)1000), 0);
    ck_assert_uint_eq(dtype_size((DType)-1), 0);
    ck_assert_str_eq(dtype_name((DType)-1), "none");
    ck_assert(!dtype_is_float(DTYPE_COUNT));
}
END_TEST

SUITE_MAIN("dtype", test_sizes, test_names_go_both_ways, test_floats, test_numbers_out_of_range_are_none)
