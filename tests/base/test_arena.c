#include "base/arena.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "support/suite.h"

START_TEST(test_allocations_are_zeroed_aligned_and_apart)
{
    enum { COUNT = 3000 };
    Arena arena = {0};
    unsigned char *items[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 70;
        items[i] = arena_allocate(&arena, size);
        ck_assert_ptr_nonnull(items[i]);
        ck_assert_uint_eq((uintptr_t)items[i] % _Alignof(max_align_t), 0);
        for (size_t j = 0; j < size; j++)
            ck_assert_int_eq(items[i][j], 0);
        memset(items[i], (int)(i % 251 + 1), size);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < i % 70; j++)
            ck_assert_int_eq(items[i][j], (int)(i % 251 + 1));
    arena_free(&arena);
    ck_assert_ptr_null(arena.blocks);
}
END_TEST

START_TEST(test_large_allocation)
{
    Arena arena = {0};
    memset(arena_allocate(&arena, 1 << 20), 1, 1 << 20);
    ck_assert_ptr_null(arena_allocate(&arena, SIZE_MAX));
    ck_assert_ptr_nonnull(arena_allocate(&arena, 8));
    arena_free(&arena);
}
END_TEST

START_TEST(test_string_is_a_copy)
{
    Arena arena = {0};
    char word[] = "conv1";
    const char *copy = arena_string(&arena, word);
    word[0] = 'x';
    ck_assert_str_eq(copy, "conv1");
    arena_free(&arena);
}
END_TEST

SUITE_MAIN("arena", test_allocations_are_zeroed_aligned_and_apart, test_large_allocation, test_string_is_a_copy)
