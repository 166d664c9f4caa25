/* What tests of the stand-ins share: device memory with content, streams, and code that has to end in a violation. */
#pragma once

#include <cuda_runtime_api.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/suite.h"

#define CHECK_CUDA(call) ck_assert_int_eq((call), cudaSuccess)

static inline void *device_memory(const void *content, size_t bytes)
{
    void *device = NULL;
    CHECK_CUDA(cudaMalloc(&device, bytes));
    if (content) CHECK_CUDA(cudaMemcpy(device, content, bytes, cudaMemcpyHostToDevice));
    return device;
}

static inline void read_device(void *host, const void *device, size_t bytes)
{
    CHECK_CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

/* Runs the function in a process of its own, which has to abort with `message` on stderr. */
static inline void check_dies(void (*function)(void *argument), void *argument, const char *message)
{
    int ends[2], status = 0;
    char text[4096];
    size_t length = 0;
    fflush(NULL);
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function(argument);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "went on, expected \"%s\"; said \"%s\"", message,
                  text);
    ck_assert_msg(strstr(text, message) != NULL, "said \"%s\", expected \"%s\"", text, message);
}
