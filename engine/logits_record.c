/* Records of logits: the block in memory is arrays of rows; what is written are its bytes by
 * planes, which compress where rows themselves would not (the upper bytes of neighbouring values
 * are nearly equal). */
#include "engine/logits_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zstd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/json_load.h"
#include "engine/sampler.h"

#define MAGIC "bntlogit"
enum { MAGIC_BYTES = 8, VERSION = 1, HEAD_BYTES = MAGIC_BYTES + 8, LEVEL = 6 };

/* ---- blocks ---- */

struct block {
    uint32_t top, n; /* rows in it */
    double nll[BNT_RECORD_BLOCK], logsum[BNT_RECORD_BLOCK];
    int32_t id[BNT_RECORD_BLOCK];
    struct bnt_logits_value *best; /* BNT_RECORD_BLOCK * top */
    uint8_t *raw;                  /* its planes */
};

static size_t raw_bytes(uint32_t top, uint32_t rows)
{
    return (size_t)rows * (2 * sizeof(double) + sizeof(int32_t) * (1 + 2 * (size_t)top));
}

static enum bnt_status block_init(struct block *b, uint32_t top, struct bnt_err *err)
{
    size_t bytes = (size_t)BNT_RECORD_BLOCK * top * sizeof *b->best;
    b->top = top;
    b->n = 0;
    b->best = malloc(bytes);
    b->raw = malloc(raw_bytes(top, BNT_RECORD_BLOCK));
    return b->best && b->raw ? BNT_OK : bnt_err_nomem(err, "a block of a record", 2 * bytes);
}

static void block_release(struct block *b)
{
    free(b->best);
    free(b->raw);
}

/* Elements of `width` bytes that lie `step` bytes apart, to planes and back. */
struct column {
    void *first;
    size_t width, step, n;
};

static size_t columns_of(struct block *b, struct column out[5])
{
    size_t all = (size_t)b->n * b->top;
    struct column columns[5] = {
        {b->nll, sizeof *b->nll, sizeof *b->nll, b->n},
        {b->logsum, sizeof *b->logsum, sizeof *b->logsum, b->n},
        {b->id, sizeof *b->id, sizeof *b->id, b->n},
        {&b->best[0].id, sizeof b->best[0].id, sizeof *b->best, all},
        {&b->best[0].value, sizeof b->best[0].value, sizeof *b->best, all},
    };
    memcpy(out, columns, sizeof columns);
    return 5;
}

static uint64_t get_bits(const uint8_t *at, size_t width)
{
    uint32_t low;
    uint64_t bits;
    if (width == sizeof low) {
        memcpy(&low, at, sizeof low);
        return low;
    }
    memcpy(&bits, at, sizeof bits);
    return bits;
}

static void put_bits(uint8_t *at, size_t width, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    if (width == sizeof low) {
        memcpy(at, &low, sizeof low);
    } else {
        memcpy(at, &bits, sizeof bits);
    }
}

static void to_planes(struct block *b)
{
    struct column columns[5];
    size_t n_columns = columns_of(b, columns);
    uint8_t *raw = b->raw;
    for (size_t c = 0; c < n_columns; c++) {
        const struct column *col = &columns[c];
        for (size_t i = 0; i < col->n; i++) {
            uint64_t bits = get_bits((const uint8_t *)col->first + i * col->step, col->width);
            for (size_t k = 0; k < col->width; k++) {
                raw[k * col->n + i] = (uint8_t)(bits >> (8 * k));
            }
        }
        raw += col->width * col->n;
    }
}

static void from_planes(struct block *b)
{
    struct column columns[5];
    size_t n_columns = columns_of(b, columns);
    const uint8_t *raw = b->raw;
    for (size_t c = 0; c < n_columns; c++) {
        const struct column *col = &columns[c];
        for (size_t i = 0; i < col->n; i++) {
            uint64_t bits = 0;
            for (size_t k = 0; k < col->width; k++) {
                bits |= (uint64_t)raw[k * col->n + i] << (8 * k);
            }
            put_bits((uint8_t *)col->first + i * col->step, col->width, bits);
        }
        raw += col->width * col->n;
    }
}

