/* Guards the reports that others show: a text of a test that becomes structure, a summary that
 * grows past what is accepted and is lost, annotations beyond those that are shown. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/kills.h"
#include "testkit/report_writer.h"

enum { REPORT_MAX_BYTES = 64 << 20 };

static void read_sample(struct bnt_test_run *run, int *exit_code)
{
    struct bnt_err err = {0};
    *run = (struct bnt_test_run){0};
    enum bnt_status st = bnt_test_result_read(suite_source("testkit/data/testkit/result.json"), run,
                                              exit_code, &err);
    print_message("%s\n", err.msg);
    assert_int_equal(st, BNT_OK);
}

/* n tests of 20 suites; every third fails with an output of the given size. */
static void make_large(struct bnt_test_run *run, size_t n, size_t output_bytes)
{
    *run = (struct bnt_test_run){.n = n, .at = calloc(n, sizeof *run->at), .started_unix_s = 1};
    run->model.kind = "real";
    assert_non_null(run->at);
    for (size_t i = 0; i < n; i++) {
        struct bnt_test *t = &run->at[i];
        char name[64];
        snprintf(name, sizeof name, "test_%04zu", i);
        t->name = strdup(name);
        snprintf(name, sizeof name, "suite_%02zu", i % 20);
        t->suite = strdup(name);
        t->needs = strdup("");
        t->outcome = i % 3 == 0 ? BNT_TEST_FAILED : BNT_TEST_PASSED;
        t->reason = i % 3 == 0 ? strdup("an assertion failed") : NULL;
        t->output = i % 3 == 0 ? malloc(output_bytes + 1) : NULL;
        assert_non_null(t->name);
        assert_non_null(t->suite);
        if (t->output) {
            memset(t->output, '`', output_bytes);
            t->output[output_bytes] = '\0';
        }
    }
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        n++;
    }
    return n;
}

/* ---- texts ---- */

static void markdown_text_is_never_structure(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"plain_name", "plain_name"},
        {"_lean_", "&#95;lean&#95;"},
        {"a | b", "a &#124; b"},
        {"<b>&", "&#60;b&#62;&#38;"},
        {"`x` *y* [z](u) ~~s~~ # @who !", "&#96;x&#96; &#42;y&#42; &#91;z&#93;(u) "
                                          "&#126;&#126;s&#126;&#126; &#35; &#64;who &#33;"},
        {"line\nnext\r\n", "line next  "},
        {"esc \x1b[0m \xff", "esc &#92;x1b&#91;0m &#92;xff"},
        {"\xe2\x80\xae turned", "&#92;xe2&#92;x80&#92;xae turned"},
        {"\xc3\xa4", "\xc3\xa4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_buf out = BNT_BUF(4096);
        struct report_writer w = {&out, NULL, BNT_OK};
        report_markdown(&w, cases[i].text, 1024);
        assert_int_equal(w.status, BNT_OK);
        assert_string_equal(bnt_buf_view(&out), cases[i].shown);
        bnt_buf_release(&out);
    }
}

static void code_block_is_ended_by_its_own_fence_alone(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
        size_t max;
    } cases[] = {
        {"a", "```\na\n```\n", 100},
        {"a\n", "```\na\n```\n", 100},
        {"```\nx", "````\n```\nx\n````\n", 100},
        {"abcdef", "```\nabc\n... 3 bytes more\n```\n", 3},
        {"", "```\n\n```\n", 3},
        {"\x01\r\n", "```\n\\x01\\x0d\n```\n", 100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_buf out = BNT_BUF(4096);
        struct report_writer w = {&out, NULL, BNT_OK};
        report_markdown_block(&w, cases[i].text, cases[i].max);
        assert_string_equal(bnt_buf_view(&out), cases[i].shown);
        bnt_buf_release(&out);
    }
}

