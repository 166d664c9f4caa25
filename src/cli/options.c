#include "cli/options.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/option_table.h"
#include "cli/option_value.h"

enum { CONFIG_LIMIT = 1 << 20, NAME_SIZE = 128, WHERE_SIZE = 320 };

static unsigned char *source_of(Options *options, const OptionRow *row)
{
    return &options->sources[row - option_table];
}

/* True when a stronger source has spoken: `source` needn't even be read. */
static bool is_outranked(Options *options, const OptionRow *row, OptionSource source)
{
    return source < row->weakest || *source_of(options, row) > source;
}

OptionSource options_source(const Options *options, const char *name)
{
    const OptionRow *row = option_find(name, options->command);
    return row ? (OptionSource)options->sources[row - option_table] : OPTION_FROM_DEFAULT;
}

static Status set_defaults(Options *options, Error *error)
{
    for (size_t i = 0; i < option_table_length; i++) {
        const OptionRow *row = &option_table[i];
        if ((row->commands & options->command) && row->initial)
            RETURN_IF_ERROR(option_set(options, row, row->initial, "default", error));
    }
    return STATUS_OK;
}

/* --- flags -----------------------------------------------------------------------------------------------------------
 */

typedef struct Arguments {
    int count, next;
    char *const *items;
} Arguments;

static Status refuse_unknown_flag(const Options *options, const char *name, Error *error)
{
    const OptionRow *elsewhere = option_find(name, ~0u);
    if (elsewhere) {
        char takers[128], self[32];
        unsigned all = 0;
        for (size_t i = 0; i < option_table_length; i++)
            if (strcmp(option_table[i].name, name) == 0) all |= option_table[i].commands;
        option_commands_text(all, takers, sizeof takers);
        option_commands_text(options->command, self, sizeof self);
        return error_set(error, STATUS_INVALID_ARGUMENT, "--%s is an option of %s, not of %s", name, takers, self);
    }
    const char *nearest = option_nearest(name, options->command);
    if (nearest)
        return error_set(error, STATUS_INVALID_ARGUMENT, "unknown option --%.100s; did you mean --%s?", name, nearest);
    return error_set(error, STATUS_INVALID_ARGUMENT, "unknown option --%.100s", name);
}

/* The argument after a flag that wants a value, unless it is a flag itself: a forgotten value is the likelier reading
 * (--x=--y says the other). */
static Status take_value(const Options *options, Arguments *arguments, const OptionRow *row, const char **out,
                         Error *error)
{
    const char *value = arguments->next < arguments->count ? arguments->items[arguments->next] : NULL;
    bool is_flag = value && strncmp(value, "--", 2) == 0 && option_find(value + 2, options->command);
    if (!value || is_flag) {
        Text expected = {0};
        option_expected(row, &expected);
        error_set(error, STATUS_INVALID_ARGUMENT, "option %s has no value (flag --%s), expected %s", row->name,
                  row->name, expected.data ? expected.data : "one");
        text_free(&expected);
        return STATUS_INVALID_ARGUMENT;
    }
    arguments->next++;
    *out = value;
    return STATUS_OK;
}

/* `flag` is what follows the two dashes. */
static Status read_flag(Options *options, Arguments *arguments, const char *flag, Error *error)
{
    char name[NAME_SIZE], where[WHERE_SIZE];
    const char *equals = strchr(flag, '='), *value = equals ? equals + 1 : NULL;
    size_t length = equals ? (size_t)(equals - flag) : strlen(flag);
    snprintf(name, sizeof name, "%.*s", (int)(length < NAME_SIZE ? length : NAME_SIZE - 1), flag);
    const OptionRow *row = option_find(name, options->command);
    if (!row) return refuse_unknown_flag(options, name, error);
    if (!value && row->type == OPTION_FLAG) value = "true";
    if (!value) RETURN_IF_ERROR(take_value(options, arguments, row, &value, error));
    snprintf(where, sizeof where, "flag --%s", name);
    RETURN_IF_ERROR(option_set(options, row, value, where, error));
    *source_of(options, row) = OPTION_FROM_FLAG;
    return STATUS_OK;
}

