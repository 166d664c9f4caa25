#include "fuzz/buffers.h"

#include <grpc/slice.h>
#include <string.h>

void fuzz_buffer(const FuzzPieces *pieces, FuzzBuffer *out)
{
    size_t length = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        out->slices[i] = grpc_slice_from_static_buffer(pieces->segments[i].data, pieces->segments[i].size);
        length += pieces->segments[i].size;
    }
    out->buffer = (grpc_byte_buffer){.type = GRPC_BB_RAW};
    grpc_slice_buffer *list = &out->buffer.data.raw.slice_buffer;
    list->base_slices = list->slices = out->slices;
    list->count = pieces->count;
    list->capacity = FUZZ_PIECES;
    list->length = length;
}

void fuzz_done_call(FuzzInput *input, FuzzPieces *pieces, FuzzBuffer *buffer, UnaryCall *out)
{
    uint8_t choice = fuzz_choice(input);
    fuzz_cut(input, pieces);
    fuzz_buffer(pieces, buffer);
    *out = (UnaryCall){.code = GRPC_STATUS_OK, .details = grpc_empty_slice()};
    if (choice % 8 == 7) {
        out->code = (grpc_status_code)(choice / 8);
        out->details = grpc_slice_from_static_buffer(fuzz_copy(input->bytes, input->size), input->size);
    } else if (choice % 8 != 6) {
        out->response = &buffer->buffer;
    }
}

void fuzz_require_sentence(const Error *error)
{
    size_t length = strnlen(error->message, sizeof error->message);
    REQUIRE(error->status != STATUS_OK && length > 0 && length < sizeof error->message);
    for (size_t i = 0; i < length; i++)
        REQUIRE((uint8_t)error->message[i] >= 0x20 && error->message[i] != 0x7f);
    REQUIRE(!strstr(error->message, "\xc2\x9b")); /* a C1 control that terminals obey */
}