static void place_of_a_failure_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *output, *file;
        unsigned line;
    } cases[] = {
        {"testkit/suites/suite_x.c:12: error: Failure!\n", "testkit/suites/suite_x.c", 12},
        {"some text\n[  ERROR   ] --- 1 != 2\na/b.c:7: error: Failure!", "a/b.c", 7},
        {"x\n[   LINE   ] --- a/b.c:8: error: Failure!\n", "a/b.c", 8},
        {"cases.bnt.yml:3: text differs", "cases.bnt.yml", 3},
        {"/my work/it's.bnt.yml:3: text differs", "/my work/it's.bnt.yml", 3},
        {"my cases.bnt.yml:3: prose", NULL, 0},
        {"at 12:30: nothing\n", NULL, 0},
        {"http://example.org:80: refused", NULL, 0},
        {"x.c:-4: no", NULL, 0},
        {"x.c:99999999999999999999: no", NULL, 0},
        {"x.c:4", NULL, 0},
        {"", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[64] = "";
        unsigned line = 0;
        print_message("case %zu\n", i);
        bool found = report_location(cases[i].output, file, sizeof file, &line);
        assert_int_equal(found, cases[i].file != NULL);
        assert_true(!found || strcmp(file, cases[i].file) == 0);
        assert_int_equal(line, cases[i].line);
    }
    char file[8];
    unsigned line;
    assert_false(report_location("a/long/path.c:3: x", file, sizeof file, &line));
    assert_false(report_location(NULL, file, sizeof file, &line));
}

/* ---- the summary ---- */

static void summary_never_exceeds_its_limit(void **state)
{
    (void)state;
    static const size_t limits[] = {TEST_SUMMARY_MAX_BYTES, 100 * 1000, 8192, 4096};
    struct bnt_test_run run;
    make_large(&run, 6000, 20000);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
        assert_int_equal(bnt_test_report_markdown(&run, 1, limits[i], &out, &err), BNT_OK);
        const char *text = bnt_buf_view(&out);
        size_t shown = count(text, "\n#### ");
        char rest[64];
        snprintf(rest, sizeof rest, "**%zu more failures** find no room", 2000 - shown);
        print_message("limit %zu: %zu bytes, %zu failures shown\n", limits[i], out.len, shown);
        assert_true(out.len <= limits[i]);
        assert_true(shown > 0 || limits[i] < 8192);
        assert_non_null(strstr(text, "**4000 passed, 2000 failed**"));
        assert_non_null(strstr(text, rest));
        assert_non_null(strstr(text, "### Suites"));
        bnt_buf_release(&out);
    }
    struct bnt_err err = {0};
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_markdown(&run, 1, 100, &out, &err), BNT_E_NO_SPACE);
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

/* ---- annotations ---- */

static void annotations_are_ten_of_a_kind_at_most(void **state)
{
    (void)state;
    struct bnt_test_run run;
    make_large(&run, 600, 100);
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_annotations(&run, &out, NULL), BNT_OK);
    const char *text = bnt_buf_view(&out);
    assert_int_equal(count(text, "::error "), 10);
    assert_non_null(strstr(text, "::error title=bnt test::191 more are in the result file\n"));
    bnt_buf_release(&out);
    bnt_test_keep_first(&run, 30); /* ten failures: all are shown */
    assert_int_equal(bnt_test_report_annotations(&run, &out, NULL), BNT_OK);
    assert_int_equal(count(bnt_buf_view(&out), "::error "), 10);
    assert_null(strstr(bnt_buf_view(&out), "more are in"));
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

static void annotation_is_one_line_whatever_it_says(void **state)
{
    (void)state;
    struct bnt_test_run run;
    int exit_code;
    read_sample(&run, &exit_code);
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    free(run.at[1].name);
    run.at[1].name = strdup("a,file=/etc/x:y\n::error::planted");
    assert_int_equal(bnt_test_report_annotations(&run, &out, NULL), BNT_OK);
    const char *text = bnt_buf_view(&out);
    print_message("%s", text);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        assert_true(strncmp(line, "::error ", 8) == 0 || strncmp(line, "::warning ", 10) == 0 ||
                    strncmp(line, "::notice ", 9) == 0);
    }
    assert_int_equal(count(text, "\n"), 7);
    assert_non_null(strstr(text, "::error title=alpha/opens_a_file::slower: tokens_per_s is 81.5 "
                                 "1/s, -18.8 %25 against 11 earlier runs\n"));
    assert_non_null(strstr(text, "title=alpha/a%2Cfile=/etc/x%3Ay%0A%3A%3Aerror%3A%3Aplanted::"));
    assert_non_null(strstr(text, "%250A::error::x"));
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

