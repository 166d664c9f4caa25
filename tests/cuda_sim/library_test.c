#include "library_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "support/child.h"

Blas *open_blas(void)
{
    Blas *blas = NULL;
    Error error = {.message = ""};
    ck_assert_msg(blas_open(&blas, &error) == STATUS_OK, "%s", error.message);
    return blas;
}

Dnn *open_dnn(void)
{
    Dnn *dnn = NULL;
    Error error = {.message = ""};
    ck_assert_msg(dnn_open(&dnn, &error) == STATUS_OK, "%s", error.message);
    return dnn;
}

void check_dies(void (*function)(void *argument), void *argument, const char *message)
{
    int status;
    char *text = child_run(function, argument, &status);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "went on, expected \"%s\"; said \"%s\"", message,
                  text);
    ck_assert_msg(strstr(text, message) != NULL, "said \"%s\", expected \"%s\"", text, message);
    free(text);
}

void check_rules(const Rule *rules, size_t count, void *argument)
{
    for (size_t i = 0; i < count; i++)
        check_dies(rules[i].breaks, argument, rules[i].message);
}
