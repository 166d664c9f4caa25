/* Line charts as one self-contained SVG file: a grid of panels, each with axes, ticks, labels, grid lines and a legend.
 * Readable in light and dark viewers.
 *
 *     Plot plot = {.title = "unary calls", .columns = 2};
 *     PlotPanel *panel = plot_panel(&plot, "throughput", "concurrency", "calls/s");
 *     panel->log_x = true;
 *     PlotSeries *series = plot_series(panel, "4096 bytes");
 *     plot_point(series, 1, 13400);
 *     status = plot_write(&plot, "wire.svg", &error);
 *     plot_free(&plot);
 *
 * Texts are copied. Points are joined in the order in which they were added; those that can't be drawn (not finite, or
 * not above zero on a logarithmic axis) are left out. plot_panel and plot_series return NULL when there is no more
 * room (PLOT_PANELS, PLOT_SERIES); plot_series and plot_point take NULL, and do nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/text.h"

enum { PLOT_PANELS = 32, PLOT_SERIES = 6, PLOT_POINTS = 64, PLOT_TEXT_SIZE = 96 };

typedef struct PlotSeries {
    char name[PLOT_TEXT_SIZE];
    size_t count; /* of points; more than PLOT_POINTS are left out */
    double x[PLOT_POINTS], y[PLOT_POINTS];
} PlotSeries;

typedef struct PlotPanel {
    char title[PLOT_TEXT_SIZE], x_label[PLOT_TEXT_SIZE], y_label[PLOT_TEXT_SIZE];
    bool log_x, log_y; /* a linear axis begins at 0 */
    size_t count;
    PlotSeries series[PLOT_SERIES];
} PlotPanel;

/* Zero-initialise but for these. */
typedef struct Plot {
    const char *title; /* borrowed; NULL: none */
    size_t columns;    /* panels side by side; 0: 2 */
    size_t count;
    PlotPanel *panels[PLOT_PANELS];
} Plot;

PlotPanel *plot_panel(Plot *plot, const char *title, const char *x_label, const char *y_label);
PlotSeries *plot_series(PlotPanel *panel, const char *name);
void plot_point(PlotSeries *series, double x, double y);

/* Appends the SVG. */
void plot_format(const Plot *plot, Text *text);
/* Replaces the file. */
Status plot_write(const Plot *plot, const char *path, Error *error);
void plot_free(Plot *plot);
