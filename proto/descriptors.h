/* The files of this folder as protoc describes them, for server reflection; made by embed.cmake. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct Descriptor {
    const char *file;     /* "health.proto" */
    const uint8_t *bytes; /* a google.protobuf.FileDescriptorSet with this one file */
    size_t size;
} Descriptor;

extern const Descriptor descriptors[];
extern const size_t descriptor_count;
