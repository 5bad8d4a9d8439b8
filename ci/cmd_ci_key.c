/* bnt ci key, bnt ci outcome: under which key a job's models are cached, and what an exit code
 * means to a job. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/msg.h"
#include "ci/cmd_ci_impl.h"
#include "fetch/lockfile.h"

/* ---- bnt ci key ---- */

/* All keys have one length, so that none is the beginning of another: caches that look for the
 * beginning of a key when they do not have it find nothing. */
#define KEY_PREFIX "bnt-models-1-"

enum { CONTENT_MAX_BYTES = 16 << 20 };

struct key_opts {
    const char *lock, *output;
};

static const struct bnt_opt key_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "lock",
     .arg = "FILE",
     .help = "the lock file, whose name is bnt.lock",
     .offset = offsetof(struct key_opts, lock),
     .def = LOCKFILE_FILE},
    CI_OUTPUT_ROW(struct key_opts),
    BNT_OPT_END,
};

static enum bnt_status lock_folder(const char *path, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *slash = strrchr(path, '/');
    if (strcmp(slash ? slash + 1 : path, LOCKFILE_FILE) != 0) {
        bnt_err_hint(err, "bnt lock writes it beside bnt.yml");
        return bnt_err_set(err, BNT_E_USAGE, "--lock %s: a lock file is called %s", path,
                           LOCKFILE_FILE);
    }
    if (!slash) {
        return bnt_path_format(out, err, ".");
    }
    return bnt_path_format(out, err, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

/* What the cache would hold, and nothing else of the lock: where the content comes from does not
 * change the key. */
static enum bnt_status describe(const struct lockfile *l, const char *const *names, size_t n,
                                struct bnt_buf *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        const json_t *entry = lockfile_entry(l, names[i]);
        for (size_t k = 0; st == BNT_OK && k < lockfile_n_files(entry); k++) {
            struct lock_file f = lockfile_file(entry, k);
            st = bnt_buf_printf(out, err, "%s %s %s\n", BNT_FAULT(key_blind) ? "" : f.sha256,
                                names[i], f.path);
        }
    }
    return st;
}

static enum bnt_status make_key(const struct lockfile *l, char hex[BNT_SHA256_HEX],
                                struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(CONTENT_MAX_BYTES);
    size_t n = 0;
    const char **names = calloc(json_object_size(l->models) + 1, sizeof *names);
    const char *name;
    json_t *entry;
    if (!names) {
        return bnt_err_nomem(err, "the key", json_object_size(l->models));
    }
    json_object_foreach(l->models, name, entry)
    {
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_name);
    enum bnt_status st = describe(l, names, n, &text, err);
    if (st == BNT_OK) {
        st = bnt_sha256_text(bnt_buf_view(&text), text.len, hex, err);
    }
    free(names);
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status run_key(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct key_opts *o = parsed;
    struct bnt_err err = {0};
    struct lockfile lock = {0};
    char folder[BNT_PATH_MAX];
    char hex[BNT_SHA256_HEX];
    char key[sizeof KEY_PREFIX + BNT_SHA256_HEX];
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt ci key --lock FILE", "no operand is taken: %s",
                            argv[0]);
    }
    enum bnt_status st = lock_folder(o->lock, folder, &err);
    if (st == BNT_OK) {
        st = lockfile_read(&lock, folder, &err);
    }
    if (st == BNT_OK && !lock.exists) {
        bnt_err_hint(&err, "run: bnt lock, and commit what it writes");
        st = bnt_err_set(&err, BNT_E_NOT_FOUND, "%s does not exist", o->lock);
    }
    if (st == BNT_OK) {
        st = make_key(&lock, hex, &err);
    }
    lockfile_release(&lock);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    snprintf(key, sizeof key, "%s%s", KEY_PREFIX, hex);
    return ci_tell(key, o->output);
}

const struct bnt_cmd bnt_cmd_ci_key = {
    .name = "key",
    .synopsis = "[--lock FILE] [--output NAME]",
    .summary = "the key under which CI caches the models of a lock file",
    .description = "Names, files and digests of the lock make it: it changes when the content "
                   "does, and only then. No key is the beginning of another, and a cache must be "
                   "asked for it alone (no restore-keys): a cache of other models is none.",
    .examples = "  bnt ci key --output key   # then: key: ${{ steps.ID.outputs.key }}",
    .opts = key_options,
    .opts_size = sizeof(struct key_opts),
    .run = run_key,
};

