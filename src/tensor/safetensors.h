/* The safetensors format (huggingface/safetensors): u64 header length, JSON header {name: {dtype, shape,
 * data_offsets}}, data.
 *
 * A file is hostile until checked: header at most 100 MiB and inside the file, valid JSON object without duplicate
 * names, every dtype known, every shape's byte count equal to its offsets' difference without overflow, no overlap, no
 * hole, nothing after the last tensor. Tensors look into the mapping (no copy; an unaligned tensor is copied on load),
 * so they live as long as the Safetensors. */
#pragma once

#include <stddef.h>

#include "tensor/tensor.h"

typedef struct Safetensors Safetensors;

Status safetensors_open(const char *path, Safetensors **out, Error *error);
/* Over bytes in memory (tests and fuzzing); `name` stands in errors. The bytes must outlive the result. */
Status safetensors_parse(const void *bytes, size_t size, const char *name, Safetensors **out, Error *error);
void safetensors_close(Safetensors *file);

size_t safetensors_count(const Safetensors *file);
const char *safetensors_name(const Safetensors *file, size_t index); /* in file order */
const Tensor *safetensors_at(const Safetensors *file, size_t index);
const Tensor *safetensors_find(const Safetensors *file, const char *name);  /* NULL when absent */
const char *safetensors_metadata(const Safetensors *file, const char *key); /* "__metadata__" value; NULL when absent */

typedef struct NamedTensor {
    const char *name;
    Tensor tensor;
} NamedTensor;

typedef struct NamedText {
    const char *key, *value;
} NamedText;

/* Writes by file_replace (base/file.h): the old file or the new one, never a mixture. Data begins at a multiple of 64
 * bytes. */
Status safetensors_write(const char *path, const NamedTensor *tensors, size_t count, const NamedText *metadata,
                         size_t metadata_count, Error *error);
