#include "rpc/rpc.h"

#include <grpc/support/log.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

/* --- start and end --- */

/* What gRPC calls an error is mostly a peer that is away, which we report ourselves: debugging only. */
static void log_of_grpc(gpr_log_func_args *line)
{
    log_debug("grpc: %s", line->message);
}

/* gRPC looks at connect's errno only after it has allocated (src/core/lib/iomgr/tcp_client_posix.cc of 1.51), and
 * glibc, about to make another arena, asks for the number of cores, which leaves ENOENT there on a machine without
 * /sys: one connection in 40 failed. With a limit, here its own one, it doesn't ask. */
static void limit_arenas(void)
{
#ifdef __GLIBC__
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, 8 * (int)(cores > 0 ? cores : 2));
#endif
}

void rpc_start(void)
{
    limit_arenas();
    gpr_set_log_function(log_of_grpc);
    grpc_init();
}

void rpc_stop(void)
{
    grpc_shutdown_blocking();
}

Status rpc_thread_start(pthread_t *out, void *(*run)(void *), void *argument, const char *name, Error *error)
{
    int failure = pthread_create(out, NULL, run, argument);
    if (failure) return error_set_errno(error, failure, "cannot start the thread '%s'", name);
    pthread_setname_np(*out, name);
    return STATUS_OK;
}

uint64_t rpc_thread_work(pthread_t thread)
{
    clockid_t clock;
    struct timespec used;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* --- operations --- */

#ifdef NEURON_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

void rpc_memory_release(void *memory)
{
#ifdef NEURON_TSAN
    __tsan_release(memory);
#else
    (void)memory;
#endif
}

void rpc_memory_acquire(void *memory)
{
#ifdef NEURON_TSAN
    __tsan_acquire(memory);
#else
    (void)memory;
#endif
}

void rpc_metadata_destroy(grpc_metadata_array *metadata)
{
#ifdef NEURON_TSAN
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    grpc_metadata_array_destroy(metadata);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#else
    grpc_metadata_array_destroy(metadata);
#endif
}

void rpc_tag_release(RpcTag *tag)
{
    rpc_memory_release(tag);
}

Status rpc_start_batch(grpc_call *call, const grpc_op *ops, size_t count, RpcTag *tag, Error *error)
{
    rpc_tag_release(tag);
    grpc_call_error failure = grpc_call_start_batch(call, ops, count, tag, NULL);
    if (failure == GRPC_CALL_OK) return STATUS_OK;
    return error_set(error, STATUS_FAILED_PRECONDITION, "gRPC refused an operation: %s",
                     grpc_call_error_to_string(failure));
}

RpcEvent rpc_next(grpc_completion_queue *queue, gpr_timespec deadline)
{
    grpc_event event = grpc_completion_queue_next(queue, deadline, NULL);
    if (event.type == GRPC_QUEUE_SHUTDOWN) return RPC_SHUT_DOWN;
    if (event.type != GRPC_OP_COMPLETE) return RPC_NOTHING;
    RpcTag *tag = event.tag;
    rpc_memory_acquire(tag);
    tag->done(tag, event.success != 0);
    return RPC_DONE;
}

void rpc_run(grpc_completion_queue *queue)
{
    while (rpc_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC)) != RPC_SHUT_DOWN)
        ;
}

/* --- arguments --- */

void rpc_args_add(RpcArgs *args, const char *key, int value)
{
    grpc_arg *arg = &args->list[args->args.num_args++];
    *arg = (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value = {.integer = value}};
}

void rpc_args_init(RpcArgs *out, size_t max_message_bytes)
{
    int limit = max_message_bytes > INT_MAX ? INT_MAX : (int)max_message_bytes;
    out->args = (grpc_channel_args){.num_args = 0, .args = out->list};
    rpc_args_add(out, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, limit);
    rpc_args_add(out, GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, limit);
    rpc_args_add(out, GRPC_ARG_ENABLE_RETRIES, 0);
    rpc_args_add(out, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    rpc_args_add(out, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
}

gpr_timespec rpc_deadline_after(uint64_t ns)
{
    int64_t span = ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(span, GPR_TIMESPAN));
}

Status rpc_error_of(grpc_status_code code, grpc_slice details, Error *error)
{
    Status status = (int)code >= 0 && code <= GRPC_STATUS_UNAUTHENTICATED ? (Status)code : STATUS_UNKNOWN;
    if (status == STATUS_OK) return STATUS_OK;
    size_t length = GRPC_SLICE_LENGTH(details);
    if (length > ERROR_MESSAGE_SIZE) length = ERROR_MESSAGE_SIZE;
    length = strnlen((const char *)GRPC_SLICE_START_PTR(details), length);
    if (length == 0) return error_set(error, status, "%s without a message", status_name(status));
    return error_set(error, status, "%.*s", (int)length, (const char *)GRPC_SLICE_START_PTR(details));
}