/* A step may run in a folder below the checkout. */
static void annotation_names_a_file_from_the_checkout_on(void **state)
{
    (void)state;
    static const char *const folders[] = {"tree", "tree/.git", "tree/sub", "bare"};
    static const char *const says[] = {"file=sub/s.bnt.yml,line=3,", "file=s.bnt.yml,line=3,"};
    char path[BNT_PATH_MAX];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), folders[i]), BNT_OK);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    for (int i = 0; i < 2; i++) {
        struct bnt_test_run run;
        struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
        make_large(&run, 1, 1);
        free(run.at[0].output);
        assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), folders[i + 2]),
                         BNT_OK);
        assert_int_equal(chdir(path), 0);
        assert_true(asprintf(&run.at[0].output, "%s/s.bnt.yml:3: x\n", path) > 0);
        assert_int_equal(bnt_test_report_annotations(&run, &out, NULL), BNT_OK);
        print_message("%s", bnt_buf_view(&out));
        assert_non_null(strstr(bnt_buf_view(&out), says[i]));
        bnt_buf_release(&out);
        bnt_test_run_release(&run);
    }
    assert_int_equal(chdir(suite_scratch()), 0);
}

/* ---- the page ---- */

static void write_file(const char *path, const struct bnt_buf *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bnt_buf_view(text), 1, text->len, f), text->len);
    assert_int_equal(fclose(f), 0);
}

static void page_is_well_formed(const struct bnt_buf *page)
{
    char path[BNT_PATH_MAX];
    struct suite_output o;
    assert_int_equal(bnt_path_format(path, NULL, "%s/page.html", suite_scratch()), BNT_OK);
    write_file(path, page);
    suite_run((const char *const[]){"xmllint", "--noout", "--nonet", path, NULL}, NULL, 0, &o);
    print_message("%s%s\n", o.out, o.err);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
}

/* Every "<name" of the page is of an element that it makes itself, and nothing is fetched. */
static void page_needs_nothing_else(const char *page)
{
    static const char *const foreign[] = {"<script", "<b>bold", "<link", "<img",        "<iframe",
                                          "<object", "src=",    "url(",  "http://",     "https://",
                                          "@import", "\x1b",    "\x07",  "\xe2\x80\xae"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        print_message("%s\n", foreign[i]);
        assert_null(strstr(page, foreign[i]));
    }
}

static const struct kill_pair pairs[] = {
    {"one", "alpha", "killed", "sees_one"},
    {"two </script>", "alpha", "survived", "-"},
    {"three", "beta", "skipped", "-"},
};

static void page_holds_hostile_text_as_text(void **state)
{
    (void)state;
    struct bnt_test_run run;
    int exit_code;
    read_sample(&run, &exit_code);
    struct kill_pair copy[3];
    memcpy(copy, pairs, sizeof copy);
    struct kills kills = {.n = 3, .at = copy};
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_html(&run, exit_code, &kills, &out, NULL), BNT_OK);
    const char *page = bnt_buf_view(&out);
    page_needs_nothing_else(page);
    page_is_well_formed(&out);
    static const char *const shown[] = {
        "counts &lt;b&gt;bold&lt;/b&gt; | `cells`",
        "&lt;/script&gt;&lt;!-- &amp; &quot;x&quot;",
        "--run is_excused",
        "quarantined by mira@example.org until 2026-12-20: the disk lies",
        "<tr><td>needs: cuda (no device)</td><td class=\"n\">2</td></tr>",
        "Time: 2.0 of 300 s",
        "worker 2",
        "Planted defects: 1 seen, 1 survived, 1 skipped",
        "<td class=\"o-failed\">two &lt;/script&gt;</td>",
        "one: killed by sees_one",
        "3 earlier runs, up to 1.500 s",
        "tokens_per_s<br/><span class=\"quiet\">alpha/opens_a_file</span></td>",
        "<td class=\"n\">81.5 1/s</td><td class=\"n\">99.25 (",
        "12 runs from 80 to 102, the last one 81.5",
        "<td class=\"step\">up +19.8 %</td>",
        "<td class=\"worse\">slower -18.8 %</td>",
        "<b>1</b>figure slower</div>",
        "a&lt;b&gt;&amp;&quot;<br/>",
        "<td class=\"quiet\">first run</td>",
    };
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        print_message("%s\n", shown[i]);
        assert_non_null(strstr(page, shown[i]));
    }
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

