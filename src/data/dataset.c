#include "data/dataset.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "data/idx.h"

enum { MNIST_CLASSES = 10 };

typedef struct MnistFiles {
    const char *images, *labels;
} MnistFiles;

static MnistFiles mnist_files(DatasetSplit split)
{
    if (split == DATASET_TRAIN) return (MnistFiles){"train-images-idx3-ubyte", "train-labels-idx1-ubyte"};
    return (MnistFiles){"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
}

/* Writes the path of `name` in `folder`, plain or with ".gz"; leaves it empty when there is neither. */
static Status find_file(const char *folder, const char *name, char path[DATASET_FOLDER_SIZE], Error *error)
{
    static const char *const endings[] = {"", ".gz"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char whole[64];
        snprintf(whole, sizeof whole, "%s%s", name, endings[i]);
        RETURN_IF_ERROR(file_join(path, DATASET_FOLDER_SIZE, folder, whole, error));
        if (file_exists(path)) return STATUS_OK;
    }
    path[0] = '\0';
    return STATUS_OK;
}

static Status file_missing(const char *folder, const char *name, Error *error)
{
    return error_set(error, STATUS_NOT_FOUND,
                     "'%s' has no %s, plain or with .gz (scripts/get-data.sh fetches MNIST's four files)", folder,
                     name);
}

/* False when the folder has neither of the two files. One without the other is an error. */
static Status load_files(const char *folder, MnistFiles files, Dataset *out, bool *found, Error *error)
{
    char images[DATASET_FOLDER_SIZE], labels[DATASET_FOLDER_SIZE];
    RETURN_IF_ERROR(find_file(folder, files.images, images, error));
    RETURN_IF_ERROR(find_file(folder, files.labels, labels, error));
    *found = images[0] != '\0' || labels[0] != '\0';
    if (!*found) return STATUS_OK;
    if (images[0] == '\0') return file_missing(folder, files.images, error);
    if (labels[0] == '\0') return file_missing(folder, files.labels, error);
    RETURN_IF_ERROR(idx_read(images, &out->images, error));
    return idx_read(labels, &out->labels, error);
}

static Status check_mnist(const Dataset *dataset, MnistFiles files, Error *error)
{
    const Shape *images = &dataset->images.shape, *labels = &dataset->labels.shape;
    char text[SHAPE_TEXT_SIZE];
    if (images->rank != 3)
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of %s in '%s' is %s, expected [images, rows, cols]",
                         files.images, dataset->folder, shape_text(*images, text));
    if (labels->rank != 1)
        return error_set(error, STATUS_INVALID_ARGUMENT, "shape of %s in '%s' is %s, expected [images]", files.labels,
                         dataset->folder, shape_text(*labels, text));
    if (images->dims[0] != labels->dims[0])
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "%s in '%s' has %" PRId64 " labels, expected one for each of the %" PRId64 " images",
                         files.labels, dataset->folder, labels->dims[0], images->dims[0]);
    const uint8_t *label = dataset->labels.data;
    for (int64_t i = 0; i < labels->dims[0]; i++)
        if (label[i] >= MNIST_CLASSES)
            return error_set(error, STATUS_INVALID_ARGUMENT, "label %" PRId64 " of %s in '%s' is %d, expected 0 to %d",
                             i, files.labels, dataset->folder, label[i], MNIST_CLASSES - 1);
    return STATUS_OK;
}

/* Loads from <data_folder>/mnist or data_folder, whichever has files; out->folder says which. */
static Status load_from_either(const char *data_folder, MnistFiles files, Dataset *out, Error *error)
{
    bool found;
    RETURN_IF_ERROR(file_join(out->folder, sizeof out->folder, data_folder, "mnist", error));
    RETURN_IF_ERROR(load_files(out->folder, files, out, &found, error));
    if (found) return STATUS_OK;
    /* Shorter than the path that has just fitted. */
    snprintf(out->folder, sizeof out->folder, "%s", data_folder);
    RETURN_IF_ERROR(load_files(out->folder, files, out, &found, error));
    if (found) return STATUS_OK;
    return error_set(error, STATUS_NOT_FOUND,
                     "found no MNIST in '%s/mnist' or '%s': looked for %s and %s, plain or with .gz "
                     "(scripts/get-data.sh fetches them)",
                     data_folder, data_folder, files.images, files.labels);
}

Status dataset_load_mnist(const char *data_folder, DatasetSplit split, Dataset *out, Error *error)
{
    MnistFiles files = mnist_files(split);
    Status status;
    *out = (Dataset){.classes = MNIST_CLASSES};
    GOTO_IF_ERROR(load_from_either(data_folder, files, out, error), fail);
    GOTO_IF_ERROR(check_mnist(out, files, error), fail);
    out->name = strcasestr(out->folder, "fashion") ? "fashion-mnist" : "mnist";
    const int64_t *dims = out->images.shape.dims;
    out->images.shape = shape_of(dims[0], 1, dims[1], dims[2]);
    return STATUS_OK;
fail:
    dataset_destroy(out);
    return status;
}

void dataset_destroy(Dataset *dataset)
{
    if (!dataset) return;
    tensor_destroy(&dataset->labels);
    tensor_destroy(&dataset->images);
    *dataset = (Dataset){0};
}
