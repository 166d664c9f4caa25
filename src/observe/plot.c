#include "observe/plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* Pixels. A panel is a cell of the grid with the axes inside. */
enum {
    CELL_WIDTH = 460,
    CELL_HEIGHT = 300,
    LEFT = 76, /* from the cell's edge to the axes */
    RIGHT = 20,
    TOP = 62,
    BOTTOM = 52,
    TITLE_HEIGHT = 40, /* of the whole picture */
    TICKS = 24,
    DEFAULT_COLUMNS = 2,
};

/* Colours that stay apart for colour-blind readers (Okabe and Ito 2008), and have contrast on white and on near-black;
 * every series has a marker of its own too. Viewers that know nothing of dark take the light ones. */
static const char style[] =
    "<style>\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#3b4252}\n"
    ".back{fill:#ffffff}.heading{font-size:16px;font-weight:600;fill:#1f2430}\n"
    ".title{font-size:13px;font-weight:600;fill:#1f2430}.label{fill:#5b6475}\n"
    ".grid{stroke:#e3e7ee;stroke-width:1}.axis{stroke:#8a93a5;stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.mark{stroke-width:1.5}\n"
    ".s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#cc79a7}.s4{stroke:#8a6d00}.s5{stroke:#5b6475}"
    "\n"
    ".mark.s0{fill:#0072b2}.mark.s1{fill:#d55e00}.mark.s2{fill:#009e73}.mark.s3{fill:#cc79a7}.mark.s4{fill:#8a6d00}"
    ".mark.s5{fill:#5b6475}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#c5cbd8}.back{fill:#14171d}.heading,.title{fill:#eceff4}.label{fill:#9aa3b5}\n"
    ".grid{stroke:#2a303b}.axis{stroke:#6b7487}\n"
    ".s0{stroke:#56b4e9}.s1{stroke:#ff9449}.s2{stroke:#2fc796}.s3{stroke:#e09cc4}.s4{stroke:#f0e442}.s5{stroke:#aab2c3}"
    "\n"
    ".mark.s0{fill:#56b4e9}.mark.s1{fill:#ff9449}.mark.s2{fill:#2fc796}.mark.s3{fill:#e09cc4}.mark.s4{fill:#f0e442}"
    ".mark.s5{fill:#aab2c3}}\n"
    "</style>\n";

/* --- building --- */

static void copy_text(char to[PLOT_TEXT_SIZE], const char *from)
{
    snprintf(to, PLOT_TEXT_SIZE, "%s", from);
    text_clean(to);
}

PlotPanel *plot_panel(Plot *plot, const char *title, const char *x_label, const char *y_label)
{
    PlotPanel *panel = plot->count < PLOT_PANELS ? calloc(1, sizeof *panel) : NULL;
    if (panel == NULL) return NULL;
    copy_text(panel->title, title);
    copy_text(panel->x_label, x_label);
    copy_text(panel->y_label, y_label);
    plot->panels[plot->count++] = panel;
    return panel;
}

PlotSeries *plot_series(PlotPanel *panel, const char *name)
{
    if (panel == NULL || panel->count == PLOT_SERIES) return NULL;
    PlotSeries *series = &panel->series[panel->count++];
    copy_text(series->name, name);
    return series;
}

void plot_point(PlotSeries *series, double x, double y)
{
    if (series == NULL || series->count == PLOT_POINTS) return;
    series->x[series->count] = x;
    series->y[series->count++] = y;
}

void plot_free(Plot *plot)
{
    for (size_t i = 0; i < plot->count; i++)
        free(plot->panels[i]);
    plot->count = 0;
}

/* --- scales --- */

typedef struct Scale {
    bool logarithmic;
    double low, high;   /* of the values; low < high */
    double begin, size; /* pixels; size is negative upwards */
    size_t count;
    double ticks[TICKS];
} Scale;

