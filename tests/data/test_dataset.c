/* MNIST's folder: where the files are found, what must agree between them, and the real thing. */
#include "data/dataset.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/files.h"

static char folder[FILES_PATH_SIZE];
static Dataset dataset;
static Error error;

static void set_up(void)
{
    files_folder(folder);
}

static void tear_down(void)
{
    dataset_destroy(&dataset);
    files_remove(folder);
}

static Bytes images_of(uint32_t count)
{
    return files_idx(3, (const uint32_t[]){count, 2, 3}, 6 * count, 256);
}

static Bytes labels_of(uint32_t count, int modulus)
{
    return files_idx(1, (const uint32_t[]){count}, count, modulus);
}

static void write_pair(const char *images_name, Bytes images, const char *labels_name, Bytes labels)
{
    char path[FILES_PATH_SIZE];
    files_write(folder, images_name, &images, path);
    files_write(folder, labels_name, &labels, path);
}

static void expect_refused(Status status, const char *words)
{
    ck_assert_int_eq(dataset_load_mnist(folder, DATASET_TRAIN, &dataset, &error), status);
    ck_assert_msg(strstr(error.message, words), "'%s' does not say '%s'", error.message, words);
    ck_assert_ptr_null(dataset.images.data);
    ck_assert_ptr_null(dataset.labels.data);
}

START_TEST(loads_from_the_mnist_folder)
{
    write_pair("mnist/train-images-idx3-ubyte", images_of(12), "mnist/train-labels-idx1-ubyte", labels_of(12, 10));
    ck_assert_int_eq(dataset_load_mnist(folder, DATASET_TRAIN, &dataset, &error), STATUS_OK);
    ck_assert(shape_equal(dataset.images.shape, shape_of(12, 1, 2, 3)));
    ck_assert(shape_equal(dataset.labels.shape, shape_of(12)));
    ck_assert_int_eq(dataset.classes, 10);
    ck_assert_str_eq(dataset.name, "mnist");
    ck_assert_int_eq(strncmp(dataset.folder, folder, strlen(folder)), 0);
    ck_assert_str_eq(dataset.folder + strlen(folder), "/mnist");
    ck_assert_int_eq(((const uint8_t *)dataset.images.data)[71], 71);
    ck_assert_int_eq(((const uint8_t *)dataset.labels.data)[11], 1);
}
END_TEST

START_TEST(loads_gzip_from_the_folder_itself)
{
    Bytes images = images_of(3), labels = labels_of(3, 10);
    write_pair("t10k-images-idx3-ubyte.gz", files_gzip(&images), "t10k-labels-idx1-ubyte.gz", files_gzip(&labels));
    ck_assert_int_eq(dataset_load_mnist(folder, DATASET_TEST, &dataset, &error), STATUS_OK);
    ck_assert(shape_equal(dataset.images.shape, shape_of(3, 1, 2, 3)));
    ck_assert_str_eq(dataset.folder, folder);
}
END_TEST

START_TEST(a_path_with_fashion_is_fashion_mnist)
{
    write_pair("Fashion-images/train-images-idx3-ubyte", images_of(1), "Fashion-images/train-labels-idx1-ubyte",
               labels_of(1, 10));
    char path[FILES_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/Fashion-images", folder);
    ck_assert_int_eq(dataset_load_mnist(path, DATASET_TRAIN, &dataset, &error), STATUS_OK);
    ck_assert_str_eq(dataset.name, "fashion-mnist");
}
END_TEST

START_TEST(nothing_there)
{
    expect_refused(STATUS_NOT_FOUND, "train-images-idx3-ubyte and train-labels-idx1-ubyte");
    ck_assert_ptr_nonnull(strstr(error.message, folder));
    ck_assert_ptr_nonnull(strstr(error.message, "scripts/get-data.sh"));
}
END_TEST

START_TEST(no_such_folder)
{
    ck_assert_int_eq(dataset_load_mnist("/no/such/folder", DATASET_TEST, &dataset, &error), STATUS_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "/no/such/folder"));
    ck_assert_ptr_nonnull(strstr(error.message, "t10k-images-idx3-ubyte"));
}
END_TEST

