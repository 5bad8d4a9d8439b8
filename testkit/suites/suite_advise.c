/* Guards advice on tiers: a model that is moved to where it costs more, a pinned or listed one that
 * is given up, a guess where nothing is known, a price that nobody stated. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/advise.h"
#include "testkit/suites/cache_fixture.h"

#define NOW_S 1800000000ll

static const struct advise_prices round_prices = {.hot_gb_month = 1,
                                                  .warm_gb_month = 1,
                                                  .cold_gb_month = 0.1,
                                                  .source_gb = 0.5,
                                                  .cold_gb = 0.2,
                                                  .request = 0.01,
                                                  .cpu_second = 0.001};

/* ---- one blob ---- */

#define NONE (-1.0)
/* 10 GB, counted for 30 days, so that use_hours is the use per month; costs by hand. */
static const struct judge_case {
    const char *what, *source;
    uint64_t use_hours, warm_bytes;
    enum advise_tier now;
    bool has_far;
    double cost[ADVISE_TIERS];
    enum advise_tier best;
    const char *command;
} judge_cases[] = {
    {"used every hour: hot, whatever a transfer costs",
     "https://x/m",
     720,
     6000000000u,
     ADVISE_HOT,
     false,
     {10, 20.08, 1 + 10 + 1447.2, 10 + 3607.2},
     ADVISE_HOT,
     ""},
    {"used every hour, compressed: expanding costs more than space",
     "https://x/m",
     720,
     0,
     ADVISE_WARM,
     false,
     {10, 20.08, 1458.2, 3617.2},
     ADVISE_HOT,
     "bnt path m"},
    {"never used: the source keeps it for nothing",
     "https://x/m",
     0,
     6000000000u,
     ADVISE_HOT,
     false,
     {10, 6, 1, 0},
     ADVISE_SOURCE,
     "bnt cache rm m"},
    {"never used, and no source: far away",
     "",
     0,
     6000000000u,
     ADVISE_HOT,
     false,
     {10, 6, 1, NONE},
     ADVISE_COLD,
     "bnt cache push --move m"},
    {"used twice a day: compressed",
     "",
     60,
     6000000000u,
     ADVISE_HOT,
     false,
     {10, 6 * 11 / 12. + 10 / 12. + 0.84, 1 + 10 / 12. + 120.6, NONE},
     ADVISE_WARM,
     "bnt cache demote m"},
    {"never compressed: what warm costs is not known",
     "",
     60,
     0,
     ADVISE_HOT,
     false,
     {10, NONE, 1 + 10 / 12. + 120.6, NONE},
     ADVISE_HOT,
     ""},
    {"compressed once, without gain",
     "",
     60,
     9900000000u,
     ADVISE_HOT,
     false,
     {10, NONE, 1 + 10 / 12. + 120.6, NONE},
     ADVISE_HOT,
     ""},
    {"a far copy costs in every tier",
     "",
     0,
     0,
     ADVISE_HOT,
     true,
     {11, NONE, 1, NONE},
     ADVISE_COLD,
     "bnt cache push --move m"},
    {"far away, and used twice a day",
     "",
     60,
     6000000000u,
     ADVISE_COLD,
     true,
     {11, 1 + 6 * 11 / 12. + 10 / 12. + 0.84, 1 + 10 / 12. + 120.6, NONE},
     ADVISE_WARM,
     "bnt cache pull m && bnt cache demote m"},
    {"far away, and used all the time",
     "",
     720,
     0,
     ADVISE_COLD,
     true,
     {11, NONE, 1458.2, NONE},
     ADVISE_HOT,
     "bnt cache pull m"},
    {"a file of this machine comes for nothing",
     "file:///m",
     72,
     0,
     ADVISE_HOT,
     false,
     {10, NONE, 1 + 1 + 144.72, 1},
     ADVISE_SOURCE,
     "bnt cache rm m"},
};

