/* The axon with many calls at once: batches, fairness, refusals, callers that go away. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "net/crowd.h"
#include "net/raw.h"
#include "support/suite.h"

static const uint64_t ms = 1000000;

typedef struct Scene {
    Stub stub;
    Axon *axon;
    Crowd *crowd;
    Tensor input; /* one row */
    AxonCounters counters;
} Scene;

static void begin(Scene *scene, AxonOptions options, int64_t batch_rows, uint64_t batch_wait_ns)
{
    stub_init(&scene->stub, 1);
    scene->stub.batch_rows = batch_rows;
    scene->stub.batch_wait_ns = batch_wait_ns;
    scene->axon = stub_serve_with(&scene->stub, options);
    scene->crowd = crowd_create(scene->axon);
    scene->input = make_images(1, 1);
}

static void end(Scene *scene)
{
    tensor_destroy(&scene->input);
    axon_destroy(scene->axon);
    crowd_destroy(scene->crowd);
    stub_clear(&scene->stub);
}

static int send(Scene *scene, const char *key, int count)
{
    return crowd_send(scene->crowd, key, count, &scene->input, 20000 * ms);
}

static const AxonCounters *count(Scene *scene)
{
    axon_counters(scene->axon, &scene->counters);
    return &scene->counters;
}

/* One call is in its handler, and stays there until release; `key`'s. */
static void hold(Scene *scene, const char *key)
{
    scene->stub.held = true;
    int runs = scene->stub.runs;
    send(scene, key, 1);
    while (scene->stub.runs == runs)
        sleep_ms(1);
}

static void wait_for_waiting(Scene *scene, uint64_t waiting)
{
    while (count(scene)->waiting != waiting)
        sleep_ms(1);
}

static void release(Scene *scene)
{
    scene->stub.held = false;
    crowd_wait(scene->crowd, scene->crowd->count);
}

START_TEST(many_callers_at_once_are_all_answered)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 0, 0);
    for (int caller = 0; caller < 10; caller++)
        send(&scene, (const char[]){'a' + (char)caller, 0}, 40);
    crowd_wait(scene.crowd, 400);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 400, STATUS_OK), 400);
    ck_assert_uint_eq(count(&scene)->calls, 400);
    ck_assert_uint_eq(scene.counters.forwards, 400);
    ck_assert_uint_eq(scene.counters.batches[CLOSED_BY_SIZE], 400);
    ck_assert_uint_gt(scene.counters.bytes_in, 400 * 16);
    ck_assert_uint_gt(scene.counters.bytes_out, 400 * NETWORK_DIM * 4);
    end(&scene);
}
END_TEST

START_TEST(several_threads_answer_several_connections)
{
    enum { CONNECTIONS = 6, CALLS = 50 };
    Scene scene;
    Crowd *crowds[CONNECTIONS];
    begin(&scene, (AxonOptions){.threads = 4}, 8, 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        crowds[i] = crowd_create(scene.axon);
        crowd_send(crowds[i], "caller", CALLS, &scene.input, 20000 * ms);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        crowd_wait(crowds[i], CALLS);
        ck_assert_int_eq(crowd_count(crowds[i], 0, CALLS, STATUS_OK), CALLS);
        crowd_destroy(crowds[i]);
    }
    end(&scene);
}
END_TEST

START_TEST(requests_that_arrive_together_become_one_batch)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 64, 0);
    hold(&scene, "first");
    for (int caller = 0; caller < 4; caller++)
        send(&scene, (const char[]){'a' + (char)caller, 0}, 10);
    wait_for_waiting(&scene, 40);
    release(&scene);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 41, STATUS_OK), 41);
    ck_assert_int_eq(scene.stub.runs, 2);
    ck_assert_int_eq(scene.stub.joined, 40);
    ck_assert_uint_eq(count(&scene)->batches[CLOSED_BY_IDLE], 2);
    ck_assert_uint_eq(scene.counters.batched_calls, 41);
    ck_assert_uint_eq(scene.counters.batched_rows, 41);
    end(&scene);
}
END_TEST

START_TEST(batches_are_closed_by_size)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 8, 0);
    hold(&scene, "first");
    send(&scene, "caller", 24);
    wait_for_waiting(&scene, 24);
    release(&scene);
    ck_assert_int_eq(scene.stub.runs, 4);
    ck_assert_int_eq(scene.stub.joined, 8);
    ck_assert_uint_eq(count(&scene)->batches[CLOSED_BY_SIZE], 3);
    end(&scene);
}
END_TEST

START_TEST(a_request_waits_for_company_but_not_for_ever)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 64, 30 * ms);
    uint64_t begun = clock_now(clock_monotonic());
    send(&scene, "one", 1);
    send(&scene, "two", 1);
    crowd_wait(scene.crowd, 2);
    ck_assert_uint_ge(clock_now(clock_monotonic()) - begun, 30 * ms);
    ck_assert_int_eq(scene.stub.runs, 1);
    ck_assert_uint_eq(count(&scene)->batches[CLOSED_BY_TIME], 1);
    end(&scene);
}
END_TEST

