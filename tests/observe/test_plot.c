#include "observe/plot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "support/folder.h"
#include "support/suite.h"

static Text formatted(const Plot *plot)
{
    Text text = {0};
    plot_format(plot, &text);
    ck_assert(!text.failed && text.data != NULL);
    return text;
}

static int count_of(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static PlotPanel *make_panel(Plot *plot, bool log_x, bool log_y)
{
    PlotPanel *panel = plot_panel(plot, "throughput", "concurrency", "calls/s");
    ck_assert_ptr_nonnull(panel);
    panel->log_x = log_x;
    panel->log_y = log_y;
    return panel;
}

START_TEST(test_texts_points_and_legend)
{
    Plot plot = {.title = "a < b & c"};
    PlotPanel *panel = make_panel(&plot, true, false);
    PlotSeries *first = plot_series(panel, "p50"), *second = plot_series(panel, "p99");
    for (int i = 0; i < 3; i++) {
        plot_point(first, 1 << (3 * i), 100 + i);
        plot_point(second, 1 << (3 * i), 900 * i);
    }
    Text text = formatted(&plot);
    ck_assert_ptr_nonnull(strstr(text.data, "a &lt; b &amp; c"));
    ck_assert_ptr_nonnull(strstr(text.data, ">concurrency</text>"));
    ck_assert_ptr_nonnull(strstr(text.data, ">calls/s</text>"));
    ck_assert_ptr_nonnull(strstr(text.data, ">64</text>"));        /* a tick at a measured point */
    ck_assert_int_eq(count_of(text.data, "class=\"line s0\""), 2); /* the curve and its legend */
    ck_assert_int_eq(count_of(text.data, "class=\"mark s1\""), 4); /* three points and the legend's */
    ck_assert_ptr_eq(strstr(text.data, "nan"), NULL);
    ck_assert_ptr_eq(strstr(text.data, "http"),
                     strstr(text.data, "http://www.w3.org/2000/svg")); /* nothing is fetched */
    text_free(&text);
    plot_free(&plot);
}
END_TEST

/* The vertical place of the only point. */
static double height_of(const Plot *plot)
{
    Text text = formatted(plot);
    const char *at = strstr(text.data, "class=\"line s0\" d=\"M");
    ck_assert_ptr_nonnull(at);
    double x, y;
    ck_assert_int_eq(sscanf(at, "class=\"line s0\" d=\"M%lf %lf", &x, &y), 2);
    text_free(&text);
    return y;
}

START_TEST(test_logarithmic_axis_gives_decades_the_same_room)
{
    double y[3];
    for (int i = 0; i < 3; i++) {
        Plot plot = {0};
        PlotSeries *series = plot_series(make_panel(&plot, false, true), "us");
        static const double values[] = {10, 100, 1000};
        plot_point(series, 1, values[i]); /* the first point is where the path begins */
        plot_point(series, 2, 10);
        plot_point(series, 3, 1000);
        y[i] = height_of(&plot);
        plot_free(&plot);
    }
    ck_assert_double_gt(y[0], y[1] + 50); /* upwards is less */
    ck_assert_double_eq_tol(y[0] - y[1], y[1] - y[2], 0.2);
}
END_TEST

START_TEST(test_linear_axis_begins_at_zero)
{
    Plot plot = {0};
    plot_point(plot_series(make_panel(&plot, false, false), "calls"), 4, 91000);
    Text text = formatted(&plot);
    ck_assert_ptr_nonnull(strstr(text.data, ">0</text>"));
    ck_assert_ptr_nonnull(strstr(text.data, ">100 k</text>"));
    text_free(&text);
    plot_free(&plot);
}
END_TEST

START_TEST(test_points_that_cannot_be_drawn_are_left_out)
{
    Plot plot = {0};
    PlotSeries *series = plot_series(make_panel(&plot, true, true), "calls");
    plot_point(series, 1, 0);
    plot_point(series, 0, 5);
    plot_point(series, 1, strtod("nan", NULL));
    Text text = formatted(&plot);
    ck_assert_ptr_nonnull(strstr(text.data, "no data"));
    text_free(&text);
    plot_point(series, 8, 5);
    text = formatted(&plot);
    ck_assert_ptr_eq(strstr(text.data, "no data"), NULL);
    ck_assert_int_eq(count_of(text.data, "class=\"mark s0\""), 1);
    ck_assert_ptr_eq(strstr(text.data, "nan"), NULL);
    ck_assert_ptr_eq(strstr(text.data, "inf"), NULL);
    text_free(&text);
    plot_free(&plot);
}
END_TEST

START_TEST(test_more_than_there_is_room_for)
{
    Plot plot = {0};
    PlotPanel *panel = make_panel(&plot, false, false);
    for (int i = 0; i < PLOT_SERIES; i++)
        ck_assert_ptr_nonnull(plot_series(panel, "one"));
    ck_assert_ptr_null(plot_series(panel, "one more"));
    plot_point(plot_series(panel, "one more"), 1, 1);
    for (int i = 0; i < 2 * PLOT_POINTS; i++)
        plot_point(&panel->series[0], i, i);
    ck_assert_uint_eq(panel->series[0].count, PLOT_POINTS);
    while (plot.count < PLOT_PANELS)
        ck_assert_ptr_nonnull(plot_panel(&plot, "", "", ""));
    ck_assert_ptr_null(plot_panel(&plot, "", "", ""));
    plot_free(&plot);
}
END_TEST

START_TEST(test_file)
{
    Folder folder = folder_make();
    char path[FOLDER_PATH_SIZE];
    Plot plot = {0};
    plot_point(plot_series(make_panel(&plot, false, false), "calls"), 1, 1);
    ck_assert_int_eq(plot_write(&plot, folder_path(&folder, "a.svg", path), NULL), STATUS_OK);
    char *content;
    size_t size;
    ck_assert_int_eq(file_read(path, 1 << 20, &content, &size, NULL), STATUS_OK);
    ck_assert_int_eq(strncmp(content, "<svg ", 5), 0);
    ck_assert_str_eq(content + size - 7, "</svg>\n");
    free(content);
    ck_assert_int_eq(plot_write(&plot, folder_path(&folder, "no/such/folder.svg", path), NULL), STATUS_NOT_FOUND);
    plot_free(&plot);
    folder_remove(&folder);
}
END_TEST

SUITE_MAIN("plot", test_texts_points_and_legend, test_logarithmic_axis_gives_decades_the_same_room,
           test_linear_axis_begins_at_zero, test_points_that_cannot_be_drawn_are_left_out,
           test_more_than_there_is_room_for, test_file)
