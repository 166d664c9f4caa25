#include "axon/schedule.h"

enum {
    LEADS = 16,          /* lines whose first request is looked at when the first ones aren't ready */
    ROWS_COUNTED = 65536 /* of one request, so that a debt is paid off in bounded time */
};

void schedule_init(Schedule *schedule, size_t capacity, size_t most_bytes)
{
    *schedule = (Schedule){.capacity = capacity, .most_bytes = most_bytes};
    TAILQ_INIT(&schedule->rotation);
    for (size_t i = 0; i < SCHEDULE_LINES; i++) {
        TAILQ_INIT(&schedule->lines[i].requests);
        schedule->lines[i].rows_left = SCHEDULE_QUANTUM;
    }
}

/* --- in and out --- */

static Status check_room(const Schedule *schedule, const Line *line, const Waiting *request, Error *error)
{
    size_t free_places = schedule->capacity - schedule->count;
    if (free_places == 0 || line->count + 1 > free_places)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED,
                         "%zu calls are waiting already, %zu of them this caller's, and there is room for %zu",
                         schedule->count, line->count, schedule->capacity);
    if (schedule->count == 0) return STATUS_OK;
    size_t free_bytes = schedule->bytes < schedule->most_bytes ? schedule->most_bytes - schedule->bytes : 0;
    if (request->bytes <= free_bytes && line->bytes + request->bytes <= free_bytes) return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED,
                     "%zu bytes are waiting already, %zu of them this caller's, and there is room for %zu",
                     schedule->bytes, line->bytes, schedule->most_bytes);
}

Status schedule_add(Schedule *schedule, Waiting *request, Error *error)
{
    Line *line = &schedule->lines[request->caller % SCHEDULE_LINES];
    RETURN_IF_ERROR(check_room(schedule, line, request, error));
    if (line->count++ == 0) {
        TAILQ_INSERT_TAIL(&schedule->rotation, line, place);
        schedule->active++;
    }
    TAILQ_INSERT_TAIL(&line->requests, request, place);
    request->line = line;
    line->bytes += request->bytes;
    schedule->count++;
    schedule->bytes += request->bytes;
    schedule->rows += request->rows;
    return STATUS_OK;
}

/* A line that empties keeps its debt, so that a caller of few large requests pays for them too, but saves nothing up.
 */
void schedule_remove(Schedule *schedule, Waiting *request)
{
    Line *line = request->line;
    TAILQ_REMOVE(&line->requests, request, place);
    request->line = NULL;
    line->bytes -= request->bytes;
    schedule->count--;
    schedule->bytes -= request->bytes;
    schedule->rows -= request->rows;
    if (--line->count == 0) {
        TAILQ_REMOVE(&schedule->rotation, line, place);
        schedule->active--;
    }
}

Waiting *schedule_take_of(Schedule *schedule, const BatchRule *rule)
{
    Line *line;
    Waiting *request;
    TAILQ_FOREACH(line, &schedule->rotation, place)
    TAILQ_FOREACH(request, &line->requests, place)
    if (!rule || request->rule == rule) {
        schedule_remove(schedule, request);
        return request;
    }
    return NULL;
}

/* --- batches --- */

static bool joins(const Waiting *one, const Waiting *other)
{
    if (one->rule != other->rule || one->alone || other->alone || one->modality != other->modality) return false;
    for (int i = 2; i < one->shape.rank; i++)
        if (one->shape.dims[i] != other->shape.dims[i]) return false;
    return true; /* the ranks are the modality's */
}

/* What a batch that begins with `lead` could hold at this moment, and when it has to be closed. */
static bool is_ready(const Schedule *schedule, const Waiting *lead, uint64_t now, BatchClosing *closing, uint64_t *due)
{
    const BatchRule *rule = lead->rule;
    *closing = CLOSED_BY_IDLE;
    if (lead->alone || rule->wait_ns == 0 || lead->rows >= rule->rows) return true;
    const Line *line;
    const Waiting *request;
    int64_t rows = 0;
    uint64_t oldest = lead->arrived_ns, deadline = lead->deadline_ns;
    TAILQ_FOREACH(line, &schedule->rotation, place)
    TAILQ_FOREACH(request, &line->requests, place)
    {
        if (!joins(lead, request)) break;
        rows += request->rows;
        if (rows >= rule->rows) return true; /* take_batch says that it was the size */
        if (request->arrived_ns < oldest) oldest = request->arrived_ns;
        if (request->deadline_ns < deadline) deadline = request->deadline_ns;
    }
    uint64_t by_time = oldest + rule->wait_ns;
    uint64_t by_deadline = deadline > rule->margin_ns ? deadline - rule->margin_ns : 0;
    *closing = by_deadline < by_time ? CLOSED_BY_DEADLINE : CLOSED_BY_TIME;
    *due = by_deadline < by_time ? by_deadline : by_time;
    return *due <= now;
}

