#include "observe/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum { FIELDS = 5, FIELD_SIZE = 64, LONGEST_BAR = 30, SHORTEST_BAR = 8 };

static const uint64_t REDRAW_NS = 100000000;      /* 0.1 s */
static const uint64_t PLAIN_LINE_NS = 5000000000; /* 5 s */

Progress progress_make(Output *output, Clock clock, int64_t first_step)
{
    uint64_t now = clock_now(clock);
    return (Progress){.output = output, .clock = clock, .started = now, .shown = now, .first_step = first_step};
}

/* "1:02:03", "4:05". */
static void format_time(char *out, size_t size, double seconds)
{
    uint64_t whole = seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 1000000000;
    unsigned hours = (unsigned)(whole / 3600), minutes = (unsigned)(whole / 60 % 60), rest = (unsigned)(whole % 60);
    if (hours)
        snprintf(out, size, "%u:%02u:%02u", hours, minutes, rest);
    else
        snprintf(out, size, "%u:%02u", minutes, rest);
}

static void format_eta(char *out, const Progress *progress, uint64_t now)
{
    const ProgressPoint *point = &progress->point;
    int64_t done = point->step - progress->first_step;
    if (point->steps <= 0 || done <= 0 || point->step > point->steps) return;
    char time[32];
    double seconds_per_step = clock_seconds(now - progress->started) / (double)done;
    format_time(time, sizeof time, seconds_per_step * (double)(point->steps - point->step));
    snprintf(out, FIELD_SIZE, "ETA %s", time);
}

/* The fields in the order they are shown; an empty one is left out. */
static void format_fields(char fields[FIELDS][FIELD_SIZE], const Progress *progress, uint64_t now)
{
    const ProgressPoint *point = &progress->point;
    memset(fields, 0, FIELDS * FIELD_SIZE);
    if (point->epoch > 0 && point->epochs > 0)
        snprintf(fields[0], FIELD_SIZE, "epoch %lld/%lld", (long long)point->epoch, (long long)point->epochs);
    else if (point->epoch > 0)
        snprintf(fields[0], FIELD_SIZE, "epoch %lld", (long long)point->epoch);
    if (point->steps > 0)
        snprintf(fields[1], FIELD_SIZE, "step %lld/%lld", (long long)point->step, (long long)point->steps);
    else
        snprintf(fields[1], FIELD_SIZE, "step %lld", (long long)point->step);
    if (!isnan(point->loss)) snprintf(fields[2], FIELD_SIZE, "loss %#.4g", point->loss);
    if (point->samples_per_second > 0) snprintf(fields[3], FIELD_SIZE, "%.0f samples/s", point->samples_per_second);
    format_eta(fields[4], progress, now);
}

/* Appends "[====>   ]" of `cells` cells. */
static void append_bar(Text *line, const ProgressPoint *point, size_t cells)
{
    double share = (double)point->step / (double)point->steps;
    size_t full = share >= 1 ? cells : share <= 0 ? 0 : (size_t)(share * (double)cells);
    char bar[LONGEST_BAR + 1];
    memset(bar, '=', full);
    memset(bar + full, ' ', cells - full);
    if (full < cells) bar[full] = '>';
    bar[cells] = '\0';
    text_append(line, "[%s]", bar);
}

/* Fills `line` with what fits in `width` columns: whole fields from the left, then the bar behind the first of them. */
static void format_line(Text *line, const Progress *progress, uint64_t now, size_t width, bool with_bar)
{
    char fields[FIELDS][FIELD_SIZE];
    format_fields(fields, progress, now);
    size_t used = 0, kept = 0, bar = 0;
    for (; kept < FIELDS; kept++) {
        size_t length = strlen(fields[kept]), gap = used && length ? 2 : 0;
        if (used + gap + length > width) break;
        used += gap + length;
    }
    if (with_bar && progress->point.steps > 0 && used + 4 + SHORTEST_BAR <= width) {
        bar = width - used - 4; /* two spaces and the brackets */
        if (bar > LONGEST_BAR) bar = LONGEST_BAR;
    }
    const char *separator = "";
    for (size_t i = 0; i < kept; i++) {
        if (fields[i][0]) {
            text_append(line, "%s%s", separator, fields[i]);
            separator = "  ";
        }
        if (i == 0 && bar) {
            text_append(line, "%s", separator);
            append_bar(line, &progress->point, bar);
            separator = "  ";
        }
    }
}

static void draw(Progress *progress, uint64_t now)
{
    Output *output = progress->output;
    Text line = {0};
    if (output->terminal) {
        /* One column stays free: a line that fills the last one wraps on some terminals. */
        format_line(&line, progress, now, output_width(output) - 1, true);
        if (line.data) output_status_line(output, line.data);
    } else {
        format_line(&line, progress, now, SIZE_MAX, false);
        if (line.data) output_line(output, "%s", line.data);
    }
    text_free(&line);
    progress->shown = now;
    progress->pending = false;
}

void progress_show(Progress *progress, const ProgressPoint *point)
{
    uint64_t now = clock_now(progress->clock);
    progress->point = *point;
    progress->pending = true;
    if (now - progress->shown >= (progress->output->terminal ? REDRAW_NS : PLAIN_LINE_NS)) draw(progress, now);
}

void progress_finish(Progress *progress)
{
    if (progress->output->terminal)
        output_status_line(progress->output, NULL);
    else if (progress->pending)
        draw(progress, clock_now(progress->clock));
}
