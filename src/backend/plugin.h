/* Backends that are loaded when asked for, so that one program starts on hosts without their libraries: a plug-in is
 * neuron-<name>.so beside the program, and exports neuron_backend_plugin alone. It has the rooms up to graph/ within
 * it, and shares nothing with the program but the structures of these headers. */
#pragma once

#include "backend/driver.h"

/* What program and plug-in must have in common: the program's version, and the sizes of what they hand each other. */
typedef struct PluginAbi {
    char version[16];
    unsigned driver, options, plan_step, node, value_info, operations;
} PluginAbi;

#define BACKEND_PLUGIN_ABI                                                                                             \
    {                                                                                                                  \
        NEURON_VERSION, sizeof(BackendDriver), sizeof(BackendOptions), sizeof(PlanStep), sizeof(Node),                 \
            sizeof(ValueInfo), OPERATION_COUNT                                                                         \
    }

typedef struct BackendPlugin {
    PluginAbi abi;
    const BackendDriver *driver;
} BackendPlugin;

const BackendPlugin *neuron_backend_plugin(void);

/* Loads neuron-<name>.so from the folder of the program, or from NEURON_PLUGINS; once, for as long as the process
 * lives. FAILED_PRECONDITION where there is none, where it doesn't load (with the loader's sentence), where it was
 * built with another program, or where the other plug-in is loaded already: the real libraries and their stand-ins
 * never share a process. Where it `runs`, and not only plans, cuda needs a driver too. */
Status plugin_load(const char *name, bool runs, const BackendDriver **out, Error *error);
