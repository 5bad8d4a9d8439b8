#include "testkit/bisect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/fault.h"
#include "testkit/proc.h"

enum { MAX_ARGS = 192, MAX_TEXT = 64 };

/* The command line of a side. Texts that are made for it are kept in `text`. */
struct command {
    char *argv[MAX_ARGS];
    size_t n;
    char text[MAX_TEXT][64];
    size_t n_text;
};

static void add(struct command *c, const char *word)
{
    union {
        const char *in;
        char *out;
    } quiet = {word}; /* execve does not write to them */
    c->argv[c->n++] = quiet.out;
    c->argv[c->n] = NULL;
}

static void add_pair(struct command *c, const char *option, const char *value)
{
    if (value) {
        add(c, option);
        add(c, value);
    }
}

static const char *number(struct command *c, int64_t value)
{
    char *text = c->text[c->n_text++];
    snprintf(text, sizeof c->text[0], "%lld", (long long)value);
    return text;
}

/* The value of a setting of this key, or NULL. */
static const char *value_of(const char *setting, const char *key)
{
    size_t n = strlen(key);
    return strncmp(setting, key, n) == 0 && setting[n] == '=' ? setting + n + 1 : NULL;
}

static const char *const engine_keys[][2] = {
    {"kernel", "--kernel"}, {"device", "--device"},   {"threads", "--threads"},
    {"batch", "--batch"},   {"kv-type", "--kv-type"}, {"i2s-layout", "--i2s-layout"},
    {"pre", "--pre"},       {"tl", "--tl"},           {"tiles", "--tiles"}};
enum { N_ENGINE_KEYS = sizeof engine_keys / sizeof engine_keys[0] };

/* The last setting of a key, or NULL. */
static const char *setting_of(const struct bisect_side *side, const char *key)
{
    const char *found = NULL;
    for (size_t i = 0; i < side->settings->n; i++) {
        const char *value = value_of(side->settings->at[i], key);
        found = value ? value : found;
    }
    return found;
}

static enum bnt_status check_settings(const struct bisect_side *side, struct bnt_err *err)
{
    for (size_t i = 0; i < side->settings->n; i++) {
        const char *s = side->settings->at[i], *env = value_of(s, "env");
        bool known = value_of(s, "bnt") || value_of(s, "model") || (env && strchr(env, '='));
        for (size_t k = 0; k < N_ENGINE_KEYS && !known; k++) {
            known = value_of(s, engine_keys[k][0]) != NULL;
        }
        if (!known) {
            bnt_err_set(err, BNT_E_USAGE, "--%c %s: no setting of a side", side->name + 'a' - 'A',
                        s);
            bnt_err_hint(err, "KEY=VALUE with bnt, model, kernel, device, threads, batch, kv-type, "
                              "i2s-layout, pre, tl, tiles, or env=NAME=VALUE");
            return BNT_E_USAGE;
        }
    }
    return BNT_OK;
}

/* One pass: where both traces go, and which record of them is wanted with all values (NULL: all
 * records). */
struct pass {
    const struct bisect_run *run;
    char self[BNT_PATH_MAX], place[BNT_PATH_MAX];
    const struct op_difference *at;
    bool full, mock;
};

static void add_choice(struct command *c, const struct pass *p)
{
    if (p->full) {
        add(c, "--full");
    }
    if (p->at) {
        add_pair(c, "--ops", p->at->op);
        add_pair(c, "--positions", number(c, p->at->position));
        add_pair(c, "--layers", p->at->layer >= 0 ? number(c, p->at->layer) : NULL);
    }
}

static void command_of(struct command *c, const struct pass *p, const struct bisect_side *side,
                       const char *file)
{
    const struct bisect_run *run = p->run;
    add(c, "env");
    for (size_t i = 0; i < side->settings->n; i++) {
        const char *env = value_of(side->settings->at[i], "env");
        if (env) {
            add(c, env);
        }
    }
    const char *program = setting_of(side, "bnt"), *model = setting_of(side, "model");
    add(c, program ? program : p->self);
    add(c, "trace");
    add_pair(c, "--model", model ? model : run->model);
    add_pair(c, "--prompt", run->prompt);
    add_pair(c, "--ids", run->ids);
    add_pair(c, "--max-tokens", number(c, run->max_tokens));
    if (run->allow_mock) {
        add(c, "--allow-mock");
    }
    for (size_t k = 0; k < N_ENGINE_KEYS; k++) {
        add_pair(c, engine_keys[k][1], setting_of(side, engine_keys[k][0]));
    }
    /* A CPU that took over would hide where the GPU parts. */
    add_pair(c, "--fallback", setting_of(side, "device") ? "never" : NULL);
    add_choice(c, p);
    add_pair(c, "--output", file);
}

/* ---- a side ---- */

/* What a side that failed said, as our error. */
static enum bnt_status side_failed(const struct bisect_side *side, const struct proc *p,
                                   struct bnt_err *err)
{
    char how[128];
    proc_describe(p, how, sizeof how);
    char *said = proc_output(p, PROC_ERR);
    const char *line = said ? strstr(said, "error: ") : NULL;
    line = line ? line + strlen("error: ") : said ? said : "";
    enum bnt_status st = proc_status(p);
    bnt_err_set(err, st, "side %c %s: %.*s", side->name, how, (int)strcspn(line, "\n"), line);
    bnt_err_hint(err, "both sides must be able to run bnt trace by themselves");
    free(said);
    return st;
}

