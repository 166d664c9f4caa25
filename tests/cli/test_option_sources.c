#include "cli/options.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/parsing.h"
#include "support/folder.h"
#include "support/suite.h"

/* A folder with one file config.json of this text; its path goes to `path`. */
static Folder write_config(const char *text, char path[FOLDER_PATH_SIZE])
{
    Folder folder = folder_make();
    folder_write(&folder, "config.json", text, strlen(text));
    folder_path(&folder, "config.json", path);
    return folder;
}

static Status parse_config(Options *options, const char *text, Error *error)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 16];
    Folder folder = write_config(text, path);
    snprintf(flags, sizeof flags, "--config %s", path);
    Status status = parse_flags(options, COMMAND_TRAIN, flags, NULL, error);
    folder_remove(&folder);
    return status;
}

/* `part` must be in the sentence, and so must the file's name. */
static void check_config_refused(const char *text, const char *part)
{
    Options options;
    Error error = {0};
    ck_assert_int_eq(parse_config(&options, text, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, part) && strstr(error.message, "config.json"), "%s", error.message);
    options_free(&options);
}

/* --- sources ---------------------------------------------------------------------------------------------------------
 */

START_TEST(test_flag_over_environment_over_file_over_default)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 32];
    char *environment[] = {"NEURON_LR=0.2", "NEURON_BATCH=2", NULL};
    Folder folder = write_config("{\"lr\": 0.1, \"batch\": 1, \"epochs\": 4}", path);
    Options options;
    snprintf(flags, sizeof flags, "--config %s --lr 0.3", path);
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, flags, environment, NULL), STATUS_OK);
    ck_assert(options.lr == 0.3 && options.momentum == 0.9);
    ck_assert_int_eq(options.batch, 2);
    ck_assert_int_eq(options.epochs, 4);
    ck_assert_int_eq(options_source(&options, "lr"), OPTION_FROM_FLAG);
    ck_assert_int_eq(options_source(&options, "batch"), OPTION_FROM_ENVIRONMENT);
    ck_assert_int_eq(options_source(&options, "epochs"), OPTION_FROM_CONFIG);
    ck_assert_int_eq(options_source(&options, "momentum"), OPTION_FROM_DEFAULT);
    options_free(&options);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_environment)
{
    char path[FOLDER_PATH_SIZE], variable[FOLDER_PATH_SIZE + 16];
    Folder folder = write_config("{\"epochs\": 4}", path);
    snprintf(variable, sizeof variable, "NEURON_CONFIG=%s", path);
    char *environment[] = {"NEURON_DATA=/d",
                           "NEURON_WEIGHT_DECAY=0.5",
                           "NEURON_DISTILL_TARGETS=false",
                           variable,
                           "NEURON_LOAD=",
                           "NEURON_JSON=1",
                           NULL};
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "", environment, NULL), STATUS_OK);
    ck_assert_str_eq(options.data, "/d");
    ck_assert(options.weight_decay == 0.5 && !options.distill_targets && options.json);
    ck_assert_int_eq(options.epochs, 4);
    ck_assert_ptr_null(options.load);
    options_free(&options);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_stray_variables_are_left_alone)
{
    char *environment[] = {"NEURON_FAILPOINTS=file.write=ENOSPC",
                           "NEURON_VERSION=3",
                           "NEURON_HELP=1",
                           "NEURON_=1",
                           "NEURON_SANITIZE=thread",
                           "NEURON_LISTEN=nonsense of another command",
                           "NEURON_LRX=x",
                           NULL};
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "", environment, NULL), STATUS_OK);
    ck_assert(!options.help && !options.version);
    options_free(&options);
}
END_TEST

START_TEST(test_bad_variable_is_named)
{
    char *environment[] = {"NEURON_STEP_SIZE=0", NULL};
    Options options;
    Error error = {0};
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "", environment, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "option step-size is '0' (environment variable NEURON_STEP_SIZE), expected an "
                                    "integer of at least 1 and at most 1000000000");
    options_free(&options);
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "--step-size 3", environment, NULL), STATUS_OK);
    options_free(&options);
}
END_TEST

