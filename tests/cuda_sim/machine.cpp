// The machine's lock, its devices, the errors that calls give, and the rules' messages.
#include "machine.h"

#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "machine_internal.h"

namespace machine
{

// --- the lock ---

static std::recursive_mutex &mutex()
{
    static std::recursive_mutex *one = new std::recursive_mutex; // lives until the process ends, whoever is last
    return *one;
}
static std::condition_variable_any &others()
{
    static std::condition_variable_any *one = new std::condition_variable_any;
    return *one;
}
static thread_local int depth;

Lock::Lock()
{
    mutex().lock();
    depth++;
}

Lock::~Lock()
{
    depth--;
    mutex().unlock();
}

Unlocked::Unlocked() : depth_(depth)
{
    depth = 0;
    for (int i = 0; i < depth_; i++)
        mutex().unlock();
}

Unlocked::~Unlocked()
{
    for (int i = 0; i < depth_; i++)
        mutex().lock();
    depth = depth_;
}

void wait_for_others()
{
    // condition_variable_any gives the lock up once: what is above that goes here.
    const int had = depth;
    for (int i = 1; i < had; i++)
        mutex().unlock();
    depth = 1;
    others().wait(mutex());
    for (int i = 1; i < had; i++)
        mutex().lock();
    depth = had;
}

void wake_others()
{
    others().notify_all();
}

// --- messages ---

void violation(const char *call, const char *format, ...)
{
    char sentence[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "sim: %s: %s\n", call, sentence);
    fflush(stderr);
    abort();
}

void check_aligned(const char *call, const char *what, const void *pointer, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0)
        violation(call, "%s is at %p, expected a multiple of %zu", what, pointer, bytes);
}

// --- calls that fail on purpose ---

// The n of "NAME:n" for this name, or of a plain "n" for all (`call` null); 0: not asked for.
static unsigned long wanted_failure(const char *setting, const char *call)
{
    for (const char *at = setting; *at;) {
        const size_t length = strcspn(at, ",");
        const std::string entry(at, length);
        const size_t colon = entry.rfind(':');
        const bool named = colon != std::string::npos;
        const std::string number = named ? entry.substr(colon + 1) : entry;
        char *end;
        const unsigned long n = strtoul(number.c_str(), &end, 10);
        if (number.empty() || *end || n == 0)
            violation("SIM_FAIL", "'%s' is neither a number nor NAME:number, counted from 1", entry.c_str());
        if (call ? named && entry.compare(0, colon, call) == 0 : !named) return n;
        at += length;
        if (*at == ',') at++;
    }
    return 0;
}

static unsigned long all; // calls that could have failed

bool fails(const char *call)
{
    static std::string counted_for; // the setting that the counters began with
    static std::map<std::string, unsigned long> by_name;
    const char *setting = getenv("SIM_FAIL");
    if (!setting) return false;
    Lock lock;
    if (counted_for != setting) {
        counted_for = setting;
        by_name.clear();
        all = 0;
    }
    // "kernel" is no call but what becomes of one, so it isn't among all calls.
    const bool is_call = strcmp(call, "kernel") != 0;
    return ++by_name[call] == wanted_failure(setting, call) || (is_call && ++all == wanted_failure(setting, nullptr));
}

static void report_end()
{
    const int left = report_leaks();
    fprintf(stderr, "sim: in the end: %lu calls, %d things left\n", all, left);
}

static bool reports_end()
{
    const char *setting = getenv("SIM_END");
    return setting && strcmp(setting, "1") == 0 && atexit(report_end) == 0;
}

static thread_local cudaError_t last;
static thread_local bool in_host_function;

cudaError_t begin_call(const char *call)
{
    static const bool reported = reports_end();
    (void)reported;
    if (in_host_function) return cudaErrorNotPermitted;
    const cudaError_t failed = device_error(current_device());
    if (failed != cudaSuccess) return failed;
    if (!fails(call)) return cudaSuccess;
    if (strstr(call, "Malloc") || strstr(call, "HostAlloc") || strstr(call, "Create") || strstr(call, "Instantiate"))
        return cudaErrorMemoryAllocation;
    if (strstr(call, "Synchronize") || strstr(call, "Query")) { // what they report is what became of earlier work
        fail_device(current_device(), cudaErrorLaunchFailure);
        return cudaErrorLaunchFailure;
    }
    return strstr(call, "Launch") ? cudaErrorLaunchOutOfResources : cudaErrorUnknown;
}

cudaError_t begin_release()
{
    return in_host_function ? cudaErrorNotPermitted : cudaSuccess;
}

cudaError_t end_call(cudaError_t status)
{
    if (status != cudaSuccess && status != cudaErrorNotReady) last = status;
    return status;
}

cudaError_t last_error(bool clear)
{
    const cudaError_t failed = device_error(current_device());
    if (failed != cudaSuccess) return failed;
    const cudaError_t status = last;
    if (clear) last = cudaSuccess;
    return status;
}

HostFunction::HostFunction()
{
    in_host_function = true;
}

HostFunction::~HostFunction()
{
    in_host_function = false;
}

// --- devices ---

int device_count()
{
    static const int count = [] {
        const char *text = getenv("SIM_DEVICES");
        if (!text) return 2;
        const int n = atoi(text);
        if (n < 0 || n > MAX_DEVICES) violation("SIM_DEVICES", "'%s' is not 0 to %d", text, MAX_DEVICES);
        return n;
    }();
    return count;
}

static thread_local int current;
static std::atomic<cudaError_t> errors[MAX_DEVICES];

int current_device()
{
    return current;
}

cudaError_t set_device(int device)
{
    if (device_count() == 0) return cudaErrorNoDevice;
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    current = device;
    return cudaSuccess;
}

void fail_device(int device, cudaError_t error)
{
    errors[device] = error;
}

cudaError_t device_error(int device)
{
    return errors[device];
}

// Copies may cross devices anyway: all that it does is to answer as the real one does.
cudaError_t enable_peer(int peer, unsigned flags)
{
    static bool enabled[MAX_DEVICES][MAX_DEVICES];
    if (flags) return cudaErrorInvalidValue;
    if (peer < 0 || peer >= device_count() || peer == current) return cudaErrorInvalidDevice;
    if (enabled[current][peer]) return cudaErrorPeerAccessAlreadyEnabled;
    enabled[current][peer] = true;
    return cudaSuccess;
}

int report_leaks()
{
    Lock lock;
    return report_memory() + report_streams() + report_graphs();
}

} // namespace machine
