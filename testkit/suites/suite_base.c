/* Guards the ground that all else stands on: a buffer that grows past its bound, an error whose
 * cause is overwritten, an option that is accepted with the wrong meaning. */
#include "testkit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/msg.h"
#include "base/opt.h"
#include "base/pattern.h"
#include "base/sysinfo.h"

/* ---- buffers ---- */

static void buf_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct bnt_buf b = BNT_BUF(100000);
    assert_string_equal(bnt_buf_view(&b), "");
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(bnt_buf_putc(&b, (char)('a' + i % 26), NULL), BNT_OK);
        assert_int_equal(b.len, i + 1);
        assert_true(b.len < b.cap);
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_int_equal(b.data[4999], 'a' + 4999 % 26);
    assert_int_equal(bnt_buf_append(&b, "x\0y", 3, NULL), BNT_OK);
    assert_memory_equal(b.data + 5000, "x\0y", 4);
    bnt_buf_release(&b);
    assert_null(b.data);
}

static void buf_refuses_past_its_bound_and_keeps_content(void **state)
{
    (void)state;
    struct bnt_buf b = BNT_BUF(8);
    struct bnt_err err = {0};
    assert_int_equal(bnt_buf_puts(&b, "12345678", &err), BNT_OK);
    assert_int_equal(err.status, BNT_OK);
    assert_int_not_equal(bnt_buf_putc(&b, '9', &err), BNT_OK);
    assert_int_not_equal(err.status, BNT_OK);
    assert_int_not_equal(bnt_buf_printf(&b, NULL, "%d", 7), BNT_OK);
    assert_int_not_equal(bnt_buf_reserve(&b, SIZE_MAX, NULL), BNT_OK);
    assert_int_not_equal(bnt_buf_append(&b, "x", SIZE_MAX - 4, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&b), "12345678");
    bnt_buf_release(&b);
}

static void buf_take_hands_over_and_leaves_an_empty_one(void **state)
{
    (void)state;
    struct bnt_buf b = BNT_BUF(64);
    assert_int_equal(bnt_buf_printf(&b, NULL, "%s-%d", "seven", 7), BNT_OK);
    char *text = bnt_buf_take(&b);
    assert_string_equal(text, "seven-7");
    assert_int_equal(b.len, 0);
    assert_int_equal(bnt_buf_puts(&b, "again", NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&b), "again");
    bnt_buf_reset(&b);
    assert_string_equal(bnt_buf_view(&b), "");
    free(text);
    bnt_buf_release(&b);
    char *empty = bnt_buf_take(&b);
    assert_string_equal(empty, "");
    free(empty);
    bnt_buf_release(&b);
}

/* ---- errors ---- */

static void err_keeps_the_first_and_gathers_context(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    assert_int_equal(bnt_err_set(&err, BNT_E_FILE, "bad %s", "magic"), BNT_E_FILE);
    assert_int_equal(bnt_err_set(&err, BNT_E_NETWORK, "a later one"), BNT_E_NETWORK);
    bnt_err_hint(&err, "first hint");
    bnt_err_hint(&err, "second hint");
    assert_int_equal(bnt_err_context(&err, "x.gguf"), BNT_E_FILE);
    assert_int_equal(err.status, BNT_E_FILE);
    assert_string_equal(err.msg, "x.gguf: bad magic");
    assert_string_equal(err.hint, "first hint");
}

static void err_text_is_cut_never_overrun(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    char text[2000];
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    bnt_err_set(&err, BNT_E_FILE, "%s", text);
    bnt_err_hint(&err, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_int_equal(strlen(err.hint), sizeof err.hint - 1);
    bnt_err_context(&err, "front");
    assert_int_equal(strncmp(err.msg, "front: mmm", 10), 0);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    bnt_err_context(&err, "%s", text);
    assert_true(strlen(err.msg) < sizeof err.msg);
}

static void err_converts_errno_once(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum bnt_status status;
    } cases[] = {{ENOENT, BNT_E_NOT_FOUND}, {ENOSPC, BNT_E_NO_SPACE}, {EDQUOT, BNT_E_NO_SPACE},
                 {EFBIG, BNT_E_NO_SPACE},   {ENOMEM, BNT_E_MEMORY},   {EACCES, BNT_E_FAILED}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        errno = cases[i].code;
        assert_int_equal(bnt_err_errno(&err, "%s", "/a/b"), cases[i].status);
        assert_string_equal(err.domain, "errno");
        assert_int_equal(err.foreign, cases[i].code);
        char wanted[200];
        snprintf(wanted, sizeof wanted, "/a/b: %s", strerror(cases[i].code));
        assert_string_equal(err.msg, wanted);
        errno = cases[i].code;
        assert_int_equal(bnt_err_errno(NULL, "x"), cases[i].status);
    }
    assert_string_equal(bnt_status_meaning(BNT_E_NO_TESTS), "no tests selected");
    assert_string_equal(bnt_status_meaning(99), "unknown status");
}