static Status read_flags(Options *options, int argc, char *const *argv, Error *error)
{
    const char **operands = option_allocate(options, ((size_t)argc + 1) * sizeof *operands);
    if (!operands) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d arguments", argc);
    options->operands = operands;
    Arguments arguments = {.count = argc, .items = argv};
    bool only_operands = false;
    while (arguments.next < argc && !options->help && !options->version) {
        const char *argument = argv[arguments.next++];
        if (only_operands || argument[0] != '-' || argument[1] == '\0')
            operands[options->operand_count++] = argument;
        else if (strcmp(argument, "--") == 0)
            only_operands = true;
        else if (strcmp(argument, "-h") == 0)
            options->help = true;
        else if (argument[1] == '-')
            RETURN_IF_ERROR(read_flag(options, &arguments, argument + 2, error));
        else
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "unknown option '%.100s', expected a long one, as in --lr 0.1, or -h", argument);
    }
    return STATUS_OK;
}

/* Whoever asked for JSON gets the refusal of the other flags as JSON too. */
static bool asks_for_json(int argc, char *const *argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0) return true;
    return false;
}

/* --- the environment -------------------------------------------------------------------------------------------------
 */

static const char *find_variable(char *const *environment, const char *name)
{
    size_t length = strlen(name);
    for (; environment && *environment; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return *environment + length + 1;
    return NULL;
}

static Status read_environment(Options *options, char *const *environment, Error *error)
{
    for (size_t i = 0; i < option_table_length; i++) {
        const OptionRow *row = &option_table[i];
        if (!(row->commands & options->command) || is_outranked(options, row, OPTION_FROM_ENVIRONMENT)) continue;
        char name[NAME_SIZE], where[WHERE_SIZE];
        option_environment_name(row, name, sizeof name);
        const char *value = find_variable(environment, name);
        if (!value || !*value) continue;
        snprintf(where, sizeof where, "environment variable %s", name);
        RETURN_IF_ERROR(option_set(options, row, value, where, error));
        *source_of(options, row) = OPTION_FROM_ENVIRONMENT;
    }
    return STATUS_OK;
}

/* --- JSON ------------------------------------------------------------------------------------------------------------
 */

typedef struct JsonSource {
    const char *file;
    OptionSource source;
    bool everything; /* false: only what shapes the soma */
} JsonSource;

static Status read_json_value(Options *options, const JsonSource *from, const char *name, const json_t *value,
                              Error *error)
{
    const OptionRow *row = option_find(name, options->command);
    if (!row && option_find(name, ~0u)) return STATUS_OK; /* of another command: one file may serve several */
    if (!row || from->source < row->weakest) {
        const char *nearest = row ? NULL : option_nearest(name, ~0u);
        if (!nearest) return error_set(error, STATUS_INVALID_ARGUMENT, "%s: unknown key '%s'", from->file, name);
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s: unknown key '%s'; did you mean '%s'?", from->file, name,
                         nearest);
    }
    bool wanted = from->source != OPTION_FROM_RUN_FOLDER || row->rule == OPTION_KEEP_SOMA ||
                  (from->everything && row->rule == OPTION_KEEP_RUN);
    if (!wanted || is_outranked(options, row, from->source)) return STATUS_OK;
    char where[WHERE_SIZE];
    snprintf(where, sizeof where, "%.150s: %s", from->file, name);
    RETURN_IF_ERROR(option_set_json(options, row, value, where, error));
    *source_of(options, row) = (unsigned char)from->source;
    return STATUS_OK;
}

/* Every value in `object`, under its dotted name; `prefix` is "" or ends with a dot. */
static Status read_json_object(Options *options, const JsonSource *from, const char *prefix, const json_t *object,
                               Error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        char name[NAME_SIZE];
        if (!*prefix && strcmp(key, "neuron") == 0 && json_is_string(value)) continue; /* a run folder's mark */
        bool nested = json_is_object(value);
        int length = snprintf(name, sizeof name, "%s%s%s", prefix, key, nested ? "." : "");
        if (length < 0 || (size_t)length >= sizeof name)
            return error_set(error, STATUS_INVALID_ARGUMENT, "%s: unknown key '%s%.40s...'", from->file, prefix, key);
        RETURN_IF_ERROR(nested ? read_json_object(options, from, name, value, error)
                               : read_json_value(options, from, name, value, error));
    }
    return STATUS_OK;
}

Status options_from_json(Options *options, const json_t *json, const char *where, bool everything, Error *error)
{
    JsonSource from = {.file = where, .source = OPTION_FROM_RUN_FOLDER, .everything = everything};
    return read_json_object(options, &from, "", json, error);
}

