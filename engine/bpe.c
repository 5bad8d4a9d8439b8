/* Byte-level BPE: a text is cut into pieces, and each is merged on its own.
 *
 * Symbols are compared by number: the vocabulary holds the bytes that tokens stand for, not their
 * spelling in the byte alphabet, so a piece of text is looked up as it is. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/tokenizer_impl.h"

static uint32_t pair_rank(const struct bnt_tokenizer *t, const struct merge_symbol *symbols,
                          uint32_t i, const char *word, size_t len, int32_t *merged)
{
    (void)word;
    (void)len;
    uint32_t rank = bpe_find_merge(t, symbols[i].id, symbols[symbols[i].next].id);
    if (rank != MERGE_NONE) {
        *merged = t->merges[rank].merged;
    }
    return rank;
}

/* A symbol that is no token goes out as its bytes; a byte without a token as the unknown token, if
 * there is one. */
static enum bnt_status emit(const struct bnt_tokenizer *t, int32_t symbol, const char *bytes,
                            size_t len, struct bnt_ids *out, struct bnt_err *err)
{
    if (symbol < t->n_vocab) {
        return bnt_ids_push(out, symbol, err);
    }
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < len && st == BNT_OK; i++) {
        int32_t id = t->byte_symbol[(unsigned char)bytes[i]];
        id = id < t->n_vocab ? id : t->unk;
        st = id < 0 ? BNT_OK : bnt_ids_push(out, id, err);
    }
    return st;
}

static enum bnt_status encode_by_merges(const struct bnt_tokenizer *t, struct scratch *s,
                                        const char *word, size_t len, struct bnt_ids *out,
                                        struct bnt_err *err)
{
    enum bnt_status st = scratch_reserve_symbols(s, len, err);
    if (st != BNT_OK) {
        return st;
    }
    s->n_symbols = len;
    for (size_t i = 0; i < len; i++) {
        s->symbols[i].id = t->byte_symbol[(unsigned char)word[i]];
        s->symbols[i].at = (uint32_t)i;
    }
    st = merge_all(t, s, pair_rank, word, len, err);
    for (uint32_t i = 0; i != MERGE_NONE && st == BNT_OK; i = s->symbols[i].next) {
        const struct merge_symbol *symbol = &s->symbols[i];
        st = emit(t, symbol->id, word + symbol->at, merge_symbol_len(s->symbols, i, len), out, err);
    }
    return st;
}

static enum bnt_status encode_word(const struct bnt_tokenizer *t, struct scratch *s,
                                   const char *word, size_t len, struct bnt_ids *out,
                                   struct bnt_err *err)
{
    bool hit;
    enum bnt_status st = word_cache_get(s, word, len, out, &hit, err);
    if (hit || st != BNT_OK) {
        return st;
    }
    size_t before = out->n;
    int32_t whole = t->ignore_merges && !BNT_FAULT(ignore_merges)
                        ? vocab_find(&t->vocab, &t->words, word, len)
                        : -1;
    if (whole >= 0 && whole < t->n_vocab) {
        st = bnt_ids_push(out, whole, err);
    } else {
        st = encode_by_merges(t, s, word, len, out, err);
    }
    if (st == BNT_OK && out->n > before) {
        word_cache_put(s, word, len, out->at + before, out->n - before);
    }
    return st;
}

static enum bnt_status reserve_chars(struct scratch *s, size_t n, struct bnt_err *err)
{
    if (n <= s->cap_chars) {
        return BNT_OK;
    }
    free(s->chars);
    free(s->ends);
    free(s->spare);
    s->cap_chars = 0;
    s->chars = malloc(n * sizeof(*s->chars));
    s->ends = malloc(n * sizeof(*s->ends));
    s->spare = malloc(n * sizeof(*s->spare));
    if (s->chars == NULL || s->ends == NULL || s->spare == NULL) {
        return bnt_err_nomem(err, "pre-tokenizing", 3ull * n * sizeof(*s->chars));
    }
    s->cap_chars = n;
    return BNT_OK;
}

/* The text behind a blank, in s->text. */
static enum bnt_status put_blank(struct scratch *s, const char **text, size_t *len,
                                 struct bnt_err *err)
{
    enum bnt_status st = scratch_reserve_text(s, *len + 1, err);
    if (st != BNT_OK) {
        return st;
    }
    s->text[0] = ' ';
    memcpy(s->text + 1, *text, *len);
    *text = s->text;
    (*len)++;
    return BNT_OK;
}

enum bnt_status bpe_encode(const struct bnt_tokenizer *t, struct scratch *s, const char *text,
                           size_t len, struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (t->blank_in_front && len > 0 && text[0] != ' ') {
        st = put_blank(s, &text, &len, err);
    }
    if (st == BNT_OK) {
        st = reserve_chars(s, len, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    size_t n_chars = uni_scan(text, len, s->chars);
    size_t n_pieces = pretok_split(t->pre, s->chars, n_chars, s->ends, s->spare);
    size_t c = 0;
    for (size_t i = 0; i < n_pieces && st == BNT_OK; i++) {
        size_t n_bytes = 0;
        for (; c < s->ends[i]; c++) {
            n_bytes += uni_len(s->chars[c]);
        }
        st = encode_word(t, s, text, n_bytes, out, err);
        text += n_bytes;
    }
    return st;
}