/* Any byte in any text: the page stays whole. */
static void page_of_random_texts_is_well_formed(void **state)
{
    (void)state;
    struct bnt_test_run run;
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    uint64_t x = 88172645463325252u;
    make_large(&run, 60, 4000);
    for (size_t i = 0; i < run.n; i += 3) {
        for (size_t k = 0; k < 4000; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            run.at[i].output[k] = (char)(x % 255 + 1);
        }
    }
    assert_int_equal(bnt_test_report_html(&run, 1, NULL, &out, NULL), BNT_OK);
    page_is_well_formed(&out);
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

static void kill_matrix_is_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        enum bnt_status status;
    } cases[] = {
        {"", 0, BNT_OK},
        {"a\ts\tkilled\tt\n", 1, BNT_OK},
        {"a\ts\tkilled\tt\nb\ts\tsurvived\t-", 2, BNT_OK},
        {"a\ts\tkilled\n", 0, BNT_E_FILE},
        {"a\ts\tkilled\tt\tx\n", 0, BNT_E_FILE},
        {"a\ts\tmaimed\tt\n", 0, BNT_E_FILE},
        {"a\ts\tkilled\tt\n\n", 0, BNT_E_FILE},
        {"\ts\tkilled\tt\n", 0, BNT_E_FILE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[BNT_PATH_MAX];
        struct kills kills = {0};
        struct bnt_buf text = BNT_BUF(1024);
        assert_int_equal(bnt_path_format(path, NULL, "%s/kills.tsv", suite_scratch()), BNT_OK);
        assert_int_equal(bnt_buf_puts(&text, cases[i].text, NULL), BNT_OK);
        write_file(path, &text);
        print_message("case %zu\n", i);
        assert_int_equal(kills_read(path, &kills, NULL), cases[i].status);
        assert_true(cases[i].status != BNT_OK || kills.n == cases[i].n);
        kills_release(&kills);
        bnt_buf_release(&text);
    }
}

/* ---- commands of ci/, which this program does not hold ---- */

static void run_bnt(const char *const *words, int exit_code, char *out, size_t size)
{
    const char *argv[12] = {suite_bnt()};
    for (size_t i = 0; words[i]; i++) {
        assert_true(i + 2 < sizeof argv / sizeof argv[0]);
        argv[i + 1] = words[i];
    }
    struct suite_output o;
    suite_run(argv, suite_scratch(), 0, &o);
    print_message("%s%s", o.out, o.err);
    assert_int_equal(o.exit, exit_code);
    snprintf(out, size, "%s", o.out);
    suite_output_release(&o);
}

static void write_text(const char *name, const char *text)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), name), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* Not at the end of the 45 minutes that the full tier may take. */
static void what_cannot_be_reported_is_not_run(void **state)
{
    (void)state;
    static const struct {
        const char *words[7];
        int exit_code;
    } cases[] = {
        {{"test", "s.bnt.yml", "--result", "no/r.json"}, BNT_E_NOT_FOUND},
        {{"test", "s.bnt.yml", "--junit", "no/j.xml"}, BNT_E_NOT_FOUND},
        {{"test", "s.bnt.yml", "--tap", "."}, BNT_E_USAGE},
        {{"test", "s.bnt.yml", "--html", "no/h.html"}, BNT_E_NOT_FOUND},
        {{"test", "s.bnt.yml", "--html", "h.html", "--kills", "no.tsv"}, BNT_E_NOT_FOUND},
        {{"test", "s.bnt.yml", "--kills", "no.tsv"}, BNT_E_USAGE},
    };
    char out[1024];
    write_text("s.bnt.yml", "tests: [{name: a, prompt: b, max_tokens: 1, expect: {tokens: "
                            "{min: 1}}}]\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_bnt(cases[i].words, cases[i].exit_code, out, sizeof out);
        assert_string_equal(out, "");
    }
}

static void write_lock(char digit)
{
    char digest[65];
    char text[512];
    memset(digest, digit, 64);
    digest[64] = '\0';
    snprintf(text, sizeof text,
             "{\"schema\": 1, \"models\": {\"m\": {\"source\": \"https://example.org/m\", "
             "\"files\": [{\"path\": \"m\", \"size\": 5, \"sha256\": \"%s\", \"mirrors\": "
             "[]}]}}}\n",
             digest);
    write_text("bnt.lock", text);
}

static void cache_key_knows_the_content(void **state)
{
    (void)state;
    char one[256];
    char two[256];
    static const char *const words[] = {"ci", "key", NULL};
    write_lock('1');
    run_bnt(words, 0, one, sizeof one);
    write_lock('2');
    run_bnt(words, 0, two, sizeof two);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), strlen(two)); /* none is the beginning of the other */
    assert_int_equal(strlen(one), strlen("bnt-models-1-") + 64 + 1);
}

