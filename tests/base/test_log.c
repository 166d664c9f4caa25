#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/suite.h"

typedef struct Heard {
    int lines;
    LogLevel level;
    char line[4096];
} Heard;

static void hear(void *context, LogLevel level, const char *line)
{
    Heard *heard = context;
    heard->lines++;
    heard->level = level;
    snprintf(heard->line, sizeof heard->line, "%s", line);
    errno = EIO;
}

START_TEST(test_sink_gets_the_line)
{
    Heard heard = {0};
    log_set_sink(hear, &heard);
    log_warning("peer %s is late by %d ms", "a:1", 30);
    ck_assert_int_eq(heard.lines, 1);
    ck_assert_int_eq(heard.level, LOG_WARNING);
    ck_assert_str_eq(heard.line, "peer a:1 is late by 30 ms");
}
END_TEST

START_TEST(test_levels_below_the_least_are_dropped)
{
    Heard heard = {0};
    log_set_sink(hear, &heard);
    log_debug("hidden by default");
    ck_assert_int_eq(heard.lines, 0);
    log_set_level(LOG_DEBUG);
    log_debug("shown");
    ck_assert_int_eq(heard.lines, 1);
    log_set_level(LOG_ERROR);
    log_warning("hidden");
    ck_assert_int_eq(heard.lines, 1);
}
END_TEST

/* What a peer sends can't forge a second line or talk to the terminal. */
START_TEST(test_line_is_one_line)
{
    Heard heard = {0};
    log_set_sink(hear, &heard);
    log_info("%s", "a\nerror: forged\x1b[2J");
    ck_assert_str_eq(heard.line, "a?error: forged?[2J");
}
END_TEST

START_TEST(test_long_line_is_cut_visibly)
{
    Heard heard = {0};
    log_set_sink(hear, &heard);
    log_info("%03000d", 1);
    ck_assert_uint_eq(strlen(heard.line), 2047);
    ck_assert_str_eq(heard.line + 2043, "0...");
}
END_TEST

START_TEST(test_errno_is_kept)
{
    Heard heard = {0};
    log_set_sink(hear, &heard);
    errno = ENOENT;
    log_info("x");
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(test_stderr_gets_whole_lines_by_default)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    log_info("ready");
    log_error("disk full");
    dup2(saved, STDERR_FILENO);
    close(ends[1]);
    char text[128] = {0};
    size_t length = 0;
    for (ssize_t got; (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    ck_assert_str_eq(text, "ready\nerror: disk full\n");
    close(ends[0]);
    close(saved);
}
END_TEST

SUITE_MAIN("log", test_sink_gets_the_line, test_levels_below_the_least_are_dropped, test_line_is_one_line,
           test_long_line_is_cut_visibly, test_errno_is_kept, test_stderr_gets_whole_lines_by_default)