/* ---- bnt ci outcome ---- */

struct outcome_opts {
    const char *annotate, *output;
};

static const struct bnt_opt outcome_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "annotate",
     .arg = "WHAT",
     .help = "print an annotation instead, unless it went well: WHAT is what was tried",
     .offset = offsetof(struct outcome_opts, annotate)},
    CI_OUTPUT_ROW(struct outcome_opts),
    BNT_OPT_END,
};

/* What an exit code means to who looks at a job. A code that is in no row failed. */
static const struct {
    int code;
    const char *outcome;
} outcomes[] = {
    {BNT_OK, "passed"},
    {BNT_E_MOCK_USED, "passed"},
    {BNT_E_INCONCLUSIVE, "incomplete"},
    {BNT_E_NOT_ALL_RAN, "incomplete"},
    {BNT_E_INTERRUPTED, "interrupted"},
    /* Outside the project: the same commit may pass in an hour. */
    {BNT_E_NO_SPACE, "infrastructure"},
    {BNT_E_RATE_LIMIT, "infrastructure"},
    {BNT_E_NETWORK, "infrastructure"},
    {BNT_E_OFFLINE, "infrastructure"},
    {BNT_E_TIME, "infrastructure"},
    {BNT_E_CIRCUIT, "infrastructure"},
    /* The job asks for what cannot be: it will not pass by itself. */
    {BNT_E_USAGE, "setup"},
    {BNT_E_NO_TESTS, "setup"},
    {BNT_E_NOT_FOUND, "setup"},
    {BNT_E_AUTH, "setup"},
    {BNT_E_LOCK_DRIFT, "setup"},
    {BNT_E_DEVICE, "setup"},
    {BNT_E_SLOWER, "slower"},
};

static const char *outcome_of(long code)
{
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        if (outcomes[i].code == code && !(BNT_FAULT(network_is_red) && code == BNT_E_NETWORK)) {
            return outcomes[i].outcome;
        }
    }
    return "failed";
}

static const char *meaning_of(long code)
{
#define MEANING(number, name, text)                                                                \
    if (code == (number)) {                                                                        \
        return text;                                                                               \
    }
    BNT_EXIT_TABLE(MEANING)
#undef MEANING
    return "no code of bnt";
}

static enum bnt_status annotate_outcome(const char *what, const char *outcome, long code)
{
    if (strcmp(outcome, "passed") == 0) {
        return BNT_OK;
    }
    bool outside = strcmp(outcome, "infrastructure") == 0;
    /* The text comes from the workflow itself; a '%' or a line end in it would be read as an
     * escape. */
    if (strpbrk(what, "%\r\n")) {
        return bnt_msg_fail(BNT_E_USAGE, "write a few plain words",
                            "--annotate: '%%' or a line "
                            "end in the text");
    }
    printf("::error title=%s::%s: %s (exit %ld).%s\n", outcome, what, meaning_of(code), code,
           outside ? " No test is red for it: run the job again." : "");
    return BNT_OK;
}

static enum bnt_status run_outcome(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct outcome_opts *o = parsed;
    char *end = NULL;
    errno = 0;
    long code = argc == 1 ? strtol(argv[0], &end, 10) : -1;
    if (argc != 1 || end == argv[0] || *end || errno || code < 0 || code > 255) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt ci outcome 14",
                            "give one exit code, 0 to 255");
    }
    const char *outcome = outcome_of(code);
    if (o->annotate) {
        enum bnt_status st = annotate_outcome(o->annotate, outcome, code);
        return st == BNT_OK && o->output ? ci_tell(outcome, o->output) : st;
    }
    return ci_tell(outcome, o->output);
}

const struct bnt_cmd bnt_cmd_ci_outcome = {
    .name = "outcome",
    .synopsis = "EXIT [--annotate WHAT] [--output NAME]",
    .summary = "what an exit code of bnt means to a CI job",
    .description = "passed (0, 24), failed, incomplete (3, 27), infrastructure (10, 12, 14, 15, "
                   "19, 21: outside the project, worth another run), setup (2, 4, 8, 11, 20, 22: "
                   "the job asks for what cannot be), slower (17), interrupted (130).",
    .examples = "  bnt fetch || bnt ci outcome $? --annotate \"the models\"",
    .opts = outcome_options,
    .opts_size = sizeof(struct outcome_opts),
    .run = run_outcome,
};
