#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "cli/parsing.h"
#include "support/suite.h"

static void check_refused(CommandSet command, const char *flags, const char *sentence)
{
    Options options;
    Error error = {0};
    ck_assert_int_eq(parse_flags(&options, command, flags, NULL, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, sentence);
    options_free(&options);
}

/* --- values ----------------------------------------------------------------------------------------------------------
 */

START_TEST(test_defaults)
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "", NULL, NULL), STATUS_OK);
    ck_assert_str_eq(options.soma, "mnist");
    ck_assert_str_eq(options.data, "data");
    ck_assert_str_eq(options.schedule, "linear");
    ck_assert_int_eq(options.epochs, 10);
    ck_assert_int_eq(options.batch, 64);
    ck_assert(options.lr == 0.02 && options.momentum == 0.9 && options.weight_decay == 0 && options.dropout == 0.5);
    ck_assert(!options.distill_detach && options.distill_unlabelled && options.distill_targets);
    ck_assert(!options.train_range.set && !options.unlabelled.set && !options.json);
    ck_assert_ptr_null(options.load);
    ck_assert(!options_given(&options, "lr"));
    options_free(&options);
}
END_TEST

START_TEST(test_every_type)
{
    Options options;
    const char *flags = "--lr=1e-3 --batch 7 --schedule cosine --resume --distill.detach true --train-range 100:25100 "
                        "--out a=b --log-every 1";
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, flags, NULL, NULL), STATUS_OK);
    ck_assert(options.lr == 1e-3 && options.resume && options.distill_detach && options.train_range.set);
    ck_assert_int_eq(options.batch, 7);
    ck_assert_int_eq(options.train_range.begin, 100);
    ck_assert_int_eq(options.train_range.end, 25100);
    ck_assert_str_eq(options.schedule, "cosine");
    ck_assert_str_eq(options.out, "a=b");
    ck_assert_int_eq(options_source(&options, "lr"), OPTION_FROM_FLAG);
    options_free(&options);
}
END_TEST

START_TEST(test_batch_of_bench_is_a_list)
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_BENCH, "layers --batch 1,64,256", NULL, NULL), STATUS_OK);
    ck_assert_uint_eq(options.batches.count, 3);
    ck_assert_int_eq(options.batches.items[0], 1);
    ck_assert_int_eq(options.batches.items[2], 256);
    ck_assert_uint_eq(options.operand_count, 1);
    ck_assert_str_eq(options.operands[0], "layers");
    options_free(&options);
}
END_TEST

START_TEST(test_durations)
{
    static const struct {
        const char *text;
        uint64_t nanoseconds;
    } cases[] = {{"500ms", 500000000},  {"3s", 3000000000},  {"1.5s", 1500000000},  {"2m", 120000000000},
                 {"1h", 3600000000000}, {"2500us", 2500000}, {"1000000ns", 1000000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Options options;
        char flags[64];
        snprintf(flags, sizeof flags, "--deadline %s", cases[i].text);
        ck_assert_int_eq(parse_flags(&options, COMMAND_CALL, flags, NULL, NULL), STATUS_OK);
        ck_assert_uint_eq(options.deadline, cases[i].nanoseconds);
        options_free(&options);
    }
}
END_TEST

START_TEST(test_peers_are_kept_as_text)
{
    Options options;
    const char *peers = "localhost:8091,[::1]:8092/0xab,10.0.0.1:1/key";
    char flags[128];
    snprintf(flags, sizeof flags, "--peers %s --listen [::]:0", peers);
    ck_assert_int_eq(parse_flags(&options, COMMAND_RUN, flags, NULL, NULL), STATUS_OK);
    ck_assert_str_eq(options.peers, peers);
    ck_assert_str_eq(options.listen, "[::]:0");
    options_free(&options);
}
END_TEST

START_TEST(test_operands_between_and_after_options)
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_CALL, "a:1 --json - -- --lr", NULL, NULL), STATUS_OK);
    ck_assert_uint_eq(options.operand_count, 3);
    ck_assert_str_eq(options.operands[0], "a:1");
    ck_assert_str_eq(options.operands[1], "-");
    ck_assert_str_eq(options.operands[2], "--lr");
    ck_assert(options.json);
    options_free(&options);
}
END_TEST

START_TEST(test_later_flag_wins)
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "--lr 1 --json --lr 2 --json=false", NULL, NULL), STATUS_OK);
    ck_assert(options.lr == 2 && !options.json);
    options_free(&options);
}
END_TEST