static void download_trouble_is_infrastructure(void **state)
{
    (void)state;
    static const char *const codes[] = {"10", "12", "14", "15", "19", "21"};
    char out[256];
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        run_bnt((const char *const[]){"ci", "outcome", codes[i], NULL}, 0, out, sizeof out);
        assert_string_equal(out, "infrastructure\n");
    }
    run_bnt((const char *const[]){"ci", "outcome", "1", NULL}, 0, out, sizeof out);
    assert_string_equal(out, "failed\n");
}

typedef enum bnt_status report_fn(const struct bnt_test_run *run, struct bnt_buf *out,
                                  struct bnt_err *err);

static enum bnt_status markdown(const struct bnt_test_run *run, struct bnt_buf *out,
                                struct bnt_err *err)
{
    return bnt_test_report_markdown(run, 1, TEST_SUMMARY_MAX_BYTES, out, err);
}

static enum bnt_status page(const struct bnt_test_run *run, struct bnt_buf *out,
                            struct bnt_err *err)
{
    return bnt_test_report_html(run, 1, NULL, out, err);
}

static report_fn *const all_reports[] = {
    bnt_test_report_text,        bnt_test_report_tap,
    bnt_test_report_junit,       markdown,
    bnt_test_report_annotations, page,
};
enum { ALL_REPORTS = sizeof all_reports / sizeof all_reports[0] };

/* What a test wrote, and why it ended, is shown by all reports as text: of the control codes only
 * line ends and tabs are there. */
static void nothing_commands_the_terminal(void **state)
{
    (void)state;
    struct bnt_test_run run;
    make_large(&run, 4, 1);
    for (size_t i = 0; i < run.n; i += 3) {
        free(run.at[i].output);
        free(run.at[i].reason);
        run.at[i].output = strdup("\033[2J\033]0;title\a one\r\ntwo \x7f\x08 \xc2\x9b"
                                  "31m\n");
        run.at[i].reason = strdup("\033[31mred");
    }
    run.at[1].outcome = BNT_TEST_SKIPPED;
    run.at[1].reason = strdup("needs: \033[5m");
    run.at[2].outcome = BNT_TEST_NOT_RUN;
    run.at[2].reason = strdup("\033[6m");
    for (int k = 0; k < ALL_REPORTS; k++) {
        struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
        assert_int_equal(all_reports[k](&run, &out, NULL), BNT_OK);
        for (size_t i = 0; i < out.len; i++) {
            const unsigned char c = (unsigned char)bnt_buf_view(&out)[i];
            if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f) {
                fail_msg("report %d has byte 0x%02x: %.80s", k, c, bnt_buf_view(&out) + i);
            }
        }
        assert_null(strstr(bnt_buf_view(&out), "\xc2\x9b"));
        bnt_buf_release(&out);
    }
    bnt_test_run_release(&run);
}

static void set(char **text, const char *value)
{
    free(*text);
    *text = strdup(value);
}

/* But in a code block of Markdown. */
static void no_line_is_planted(const char *text)
{
    bool block = false;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        block ^= strncmp(line, "```", 3) == 0;
        if (!block && (strncmp(line, "::error::planted", 16) == 0 ||
                       strncmp(line, "ok 9 - planted", 14) == 0 || strncmp(line, "<b>", 3) == 0)) {
            fail_msg("%.80s", line);
        }
    }
}

/* A result file may come from anywhere: whatever a text of it says, it is no structure. */
static void text_of_a_result_file_is_never_structure(void **state)
{
    (void)state;
    static const char evil[] = "\033[2J&\"\n::error::planted\n<b>\nok 9 - planted # SKIP";
    struct bnt_test_run run;
    int exit_code;
    read_sample(&run, &exit_code);
    for (size_t i = 0; i < run.n; i++) {
        struct bnt_test *t = &run.at[i];
        char **const texts[] = {&t->name,  &t->suite,     &t->needs,       &t->reason, &t->output,
                                &t->label, &t->diagnosis, &t->owner,       &t->excuse, &t->expires,
                                &t->rerun, &t->warning,   &t->not_enforced};
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
            set(texts[k], evil);
        }
        for (size_t k = 0; k < t->n_tries; k++) {
            set(&t->tries[k].reason, evil);
        }
        for (size_t k = 0; k < t->n_metrics; k++) {
            snprintf(t->metrics[k].name, sizeof t->metrics[k].name, "%.40s", evil);
        }
    }
    snprintf(run.model.path, sizeof run.model.path, "%s", evil);
    snprintf(run.machine.host, sizeof run.machine.host, "%s", evil);
    snprintf(run.worker_note, sizeof run.worker_note, "%s", evil);
    for (int k = 0; k < ALL_REPORTS; k++) {
        struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
        assert_int_equal(all_reports[k](&run, &out, NULL), BNT_OK);
        const char *text = bnt_buf_view(&out);
        print_message("report %d\n%s\n", k, text);
        assert_null(strchr(text, '\033'));
        if (all_reports[k] == bnt_test_report_junit || all_reports[k] == page) {
            page_is_well_formed(&out);
        } else {
            no_line_is_planted(text);
        }
        bnt_buf_release(&out);
    }
    bnt_test_run_release(&run);
}

