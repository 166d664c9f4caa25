#include "fuzz/messages.h"

#include <math.h>
#include <string.h>

#include "wire/cursor.h"

uint8_t *fuzz_payload(const WireTensor *tensor)
{
    Cursor cursor = tensor->buffer;
    size_t size = cursor.left;
    uint8_t *bytes = fuzz_room(size);
    REQUIRE(cursor_read(&cursor, bytes, size) && !cursor_read(&cursor, NULL, 1));
    return bytes;
}

void fuzz_require_finite(void *values, Shape shape)
{
    Tensor tensor = tensor_view(DTYPE_F32, shape, values);
    size_t count = tensor.size / sizeof(float);
    bool finite = true;
    for (size_t i = 0; i < count; i++)
        finite = finite && isfinite(tensor_f32(&tensor)[i]);
    Error error;
    REQUIRE(floats_finite(tensor_f32(&tensor), count) == finite);
    REQUIRE(tensor_check_finite(&tensor, "tensor", &error) == (finite ? STATUS_OK : STATUS_INVALID_ARGUMENT));
}

/* --- seeds --- */

static void seed(FuzzSeeds *seeds, const char *synapse_key, const MessageTensor *tensors, size_t count)
{
    static const uint8_t choices[] = {30, 20, 10, 3};
    EncodedMessage encoded;
    uint8_t bytes[4096];
    size_t size = 0;
    REQUIRE(message_encode("neuron", synapse_key, tensors, count, sizeof bytes - sizeof choices, &encoded, NULL) ==
            STATUS_OK);
    for (size_t i = 0; i < encoded.count; i++) {
        memcpy(bytes + size, encoded.parts[i].data, encoded.parts[i].size);
        size += encoded.parts[i].size;
    }
    memcpy(bytes + size, choices, sizeof choices);
    fuzz_seed(seeds, bytes, size + sizeof choices);
}

void fuzz_seed_messages(FuzzSeeds *seeds)
{
    float f32[16] = {0.5f, -1, 1e-40f, 3e38f};
    double f64[6] = {1e300, -0.25, 2};
    int32_t i32[4] = {-1, 2, 3, 1 << 30};
    int64_t i64[4] = {-1, INT64_MIN, 3, 30000};
    float unfit[3] = {1, NAN, INFINITY};
    Tensor image = tensor_view(DTYPE_F32, shape_of(1, 1, 1, 4, 4), f32),
           feature = tensor_view(DTYPE_F64, shape_of(1, 2, 3), f64);
    Tensor text = tensor_view(DTYPE_I64, shape_of(2, 2), i64), short_text = tensor_view(DTYPE_I32, shape_of(1, 4), i32);
    Tensor answer = tensor_view(DTYPE_F32, shape_of(2, 2, 4), f32),
           bad = tensor_view(DTYPE_F32, shape_of(1, 1, 3), unfit);
    Tensor zero = tensor_view(DTYPE_F32, shape_of(1, 1), f32), scalar = tensor_view(DTYPE_F64, shape_scalar(), f64);
    Tensor empty = tensor_view(DTYPE_I64, shape_of(0, 3), NULL);
    MessageTensor tensors[] = {{&image, MODALITY_IMAGE}, {&answer, MODALITY_TENSOR},   {&feature, MODALITY_TENSOR},
                               {&text, MODALITY_TEXT},   {&short_text, MODALITY_TEXT}, {&bad, MODALITY_TENSOR},
                               {&zero, MODALITY_TENSOR}, {&scalar, MODALITY_TENSOR},   {&empty, MODALITY_TENSOR}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        seed(seeds, i % 2 ? "" : "synapse", &tensors[i], 1);
    for (size_t i = 0; i + 2 <= sizeof tensors / sizeof *tensors; i += 2)
        seed(seeds, "", &tensors[i], 2);
    seed(seeds, "", NULL, 0);
}
