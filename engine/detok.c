/* From tokens back to text. */
#include <string.h>

#include "base/fault.h"
#include "base/utf8.h"
#include "engine/tokenizer_impl.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte that a text of the form <0x0A> stands for, or -1. */
int token_byte(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    int high = hex_digit(text[3]);
    int low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* A SentencePiece text with U+2581 as spaces. */
static enum bnt_status put_spaced(const char *text, size_t len, struct bnt_buf *out,
                                  struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    while (len > 0 && st == BNT_OK) {
        const char *mark = memmem(text, len, "\xe2\x96\x81", 3);
        size_t plain = mark == NULL ? len : (size_t)(mark - text);
        st = bnt_buf_append(out, text, plain, err);
        if (mark != NULL && st == BNT_OK) {
            st = bnt_buf_putc(out, ' ', err);
            plain += 3;
        }
        text += plain;
        len -= plain;
    }
    return st;
}

/* True for tokens that decoding leaves out unless asked for. */
static bool is_hidden(const struct bnt_tokenizer *t, int32_t id)
{
    return tokenizer_type(t, id) == TOKEN_CONTROL || tokenizer_type(t, id) == TOKEN_UNKNOWN;
}

/* The first token of a text that shows: SentencePiece put a space in front of it. */
static enum bnt_status put_first(const struct bnt_tokenizer *t, int32_t id, bool special,
                                 struct bnt_buf *out, struct bnt_err *err)
{
    size_t before = out->len;
    enum bnt_status st = bnt_tokenizer_piece(t, id, special, out, err);
    if (st == BNT_OK && t->add_space_prefix && !BNT_FAULT(detok_space) && out->len > before &&
        out->data[before] == ' ') {
        memmove(out->data + before, out->data + before + 1, out->len - before);
        out->len--;
    }
    return st;
}

/* A piece at its place: *started tells, and then records, whether text has begun. */
static enum bnt_status put_next(const struct bnt_tokenizer *t, int32_t id, bool special,
                                bool *started, struct bnt_buf *out, struct bnt_err *err)
{
    if (*started || id < 0 || id >= t->n_vocab || is_hidden(t, id)) {
        return bnt_tokenizer_piece(t, id, special, out, err);
    }
    *started = true;
    return put_first(t, id, special, out, err);
}

enum bnt_status bnt_tokenizer_piece(const struct bnt_tokenizer *t, int32_t id, bool special,
                                    struct bnt_buf *out, struct bnt_err *err)
{
    if (id < 0 || id >= t->n_vocab) {
        return bnt_err_set(err, BNT_E_USAGE, "token %d is outside the vocabulary (0 to %d)", id,
                           t->n_vocab - 1);
    }
    if (is_hidden(t, id) && !special) {
        return BNT_OK;
    }
    const struct special *spelt = special_by_id(&t->special, id);
    if (spelt != NULL) {
        return bnt_buf_append(out, spelt->text, spelt->len, err);
    }
    size_t len;
    const char *text = vocab_text(&t->vocab, (uint32_t)id, &len);
    if (tokenizer_type(t, id) == TOKEN_BYTE && token_byte(text, len) >= 0) {
        return bnt_buf_putc(out, (char)token_byte(text, len), err);
    }
    return t->spm ? put_spaced(text, len, out, err) : bnt_buf_append(out, text, len, err);
}

enum bnt_status bnt_tokenizer_decode(const struct bnt_tokenizer *t, const int32_t *ids, size_t n,
                                     bool special, struct bnt_buf *out, struct bnt_err *err)
{
    bool started = false;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < n && st == BNT_OK; i++) {
        st = put_next(t, ids[i], special, &started, out, err);
    }
    return st;
}

void bnt_detok_init(struct bnt_detok *d, const struct bnt_tokenizer *t, bool special)
{
    *d = (struct bnt_detok){.t = t, .special = special};
}

/* Bytes at the end of s[0..n-1] that begin a sequence which more bytes could complete: 0..3. */
static size_t unfinished(const unsigned char *s, size_t n)
{
    static const unsigned char rest[4][3] = {{0x80}, {0x80, 0x80}, {0x80, 0x80, 0x80}};
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char lead = s[n - back];
        size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
        if (want == 0 && lead >= 0x80) {
            continue;
        }
        if (want <= back) {
            return 0;
        }
        /* Complete it with what could follow: after some first bytes not every second byte is
         * allowed. */
        unsigned char trial[4];
        memcpy(trial, s + n - back, back);
        memcpy(trial + back, rest[want - back - 1], want - back);
        if (back == 1 && (lead == 0xe0 || lead == 0xf0)) {
            trial[1] = 0xa0;
        }
        return bnt_utf8_len(trial, want) == want ? back : 0;
    }
    return 0;
}

enum bnt_status bnt_detok_push(struct bnt_detok *d, int32_t id, struct bnt_buf *out,
                               struct bnt_err *err)
{
    size_t before = out->len;
    enum bnt_status st = bnt_buf_append(out, d->held, d->n_held, err);
    if (st == BNT_OK) {
        st = put_next(d->t, id, d->special, &d->started, out, err);
    }
    if (st != BNT_OK) {
        out->len = before;
        if (out->data != NULL) {
            out->data[before] = '\0';
        }
        return st;
    }
    size_t n = out->len - before;
    size_t hold = n == 0 || BNT_FAULT(utf8_split)
                      ? 0
                      : unfinished((const unsigned char *)out->data + before, n);
    if (hold > 0) {
        memcpy(d->held, out->data + out->len - hold, hold);
        out->len -= hold;
        out->data[out->len] = '\0';
    }
    d->n_held = (unsigned)hold;
    return BNT_OK;
}

enum bnt_status bnt_detok_flush(struct bnt_detok *d, struct bnt_buf *out, struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_append(out, d->held, d->n_held, err);
    d->n_held = 0;
    return st;
}