/* The line that runs a test again may name as many suites as the environment holds. */
static void rerun_of_many_suites_finds_room(void **state)
{
    (void)state;
    enum { LIST_BYTES = 100 << 10 };
    static char list[LIST_BYTES];
    struct bnt_test_run run;
    make_large(&run, 3, 1);
    memset(list, 'a', LIST_BYTES - 1);
    for (size_t i = 1; i < LIST_BYTES - 1; i += 50) {
        memcpy(list + i, "':/", 3);
    }
    setenv("BNT_SUITE_FILES", list, 1);
    for (int k = 0; k < ALL_REPORTS; k++) {
        struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
        struct bnt_err err = {0};
        if (all_reports[k](&run, &out, &err) != BNT_OK) {
            fail_msg("report %d: %s", k, err.msg);
        }
        bnt_buf_release(&out);
    }
    struct bnt_buf line = BNT_BUF(REPORT_MAX_BYTES);
    run.at[0].file = strdup("/my suites/one.bnt.yml"); /* where the program says it, that one */
    assert_int_equal(bnt_test_rerun(&run, &run.at[0], &line, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&line),
                        "BNT_SUITE_FILES='/my suites/one.bnt.yml' '' --run test_0000");
    bnt_buf_release(&line);
    unsetenv("BNT_SUITE_FILES");
    bnt_test_run_release(&run);
}

static const struct suite_test tests[] = {
    {.name = "reports_nothing_commands_the_terminal", .body = nothing_commands_the_terminal},
    {.name = "reports_text_of_a_result_file_is_never_structure",
     .body = text_of_a_result_file_is_never_structure,
     .needs = "xmllint"},
    {.name = "reports_rerun_of_many_suites_finds_room", .body = rerun_of_many_suites_finds_room},
    {.name = "reports_markdown_text_is_never_structure", .body = markdown_text_is_never_structure},
    {.name = "reports_code_block_is_ended_by_its_own_fence_alone",
     .body = code_block_is_ended_by_its_own_fence_alone},
    {.name = "reports_place_of_a_failure_is_found", .body = place_of_a_failure_is_found},
    {.name = "reports_summary_never_exceeds_its_limit", .body = summary_never_exceeds_its_limit},
    {.name = "reports_annotations_are_ten_of_a_kind_at_most",
     .body = annotations_are_ten_of_a_kind_at_most},
    {.name = "reports_annotation_is_one_line_whatever_it_says",
     .body = annotation_is_one_line_whatever_it_says,
     .needs = "source"},
    {.name = "reports_annotation_names_a_file_from_the_checkout_on",
     .body = annotation_names_a_file_from_the_checkout_on},
    {.name = "reports_page_holds_hostile_text_as_text",
     .body = page_holds_hostile_text_as_text,
     .needs = "xmllint,source"},
    {.name = "reports_page_of_random_texts_is_well_formed",
     .body = page_of_random_texts_is_well_formed,
     .needs = "xmllint"},
    {.name = "reports_kill_matrix_is_read_strictly", .body = kill_matrix_is_read_strictly},
    {.name = "reports_what_cannot_be_reported_is_not_run",
     .body = what_cannot_be_reported_is_not_run},
    {.name = "reports_cache_key_knows_the_content", .body = cache_key_knows_the_content},
    {.name = "reports_download_trouble_is_infrastructure",
     .body = download_trouble_is_infrastructure},
    {0},
};
const struct suite suite_reports = {
    "reports", tests, "summary_unbounded command_raw html_raw key_blind network_is_red report_raw"};
