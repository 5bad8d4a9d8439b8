/* The reading end of what testkit/suites/main.c prints. */
#include "testkit/runner_tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"

struct tap {
    unsigned n_results;
    bool named, ok, planned;
    char *skip, *why, *cause, *warning, *verdict, *not_enforced;
    struct bnt_buf output;
    struct bnt_test_metric metrics[BNT_TEST_METRICS_MAX];
    size_t n_metrics;
};

static bool starts_with(const char *line, const char *word)
{
    return strncmp(line, word, strlen(word)) == 0;
}

static void keep(char **slot, const char *text)
{
    if (!*slot) {
        *slot = strdup(text);
    }
}

/* What stands behind the directive SKIP, in whatever case, "" when that is nothing; NULL: there is
 * none. */
static const char *skip_of(const char *text)
{
    static const char word[] = "skip";
    const char *at = strchr(text, '#');
    if (!at) {
        return NULL;
    }
    at += 1 + strspn(at + 1, " ");
    if (strncasecmp(at, word, sizeof word - 1) != 0) {
        return NULL;
    }
    at += sizeof word - 1;
    at += strcspn(at, " "); /* "SKIPPED", too */
    return at + strspn(at, " ");
}

/* "ok 1 - NAME # SKIP why" and "not ok 1 - NAME # time=1.0ms". */
static void read_result(struct tap *t, const char *line, const char *name)
{
    t->n_results++;
    t->ok = starts_with(line, "ok ");
    const char *at = strstr(line, " - ");
    size_t len = strlen(name);
    t->named = at && strncmp(at + 3, name, len) == 0 && (at[3 + len] == ' ' || at[3 + len] == '\0');
    const char *skip = t->named ? skip_of(at + 3 + len) : NULL;
    if (skip) {
        keep(&t->skip, skip[0] ? skip : "it does not say why");
    }
}

/* "NAME VALUE UNIT"; another form, or one too many, is no figure. */
static void read_metric(struct tap *t, const char *text)
{
    struct bnt_test_metric m = {.value = 0};
    int end = 0;
    bool read = sscanf(text, "%47s %lf %15s%n", m.name, &m.value, m.unit, &end) == 3;
    if (read && text[end] == '\0' && isfinite(m.value) && t->n_metrics < BNT_TEST_METRICS_MAX) {
        t->metrics[t->n_metrics++] = m;
    }
}

static void read_line(struct tap *t, const char *line, const char *name)
{
    if (starts_with(line, "ok ") || starts_with(line, "not ok ")) {
        read_result(t, line, name);
    } else if (strcmp(line, "1..1") == 0) {
        t->planned = true;
    } else if (starts_with(line, "# why: ")) {
        keep(&t->why, line + strlen("# why: "));
    } else if (starts_with(line, "# verdict: ")) {
        keep(&t->verdict, line + strlen("# verdict: "));
    } else if (starts_with(line, "# warning: ")) {
        keep(&t->warning, line + strlen("# warning: "));
    } else if (starts_with(line, "# not enforced here: ")) {
        keep(&t->not_enforced, line + strlen("# not enforced here: "));
    } else if (starts_with(line, "# metric: ")) {
        read_metric(t, line + strlen("# metric: "));
    } else if (starts_with(line, "# cause: ")) {
        keep(&t->cause, line + strlen("# cause: "));
    } else if (starts_with(line, "# | ")) {
        (void)bnt_buf_printf(&t->output, NULL, "%s\n", line + strlen("# | "));
    } else if (starts_with(line, "[... ")) {
        (void)bnt_buf_printf(&t->output, NULL, "%s\n", line);
    }
}

static bool is_complete(const struct tap *t, int exit_code)
{
    return t->n_results == 1 && (t->named || BNT_FAULT(tap_name)) && t->planned &&
           exit_code == (t->ok ? 0 : 1);
}

/* Move a text to its new owner. */
static void give(char **from, char **to)
{
    free(*to);
    *to = *from;
    *from = NULL;
}

/* A program that names no verdict leaves the plain ones. */
static enum verdict verdict_of(const struct tap *t)
{
    enum verdict v;
    if (t->verdict && verdict_from_word(t->verdict, &v) && verdict_is_good(v) == t->ok) {
        return v;
    }
    return !t->ok ? VERDICT_ASSERTION : t->skip ? VERDICT_SKIPPED : VERDICT_PASSED;
}

static void fill(struct bnt_test *test, struct tap *t)
{
    test->outcome = !t->ok ? BNT_TEST_FAILED : t->skip ? BNT_TEST_SKIPPED : BNT_TEST_PASSED;
    test->verdict = verdict_of(t);
    give(t->ok ? &t->skip : &t->why, &test->reason);
    free(test->output);
    test->output = t->output.len > 0 ? bnt_buf_take(&t->output) : NULL;
    free(test->cause);
    test->cause = NULL;
    if (!t->ok) {
        give(&t->cause, &test->cause);
    }
    give(&t->warning, &test->warning);
    give(&t->not_enforced, &test->not_enforced);
}

static void keep_metrics(struct bnt_test *test, const struct tap *t)
{
    free(test->metrics);
    test->metrics = malloc((t->n_metrics + 1) * sizeof *test->metrics);
    test->n_metrics = test->metrics ? t->n_metrics : 0;
    for (size_t i = 0; i < test->n_metrics; i++) {
        test->metrics[i] = t->metrics[i];
    }
}

static void tap_release(struct tap *t)
{
    char *const texts[] = {t->skip, t->why, t->cause, t->warning, t->verdict, t->not_enforced};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        free(texts[i]);
    }
    bnt_buf_release(&t->output);
}

bool runner_tap_read(const char *tap, int exit_code, struct bnt_test *test)
{
    struct tap t = {.output = BNT_BUF(4 << 20)};
    char *text = strdup(tap);
    char *rest = NULL;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        read_line(&t, line, test->name);
    }
    bool complete = is_complete(&t, exit_code);
    if (complete) {
        fill(test, &t);
        keep_metrics(test, &t);
    }
    tap_release(&t);
    free(text);
    return complete;
}
