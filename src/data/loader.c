#include "data/loader.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/rng.h"

/* Each epoch draws from its own 2^36 words of the stream: 16 for each of at most 2^32 images, where Fisher-Yates needs
 * two and, now and then, two more to stay without bias. */
enum { EPOCH_WORDS_LOG2 = 36 };
static const int64_t epoch_limit = INT64_C(1) << (64 - EPOCH_WORDS_LOG2);

struct Loader {
    LoaderOptions options;
    LoaderPosition position;
    int64_t ordered_epoch; /* that `order` holds; -1 at first */
    size_t image_elements; /* channels * rows * cols */
    float value[256];      /* of a byte */
    uint32_t *order;       /* [end - begin]: indices into the data set */
};

static int64_t range_size(const Loader *loader)
{
    return loader->options.end - loader->options.begin;
}

static Status check_options(const LoaderOptions *options, Error *error)
{
    int64_t images = options->dataset->images.shape.dims[0];
    if (options->begin < 0 || options->begin >= options->end || options->end > images)
        return error_set(error, STATUS_OUT_OF_RANGE,
                         "range of images is %" PRId64 ":%" PRId64 ", expected a part of 0:%" PRId64
                         " of %s that is not "
                         "empty",
                         options->begin, options->end, images, options->dataset->name);
    if (options->end > UINT32_MAX)
        return error_set(error, STATUS_OUT_OF_RANGE,
                         "range of images is %" PRId64 ":%" PRId64 ", expected an end of at most %" PRIu32,
                         options->begin, options->end, UINT32_MAX);
    if (options->batch < 1)
        return error_set(error, STATUS_INVALID_ARGUMENT, "batch is %" PRId64 ", expected at least 1", options->batch);
    return STATUS_OK;
}

Status loader_create(const LoaderOptions *options, Loader **out, Error *error)
{
    RETURN_IF_ERROR(check_options(options, error));
    size_t size = (size_t)(options->end - options->begin);
    Loader *loader = calloc(1, sizeof *loader);
    uint32_t *order = malloc(size * sizeof *order);
    if (!loader || !order) {
        free(order);
        free(loader);
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the order of %zu images", size);
    }
    const Shape *shape = &options->dataset->images.shape;
    loader->options = *options;
    loader->ordered_epoch = -1;
    loader->image_elements = (size_t)(shape_count(*shape) / shape->dims[0]);
    loader->order = order;
    for (int i = 0; i < 256; i++)
        loader->value[i] = (float)i / 255.0f;
    *out = loader;
    return STATUS_OK;
}

void loader_destroy(Loader *loader)
{
    if (!loader) return;
    free(loader->order);
    free(loader);
}

static void order_epoch(Loader *loader)
{
    const LoaderOptions *options = &loader->options;
    uint32_t size = (uint32_t)range_size(loader);
    for (uint32_t i = 0; i < size; i++)
        loader->order[i] = (uint32_t)options->begin + i;
    if (options->shuffle == LOADER_SHUFFLE_EPOCH) {
        Rng rng = rng_make(options->seed, options->stream);
        rng.position = (uint64_t)loader->position.epoch << EPOCH_WORDS_LOG2;
        rng_shuffle(&rng, loader->order, size);
    }
    loader->ordered_epoch = loader->position.epoch;
}

void loader_next(Loader *loader, float *images, int32_t *labels, int64_t *count)
{
    const LoaderOptions *options = &loader->options;
    const uint8_t *bytes = options->dataset->images.data, *label = options->dataset->labels.data;
    if (loader->ordered_epoch != loader->position.epoch) order_epoch(loader);
    int64_t left = range_size(loader) - loader->position.offset;
    *count = left < options->batch ? left : options->batch;
    for (int64_t i = 0; i < *count; i++) {
        size_t index = loader->order[loader->position.offset + i];
        const uint8_t *image = bytes + index * loader->image_elements;
        for (size_t j = 0; j < loader->image_elements; j++)
            *images++ = loader->value[image[j]];
        if (labels) labels[i] = options->labelled ? label[index] : -1;
    }
    loader->position.offset += *count;
    if (*count == left) loader->position = (LoaderPosition){loader->position.epoch + 1, 0};
}

int64_t loader_steps_per_epoch(const Loader *loader)
{
    int64_t size = range_size(loader), batch = loader->options.batch;
    return size / batch + (size % batch != 0);
}

LoaderPosition loader_position(const Loader *loader)
{
    return loader->position;
}

Status loader_seek(Loader *loader, LoaderPosition position, Error *error)
{
    if (position.epoch < 0 || position.epoch >= epoch_limit)
        return error_set(error, STATUS_OUT_OF_RANGE, "epoch to go on from is %" PRId64 ", expected 0 to %" PRId64,
                         position.epoch, epoch_limit - 1);
    if (position.offset < 0 || position.offset >= range_size(loader))
        return error_set(error, STATUS_OUT_OF_RANGE,
                         "offset in epoch %" PRId64 " to go on from is %" PRId64 ", expected 0 to %" PRId64,
                         position.epoch, position.offset, range_size(loader) - 1);
    loader->position = position;
    return STATUS_OK;
}
