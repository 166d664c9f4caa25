#include "models/soma.h"

#include <string.h>

static const Soma *const somas[] = {&soma_mnist};

const Soma *soma_find(const char *name)
{
    for (size_t i = 0; i < sizeof somas / sizeof *somas; i++)
        if (strcmp(somas[i]->name, name) == 0) return somas[i];
    return NULL;
}

const char *soma_names(void)
{
    return "mnist";
}
