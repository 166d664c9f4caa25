/* Batches: values, order, the partial batch, and going on from a position. */
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/suite.h"

/* Image i of the made-up set is 2x3 pixels i, i+1, ... i+5 (mod 256); its label is i mod 10. */
enum { IMAGES = 100, PIXELS = 6, BATCH = 16 };

static uint8_t pixels[IMAGES][PIXELS], classes[IMAGES];
static Dataset dataset;
static Loader *loader;
static Error error;
static float images[IMAGES][PIXELS];
static int32_t labels[IMAGES];

static void set_up(void)
{
    for (int i = 0; i < IMAGES; i++) {
        for (int j = 0; j < PIXELS; j++)
            pixels[i][j] = (uint8_t)(i + j);
        classes[i] = (uint8_t)(i % 10);
    }
    dataset = (Dataset){.images = tensor_view(DTYPE_U8, shape_of(IMAGES, 1, 2, 3), pixels),
                        .labels = tensor_view(DTYPE_U8, shape_of(IMAGES), classes),
                        .classes = 10,
                        .name = "made up"};
}

static void tear_down(void)
{
    loader_destroy(loader);
    loader = NULL;
}

static LoaderOptions options_of(int64_t begin, int64_t end, LoaderShuffle shuffle)
{
    return (LoaderOptions){.dataset = &dataset,
                           .begin = begin,
                           .end = end,
                           .labelled = true,
                           .batch = BATCH,
                           .shuffle = shuffle,
                           .seed = 7,
                           .stream = RNG_STREAM_SHUFFLE};
}

static Loader *create(LoaderOptions options)
{
    Loader *made = NULL;
    ck_assert_msg(loader_create(&options, &made, &error) == STATUS_OK, "%s", error.message);
    return made;
}

/* The indices of an epoch's images, read off their first pixels; returns how many came. */
static int64_t read_epoch(Loader *from, int order[IMAGES])
{
    int64_t epoch = loader_position(from).epoch, total = 0, count;
    while (loader_position(from).epoch == epoch) {
        loader_next(from, images[0], labels, &count);
        for (int64_t i = 0; i < count; i++)
            order[total++] = (int)(images[i][0] * 255.0f + 0.5f);
    }
    return total;
}

START_TEST(values_are_bytes_over_255)
{
    set_up();
    loader = create(options_of(10, 20, LOADER_SHUFFLE_NONE));
    int64_t count;
    loader_next(loader, images[0], labels, &count);
    ck_assert_int_eq(count, 10);
    for (int i = 0; i < 10; i++) {
        for (int j = 0; j < PIXELS; j++)
            ck_assert(images[i][j] == (float)(10 + i + j) / 255.0f);
        ck_assert_int_eq(labels[i], i);
    }
    tear_down();
}
END_TEST

START_TEST(without_labels)
{
    set_up();
    LoaderOptions options = options_of(0, 5, LOADER_SHUFFLE_NONE);
    options.labelled = false;
    loader = create(options);
    int64_t count;
    loader_next(loader, images[0], labels, &count);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(labels[i], -1);
    loader_next(loader, images[0], NULL, &count);
    ck_assert_int_eq(count, 5);
    tear_down();
}
END_TEST

START_TEST(the_last_batch_is_what_is_left)
{
    set_up();
    loader = create(options_of(0, 40, LOADER_SHUFFLE_NONE));
    ck_assert_int_eq(loader_steps_per_epoch(loader), 3);
    const int64_t expected[] = {16, 16, 8, 16};
    for (int i = 0; i < 4; i++) {
        int64_t count;
        if (i == 2) images[8][0] = -1.0f;
        loader_next(loader, images[0], labels, &count);
        ck_assert_int_eq(count, expected[i]);
        if (i == 2) ck_assert(images[8][0] == -1.0f); /* untouched past count */
    }
    LoaderPosition position = loader_position(loader);
    ck_assert_int_eq(position.epoch, 1);
    ck_assert_int_eq(position.offset, 16);
    tear_down();
}
END_TEST

START_TEST(a_full_last_batch_ends_the_epoch)
{
    set_up();
    loader = create(options_of(0, 32, LOADER_SHUFFLE_NONE));
    ck_assert_int_eq(loader_steps_per_epoch(loader), 2);
    int order[IMAGES];
    ck_assert_int_eq(read_epoch(loader, order), 32);
    LoaderPosition position = loader_position(loader);
    ck_assert_int_eq(position.epoch, 1);
    ck_assert_int_eq(position.offset, 0);
    tear_down();
}
END_TEST

