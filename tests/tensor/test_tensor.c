#include "tensor/tensor.h"

#include <string.h>

#include "base/failpoint.h"
#include "support/suite.h"

START_TEST(test_created_is_zeroed_and_aligned)
{
    for (int64_t count = 0; count < 200; count += 7) {
        Tensor tensor;
        ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(count), &tensor, NULL), STATUS_OK);
        ck_assert_uint_eq(tensor.size, (size_t)count * 4);
        ck_assert_uint_eq((uintptr_t)tensor.data % 64, 0);
        for (int64_t i = 0; i < count; i++)
            ck_assert_float_eq(tensor_f32(&tensor)[i], 0);
        memset(tensor.data, 1, tensor.size); /* up to the end */
        tensor_destroy(&tensor);
        ck_assert_ptr_null(tensor.data);
    }
}
END_TEST

START_TEST(test_scalar_has_one_element)
{
    Tensor tensor;
    ck_assert_int_eq(tensor_create(DTYPE_I64, shape_scalar(), &tensor, NULL), STATUS_OK);
    ck_assert_uint_eq(tensor.size, 8);
    tensor_destroy(&tensor);
}
END_TEST

START_TEST(test_create_refuses_with_a_sentence)
{
    Tensor tensor;
    Error error;
    ck_assert_int_eq(tensor_create(DTYPE_NONE, shape_of(2), &tensor, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(2, -3), &tensor, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, "[2, -3] (f32)"), "%s", error.message);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(INT64_MAX, 2), &tensor, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(failpoint_arm("tensor.create=ENOMEM", NULL), STATUS_OK);
    ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(2, 3), &tensor, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_str_eq(error.message, "a tensor of shape [2, 3] (f32) needs 24 bytes: Cannot allocate memory");
}
END_TEST

START_TEST(test_copy_owns_its_bytes)
{
    float values[] = {1, 2, 3, 4, 5, 6};
    Tensor view = tensor_view(DTYPE_F32, shape_of(2, 3), values), copy;
    ck_assert_ptr_eq(view.data, values);
    ck_assert_uint_eq(view.size, sizeof values);
    ck_assert_ptr_null(view.owned);
    ck_assert_int_eq(tensor_copy(&view, &copy, NULL), STATUS_OK);
    values[0] = 9;
    ck_assert_float_eq(tensor_f32(&copy)[0], 1);
    ck_assert_float_eq(tensor_f32(&copy)[5], 6);
    ck_assert(shape_equal(copy.shape, shape_of(2, 3)));
    tensor_destroy(&copy);
    tensor_destroy(&view);
    ck_assert_float_eq(values[1], 2);
}
END_TEST

START_TEST(test_copy_of_nothing)
{
    Tensor view = tensor_view(DTYPE_U8, shape_of(0, 3), NULL), copy;
    ck_assert_int_eq(tensor_copy(&view, &copy, NULL), STATUS_OK);
    ck_assert_uint_eq(copy.size, 0);
    tensor_destroy(&copy);
}
END_TEST

START_TEST(test_view_of_an_impossible_shape_is_empty)
{
    float value;
    Tensor view = tensor_view(DTYPE_F32, shape_of(-1), &value);
    ck_assert_uint_eq(view.size, 0);
    ck_assert_ptr_null(view.data);
}
END_TEST

START_TEST(test_destroy_takes_null_and_zero)
{
    Tensor zero = {0};
    tensor_destroy(NULL);
    tensor_destroy(&zero);
    tensor_destroy(&zero);
}
END_TEST

SUITE_MAIN("tensor", test_created_is_zeroed_and_aligned, test_scalar_has_one_element,
           test_create_refuses_with_a_sentence, test_copy_owns_its_bytes, test_copy_of_nothing,
           test_view_of_an_impossible_shape_is_empty, test_destroy_takes_null_and_zero)
