#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Sentences quote names from files and peers, and go on to logs, JSON and gRPC: they are cut visibly and cleaned. They
 * are made beside *error first, since an argument may point into it. */
static Status error_fill(Error *error, Status status, const char *message, int wanted)
{
    if (!error) return status;
    error->status = status;
    memcpy(error->message, message, ERROR_MESSAGE_SIZE);
    if (wanted >= ERROR_MESSAGE_SIZE) memcpy(error->message + ERROR_MESSAGE_SIZE - 4, "...", 4);
    text_clean(error->message);
    return status;
}

Status error_set(Error *error, Status status, const char *format, ...)
{
    char message[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_fill(error, status, message, wanted);
}

static Status status_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return STATUS_PERMISSION_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return STATUS_RESOURCE_EXHAUSTED;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
        return STATUS_INVALID_ARGUMENT;
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case EBUSY:
    case EADDRINUSE:
        return STATUS_FAILED_PRECONDITION;
    case ETIMEDOUT:
        return STATUS_DEADLINE_EXCEEDED;
    case ECANCELED:
        return STATUS_CANCELLED;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
        return STATUS_UNAVAILABLE;
    case EIO:
        return STATUS_DATA_LOSS;
    case ENOSYS:
    case EOPNOTSUPP:
        return STATUS_UNIMPLEMENTED;
    default:
        return STATUS_UNKNOWN;
    }
}

Status error_set_errno(Error *error, int errno_value, const char *format, ...)
{
    char sentence[ERROR_MESSAGE_SIZE], message[ERROR_MESSAGE_SIZE], reason_buffer[128];
    const char *reason = strerror_r(errno_value, reason_buffer, sizeof reason_buffer);
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);

    /* A long sentence is cut rather than its reason. */
    int room = (int)sizeof message - 1 - (int)strlen(": ") - (int)strlen(reason);
    const char *cut = wanted > room ? "..." : "";
    if (*cut) room -= (int)strlen(cut);
    wanted = snprintf(message, sizeof message, "%.*s%s: %s", room, sentence, cut, reason);
    return error_fill(error, status_of_errno(errno_value), message, wanted);
}

Status error_prefix(Error *error, const char *format, ...)
{
    if (!error) return STATUS_UNKNOWN;
    char context[ERROR_MESSAGE_SIZE], message[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    int wanted = snprintf(message, sizeof message, "%s: %s", context, error->message);
    return error_fill(error, error->status, message, wanted);
}

const char *status_name(Status status)
{
    static const char *const names[] = {
        "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED",
    };
    unsigned index = (unsigned)status;
    return index < sizeof names / sizeof names[0] ? names[index] : "UNKNOWN";
}