START_TEST(unshuffled_is_the_files_order_every_epoch)
{
    set_up();
    loader = create(options_of(3, 50, LOADER_SHUFFLE_NONE));
    for (int epoch = 0; epoch < 2; epoch++) {
        int order[IMAGES];
        ck_assert_int_eq(read_epoch(loader, order), 47);
        for (int i = 0; i < 47; i++)
            ck_assert_int_eq(order[i], 3 + i);
    }
    tear_down();
}
END_TEST

START_TEST(an_epoch_has_each_image_once)
{
    set_up();
    loader = create(options_of(3, 50, LOADER_SHUFFLE_EPOCH));
    for (int epoch = 0; epoch < 20; epoch++) {
        int order[IMAGES], seen[IMAGES] = {0};
        ck_assert_int_eq(read_epoch(loader, order), 47);
        for (int i = 0; i < 47; i++)
            seen[order[i]]++;
        for (int i = 0; i < IMAGES; i++)
            ck_assert_int_eq(seen[i], i >= 3 && i < 50);
    }
    tear_down();
}
END_TEST

START_TEST(labels_stay_with_their_images)
{
    set_up();
    loader = create(options_of(0, IMAGES, LOADER_SHUFFLE_EPOCH));
    for (int i = 0; i < 7; i++) {
        int64_t count;
        loader_next(loader, images[0], labels, &count);
        for (int64_t j = 0; j < count; j++)
            ck_assert_int_eq(labels[j], (int)(images[j][0] * 255.0f + 0.5f) % 10);
    }
    tear_down();
}
END_TEST

static bool same_first_epoch(LoaderOptions a, LoaderOptions b, LoaderPosition start_of_b)
{
    Loader *first = create(a), *second = create(b);
    ck_assert_int_eq(loader_seek(second, start_of_b, &error), STATUS_OK);
    int order[2][IMAGES];
    int64_t counts[2] = {read_epoch(first, order[0]), read_epoch(second, order[1])};
    loader_destroy(first);
    loader_destroy(second);
    return counts[0] == counts[1] && memcmp(order[0], order[1], (size_t)counts[0] * sizeof(int)) == 0;
}

START_TEST(order_depends_on_seed_stream_and_epoch_alone)
{
    set_up();
    LoaderOptions options = options_of(0, IMAGES, LOADER_SHUFFLE_EPOCH), other = options;
    LoaderPosition start = {0, 0};
    other.batch = 9;
    other.labelled = false;
    ck_assert(same_first_epoch(options, other, start));
    other.seed++;
    ck_assert(!same_first_epoch(options, other, start));
    other = options;
    other.stream = RNG_STREAM_UNLABELLED;
    ck_assert(!same_first_epoch(options, other, start));
    ck_assert(!same_first_epoch(options, options, (LoaderPosition){1, 0}));
    tear_down();
}
END_TEST

/* Each of 100 images is first in about 1,000 of 100,000 epochs: chi-square with 99 degrees of freedom stays below 161
 * with probability 0.9999. The seed is fixed, so the test can't waver. */
START_TEST(every_image_comes_first_equally_often)
{
    set_up();
    LoaderOptions options = options_of(0, IMAGES, LOADER_SHUFFLE_EPOCH);
    options.batch = 1;
    loader = create(options);
    enum { EPOCHS = 100000 };
    int times[IMAGES] = {0};
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        int64_t count;
        ck_assert_int_eq(loader_seek(loader, (LoaderPosition){epoch, 0}, &error), STATUS_OK);
        loader_next(loader, images[0], labels, &count);
        times[(int)(images[0][0] * 255.0f + 0.5f)]++;
    }
    double chi_square = 0, expected = (double)EPOCHS / IMAGES;
    for (int i = 0; i < IMAGES; i++)
        chi_square += (times[i] - expected) * (times[i] - expected) / expected;
    ck_assert_double_lt(chi_square, 161.0);
    ck_assert_double_gt(chi_square, 50.0);
    tear_down();
}
END_TEST