START_TEST(test_config_nests_and_lists)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 16];
    Folder folder = write_config("{\"neuron\": \"0.1.0\", \"distill\": {\"detach\": true}, \"distill.targets\": false,"
                                 " \"peers\": [\"a:1\", \"b:2/k\"], \"deadline\": \"20ms\", \"lr\": 1, \"repeat\": 5}",
                                 path);
    Options options;
    snprintf(flags, sizeof flags, "--config=%s", path);
    ck_assert_int_eq(parse_flags(&options, COMMAND_RUN, flags, NULL, NULL), STATUS_OK);
    ck_assert(options.distill_detach && !options.distill_targets && options.lr == 1);
    ck_assert_str_eq(options.peers, "a:1,b:2/k");
    ck_assert_uint_eq(options.deadline, 20000000);
    options_free(&options);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_bad_configuration)
{
    check_config_refused("{\"epoch\": 3}", "unknown key 'epoch'; did you mean 'epochs'?");
    check_config_refused("{\"distill\": {\"detached\": true}}",
                         "unknown key 'distill.detached'; did you mean 'distill.detach'?");
    check_config_refused("{\"config\": \"x\"}", "unknown key 'config'");
    check_config_refused("{\"lr\": \"0.1\"}", ": lr), expected a number of at least 0");
    check_config_refused("{\"batch\": 1.5}", "option batch is '1.5' (");
    check_config_refused("{\"batch\": 64.0}", "option batch is '64.0' (");
    check_config_refused("{\"resume\": 1}", "expected true or false");
    check_config_refused("{\"lr\": {\"x\": 1}}", "unknown key 'lr.x'");
    check_config_refused("{\"lr\": null}", "option lr is 'null' (");
    check_config_refused("{\"lr\": 1, \"lr\": 2}", "isn't JSON");
    check_config_refused("{\"lr\": 1,", "isn't JSON: line 1, column");
    check_config_refused("", "isn't JSON");
    check_config_refused("[1]", "no JSON object");
}
END_TEST

START_TEST(test_config_of_deep_nesting)
{
    char text[4000] = "";
    for (int i = 0; i < 600; i++)
        strcat(text, "{\"a\":");
    strcat(text, "1");
    for (int i = 0; i < 600; i++)
        strcat(text, "}");
    check_config_refused(text, "unknown key 'a.a.a.");
}
END_TEST

START_TEST(test_missing_config_is_a_usage_error)
{
    Options options;
    Error error = {0};
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "--config /nowhere/x.json", NULL, &error),
                     STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/x.json"));
    options_free(&options);
}
END_TEST

/* --- run folders -----------------------------------------------------------------------------------------------------
 */

static const char RUN[] =
    "--steps 77 --lr 0.123456789012345 --weight-decay 1e-7 --train-range 5:9 --distill.detach true "
    "--peers a:1,[::1]:2/k --deadline 1500us --synapse-key x --seed 9007199254740991";

/* Writes what `flags` give as the run folder's configuration. */
static Folder save_run(const char *flags, char path[FOLDER_PATH_SIZE])
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_RUN, flags, NULL, NULL), STATUS_OK);
    json_t *json = options_to_json(&options);
    char *text = json_dumps(json, 0);
    Folder folder = write_config(text, path);
    free(text);
    json_decref(json);
    options_free(&options);
    return folder;
}

START_TEST(test_json_round_trip)
{
    Options first, second;
    Error error = {0};
    ck_assert_int_eq(parse_flags(&first, COMMAND_RUN, RUN, NULL, NULL), STATUS_OK);
    ck_assert_int_eq(parse_flags(&second, COMMAND_RUN, "", NULL, NULL), STATUS_OK);
    json_t *json = options_to_json(&first);
    char *text = json_dumps(json, 0);
    json_t *read = json_loads(text, 0, NULL);
    ck_assert_msg(options_from_json(&second, read, "x", true, &error) == STATUS_OK, "%s", error.message);
    json_t *again = options_to_json(&second);
    ck_assert(json_equal(json, again));
    ck_assert(second.lr == 0.123456789012345 && second.weight_decay == 1e-7 && second.distill_detach);
    ck_assert_int_eq(second.steps, 77);
    ck_assert_int_eq(second.seed, 9007199254740991);
    ck_assert_int_eq(second.train_range.end, 9);
    ck_assert_uint_eq(second.deadline, 1500000);
    ck_assert_str_eq(second.peers, first.peers);
    ck_assert(json_is_true(json_object_get(json_object_get(json, "distill"), "detach")));
    ck_assert_ptr_null(json_object_get(json, "unlabelled"));
    ck_assert_ptr_null(json_object_get(json, "json"));
    json_decref(json);
    json_decref(read);
    json_decref(again);
    free(text);
    options_free(&first);
    options_free(&second);
}
END_TEST

