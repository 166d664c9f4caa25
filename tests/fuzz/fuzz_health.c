/* A HealthCheckRequest (src/axon/health.c), and the fields of any small message (src/axon/fields.c). */
#include <proto/health.pb-c.h>
#include <string.h>

#include "axon/service_call.h"
#include "fuzz/fuzz.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    fuzz_seed(seeds,
              "\x0a\x09"
              "Bittensor",
              11);
    fuzz_seed(seeds,
              "\x0a\x01"
              "a\x0a\x02"
              "bb\x10\x05\x1d"
              "1234\x19"
              "12345678",
              23);
    fuzz_seed(seeds, "", 0);
}

/* What a reader sees, written again, reads the same. */
static void require_fields(const uint8_t *bytes, size_t size)
{
    FieldReader reader = {bytes, size}, again;
    FieldWriter writer = {0};
    Field field, other;
    FieldResult result;
    while ((result = field_next(&reader, &field)) == FIELD_READ) {
        REQUIRE(field.number >= 1 && field.number < 1u << 29);
        REQUIRE(!field.data || (field.data >= bytes && field.size <= (size_t)(bytes + size - field.data)));
        if (field.is_bytes) field_put_bytes(&writer, field.number, field.data, field.size);
    }
    REQUIRE(result == FIELD_MALFORMED || reader.left == 0);
    reader = (FieldReader){bytes, size};
    again = (FieldReader){writer.data, writer.size};
    while (field_next(&reader, &field) == FIELD_READ) {
        if (!field.is_bytes) continue;
        REQUIRE(field_next(&again, &other) == FIELD_READ && other.is_bytes);
        REQUIRE(other.number == field.number && other.size == field.size);
        REQUIRE(field.size == 0 || memcmp(other.data, field.data, field.size) == 0);
    }
    REQUIRE(field_next(&again, &other) == FIELD_END);
    free(writer.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *copy = fuzz_copy(bytes, size), *name;
    size_t name_size;
    bool good = health_read_request(copy, size, &name, &name_size);
    Grpc__Health__V1__HealthCheckRequest *truth = grpc__health__v1__health_check_request__unpack(NULL, size, copy);
    if (good && truth)
        REQUIRE(truth->service[name_size] == '\0' && (!name_size || memcmp(truth->service, name, name_size) == 0));
    if (truth) grpc__health__v1__health_check_request__free_unpacked(truth, NULL);
    require_fields(copy, size);
    fuzz_rooms_clear();
    return 0;
}