/* ---- facts ---- */

static bool facts_possible(const struct bnt_record_info *f)
{
    return f->n_vocab > 0 && f->n_vocab <= INT32_MAX && f->window >= 2 && f->window <= INT32_MAX &&
           f->stride >= 1 && f->stride < f->window && f->top >= 1 && f->top <= BNT_RECORD_MAX_TOP &&
           f->n_rows >= 1 && f->n_rows <= f->n_tokens && f->n_tokens <= INT32_MAX &&
           bnt_sha256_is_hex(f->tokens_digest) &&
           (f->model_digest[0] == '\0' || bnt_sha256_is_hex(f->model_digest));
}

static json_t *facts_json(const struct bnt_record_info *f)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "engine", f->engine,
                     "model", f->model, "model_digest", f->model_digest, "tokens_digest",
                     f->tokens_digest, "dequantized", (int)f->dequantized, "n_vocab",
                     (json_int_t)f->n_vocab, "window", (json_int_t)f->window, "stride",
                     (json_int_t)f->stride, "top", (json_int_t)f->top, "n_tokens",
                     (json_int_t)f->n_tokens, "n_rows", (json_int_t)f->n_rows);
}

static bool read_number(const json_t *facts, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(facts, key);
    *out = json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX
               ? (uint64_t)json_integer_value(v)
               : UINT64_MAX;
    return *out != UINT64_MAX;
}

static bool read_text(const json_t *facts, const char *key, char *out, size_t size)
{
    const json_t *v = json_object_get(facts, key);
    if (!json_is_string(v) || json_string_length(v) >= size) {
        return false;
    }
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return strlen(out) == json_string_length(v);
}

static bool read_facts(const json_t *facts, struct bnt_record_info *f)
{
    uint64_t n_vocab, window, stride, top;
    const json_t *dequantized = json_object_get(facts, "dequantized");
    if (!read_text(facts, "engine", f->engine, sizeof f->engine) ||
        !read_text(facts, "model", f->model, sizeof f->model) ||
        !read_text(facts, "model_digest", f->model_digest, sizeof f->model_digest) ||
        !read_text(facts, "tokens_digest", f->tokens_digest, sizeof f->tokens_digest) ||
        !json_is_boolean(dequantized) || !read_number(facts, "n_vocab", &n_vocab) ||
        !read_number(facts, "window", &window) || !read_number(facts, "stride", &stride) ||
        !read_number(facts, "top", &top) || !read_number(facts, "n_tokens", &f->n_tokens) ||
        !read_number(facts, "n_rows", &f->n_rows)) {
        return false;
    }
    f->dequantized = json_is_true(dequantized);
    f->n_vocab = (uint32_t)n_vocab;
    f->window = (uint32_t)window;
    f->stride = (uint32_t)stride;
    f->top = (uint32_t)top;
    return facts_possible(f);
}

enum bnt_status bnt_record_tokens_digest(const int32_t *ids, size_t n, char hex[BNT_SHA256_HEX],
                                         struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        uint32_t v = (uint32_t)ids[i];
        uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
        st = bnt_sha256_update(d, bytes, sizeof bytes, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return st;
}

/* ---- writing ---- */

struct bnt_record_writer {
    struct bnt_record_info info;
    struct bnt_durable file;
    struct bnt_sha256 *sha;
    struct block block;
    struct bnt_candidate *top; /* info.top, scratch */
    uint8_t *packed;
    size_t packed_size;
    uint64_t rows, bytes;
};

static enum bnt_status put(struct bnt_record_writer *w, const void *bytes, size_t n,
                           struct bnt_err *err)
{
    enum bnt_status st = bnt_sha256_update(w->sha, bytes, n, err);
    w->bytes += n;
    return st == BNT_OK ? bnt_durable_write(&w->file, bytes, n, err) : st;
}

static void u32_bytes(uint32_t v, uint8_t out[4])
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(v >> (8 * i));
    }
}