START_TEST(test_resume_takes_all_but_what_is_said_now)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 64];
    Folder folder = save_run("--lr 0.5 --momentum 0.25 --steps 8", path);
    Options options;
    char *environment[] = {"NEURON_MOMENTUM=0.75", NULL};
    snprintf(flags, sizeof flags, "--out %s --resume --steps 9", folder.path);
    ck_assert_int_eq(parse_flags(&options, COMMAND_RUN, flags, environment, NULL), STATUS_OK);
    ck_assert_int_eq(options_read_run_folder(&options, NULL), STATUS_OK);
    ck_assert(options.lr == 0.5 && options.momentum == 0.75);
    ck_assert_int_eq(options.steps, 9);
    ck_assert_int_eq(options_source(&options, "lr"), OPTION_FROM_RUN_FOLDER);
    options_free(&options);
    folder_remove(&folder);
}
END_TEST

START_TEST(test_load_takes_the_soma_only)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 16];
    Folder folder = save_run("--lr 0.5", path);
    Options options;
    snprintf(flags, sizeof flags, "--load %s", folder.path);
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, flags, NULL, NULL), STATUS_OK);
    ck_assert_int_eq(options_read_run_folder(&options, NULL), STATUS_OK);
    ck_assert(options.lr == 0.02);
    ck_assert_int_eq(options_source(&options, "soma"), OPTION_FROM_RUN_FOLDER);
    options_free(&options);
    folder_remove(&folder);
}
END_TEST

/* What options_read_run_folder says to a folder with this configuration, loaded or resumed. */
static Status read_folder(const char *text, bool resume, Error *error)
{
    char path[FOLDER_PATH_SIZE], flags[FOLDER_PATH_SIZE + 32];
    Folder folder = write_config(text, path);
    Options options;
    snprintf(flags, sizeof flags, "%s %s", resume ? "--resume --out" : "--load", folder.path);
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, flags, NULL, NULL), STATUS_OK);
    Status status = options_read_run_folder(&options, error);
    options_free(&options);
    folder_remove(&folder);
    return status;
}

START_TEST(test_damaged_run_folders)
{
    Error error = {0};
    ck_assert_int_eq(read_folder("{\"neuron\":\"0.1.0\",\"lr\":", true, &error), STATUS_DATA_LOSS);
    ck_assert_ptr_nonnull(strstr(error.message, "config.json"));
    ck_assert_int_eq(read_folder("{\"neuron\":\"0.1.0\",\"lr\":-3}", true, &error), STATUS_DATA_LOSS);
    ck_assert_ptr_nonnull(strstr(error.message, "option lr is '-3'"));
    ck_assert_int_eq(read_folder("{\"lr\":0.1}", true, &error), STATUS_DATA_LOSS);
    ck_assert_int_eq(read_folder("{\"neuron\":\"0.1.0\",\"soma\":\"cat\"}", false, &error), STATUS_DATA_LOSS);
}
END_TEST

START_TEST(test_folders_of_others_can_be_loaded)
{
    ck_assert_int_eq(read_folder("{\"model_type\":\"bert\",\"hidden_size\":384}", false, NULL), STATUS_OK);
}
END_TEST

START_TEST(test_resume_needs_out)
{
    Options options;
    Error error = {0};
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "--resume", NULL, NULL), STATUS_OK);
    ck_assert_int_eq(options_read_run_folder(&options, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "--out"));
    options_free(&options);
}
END_TEST

SUITE_MAIN("option_sources", test_flag_over_environment_over_file_over_default, test_environment,
           test_stray_variables_are_left_alone, test_bad_variable_is_named, test_config_nests_and_lists,
           test_bad_configuration, test_config_of_deep_nesting, test_missing_config_is_a_usage_error,
           test_json_round_trip, test_resume_takes_all_but_what_is_said_now, test_load_takes_the_soma_only,
           test_damaged_run_folders, test_folders_of_others_can_be_loaded, test_resume_needs_out)
