/* What a model thought at every position of a text, kept in a file, so that a later run, another
 * machine or another engine can be held against it without the model at hand: the best ids of each
 * position with their logits, the sum over the whole vocabulary, and the surprise of the token that
 * came.
 *
 * The file (all numbers little-endian):
 *
 *     "bntlogit"                8 bytes
 *     version                   u32, 1
 *     length of the header      u32, at most BNT_RECORD_MAX_HEADER
 *     header                    a JSON object, see struct bnt_record_info for its members
 *     blocks                    u32 length, then a zstd frame of BNT_RECORD_BLOCK rows (the last
 *                               one of what is left)
 *     0                         u32
 *     SHA-256                   32 bytes, of everything before
 *
 * A block holds its rows by columns, and each column by bytes, lowest first: byte k of every
 * element, then byte k + 1. Columns: surprise (f64), logsum (f64, NaN when values are
 * log-probabilities), id (i32), ids of the best (i32, `top` per row, -1 where there are no more),
 * their values (f32). A reader accepts what it understands whole: another version, another digest
 * or bytes too many are errors. */
#ifndef BNT_LOGITS_RECORD_H
#define BNT_LOGITS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "engine/logits_compare.h"

#define BNT_RECORD_TOP 64
#define BNT_RECORD_MAX_TOP 1024
#define BNT_RECORD_BLOCK 256
#define BNT_RECORD_MAX_HEADER 65536u
#define BNT_RECORD_TEXT 128 /* bytes of a text of the header, terminator included */

struct bnt_record_info {
    char engine[BNT_RECORD_TEXT];       /* who computed it: "bnt 0.1.0" */
    char model[BNT_RECORD_TEXT];        /* general.name, or the file's name */
    char model_digest[BNT_SHA256_HEX];  /* "" when it is not known */
    char tokens_digest[BNT_SHA256_HEX]; /* SHA-256 of the text's ids as i32 */
    bool dequantized;                   /* ternary weights as F32, activations left unquantised */
    uint32_t n_vocab;
    uint32_t window, stride; /* as in engine/perplexity.h; stride is not 0 */
    uint32_t top;            /* ids per row, up to BNT_RECORD_MAX_TOP */
    uint64_t n_tokens;       /* of the text */
    uint64_t n_rows;         /* predicted ones */
};

struct bnt_record_row {
    int32_t id;    /* the token that came */
    double nll;    /* its surprise, nats */
    double logsum; /* as in struct bnt_logits_reference */
    const struct bnt_logits_value *best;
    size_t n;
};

/* The digest that ties a record to the ids of a text. */
enum bnt_status bnt_record_tokens_digest(const int32_t *ids, size_t n, char hex[BNT_SHA256_HEX],
                                         struct bnt_err *err);

/* ---- writing: the file appears whole with commit, or not at all ---- */

struct bnt_record_writer;
/* Errors: USAGE facts out of range; those of bnt_durable_open. */
enum bnt_status bnt_record_create(const char *path, const struct bnt_record_info *info,
                                  struct bnt_record_writer **out, struct bnt_err *err);
/* The next of n_rows rows. */
enum bnt_status bnt_record_add(struct bnt_record_writer *w, const struct bnt_record_row *row,
                               struct bnt_err *err);
/* The same from a whole row of logits. */
enum bnt_status bnt_record_add_logits(struct bnt_record_writer *w, int32_t id, double nll,
                                      const float *logits, struct bnt_err *err);
/* Errors: FAILED fewer rows than were announced. */
enum bnt_status bnt_record_commit(struct bnt_record_writer *w, struct bnt_err *err);
uint64_t bnt_record_bytes(const struct bnt_record_writer *w); /* written so far */
void bnt_record_free(struct bnt_record_writer *w); /* NULL is fine; uncommitted: no file */

/* ---- reading ---- */

struct bnt_record;
/* Map the file and check all of it but the rows. Errors: NOT_FOUND; FILE what is no record or has
 * facts that cannot be; UNSUPPORTED another version; DIGEST. */
enum bnt_status bnt_record_open(const char *path, struct bnt_record **out, struct bnt_err *err);
const struct bnt_record_info *bnt_record_info(const struct bnt_record *r);
/* The next row; what it points to is valid until the next call. Errors: FILE, also after the last
 * one. */
enum bnt_status bnt_record_next(struct bnt_record *r, struct bnt_record_row *out,
                                struct bnt_err *err);
void bnt_record_close(struct bnt_record *r); /* NULL is fine */

#endif
