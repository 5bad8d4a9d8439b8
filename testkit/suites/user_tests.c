/* A YAML test is one body with a context: the test, and the subject that it asks. */
#include "testkit/suites/user_tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "cache/commands.h"
#include "testkit/user_files.h"

#define REPORT_MAX_BYTES (1u << 20)
#define INPUT_MAX_BYTES (16u << 20)
#define MAX_SUITES 256
#define ALL_KINDS "real,tiny,scripted,http" /* of the run's model, when the file names none */

struct user_case {
    const struct user_test *test;
    const char *file;
    char spec[BNT_PATH_MAX]; /* of the subject, as bnt_subject_open takes it; "": the run's model */
    char missing[256];       /* why there is none; "" */
};

static struct {
    const struct suite *list[MAX_SUITES + 1];
    struct user_suite *files[MAX_SUITES]; /* whose texts and tests the list is made of */
    size_t n;
} loaded;

/* ---- the body ---- */

/* Names were looked up before; what is left are paths. */
static const struct bnt_app app = {.resolve_model = cache_resolve_model};

static struct bnt_subject *open_subject(const struct user_case *c)
{
    struct bnt_err err = {0};
    struct bnt_subject *subject = NULL;
    const char *spec = c->spec[0] ? c->spec : suite_model();
    const struct bnt_subject_options options = {
        .session = {.device = suite_on_device(), .fallback = "never"}};
    if (bnt_subject_open(&app, spec, &options, &subject, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return subject;
}

static void run_case(void **state)
{
    const struct user_case *c = *state;
    struct bnt_err err = {0};
    struct bnt_buf report = BNT_BUF(REPORT_MAX_BYTES);
    if (c->missing[0]) {
        suite_skip("%s", c->missing);
    }
    struct bnt_subject *subject = open_subject(c);
    const char *kind = bnt_subject_describe(subject).kind;
    if (!user_test_takes(c->test, kind)) {
        bnt_subject_close(subject);
        suite_skip("needs: a subject of kind %s", c->test->subjects);
    }
    enum bnt_status st = user_test_run(c->test, subject, &report, &err);
    bnt_subject_close(subject);
    if (st == BNT_E_UNSUPPORTED) {
        bnt_buf_release(&report);
        suite_skip("needs: %s", err.msg);
    }
    if (st != BNT_OK) {
        /* The place comes first, since an answer may look like one: annotations name it. cmocka
         * would cut the message. */
        printf("%s:%u: %s\n%s", c->file, c->test->line, err.msg, bnt_buf_view(&report));
        fflush(stdout);
        bnt_buf_release(&report);
        fail();
    }
    bnt_buf_release(&report);
}

/* ---- from files ---- */

static bool has_scheme(const char *spec)
{
    return strncmp(spec, "tiny:", 5) == 0 || strncmp(spec, "http://", 7) == 0 ||
           strncmp(spec, "https://", 8) == 0;
}

/* A name of the cache or a path becomes a path; what is not there is a reason to skip. */
static void find_subject(struct user_case *c, const char *spec)
{
    struct bnt_model_ref ref;
    struct bnt_err err = {0};
    if (has_scheme(spec) || strncmp(spec, "scripted:", 9) == 0) {
        (void)bnt_path_format(c->spec, NULL, "%s", spec);
    } else if (cache_resolve_model(NULL, spec, &ref, &err) == BNT_OK) {
        (void)bnt_path_format(c->spec, NULL, "%s", ref.path);
    } else {
        snprintf(c->missing, sizeof c->missing, "needs: the model %.60s (%.160s)", spec, err.msg);
    }
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static struct suite_test as_test(const struct user_test *t, struct user_case *c)
{
    const char *given = getenv("BNT_TEST_SUBJECT");
    const char *spec = t->model ? t->model : given;
    c->test = t;
    if (spec && spec[0]) {
        find_subject(c, spec);
    }
    return (struct suite_test){
        .name = t->name,
        .body = run_case,
        .ctx = c,
        .needs = or_null(t->needs),
        .timeout_ms = t->timeout_ms,
        .tier = (enum suite_tier)t->tier,
        .tags = or_null(t->tags),
        .subjects = t->subjects[0] || t->model ? or_null(t->subjects) : ALL_KINDS,
        .reads = strncmp(c->spec, "scripted:", 9) == 0 ? c->spec + 9 : or_null(c->spec),
        .network = strncmp(c->spec, "http", 4) == 0 && has_scheme(c->spec) ? SUITE_NETWORK_OPEN
                                                                           : SUITE_NETWORK_LOOPBACK,
    };
}

/* What is loaded stays until the process ends. */
static enum bnt_status load_file(const char *path, struct bnt_err *err)
{
    struct user_suite *file = calloc(1, sizeof *file);
    struct suite *suite = calloc(1, sizeof *suite);
    if (!file || !suite || loaded.n == MAX_SUITES) {
        free(file);
        free(suite);
        return bnt_err_set(err, BNT_E_USAGE, "%s: more than %d suites, or no memory", path,
                           MAX_SUITES);
    }
    enum bnt_status st = user_suite_read(path, file, err);
    struct suite_test *tests = calloc(file->n + 1, sizeof *tests);
    struct user_case *cases = calloc(file->n + 1, sizeof *cases);
    if (st == BNT_OK && (!tests || !cases)) {
        st = bnt_err_nomem(err, path, file->n * sizeof *tests);
    }
    for (size_t i = 0; st == BNT_OK && i < file->n; i++) {
        cases[i].file = file->path;
        tests[i] = as_test(&file->tests[i], &cases[i]);
    }
    if (st == BNT_OK) {
        *suite = (struct suite){file->name, tests, ""};
        loaded.files[loaded.n] = file;
        loaded.list[loaded.n++] = suite;
        return BNT_OK;
    }
    user_suite_release(file);
    free(file);
    free(suite);
    free(tests);
    free(cases);
    return st;
}

enum bnt_status user_tests_load(const struct suite *const **out, struct bnt_err *err)
{
    const char *files = getenv("BNT_SUITE_FILES");
    enum bnt_status st = BNT_OK;
    for (const char *at = files ? files : ""; st == BNT_OK && *at;) {
        char path[BNT_PATH_MAX];
        size_t n = strcspn(at, ":");
        st = bnt_path_format(path, err, "%.*s", (int)n, at);
        if (st == BNT_OK && n > 0) {
            st = load_file(path, err);
        }
        at += n + (at[n] == ':');
    }
    if (st == BNT_OK) {
        st = user_files_distinct(loaded.files, loaded.n, err);
    }
    *out = loaded.n ? loaded.list : NULL;
    return st;
}

const char *user_tests_file(const struct suite *suite)
{
    for (size_t i = 0; i < loaded.n; i++) {
        if (loaded.list[i] == suite) {
            return strpbrk(loaded.files[i]->path, "\t\n") ? NULL : loaded.files[i]->path;
        }
    }
    return NULL;
}

/* The file, and the texts that came of files beside it. */
static enum bnt_status add_inputs(struct bnt_sha256 *d, const struct user_suite *s)
{
    struct bnt_buf text = BNT_BUF(INPUT_MAX_BYTES);
    enum bnt_status st = bnt_file_read(s->path, &text, NULL);
    if (st == BNT_OK) {
        st = bnt_sha256_update(d, bnt_buf_view(&text), text.len + 1, NULL);
    }
    for (size_t i = 0; st == BNT_OK && i < s->n; i++) {
        const char *const texts[] = {s->tests[i].prompt, s->tests[i].expect.perplexity.text};
        for (size_t k = 0; st == BNT_OK && k < 2; k++) {
            st = texts[k] ? bnt_sha256_update(d, texts[k], strlen(texts[k]) + 1, NULL) : BNT_OK;
        }
    }
    bnt_buf_release(&text);
    return st;
}

const char *user_tests_inputs(const struct suite *suite)
{
    static const struct suite *last;
    static char hex[BNT_SHA256_HEX];
    for (size_t i = 0; suite != last && i < loaded.n; i++) {
        if (loaded.list[i] == suite) {
            struct bnt_sha256 *d = NULL;
            last = suite;
            if (bnt_sha256_new(&d, NULL) != BNT_OK || add_inputs(d, loaded.files[i]) != BNT_OK ||
                bnt_sha256_hex(d, hex, NULL) != BNT_OK) {
                snprintf(hex, sizeof hex, "-");
            }
            bnt_sha256_free(d);
        }
    }
    return suite == last ? hex : NULL;
}
