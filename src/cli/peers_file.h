/* --peers-file: the neurons to ask, one PEER a line; empty lines and what follows a '#' don't count. Looked at again
 * while the neuron runs, so that a peer that moves can be followed. One thread. */
#pragma once

#include <sys/stat.h>

#include "dendrite/dendrite.h"
#include "observe/output.h"

typedef struct PeersFile {
    const char *path; /* NULL: there is none, and following does nothing */
    Peer *peers;      /* as they are asked now */
    size_t count;
    struct stat seen; /* the file that was read last */
    uint64_t next;    /* look not before this time, ns */
} PeersFile;

/* INVALID_ARGUMENT with the line that is wrong. `path` must outlive it. */
Status peers_file_open(const char *path, PeersFile *out, Error *error);
void peers_file_close(PeersFile *file);

/* Costs a look at the clock, once a second one at the file's time and size, and a reading when they have changed: then
 * the n-th peer moves to where the n-th entry says. A bad line, or another number of peers: a warning that says so, and
 * the peers stay. */
void peers_file_follow(PeersFile *file, Dendrite *dendrite, uint64_t now, Output *output);
