/* MNIST's folder: where the files are found, what must agree between them, and the real thing. */
#include "data/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/files.h"
#include "support/folder.h"
#include "support/suite.h"

static Folder folder;
static Dataset dataset;
static Error error;

static void set_up(void)
{
    folder = folder_make();
}

static void tear_down(void)
{
    dataset_destroy(&dataset);
    folder_remove(&folder);
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
    folder_write(&folder, images_name, images.data, images.size);
    folder_write(&folder, labels_name, labels.data, labels.size);
}

/* Makes <folder>/<name> and gives its path. */
static void make_folder(const char *name, char path[FOLDER_PATH_SIZE])
{
    ck_assert_int_eq(file_make_directories(folder_path(&folder, name, path), &error), STATUS_OK);
}

static void expect_refused(Status status, const char *words)
{
    ck_assert_int_eq(dataset_load_mnist(folder.path, DATASET_TRAIN, &dataset, &error), status);
    ck_assert_msg(strstr(error.message, words), "'%s' does not say '%s'", error.message, words);
    ck_assert_ptr_null(dataset.images.data);
    ck_assert_ptr_null(dataset.labels.data);
}

START_TEST(loads_from_the_mnist_folder)
{
    set_up();
    char path[FOLDER_PATH_SIZE];
    make_folder("mnist", path);
    write_pair("mnist/train-images-idx3-ubyte", images_of(12), "mnist/train-labels-idx1-ubyte", labels_of(12, 10));
    ck_assert_int_eq(dataset_load_mnist(folder.path, DATASET_TRAIN, &dataset, &error), STATUS_OK);
    ck_assert(shape_equal(dataset.images.shape, shape_of(12, 1, 2, 3)));
    ck_assert(shape_equal(dataset.labels.shape, shape_of(12)));
    ck_assert_int_eq(dataset.classes, 10);
    ck_assert_str_eq(dataset.name, "mnist");
    ck_assert_str_eq(dataset.folder, path);
    ck_assert_int_eq(((const uint8_t *)dataset.images.data)[71], 71);
    ck_assert_int_eq(((const uint8_t *)dataset.labels.data)[11], 1);
    tear_down();
}
END_TEST

START_TEST(loads_gzip_from_the_folder_itself)
{
    set_up();
    Bytes images = images_of(3), labels = labels_of(3, 10);
    write_pair("t10k-images-idx3-ubyte.gz", files_gzip(&images), "t10k-labels-idx1-ubyte.gz", files_gzip(&labels));
    ck_assert_int_eq(dataset_load_mnist(folder.path, DATASET_TEST, &dataset, &error), STATUS_OK);
    ck_assert(shape_equal(dataset.images.shape, shape_of(3, 1, 2, 3)));
    ck_assert_str_eq(dataset.folder, folder.path);
    tear_down();
}
END_TEST

START_TEST(a_path_with_fashion_is_fashion_mnist)
{
    set_up();
    char path[FOLDER_PATH_SIZE];
    make_folder("Fashion-images", path);
    write_pair("Fashion-images/train-images-idx3-ubyte", images_of(1), "Fashion-images/train-labels-idx1-ubyte",
               labels_of(1, 10));
    ck_assert_int_eq(dataset_load_mnist(path, DATASET_TRAIN, &dataset, &error), STATUS_OK);
    ck_assert_str_eq(dataset.name, "fashion-mnist");
    tear_down();
}
END_TEST

START_TEST(nothing_there)
{
    set_up();
    expect_refused(STATUS_NOT_FOUND, "train-images-idx3-ubyte and train-labels-idx1-ubyte");
    ck_assert_ptr_nonnull(strstr(error.message, folder.path));
    ck_assert_ptr_nonnull(strstr(error.message, "scripts/get-data.sh"));
    tear_down();
}
END_TEST

START_TEST(no_such_folder)
{
    set_up();
    ck_assert_int_eq(dataset_load_mnist("/no/such/folder", DATASET_TEST, &dataset, &error), STATUS_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "/no/such/folder"));
    ck_assert_ptr_nonnull(strstr(error.message, "t10k-images-idx3-ubyte"));
    tear_down();
}
END_TEST

START_TEST(one_file_of_two)
{
    set_up();
    Bytes images = images_of(2);
    char path[FOLDER_PATH_SIZE];
    make_folder("mnist", path);
    folder_write(&folder, "mnist/train-images-idx3-ubyte", images.data, images.size);
    expect_refused(STATUS_NOT_FOUND, "has no train-labels-idx1-ubyte");
    tear_down();
}
END_TEST

START_TEST(counts_differ)
{
    set_up();
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", labels_of(5, 10));
    expect_refused(STATUS_INVALID_ARGUMENT, "has 5 labels, expected one for each of the 4 images");
    tear_down();
}
END_TEST

START_TEST(label_too_large)
{
    set_up();
    write_pair("train-images-idx3-ubyte", images_of(11), "train-labels-idx1-ubyte", labels_of(11, 11));
    expect_refused(STATUS_INVALID_ARGUMENT, "label 10 of");
    ck_assert_ptr_nonnull(strstr(error.message, "is 10, expected 0 to 9"));
    tear_down();
}
END_TEST

START_TEST(files_mixed_up)
{
    set_up();
    write_pair("train-images-idx3-ubyte", labels_of(4, 10), "train-labels-idx1-ubyte", images_of(4));
    expect_refused(STATUS_INVALID_ARGUMENT, "is [4], expected [images, rows, cols]");
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", images_of(4));
    expect_refused(STATUS_INVALID_ARGUMENT, "is [4, 2, 3], expected [images]");
    tear_down();
}
END_TEST

START_TEST(damaged_labels_free_the_images)
{
    set_up();
    Bytes labels = labels_of(4, 10);
    labels.size--;
    write_pair("train-images-idx3-ubyte", images_of(4), "train-labels-idx1-ubyte", labels);
    expect_refused(STATUS_DATA_LOSS, "train-labels-idx1-ubyte' is cut short");
    tear_down();
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
    set_up();
    expect_mnist(DATASET_TRAIN, 60000, 1567298545, 267236, 5);
    tear_down();
}
END_TEST

START_TEST(real_test_set)
{
    set_up();
    expect_mnist(DATASET_TEST, 10000, 264923200, 44434, 7);
    tear_down();
}
END_TEST

SUITE_MAIN("dataset", loads_from_the_mnist_folder, loads_gzip_from_the_folder_itself,
           a_path_with_fashion_is_fashion_mnist, nothing_there, no_such_folder, one_file_of_two, counts_differ,
           label_too_large, files_mixed_up, damaged_labels_free_the_images, real_training_set, real_test_set)
