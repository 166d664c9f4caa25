#include "support/folder.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "cannot %s %s: %m\n", what, path);
    abort();
}

Folder folder_make(void)
{
    Folder folder;
    const char *base = getenv("TMPDIR");
    int length = snprintf(folder.path, sizeof folder.path, "%s/neuron-test-XXXXXX", base && *base ? base : "/tmp");
    if (length >= FOLDER_PATH_SIZE || !mkdtemp(folder.path)) fail("make the folder", folder.path);
    return folder;
}

static int remove_entry(const char *path, const struct stat *about, int type, struct FTW *place)
{
    (void)about, (void)type, (void)place;
    return remove(path);
}

void folder_remove(Folder *folder)
{
    if (nftw(folder->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) fail("remove", folder->path);
}

const char *folder_path(const Folder *folder, const char *name, char out[FOLDER_PATH_SIZE])
{
    if (strlen(folder->path) + 1 + strlen(name) >= FOLDER_PATH_SIZE) fail("join a name of the folder", folder->path);
    strcpy(out, folder->path);
    strcat(out, "/");
    strcat(out, name);
    return out;
}

void folder_write(const Folder *folder, const char *name, const void *bytes, size_t size)
{
    char path[FOLDER_PATH_SIZE];
    FILE *file = fopen(folder_path(folder, name, path), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) fail("write", path);
}

size_t folder_count(const Folder *folder)
{
    size_t count = 0;
    DIR *stream = opendir(folder->path);
    if (!stream) fail("list", folder->path);
    for (struct dirent *entry; (entry = readdir(stream));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(stream);
    return count;
}
