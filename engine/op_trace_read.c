/* Reading a trace. The file may come from another build, another machine or an editor, so every
 * member is checked; what is kept afterwards holds what op_trace.h says. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/op_trace.h"

/* One file being read. */
struct source {
    const char *path;
    FILE *file;
    struct bnt_buf line;
    unsigned long long number; /* of the line, from 1 */
};

static enum bnt_status bad_line(const struct source *s, const char *what, struct bnt_err *err)
{
    bnt_err_set(err, BNT_E_FILE, "%s:%llu: %s", s->path, s->number, what);
    bnt_err_hint(err, "a trace is what bnt trace has written, whole");
    return BNT_E_FILE;
}

/* The next line as a JSON object, NULL at the end. */
static enum bnt_status next_line(struct source *s, json_t **out, struct bnt_err *err)
{
    bool end;
    struct bnt_err why = {0};
    *out = NULL;
    s->number++;
    if (bnt_read_line(s->file, &s->line, &end, &why) != BNT_OK) {
        if (why.status == BNT_E_FILE) {
            return bad_line(s, "the line is longer than a record can be", err);
        }
        (void)bnt_err_context(&why, "%s", s->path);
        return bnt_err_copy(err, &why);
    }
    if (end) {
        return BNT_OK;
    }
    json_error_t e;
    *out = json_loadb(bnt_buf_view(&s->line), s->line.len, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return bad_line(s, "this is no JSON object", err);
    }
    return BNT_OK;
}

static bool get_u32(const json_t *line, const char *key, uint32_t *out)
{
    const json_t *v = json_object_get(line, key);
    json_int_t i = json_integer_value(v);
    *out = (uint32_t)i;
    return json_is_integer(v) && i >= 0 && i < UINT32_MAX;
}

static bool get_double(const json_t *line, const char *key, double *out)
{
    const json_t *v = json_object_get(line, key);
    *out = json_number_value(v);
    return json_is_number(v);
}

static bool get_text(const json_t *line, const char *key, char **out)
{
    const char *text = json_string_value(json_object_get(line, key));
    *out = text ? strdup(text) : NULL;
    return *out != NULL;
}

static bool get_ids(const json_t *line, const char *key, struct bnt_ids *out, struct bnt_err *err)
{
    const json_t *list = json_object_get(line, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX ||
            bnt_ids_push(out, (int32_t)id, err) != BNT_OK) {
            return false;
        }
    }
    return json_is_array(list);
}

static bool value_of(const json_t *v, float *out)
{
    const char *word = json_string_value(v);
    if (!word) {
        *out = (float)json_number_value(v);
        return json_is_number(v);
    }
    *out = strcmp(word, "nan") == 0 ? NAN : strcmp(word, "inf") == 0 ? INFINITY : -INFINITY;
    return isnan(*out) || *out > 0 || strcmp(word, "-inf") == 0;
}

static bool get_values(const json_t *line, struct op_record *r)
{
    const json_t *list = json_object_get(line, "values");
    size_t n = json_array_size(list);
    if (n == 0 || n > r->n) {
        return false;
    }
    r->values = malloc(n * sizeof *r->values);
    r->n_values = (uint32_t)n;
    bool ok = r->values != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        ok = value_of(json_array_get(list, i), &r->values[i]);
    }
    return ok;
}

static bool get_record(const json_t *line, struct op_record *r)
{
    const char *op = json_string_value(json_object_get(line, "op"));
    const char *digest = json_string_value(json_object_get(line, "digest"));
    const json_t *layer = json_object_get(line, "layer");
    json_int_t il = json_integer_value(layer);
    r->op = op ? bnt_tap_find(op) : BNT_TAP_N_OPS;
    if (r->op == BNT_TAP_N_OPS || !digest || strlen(digest) != OP_TRACE_DIGEST - 1 ||
        !json_is_integer(layer) || il > INT32_MAX - 1 ||
        (bnt_tap_in_layer(r->op) ? il < 0 : il != -1)) {
        return false;
    }
    r->layer = (int32_t)il;
    memcpy(r->digest, digest, OP_TRACE_DIGEST);
    return get_u32(line, "position", &r->position) && get_u32(line, "n", &r->n) && r->n > 0 &&
           get_u32(line, "nan", &r->n_nan) && get_u32(line, "inf", &r->n_inf) &&
           get_double(line, "min", &r->min) && get_double(line, "max", &r->max) &&
           get_double(line, "mean", &r->mean) && get_double(line, "rms", &r->rms) &&
           get_values(line, r);
}