/* Read 30 batches in one go; then for each of them a new loader that is sent to where it began. */
START_TEST(going_on_gives_the_same_batches)
{
    set_up();
    enum { STEPS = 30 };
    LoaderOptions options = options_of(5, 99, LOADER_SHUFFLE_EPOCH);
    LoaderPosition positions[STEPS];
    static float expected[STEPS][BATCH][PIXELS];
    int32_t expected_labels[STEPS][BATCH];
    int64_t counts[STEPS];
    loader = create(options);
    for (int i = 0; i < STEPS; i++) {
        positions[i] = loader_position(loader);
        loader_next(loader, expected[i][0], expected_labels[i], &counts[i]);
    }
    for (int i = 0; i < STEPS; i++) {
        Loader *resumed = create(options);
        ck_assert_int_eq(loader_seek(resumed, positions[i], &error), STATUS_OK);
        for (int j = i; j < STEPS && j < i + 8; j++) {
            int64_t count;
            loader_next(resumed, images[0], labels, &count);
            ck_assert_int_eq(count, counts[j]);
            ck_assert_mem_eq(images, expected[j], (size_t)count * sizeof images[0]);
            ck_assert_mem_eq(labels, expected_labels[j], (size_t)count * sizeof labels[0]);
        }
        loader_destroy(resumed);
    }
    tear_down();
}
END_TEST

/* Back to an epoch that is over, in the same loader. */
START_TEST(going_back)
{
    set_up();
    loader = create(options_of(0, IMAGES, LOADER_SHUFFLE_EPOCH));
    int first[IMAGES], again[IMAGES];
    read_epoch(loader, first);
    read_epoch(loader, again);
    ck_assert_int_eq(loader_seek(loader, (LoaderPosition){0, 0}, &error), STATUS_OK);
    read_epoch(loader, again);
    ck_assert_mem_eq(first, again, sizeof first);
    tear_down();
}
END_TEST

static void expect_refused(LoaderOptions options, Status status, const char *words)
{
    Loader *none = NULL;
    ck_assert_int_eq(loader_create(&options, &none, &error), status);
    ck_assert_msg(strstr(error.message, words), "'%s' does not say '%s'", error.message, words);
    ck_assert_ptr_null(none);
}

START_TEST(bad_ranges)
{
    set_up();
    expect_refused(options_of(-1, 5, LOADER_SHUFFLE_NONE), STATUS_OUT_OF_RANGE, "is -1:5, expected a part of 0:100");
    expect_refused(options_of(0, 101, LOADER_SHUFFLE_NONE), STATUS_OUT_OF_RANGE, "is 0:101, expected");
    expect_refused(options_of(5, 5, LOADER_SHUFFLE_NONE), STATUS_OUT_OF_RANGE, "is 5:5, expected");
    expect_refused(options_of(6, 5, LOADER_SHUFFLE_NONE), STATUS_OUT_OF_RANGE, "of made up");
    tear_down();
}
END_TEST

START_TEST(bad_batch)
{
    set_up();
    LoaderOptions options = options_of(0, 5, LOADER_SHUFFLE_NONE);
    options.batch = 0;
    expect_refused(options, STATUS_INVALID_ARGUMENT, "batch is 0, expected at least 1");
    tear_down();
}
END_TEST

START_TEST(bad_positions_move_nothing)
{
    set_up();
    loader = create(options_of(0, 50, LOADER_SHUFFLE_EPOCH));
    ck_assert_int_eq(loader_seek(loader, (LoaderPosition){2, 49}, &error), STATUS_OK);
    const LoaderPosition bad[] = {{-1, 0}, {0, -1}, {0, 50}, {INT64_C(1) << 28, 0}, {INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq(loader_seek(loader, bad[i], &error), STATUS_OUT_OF_RANGE);
    ck_assert_int_eq(loader_seek(loader, (LoaderPosition){3, 50}, &error), STATUS_OUT_OF_RANGE);
    ck_assert_ptr_nonnull(strstr(error.message, "offset in epoch 3 to go on from is 50, expected 0 to 49"));
    ck_assert_int_eq(loader_position(loader).epoch, 2);
    ck_assert_int_eq(loader_position(loader).offset, 49);
    tear_down();
}
END_TEST

SUITE_MAIN("loader", values_are_bytes_over_255, without_labels, the_last_batch_is_what_is_left,
           a_full_last_batch_ends_the_epoch, unshuffled_is_the_files_order_every_epoch, an_epoch_has_each_image_once,
           labels_stay_with_their_images, order_depends_on_seed_stream_and_epoch_alone,
           every_image_comes_first_equally_often, going_on_gives_the_same_batches, going_back, bad_ranges, bad_batch,
           bad_positions_move_nothing)