static enum bnt_status put_u32(struct bnt_record_writer *w, uint32_t v, struct bnt_err *err)
{
    uint8_t bytes[4];
    u32_bytes(v, bytes);
    return put(w, bytes, sizeof bytes, err);
}

static enum bnt_status put_head(struct bnt_record_writer *w, struct bnt_err *err)
{
    json_t *facts = facts_json(&w->info);
    char *text = facts ? bnt_json_dumps(facts, JSON_COMPACT) : NULL;
    json_decref(facts);
    if (!text) {
        return bnt_err_set(err, BNT_E_USAGE, "the header of a record: texts must be UTF-8");
    }
    enum bnt_status st = put(w, MAGIC, MAGIC_BYTES, err);
    if (st == BNT_OK) {
        st = put_u32(w, VERSION, err);
    }
    if (st == BNT_OK) {
        st = put_u32(w, (uint32_t)strlen(text), err);
    }
    if (st == BNT_OK) {
        st = put(w, text, strlen(text), err);
    }
    free(text);
    return st;
}

enum bnt_status bnt_record_create(const char *path, const struct bnt_record_info *info,
                                  struct bnt_record_writer **out, struct bnt_err *err)
{
    *out = NULL;
    if (!facts_possible(info)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a record of %llu rows with %u ids each of windows of %u every %u",
                           (unsigned long long)info->n_rows, info->top, info->window, info->stride);
    }
    struct bnt_record_writer *w = calloc(1, sizeof *w);
    if (!w) {
        return bnt_err_nomem(err, "a record", sizeof *w);
    }
    w->info = *info;
    w->file.fd = -1;
    w->packed_size = ZSTD_compressBound(raw_bytes(info->top, BNT_RECORD_BLOCK));
    w->packed = malloc(w->packed_size);
    w->top = malloc(info->top * sizeof *w->top);
    enum bnt_status st = w->packed && w->top ? block_init(&w->block, info->top, err)
                                             : bnt_err_nomem(err, "a record", w->packed_size);
    if (st == BNT_OK) {
        st = bnt_sha256_new(&w->sha, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_open(&w->file, path, err);
    }
    if (st == BNT_OK) {
        st = put_head(w, err);
    }
    if (st != BNT_OK) {
        bnt_record_free(w);
        return st;
    }
    *out = w;
    return BNT_OK;
}

static enum bnt_status put_block(struct bnt_record_writer *w, struct bnt_err *err)
{
    struct block *b = &w->block;
    if (b->n == 0) {
        return BNT_OK;
    }
    to_planes(b);
    size_t n = ZSTD_compress(w->packed, w->packed_size, b->raw, raw_bytes(b->top, b->n), LEVEL);
    if (ZSTD_isError(n)) {
        return bnt_err_set(err, BNT_E_FAILED, "packing a record: %s", ZSTD_getErrorName(n));
    }
    enum bnt_status st = put_u32(w, (uint32_t)n, err);
    b->n = 0;
    return st == BNT_OK ? put(w, w->packed, n, err) : st;
}

enum bnt_status bnt_record_add(struct bnt_record_writer *w, const struct bnt_record_row *row,
                               struct bnt_err *err)
{
    struct block *b = &w->block;
    if (w->rows == w->info.n_rows || row->n == 0 || row->n > b->top) {
        return bnt_err_set(err, BNT_E_USAGE, "row %llu of a record of %llu has %zu ids, at most %u",
                           (unsigned long long)w->rows, (unsigned long long)w->info.n_rows, row->n,
                           b->top);
    }
    struct bnt_logits_value *best = b->best + (size_t)b->n * b->top;
    b->nll[b->n] = row->nll;
    b->logsum[b->n] = row->logsum;
    b->id[b->n] = row->id;
    for (size_t i = 0; i < b->top; i++) {
        best[i] = i < row->n ? row->best[i] : (struct bnt_logits_value){.id = -1};
    }
    w->rows++;
    return ++b->n == BNT_RECORD_BLOCK ? put_block(w, err) : BNT_OK;
}

