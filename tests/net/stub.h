/* A soma for tests of the network: its answers can be computed by hand, and it can be slow or broken on demand. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "axon/axon.h"
#include "dendrite/dendrite.h"

typedef enum StubMode { STUB_GOOD, STUB_NOT_FINITE } StubMode;

typedef struct Stub {
    float factor; /* set before serving: answer[b][s][f] = factor * (first element of input row (b, s) + f) */

    int64_t batch_rows; /* likewise set before, as in AxonHandler */
    uint64_t batch_wait_ns;

    /* May be changed at any time. */
    atomic_bool held;              /* handlers wait until it is false */
    atomic_uint_fast64_t delay_ns; /* slept in every handler */
    atomic_uint_fast64_t burn_ns;  /* of a core's time, likewise */
    atomic_int failure;            /* a Status, returned instead of an answer */
    atomic_int mode;               /* a StubMode */
    atomic_uint_fast64_t version;  /* of its weights, sent with Forward's answers; 0: none */

    atomic_int runs;             /* handlers begun */
    atomic_int joined;           /* most requests of one of them */
    atomic_uint_fast64_t caller; /* of the last Forward */
    atomic_bool inside;          /* one runs; a second at the same time aborts the test */

    pthread_mutex_t lock; /* guards what Backward brought last */
    Tensor input, gradient;
    bool has_learnt_version;
    uint64_t learnt_version;
} Stub;

void stub_init(Stub *stub, float factor);
void stub_clear(Stub *stub);
AxonHandler stub_handler(Stub *stub);

/* An axon on a free port of 127.0.0.1 that serves the stub as "soma"; aborts the test on failure. */
Axon *stub_serve(Stub *stub);
Axon *stub_serve_with(Stub *stub, AxonOptions options);

/* Whether Backward brought these last; (NULL, NULL): it was never called. */
bool stub_learnt(Stub *stub, const Tensor *input, const Tensor *gradient);

/* What the stub answers to this input, in `out` [batch, seq, 512]. */
void stub_expect(float factor, const Tensor *input, float *out);

Peer stub_peer(const Axon *axon);
Peer dead_peer(void); /* a port where nobody listens */

/* f32 [batch, seq, 1, 2, 2] with values that differ; tensor_destroy it. */
Tensor make_images(int64_t batch, int64_t seq);

void sleep_ms(int milliseconds);

/* One Forward or Backward of any tensors, for axon tests; 10 s. */
Status ask(const Axon *axon, const char *key, const Tensor *input, Modality modality, Tensor *answer, Error *error);
Status ask_backward(const Axon *axon, const char *key, const Tensor *input, Modality modality, const Tensor *gradient,
                    Tensor *answer, Error *error);
