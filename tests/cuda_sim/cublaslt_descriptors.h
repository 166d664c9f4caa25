// The objects of the cuBLASLt stand-in: handles, and descriptors as sets of attributes. The real library stores any
// value that has the right size; here a value that no product can have is a violation as soon as it is set.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "machine.h"

struct cublasLtContext {
    int device;
};

namespace cublaslt
{

// Which objects of a kind are alive. Their addresses are kept inverted, so that LeakSanitizer reports what the program
// has lost.
template <typename T> class Living
{
  public:
    explicit Living(const char *kind) : kind_(kind)
    {
    }

    T *add(T *object)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        objects_.insert(key(object));
        return object;
    }

    // False for NULL; what was destroyed, or never was one, is a violation.
    bool has(const char *call, const void *object)
    {
        if (!object) return false;
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!objects_.count(key(object)))
            machine::violation(call, "%p is no %s, or one that was destroyed", object, kind_);
        return true;
    }

    void remove(const void *object)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        objects_.erase(key(object));
    }

  private:
    static uintptr_t key(const void *object)
    {
        return ~reinterpret_cast<uintptr_t>(object);
    }

    const char *kind_;
    std::mutex mutex_; // guards objects_
    std::set<uintptr_t> objects_;
};

extern Living<cublasLtContext> handles;

// What a cublasLtMatmulDesc_t, cublasLtMatrixLayout_t or cublasLtMatmulPreference_t points to.
struct Descriptor {
    std::map<int, uint64_t> values; // by attribute; those that were set

    template <typename T> T get(int attribute, T otherwise) const
    {
        const auto found = values.find(attribute);
        if (found == values.end()) return otherwise;
        T value;
        memcpy(&value, &found->second, sizeof value);
        return value;
    }

    template <typename T> void set(int attribute, T value)
    {
        uint64_t bits = 0;
        memcpy(&bits, &value, sizeof value);
        values[attribute] = bits;
    }
};

// NULL for NULL; violations as Living::has.
const Descriptor *operation_of(const char *call, cublasLtMatmulDesc_t descriptor);
const Descriptor *layout_of(const char *call, cublasLtMatrixLayout_t descriptor);
const Descriptor *preference_of(const char *call, cublasLtMatmulPreference_t descriptor);

} // namespace cublaslt
