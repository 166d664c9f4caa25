// For tests of the rules: what the simulator says of something that breaks one.
#pragma once

#include <functional>
#include <string>

// Runs `act` in a child process and gives the "sim: ..." line that it died of, with each address as P, each line number
// as L, and files without their folder; "survived" where it didn't die. What else it printed, and a death of another
// kind, is in the text too.
std::string violation_of(const std::function<void()> &act);
// The same, but all lines that it printed on stderr, dead or alive.
std::string output_of(const std::function<void()> &act);

// Fails the test unless `act` dies of exactly this line (without "sim: ").
#define ASSERT_VIOLATION(expected, act)                                                                                \
    do {                                                                                                               \
        const std::string said = violation_of([&] { act; });                                                           \
        ck_assert_str_eq(said.c_str(), "sim: " expected);                                                              \
    } while (0)
// Fails the test unless the call gives this error.
#define ASSERT_CUDA(expected, call) ck_assert_str_eq(cudaGetErrorName(call), cudaGetErrorName(expected))
#define OK(call)                    ASSERT_CUDA(cudaSuccess, call)
