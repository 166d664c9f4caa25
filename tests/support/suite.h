/* What every test program's main would repeat: the tests as one Check suite, each in a process of its own, and the exit
 * status for ctest. */
#pragma once

#include <check.h>
#include <stddef.h>

int suite_run(const char *name, const TTest *const *tests, size_t count);

/* SUITE_MAIN("shape", test_a, test_b) with tests from START_TEST. */
#define SUITE_MAIN(name, ...)                                                                                          \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        const TTest *const tests[] = {__VA_ARGS__};                                                                    \
        return suite_run(name, tests, sizeof tests / sizeof tests[0]);                                                 \
    }
