/* One run over a file: opens it watched, calls the checks in order of depth, keeps the findings.
 *
 * A check that needs what an earlier one found broken is left out: its findings would be echoes. */
#include "engine/validate.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model_arg.h"
#include "engine/tl_tiles.h"
#include "engine/validate_impl.h"

/* ---- findings ---- */

static char *copy(struct gguf_str s)
{
    return s.data ? strndup(s.data, s.len) : NULL;
}

static void free_finding(struct validate_finding *f)
{
    free(f->key);
    free(f->tensor);
    free(f->message);
    free(f->hint);
}

static bool make_room(struct validate_report *r)
{
    if (r->n < r->cap) {
        return true;
    }
    size_t cap = r->cap ? 2 * r->cap : 16;
    struct validate_finding *more = realloc(r->findings, cap * sizeof *more);
    if (more) {
        r->findings = more;
        r->cap = cap;
    }
    return more != NULL;
}

static void keep(struct validate *v, struct validate_finding f, const struct validate_place *at)
{
    struct validate_report *r = v->report;
    r->n_of[f.severity]++;
    v->n_fatal += validate_class_info(f.kind).severity[VALIDATE_RUNTIME] == VALIDATE_ERROR;
    if (r->n == VALIDATE_MAX_FINDINGS) {
        r->n_left_out++;
        free_finding(&f);
        return;
    }
    f.key = copy(at->key);
    f.tensor = copy(at->tensor);
    bool whole = f.message && f.hint && (f.key || !at->key.data) && (f.tensor || !at->tensor.data);
    f.has_offset = at->offset != NULL;
    f.offset = at->offset ? *at->offset : 0;
    if (whole && !f.has_offset) {
        f.has_offset = gguf_fault_offset(f.message, &f.offset);
    }
    if (!whole || !make_room(r)) {
        free_finding(&f);
        v->status = BNT_E_MEMORY;
        return;
    }
    r->findings[r->n++] = f;
}

void validate_add(struct validate *v, int kind, const struct validate_place *at, const char *fmt,
                  ...)
{
    const struct validate_class_info info = validate_class_info(kind);
    enum validate_severity severity = info.severity[v->o->profile];
    if (severity == VALIDATE_IGNORED) {
        return;
    }
    char text[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    keep(v,
         (struct validate_finding){.kind = kind,
                                   .severity = severity,
                                   .status = info.status,
                                   .recoverable = info.recoverable,
                                   .message = strdup(text),
                                   .hint = strdup(info.hint)},
         at);
}

/* The message without the file's name in front, which the report names once. */
static const char *without_path(const struct validate *v, const char *message)
{
    size_t n = strlen(v->path);
    return strncmp(message, v->path, n) == 0 && strncmp(message + n, ": ", 2) == 0 ? message + n + 2
                                                                                   : message;
}

void validate_add_error(struct validate *v, int kind, const struct validate_place *at,
                        const struct bnt_err *error)
{
    bool gguf = error->domain && strcmp(error->domain, "gguf") == 0 && error->foreign > 0;
    const struct validate_class_info info = validate_class_info(gguf ? error->foreign : kind);
    enum validate_severity severity = info.severity[v->o->profile];
    if (severity == VALIDATE_IGNORED) {
        return;
    }
    keep(v,
         (struct validate_finding){.kind = gguf ? error->foreign : kind,
                                   .severity = severity,
                                   .status = error->status,
                                   .recoverable = info.recoverable,
                                   .message = strdup(without_path(v, error->msg)),
                                   .hint = strdup(error->hint[0] ? error->hint : info.hint)},
         at);
}

struct validate_place validate_at_key(const char *key)
{
    return (struct validate_place){.key = {key, strlen(key)}};
}

struct validate_place validate_at_tensor(const struct gguf_tensor *t)
{
    return (struct validate_place){.tensor = t->name, .offset = &t->offset};
}

enum bnt_status validate_status(const struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->findings[i].severity == VALIDATE_ERROR) {
            return r->findings[i].status;
        }
    }
    return r->n_of[VALIDATE_ERROR] ? BNT_E_FILE : BNT_OK;
}

/* ---- the run ---- */

static void take_defect(void *ctx, const struct bnt_err *defect, const struct gguf_place *where)
{
    struct validate_place at = {.key = where->key, .tensor = where->tensor};
    validate_add_error(ctx, GGUF_FAULT_CORRUPT, &at, defect);
}

/* The header with all its defects. A file that is not there, or cannot be read, is an error. */
static enum bnt_status open_file(struct validate *v, struct bnt_err *err)
{
    struct bnt_err why = {0};
    struct gguf_watch watch = {take_defect, v};
    if (access(v->path, R_OK) != 0) {
        return bnt_err_errno(err, "cannot read %s", v->path);
    }
    enum bnt_status st = gguf_open_watched(v->path, GGUF_MODE_AUTO, &watch, &v->g, &why);
    v->report->gguf = v->g;
    if (st != BNT_OK && !(why.domain && strcmp(why.domain, "gguf") == 0)) {
        return bnt_err_copy(err, &why);
    }
    v->report->mock = v->g && gguf_find(v->g, BNT_MOCK_KIND_KEY);
    return BNT_OK;
}

static enum bnt_status run_checks(struct validate *v, struct bnt_err *err)
{
    enum bnt_status st = open_file(v, err);
    const enum validate_level level = v->o->level;
    const bool readable = st == BNT_OK && v->g;
    if (readable) {
        validate_layout(v);
        validate_platforms(v);
    }
    if (readable && level >= VALIDATE_STANDARD) {
        validate_architecture(v);
        validate_tokenizer(v);
    }
    if (readable && level >= VALIDATE_COMPREHENSIVE) {
        st = validate_content(v, err);
    }
    if (st == BNT_OK && (level >= VALIDATE_COMPREHENSIVE || v->o->hash)) {
        st = validate_digest(v, err);
    }
    if (st == BNT_OK && readable && (level >= VALIDATE_COMPREHENSIVE || v->o->benchmark) &&
        v->n_fatal == 0) {
        st = validate_behaviour(v, err);
    }
    return st;
}

enum bnt_status validate_file(const char *path, const struct validate_options *o,
                              struct validate_report *out, struct bnt_err *err)
{
    *out = (struct validate_report){.options = *o};
    struct validate v = {.path = path, .o = &out->options, .report = out};
    enum bnt_status st = tl_tiles_check(o->tl_tiles, o->n_tl_tiles, err);
    if (st == BNT_OK) {
        st = run_checks(&v, err);
    }
    bnt_tokenizer_free(v.tokenizer);
    if (st == BNT_OK && v.status != BNT_OK) {
        st = bnt_err_nomem(err, "the findings", out->n * sizeof *out->findings);
    }
    return st;
}

void validate_release(struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free_finding(&r->findings[i]);
    }
    free(r->findings);
    free(r->stats);
    gguf_close(r->gguf);
    *r = (struct validate_report){0};
}
