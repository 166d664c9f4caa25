#include "observe/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"

enum { WIDE = 120 };

static const uint64_t MILLISECOND = 1000000, SECOND = 1000000000;

/* A terminal in memory, and a clock that stands still. */
typedef struct Screen {
    Output output;
    uint64_t now;
    char *text;
    size_t size;
} Screen;

static void open_screen(Screen *screen, bool terminal, unsigned width)
{
    screen->now = 7 * SECOND;
    FILE *people = open_memstream(&screen->text, &screen->size);
    ck_assert_int_eq(output_open(&screen->output, stdout, people, false, false, NULL), STATUS_OK);
    screen->output.terminal = terminal;
    screen->output.width = width;
}

static void close_screen(Screen *screen)
{
    ck_assert_int_eq(output_finish(&screen->output, NULL), STATUS_OK);
    fclose(screen->output.people);
    free(screen->text);
}

static int count(const char *text, char wanted)
{
    int found = 0;
    for (; *text; text++)
        found += *text == wanted;
    return found;
}

/* What stands on the terminal now: after the last "clear the line". */
static const char *shown(const Screen *screen)
{
    const char *at = strrchr(screen->text, '\r');
    return at ? at + strlen("\r\x1b[K") : "";
}

static ProgressPoint half_way(void)
{
    return (ProgressPoint){
        .epoch = 3, .epochs = 10, .step = 50, .steps = 100, .loss = 0.125, .samples_per_second = 14200};
}

START_TEST(test_terminal_shows_everything)
{
    Screen screen;
    ProgressPoint point = half_way();
    open_screen(&screen, true, WIDE);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    screen.now += 65 * SECOND; /* 50 steps; as long again to go */
    progress_show(&progress, &point);
    ck_assert_str_eq(shown(&screen), "epoch 3/10  [===============>              ]  step 50/100  loss 0.1250  "
                                     "14200 samples/s  ETA 1:05");
    close_screen(&screen);
}
END_TEST

START_TEST(test_terminal_redraws_ten_times_a_second)
{
    Screen screen;
    open_screen(&screen, true, WIDE);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    for (int i = 1; i <= 1000; i++) {
        ProgressPoint point = {.step = i, .steps = 1000, .loss = 1};
        screen.now += MILLISECOND;
        progress_show(&progress, &point);
    }
    ck_assert_int_eq(count(screen.text, '\r'), 10);
    close_screen(&screen);
}
END_TEST

START_TEST(test_every_width_is_kept)
{
    for (unsigned width = 1; width <= WIDE; width++) {
        Screen screen;
        ProgressPoint point = half_way();
        open_screen(&screen, true, width);
        Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
        screen.now += SECOND;
        progress_show(&progress, &point);
        fflush(screen.output.people);
        ck_assert_msg(!screen.text || strlen(shown(&screen)) < width, "width %u: '%s'", width, shown(&screen));
        close_screen(&screen);
    }
}
END_TEST

START_TEST(test_narrow_terminal_drops_fields_from_the_right)
{
    Screen screen;
    ProgressPoint point = half_way();
    open_screen(&screen, true, 42);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    screen.now += SECOND;
    progress_show(&progress, &point);
    ck_assert_str_eq(shown(&screen), "epoch 3/10  step 50/100  loss 0.1250");
    close_screen(&screen);
}
END_TEST

START_TEST(test_finish_clears_the_line)
{
    Screen screen;
    ProgressPoint point = half_way();
    open_screen(&screen, true, WIDE);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    screen.now += SECOND;
    progress_show(&progress, &point);
    progress_finish(&progress);
    ck_assert_str_eq(shown(&screen), "");
    close_screen(&screen);
}
END_TEST

START_TEST(test_file_gets_a_line_every_five_seconds_and_the_last)
{
    Screen screen;
    open_screen(&screen, false, 0);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    for (int i = 1; i <= 12; i++) {
        ProgressPoint point = {.step = i, .steps = 12, .loss = 0.5, .samples_per_second = 64};
        screen.now += SECOND;
        progress_show(&progress, &point);
    }
    progress_finish(&progress);
    ck_assert_str_eq(screen.text, "step 5/12  loss 0.5000  64 samples/s  ETA 0:07\n"
                                  "step 10/12  loss 0.5000  64 samples/s  ETA 0:02\n"
                                  "step 12/12  loss 0.5000  64 samples/s  ETA 0:00\n");
    close_screen(&screen);
}
END_TEST

START_TEST(test_without_end_neither_bar_nor_eta)
{
    Screen screen;
    ProgressPoint point = {.step = 50, .loss = (double)NAN};
    open_screen(&screen, true, WIDE);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 0);
    screen.now += SECOND;
    progress_show(&progress, &point);
    ck_assert_str_eq(shown(&screen), "step 50");
    close_screen(&screen);
}
END_TEST

START_TEST(test_resumed_run_counts_its_own_steps)
{
    Screen screen;
    ProgressPoint point = {.step = 90, .steps = 100, .loss = (double)NAN};
    open_screen(&screen, false, 0);
    Progress progress = progress_make(&screen.output, clock_manual(&screen.now), 80);
    screen.now += 3600 * SECOND; /* 10 steps in an hour, 10 to go */
    progress_show(&progress, &point);
    ck_assert_str_eq(screen.text, "step 90/100  ETA 1:00:00\n");
    close_screen(&screen);
}
END_TEST

SUITE_MAIN("progress", test_terminal_shows_everything, test_terminal_redraws_ten_times_a_second,
           test_every_width_is_kept, test_narrow_terminal_drops_fields_from_the_right, test_finish_clears_the_line,
           test_file_gets_a_line_every_five_seconds_and_the_last, test_without_end_neither_bar_nor_eta,
           test_resumed_run_counts_its_own_steps)
