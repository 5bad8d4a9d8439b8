/* Guards what scripts and people depend on: the words, the streams and the exit codes of `bnt`.
 * Each case is a folder testkit/cli/<case>/ (README.md there): `cmd` is run by sh in an empty
 * folder with $BNT, and what it wrote and its exit code must be what the other files say.
 * BNT_UPDATE_GOLDEN=1 writes those files instead; review the diff. */
#include "testkit/suite.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { FILE_MAX_BYTES = 4 << 20, CASE_TIMEOUT_MS = 60 * 1000 };

/* ---- files of a case ---- */

struct golden_case {
    const char *name;
    char folder[BNT_PATH_MAX];
};

/* The file's text in *out; false when there is none. */
static bool read_part(const struct golden_case *c, const char *part, struct bnt_buf *out)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", c->folder, part), BNT_OK);
    bnt_buf_reset(out);
    if (access(path, F_OK) != 0) {
        return false;
    }
    assert_int_equal(bnt_file_read(path, out, NULL), BNT_OK);
    return true;
}

/* An empty part is an absent file. */
static void write_part(const struct golden_case *c, const char *part, const char *text)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", c->folder, part), BNT_OK);
    if (text[0] == '\0') {
        (void)unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- comparison ---- */

/* Every occurrence of a path of this machine becomes a name. */
static char *replace_all(char *text, const char *from, const char *to)
{
    struct bnt_buf out = BNT_BUF(2 * FILE_MAX_BYTES);
    const char *at = text;
    for (const char *hit; (hit = strstr(at, from)) != NULL; at = hit + strlen(from)) {
        assert_int_equal(bnt_buf_append(&out, at, (size_t)(hit - at), NULL), BNT_OK);
        assert_int_equal(bnt_buf_puts(&out, to, NULL), BNT_OK);
    }
    assert_int_equal(bnt_buf_puts(&out, at, NULL), BNT_OK);
    free(text);
    return bnt_buf_take(&out);
}

static char *without_places(char *text)
{
    char source[BNT_PATH_MAX];
    snprintf(source, sizeof source, "%s", suite_source("."));
    source[strlen(source) - 2] = '\0';
    text = replace_all(text, suite_scratch(), "SCRATCH");
    text = replace_all(text, getenv("HOME"), "TESTHOME");
    text = replace_all(text, suite_bnt(), "BNT");
    return replace_all(text, source, "SOURCE");
}

static char *next_line(char **rest)
{
    char *line = *rest;
    char *end = strchr(line, '\n');
    *rest = end ? end + 1 : line + strlen(line);
    if (end) {
        *end = '\0';
    }
    return line;
}

/* Line by line with fnmatch(3); a pattern line "..." stands for any number of lines. Both texts are
 * taken apart. */
static bool matches(char *pattern, char *text)
{
    while (*pattern) {
        char *want = next_line(&pattern);
        if (strcmp(want, "...") != 0) {
            if (*text == '\0' || fnmatch(want, next_line(&text), 0) != 0) {
                return false;
            }
            continue;
        }
        for (char *from = text;; next_line(&from)) {
            char *pattern_copy = strdup(pattern);
            char *text_copy = strdup(from);
            bool rest_matches = matches(pattern_copy, text_copy);
            free(pattern_copy);
            free(text_copy);
            if (rest_matches || *from == '\0') {
                return rest_matches;
            }
        }
    }
    return *text == '\0';
}

/* True when the stream is as the case says; otherwise both are shown. */
static bool check_stream(const struct golden_case *c, const char *stream, const char *got)
{
    struct bnt_buf want = BNT_BUF(FILE_MAX_BYTES);
    char glob[32];
    snprintf(glob, sizeof glob, "%s.glob", stream);
    bool as_said;
    if (read_part(c, glob, &want)) {
        char *text = strdup(got);
        char *pattern = strdup(bnt_buf_view(&want));
        as_said = matches(pattern, text);
        free(pattern);
        free(text);
    } else {
        (void)read_part(c, stream, &want);
        as_said = strcmp(bnt_buf_view(&want), got) == 0;
        if (!as_said && getenv("BNT_UPDATE_GOLDEN")) {
            write_part(c, stream, got);
            as_said = true;
        }
    }
    if (!as_said) {
        print_message("%s: %s\n-- wanted --\n%s-- got --\n%s-- end --\n", c->name, stream,
                      bnt_buf_view(&want), got);
    }
    bnt_buf_release(&want);
    return as_said;
}

static bool check_exit(const struct golden_case *c, int got)
{
    struct bnt_buf want = BNT_BUF(64);
    bool given = read_part(c, "exit", &want);
    bool as_said = got == (given ? strtol(bnt_buf_view(&want), NULL, 10) : 0);
    if (!as_said && getenv("BNT_UPDATE_GOLDEN")) {
        char text[16] = "";
        if (got != 0) {
            snprintf(text, sizeof text, "%d\n", got);
        }
        write_part(c, "exit", text);
        as_said = true;
    }
    if (!as_said) {
        print_message("%s: exit wanted %s, got %d\n", c->name, given ? bnt_buf_view(&want) : "0",
                      got);
    }
    bnt_buf_release(&want);
    return as_said;
}

/* ---- running ---- */

static void run_case(const char *name)
{
    struct golden_case c = {.name = name};
    char script[BNT_PATH_MAX];
    char relative[256];
    snprintf(relative, sizeof relative, "testkit/cli/%s", name);
    assert_int_equal(bnt_path_format(c.folder, NULL, "%s", suite_source(relative)), BNT_OK);
    assert_int_equal(bnt_path_format(script, NULL, "%s/cmd", c.folder), BNT_OK);
    setenv("BNT", suite_bnt(), 1);
    setenv("DATA", suite_source("testkit/data"), 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("BNT_TEST_MODEL");
    struct suite_output o;
    suite_run((const char *const[]){"sh", "-eu", script, NULL}, suite_scratch(), CASE_TIMEOUT_MS,
              &o);
    o.out = without_places(o.out);
    o.err = without_places(o.err);
    bool out_right = check_stream(&c, "stdout", o.out);
    bool err_right = check_stream(&c, "stderr", o.err);
    bool exit_right = check_exit(&c, o.exit);
    suite_output_release(&o);
    assert_true(out_right);
    assert_true(err_right);
    assert_true(exit_right);
}

#define CASE(folder)                                                                               \
    static void case_##folder(void **state)                                                        \
    {                                                                                              \
        (void)state;                                                                               \
        run_case(#folder);                                                                         \
    }
#include "testkit/cli/cases.def"
#undef CASE

static void every_folder_is_listed(void **state)
{
    (void)state;
    static const char *const names[] = {
#define CASE(folder) #folder,
#include "testkit/cli/cases.def"
#undef CASE
        NULL,
    };
    DIR *dir = opendir(suite_source("testkit/cli"));
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        bool listed = e->d_type != DT_DIR || e->d_name[0] == '.';
        for (size_t i = 0; names[i] && !listed; i++) {
            listed = strcmp(names[i], e->d_name) == 0;
        }
        if (!listed) {
            fail_msg("testkit/cli/%s is not in testkit/cli/cases.def", e->d_name);
        }
    }
    closedir(dir);
}

static void pattern_lines_match_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"a\n", "a\n", true},
        {"a\n", "b\n", false},
        {"a\n", "", false},
        {"", "a\n", false},
        {"a*\n", "abc\n", true},
        {"...\n", "", true},
        {"...\n", "a\nb\n", true},
        {"...\nb\n", "a\nb\n", true},
        {"...\nb\n", "a\nb\nc\n", false},
        {"a\n...\n", "b\n", false},
        {"...\nx\n...\n", "a\nx\nb\n", true},
        {"a\n...\nz\n", "a\nz\nb\nz\n", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *pattern = strdup(cases[i].pattern);
        char *text = strdup(cases[i].text);
        print_message("case %zu\n", i);
        assert_int_equal(matches(pattern, text), cases[i].matches);
        free(pattern);
        free(text);
    }
}

static const struct suite_test tests[] = {
    {.name = "cli_pattern_lines_match_as_documented", .body = pattern_lines_match_as_documented},
    {.name = "cli_every_folder_is_listed", .body = every_folder_is_listed, .needs = "source"},
#define CASE(folder)                                                                               \
    {.name = "cli_" #folder,                                                                       \
     .body = case_##folder,                                                                        \
     .needs = "source",                                                                            \
     .timeout_ms = CASE_TIMEOUT_MS},
#include "testkit/cli/cases.def"
#undef CASE
    {0},
};

const struct suite suite_cli = {"cli", tests, "digest_unchecked unknown_option"};
