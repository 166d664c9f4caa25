#include "support/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char *read_all(int from)
{
    char *text = NULL, piece[4096];
    size_t size = 0;
    FILE *all = open_memstream(&text, &size);
    if (!all) abort();
    for (ssize_t got; (got = read(from, piece, sizeof piece)) > 0;)
        fwrite(piece, 1, (size_t)got, all);
    if (fclose(all) != 0) abort();
    return text;
}

char *child_run(void (*act)(void *argument), void *argument, int *status)
{
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) abort();
    const pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        act(argument);
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    char *text = read_all(ends[0]);
    close(ends[0]);
    if (waitpid(child, status, 0) != child) abort();
    return text;
}