enum bnt_status bnt_record_add_logits(struct bnt_record_writer *w, int32_t id, double nll,
                                      const float *logits, struct bnt_err *err)
{
    int32_t n_vocab = (int32_t)w->info.n_vocab;
    struct bnt_logits_value best[BNT_RECORD_MAX_TOP];
    size_t n = bnt_logprobs_top(logits, n_vocab, w->info.top, w->top);
    for (size_t i = 0; i < n; i++) {
        best[i] = (struct bnt_logits_value){w->top[i].id, logits[w->top[i].id]};
    }
    struct bnt_record_row row = {id, nll, bnt_logsumexp(logits, n_vocab), best, n};
    return bnt_record_add(w, &row, err);
}

enum bnt_status bnt_record_commit(struct bnt_record_writer *w, struct bnt_err *err)
{
    uint8_t digest[BNT_SHA256_BYTES];
    if (w->rows != w->info.n_rows) {
        return bnt_err_set(err, BNT_E_FAILED, "%s: %llu rows of %llu came", w->file.target,
                           (unsigned long long)w->rows, (unsigned long long)w->info.n_rows);
    }
    enum bnt_status st = put_block(w, err);
    if (st == BNT_OK) {
        st = put_u32(w, 0, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_raw(w->sha, digest, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_write(&w->file, digest, sizeof digest, err);
        w->bytes += sizeof digest;
    }
    return st == BNT_OK ? bnt_durable_commit(&w->file, 0644, err) : st;
}

uint64_t bnt_record_bytes(const struct bnt_record_writer *w)
{
    return w->bytes;
}

void bnt_record_free(struct bnt_record_writer *w)
{
    if (w) {
        if (w->file.fd >= 0) {
            bnt_durable_release(&w->file);
        }
        block_release(&w->block);
        bnt_sha256_free(w->sha);
        free(w->top);
        free(w->packed);
        free(w);
    }
}

/* ---- reading ---- */

struct bnt_record {
    struct bnt_record_info info;
    char path[BNT_PATH_MAX];
    struct bnt_mapping map;
    uint64_t at, end; /* of the blocks in the mapping */
    struct block block;
    uint32_t next; /* row within the block */
    uint64_t rows; /* handed out */
};

static enum bnt_status broken(const struct bnt_record *r, struct bnt_err *err, const char *what)
{
    return bnt_err_set(err, BNT_E_FILE, "%s: %s", r->path, what);
}

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static enum bnt_status check_digest(const struct bnt_record *r, struct bnt_err *err)
{
    uint8_t digest[BNT_SHA256_BYTES];
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(d, r->map.data, r->end, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_raw(d, digest, err);
    }
    bnt_sha256_free(d);
    if (st == BNT_OK && !BNT_FAULT(record_digest) &&
        memcmp(digest, r->map.data + r->end, sizeof digest) != 0) {
        bnt_err_set(err, BNT_E_DIGEST, "%s: the record is damaged: its SHA-256 differs", r->path);
        bnt_err_hint(err, "record it again: bnt perplexity --record %s", r->path);
        return BNT_E_DIGEST;
    }
    return st;
}

static enum bnt_status read_head(struct bnt_record *r, struct bnt_err *err)
{
    const uint8_t *p = r->map.data;
    if (r->map.size < HEAD_BYTES + 4 + BNT_SHA256_BYTES || memcmp(p, MAGIC, MAGIC_BYTES) != 0) {
        return broken(r, err, "is no record of logits");
    }
    if (u32_at(p + MAGIC_BYTES) != VERSION) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: a record of version %u; known is %d",
                           r->path, u32_at(p + MAGIC_BYTES), VERSION);
    }
    uint32_t n = u32_at(p + MAGIC_BYTES + 4);
    r->end = r->map.size - BNT_SHA256_BYTES;
    if (n > BNT_RECORD_MAX_HEADER || n > r->end - HEAD_BYTES) {
        return broken(r, err, "the header of the record is too long");
    }
    enum bnt_status st = check_digest(r, err);
    if (st != BNT_OK) {
        return st;
    }
    json_t *facts = json_loadb((const char *)p + HEAD_BYTES, n, JSON_REJECT_DUPLICATES, NULL);
    bool read = facts && read_facts(facts, &r->info);
    json_decref(facts);
    r->at = HEAD_BYTES + (uint64_t)n;
    return read ? BNT_OK : broken(r, err, "the header of the record has facts that cannot be");
}