static struct advise_row row_of(const struct judge_case *c)
{
    struct advise_row row = {.n_names = 1,
                             .has_far = c->has_far,
                             .now = c->now,
                             .stored = c->now == ADVISE_WARM ? 6000000000u : 10000000000u};
    row.entry.size = 10000000000u;
    row.entry.used_s = NOW_S;
    row.entry.counts.since_s = NOW_S - ADVISE_MONTH_S;
    row.entry.counts.use_hours = c->use_hours;
    row.entry.counts.warm_bytes = c->warm_bytes;
    snprintf(row.entry.name, sizeof row.entry.name, "m");
    snprintf(row.entry.source, sizeof row.entry.source, "%s", c->source);
    return row;
}

static void costs_are_those_of_the_formula_and_the_cheapest_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof judge_cases / sizeof judge_cases[0]; i++) {
        const struct judge_case *c = &judge_cases[i];
        char command[ADVISE_COMMAND_MAX];
        struct advise_row row = row_of(c);
        advise_judge(&row, &round_prices, NOW_S);
        for (int t = 0; t < ADVISE_TIERS; t++) {
            if (fabs(row.cost[t] - c->cost[t]) > 1e-9) {
                fail_msg("%s: %s costs %f, not %f", c->what, advise_tier_words((enum advise_tier)t),
                         row.cost[t], c->cost[t]);
            }
        }
        advise_command(&row, command);
        if (row.best != c->best || strcmp(command, c->command) != 0) {
            fail_msg("%s: %s: %s", c->what, advise_tier_words(row.best), command);
        }
    }
}

static void what_must_stay_and_what_is_young_is_not_moved(void **state)
{
    (void)state;
    static const enum advise_verdict stay[] = {ADVISE_PINNED, ADVISE_LEASED, ADVISE_LISTED,
                                               ADVISE_GONE};
    char command[ADVISE_COMMAND_MAX];
    struct advise_row row;
    for (size_t i = 0; i < sizeof stay / sizeof stay[0]; i++) {
        row = row_of(&judge_cases[2]);
        row.verdict = stay[i];
        advise_judge(&row, &round_prices, NOW_S);
        advise_command(&row, command);
        assert_int_equal(row.verdict, stay[i]);
        assert_int_equal(row.best, ADVISE_HOT);
        assert_string_equal(command, "");
    }
    row = row_of(&judge_cases[2]);
    row.entry.counts.since_s = NOW_S - ADVISE_MIN_S + 1;
    advise_judge(&row, &round_prices, NOW_S);
    assert_int_equal(row.verdict, ADVISE_YOUNG);
    assert_true(row.cost[ADVISE_HOT] < 0);
    row.entry.counts.since_s--;
    advise_judge(&row, &round_prices, NOW_S);
    assert_int_equal(row.verdict, ADVISE_MOVE);
}

static void content_of_several_names_is_removed_by_digest(void **state)
{
    (void)state;
    char command[ADVISE_COMMAND_MAX];
    struct advise_row row = row_of(&judge_cases[2]);
    row.n_names = 2;
    memset(row.entry.digest, 'a', BNT_SHA256_HEX - 1);
    advise_judge(&row, &round_prices, NOW_S);
    advise_command(&row, command);
    assert_string_equal(command, "bnt cache rm aaaaaaaaaaaaaaaa");
}

/* Advice that `bnt cache demote` would answer with "compression saves too little" is none. */
static void what_was_compressed_in_vain_is_not_to_be_compressed(void **state)
{
    (void)state;
    for (size_t i = 5; i < 7; i++) {
        char command[ADVISE_COMMAND_MAX];
        struct advise_row row = row_of(&judge_cases[i]);
        row.entry.used_s = NOW_S - ADVISE_MIN_S;
        advise_judge(&row, NULL, NOW_S);
        assert_int_equal(row.verdict, ADVISE_IDLE);
        advise_command(&row, command);
        assert_string_equal(command, row.entry.counts.warm_bytes ? "bnt cache push --move m"
                                                                 : "bnt cache demote m");
    }
}

/* ---- the cache ---- */