static bool drawable(const PlotPanel *panel, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!panel->log_x || x > 0) && (!panel->log_y || y > 0);
}

static double place(const Scale *scale, double value)
{
    double share = scale->logarithmic ? log(value / scale->low) / log(scale->high / scale->low)
                                      : (value - scale->low) / (scale->high - scale->low);
    return scale->begin + share * scale->size;
}

/* 1, 2 or 5 times a power of ten, so that about `count` steps make up `span`. */
static double round_step(double span, double count)
{
    double raw = span / count, power = pow(10, floor(log10(raw))), leading = raw / power;
    return power * (leading <= 1 ? 1 : leading <= 2 ? 2 : leading <= 5 ? 5 : 10);
}

static void add_tick(Scale *scale, double value)
{
    if (scale->count < TICKS) scale->ticks[scale->count++] = value;
}

/* From 0 (or a negative value's step) up to a round number. */
static void fit_linear(Scale *scale)
{
    if (scale->low > 0) scale->low = 0;
    if (scale->high <= scale->low) scale->high = scale->low + 1;
    double step = round_step(scale->high - scale->low, 5);
    scale->low = step * floor(scale->low / step);
    scale->high = step * ceil(scale->high / step * (1 - 1e-12));
    for (double i = round(scale->low / step); i <= round(scale->high / step); i++)
        add_tick(scale, i * step);
}

/* Whole decades, with 2 and 5 in between where there are few; of a narrow range, its own 1-2-5 bounds. */
static void fit_logarithmic(Scale *scale)
{
    static const double leadings[] = {1, 2, 5};
    double first = floor(log10(scale->low)), last = ceil(log10(scale->high) - 1e-12);
    bool few = last - first <= 3;
    double low = 0, high = 0;
    for (double decade = first; decade <= last + (few ? 1 : 0) && high == 0; decade++)
        for (size_t i = 0; i < (few ? 3u : 1u); i++) {
            double value = leadings[i] * pow(10, decade);
            if (value <= scale->low * (1 + 1e-12)) {
                low = value;
                scale->count = 0;
            }
            if (high == 0 || value <= high) add_tick(scale, value);
            if (high == 0 && value >= scale->high * (1 - 1e-12) && value > low) high = value;
        }
    scale->low = low;
    scale->high = high > low ? high : 10 * low;
    while (scale->count > 0 && scale->ticks[scale->count - 1] > scale->high * (1 + 1e-12))
        scale->count--;
}

static bool is_listed(const Scale *scale, double value)
{
    for (size_t i = 0; i < scale->count; i++)
        if (scale->ticks[i] == value) return true;
    return false;
}

/* The x axis of a few measured points has a tick at each of them, if they can stand beside each other. */
static bool ticks_at_points(const PlotPanel *panel, Scale *scale)
{
    const double apart = 34; /* pixels */
    scale->count = 0;
    for (size_t s = 0; s < panel->count; s++)
        for (size_t i = 0; i < panel->series[s].count; i++) {
            double x = panel->series[s].x[i];
            if (!drawable(panel, x, panel->series[s].y[i]) || is_listed(scale, x)) continue;
            if (scale->count == TICKS) return false;
            for (size_t t = 0; t < scale->count; t++)
                if (fabs(place(scale, scale->ticks[t]) - place(scale, x)) < apart) return false;
            add_tick(scale, x);
        }
    return true;
}

/* False when there is nothing to draw. */
static bool find_ranges(const PlotPanel *panel, Scale *x, Scale *y)
{
    bool found = false;
    for (size_t s = 0; s < panel->count; s++)
        for (size_t i = 0; i < panel->series[s].count; i++) {
            double px = panel->series[s].x[i], py = panel->series[s].y[i];
            if (!drawable(panel, px, py)) continue;
            x->low = found ? fmin(x->low, px) : px;
            x->high = found ? fmax(x->high, px) : px;
            y->low = found ? fmin(y->low, py) : py;
            y->high = found ? fmax(y->high, py) : py;
            found = true;
        }
    return found;
}