/* What a command says of an error, and its exit code. */
static int say(const struct bnt_err *err, char *text, size_t size)
{
    int ends[2], before = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    (void)dup2(ends[1], STDERR_FILENO);
    int code = (int)bnt_msg_error(err);
    (void)dup2(before, STDERR_FILENO);
    close(before);
    close(ends[1]);
    ssize_t n = read(ends[0], text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    return code;
}

static void err_without_a_message_says_its_meaning(void **state)
{
    (void)state;
    char text[500];
    struct bnt_err err = {.status = BNT_E_NO_SPACE};
    assert_int_equal(say(&err, text, sizeof text), BNT_E_NO_SPACE);
    assert_non_null(strstr(text, bnt_status_meaning(BNT_E_NO_SPACE)));
    assert_non_null(strstr(text, "no reason was given"));
    err = (struct bnt_err){0};
    assert_int_equal(say(&err, text, sizeof text), BNT_E_INTERNAL);
    assert_non_null(strstr(text, bnt_status_meaning(BNT_E_INTERNAL)));
    bnt_err_set(&err, BNT_E_FAILED, "a reason");
    assert_int_equal(say(&err, text, sizeof text), BNT_E_FAILED);
    assert_string_equal(text, "error: a reason\n");
}

/* ---- options ---- */

struct sample {
    bool flag, other;
    const char *model, *mode;
    int64_t count;
    double rate;
    uint64_t limit;
    struct bnt_strs tags;
};

static const struct bnt_opt sample_table[] = {
    {.kind = BNT_OPT_FLAG,
     .short_name = 'f',
     .long_name = "flag",
     .offset = offsetof(struct sample, flag)},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'o',
     .long_name = "other",
     .offset = offsetof(struct sample, other),
     .def = "true"},
    BNT_OPT_HEAD("A heading"),
    {.kind = BNT_OPT_STR,
     .short_name = 'm',
     .long_name = "model",
     .arg = "FILE",
     .offset = offsetof(struct sample, model)},
    {.kind = BNT_OPT_STR,
     .long_name = "mode",
     .offset = offsetof(struct sample, mode),
     .def = "slow",
     .choices = "slow|fast"},
    {.kind = BNT_OPT_INT,
     .short_name = 'n',
     .long_name = "count",
     .arg = "N",
     .offset = offsetof(struct sample, count),
     .def = "32",
     .min = -5,
     .max = 100},
    {.kind = BNT_OPT_FLOAT,
     .long_name = "rate",
     .arg = "X",
     .offset = offsetof(struct sample, rate),
     .max = 1},
    {.kind = BNT_OPT_SIZE,
     .long_name = "limit",
     .arg = "BYTES",
     .offset = offsetof(struct sample, limit)},
    {.kind = BNT_OPT_LIST,
     .long_name = "tag",
     .arg = "TAG",
     .offset = offsetof(struct sample, tags)},
    BNT_OPT_END,
};

enum { MAX_WORDS = 80 };

/* Parse a line of words separated by single spaces. The words live until the next call. */
static enum bnt_status parse(const char *line, struct sample *out, char **words, int *n_operands,
                             struct bnt_err *err)
{
    static char text[4096];
    snprintf(text, sizeof text, "%s", line);
    int n = 0;
    for (char *at = text; at && n < MAX_WORDS; n++) {
        words[n] = at;
        at = strchr(at, ' ');
        if (at) {
            *at++ = '\0';
        }
    }
    bool help = false;
    memset(out, 0, sizeof *out);
    return bnt_opt_parse(sample_table, out, line[0] ? n : 0, words, n_operands, &help, err);
}

