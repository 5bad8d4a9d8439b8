/* Records of a run, from a tap to JSON lines. */
#include "engine/op_trace.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/utf8.h"

/* ---- which records ---- */

static bool parse_number(const char **at, uint32_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(*at, &end, 10);
    bool ok = **at >= '0' && **at <= '9' && errno == 0 && v < UINT32_MAX;
    *out = (uint32_t)v;
    *at = end;
    return ok;
}

enum bnt_status op_ranges_parse(const char *option, const char *text, struct op_ranges *out,
                                struct bnt_err *err)
{
    const char *at = text;
    out->n = 0;
    while (at && out->n < OP_TRACE_RANGES) {
        uint32_t first, last;
        bool ok = parse_number(&at, &first);
        last = first;
        if (ok && *at == '-') {
            at++;
            ok = parse_number(&at, &last);
        }
        if (!ok || last < first || (*at != ',' && *at != '\0')) {
            break;
        }
        out->at[out->n].first = first;
        out->at[out->n].last = last;
        out->n++;
        if (*at == '\0') {
            return BNT_OK;
        }
        at++;
    }
    if (!text) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_USAGE, "%s %s: numbers and ranges by comma are wanted", option, text);
    bnt_err_hint(err, "write, for example: %s 0,4-7   (at most %d of them)", option,
                 OP_TRACE_RANGES);
    return BNT_E_USAGE;
}

static bool in_ranges(const struct op_ranges *r, uint32_t value)
{
    bool in = r->n == 0;
    for (size_t i = 0; i < r->n && !in; i++) {
        in = value >= r->at[i].first && value <= r->at[i].last;
    }
    return in;
}

static enum bnt_status no_such_op(const char *name, int len, struct bnt_err *err)
{
    struct bnt_buf names = BNT_BUF(1024);
    for (int op = 0; op < BNT_TAP_N_OPS; op++) {
        bnt_buf_printf(&names, NULL, " %s", bnt_tap_name((enum bnt_tap_op)op));
    }
    bnt_err_set(err, BNT_E_USAGE, "there is no op '%.*s'", len, name);
    bnt_err_hint(err, "ops:%s", bnt_buf_view(&names));
    bnt_buf_release(&names);
    return BNT_E_USAGE;
}

enum bnt_status op_choice_ops(const char *text, struct op_choice *out, struct bnt_err *err)
{
    memset(out->op, !text, sizeof out->op);
    while (text) {
        char name[32] = "";
        size_t len = strcspn(text, ",");
        if (len < sizeof name) {
            memcpy(name, text, len);
        }
        enum bnt_tap_op op = bnt_tap_find(name);
        if (op == BNT_TAP_N_OPS) {
            return no_such_op(text, (int)(len < 64 ? len : 64), err);
        }
        out->op[op] = true;
        text = text[len] == ',' ? text + len + 1 : NULL;
    }
    return BNT_OK;
}

/* ---- a record ---- */

/* Embeddings come before all layers, the head after them. */
static int32_t place_of(const struct op_record *r)
{
    return r->layer >= 0 ? r->layer : r->op == BNT_TAP_EMBD ? -1 : INT32_MAX;
}

int op_record_compare(const struct op_record *a, const struct op_record *b)
{
    if (a->position != b->position) {
        return a->position < b->position ? -1 : 1;
    }
    int32_t pa = place_of(a), pb = place_of(b);
    if (pa != pb) {
        return pa < pb ? -1 : 1;
    }
    return (int)a->op - (int)b->op;
}

