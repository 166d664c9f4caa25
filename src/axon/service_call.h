/* Inside the services: one call of theirs, and the state behind them all. services.c moves calls; health.c and
 * reflection.c say what goes into them.
 *
 * Everything here is guarded by Services.lock, and every function here is called with it held. A call is freed when the
 * last of its tags has come back. One message a call is on its way at any time. */
#pragma once

#include <sys/queue.h>

#include "axon/fields.h"
#include "axon/internal.h"

typedef enum ServiceMethod {
    SERVICE_CHECK,
    SERVICE_WATCH,
    SERVICE_REFLECTION,
    SERVICE_REFLECTION_ALPHA,
    SERVICE_METHODS
} ServiceMethod;

enum {
    SERVICES_MAX_WATCHERS = 256,
    SERVICES_MAX_REFLECTIONS = 64,
    SERVICES_MAX_NAMES = 128,     /* with a state of health */
    SERVICES_REQUEST_BYTES = 8192 /* of a request; longer ones make no sense */
};

/* The numbers of proto/health.proto. */
typedef enum HealthStatus {
    HEALTH_UNTOLD = -1, /* a watcher that knows nothing yet */
    HEALTH_SERVING = 1,
    HEALTH_NOT_SERVING = 2,
    HEALTH_SERVICE_UNKNOWN = 3
} HealthStatus;

typedef struct ServiceCall ServiceCall;
TAILQ_HEAD(ServiceCalls, ServiceCall);

struct ServiceCall {
    Axon *axon;
    ServiceMethod method;
    int references; /* tags that are with gRPC */
    RpcTag accepted, closed, received, sent;

    grpc_call *call;
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *request, *response;
    grpc_slice sentence; /* the status message on its way out */
    int cancelled;       /* written by gRPC */
    Meter *meter;        /* of its connection; NULL before it has one */
    bool asked;          /* a message came */

    bool begun;    /* the initial metadata have gone out */
    bool sending;  /* `sent` is with gRPC */
    bool finished; /* the status has gone out */
    bool over;     /* `closed` came back: nothing more can be sent */
    bool ending;   /* the status `end` goes out as soon as nothing is being sent */
    Status end;

    bool listed; /* in Services.streams */
    TAILQ_ENTRY(ServiceCall) place;

    bool nameable; /* Watch: `name` is the service's; else it is one that nobody can have */
    char name[KEY_SIZE];
    HealthStatus told;
};

struct Services {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a stream has left */
    void *methods[SERVICE_METHODS];
    struct ServiceCalls streams;
    size_t stream_count[SERVICE_METHODS];
    bool draining, ended;

    size_t health_count;
    struct {
        char name[KEY_SIZE];
        bool serving;
    } health[SERVICES_MAX_NAMES];

    size_t listed_count; /* the services that reflection lists */
    char listed[SERVICE_METHODS + AXON_MAX_FURTHER][KEY_SIZE];
};

/* --- services.c --- */

/* Counts the call as a stream of its method, or ends it: RESOURCE_EXHAUSTED, false. */
bool service_call_list(ServiceCall *call, size_t most);

/* Sends a message, which is taken over (also on failure); not while another is on its way. */
void service_call_send(ServiceCall *call, FieldWriter *message);

/* Sends the status, behind what is on its way; a second one is ignored. `message` (or NULL), taken over, goes before
 * it. */
void service_call_finish(ServiceCall *call, FieldWriter *message, Status status, const char *sentence);

/* --- health.c --- */

/* The service that a HealthCheckRequest asks for, borrowed. False: malformed. */
bool health_read_request(const uint8_t *bytes, size_t size, const uint8_t **name, size_t *name_size);

void health_check(ServiceCall *call, const uint8_t *request, size_t size);
void health_watch(ServiceCall *call, const uint8_t *request, size_t size);
/* Tells a watcher the state if it doesn't know it; when it may be sent. */
void health_tell(ServiceCall *call);

/* --- reflection.c --- */

/* The answer to one ServerReflectionRequest; `services` are those to list. False: malformed, or no memory. */
bool reflection_answer(const uint8_t *request, size_t size, const char (*services)[KEY_SIZE], size_t service_count,
                       FieldWriter *out);
