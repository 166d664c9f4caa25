#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/key_file.h"

/* The old file moves aside, and back if the new one can't be written. */
static Status replace_key(const Identity *identity, const char *path, Error *error)
{
    char old[PATH_MAX + 8];
    snprintf(old, sizeof old, "%s.old", path);
    if (rename(path, old) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "can't move the key file %s to %s", path, old);
    Status status = key_file_save(identity, path, error);
    if (status != STATUS_OK && !file_exists(path)) (void)rename(old, path);
    return status;
}

static Status new_key(const Options *options, const char *path, Identity *out, Error *error)
{
    RETURN_IF_ERROR(identity_create(out, error));
    if (options->force) return replace_key(out, path, error);
    Status status = key_file_save(out, path, error);
    if (status == STATUS_ALREADY_EXISTS)
        error_set(error, status, "there is a key in %s already, expected --force or another --key FILE", path);
    return status;
}

static Status show_key(const Options *options, const char *path, const Identity *identity, Output *output, Error *error)
{
    char synapse_key[KEY_TEXT_SIZE];
    RETURN_IF_ERROR(identity_synapse_key(identity, options->soma, synapse_key, error));
    Event event = event_make("key");
    event_text(&event, "path", path);
    event_text(&event, "neuron_key", identity->text);
    event_text(&event, "soma", options->soma);
    event_text(&event, "synapse_key", synapse_key);
    output_event(output, &event);
    if (options->json) return STATUS_OK;

    Text text = {0};
    text_append(&text, "file         %s\nneuron key   %s\nsynapse key  %s (%s)\n", path, identity->text, synapse_key,
                options->soma);
    if (text.data) output_result(output, text.data);
    text_free(&text);
    return STATUS_OK;
}

static int run(const Options *options, Output *output)
{
    static const char *const actions[] = {"new", "show"};
    const char *action = options->operands[0];
    bool make = strcmp(action, "new") == 0;
    char path[PATH_MAX];
    Identity identity;
    Error error = {0};
    Status status;

    if (!make && strcmp(action, "show") != 0) return command_unknown_word(output, "action", action, actions, 2);
    GOTO_IF_ERROR(key_file_path(options, path, sizeof path, &error), done);
    GOTO_IF_ERROR(make ? new_key(options, path, &identity, &error) : identity_load(path, &identity, &error), done);
    GOTO_IF_ERROR(show_key(options, path, &identity, output, &error), done);
done:
    if (status == STATUS_OK) return EXIT_DONE;
    output_error(output, "%s", error.message);
    return EXIT_FAILED;
}

const Command command_key = {
    .name = "key",
    .set = COMMAND_KEY,
    .summary = "make or show this neuron's identity",
    .operands = "new | show",
    .least_operands = 1,
    .most_operands = 1,
    .description = "A neuron's identity is an ed25519 key pair; the public half is its name in the network.\n"
                   "\n"
                   "new   makes a key pair and saves it; a key that is there is never replaced without --force\n"
                   "show  prints the public key, and the synapse key that callers of the soma name\n"
                   "\n"
                   "A neuron that finds no key file makes one, so 'key new' is for those who want to know the key\n"
                   "before.\n",
    .files = "$XDG_CONFIG_HOME/neuron/key, else ~/.config/neuron/key\n"
             "    The secret key, readable by its owner only.\n",
    .examples = "neuron key new --key b.key\n"
                "neuron key show --key b.key --json\n",
    .run = run,
};
