/* Files: mapped reading, and writing that either replaces the whole file or leaves the old one. Failures name the path.
 *
 * file_replace writes to "<path>.tmp.<pid>" in the same directory, fsyncs it, renames it over <path> and fsyncs the
 * directory, so that a crash at any moment leaves the old file or the new one. On failure (a full disk, say) the
 * temporary file is removed and the old file is untouched; only when the directory can't be synced at the end, the new
 * file is in place already, and the error says that it may not outlive a crash. One thread at a time replaces a given
 * path. Each system call passes a failpoint (failpoint.h): "file.open", "file.write", "file.fsync" (the file's and then
 * the directory's), "file.rename". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/status.h"

typedef struct FileMap {
    const uint8_t *data; /* NULL when size is 0 */
    size_t size;
} FileMap;

/* Maps a regular file read-only (private). */
Status file_map(const char *path, FileMap *out, Error *error);
void file_unmap(FileMap *map);

/* Reads a whole file, at most `limit` bytes (more: OUT_OF_RANGE), terminated with a NUL that *size does not count. Free
 * with free(). */
Status file_read(const char *path, size_t limit, char **out, size_t *size, Error *error);

/* Writes the parts one after the other as described above. */
Status file_replace(const char *path, const struct iovec *parts, size_t count, Error *error);

/* mkdir -p. */
Status file_make_directories(const char *path, Error *error);
bool file_exists(const char *path);

/* "<folder>/<name>"; OUT_OF_RANGE when it doesn't fit. */
Status file_join(char *out, size_t size, const char *folder, const char *name, Error *error);
