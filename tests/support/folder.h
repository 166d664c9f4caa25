/* A temporary folder for one test. */
#pragma once

#include <stddef.h>

enum { FOLDER_PATH_SIZE = 512 };

typedef struct Folder {
    char path[FOLDER_PATH_SIZE];
} Folder;

/* Makes an empty folder under $TMPDIR (/tmp); aborts when it can't. */
Folder folder_make(void);
/* Removes it with everything inside. */
void folder_remove(Folder *folder);

/* "<folder>/<name>" into `out`, which it returns. */
const char *folder_path(const Folder *folder, const char *name, char out[FOLDER_PATH_SIZE]);
/* Writes `size` bytes to a file of the folder; aborts when it can't. */
void folder_write(const Folder *folder, const char *name, const void *bytes, size_t size);
/* How many entries the folder itself has. */
size_t folder_count(const Folder *folder);
