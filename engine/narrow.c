/* Making the copy of a head in 12 bits per weight. Each row is written by one thread in one order,
 * so that the form does not depend on their number:
 *
 *     [ how many rows are read from the head: 8 bytes of 64 ][ struct narrow_row ][ codes ] */
#include "engine/narrow.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

/* Places are 16 bits. */
#define MAX_COLS 65536u
#define PIECE_ROWS 64u
/* Of rows that are read from the head, beyond which the copy does not pay. */
#define MOST_WHOLE_SHARE 8u
enum { NARROW_VERSION = 1, HEADER_BYTES = 64, SAMPLE_ROWS = 64, NO_CODE = NARROW_HIGH };

bool narrow_may_fit(const struct weight *head)
{
    return tensor_is_plain(head->type) && head->cols <= MAX_COLS && head->rows >= WALK_STREAMS;
}

static uint64_t padded_cols(const struct weight *head)
{
    return (head->cols + NARROW_BLOCK - 1) / NARROW_BLOCK * NARROW_BLOCK;
}

static uint64_t table_bytes(const struct weight *head)
{
    return (head->rows * sizeof(struct narrow_row) + 63) / 64 * 64;
}

uint64_t narrow_bytes(const struct weight *head)
{
    return HEADER_BYTES + table_bytes(head) + head->rows * narrow_row_bytes(head->cols);
}

void narrow_view(const struct weight *head, const uint8_t *data, struct narrow_codes *out)
{
    *out = (struct narrow_codes){
        .rows = (const struct narrow_row *)(const void *)(data + HEADER_BYTES),
        .codes = data + HEADER_BYTES + table_bytes(head),
        .row_bytes = narrow_row_bytes(head->cols),
        .whole = {head->type, head->data, head->rows, head->cols, head->row_bytes}};
}

uint64_t narrow_whole_rows(const uint8_t *data)
{
    uint64_t n;
    memcpy(&n, data, sizeof n);
    return n;
}

/* A row in work. What follows its end is 0. */
struct row_values {
    float *value;
    uint8_t *high, *low; /* upper bytes and those below them, in the order of weights */
    uint8_t which[256];  /* the code of an upper byte, or NO_CODE */
};

/* One for each of n threads, in one piece of memory; *values is to be freed with its first row. */
static enum bnt_status rows_new(const struct weight *head, int n, struct row_values **rows,
                                struct bnt_err *err)
{
    size_t cols = (size_t)padded_cols(head), row_bytes = cols * (sizeof(float) + 2);
    struct row_values *r = calloc((size_t)n, sizeof *r + row_bytes);
    if (!r) {
        return bnt_err_nomem(err, "a row of the head", (size_t)n * row_bytes);
    }
    float *values = (float *)(void *)(r + n);
    uint8_t *bytes = (uint8_t *)(values + (size_t)n * cols);
    for (size_t i = 0; i < (size_t)n; i++, bytes += 2 * cols) {
        r[i].value = values + i * cols;
        r[i].high = bytes;
        r[i].low = bytes + cols;
    }
    *rows = r;
    return BNT_OK;
}

/* Row r in bytes. False: it has values that bfloat16 has not. */
static bool split_row(const struct weight *head, uint64_t r, struct row_values *v)
{
    uint32_t lower = 0;
    uint64_t cols = head->cols;
    const float *value = v->value;
    uint8_t *restrict high = v->high, *restrict low = v->low;
    dequantize_row(head->type, head->data + r * head->row_bytes, cols, v->value);
    for (uint64_t c = 0; c < cols; c++) {
        uint32_t bits;
        memcpy(&bits, value + c, sizeof bits);
        lower |= bits;
        high[c] = (uint8_t)(bits >> 24);
        low[c] = (uint8_t)(bits >> 16);
    }
    return (lower & 0xffff) == 0;
}

/* How often each upper byte comes. In four parts, since a count that was just written is slow to be
 * read. */
static void count_high(const uint8_t *high, uint64_t cols, uint32_t count[256])
{
    uint32_t part[4][256] = {{0}};
    uint64_t c = 0;
    for (; c + 4 <= cols; c += 4) {
        for (int i = 0; i < 4; i++) {
            part[i][high[c + (uint64_t)i]]++;
        }
    }
    for (; c < cols; c++) {
        part[0][high[c]]++;
    }
    for (int h = 0; h < 256; h++) {
        count[h] = part[0][h] + part[1][h] + part[2][h] + part[3][h];
    }
}

/* The most frequent upper bytes of the row, of equal ones the lower, and how many weights have
 * others. */
static uint32_t choose_high(struct row_values *v, uint64_t cols, uint8_t high[NARROW_HIGH])
{
    uint32_t count[256], rest = (uint32_t)cols;
    uint8_t present[256] = {0};
    int n = 0;
    count_high(v->high, cols, count);
    for (int h = 0; h < 256; h++) {
        if (count[h] == 0) {
            continue;
        }
        int at = n++;
        for (; at > 0 && count[present[at - 1]] < count[h]; at--) {
            present[at] = present[at - 1];
        }
        present[at] = (uint8_t)h;
    }
    memset(v->which, NO_CODE, sizeof v->which);
    for (int i = 0; i < n && i < NARROW_HIGH; i++) {
        high[i] = present[i];
        v->which[high[i]] = (uint8_t)i;
        rest -= count[high[i]];
    }
    return rest;
}

/* 64 bytes from the order of weights into their places. */
static void place_64(const uint8_t *in, uint8_t *out)
{
    for (int q = 0; q < 4; q++, in += 4, out += 16) {
        for (int d = 0; d < 4; d++) {
            out[2 * d] = in[d];
            out[2 * d + 1] = in[16 + d];
            out[2 * d + 8] = in[32 + d];
            out[2 * d + 9] = in[48 + d];
        }
    }
}