static void fit_x(const PlotPanel *panel, Scale *scale)
{
    Scale exact = *scale;
    if (scale->logarithmic) {
        fit_logarithmic(scale);
        double room = exact.high > exact.low ? pow(exact.high / exact.low, 0.04) : 2;
        exact.low /= room;
        exact.high *= room;
    } else {
        fit_linear(scale);
        exact.low = scale->low;
        exact.high = scale->high;
    }
    if (ticks_at_points(panel, &exact)) *scale = exact;
}

static void fit_y(Scale *scale)
{
    if (scale->logarithmic)
        fit_logarithmic(scale);
    else
        fit_linear(scale);
}

/* --- drawing --- */

static void put_escaped(Text *text, const char *value)
{
    for (; *value != 0; value++) {
        switch (*value) {
        case '&':
            text_append(text, "&amp;");
            break;
        case '<':
            text_append(text, "&lt;");
            break;
        case '>':
            text_append(text, "&gt;");
            break;
        default:
            text_append(text, "%c", *value);
        }
    }
}

static void put_text(Text *text, const char *class, double x, double y, const char *anchor, const char *value)
{
    text_append(text, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    put_escaped(text, value);
    text_append(text, "</text>\n");
}

static void put_line(Text *text, const char *class, double x1, double y1, double x2, double y2)
{
    text_append(text, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2, y2);
}

/* "50 k", "1.5 M", "0.25". */
static const char *short_number(double value, char out[32])
{
    double size = fabs(value);
    const char *unit = size >= 1e9 ? " G" : size >= 1e6 ? " M" : size >= 1e4 ? " k" : "";
    double divisor = size >= 1e9 ? 1e9 : size >= 1e6 ? 1e6 : size >= 1e4 ? 1e3 : 1;
    snprintf(out, 32, "%.4g%s", value / divisor, unit);
    return out;
}

static void draw_axes(const PlotPanel *panel, const Scale *x, const Scale *y, Text *text)
{
    char number[32];
    double left = x->begin, right = x->begin + x->size, bottom = y->begin, top = y->begin + y->size;
    for (size_t i = 0; i < y->count; i++) {
        double at = place(y, y->ticks[i]);
        put_line(text, "grid", left, at, right, at);
        put_text(text, "tick", left - 8, at + 4, "end", short_number(y->ticks[i], number));
    }
    for (size_t i = 0; i < x->count; i++) {
        double at = place(x, x->ticks[i]);
        put_line(text, "grid", at, bottom, at, top);
        put_text(text, "tick", at, bottom + 17, "middle", short_number(x->ticks[i], number));
    }
    put_line(text, "axis", left, bottom, right, bottom);
    put_line(text, "axis", left, bottom, left, top);
    put_text(text, "label", (left + right) / 2, bottom + 37, "middle", panel->x_label);
}

static void draw_mark(size_t series, double x, double y, Text *text)
{
    const double r = 3.5;
    text_append(text, "<path class=\"mark s%zu\" d=\"", series);
    switch (series % 3) {
    case 0:
        text_append(text, "M%.1f %.1fa%.1f %.1f 0 1 0 %.1f 0a%.1f %.1f 0 1 0 %.1f 0z\"/>\n", x - r, y, r, r, 2 * r, r,
                    r, -2 * r);
        break;
    case 1:
        text_append(text, "M%.1f %.1fh%.1fv%.1fh%.1fz\"/>\n", x - r, y - r, 2 * r, 2 * r, -2 * r);
        break;
    default:
        text_append(text, "M%.1f %.1fl%.1f %.1fh%.1fz\"/>\n", x, y - r - 1, r + 0.5, 2 * r, -2 * r - 1);
    }
}

static void draw_series(const PlotPanel *panel, size_t index, const Scale *x, const Scale *y, Text *text)
{
    const PlotSeries *series = &panel->series[index];
    bool begun = false;
    text_append(text, "<path class=\"line s%zu\" d=\"", index);
    for (size_t i = 0; i < series->count; i++) {
        if (!drawable(panel, series->x[i], series->y[i])) continue;
        text_append(text, "%s%.1f %.1f", begun ? "L" : "M", place(x, series->x[i]), place(y, series->y[i]));
        begun = true;
    }
    text_append(text, "\"/>\n");
    for (size_t i = 0; i < series->count; i++)
        if (drawable(panel, series->x[i], series->y[i]))
            draw_mark(index, place(x, series->x[i]), place(y, series->y[i]), text);
}

/* Beside each other above the axes, the last one at their right end. A letter takes about 6.5 pixels. */
static void draw_legend(const PlotPanel *panel, double right, double y, Text *text)
{
    double at = right;
    for (size_t i = panel->count; i-- > 0;) {
        at -= 6.5 * (double)strlen(panel->series[i].name);
        put_text(text, "tick", at, y, "start", panel->series[i].name);
        text_append(text, "<path class=\"line s%zu\" d=\"M%.1f %.1fh18\"/>\n", i, at - 24, y - 4);
        draw_mark(i, at - 15, y - 4, text);
        at -= 38;
    }
}

static void draw_panel(const PlotPanel *panel, double left, double top, Text *text)
{
    double height = CELL_HEIGHT - TOP - BOTTOM;
    Scale x = {.logarithmic = panel->log_x, .begin = left + LEFT, .size = CELL_WIDTH - LEFT - RIGHT};
    Scale y = {.logarithmic = panel->log_y, .begin = top + TOP + height, .size = -height};
    put_text(text, "title", left + 16, top + 22, "start", panel->title);
    put_text(text, "label", left + 16, top + 46, "start", panel->y_label);
    if (!find_ranges(panel, &x, &y)) {
        put_text(text, "label", left + CELL_WIDTH / 2.0, top + CELL_HEIGHT / 2.0, "middle", "no data");
        return;
    }
    fit_x(panel, &x);
    fit_y(&y);
    draw_axes(panel, &x, &y, text);
    for (size_t i = 0; i < panel->count; i++)
        draw_series(panel, i, &x, &y, text);
    if (panel->count > 1) draw_legend(panel, left + CELL_WIDTH - RIGHT, top + 46, text);
}

void plot_format(const Plot *plot, Text *text)
{
    size_t columns = plot->columns > 0 ? plot->columns : DEFAULT_COLUMNS;
    size_t rows = (plot->count + columns - 1) / columns;
    size_t width = columns * CELL_WIDTH, heading = plot->title != NULL ? TITLE_HEIGHT : 0;
    size_t height = rows * CELL_HEIGHT + heading;
    text_append(text,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" viewBox=\"0 0 %zu %zu\" "
                "role=\"img\">\n",
                width, height, width, height);
    if (plot->title != NULL) {
        text_append(text, "<title>");
        put_escaped(text, plot->title);
        text_append(text, "</title>\n");
    }
    text_append(text, "%s<rect class=\"back\" width=\"%zu\" height=\"%zu\"/>\n", style, width, height);
    if (plot->title != NULL) put_text(text, "heading", 16, 28, "start", plot->title);
    for (size_t i = 0; i < plot->count; i++)
        draw_panel(plot->panels[i], (double)(i % columns * CELL_WIDTH), (double)(i / columns * CELL_HEIGHT + heading),
                   text);
    text_append(text, "</svg>\n");
}

Status plot_write(const Plot *plot, const char *path, Error *error)
{
    Text text = {0};
    plot_format(plot, &text);
    struct iovec part = {text.data, text.length};
    Status status =
        text.failed ? error_set_errno(error, ENOMEM, "a picture for %s", path) : file_replace(path, &part, 1, error);
    text_free(&text);
    return status;
}