static enum bnt_status run_side(struct pass *p, const struct bisect_side *side, const char *file,
                                struct bnt_err *err)
{
    struct command c = {0};
    struct proc child;
    command_of(&c, p, side, file);
    enum bnt_status st =
        proc_start(&child, &(struct proc_spec){.argv = c.argv, .grace_ms = 2000}, err);
    if (st != BNT_OK) {
        return st;
    }
    while (!proc_done(&child)) {
        proc_serve(&child, 1, 100);
        if (p->run->interrupted && *p->run->interrupted) {
            proc_stop(&child);
        }
    }
    if (child.end == PROC_STOPPED) {
        st = bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted while side %c ran", side->name);
    } else if (child.end == PROC_EXITED && child.code == BNT_E_MOCK_USED) {
        p->mock = true;
    } else if (child.end != PROC_EXITED || child.code != 0) {
        st = side_failed(side, &child, err);
    }
    proc_release(&child);
    return st;
}

/* ---- a pass ---- */

static enum bnt_status diff_files(const struct pass *p, const char *const files[2],
                                  struct op_diff_result *out, uint64_t *n_before,
                                  struct bnt_err *err)
{
    struct op_trace a = {0}, b = {0};
    enum bnt_status st = op_trace_read(files[0], &a, err);
    if (st == BNT_OK) {
        st = op_trace_read(files[1], &b, err);
    }
    if (st == BNT_OK) {
        op_trace_diff(&a, &b, &p->run->tolerance, out);
        *n_before = 0;
        const struct op_difference *d = &out->first;
        struct op_record first = {.layer = d->layer, .position = d->position};
        first.op = d->op ? bnt_tap_find(d->op) : BNT_TAP_EMBD;
        for (size_t i = 0; d->kind != OP_DIFF_NONE && i < a.n_records; i++) {
            *n_before += op_record_compare(&a.records[i], &first) < 0;
        }
    }
    op_trace_release(&a);
    op_trace_release(&b);
    return st;
}

static enum bnt_status run_pass(struct pass *p, const struct bisect_side sides[2],
                                struct op_diff_result *out, uint64_t *n_before, struct bnt_err *err)
{
    char a[BNT_PATH_MAX], b[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(a, err, "%s/a.trace", p->place);
    if (st == BNT_OK) {
        st = bnt_path_format(b, err, "%s/b.trace", p->place);
    }
    if (st == BNT_OK) {
        st = run_side(p, &sides[0], a, err);
    }
    if (st == BNT_OK) {
        st = run_side(p, &sides[BNT_FAULT(bisect_one_side) ? 0 : 1], b, err);
    }
    if (st == BNT_OK) {
        st = diff_files(p, (const char *const[]){a, b}, out, n_before, err);
    }
    unlink(a);
    unlink(b);
    return st;
}

static enum bnt_status find_self(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    ssize_t n = readlink("/proc/self/exe", out, BNT_PATH_MAX - 1);
    if (n < 0) {
        return bnt_err_errno(err, "finding this program");
    }
    out[n] = '\0';
    return BNT_OK;
}

static enum bnt_status make_place(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    enum bnt_status st = bnt_path_format(out, err, "%s/bnt-bisect-XXXXXX", bnt_temp_dir());
    if (st == BNT_OK && !mkdtemp(out)) {
        st = bnt_err_errno(err, "%s", out);
        bnt_err_hint(err, "set TMPDIR to a folder that can be written to");
    }
    return st;
}

/* Whether a second pass can say more about this difference. */
static bool has_element(const struct op_difference *d)
{
    return d->kind == OP_DIFF_VALUES || d->kind == OP_DIFF_UNSAMPLED ||
           d->kind == OP_DIFF_STATISTIC;
}

static enum bnt_status both_passes(struct pass *p, const struct bisect_side sides[2],
                                   struct bisect_result *out, struct bnt_err *err)
{
    struct op_diff_result first, second;
    uint64_t ignored;
    const struct op_tolerance *t = &p->run->tolerance;
    p->full = t->absolute > 0 || t->relative > 0;
    enum bnt_status st = run_pass(p, sides, &first, &out->n_before, err);
    if (st != BNT_OK) {
        return st;
    }
    out->first = first.first;
    if (has_element(&first.first) && !p->full) {
        struct pass again = *p;
        again.at = &first.first;
        again.full = true;
        st = run_pass(&again, sides, &second, &ignored, err);
        out->unstable = st == BNT_OK && second.first.kind == OP_DIFF_NONE;
        out->first = out->unstable ? first.first : second.first;
    }
    return st;
}

enum bnt_status bisect(const struct bisect_run *run, const struct bisect_side sides[2],
                       struct bisect_result *out, struct bnt_err *err)
{
    struct pass p = {.run = run};
    *out = (struct bisect_result){0};
    enum bnt_status st = check_settings(&sides[0], err);
    if (st == BNT_OK) {
        st = check_settings(&sides[1], err);
    }
    if (st == BNT_OK) {
        st = find_self(p.self, err);
    }
    if (st == BNT_OK) {
        st = make_place(p.place, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    st = both_passes(&p, sides, out, err);
    out->mock = p.mock;
    rmdir(p.place);
    return st;
}
