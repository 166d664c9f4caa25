/* What run, train, eval and serve have in common: options made into data, a backend, and the configuration of learning;
 * and the reports of a learner. */
#pragma once

#include "cli/options.h"
#include "cli/peers_file.h"
#include "neuron/learn.h"
#include "observe/output.h"
#include "observe/progress.h"

/* Opens the backend for learning (`threads` of --threads) and says what computes. */
Status session_backend(const Options *options, int64_t threads, Output *output, Backend **out, Error *error);

const Soma *session_soma(const Options *options);

/* The dendrite to --peers. */
Status session_dendrite(const Options *options, const Peer *peers, size_t count, const char *neuron_key, Dendrite **out,
                        Error *error);

/* The text of a run folder's config.json; free with free(). */
Status session_config_text(const Options *options, char **out, Error *error);

/* Everything that learning needs, owned by the session. `config` is the text of config.json. */
typedef struct Session {
    Backend *backend;
    Dataset train, test;
    char *config;
    Dendrite *dendrite;
    PeersFile *peers; /* not owned; NULL: alone */
    LearnOptions learn;
    Learner *learner;
    /* reports */
    const Options *options;
    Output *output;
    Progress progress;
    Evaluation last[2]; /* local, remote; samples 0: not evaluated */
    int64_t peer_gradients, steps_answered, steps;
    uint64_t waited_ns; /* for answers */
    double started, learning_seconds;
} Session;

/* Opens the learner of --soma with the options' data, schedule and run folder. `peers` NULL or empty: alone; else their
 * file is followed while learning. Zero-initialise; session_close in any case. */
Status session_open(Session *session, const Options *options, PeersFile *peers, const char *neuron_key, Output *output,
                    Error *error);
/* Learns until done or told to stop, saves, and reports the end. */
Status session_learn(Session *session, Error *error);
void session_close(Session *session);