static void opt_reads_every_form(void **state)
{
    (void)state;
    static const char *const same[] = {
        "-m x.gguf -n 7 --flag --no-other one two",
        "--model=x.gguf --count=7 one -f two --no-other",
        "-mx.gguf -n7 -f --no-other one two",
        "one --no-other -fm x.gguf two --count 7",
        "-f --no-other -n 7 -m x.gguf -- one two",
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct sample s;
        struct bnt_err err = {0};
        char *words[MAX_WORDS];
        int n = 0;
        assert_int_equal(parse(same[i], &s, words, &n, &err), BNT_OK);
        assert_string_equal(s.model, "x.gguf");
        assert_string_equal(s.mode, "slow");
        assert_int_equal(s.count, 7);
        assert_true(s.flag);
        assert_false(s.other);
        assert_int_equal(n, 2);
        assert_string_equal(words[0], "one");
        assert_string_equal(words[1], "two");
    }
}

static void opt_fills_defaults_lists_and_sizes(void **state)
{
    (void)state;
    struct sample s;
    char *words[MAX_WORDS];
    int n = 0;
    assert_int_equal(parse("--tag a --limit 1.5G --tag=b --rate 0.25 -", &s, words, &n, NULL),
                     BNT_OK);
    assert_true(s.other);
    assert_false(s.flag);
    assert_null(s.model);
    assert_int_equal(s.count, 32);
    assert_int_equal(s.limit, 1500000000);
    assert_true(s.rate == 0.25);
    assert_int_equal(s.tags.n, 2);
    assert_string_equal(s.tags.at[1], "b");
    assert_int_equal(n, 1); /* "-" is an operand: standard input */
    assert_string_equal(words[0], "-");
}

static void opt_after_double_dash_is_an_operand(void **state)
{
    (void)state;
    struct sample s;
    char *words[MAX_WORDS];
    int n = 0;
    assert_int_equal(parse("-- --flag -n", &s, words, &n, NULL), BNT_OK);
    assert_int_equal(n, 2);
    assert_string_equal(words[0], "--flag");
    assert_string_equal(words[1], "-n");
    assert_false(s.flag);
}

static void opt_refuses_with_what_to_do(void **state)
{
    (void)state;
    static const struct {
        const char *line, *msg, *hint; /* parts that must be there */
    } cases[] = {
        {"--coutn x", "unknown option --coutn", "did you mean --count?"},
        {"--fla", "unknown option --fla", "did you mean --flag?"},
        {"--xyzzy", "unknown option --xyzzy", "--help"},
        {"-z", "unknown option -z", "--help"},
        {"--model", "--model needs a value", ""},
        {"--mode slow|fast", "must be one of slow|fast", ""},
        {"-n", "--count needs a value", ""},
        {"--flag=yes", "--flag takes no value", ""},
        {"--no-model", "unknown option --no-model", ""},
        {"--count seven", "not a whole number", ""},
        {"--count 7x", "not a whole number", ""},
        {"--count=", "not a whole number", ""},
        {"--count 99999999999999999999", "not a whole number", ""},
        {"--count 101", "from -5 to 100", ""},
        {"--count -6", "from -5 to 100", ""},
        {"--rate nan", "not a number", ""},
        {"--rate inf", "not a number", ""},
        {"--rate 1.5", "from 0 to 1", ""},
        {"--mode medium", "must be one of slow|fast", ""},
        {"--limit 12q", "'12q' is not a size", "512Mi"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s;
        struct bnt_err err = {0};
        char *words[MAX_WORDS];
        int n = 0;
        print_message("case: %s\n", cases[i].line);
        assert_int_equal(parse(cases[i].line, &s, words, &n, &err), BNT_E_USAGE);
        print_message("  %s (%s)\n", err.msg, err.hint);
        assert_non_null(strstr(err.msg, cases[i].msg));
        assert_non_null(strstr(err.hint, cases[i].hint));
    }
}

static void opt_list_has_an_end(void **state)
{
    (void)state;
    char line[2048] = "";
    for (int i = 0, len = 0; i < BNT_STRS_MAX + 1; i++) {
        len += snprintf(line + len, sizeof line - (size_t)len, i ? " --tag=t" : "--tag=t");
    }
    struct sample s;
    struct bnt_err err = {0};
    char *words[MAX_WORDS];
    int n = 0;
    assert_int_equal(parse(line, &s, words, &n, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "--tag"));
}

static void size_units_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"42B", 42},
        {"1k", 1000},
        {"3K", 3000},
        {"1Ki", 1024},
        {"2KiB", 2048},
        {"5M", 5000000},
        {"5MB", 5000000},
        {"1Mi", 1048576},
        {"2.5G", 2500000000u},
        {"1Gi", 1073741824u},
        {"0.5GiB", 536870912u},
        {"18T", 18000000000000u},
    };
    static const char *const bad[] = {"",      "k",   "-1",     "1 M",     "1m",  "1MM",
                                      "0x10",  "0.5", "1e-320", "0.0004K", "nan", "inf",
                                      "0x10q", " 1",  "1e30G",  "1.2.3"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        print_message("size: %s\n", good[i].text);
        assert_int_equal(bnt_parse_size(good[i].text, &bytes, NULL), BNT_OK);
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        print_message("no size: '%s'\n", bad[i]);
        assert_int_equal(bnt_parse_size(bad[i], &bytes, NULL), BNT_E_USAGE);
    }
}