static void take(Schedule *schedule, Waiting *request, uint64_t now, Batch *out)
{
    Line *line = request->line;
    schedule_remove(schedule, request);
    if (request->deadline_ns <= now) {
        TAILQ_INSERT_TAIL(&out->late, request, place);
        return;
    }
    line->rows_left -= request->rows < ROWS_COUNTED ? request->rows : ROWS_COUNTED;
    out->requests[out->count++] = request;
    out->rows += request->rows;
}

/* The end of a line's turn, if it is at its end. */
static void pass_on(Schedule *schedule, Line *line)
{
    if (line->rows_left > 0) return;
    line->rows_left += SCHEDULE_QUANTUM;
    if (line->count == 0) return;
    TAILQ_REMOVE(&schedule->rotation, line, place);
    TAILQ_INSERT_TAIL(&schedule->rotation, line, place);
}

/* Joins from the front of a line what fits. False when the batch is full. */
static bool join_from(Schedule *schedule, Line *line, const Waiting *lead, uint64_t now, Batch *out, bool *found)
{
    Waiting *request;
    *found = false;
    while ((request = TAILQ_FIRST(&line->requests)) && joins(lead, request)) {
        *found = true;
        if (line->rows_left <= 0) break;
        if (out->count == SCHEDULE_BATCH || out->rows + request->rows > lead->rule->rows) return false;
        take(schedule, request, now, out);
    }
    return true;
}

/* With the lead taken: the others, from all lines in turn, until nothing fits any more or every line was passed without
 * finding any. Lines are only sent to the end of the rotation when their turn is over, so that one that waits for a
 * batch of another kind comes to the front in time. */
static void take_others(Schedule *schedule, const Waiting *lead, uint64_t now, Batch *out)
{
    Line *line = NULL;
    for (size_t passed = 0; passed < schedule->active;) {
        if (!line) line = TAILQ_FIRST(&schedule->rotation);
        Line *next = TAILQ_NEXT(line, place);
        bool found;
        if (!join_from(schedule, line, lead, now, out, &found)) {
            out->closing = CLOSED_BY_SIZE;
            return;
        }
        pass_on(schedule, line);
        passed = found ? 0 : passed + 1;
        line = next;
    }
}

static void take_batch(Schedule *schedule, Waiting *lead, uint64_t now, Batch *out)
{
    Line *line = lead->line;
    take(schedule, lead, now, out);
    pass_on(schedule, line);
    if (!lead->alone && lead->rows < lead->rule->rows) take_others(schedule, lead, now, out);
    if (out->rows >= lead->rule->rows) out->closing = CLOSED_BY_SIZE;
}

void schedule_next(Schedule *schedule, uint64_t now, Batch *out)
{
    out->count = 0;
    out->rows = 0;
    out->due = UINT64_MAX;
    TAILQ_INIT(&out->late);
    Line *line = TAILQ_FIRST(&schedule->rotation);
    for (int looked = 0; line && looked < LEADS; looked++) {
        Line *next = TAILQ_NEXT(line, place);
        Waiting *lead = TAILQ_FIRST(&line->requests);
        uint64_t due = UINT64_MAX;
        if (lead->deadline_ns <= now) {
            take(schedule, lead, now, out);
            if (line->count) next = line;
        } else if (is_ready(schedule, lead, now, &out->closing, &due)) {
            take_batch(schedule, lead, now, out);
            return;
        } else if (due < out->due) {
            out->due = due;
        }
        line = next;
    }
    if (!TAILQ_EMPTY(&out->late)) out->due = now; /* there may be others behind them */
}