START_TEST(a_batch_is_closed_in_time_for_a_deadline)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 64, 10000 * ms);
    crowd_send(scene.crowd, "hurried", 1, &scene.input, 500 * ms);
    crowd_wait(scene.crowd, 1);
    ck_assert_int_eq(scene.stub.runs, 1);
    ck_assert_uint_eq(count(&scene)->batches[CLOSED_BY_DEADLINE], 1);
    end(&scene);
}
END_TEST

START_TEST(a_greedy_caller_does_not_delay_another)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 16, 0);
    hold(&scene, "greedy");
    send(&scene, "greedy", 400);
    wait_for_waiting(&scene, 400);
    int modest = send(&scene, "modest", 16);
    wait_for_waiting(&scene, 416);
    release(&scene);
    for (int i = modest; i < modest + 16; i++) /* behind two batches of the other's, not 400 calls */
        ck_assert_int_le(scene.crowd->calls[i].order, 1 + 2 * 16 + 16);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 417, STATUS_OK), 417);
    end(&scene);
}
END_TEST

START_TEST(a_full_queue_refuses_at_once_and_leaves_room_for_others)
{
    Scene scene;
    begin(&scene, (AxonOptions){.queue_capacity = 8}, 0, 0);
    hold(&scene, "greedy");
    int greedy = send(&scene, "greedy", 10);
    crowd_wait(scene.crowd, 6); /* the refused, though the handler hangs */
    ck_assert_int_eq(crowd_count(scene.crowd, greedy, 10, STATUS_RESOURCE_EXHAUSTED), 6);
    int other = send(&scene, "other", 1);
    wait_for_waiting(&scene, 5);
    release(&scene);
    ck_assert_int_eq(crowd_count(scene.crowd, other, 1, STATUS_OK), 1);
    ck_assert_int_eq(crowd_count(scene.crowd, greedy, 10, STATUS_OK), 4);
    ck_assert_uint_eq(count(&scene)->failures[STATUS_RESOURCE_EXHAUSTED], 6);
    end(&scene);
}
END_TEST

START_TEST(too_many_waiting_bytes_are_refused)
{
    Scene scene;
    begin(&scene, (AxonOptions){.queue_bytes = 400}, 0, 0); /* a request has some 60 */
    hold(&scene, "greedy");
    int greedy = send(&scene, "greedy", 10);
    while (count(&scene)->waiting + scene.counters.failures[STATUS_RESOURCE_EXHAUSTED] < 10)
        sleep_ms(1);
    release(&scene);
    ck_assert_int_ge(crowd_count(scene.crowd, greedy, 10, STATUS_RESOURCE_EXHAUSTED), 5);
    ck_assert_int_ge(crowd_count(scene.crowd, greedy, 10, STATUS_OK), 2);
    greedy = send(&scene, "greedy", 1); /* the bytes were given back */
    crowd_wait(scene.crowd, scene.crowd->count);
    ck_assert_int_eq(crowd_count(scene.crowd, greedy, 1, STATUS_OK), 1);
    end(&scene);
}
END_TEST

START_TEST(cancelled_calls_leave_the_queue_at_once_and_never_run)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 0, 0);
    hold(&scene, "caller");
    int fickle = send(&scene, "fickle", 50), patient = send(&scene, "patient", 3);
    wait_for_waiting(&scene, 53);
    crowd_cancel(scene.crowd, fickle, 50);
    crowd_wait(scene.crowd, 50);
    wait_for_waiting(&scene, 3);          /* while the handler still hangs */
    while (count(&scene)->in_flight != 4) /* and their memory is free */
        sleep_ms(1);
    ck_assert_uint_eq(scene.counters.failures[STATUS_CANCELLED], 50);
    release(&scene);
    ck_assert_int_eq(crowd_count(scene.crowd, patient, 3, STATUS_OK), 3);
    ck_assert_int_eq(scene.stub.runs, 4);
    end(&scene);
}
END_TEST

START_TEST(late_calls_are_dropped_before_the_soma_runs)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 0, 0);
    hold(&scene, "caller");
    crowd_send(scene.crowd, "hurried", 5, &scene.input, 100 * ms);
    wait_for_waiting(&scene, 5);
    crowd_wait(scene.crowd, 5);
    ck_assert_int_eq(crowd_count(scene.crowd, 1, 5, STATUS_DEADLINE_EXCEEDED), 5);
    release(&scene);
    ck_assert_int_eq(scene.stub.runs, 1);
    while (count(&scene)->in_flight)
        sleep_ms(1);
    ck_assert_uint_eq(scene.counters.failures[STATUS_CANCELLED] + scene.counters.failures[STATUS_DEADLINE_EXCEEDED], 5);
    end(&scene);
}
END_TEST

