// Which attributes a descriptor of each type has.
#pragma once

#include "cudnn_objects.h"

namespace cudnn
{

struct Attribute {
    cudnnBackendDescriptorType_t owner;
    int attribute;
    const char *name;
    cudnnBackendAttributeType_t type;
    int64_t most;                                                    // values; 1: exactly one
    bool settable;                                                   // else it is only read
    int wants = -1;                                                  // of descriptors: their type; -1: any
    bool refuses_others = false;                                     // whether the real library does, or crashes
    cudnnStatus_t unfinished = CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED; // what an unfinished one is answered with
};

// NULL: a descriptor of that type has no such attribute.
const Attribute *attribute_of(cudnnBackendDescriptorType_t owner, int attribute);
bool is_simulated(cudnnBackendDescriptorType_t type);
size_t size_of(cudnnBackendAttributeType_t type); // bytes of a value; 0: a type that isn't simulated

} // namespace cudnn