enum bnt_status bnt_record_open(const char *path, struct bnt_record **out, struct bnt_err *err)
{
    struct bnt_record *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) {
        return bnt_err_nomem(err, "a record", sizeof *r);
    }
    enum bnt_status st = bnt_path_format(r->path, err, "%s", path);
    if (st == BNT_OK) {
        st = bnt_map_file(path, &r->map, err);
    }
    if (st == BNT_OK) {
        st = read_head(r, err);
    }
    if (st == BNT_OK) {
        st = block_init(&r->block, r->info.top, err);
    }
    if (st != BNT_OK) {
        bnt_record_close(r);
        return st;
    }
    *out = r;
    return BNT_OK;
}

const struct bnt_record_info *bnt_record_info(const struct bnt_record *r)
{
    return &r->info;
}

static enum bnt_status next_block(struct bnt_record *r, struct bnt_err *err)
{
    struct block *b = &r->block;
    uint64_t left = r->info.n_rows - r->rows;
    if (left == 0) {
        return broken(r, err, "the record has no more rows");
    }
    b->n = left < BNT_RECORD_BLOCK ? (uint32_t)left : BNT_RECORD_BLOCK;
    uint32_t n = r->end - r->at >= 4 ? u32_at(r->map.data + r->at) : 0;
    if (n == 0 || n > r->end - r->at - 4) {
        return broken(r, err, "the record ends before its rows do");
    }
    size_t want = raw_bytes(b->top, b->n);
    size_t got = ZSTD_decompress(b->raw, want, r->map.data + r->at + 4, n);
    if (got != want) {
        return broken(r, err, "a block of the record cannot be unpacked");
    }
    from_planes(b);
    r->at += 4 + (uint64_t)n;
    r->next = 0;
    if (left == b->n && (r->end - r->at != 4 || u32_at(r->map.data + r->at) != 0)) {
        return broken(r, err, "the record goes on after its rows");
    }
    return BNT_OK;
}

enum bnt_status bnt_record_next(struct bnt_record *r, struct bnt_record_row *out,
                                struct bnt_err *err)
{
    struct block *b = &r->block;
    enum bnt_status st = r->next == b->n ? next_block(r, err) : BNT_OK;
    if (st != BNT_OK) {
        return st;
    }
    uint32_t i = r->next++;
    *out = (struct bnt_record_row){.id = b->id[i],
                                   .nll = b->nll[i],
                                   .logsum = b->logsum[i],
                                   .best = b->best + (size_t)i * b->top};
    while (out->n < b->top && out->best[out->n].id != -1) {
        out->n++;
    }
    r->rows++;
    return isfinite(out->nll) && out->n > 0 ? BNT_OK
                                            : broken(r, err, "a row of the record has no numbers");
}

void bnt_record_close(struct bnt_record *r)
{
    if (r) {
        bnt_unmap(&r->map);
        block_release(&r->block);
        free(r);
    }
}