static void did_you_mean_is_near_or_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"infer", "inspect", "fetch", "tokenize", "test", NULL};
    static const char *const none[] = {NULL};
    assert_string_equal(bnt_did_you_mean("infre", names), "infer");
    assert_string_equal(bnt_did_you_mean("tokenise", names), "tokenize");
    assert_string_equal(bnt_did_you_mean("tok", names), "tokenize");
    assert_string_equal(bnt_did_you_mean("fecth", names), "fetch");
    assert_null(bnt_did_you_mean("benchmark", names));
    assert_null(bnt_did_you_mean("list", names)); /* two of four letters are another word */
    assert_null(bnt_did_you_mean("infer", none));
    char long_word[500];
    memset(long_word, 'q', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    assert_null(bnt_did_you_mean(long_word, names));
}

/* ---- arena, arithmetic, clock, machine ---- */

static void arena_pieces_are_aligned_zeroed_and_bounded(void **state)
{
    (void)state;
    struct bnt_arena a;
    size_t size = bnt_arena_cost(1) + bnt_arena_cost(100) + bnt_arena_cost(64);
    assert_int_equal(bnt_arena_cost(1), 64);
    assert_int_equal(bnt_arena_cost(100), 128);
    assert_int_equal(bnt_arena_init(&a, size, NULL), BNT_OK);
    unsigned char *one = bnt_arena_alloc(&a, 1);
    unsigned char *two = bnt_arena_alloc(&a, 100);
    unsigned char *three = bnt_arena_alloc(&a, 64);
    assert_int_equal((uintptr_t)one % 64 + (uintptr_t)two % 64 + (uintptr_t)three % 64, 0);
    assert_true(two >= one + 1 && three >= two + 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(two[i], 0);
        two[i] = 0xff;
    }
    assert_int_equal(three[0], 0);
    assert_null(bnt_arena_alloc(&a, 1));
    assert_null(bnt_arena_alloc(&a, SIZE_MAX - 8));
    bnt_arena_release(&a);
    assert_null(a.base);
}

static void arena_too_large_is_a_status(void **state)
{
    (void)state;
    struct bnt_arena a;
    struct bnt_err err = {0};
    assert_int_equal(bnt_arena_init(&a, SIZE_MAX / 2, &err), BNT_E_MEMORY);
    assert_true(err.msg[0] != '\0');
}

