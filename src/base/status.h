/* What a function that can fail returns, and the sentence that goes with it.
 *
 * Every fallible function returns a Status and takes `Error *error` as its last parameter. On failure it fills *error
 * with one sentence that names the thing, its value and what was expected; on success *error is left alone. The caller
 * owns the Error (usually on its stack); NULL is allowed and drops the sentence. The numbers are gRPC's, so that the
 * axon can send a status as it is. */
#pragma once

#include <stdarg.h>

typedef enum Status {
    STATUS_OK = 0,
    STATUS_CANCELLED = 1,
    STATUS_UNKNOWN = 2,
    STATUS_INVALID_ARGUMENT = 3,
    STATUS_DEADLINE_EXCEEDED = 4,
    STATUS_NOT_FOUND = 5,
    STATUS_ALREADY_EXISTS = 6,
    STATUS_PERMISSION_DENIED = 7,
    STATUS_RESOURCE_EXHAUSTED = 8,
    STATUS_FAILED_PRECONDITION = 9,
    STATUS_ABORTED = 10,
    STATUS_OUT_OF_RANGE = 11,
    STATUS_UNIMPLEMENTED = 12,
    STATUS_INTERNAL = 13,
    STATUS_UNAVAILABLE = 14,
    STATUS_DATA_LOSS = 15,
    STATUS_UNAUTHENTICATED = 16,
} Status;

enum { ERROR_MESSAGE_SIZE = 512 };

typedef struct Error {
    Status status;
    char message[ERROR_MESSAGE_SIZE]; /* one terminated line of UTF-8; cut with "..." when longer */
} Error;

/* Fills *error (unless NULL) and returns `status`, so that a failure is one statement: return error_set(error,
 * STATUS_..., "...", ...). */
Status error_set(Error *error, Status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, with ": " and strerror(errno_value) appended; the status follows errno (ENOENT: NOT_FOUND, ENOSPC:
 * RESOURCE_EXHAUSTED, ...). */
Status error_set_errno(Error *error, int errno_value, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<context>: " before the sentence that *error already holds; returns error->status (UNKNOWN
 * for NULL, which holds none). */
Status error_prefix(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "INVALID_ARGUMENT" and so on; never NULL. */
const char *status_name(Status status);

/* The two macros that jump, and say so in their names. */
#define RETURN_IF_ERROR(call)                                                                                          \
    do {                                                                                                               \
        Status status_of_call_ = (call);                                                                               \
        if (status_of_call_ != STATUS_OK) return status_of_call_;                                                      \
    } while (0)

/* Assigns to the `status` variable of the enclosing function. */
#define GOTO_IF_ERROR(call, label)                                                                                     \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != STATUS_OK) goto label;                                                                           \
    } while (0)
