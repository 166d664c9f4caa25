/* grpc.health.v1: the states of the services, and who is told. The protocol:
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md */
#include <string.h>

#include "axon/service_call.h"
#include "axon/services.h"

enum { FIELD_SERVICE = 1, FIELD_STATUS = 1 };

/* --- the states --- */

/* The index of a name, or health_count. */
static size_t index_of(const struct Services *services, const char *name)
{
    if (strcmp(name, "Bittensor") == 0) name = "";
    size_t i = 0;
    while (i < services->health_count && strcmp(services->health[i].name, name) != 0)
        i++;
    return i;
}

static HealthStatus status_of(const struct Services *services, const char *name)
{
    size_t i = index_of(services, name);
    if (i == services->health_count) return HEALTH_SERVICE_UNKNOWN;
    return services->health[i].serving && !services->draining ? HEALTH_SERVING : HEALTH_NOT_SERVING;
}

static void tell_all(struct Services *services)
{
    ServiceCall *call;
    TAILQ_FOREACH(call, &services->streams, place)
    if (call->method == SERVICE_WATCH) health_tell(call);
}

void services_health_set(Axon *axon, const char *service, bool serving)
{
    struct Services *services = axon->services;
    if (strcmp(service, "Bittensor") == 0) service = "";
    if (strlen(service) >= KEY_SIZE) return; /* no soma can have it */
    pthread_mutex_lock(&services->lock);
    size_t i = index_of(services, service);
    if (i < SERVICES_MAX_NAMES) {
        if (i == services->health_count) services->health_count++;
        strcpy(services->health[i].name, service);
        services->health[i].serving = serving;
        tell_all(services);
    }
    pthread_mutex_unlock(&services->lock);
}

void services_health_forget(Axon *axon, const char *service)
{
    struct Services *services = axon->services;
    pthread_mutex_lock(&services->lock);
    size_t i = index_of(services, service);
    if (i < services->health_count) {
        services->health[i] = services->health[--services->health_count];
        tell_all(services);
    }
    pthread_mutex_unlock(&services->lock);
}

void services_drain(Axon *axon)
{
    struct Services *services = axon->services;
    pthread_mutex_lock(&services->lock);
    services->draining = true;
    tell_all(services);
    pthread_mutex_unlock(&services->lock);
}

/* --- the calls --- */

bool health_read_request(const uint8_t *bytes, size_t size, const uint8_t **name, size_t *name_size)
{
    FieldReader reader = {bytes, size};
    Field field;
    FieldResult result;
    *name = NULL;
    *name_size = 0;
    while ((result = field_next(&reader, &field)) == FIELD_READ) {
        if (field.number != FIELD_SERVICE) continue;
        if (!field.is_bytes) return false;
        *name = field.data;
        *name_size = field.size;
    }
    return result == FIELD_END;
}

/* Takes the name that is asked for; a malformed request ends the call. */
static bool take_name(ServiceCall *call, const uint8_t *request, size_t size)
{
    const uint8_t *name;
    size_t name_size;
    if (!health_read_request(request, size, &name, &name_size)) {
        service_call_finish(call, NULL, STATUS_INVALID_ARGUMENT, "malformed HealthCheckRequest");
        return false;
    }
    call->nameable = name_size < KEY_SIZE && (name_size == 0 || !memchr(name, '\0', name_size));
    if (call->nameable && name_size) memcpy(call->name, name, name_size);
    return true;
}

static HealthStatus status_for(const ServiceCall *call)
{
    return call->nameable ? status_of(call->axon->services, call->name) : HEALTH_SERVICE_UNKNOWN;
}

void health_check(ServiceCall *call, const uint8_t *request, size_t size)
{
    FieldWriter answer = {0};
    if (!take_name(call, request, size)) return;
    HealthStatus status = status_for(call);
    if (status == HEALTH_SERVICE_UNKNOWN) {
        service_call_finish(call, NULL, STATUS_NOT_FOUND, "no service of that name is known here");
        return;
    }
    field_put_number(&answer, FIELD_STATUS, (uint64_t)status);
    service_call_finish(call, &answer, STATUS_OK, "");
}

void health_tell(ServiceCall *call)
{
    FieldWriter answer = {0};
    HealthStatus status = status_for(call);
    if (call->sending || call->ending || call->over || status == call->told) return;
    call->told = status;
    field_put_number(&answer, FIELD_STATUS, (uint64_t)status);
    service_call_send(call, &answer);
}

void health_watch(ServiceCall *call, const uint8_t *request, size_t size)
{
    if (take_name(call, request, size) && service_call_list(call, SERVICES_MAX_WATCHERS)) health_tell(call);
}
