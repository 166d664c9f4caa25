/* The loop of training with a peer: batches are asked about ahead, none is lost by a stop, and what others see of the
 * weights. The peer answers from a handler that can be held until so many questions have arrived. */
#include "neuron/learn.h"

#include <stdatomic.h>
#include <time.h>

#include "axon/axon.h"
#include "support/folder.h"
#include "support/suite.h"
#include "train/toy.h"

/* 20 = 2 x 8 + 4 labelled images and 16 = 2 x 8 without a label: a third of the batches is partial. */
enum { IMAGES = 36, LABELLED = 20, BATCH = 8, STEPS = 13 };
static const uint64_t patience = 60000000000; /* ns: a test fails after this */

static Error error;

/* --- the peer --- */

typedef struct Teacher {
    Axon *axon;
    uint64_t hold; /* the first question isn't answered before so many are there */
    bool held;     /* they came */
    atomic_int forwards, backwards;
} Teacher;

static void hold(Teacher *teacher)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    AxonCounters counters = {0};
    uint64_t begun = clock_now(clock_monotonic());
    while (counters.in_flight < teacher->hold && clock_now(clock_monotonic()) - begun < patience) {
        nanosleep(&pause, NULL);
        axon_counters(teacher->axon, &counters);
    }
    teacher->held = counters.in_flight >= teacher->hold;
}

/* A function of the images, so that a question that is asked again has the same answer. */
static void forward(void *context, AxonRequest *const *requests, size_t count)
{
    Teacher *teacher = context;
    for (size_t i = 0; i < count; i++) {
        AxonRequest *request = requests[i];
        int64_t rows = request->shape.dims[0], pixels = shape_count(request->shape) / rows;
        Tensor answer;
        float *images = calloc((size_t)shape_count(request->shape), sizeof *images);
        if (atomic_fetch_add(&teacher->forwards, 1) == 0 && teacher->hold > 0) hold(teacher);
        ck_assert_int_eq(tensor_create(DTYPE_F32, shape_of(rows, 1, 512), &answer, NULL), STATUS_OK);
        axon_read_input(request, 0, (size_t)shape_count(request->shape), images);
        for (int64_t n = 0; n < rows * 512; n++)
            tensor_f32(&answer)[n] = images[n / 512 * pixels + n % 512];
        free(images);
        axon_answer(request, &answer, NULL);
    }
}

static void backward(void *context, AxonRequest *request)
{
    Teacher *teacher = context;
    Tensor answer;
    atomic_fetch_add(&teacher->backwards, 1);
    ck_assert_int_eq(tensor_create(DTYPE_F32, request->shape, &answer, NULL), STATUS_OK);
    axon_answer(request, &answer, NULL);
}

/* --- the pupil --- */

static Teacher teacher;
static Dendrite *dendrite;
static Dataset train;
static Backend *backend;
static int64_t steps_seen, stop_after, most_ahead, last_ahead, answered;

static bool should_stop(void)
{
    return stop_after > 0 && steps_seen >= stop_after;
}

static void on_step(void *context, const LearnStep *step)
{
    (void)context;
    steps_seen++;
    answered += step->answered;
    last_ahead = step->ahead;
    if (last_ahead > most_ahead) most_ahead = last_ahead;
}

static void start_teacher(uint64_t held)
{
    const AxonOptions options = {.listen = "127.0.0.1:0", .neuron_key = "teacher"};
    teacher = (Teacher){.hold = held};
    ck_assert_msg(axon_start(&options, &teacher.axon, &error) == STATUS_OK, "%s", error.message);
    const AxonHandler handler = {.context = &teacher, .forward = forward, .backward = backward};
    ck_assert_int_eq(axon_serve(teacher.axon, "soma", handler, &error), STATUS_OK);
    Peer peer;
    const DendriteOptions asking = {.neuron_key = "pupil", .deadline_ns = patience};
    ck_assert_int_eq(peer_parse(axon_address(teacher.axon), &peer, &error), STATUS_OK);
    ck_assert_int_eq(dendrite_create(&asking, &peer, 1, &dendrite, &error), STATUS_OK);
}

static LearnOptions set_up(uint64_t held)
{
    start_teacher(held);
    train = toy_dataset(IMAGES, 28, 1);
    backend = toy_backend("cpu", 1);
    return (LearnOptions){
        .soma = &soma_mnist,
        .backend = backend,
        .train = &train,
        .end = LABELLED,
        .unlabelled_begin = LABELLED,
        .unlabelled_end = IMAGES,
        .batch = BATCH,
        .shuffle = LOADER_SHUFFLE_EPOCH,
        .steps = STEPS,
        .schedule = {SCHEDULE_LINEAR, .lr = 0.02},
        .trainer = {.soma = &soma_mnist, .rows = 28, .columns = 28, .peers = 1, .dropout = 0.5, .seed = 11},
        .save_every = -1,
        .config = "{}",
        .dendrite = dendrite,
        .deadline_ns = patience,
        .observer = {NULL, on_step, NULL},
        .stop = should_stop};
}

static void tear_down(void)
{
    ck_assert_uint_eq(dendrite_drain(dendrite, patience), 0);
    dendrite_destroy(dendrite);
    axon_destroy(teacher.axon);
    backend_close(backend);
    dataset_destroy(&train);
}

static Learner *create(const LearnOptions *options)
{
    Learner *learner = NULL;
    ck_assert_msg(learner_create(options, &learner, &error) == STATUS_OK, "%s", error.message);
    return learner;
}