/* A new reference to the object in the file. */
static Status load_json_file(const char *path, json_t **out, Error *error)
{
    char *data = NULL;
    size_t size = 0;
    json_error_t problem;
    RETURN_IF_ERROR(file_read(path, CONFIG_LIMIT, &data, &size, error));
    json_t *json = json_loadb(data, size, JSON_REJECT_DUPLICATES, &problem);
    free(data);
    if (!json)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s isn't JSON: line %d, column %d: %s", path, problem.line,
                         problem.column, problem.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s is no JSON object, expected one with options by name",
                         path);
    }
    *out = json;
    return STATUS_OK;
}

static Status read_config(Options *options, Error *error)
{
    json_t *json = NULL;
    JsonSource from = {.file = options->config, .source = OPTION_FROM_CONFIG, .everything = true};
    if (!options->config) return STATUS_OK;
    if (load_json_file(options->config, &json, error) != STATUS_OK) {
        error_prefix(error, "option config");
        return STATUS_INVALID_ARGUMENT; /* whatever it was: the option names a file that is no configuration */
    }
    Status status = read_json_object(options, &from, "", json, error);
    json_decref(json);
    return status;
}

json_t *options_to_json(const Options *options)
{
    json_t *root = json_pack("{s:s}", "neuron", NEURON_VERSION);
    for (size_t i = 0; root && i < option_table_length; i++) {
        const OptionRow *row = &option_table[i];
        bool has_value = row->initial || options->sources[i] != OPTION_FROM_DEFAULT;
        if (!(row->commands & options->command) || row->rule == OPTION_FORGET || !has_value) continue;
        json_t *object = root;
        const char *dot = strchr(row->name, '.');
        if (dot) {
            object = json_object_getn(root, row->name, (size_t)(dot - row->name));
            if (!object) {
                object = json_object();
                json_object_setn_new(root, row->name, (size_t)(dot - row->name), object);
            }
        }
        if (json_object_set_new(object, dot ? dot + 1 : row->name, option_get_json(options, row)) != 0) {
            json_decref(root);
            root = NULL;
        }
    }
    return root;
}

/* --- the whole -------------------------------------------------------------------------------------------------------
 */

Status options_parse(Options *out, CommandSet command, int argc, char *const *argv, char *const *environment,
                     Error *error)
{
    *out = (Options){.command = command};
    Status status = set_defaults(out, error);
    if (status == STATUS_OK) status = read_flags(out, argc, argv, error);
    bool ready = status != STATUS_OK || out->help || out->version;
    if (!ready) status = read_environment(out, environment, error);
    if (!ready && status == STATUS_OK) status = read_config(out, error);
    if (status != STATUS_OK) out->json = out->json || asks_for_json(argc, argv);
    return status;
}

/* What is wrong with a file that the program wrote isn't the user's mistake. */
static Status damaged_run_folder(Error *error)
{
    error_prefix(error, "damaged run folder");
    if (error) error->status = STATUS_DATA_LOSS;
    return STATUS_DATA_LOSS;
}

Status options_read_run_folder(Options *options, Error *error)
{
    char path[4096];
    json_t *json = NULL;
    const char *folder = options->resume ? options->out : options->load;
    if (options->resume && !folder)
        return error_set(error, STATUS_INVALID_ARGUMENT, "--resume continues the run in --out, which isn't given");
    if (!folder) return STATUS_OK;
    RETURN_IF_ERROR(file_join(path, sizeof path, folder, "config.json", error));
    if (!file_exists(path)) return STATUS_OK; /* no run folder, or an empty one: what reads the weights will tell */
    Status status = load_json_file(path, &json, error);
    if (status == STATUS_INVALID_ARGUMENT) return damaged_run_folder(error);
    if (status != STATUS_OK) return status;
    if (!json_is_string(json_object_get(json, "neuron")))
        status = !options->resume ? STATUS_OK
                                  : error_set(error, STATUS_DATA_LOSS,
                                              "%s has no key 'neuron', expected the configuration of a run", path);
    else
        status = options_from_json(options, json, path, options->resume, error);
    json_decref(json);
    return status == STATUS_INVALID_ARGUMENT ? damaged_run_folder(error) : status;
}
