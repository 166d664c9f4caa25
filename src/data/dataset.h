/* A data set in memory: images as the bytes of the file, and their labels.
 *
 * The data folder (DESIGN.md section 7) has mnist/ with the four IDX files, each plain or gzip'ed. Fashion-MNIST
 * (Xiao et al., 2017; Debian's package dataset-fashion-mnist puts it in /usr/share/datasets/fashion-mnist) has the same
 * format and the same names, and can stand in its place. Immutable once loaded: any thread may read it. */
#pragma once

#include "tensor/tensor.h"

enum { DATASET_FOLDER_SIZE = 4096 };

typedef enum DatasetSplit { DATASET_TRAIN, DATASET_TEST } DatasetSplit;

typedef struct Dataset {
    Tensor images; /* u8 [N, channels, rows, cols] */
    Tensor labels; /* u8 [N], each below classes */
    int classes;
    const char *name;                 /* static: "mnist" or "fashion-mnist" */
    char folder[DATASET_FOLDER_SIZE]; /* that the files were found in */
} Dataset;

/* Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz] from <data_folder>/mnist, or from data_folder itself. The
 * contents of the two sets can't be told apart, so the name goes by the folder's: a path that contains "fashion" is
 * Fashion-MNIST. Errors: NOT_FOUND says which files were looked for and how to get them; INVALID_ARGUMENT when images
 * and labels don't belong together or a label is not 0 to 9; those of idx_read. On failure *out is zeroed. */
Status dataset_load_mnist(const char *data_folder, DatasetSplit split, Dataset *out, Error *error);

void dataset_destroy(Dataset *dataset); /* NULL and zeroed are fine; leaves it zeroed */
