// Descriptors from making to destroying: cuDNN's backend API but for what finalising and running mean.
#include "cudnn_objects.h"

#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "cudnn_attributes.h"
#include "machine.h"

namespace cudnn
{

namespace
{

constexpr int LAST_TYPE = 255; // more than cuDNN has

thread_local std::string last;

std::mutex lock; // guards all below
uintptr_t named;
std::map<const void *, Link> objects;
std::map<const void *, std::unique_ptr<Handle>> handles;

// What callers hold in the place of a pointer. None is given twice, so that what was destroyed stays destroyed; it
// points to nothing. Wants the lock.
void *new_name()
{
    return reinterpret_cast<void *>(0xd00000000000u + 16 * ++named);
}

// What a call that was made to fail answers.
cudnnStatus_t made_to_fail(const char *call)
{
    return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "%s was made to fail", call);
}

cudnnStatus_t set_links(const Attribute &attribute, Value &value, const void *values)
{
    static const char call[] = "cudnnBackendSetAttribute";
    const void *const *pointers = static_cast<const void *const *>(values);
    for (int64_t i = 0; i < value.count; i++) {
        Link link = object_of(call, pointers[i]);
        if (!link) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s is NULL", attribute.name);
        if (attribute.wants >= 0 && link->type != attribute.wants) {
            if (attribute.refuses_others)
                return fail(CUDNN_STATUS_BAD_PARAM, "%s is a %s", attribute.name, type_name(link->type));
            machine::violation(call, "%s is linked to a descriptor of type %s, expected %s", attribute.name,
                               type_name(link->type),
                               type_name(static_cast<cudnnBackendDescriptorType_t>(attribute.wants)));
        }
        if (!link->finalized) return fail(attribute.unfinished, "%s isn't finalized", attribute.name);
        value.links.push_back(link);
    }
    return CUDNN_STATUS_SUCCESS;
}

// The checks that setting and getting share. NULL and *status: refused.
const Attribute *find_attribute(const char *call, const Object &object, int number, cudnnBackendAttributeType_t type,
                                cudnnStatus_t *status)
{
    const Attribute *attribute = attribute_of(object.type, number);
    if (!attribute) {
        *status = fail(CUDNN_STATUS_BAD_PARAM, "%s: a %s has no attribute %d", call, type_name(object.type), number);
        return nullptr;
    }
    if (attribute->type != type) {
        *status = fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "%s: %s is of type %d, not %d", call, attribute->name,
                       attribute->type, type);
        return nullptr;
    }
    return attribute;
}

cudnnStatus_t set_attribute(Object &object, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            int64_t count, const void *values)
{
    static const char call[] = "cudnnBackendSetAttribute";
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (object.finalized) return fail(CUDNN_STATUS_BAD_PARAM, "%s is finalized", type_name(object.type));
    const Attribute *attribute = find_attribute(call, object, name, type, &status);
    if (!attribute) return status;
    if (!attribute->settable) return fail(CUDNN_STATUS_BAD_PARAM, "%s can't be set", attribute->name);
    if (!values && count > 0) return fail(CUDNN_STATUS_BAD_PARAM, "%s from NULL", attribute->name);
    if (attribute->most == 1 && count != 1) return fail(CUDNN_STATUS_BAD_PARAM, "1 != elemCount");
    if (count < 0 || count > attribute->most)
        machine::violation(call, "%s has %lld values, expected at most %lld", attribute->name,
                           static_cast<long long>(count), static_cast<long long>(attribute->most));
    Value value;
    value.count = count;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        status = set_links(*attribute, value, values);
    } else if (count > 0) {
        const unsigned char *bytes = static_cast<const unsigned char *>(values);
        value.bytes.assign(bytes, bytes + static_cast<size_t>(count) * size_of(type));
    }
    if (status == CUDNN_STATUS_SUCCESS) object.values[name] = value;
    return status;
}

} // namespace

cudnnStatus_t fail(cudnnStatus_t status, const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    last = sentence;
    return status;
}

std::string last_error()
{
    std::string sentence;
    sentence.swap(last);
    return sentence;
}

const char *type_name(cudnnBackendDescriptorType_t type)
{
    switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return "tensor";
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return "convolution";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return "convolution forward operation";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return "convolution backward data operation";
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return "convolution backward filter operation";
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
        return "pointwise";
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return "pointwise operation";
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return "operation graph";
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return "engine heuristics";
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        return "engine";
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
        return "engine configuration";
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return "execution plan";
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return "variant pack";
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
        return "device properties";
    default:
        return "descriptor of another type";
    }
}

