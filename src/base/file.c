#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"

static int open_retrying(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* --- reading --- */

Status file_map(const char *path, FileMap *out, Error *error)
{
    Status status = STATUS_OK;
    struct stat about;
    int fd = open_retrying(path, O_RDONLY | O_NONBLOCK); /* so that a FIFO is refused below, not waited for */
    if (fd < 0) return error_set_errno(error, errno, "cannot open %s", path);
    if (fstat(fd, &about) != 0) {
        status = error_set_errno(error, errno, "cannot examine %s", path);
        goto done;
    }
    if (!S_ISREG(about.st_mode)) {
        status = error_set(error, STATUS_INVALID_ARGUMENT, "%s is not a regular file", path);
        goto done;
    }
    FileMap map = {.size = (size_t)about.st_size};
    if (map.size) {
        void *data = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = error_set_errno(error, errno, "cannot map the %zu bytes of %s", map.size, path);
            goto done;
        }
        map.data = data;
    }
    *out = map;
done:
    close(fd);
    return status;
}

void file_unmap(FileMap *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (FileMap){0};
}

/* Reads until the end, or until one byte more than the limit shows that the file is longer. */
static Status read_all(int fd, const char *path, size_t limit, char **out, size_t *size, Error *error)
{
    size_t capacity = 4096, length = 0;
    char *data = malloc(capacity);
    while (data) {
        ssize_t got = read(fd, data + length, capacity - length - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            Status status = error_set_errno(error, errno, "cannot read %s", path);
            free(data);
            return status;
        }
        length += (size_t)got;
        if (length > limit) {
            free(data);
            return error_set(error, STATUS_OUT_OF_RANGE, "%s has more than the expected %zu bytes", path, limit);
        }
        if (got == 0) {
            data[length] = '\0';
            *out = data;
            *size = length;
            return STATUS_OK;
        }
        if (capacity - length > 1) continue;
        char *larger = capacity > SIZE_MAX / 2 ? NULL : realloc(data, capacity *= 2);
        if (!larger) free(data);
        data = larger;
    }
    return error_set_errno(error, ENOMEM, "cannot read %s after %zu bytes", path, length);
}

Status file_read(const char *path, size_t limit, char **out, size_t *size, Error *error)
{
    int fd = open_retrying(path, O_RDONLY);
    if (fd < 0) return error_set_errno(error, errno, "cannot open %s", path);
    Status status = read_all(fd, path, limit, out, size, error);
    close(fd);
    return status;
}

/* --- replacing --- */

/* Fails with errno set if the failpoint says so, as the system call behind it would. */
static bool fails_here(const char *failpoint)
{
    int failure = failpoint_hit(failpoint);
    if (failure) errno = failure;
    return failure != 0;
}

static Status write_part(int fd, struct iovec part, const char *path, Error *error)
{
    const uint8_t *at = part.iov_base;
    for (size_t left = part.iov_len; left;) {
        ssize_t written = fails_here("file.write") ? -1 : write(fd, at, left);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return error_set_errno(error, errno, "cannot write %s", path);
        at += written;
        left -= (size_t)written;
    }
    return STATUS_OK;
}

static int sync_retrying(int fd)
{
    int result;
    do
        result = fails_here("file.fsync") ? -1 : fsync(fd);
    while (result < 0 && errno == EINTR);
    return result;
}

/* Writes, syncs and closes the temporary file; it is the caller's to remove on failure. */
static Status write_temporary(int fd, const char *path, const struct iovec *parts, size_t count, Error *error)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < count; i++)
        GOTO_IF_ERROR(write_part(fd, parts[i], path, error), done);
    if (sync_retrying(fd) != 0) status = error_set_errno(error, errno, "cannot sync %s", path);
done:
    /* Network file systems may tell of a full disk only here. After EINTR Linux has closed the file. */
    if (close(fd) != 0 && errno != EINTR && status == STATUS_OK)
        status = error_set_errno(error, errno, "cannot close %s", path);
    return status;
}

static Status sync_directory_of(const char *path, Error *error)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    int fd = open_retrying(folder, O_RDONLY | O_DIRECTORY);
    int result = fd < 0 ? -1 : sync_retrying(fd);
    int failure = errno;
    if (fd >= 0) close(fd);
    /* Some file systems can't sync a directory, and say so in one of these ways. */
    if (result == 0 || failure == EINVAL || failure == EOPNOTSUPP) return STATUS_OK;
    return error_set_errno(error, failure, "%s is replaced, but may not outlive a crash: cannot sync its directory",
                           path);
}

Status file_replace(const char *path, const struct iovec *parts, size_t count, Error *error)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    if (length >= PATH_MAX)
        return error_set(error, STATUS_INVALID_ARGUMENT, "path %s has %zu characters, expected at most %d", path,
                         strlen(path), PATH_MAX - 32);
    /* What a killed process of the same number left behind is overwritten: in a container every process is number 1. */
    int fd = -1;
    if (!fails_here("file.open")) fd = open_retrying(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (fd < 0) return error_set_errno(error, errno, "cannot create %s", temporary);
    Status status = write_temporary(fd, path, parts, count, error);
    if (status == STATUS_OK && (fails_here("file.rename") || rename(temporary, path) != 0))
        status = error_set_errno(error, errno, "cannot rename %s to %s", temporary, path);
    if (status != STATUS_OK) {
        unlink(temporary);
        return status;
    }
    return sync_directory_of(path, error);
}

/* --- names --- */

static bool is_directory(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

Status file_make_directories(const char *path, Error *error)
{
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial)
        return error_set(error, STATUS_INVALID_ARGUMENT, "path of a folder has %zu characters, expected 1 to %d",
                         length, PATH_MAX - 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, 0777) == 0) continue;
        int failure = errno; /* a read-only or foreign parent answers with more than EEXIST */
        if (!is_directory(partial)) return error_set_errno(error, failure, "cannot make the folder %s", partial);
    }
    return STATUS_OK;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

Status file_join(char *out, size_t size, const char *folder, const char *name, Error *error)
{
    size_t length = strlen(folder);
    const char *slash = length == 0 || folder[length - 1] == '/' ? "" : "/";
    int wanted = snprintf(out, size, "%s%s%s", folder, slash, name);
    if (wanted < 0 || (size_t)wanted >= size)
        return error_set(error, STATUS_OUT_OF_RANGE, "path %s%s%s has %d characters, expected fewer than %zu", folder,
                         slash, name, wanted, size);
    return STATUS_OK;
}