static enum bnt_status read_head(struct source *s, struct op_trace *t, struct bnt_err *err)
{
    json_t *line;
    enum bnt_status st = next_line(s, &line, err);
    if (st != BNT_OK) {
        return st;
    }
    const char *what = json_string_value(json_object_get(line, "trace"));
    uint32_t format = 0, threads = 0;
    if (!what || strcmp(what, "bnt") != 0 || !get_u32(line, "format", &format)) {
        st = bad_line(s, "this is not the first line of a trace", err);
    } else if (format != OP_TRACE_FORMAT) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: a trace of format %u; this bnt reads %d",
                         s->path, format, OP_TRACE_FORMAT);
    } else if (!get_text(line, "model", &t->model) || !get_text(line, "arch", &t->arch) ||
               !get_text(line, "kernel", &t->kernel) || !get_u32(line, "threads", &threads) ||
               !get_ids(line, "ids", &t->ids, err)) {
        st = bad_line(s, "the first line of a trace lacks something", err);
    }
    t->n_threads = (int32_t)threads;
    t->full = json_is_true(json_object_get(line, "full"));
    json_decref(line);
    return st;
}

static enum bnt_status keep_record(const struct source *s, struct op_trace *t, struct op_record *r,
                                   struct bnt_err *err)
{
    if (t->n_records == OP_TRACE_RECORDS_MAX) {
        return bad_line(s, "more records than bnt reads: choose some by --ops or --positions", err);
    }
    if (t->n_records == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 1024;
        struct op_record *grown = realloc(t->records, capacity * sizeof *grown);
        if (!grown) {
            return bnt_err_nomem(err, "the records of a trace", capacity * sizeof *grown);
        }
        t->records = grown;
        t->capacity = capacity;
    }
    t->records[t->n_records++] = *r;
    return BNT_OK;
}

/* Records up to the last line, which is checked as well. */
static enum bnt_status read_records(struct source *s, struct op_trace *t, struct bnt_err *err)
{
    for (;;) {
        json_t *line;
        enum bnt_status st = next_line(s, &line, err);
        if (st != BNT_OK) {
            return st;
        }
        if (!line) {
            return bad_line(s, "the trace is cut short: its last line is missing", err);
        }
        uint32_t records = 0;
        bool end = json_is_true(json_object_get(line, "end"));
        struct op_record r = {0};
        if (end) {
            st = get_u32(line, "records", &records) && records == t->n_records &&
                         get_ids(line, "generated", &t->generated, err)
                     ? BNT_OK
                     : bad_line(s, "the last line counts other records than there are", err);
        } else {
            st = get_record(line, &r) ? keep_record(s, t, &r, err)
                                      : bad_line(s, "this is no record of a trace", err);
            if (st != BNT_OK) {
                free(r.values);
            }
        }
        json_decref(line);
        if (end || st != BNT_OK) {
            return st;
        }
    }
}

/* Two traces in one file are none: the second would be passed over. */
static enum bnt_status check_end(struct source *s, struct bnt_err *err)
{
    json_t *line;
    enum bnt_status st = next_line(s, &line, err);
    if (st == BNT_OK && line) {
        st = bad_line(s, "the trace has ended before this line", err);
    }
    json_decref(line);
    return st;
}

static int compare_records(const void *a, const void *b)
{
    return op_record_compare(a, b);
}

static enum bnt_status sort_records(const struct source *s, struct op_trace *t, struct bnt_err *err)
{
    if (t->n_records > 0) {
        qsort(t->records, t->n_records, sizeof *t->records, compare_records);
    }
    for (size_t i = 1; i < t->n_records; i++) {
        const struct op_record *r = &t->records[i];
        if (op_record_compare(r - 1, r) == 0) {
            return bnt_err_set(err, BNT_E_FILE, "%s: op %s of layer %d, token %u stands twice",
                               s->path, bnt_tap_name(r->op), r->layer, r->position);
        }
    }
    return BNT_OK;
}

enum bnt_status op_trace_read(const char *path, struct op_trace *out, struct bnt_err *err)
{
    *out = (struct op_trace){0};
    bool is_stdin = strcmp(path, "-") == 0;
    struct source s = {.path = is_stdin ? "standard input" : path,
                       .file = is_stdin ? stdin : fopen(path, "re"),
                       .line = BNT_BUF(OP_TRACE_LINE_MAX)};
    if (!s.file) {
        return bnt_err_errno(err, "%s", path);
    }
    enum bnt_status st = read_head(&s, out, err);
    if (st == BNT_OK) {
        st = read_records(&s, out, err);
        st = st == BNT_OK ? check_end(&s, err) : st;
    }
    if (st == BNT_OK) {
        st = sort_records(&s, out, err);
    }
    bnt_buf_release(&s.line);
    if (!is_stdin) {
        fclose(s.file);
    }
    if (st != BNT_OK) {
        op_trace_release(out);
    }
    return st;
}

void op_trace_release(struct op_trace *t)
{
    for (size_t i = 0; i < t->n_records; i++) {
        free(t->records[i].values);
    }
    free(t->records);
    free(t->model);
    free(t->arch);
    free(t->kernel);
    bnt_ids_release(&t->ids);
    bnt_ids_release(&t->generated);
    *t = (struct op_trace){0};
}
