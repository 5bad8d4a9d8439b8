/* SentencePiece BPE: two neighbours merge when their text is a token, best score first. Spaces are
 * spelt as U+2581. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/tokenizer_impl.h"

static const char space[3] = {'\xe2', '\x96', '\x81'};

/* Bytes of the character by its first byte alone; broken text is cut the same way by every engine.
 */
static size_t char_len(const char *text, size_t left)
{
    static const uint8_t by_high_nibble[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    size_t len = by_high_nibble[(unsigned char)text[0] >> 4];
    return len < left ? len : left;
}

static bool is_space(const char *text, size_t len)
{
    return len >= 3 && memcmp(text, space, 3) == 0;
}

/* Scores as ranks: higher scores first, equal ones equal. */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;
    score = 0.0f - score;
    memcpy(&bits, &score, sizeof(bits));
    bits = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
    return bits == MERGE_NONE ? MERGE_NONE - 1 : bits;
}

/* The token that text becomes: never one that stands for something else than its text. */
static int32_t find_piece(const struct bnt_tokenizer *t, const char *text, size_t len)
{
    int32_t id = vocab_find(&t->vocab, &t->words, text, len);
    enum token_type type = id < 0 ? TOKEN_NORMAL : tokenizer_type(t, id);
    bool other = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_BYTE;
    return other && !BNT_FAULT(piece_control) ? -1 : id;
}

static uint32_t text_rank(const struct bnt_tokenizer *t, const struct merge_symbol *symbols,
                          uint32_t i, const char *word, size_t len, int32_t *merged)
{
    uint32_t next = symbols[i].next;
    size_t both = symbols[next].at - symbols[i].at + merge_symbol_len(symbols, next, len);
    if (both > t->longest) {
        return MERGE_NONE;
    }
    *merged = find_piece(t, word + symbols[i].at, both);
    return *merged < 0 ? MERGE_NONE : rank_of_score(t->score[*merged]);
}

static bool has_bytes(const struct bnt_tokenizer *t, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (t->byte_symbol[(unsigned char)bytes[i]] < 0) {
            return false;
        }
    }
    return !BNT_FAULT(byte_fallback);
}

/* A symbol that is no token goes out as byte tokens. Where a byte has none, a run of such symbols
 * is one unknown token, if there is one: SentencePiece joins them. `from` is where the word's ids
 * begin in out. */
static enum bnt_status emit(const struct bnt_tokenizer *t, const char *bytes, size_t len,
                            size_t from, struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (!has_bytes(t, bytes, len)) {
        bool joins = t->unk < 0 || (out->n > from && out->at[out->n - 1] == t->unk);
        return joins ? BNT_OK : bnt_ids_push(out, t->unk, err);
    }
    for (size_t i = 0; i < len && st == BNT_OK; i++) {
        st = bnt_ids_push(out, t->byte_symbol[(unsigned char)bytes[i]], err);
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
    st = scratch_reserve_symbols(s, len, err);
    if (st != BNT_OK) {
        return st;
    }
    s->n_symbols = 0;
    for (size_t at = 0; at < len;) {
        size_t n = char_len(word + at, len - at);
        s->symbols[s->n_symbols++] =
            (struct merge_symbol){.id = find_piece(t, word + at, n), .at = (uint32_t)at};
        at += n;
    }
    size_t before = out->n;
    st = merge_all(t, s, text_rank, word, len, err);
    for (uint32_t i = 0; i != MERGE_NONE && st == BNT_OK; i = s->symbols[i].next) {
        const struct merge_symbol *symbol = &s->symbols[i];
        st = symbol->id >= 0 ? bnt_ids_push(out, symbol->id, err)
                             : emit(t, word + symbol->at, merge_symbol_len(s->symbols, i, len),
                                    before, out, err);
    }
    if (st == BNT_OK && out->n > before) {
        word_cache_put(s, word, len, out->at + before, out->n - before);
    }
    return st;
}

/* The fragment with its spaces spelt out, in s->text. */
static enum bnt_status spell_spaces(struct scratch *s, const char *text, size_t len, bool prefix,
                                    size_t *n, struct bnt_err *err)
{
    enum bnt_status st = scratch_reserve_text(s, 3 * (len + 1), err);
    if (st != BNT_OK) {
        return st;
    }
    char *p = s->text;
    if (prefix && !BNT_FAULT(space_prefix)) {
        memcpy(p, space, 3);
        p += 3;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            memcpy(p, space, 3);
            p += 3;
        } else {
            *p++ = text[i];
        }
    }
    *n = (size_t)(p - s->text);
    return BNT_OK;
}

/* End of the word at text[0]: before the next space that follows something else, where no token
 * could reach across. */
static size_t word_end(const struct bnt_tokenizer *t, const char *text, size_t len)
{
    if (!t->words_end_at_space) {
        return len;
    }
    bool after_space = true;
    for (size_t at = 0; at < len;) {
        bool blank = is_space(text + at, len - at);
        if (blank && !after_space) {
            return at;
        }
        after_space = blank;
        at += char_len(text + at, len - at);
    }
    return len;
}

void spm_prepare(struct bnt_tokenizer *t)
{
    t->words_end_at_space = true;
    for (uint32_t id = 0; id < t->vocab.n; id++) {
        size_t len;
        const char *text = vocab_text(&t->vocab, id, &len);
        t->longest = len > t->longest ? (uint32_t)len : t->longest;
        for (size_t i = 1; i + 3 <= len; i++) {
            if (is_space(text + i, 3) && !(i >= 3 && is_space(text + i - 3, 3))) {
                t->words_end_at_space = false;
            }
        }
    }
    for (unsigned b = 0; b < 256; b++) {
        static const char hex[] = "0123456789ABCDEF";
        const char name[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        const char byte = (char)b;
        int32_t id = vocab_find(&t->vocab, &t->words, name, sizeof(name));
        t->byte_symbol[b] = id >= 0 ? id : vocab_find(&t->vocab, &t->words, &byte, 1);
    }
}

enum bnt_status spm_encode(const struct bnt_tokenizer *t, struct scratch *s, const char *text,
                           size_t len, bool prefix, struct bnt_ids *out, struct bnt_err *err)
{
    size_t n = 0;
    const size_t from = out->n;
    enum bnt_status st = spell_spaces(s, text, len, prefix, &n, err);
    for (size_t at = 0; st == BNT_OK && at < n;) {
        size_t end = word_end(t, s->text + at, n - at), before = out->n;
        st = encode_word(t, s, s->text + at, end, out, err);
        at += end;
        if (before > from && out->n > before && out->at[before] == t->unk &&
            out->at[before - 1] == t->unk) { /* a run goes on from the word before */
            memmove(&out->at[before], &out->at[before + 1], (--out->n - before) * sizeof *out->at);
        }
    }
    return st;
}