START_TEST(a_withdrawn_soma_refuses_those_who_wait)
{
    Scene scene;
    begin(&scene, (AxonOptions){0}, 4, 60000 * ms);
    int first = send(&scene, "caller", 3); /* for a fourth */
    wait_for_waiting(&scene, 3);
    ck_assert_int_eq(axon_withdraw(scene.axon, "soma", NULL), STATUS_OK);
    crowd_wait(scene.crowd, 3);
    ck_assert_int_eq(crowd_count(scene.crowd, first, 3, STATUS_NOT_FOUND), 3);
    end(&scene);
}
END_TEST

/* 60 answers of 128 KiB are more than 4 MiB: handlers wait, and after 2 s the oldest make room. */
START_TEST(answers_that_nobody_reads_are_given_up)
{
    Scene scene;
    uint8_t bytes[2048];
    size_t size = 0;
    EncodedMessage encoded;
    begin(&scene, (AxonOptions){.memory_bytes = 4 << 20}, 0, 0);
    Tensor images = make_images(64, 1);
    MessageTensor tensor = {&images, MODALITY_IMAGE};
    ck_assert_int_eq(message_encode("slow", "soma", &tensor, 1, sizeof bytes, &encoded, NULL), STATUS_OK);
    for (size_t i = 0; i < encoded.count; i++) {
        memcpy(bytes + size, encoded.parts[i].data, encoded.parts[i].size);
        size += encoded.parts[i].size;
    }
    int fd = raw_slow_reader(axon_address(scene.axon), "/Bittensor/Forward", 60, bytes, size);
    while (count(&scene)->forwards < 60 || scene.counters.in_flight > 32)
        sleep_ms(1);
    ck_assert_uint_ge(scene.counters.in_flight, 20);
    send(&scene, "good", 10);
    crowd_wait(scene.crowd, 10);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 10, STATUS_OK), 10);
    close(fd);
    while (count(&scene)->in_flight)
        sleep_ms(1);
    tensor_destroy(&images);
    end(&scene);
}
END_TEST

/* 12 handlers of 5 ms on four threads are 240 ms of core time, where answering may have half a core, and 50 ms are
 * saved up. Calls that need no handler get through meanwhile. */
START_TEST(the_share_of_the_cores_is_kept)
{
    Scene scene;
    begin(&scene, (AxonOptions){.share = 0.5 / team_available_cores(), .handler_threads = 4}, 0, 0);
    scene.stub.burn_ns = 5 * ms;
    uint64_t begun = clock_now(clock_monotonic());
    send(&scene, "caller", 12);
    while (count(&scene)->paused_ns == 0)
        sleep_ms(1);
    ck_assert_int_eq(raw_call(axon_address(scene.axon), "/No/Such", "", 0, NULL), STATUS_UNIMPLEMENTED);
    ck_assert_uint_lt(count(&scene)->forwards, 12);
    crowd_wait(scene.crowd, 12);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 12, STATUS_OK), 12);
    uint64_t spent = clock_now(clock_monotonic()) - begun;
    ck_assert_uint_ge(spent, 330 * ms); /* the debt of the last one isn't waited for */
    ck_assert_uint_lt(count(&scene)->paused_ns, spent);
    end(&scene);
}
END_TEST

START_TEST(a_share_can_be_given_up)
{
    Scene scene;
    begin(&scene, (AxonOptions){.share = 0.001}, 0, 0);
    scene.stub.burn_ns = 5 * ms;
    send(&scene, "caller", 1);
    crowd_wait(scene.crowd, 1);
    axon_set_share(scene.axon, 0);
    send(&scene, "caller", 12);
    crowd_wait(scene.crowd, 13);
    ck_assert_int_eq(crowd_count(scene.crowd, 0, 13, STATUS_OK), 13);
    ck_assert_uint_eq(count(&scene)->paused_ns, 0);
    end(&scene);
}
END_TEST

SUITE_MAIN("axon_load", many_callers_at_once_are_all_answered, several_threads_answer_several_connections,
           requests_that_arrive_together_become_one_batch, batches_are_closed_by_size,
           a_request_waits_for_company_but_not_for_ever, a_batch_is_closed_in_time_for_a_deadline,
           a_greedy_caller_does_not_delay_another, a_full_queue_refuses_at_once_and_leaves_room_for_others,
           too_many_waiting_bytes_are_refused, cancelled_calls_leave_the_queue_at_once_and_never_run,
           late_calls_are_dropped_before_the_soma_runs, a_withdrawn_soma_refuses_those_who_wait,
           answers_that_nobody_reads_are_given_up, the_share_of_the_cores_is_kept, a_share_can_be_given_up)
