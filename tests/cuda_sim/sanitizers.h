// What AddressSanitizer and ThreadSanitizer have to be told: fibres that are switched, and memory that nobody may
// touch. Nothing where the build has neither.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
inline void fibre_leaves(void **fake_stack, const void *to, size_t size, void *)
{
    __sanitizer_start_switch_fiber(fake_stack, to, size);
}
inline void fibre_arrived(void *fake_stack, const void **from, size_t *size)
{
    __sanitizer_finish_switch_fiber(fake_stack, from, size);
}
inline void poison(const void *begin, size_t size)
{
    __asan_poison_memory_region(begin, size);
}
inline void unpoison(const void *begin, size_t size)
{
    __asan_unpoison_memory_region(begin, size);
}
#else
#if defined(__SANITIZE_THREAD__)
extern "C" void *__tsan_create_fiber(unsigned flags);
extern "C" void *__tsan_get_current_fiber(void);
extern "C" void __tsan_switch_to_fiber(void *fiber, unsigned flags);
inline void fibre_leaves(void **, const void *, size_t, void *tsan)
{
    __tsan_switch_to_fiber(tsan, 0);
}
#else
inline void fibre_leaves(void **, const void *, size_t, void *)
{
}
#endif
inline void fibre_arrived(void *, const void **from, size_t *size)
{
    *from = nullptr;
    *size = 0;
}
inline void poison(const void *, size_t)
{
}
inline void unpoison(const void *, size_t)
{
}
#endif

// ThreadSanitizer's own handle for a fibre, and for the thread that runs now.
#if defined(__SANITIZE_THREAD__)
inline void *fibre_create()
{
    return __tsan_create_fiber(0);
}
inline void *fibre_current()
{
    return __tsan_get_current_fiber();
}
#else
inline void *fibre_create()
{
    return nullptr;
}
inline void *fibre_current()
{
    return nullptr;
}
#endif