static enum bnt_status digest_of(const struct bnt_tap_row *row, char out[OP_TRACE_DIGEST],
                                 struct bnt_err *err)
{
    uint8_t bytes[4096];
    char hex[BNT_SHA256_HEX];
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    for (uint32_t i = 0; st == BNT_OK && i < row->n;) {
        size_t len = 0;
        for (; i < row->n && len < sizeof bytes; i++, len += 4) {
            uint32_t bits = 0x7fc00000u;
            if (!isnan(row->values[i])) {
                memcpy(&bits, &row->values[i], sizeof bits);
            }
            for (size_t b = 0; b < 4; b++) {
                bytes[len + b] = (uint8_t)(bits >> (8 * b));
            }
        }
        st = bnt_sha256_update(d, bytes, len, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    if (st == BNT_OK) {
        memcpy(out, hex, OP_TRACE_DIGEST - 1);
        out[OP_TRACE_DIGEST - 1] = '\0';
    }
    bnt_sha256_free(d);
    return st;
}

static void statistics(const struct bnt_tap_row *row, struct op_record *r)
{
    double sum = 0, squares = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < row->n; i++) {
        double v = (double)row->values[i];
        if (isnan(v)) {
            r->n_nan++;
        } else if (isinf(v)) {
            r->n_inf++;
        } else {
            r->min = n == 0 || v < r->min ? v : r->min;
            r->max = n == 0 || v > r->max ? v : r->max;
            sum += v;
            squares += v * v;
            n++;
        }
    }
    r->mean = n ? sum / n : 0;
    r->rms = n ? sqrt(squares / n) : 0;
}

/* ---- writing ---- */

/* A number of JSON where it can be one, else the word in quotes. */
static enum bnt_status put_value(struct bnt_buf *line, float v, struct bnt_err *err)
{
    if (isfinite(v)) {
        return bnt_buf_printf(line, err, "%.9g", (double)v);
    }
    return bnt_buf_puts(line, isnan(v) ? "\"nan\"" : v > 0 ? "\"inf\"" : "\"-inf\"", err);
}

static enum bnt_status put_record(struct op_tracer *t, const struct op_record *r,
                                  const float *values, struct bnt_err *err)
{
    bnt_buf_reset(&t->line);
    enum bnt_status st = bnt_buf_printf(
        &t->line, err,
        "{\"op\":\"%s\",\"layer\":%d,\"position\":%u,\"n\":%u,\"min\":%.9g,\"max\":%.9g,"
        "\"mean\":%.9g,\"rms\":%.9g,\"nan\":%u,\"inf\":%u,\"digest\":\"%s\",\"values\":[",
        bnt_tap_name(r->op), r->layer, r->position, r->n, r->min, r->max, r->mean, r->rms, r->n_nan,
        r->n_inf, r->digest);
    for (uint32_t i = 0; st == BNT_OK && i < r->n_values; i++) {
        st = i == 0 ? BNT_OK : bnt_buf_putc(&t->line, ',', err);
        if (st == BNT_OK) {
            st = put_value(&t->line, values[op_record_element(r, i)], err);
        }
    }
    if (st == BNT_OK) {
        st = bnt_buf_puts(&t->line, "]}\n", err);
    }
    return st == BNT_OK ? t->put(t->ctx, t->line.data, t->line.len, err) : st;
}

static bool is_chosen(struct op_tracer *t, const struct bnt_tap_row *row)
{
    const struct op_choice *c = t->choice;
    if (row->op >= BNT_TAP_OUTPUT_NORM) {
        uint32_t *next = &t->next_head[row->op - BNT_TAP_OUTPUT_NORM];
        if (row->position < *next) {
            return false;
        }
        *next = row->position + 1;
    }
    return c->op[row->op] && in_ranges(&c->positions, row->position) &&
           (row->layer < 0 || in_ranges(&c->layers, (uint32_t)row->layer));
}

void op_tracer_row(void *ctx, const struct bnt_tap_row *row)
{
    struct op_tracer *t = ctx;
    if (t->err.status != BNT_OK || !is_chosen(t, row)) {
        return;
    }
    uint32_t samples = row->n < OP_TRACE_SAMPLES ? row->n : OP_TRACE_SAMPLES;
    struct op_record r = {.op = row->op,
                          .layer = row->layer,
                          .position = row->position + BNT_FAULT(trace_position),
                          .n = row->n,
                          .n_values = t->choice->full ? row->n : samples};
    statistics(row, &r);
    if (digest_of(row, r.digest, &t->err) == BNT_OK &&
        put_record(t, &r, row->values, &t->err) == BNT_OK) {
        t->n_records++;
    }
}

/* Text of JSON, quoted. A byte that is no UTF-8, as a path may have, becomes U+FFFD. */
static enum bnt_status put_text(struct bnt_buf *line, const char *key, const char *text,
                                struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_printf(line, err, ",\"%s\":\"", key);
    const char *end = text + strlen(text);
    for (const char *p = text; st == BNT_OK && p < end;) {
        unsigned char c = (unsigned char)*p;
        unsigned n = bnt_utf8_len((const unsigned char *)p, (size_t)(end - p));
        if (n == 0) {
            st = bnt_buf_puts(line, "\\ufffd", err);
        } else if (c < 0x20 || c == '"' || c == '\\') {
            st = bnt_buf_printf(line, err, "\\u%04x", c);
        } else {
            st = bnt_buf_append(line, p, n, err);
        }
        p += n > 0 ? n : 1;
    }
    return st == BNT_OK ? bnt_buf_putc(line, '"', err) : st;
}

static enum bnt_status put_ids(struct bnt_buf *line, const char *key, const int32_t *ids, size_t n,
                               struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_printf(line, err, ",\"%s\":[", key);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = bnt_buf_printf(line, err, i == 0 ? "%d" : ",%d", ids[i]);
    }
    return st == BNT_OK ? bnt_buf_putc(line, ']', err) : st;
}

enum bnt_status op_tracer_begin(struct op_tracer *t, const struct op_trace_head *head,
                                struct bnt_err *err)
{
    const char *const texts[][2] = {{"model", head->model},
                                    {"arch", head->arch},
                                    {"kernel", head->kernel},
                                    {"kv_type", head->kv_type}};
    bnt_buf_init(&t->line, OP_TRACE_LINE_MAX);
    enum bnt_status st = bnt_buf_printf(
        &t->line, err,
        "{\"trace\":\"bnt\",\"format\":%d,\"n_layer\":%u,\"n_vocab\":%u,\"threads\":%d,"
        "\"full\":%s",
        OP_TRACE_FORMAT, head->n_layer, head->n_vocab, head->n_threads,
        head->full ? "true" : "false");
    for (size_t i = 0; st == BNT_OK && i < sizeof texts / sizeof texts[0]; i++) {
        st = put_text(&t->line, texts[i][0], texts[i][1], err);
    }
    if (st == BNT_OK) {
        st = put_ids(&t->line, "ids", head->ids, head->n_ids, err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_puts(&t->line, "}\n", err);
    }
    return st == BNT_OK ? t->put(t->ctx, t->line.data, t->line.len, err) : st;
}

enum bnt_status op_tracer_end(struct op_tracer *t, const struct bnt_ids *generated,
                              struct bnt_err *err)
{
    enum bnt_status st = t->err.status == BNT_OK ? BNT_OK : bnt_err_copy(err, &t->err);
    bnt_buf_reset(&t->line);
    if (st == BNT_OK) {
        st = bnt_buf_printf(&t->line, err, "{\"end\":true,\"records\":%llu",
                            (unsigned long long)t->n_records);
    }
    if (st == BNT_OK) {
        st = put_ids(&t->line, "generated", generated->at, generated->n, err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_puts(&t->line, "}\n", err);
    }
    if (st == BNT_OK) {
        st = t->put(t->ctx, t->line.data, t->line.len, err);
    }
    bnt_buf_release(&t->line);
    return st;
}
