#include "cli/peers_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static const uint64_t look_every = 1000000000; /* ns */
enum { MOST_BYTES = 1 << 20 };

/* --- reading --- */

static Status append(Peer **peers, size_t *count, const Peer *peer, Error *error)
{
    Peer *longer = realloc(*peers, (*count + 1) * sizeof *longer);
    if (longer == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %zu peers", *count + 1);
    longer[(*count)++] = *peer;
    *peers = longer;
    return STATUS_OK;
}

/* The line without its comment, and without blanks around. */
static char *strip(char *line)
{
    line[strcspn(line, "#")] = '\0';
    line += strspn(line, " \t\r");
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL)
        line[--length] = '\0';
    return line;
}

static Status parse(char *text, Peer **peers, size_t *count, Error *error)
{
    size_t number = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        Peer peer;
        number++;
        line = strip(line);
        if (*line == '\0') continue;
        if (peer_parse(line, &peer, error) != STATUS_OK) return error_prefix(error, "line %zu", number);
        RETURN_IF_ERROR(append(peers, count, &peer, error));
    }
    return STATUS_OK;
}

static Status read_peers(const char *path, Peer **peers, size_t *count, Error *error)
{
    char *text = NULL;
    size_t size;
    *peers = NULL;
    *count = 0;
    RETURN_IF_ERROR(file_read(path, MOST_BYTES, &text, &size, error));
    Status status = STATUS_OK;
    if (strlen(text) != size)
        status = error_set(error, STATUS_INVALID_ARGUMENT, "%s holds a NUL, expected text", path);
    else if ((status = parse(text, peers, count, error)) != STATUS_OK)
        error_prefix(error, "%s", path);
    free(text);
    if (status == STATUS_OK) return STATUS_OK;
    free(*peers);
    *peers = NULL;
    return status;
}

/* --- following --- */

static bool look(const char *path, struct stat *out)
{
    if (stat(path, out) == 0) return true;
    memset(out, 0, sizeof *out);
    return false;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_size == b->st_size && a->st_ino == b->st_ino;
}

Status peers_file_open(const char *path, PeersFile *out, Error *error)
{
    *out = (PeersFile){.path = path};
    look(path, &out->seen); /* before it is read: a change in between is seen later */
    return read_peers(path, &out->peers, &out->count, error);
}

void peers_file_close(PeersFile *file)
{
    free(file->peers);
    *file = (PeersFile){0};
}

static void move(PeersFile *file, Dendrite *dendrite, const Peer *peers, Output *output)
{
    Error error = {0};
    for (size_t i = 0; i < file->count; i++) {
        Peer *peer = &file->peers[i];
        if (strcmp(peer->address, peers[i].address) == 0 && strcmp(peer->synapse_key, peers[i].synapse_key) == 0)
            continue;
        if (dendrite_move(dendrite, i, &peers[i], &error) != STATUS_OK) {
            output_warning(output, "peer %s stays: %s", peer->address, error.message);
            continue;
        }
        output_line(output, "peer %s is now %s", peer->address, peers[i].address);
        Event event = event_make("moved");
        event_text(&event, "from", peer->address);
        event_text(&event, "to", peers[i].address);
        output_event(output, &event);
        *peer = peers[i];
    }
}

void peers_file_follow(PeersFile *file, Dendrite *dendrite, uint64_t now, Output *output)
{
    struct stat found;
    Peer *peers = NULL;
    size_t count = 0;
    Error error = {0};
    if (file->path == NULL || dendrite == NULL || now < file->next) return;
    file->next = now + look_every;
    /* A file that isn't there is about to be replaced, or will be missed by nobody. */
    if (!look(file->path, &found) || same_file(&found, &file->seen)) return;
    file->seen = found;
    if (read_peers(file->path, &peers, &count, &error) != STATUS_OK)
        output_warning(output, "the peers stay as they are: %s", error.message);
    else if (count != file->count)
        output_warning(output, "the peers stay as they are: %s names %zu, expected %zu as at the start", file->path,
                       count, file->count);
    else
        move(file, dendrite, peers, output);
    free(peers);
}
