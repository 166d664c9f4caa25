#include "fuzz/fuzz.h"

#include <sanitizer/asan_interface.h>
#include <string.h>
#include <sys/stat.h>

uint8_t fuzz_choice(FuzzInput *input)
{
    return input->size ? input->bytes[--input->size] : 0;
}

/* --- rooms --- */

/* Poisoned but for the rooms. AddressSanitizer's unit is 8 bytes, of which a beginning can be open: so a room begins at
 * a multiple of 16, and at least 16 poisoned bytes follow it. */
static struct {
    _Alignas(16) uint8_t bytes[16 * FUZZ_ROOM];
    size_t used;
} rooms;

void *fuzz_room(size_t size)
{
    size_t taken = (size + 31) / 16 * 16;
    REQUIRE(size <= FUZZ_ROOM && rooms.used + 16 + taken <= sizeof rooms.bytes);
    uint8_t *room = rooms.bytes + 16 + rooms.used;
    ASAN_POISON_MEMORY_REGION(room - 16, taken + 16);
    ASAN_UNPOISON_MEMORY_REGION(room, size);
    rooms.used += taken;
    return room;
}

void fuzz_rooms_clear(void)
{
    ASAN_UNPOISON_MEMORY_REGION(rooms.bytes, rooms.used + 16);
    rooms.used = 0;
}

uint8_t *fuzz_copy(const void *bytes, size_t size)
{
    uint8_t *copy = fuzz_room(size);
    if (size) memcpy(copy, bytes, size);
    return copy;
}

char *fuzz_text(const FuzzInput *input)
{
    char *text = fuzz_room(input->size + 1);
    if (input->size) memcpy(text, input->bytes, input->size);
    text[input->size] = '\0';
    return text;
}

void fuzz_cut(FuzzInput *input, FuzzPieces *out)
{
    size_t places[FUZZ_PIECES], count = fuzz_choice(input) % FUZZ_PIECES;
    for (size_t i = 0; i < count; i++)
        places[i] = fuzz_choice(input);
    const uint8_t *bytes = input->bytes;
    size_t left = input->size;
    out->count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t here = places[i] % (left + 1); /* empty pieces too */
        out->segments[out->count++] = (Segment){fuzz_copy(bytes, here), here};
        bytes += here;
        left -= here;
    }
    out->segments[out->count++] = (Segment){fuzz_copy(bytes, left), left};
}

/* --- seeds --- */

struct FuzzSeeds {
    const char *folder;
    size_t count;
};

void fuzz_seed(FuzzSeeds *seeds, const void *bytes, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%02zu", seeds->folder, seeds->count++);
    FILE *file = fopen(path, "wb");
    REQUIRE(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    struct stat about;
    const char *last = (*arguments)[*count - 1];
    FuzzSeeds seeds = {.folder = last};
    if (*count > 1 && stat(last, &about) == 0 && S_ISDIR(about.st_mode)) fuzz_seeds(&seeds);
    return 0;
}