/* The codes of a block's upper bytes, which are at their places; odd ones are listed. */
static void put_codes(const struct row_values *v, const uint8_t high[NARROW_BLOCK], uint64_t first,
                      struct narrow_row *row, uint8_t *block)
{
    uint8_t code[NARROW_BLOCK];
    unsigned odd = 0;
    for (int p = 0; p < NARROW_BLOCK; p++) {
        code[p] = v->which[high[p]];
        odd |= code[p];
    }
    for (unsigned p = 0; (odd & NO_CODE) && p < NARROW_BLOCK; p++) {
        if (code[p] == NO_CODE) {
            row->odd_high[row->n_odd] = high[p];
            row->odd_at[row->n_odd++] = (uint16_t)(first + p);
            code[p] = 0;
        }
    }
    for (int p = 0; p < NARROW_BLOCK / 2; p++) {
        block[p] = (uint8_t)(code[p] | code[p + NARROW_BLOCK / 2] << 4);
    }
}

/* Row r; codes may be NULL where only whether it fits is asked for. */
static bool code_row(const struct weight *head, uint64_t r, struct row_values *v,
                     struct narrow_row *row, uint8_t *codes)
{
    *row = (struct narrow_row){.n_odd = 0};
    if (!split_row(head, r, v) || choose_high(v, head->cols, row->high) > NARROW_ODD) {
        *row = (struct narrow_row){.n_odd = NARROW_WHOLE};
        return false;
    }
    /* What follows the end has code 0. */
    memset(v->high + head->cols, row->high[0], (size_t)(padded_cols(head) - head->cols));
    for (uint64_t c = 0; codes && c < head->cols; c += NARROW_BLOCK, codes += NARROW_BLOCK_BYTES) {
        uint8_t high[NARROW_BLOCK];
        for (uint64_t half = 0; half < NARROW_BLOCK; half += 64) {
            place_64(v->high + c + half, high + half);
            place_64(v->low + c + half, codes + 64 + half);
        }
        put_codes(v, high, c, row, codes);
    }
    row->n_odd -= row->n_odd > 0 && BNT_FAULT(narrow_odd_lost);
    return true;
}

/* Whether a sample of its rows is mostly in this form. The head is in memory. Errors: MEMORY. */
static enum bnt_status sample(const struct weight *head, bool *fits, struct bnt_err *err)
{
    struct row_values *v = NULL;
    uint64_t n = head->rows < SAMPLE_ROWS ? head->rows : SAMPLE_ROWS, whole = 0;
    enum bnt_status st = rows_new(head, 1, &v, err);
    if (st != BNT_OK) {
        return st;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct narrow_row row;
        whole += !code_row(head, i * head->rows / n, v, &row, NULL);
    }
    free(v);
    *fits = whole * MOST_WHOLE_SHARE <= n;
    return BNT_OK;
}

struct fill_task {
    const struct weight *head;
    struct row_values *values; /* one for each thread */
    struct narrow_row *rows;
    uint8_t *codes;
    _Atomic uint64_t n_whole;
};

static void fill_rows(void *ctx, size_t begin, size_t end, int thread)
{
    struct fill_task *t = ctx;
    uint64_t row_bytes = narrow_row_bytes(t->head->cols), n_whole = 0;
    for (size_t r = begin; r < end; r++) {
        n_whole += !code_row(t->head, r, &t->values[thread], &t->rows[r], t->codes + r * row_bytes);
    }
    t->n_whole += n_whole;
}

enum bnt_status narrow_fill(const struct weight *head, uint8_t *dst, struct bnt_err *err)
{
    struct fill_task t = {.head = head,
                          .rows = (struct narrow_row *)(void *)(dst + HEADER_BYTES),
                          .codes = dst + HEADER_BYTES + table_bytes(head)};
    struct cpu_pool *pool;
    enum bnt_status st = cpu_pool_new_shared(&pool, err);
    if (st != BNT_OK) {
        return st;
    }
    st = rows_new(head, cpu_pool_n_threads(pool), &t.values, err);
    if (st == BNT_OK) {
        cpu_pool_run(pool, head->rows, PIECE_ROWS, fill_rows, &t);
        uint64_t n_whole = t.n_whole;
        memcpy(dst, &n_whole, sizeof n_whole);
    }
    cpu_pool_free(pool);
    free(t.values);
    return st;
}

static enum bnt_status fill_form(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    return narrow_fill(&m->head, dst, err);
}

enum bnt_status narrow_open(struct bnt_model *m, struct bnt_err *err)
{
    struct packed_want want = {.layout = "head-bf16",
                               .version = NARROW_VERSION,
                               .size = narrow_bytes(&m->head),
                               .fill = fill_form,
                               .ctx = m};
    enum bnt_status st = sample(&m->head, &m->narrowed, err);
    if (st == BNT_OK && m->narrowed) {
        st = packed_open(&m->packs, &want, &m->narrow_form, err);
    }
    if (st != BNT_OK || !m->narrowed) {
        return st;
    }
    /* The sample may have been luckier than the rest. */
    m->narrowed = narrow_whole_rows(m->narrow_form.data) * MOST_WHOLE_SHARE <= m->head.rows;
    if (m->narrowed) {
        narrow_view(&m->head, m->narrow_form.data, &m->narrow);
    } else {
        packed_release(&m->narrow_form);
    }
    return BNT_OK;
}

uint64_t narrow_token_bytes(const struct bnt_model *m)
{
    return narrow_bytes(&m->head) + narrow_whole_rows(m->narrow_form.data) * m->head.row_bytes;
}
