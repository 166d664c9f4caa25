// The objects of the cuDNN stand-in: handles, and descriptors as sets of attributes, until finalising gives them a
// meaning (cudnn_graph.h, cudnn_engines.h). A descriptor keeps alive what it was linked to.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cudnn
{

struct Problem; // an operation graph, understood
struct Device;
struct Plan;

struct TensorMeaning {
    cudnnDataType_t type;
    std::vector<int64_t> dims, strides;
    int64_t uid, alignment;
    bool is_virtual;
};

struct Object;
using Link = std::shared_ptr<Object>;

struct Value {
    int64_t count = 0;
    std::vector<unsigned char> bytes;
    std::vector<Link> links;
};

struct Object {
    explicit Object(cudnnBackendDescriptorType_t of) : type(of)
    {
    }

    const cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, Value> values;

    // What finalising found out; by type, one of these.
    TensorMeaning tensor{};
    std::shared_ptr<const Problem> problem; // of a graph, heuristics, an engine, a configuration
    std::shared_ptr<const Device> device;   // of device properties, heuristics, an engine, a configuration
    std::vector<int64_t> engines;           // heuristics' answer, best first
    int64_t engine = -1;                    // of an engine, a configuration
    std::shared_ptr<const Plan> plan;

    bool has(int attribute) const
    {
        return values.count(attribute) > 0;
    }
    template <typename T> T get(int attribute, T otherwise) const
    {
        const auto found = values.find(attribute);
        T value = otherwise;
        if (found != values.end() && found->second.bytes.size() >= sizeof value)
            std::memcpy(&value, found->second.bytes.data(), sizeof value);
        return value;
    }
    template <typename T> std::vector<T> all(int attribute) const
    {
        const auto found = values.find(attribute);
        std::vector<T> list;
        if (found == values.end()) return list;
        list.resize(static_cast<size_t>(found->second.count));
        if (!list.empty()) std::memcpy(list.data(), found->second.bytes.data(), list.size() * sizeof(T));
        return list;
    }
    const Object *link(int attribute) const // NULL where there is none
    {
        const auto found = values.find(attribute);
        return found == values.end() || found->second.links.empty() ? nullptr : found->second.links[0].get();
    }
};

struct Handle {
    int device;
    cudaStream_t stream;
};

// The number of an enumerator that a caller gave, which may be none: to read such a one as its type is undefined.
template <typename T> int number_of(const T &given)
{
    int number;
    static_assert(sizeof number == sizeof given, "enumerators are ints");
    std::memcpy(&number, &given, sizeof number);
    return number;
}

// Remembers the sentence for cudnnGetLastErrorString, and returns `status`.
cudnnStatus_t fail(cudnnStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));
std::string last_error(); // and forgets it

// The name of a descriptor type in messages: "tensor".
const char *type_name(cudnnBackendDescriptorType_t type);

// The descriptor behind a pointer; NULL for NULL; a violation for what was destroyed, or never was one.
Link object_of(const char *call, const void *pointer);
// The same for a handle.
Handle *handle_of(const char *call, cudnnHandle_t handle);
size_t live_objects();

// Gives a descriptor its meaning (cudnn_graph.cpp, cudnn_engines.cpp).
cudnnStatus_t finalize_graph_part(Object &object);
cudnnStatus_t finalize_engine_part(Object &object);

} // namespace cudnn