static void use_of_a_cache_over_weeks_decides(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], kept[BNT_SHA256_HEX];
    struct bnt_cache_entry e;
    struct advise_report r;
    bnt_clock_fake((uint64_t)NOW_S * 1000000000u);
    struct bnt_cache *c = fixture_cache();
    fixture_add(c, "busy", "used every day");
    fixture_add(c, "idle", "never used");
    fixture_add(c, "kept", "pinned");
    fixture_digest("pinned", kept);
    assert_int_equal(bnt_cache_pin(c, "kept", true, &e, NULL), BNT_OK);
    for (int day = 0; day < 10; day++) {
        bnt_clock_sleep_ns(24 * 3600 * 1000000000ull);
        assert_int_equal(bnt_cache_lookup(c, "busy", &e, path, NULL), BNT_OK);
    }
    const struct advise_opts o = {.prices = NULL};
    assert_int_equal(advise_report(c, &o, &r, NULL), BNT_OK);
    assert_int_equal(r.n, 3);
    for (size_t i = 0; i < r.n; i++) {
        const struct advise_row *row = &r.at[i];
        bool busy = strcmp(row->entry.name, "busy") == 0;
        assert_int_equal(row->verdict, busy                                   ? ADVISE_USED
                                       : strcmp(row->entry.digest, kept) == 0 ? ADVISE_PINNED
                                                                              : ADVISE_IDLE);
        assert_true(fabs(row->uses - (busy ? 33 : 3)) < 1e-9); /* the addition is a use */
        assert_true(row->cost[ADVISE_HOT] < 0);
    }
    assert_int_equal(r.idle_bytes, strlen("never used"));
    advise_report_release(&r);
    bnt_cache_close(c);
}

/* ---- price files ---- */

#define PRICES_BUT_LAST                                                                            \
    "hot_gb_month: 1\nwarm_gb_month: 1\ncold_gb_month: 0.1\nsource_gb: 0.5\ncold_gb: 2e-1\n"       \
    "request: 0\n"
#define PRICES PRICES_BUT_LAST "cpu_second: 0.001\n"

static void price_files_are_read_or_refused_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; /* NULL: it is fine */
    } cases[] = {
        {PRICES, NULL},
        {PRICES "currency: EUR\n", NULL},
        {"{\"hot_gb_month\": 1, \"warm_gb_month\": 1, \"cold_gb_month\": 0.1, \"source_gb\": 0.5,\n"
         " \"cold_gb\": 0.2, \"request\": 0, \"cpu_second\": 0.001}\n",
         NULL},
        {PRICES_BUT_LAST, "the price cpu_second is absent"},
        {PRICES "hot_gb: 1\n", ":8:1: hot_gb: no such price"},
        {PRICES "hot_gb_month: 1\n", ":8:1: "},
        {PRICES_BUT_LAST "cpu_second: -1\n", ":7:1: cpu_second: must be a number"},
        {PRICES_BUT_LAST "cpu_second: -0\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: nan\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: inf\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: 0x10\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: 1e999\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: 1,5\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second:\n", ":7:1: "},
        {PRICES_BUT_LAST "cpu_second: [1]\n", ":7:1: "},
        {PRICES "currency: \"a\\nb\"\n", ":8:11: a text with a control character"},
        {PRICES "currency: sixteen bytes are\n", ":8:1: currency: must be"},
        {"- 1\n", ":1:1: price file: must be a map"},
        {"", ":1:1: price file: must be a map"},
        {"{\n", "prices.yml:"},
        {"a: &x 1\n", "prices.yml:1:"},
    };
    char path[BNT_PATH_MAX];
    fixture_path(path, "prices.yml");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct advise_prices p;
        struct bnt_err err = {0};
        fixture_write(path, cases[i].text);
        enum bnt_status st = advise_prices_read(path, &p, &err);
        if (st != (cases[i].error ? BNT_E_FILE : BNT_OK) ||
            (cases[i].error && !strstr(err.msg, cases[i].error))) {
            fail_msg("%s: status %d: %s", cases[i].text, (int)st, err.msg);
        }
        assert_true(cases[i].error || (p.cold_gb == 0.2 && p.cpu_second == 0.001));
    }
}

/* ---- the command ---- */

static void run_stats(struct suite_output *o, const char *const *words)
{
    const char *argv[9] = {suite_bnt(), "cache", "stats"};
    for (size_t i = 0; i < 6; i++) {
        argv[i + 3] = words[i];
        if (!words[i]) {
            break;
        }
    }
    suite_run(argv, suite_scratch(), 0, o);
}
#define STATS(o, ...) run_stats((o), (const char *const[]){__VA_ARGS__, NULL})

