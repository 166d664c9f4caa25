#include "observe/output.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"

/* An Output that writes into memory. */
typedef struct Capture {
    Output output;
    char *results, *people;
    size_t results_size, people_size;
} Capture;

static void open_capture(Capture *capture, bool json, bool quiet)
{
    FILE *results = open_memstream(&capture->results, &capture->results_size);
    FILE *people = open_memstream(&capture->people, &capture->people_size);
    ck_assert(results && people);
    ck_assert_int_eq(output_open(&capture->output, results, people, json, quiet, NULL), STATUS_OK);
}

/* Ends the output; the texts stay until free_capture. */
static void close_capture(Capture *capture)
{
    ck_assert_int_eq(output_finish(&capture->output, NULL), STATUS_OK);
    fclose(capture->output.results);
    fclose(capture->output.people);
}

static void free_capture(Capture *capture)
{
    free(capture->results);
    free(capture->people);
}

START_TEST(test_event_is_one_line_in_the_order_given)
{
    Capture capture;
    open_capture(&capture, true, false);
    Event event = event_make("step");
    event_integer(&event, "step", 12);
    event_real(&event, "loss", 0.25);
    event_boolean(&event, "last", false);
    event_text(&event, "about", "a \"quoted\"\nline");
    event_integers(&event, "shape", (const int64_t[]){64, 1, 28, 28}, 4);
    output_event(&capture.output, &event);
    close_capture(&capture);
    ck_assert_str_eq(capture.results, "{\"event\":\"step\",\"step\":12,\"loss\":0.25,\"last\":false,"
                                      "\"about\":\"a \\\"quoted\\\"\\nline\",\"shape\":[64,1,28,28]}\n");
    ck_assert_str_eq(capture.people, "");
    free_capture(&capture);
}
END_TEST

START_TEST(test_reals_keep_a_float_and_stay_reals)
{
    Capture capture;
    float loss = 1.00000012f; /* the next after 1 */
    open_capture(&capture, true, false);
    Event event = event_make("step");
    event_real(&event, "loss", (double)loss);
    event_real(&event, "lr", 1);
    output_event(&capture.output, &event);
    close_capture(&capture);
    json_t *read = json_loads(capture.results, 0, NULL);
    ck_assert((float)json_real_value(json_object_get(read, "loss")) == loss);
    ck_assert(json_is_real(json_object_get(read, "lr")));
    json_decref(read);
    free_capture(&capture);
}
END_TEST

START_TEST(test_what_json_cannot_say_is_null)
{
    Capture capture;
    open_capture(&capture, true, false);
    Event event = event_make("step");
    event_real(&event, "nan", (double)NAN);
    event_real(&event, "infinite", -(double)INFINITY);
    event_text(&event, "nothing", NULL);
    output_event(&capture.output, &event);
    close_capture(&capture);
    ck_assert_str_eq(capture.results, "{\"event\":\"step\",\"nan\":null,\"infinite\":null,\"nothing\":null}\n");
    free_capture(&capture);
}
END_TEST

START_TEST(test_text_that_is_not_utf8_is_still_json)
{
    Capture capture;
    open_capture(&capture, true, false);
    Event event = event_make("error");
    event_text(&event, "message", "no \xff file");
    output_event(&capture.output, &event);
    close_capture(&capture);
    ck_assert_str_eq(capture.results, "{\"event\":\"error\",\"message\":\"no ? file\"}\n");
    free_capture(&capture);
}
END_TEST

START_TEST(test_without_json_no_events)
{
    Capture capture;
    open_capture(&capture, false, false);
    Event event = event_make("done");
    output_event(&capture.output, &event);
    output_result(&capture.output, "a table\n");
    close_capture(&capture);
    ck_assert_str_eq(capture.results, "a table\n");
    free_capture(&capture);
}
END_TEST

START_TEST(test_with_json_only_events_on_stdout)
{
    Capture capture;
    open_capture(&capture, true, false);
    output_result(&capture.output, "a table\n");
    output_line(&capture.output, "epoch %d", 3);
    output_error(&capture.output, "lr is %d", -1);
    close_capture(&capture);
    ck_assert_str_eq(capture.results, "{\"event\":\"error\",\"message\":\"lr is -1\"}\n");
    ck_assert_str_eq(capture.people, "a table\nepoch 3\nneuron: lr is -1\n");
    free_capture(&capture);
}
END_TEST

START_TEST(test_quiet_leaves_warnings_and_errors)
{
    Capture capture;
    open_capture(&capture, false, true);
    output_line(&capture.output, "a line");
    output_log_sink(&capture.output, LOG_INFO, "an info");
    output_log_sink(&capture.output, LOG_WARNING, "it is late");
    output_error(&capture.output, "too late");
    close_capture(&capture);
    ck_assert_str_eq(capture.people, "warning: it is late\nneuron: too late\n");
    free_capture(&capture);
}
END_TEST

START_TEST(test_lines_pass_above_the_status_line)
{
    Capture capture;
    open_capture(&capture, false, false);
    capture.output.terminal = true;
    output_status_line(&capture.output, "step 1");
    output_line(&capture.output, "hello");
    output_status_line(&capture.output, "step 2");
    output_status_line(&capture.output, NULL);
    close_capture(&capture);
    ck_assert_str_eq(capture.people, "\r\x1b[Kstep 1\r\x1b[Khello\n\r\x1b[Kstep 2\r\x1b[K");
    free_capture(&capture);
}
END_TEST

START_TEST(test_full_disk_is_told_at_the_end)
{
    Capture capture;
    Error error;
    open_capture(&capture, true, false);
    fclose(capture.output.results);
    capture.output.results = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(capture.output.results);
    ck_assert(!output_broken(&capture.output));
    Event event = event_make("done");
    output_event(&capture.output, &event);
    ck_assert(output_broken(&capture.output));
    ck_assert_int_eq(output_finish(&capture.output, &error), STATUS_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "standard output"));
    ck_assert_ptr_nonnull(strstr(error.message, strerror(ENOSPC)));
    fclose(capture.output.results);
    fclose(capture.output.people);
    free_capture(&capture);
}
END_TEST

enum { WRITERS = 4, LINES = 200 };

static void *write_events(void *argument)
{
    for (int i = 0; i < LINES; i++) {
        Event event = event_make("step");
        event_integer(&event, "step", i);
        output_event(argument, &event);
        output_line(argument, "step %d", i);
    }
    return NULL;
}

START_TEST(test_threads_never_tear_a_line)
{
    Capture capture;
    pthread_t threads[WRITERS];
    open_capture(&capture, true, false);
    for (int i = 0; i < WRITERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_events, &capture.output), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    close_capture(&capture);
    int lines = 0;
    for (char *line = strtok(capture.results, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        json_t *read = json_loads(line, 0, NULL);
        ck_assert_msg(read != NULL, "torn: %s", line);
        json_decref(read);
    }
    ck_assert_int_eq(lines, WRITERS * LINES);
    free_capture(&capture);
}
END_TEST

SUITE_MAIN("output", test_event_is_one_line_in_the_order_given, test_reals_keep_a_float_and_stay_reals,
           test_what_json_cannot_say_is_null, test_text_that_is_not_utf8_is_still_json, test_without_json_no_events,
           test_with_json_only_events_on_stdout, test_quiet_leaves_warnings_and_errors,
           test_lines_pass_above_the_status_line, test_full_disk_is_told_at_the_end, test_threads_never_tear_a_line)