static void checked_arithmetic_sees_overflow(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_true(bnt_add_u64(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    assert_false(bnt_add_u64(UINT64_MAX, 1, &v));
    assert_true(bnt_mul_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &v));
    assert_false(bnt_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
    assert_true(bnt_align_u64(33, 32, &v) && v == 64);
    assert_true(bnt_align_u64(64, 32, &v) && v == 64);
    assert_false(bnt_align_u64(UINT64_MAX - 3, 32, &v));
}

static void clock_can_be_made_to_stand_still(void **state)
{
    (void)state;
    uint64_t before = bnt_clock_now_ns();
    assert_true(bnt_clock_now_ns() >= before);
    bnt_clock_fake(5000);
    assert_int_equal(bnt_clock_now_ns(), 5000);
    bnt_clock_sleep_ns(3600ull *
                       1000000000u); /* an hour that takes no time, or this test times out */
    assert_true(bnt_clock_now_ns() == 5000 + 3600ull * 1000000000u);
}

static void machine_facts_are_plausible(void **state)
{
    (void)state;
    assert_in_range(bnt_cpu_count(), 1, 4096);
    assert_true(bnt_memory_limit() > 64u << 20);
    assert_true(bnt_peak_rss() >= 4096);
    assert_true(bnt_peak_rss() < bnt_memory_limit());
}

static void env_says_yes_or_no_in_four_words(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int says;
    } cases[] = {{"1", 1},  {"true", 1},  {"Yes", 1}, {"ON", 1}, {"", 0},      {"0", 0},
                 {"no", 0}, {"FALSE", 0}, {"off", 0}, {"2", -1}, {"yess", -1}, {NULL, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsetenv("BNT_OFFLINE");
        if (cases[i].value) {
            assert_int_equal(setenv("BNT_OFFLINE", cases[i].value, 1), 0);
        }
        assert_int_equal(bnt_env_switch("BNT_OFFLINE"), cases[i].says);
        assert_int_equal(bnt_app_offline(), cases[i].says == 1);
    }
}

/* ---- patterns of others ---- */

static void patterns_that_take_all_memory_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        bool good;
    } cases[] = {
        {"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", true},
        {"(a{64}b{64}c{64}d{64}e{64}){8}", true}, /* beside each other they add up */
        {"[a-z]{32767}", true},
        {"[]({999}]{999}", true}, /* what stands in brackets repeats nothing */
        {"[[:alpha:](]{300}x\\{300}{300}", true},
        {"(((((a+)*)?|b)*)+)", true},
        {"((a{1,255}){1,255}){1,255}", false},
        {"a{255}{255}{255}", false},
        {"(x|(a{200}){200}[^]]){200}", false},
        {"(", false},
        {"[", false},
        {"a{", false},
        {"a\\", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        regex_t regex;
        const enum bnt_status st = bnt_pattern_compile(&regex, cases[i].pattern, &err);
        if (st != (cases[i].good ? BNT_OK : BNT_E_FILE)) {
            fail_msg("%s: status %d: %s", cases[i].pattern, (int)st, err.msg);
        }
        if (st == BNT_OK) {
            regfree(&regex);
        }
    }
}

static const struct suite_test tests[] = {
    {.name = "base_patterns_that_take_all_memory_are_refused",
     .body = patterns_that_take_all_memory_are_refused},
    {.name = "base_env_says_yes_or_no_in_four_words", .body = env_says_yes_or_no_in_four_words},
    {.name = "base_buf_grows_and_stays_terminated", .body = buf_grows_and_stays_terminated},
    {.name = "base_buf_refuses_past_its_bound",
     .body = buf_refuses_past_its_bound_and_keeps_content},
    {.name = "base_buf_take_hands_over", .body = buf_take_hands_over_and_leaves_an_empty_one},
    {.name = "base_err_keeps_the_first", .body = err_keeps_the_first_and_gathers_context},
    {.name = "base_err_text_is_cut_never_overrun", .body = err_text_is_cut_never_overrun},
    {.name = "base_err_converts_errno_once", .body = err_converts_errno_once},
    {.name = "base_err_without_a_message_says_its_meaning",
     .body = err_without_a_message_says_its_meaning},
    {.name = "base_opt_reads_every_form", .body = opt_reads_every_form},
    {.name = "base_opt_fills_defaults_lists_and_sizes", .body = opt_fills_defaults_lists_and_sizes},
    {.name = "base_opt_after_double_dash_is_an_operand",
     .body = opt_after_double_dash_is_an_operand},
    {.name = "base_opt_refuses_with_what_to_do", .body = opt_refuses_with_what_to_do},
    {.name = "base_opt_list_has_an_end", .body = opt_list_has_an_end},
    {.name = "base_size_units_are_exact", .body = size_units_are_exact},
    {.name = "base_did_you_mean_is_near_or_nothing", .body = did_you_mean_is_near_or_nothing},
    {.name = "base_arena_pieces_are_aligned", .body = arena_pieces_are_aligned_zeroed_and_bounded},
    {.name = "base_arena_too_large_is_a_status", .body = arena_too_large_is_a_status},
    {.name = "base_checked_arithmetic_sees_overflow", .body = checked_arithmetic_sees_overflow},
    {.name = "base_clock_can_stand_still", .body = clock_can_be_made_to_stand_still},
    {.name = "base_machine_facts_are_plausible", .body = machine_facts_are_plausible},
    {0},
};

const struct suite suite_base = {"base", tests, "buf_ceiling"};