START_TEST(test_help_ends_parsing)
{
    Options options;
    ck_assert_int_eq(parse_flags(&options, COMMAND_TRAIN, "-h --no-such", NULL, NULL), STATUS_OK);
    ck_assert(options.help);
    options_free(&options);
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------------------------------
 */

START_TEST(test_bad_values_say_what_is_expected)
{
    check_refused(COMMAND_TRAIN, "--lr abc", "option lr is 'abc' (flag --lr), expected a number of at least 0");
    check_refused(COMMAND_TRAIN, "--lr -1", "option lr is '-1' (flag --lr), expected a number of at least 0");
    check_refused(COMMAND_TRAIN, "--dropout 1",
                  "option dropout is '1' (flag --dropout), expected a number of at least 0 and below 1");
    check_refused(COMMAND_TRAIN, "--batch 0",
                  "option batch is '0' (flag --batch), expected an integer of at least 1 and at most 65536");
    check_refused(COMMAND_TRAIN, "--schedule stp",
                  "option schedule is 'stp' (flag --schedule), expected constant, step, linear or cosine");
    check_refused(COMMAND_TRAIN, "--distill.detach maybe",
                  "option distill.detach is 'maybe' (flag --distill.detach), expected true or false");
    check_refused(COMMAND_TRAIN, "--train-range 5:5",
                  "option train-range is '5:5' (flag --train-range), expected a range A:B with 0 <= A < B");
    check_refused(COMMAND_CALL, "--deadline 3",
                  "option deadline is '3' (flag --deadline), expected a duration such as 500ms, 3s or 2m of at least "
                  "0.001s and at most 86400s");
    check_refused(COMMAND_BENCH, "--batch 1,x",
                  "option batch is '1,x' (flag --batch), expected integers of at least 1 and at most 65536, separated "
                  "by commas");
}
END_TEST

START_TEST(test_values_that_are_nearly_right)
{
    static const char *const flags[] = {
        "--lr nan",
        "--lr inf",
        "--lr 1x",
        "--lr 0x10",
        "--lr 1e999",
        "--batch 1.5",
        "--batch +1",
        "--batch 1e3",
        "--batch 99999999999999999999",
        "--train-range 1",
        "--train-range :2",
        "--train-range 1:",
        "--train-range -1:2",
        "--train-range 3:2",
        "--train-range 1:2:3",
        "--schedule step|linear",
        "--schedule=",
        "--json=maybe",
        "--deadline -1s",
        "--deadline 1sec",
        "--deadline 0s",
        "--deadline 1e300h",
        "--peers localhost",
        "--peers a:0",
        "--peers a:65536",
        "--peers a:1,,b:2",
        "--peers ::1:80",
        "--listen localhost",
        "--listen a:-1",
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        Options options;
        Error error = {0};
        ck_assert_msg(parse_flags(&options, COMMAND_RUN, flags[i], NULL, &error) == STATUS_INVALID_ARGUMENT, "%s",
                      flags[i]);
        ck_assert_msg(strstr(error.message, "option ") == error.message, "%s: %s", flags[i], error.message);
        options_free(&options);
    }
}
END_TEST

START_TEST(test_unknown_devices)
{
    check_refused(
        COMMAND_TRAIN, "--device tpu",
        "option device is 'tpu' (flag --device): device 'tpu' is unknown, expected one of auto, cpu, reference, cuda, "
        "sim");
}
END_TEST

START_TEST(test_forgotten_values)
{
    check_refused(COMMAND_TRAIN, "--lr", "option lr has no value (flag --lr), expected a number of at least 0");
    check_refused(COMMAND_TRAIN, "--load --json", "option load has no value (flag --load), expected a text");
}
END_TEST

START_TEST(test_unknown_options)
{
    check_refused(COMMAND_TRAIN, "--epoch 3", "unknown option --epoch; did you mean --epochs?");
    check_refused(COMMAND_TRAIN, "--wieght-decay=3", "unknown option --wieght-decay; did you mean --weight-decay?");
    check_refused(COMMAND_TRAIN, "--zzzzzzzz", "unknown option --zzzzzzzz");
    check_refused(COMMAND_SERVE, "--epochs 3", "--epochs is an option of run and train, not of serve");
    check_refused(COMMAND_TRAIN, "-x", "unknown option '-x', expected a long one, as in --lr 0.1, or -h");
}
END_TEST

START_TEST(test_json_is_known_after_a_refusal)
{
    Options options;
    ck_assert_int_ne(parse_flags(&options, COMMAND_TRAIN, "--lr x --json", NULL, NULL), STATUS_OK);
    ck_assert(options.json);
    options_free(&options);
}
END_TEST

SUITE_MAIN("options", test_defaults, test_every_type, test_batch_of_bench_is_a_list, test_durations,
           test_peers_are_kept_as_text, test_operands_between_and_after_options, test_later_flag_wins,
           test_help_ends_parsing, test_bad_values_say_what_is_expected, test_values_that_are_nearly_right,
           test_unknown_devices, test_forgotten_values, test_unknown_options, test_json_is_known_after_a_refusal)
