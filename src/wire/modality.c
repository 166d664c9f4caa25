#include "wire/modality.h"

#include <string.h>

static const struct {
    const char *name;
    int rank;
} modalities[] = {
    [MODALITY_TENSOR] = {"tensor", 3},
    [MODALITY_IMAGE] = {"image", 5},
    [MODALITY_TEXT] = {"text", 2},
};

enum { MODALITIES = sizeof modalities / sizeof modalities[0] };

const char *modality_name(Modality modality)
{
    return (unsigned)modality < MODALITIES ? modalities[modality].name : "?";
}

bool modality_from_name(const char *name, Modality *out)
{
    for (int i = 0; i < MODALITIES; i++)
        if (strcmp(name, modalities[i].name) == 0) {
            *out = (Modality)i;
            return true;
        }
    return false;
}

int modality_rank(Modality modality)
{
    return (unsigned)modality < MODALITIES ? modalities[modality].rank : 0;
}