static void run(Learner *learner)
{
    steps_seen = most_ahead = answered = 0;
    ck_assert_msg(learner_run(learner, &error) == STATUS_OK, "%s", error.message);
}

/* --- the tests --- */

START_TEST(as_many_batches_as_wanted_are_on_their_way)
{
    LearnOptions options = set_up(9); /* the one that is learnt from, and eight */
    options.ahead = 8;
    Learner *learner = create(&options);
    run(learner);
    ck_assert(teacher.held);
    ck_assert_int_eq(most_ahead, 8);
    ck_assert_int_eq(answered, STEPS);
    learner_destroy(learner);
    tear_down();
    ck_assert_int_eq(teacher.backwards, STEPS);
}
END_TEST

START_TEST(nobody_is_asked_about_a_batch_beyond_the_last)
{
    LearnOptions options = set_up(0);
    options.ahead = 8;
    Learner *learner = create(&options);
    run(learner);
    ck_assert_int_eq(last_ahead, 0);
    learner_destroy(learner);
    DendriteStats stats;
    dendrite_stats(dendrite, 0, &stats);
    tear_down();
    ck_assert_uint_eq(stats.forwards, STEPS);
    ck_assert_int_le(teacher.forwards, STEPS + (int)stats.retries); /* a connection may break under a call */
}
END_TEST

/* Nothing is known yet of how long an answer takes; it is found out by sending more. */
START_TEST(while_the_first_answer_is_awaited_more_questions_go_out)
{
    LearnOptions options = set_up(4);
    Learner *learner = create(&options);
    run(learner);
    ck_assert(teacher.held);
    learner_destroy(learner);
    tear_down();
}
END_TEST

START_TEST(memory_bounds_what_is_on_its_way)
{
    LearnOptions options = set_up(0);
    options.ahead = 8;
    /* A batch: 16 images of 784 floats, 16 answers of 512, and as much for Backward. */
    options.ahead_memory = (size_t)3 * 2 * 2 * BATCH * (784 + 512) * sizeof(float);
    Learner *learner = create(&options);
    run(learner);
    ck_assert_int_eq(most_ahead, 3);
    learner_destroy(learner);
    tear_down();
}
END_TEST

/* A checkpoint begins with the first batch that wasn't learnt from, however many were on their way. */
START_TEST(a_stopped_run_resumes_bit_for_bit)
{
    LearnOptions options = set_up(0);
    char out[FOLDER_PATH_SIZE];
    Folder folder = folder_make();
    options.ahead = 1;
    Learner *undisturbed = create(&options);
    run(undisturbed);
    options.ahead = 8;
    options.out = folder_path(&folder, "run", out);
    Learner *pieces = NULL;
    stop_after = 5;
    for (int64_t done = 0; done < STEPS; done = learner_step(pieces)) {
        learner_destroy(pieces);
        pieces = create(&options);
        run(pieces);
        ck_assert_int_eq(answered, steps_seen);
        options.resume = true;
    }
    toy_assert_equal(learner_variables(pieces), learner_variables(undisturbed));
    learner_destroy(pieces);
    learner_destroy(undisturbed);
    tear_down();
    folder_remove(&folder);
}
END_TEST

/* The end of a run is what others see, whatever the interval between publications. */
START_TEST(the_server_has_the_last_weights)
{
    LearnOptions options = set_up(0);
    Learner *learner = create(&options);
    SomaServer *server = NULL, *fresh = NULL;
    const SomaServerOptions serving = {.soma = &soma_mnist, .device = "cpu", .threads = 1};
    ck_assert_int_eq(server_create(&serving, learner_variables(learner), &server, &error), STATUS_OK);
    learner_serve(learner, server);
    run(learner);
    ck_assert_int_eq(server_create(&serving, learner_variables(learner), &fresh, &error), STATUS_OK);
    ck_assert_int_eq(axon_serve(teacher.axon, "learnt", server_handler(server), &error), STATUS_OK);
    ck_assert_int_eq(axon_serve(teacher.axon, "fresh", server_handler(fresh), &error), STATUS_OK);

    static float pixels[28 * 28] = {0.5f};
    const DendriteOptions asking = {.neuron_key = "pupil", .deadline_ns = patience};
    Tensor image = tensor_view(DTYPE_F32, shape_of(1, 1, 1, 28, 28), pixels), answers[2];
    for (int i = 0; i < 2; i++) {
        Peer peer;
        ck_assert_int_eq(peer_parse(axon_address(teacher.axon), &peer, &error), STATUS_OK);
        strcpy(peer.synapse_key, i == 0 ? "learnt" : "fresh");
        Status status = dendrite_call_forward(&asking, &peer, &image, MODALITY_IMAGE, &answers[i], NULL, &error);
        ck_assert_msg(status == STATUS_OK, "%s", error.message);
    }
    ck_assert_mem_eq(answers[0].data, answers[1].data, answers[1].size);
    GradientCounts counts;
    server_gradient_counts(server, &counts);
    ck_assert_uint_eq(counts.version, STEPS);
    tensor_destroy(&answers[0]);
    tensor_destroy(&answers[1]);
    learner_destroy(learner);
    tear_down();
    server_destroy(server);
    server_destroy(fresh);
}
END_TEST

SUITE_MAIN("learner_network", as_many_batches_as_wanted_are_on_their_way, nobody_is_asked_about_a_batch_beyond_the_last,
           while_the_first_answer_is_awaited_more_questions_go_out, memory_bounds_what_is_on_its_way,
           a_stopped_run_resumes_bit_for_bit, the_server_has_the_last_weights)