static void command_says_what_to_run_and_what_it_saves(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], expected[512];
    struct suite_output o;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "old", "bytes of a model");
    bnt_cache_close(c);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(path, "c"), 1), 0);
    /* As if it were 2 GB that nobody used in the 40 days since it came. */
    snprintf(expected, sizeof expected,
             "UPDATE blob SET size = 2000000000, since_s = since_s - %d, used_s = used_s - %d,"
             " use_hours = 0",
             40 * 24 * 3600, 40 * 24 * 3600);
    fixture_sql(expected);
    fixture_write(fixture_path(path, "prices.yml"), PRICES "currency: EUR\n");
    STATS(&o, "--advise", "--prices", "prices.yml");
    snprintf(expected, sizeof expected,
             "NAME  SHA256                MB    DAYS  USES/30D  MOVED  TIER          HOT       WARM"
             "       COLD     SOURCE  ADVICE\n"
             "old   %.12s      2000.0    40.0       0.0      1  hot        2.0000          -"
             "     0.2000     0.0000  source: bnt cache rm old\n"
             "a month costs 2.0000 EUR now, 0.0000 after\n",
             e.digest);
    assert_string_equal(o.err, "");
    assert_string_equal(o.out, expected);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
    STATS(&o, "--advise", "--json");
    json_t *report = json_loads(o.out, JSON_REJECT_DUPLICATES, NULL);
    const json_t *row = json_array_get(json_object_get(report, "models"), 0);
    assert_true(json_is_false(json_object_get(report, "prices")));
    assert_true(json_is_null(json_object_get(report, "cost_now")));
    assert_true(json_is_null(json_object_get(json_object_get(row, "cost_per_month"), "hot")));
    assert_string_equal(json_string_value(json_object_get(row, "run")), "bnt cache demote old");
    json_decref(report);
    suite_output_release(&o);
    fixture_write(fixture_path(path, "bnt.lock"), e.digest);
    STATS(&o, "--advise");
    assert_non_null(strstr(o.out, "  lock file\n"));
    assert_non_null(strstr(o.out, "prices are missing"));
    suite_output_release(&o);
}

static void command_refuses_prices_that_are_wrong_or_have_no_use(void **state)
{
    (void)state;
    static const struct {
        const char *words[4], *error;
        int exit;
    } cases[] = {
        {{"--prices", "prices.yml"}, "--advise", BNT_E_USAGE},
        {{"--advise", "--prices", "absent.yml"}, "absent.yml", BNT_E_NOT_FOUND},
        {{"--advise", "--prices", "prices.yml"}, "prices.yml:1:1: gold: no such price", BNT_E_FILE},
    };
    char path[BNT_PATH_MAX];
    fixture_write(fixture_path(path, "prices.yml"), "gold: 1\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        run_stats(&o, cases[i].words);
        if (o.exit != cases[i].exit || !strstr(o.err, cases[i].error) || o.out[0]) {
            fail_msg("case %zu: exit %d: %s%s", i, o.exit, o.out, o.err);
        }
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "advise_costs_are_those_of_the_formula_and_the_cheapest_is_named",
     .body = costs_are_those_of_the_formula_and_the_cheapest_is_named},
    {.name = "advise_what_must_stay_and_what_is_young_is_not_moved",
     .body = what_must_stay_and_what_is_young_is_not_moved},
    {.name = "advise_content_of_several_names_is_removed_by_digest",
     .body = content_of_several_names_is_removed_by_digest},
    {.name = "advise_what_was_compressed_in_vain_is_not_to_be_compressed",
     .body = what_was_compressed_in_vain_is_not_to_be_compressed},
    {.name = "advise_use_of_a_cache_over_weeks_decides", .body = use_of_a_cache_over_weeks_decides},
    {.name = "advise_price_files_are_read_or_refused_with_their_line",
     .body = price_files_are_read_or_refused_with_their_line},
    {.name = "advise_command_says_what_to_run_and_what_it_saves",
     .body = command_says_what_to_run_and_what_it_saves},
    {.name = "advise_command_refuses_prices_that_are_wrong_or_have_no_use",
     .body = command_refuses_prices_that_are_wrong_or_have_no_use},
    {0},
};
const struct suite suite_advise = {"advise", tests, "advise_no_traffic"};