Link object_of(const char *call, const void *pointer)
{
    if (!pointer) return nullptr;
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = objects.find(pointer);
    if (found == objects.end()) machine::violation(call, "%p is no descriptor, or one that was destroyed", pointer);
    return found->second;
}

Handle *handle_of(const char *call, cudnnHandle_t handle)
{
    if (!handle) return nullptr;
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = handles.find(handle);
    if (found == handles.end())
        machine::violation(call, "%p is no handle, or one that was destroyed", static_cast<void *>(handle));
    return found->second.get();
}

size_t live_objects()
{
    const std::lock_guard<std::mutex> guard(lock);
    return objects.size() + handles.size();
}

} // namespace cudnn

using namespace cudnn;

extern "C" {

// Descriptors and handles that are alive, for tests.
size_t cudnn_sim_live_objects(void)
{
    return live_objects();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    if (machine::fails("cudnnCreate")) return fail(CUDNN_STATUS_NOT_INITIALIZED, "cudnnCreate was made to fail");
    if (!handle) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "handle is NULL");
    if (machine::capturing()) machine::violation("cudnnCreate", "allocates memory, while a stream is being captured");
    const std::lock_guard<std::mutex> guard(lock);
    void *const name = new_name();
    handles[name].reset(new Handle{machine::current_device(), nullptr});
    *handle = static_cast<cudnnHandle_t>(name);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    if (!handle_of("cudnnDestroy", handle)) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "handle is NULL");
    if (machine::capturing()) machine::violation("cudnnDestroy", "frees memory, while a stream is being captured");
    const std::lock_guard<std::mutex> guard(lock);
    handles.erase(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    Handle *of = handle_of("cudnnSetStream", handle);
    if (machine::fails("cudnnSetStream")) return made_to_fail("cudnnSetStream");
    if (!of) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "handle is NULL");
    if (stream && machine::device_of_stream(stream) != of->device)
        return fail(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "the stream is of device %d, the handle of device %d",
                    machine::device_of_stream(stream), of->device);
    of->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    Handle *of = handle_of("cudnnGetStream", handle);
    if (!of || !stream) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "handle or stream is NULL");
    *stream = of->stream;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

void cudnnGetLastErrorString(char *message, size_t max_size)
{
    if (message && max_size > 0) std::snprintf(message, max_size, "%s", last_error().c_str());
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor)
{
    static const char call[] = "cudnnBackendCreateDescriptor";
    if (machine::fails(call)) return made_to_fail(call);
    if (!descriptor) machine::violation(call, "writes the descriptor to NULL");
    const int number = number_of(type);
    if (number < 0 || number > LAST_TYPE)
        return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "no descriptor has type %d", number);
    if (!is_simulated(type)) machine::violation(call, "descriptors of type %d aren't simulated", number);
    const std::lock_guard<std::mutex> guard(lock);
    *descriptor = new_name();
    objects[*descriptor] = std::make_shared<Object>(type);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    if (!object_of("cudnnBackendDestroyDescriptor", descriptor))
        return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nullptr == descriptor");
    const std::lock_guard<std::mutex> guard(lock);
    objects.erase(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    static const char call[] = "cudnnBackendSetAttribute";
    const Link object = object_of(call, descriptor);
    if (machine::fails(call)) return made_to_fail(call);
    if (!object) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nullptr == descriptor");
    return set_attribute(*object, name, type, count, values);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    static const char call[] = "cudnnBackendFinalize";
    const Link object = object_of(call, descriptor);
    if (machine::fails(call)) return made_to_fail(call);
    if (!object) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nullptr == descriptor");
    if (object->finalized) return fail(CUDNN_STATUS_BAD_PARAM, "%s is finalized already", type_name(object->type));
    switch (object->type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR: {
        const cudnnStatus_t status = finalize_engine_part(*object);
        object->finalized = status == CUDNN_STATUS_SUCCESS;
        return status;
    }
    default: {
        const cudnnStatus_t status = finalize_graph_part(*object);
        object->finalized = status == CUDNN_STATUS_SUCCESS;
        return status;
    }
    }
}

} // extern "C"