START_TEST(one_file_of_two)
{
    Bytes images = images_of(2);
    char path[FILES_PATH_SIZE];
    files_write(folder, "mnist/train-images-idx3-ubyte", &images, path);
    expect_refused(STATUS_NOT_FOUND, "has no train-labels-idx1-ubyte");
}
END_TEST

START_TEST(counts_differ)
{
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", labels_of(5, 10));
    expect_refused(STATUS_INVALID_ARGUMENT, "has 5 labels, expected one for each of the 4 images");
}
END_TEST

START_TEST(label_too_large)
{
    write_pair("train-images-idx3-ubyte", images_of(11), "train-labels-idx1-ubyte", labels_of(11, 11));
    expect_refused(STATUS_INVALID_ARGUMENT, "label 10 of");
    ck_assert_ptr_nonnull(strstr(error.message, "is 10, expected 0 to 9"));
}
END_TEST

START_TEST(files_mixed_up)
{
    write_pair("train-images-idx3-ubyte", labels_of(4, 10), "train-labels-idx1-ubyte", images_of(4));
    expect_refused(STATUS_INVALID_ARGUMENT, "is [4], expected [images, rows, cols]");
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", images_of(4));
    expect_refused(STATUS_INVALID_ARGUMENT, "is [4, 2, 3], expected [images]");
}
END_TEST

START_TEST(damaged_labels_free_the_images)
{
    Bytes labels = labels_of(4, 10);
    labels.size--;
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", labels);
    expect_refused(STATUS_DATA_LOSS, "train-labels-idx1-ubyte' is cut short");
}
END_TEST

static void expect_mnist(DatasetSplit split, int64_t count, uint64_t pixels, uint64_t labels, int first_label)
{
    const char *data = getenv("NEURON_DATA");
    if (!data) {
        printf("NEURON_DATA is not set: the real MNIST was not read\n");
        return;
    }
    ck_assert_msg(dataset_load_mnist(data, split, &dataset, &error) == STATUS_OK, "%s", error.message);
    if (strcmp(dataset.name, "mnist") != 0) {
        printf("NEURON_DATA has %s: the sums of MNIST do not apply\n", dataset.name);
        return;
    }
    ck_assert(shape_equal(dataset.images.shape, shape_of(count, 1, 28, 28)));
    uint64_t sum = 0;
    for (size_t i = 0; i < dataset.images.size; i++)
        sum += ((const uint8_t *)dataset.images.data)[i];
    ck_assert_uint_eq(sum, pixels);
    sum = 0;
    for (size_t i = 0; i < dataset.labels.size; i++)
        sum += ((const uint8_t *)dataset.labels.data)[i];
    ck_assert_uint_eq(sum, labels);
    ck_assert_int_eq(((const uint8_t *)dataset.labels.data)[0], first_label);
}

/* The sums are Python's, with none of this code:
 *   pixels = sum(gzip.open("train-images-idx3-ubyte.gz").read()[16:])
 *   labels = sum(gzip.open("train-labels-idx1-ubyte.gz").read()[8:]) */
START_TEST(real_training_set)
{
    expect_mnist(DATASET_TRAIN, 60000, 1567298545, 267236, 5);
}
END_TEST

START_TEST(real_test_set)
{
    expect_mnist(DATASET_TEST, 10000, 264923200, 44434, 7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data/dataset");
    TCase *tests = tcase_create("dataset");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, loads_from_the_mnist_folder);
    tcase_add_test(tests, loads_gzip_from_the_folder_itself);
    tcase_add_test(tests, a_path_with_fashion_is_fashion_mnist);
    tcase_add_test(tests, nothing_there);
    tcase_add_test(tests, no_such_folder);
    tcase_add_test(tests, one_file_of_two);
    tcase_add_test(tests, counts_differ);
    tcase_add_test(tests, label_too_large);
    tcase_add_test(tests, files_mixed_up);
    tcase_add_test(tests, damaged_labels_free_the_images);
    tcase_add_test(tests, real_training_set);
    tcase_add_test(tests, real_test_set);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
