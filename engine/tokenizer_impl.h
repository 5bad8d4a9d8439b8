/* What the tokenizer's files share. tokenizer_load.c builds it, tokenizer.c answers for it,
 * special.c finds special tokens in text, bpe.c and spm.c encode what lies between them by merge.c,
 * detok.c decodes. */
#ifndef BNT_TOKENIZER_IMPL_H
#define BNT_TOKENIZER_IMPL_H

#include "engine/pretok.h"
#include "engine/tokenizer.h"
#include "engine/vocab.h"

/* tokenizer.ggml.token_type */
enum token_type {
    TOKEN_UNDEFINED,
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE,
    TOKEN_N_TYPES
};
#define TOKEN_TYPE_MASK 7
#define TOKEN_EOG 8 /* ends an answer */
#define TOKEN_NO_WORD                                                                              \
    16 /* not in the index of words: text never becomes it, unless as a special token */

/* A token that is looked for in the text before anything else. */
struct special {
    const char *text; /* as the vocabulary spells it */
    uint32_t len;
    int32_t id;
    bool control;        /* only where special tokens are asked for */
    bool lstrip, rstrip; /* swallows the white space before, after it */
};

struct special_set {
    char *text;
    struct special *at; /* by id */
    size_t n;
    const struct special **by_len;  /* longest first, then by id */
    const struct special **by_text; /* ascending */
    uint32_t first[257];            /* by_text[first[b]..first[b+1]-1] begin with byte b */
};

/* A pair of symbols that becomes one; its place in the table is its rank. */
struct bpe_merge {
    int32_t left, right, merged;
};

struct bnt_tokenizer {
    bool spm;
    struct vocab vocab;       /* BPE: the bytes that tokens stand for; SentencePiece: their texts */
    struct vocab_index words; /* symbols that text can become */
    struct vocab_index others; /* BPE: tokens whose text is not written in the byte alphabet */
    int32_t n_vocab;
    uint8_t *type; /* per token: enum token_type and the bits above */
    struct special_set special;
    int32_t bos, eos, eot, unk; /* -1: none */
    bool add_bos, add_eos;

    const struct pretok *pre; /* BPE */
    bool ignore_merges, blank_in_front;
    struct bpe_merge *merges;
    uint64_t *merge_slots; /* upper half: hash of the pair; lower half: merge + 1, 0 where free */
    uint64_t merge_mask;
    uint32_t n_merges;
    int32_t byte_symbol[256]; /* BPE: the symbol of one byte; SentencePiece: its token, -1 where
                                 there is none */

    float *score; /* SentencePiece */
    bool add_space_prefix;
    bool prefix_first;       /* not behind special tokens */
    bool words_end_at_space; /* no token has a space after another character */
    uint32_t longest;        /* bytes of the longest token */
};

static inline enum token_type tokenizer_type(const struct bnt_tokenizer *t, int32_t id)
{
    return (enum token_type)(t->type[id] & TOKEN_TYPE_MASK);
}

/* ---- tokenizer_load.c ---- */
/* A token of this text ends an answer, whatever the file says of it. */
bool tokenizer_name_ends(const char *text);

/* ---- special.c ---- */
enum bnt_status special_build(struct bnt_tokenizer *t, const struct gguf *g, struct bnt_err *err);
void special_release(struct special_set *s);
const struct special *special_by_id(const struct special_set *s,
                                    int32_t id); /* NULL: none of them */

/* A stretch of the text: a special token's id, or text to be encoded (id -1). */
struct fragment {
    size_t at, len;
    int32_t id;
};
struct fragments {
    struct fragment *at;
    size_t n, cap;
};
/* Cut text at its special tokens. The caller frees out->at in any case. */
enum bnt_status special_partition(const struct special_set *s, const char *text, size_t len,
                                  bool control, struct fragments *out, struct bnt_err *err);

/* ---- merge.c ---- */
#define MERGE_NONE UINT32_MAX
struct merge_symbol {
    int32_t id;          /* symbol, or -1: unknown */
    uint32_t at;         /* where it begins in the word, bytes */
    uint32_t prev, next; /* MERGE_NONE at the ends */
    uint32_t rank;       /* of merging it with the next, MERGE_NONE: not possible */
    int32_t merged;      /* what that gives */
};

/* Ids of short words seen in this call. */
#define WORD_CACHE_SLOTS 4096
#define WORD_CACHE_BYTES 20
#define WORD_CACHE_IDS 10
struct word_cache_entry {
    int32_t ids[WORD_CACHE_IDS];
    char bytes[WORD_CACHE_BYTES];
    uint8_t len, n_ids; /* len 0: empty */
};

/* What one call of encode works in: everything grows as needed and is used again for the next word.
 */
struct scratch {
    uni_char *chars; /* BPE: the fragment's characters, and the ends of its pieces */
    uint32_t *ends, *spare;
    size_t cap_chars;
    char *text; /* the fragment with its spaces spelt out (SentencePiece), or behind a blank */
    size_t cap_text;
    struct merge_symbol *symbols;
    size_t n_symbols, cap_symbols;
    uint64_t *heap; /* smallest first: rank << 32 | symbol */
    size_t n_heap, cap_heap;
    struct word_cache_entry *cache; /* NULL: none, the text is short */
};
void scratch_release(struct scratch *s);
enum bnt_status scratch_reserve_symbols(struct scratch *s, size_t n, struct bnt_err *err);
/* What s->text held is gone. */
enum bnt_status scratch_reserve_text(struct scratch *s, size_t n, struct bnt_err *err);

/* Rank of merging symbols i and its next, and what that gives; MERGE_NONE when they do not merge.
 * word[0..len-1] is the text that symbols' `at` refer to. */
typedef uint32_t merge_rank_fn(const struct bnt_tokenizer *t, const struct merge_symbol *symbols,
                               uint32_t i, const char *word, size_t len, int32_t *merged);
/* Merge s->symbols[0..n_symbols-1] (id and at are set), best rank first, then leftmost, until
 * nothing merges. What is left is the list from symbol 0 on along next. n log n. */
enum bnt_status merge_all(const struct bnt_tokenizer *t, struct scratch *s, merge_rank_fn *rank,
                          const char *word, size_t len, struct bnt_err *err);
/* Bytes of symbol i: up to where its next begins. */
size_t merge_symbol_len(const struct merge_symbol *symbols, uint32_t i, size_t len);

/* Append the ids of a word from the cache: *hit. Store what a word became: ids[0..n-1]. */
enum bnt_status word_cache_get(struct scratch *s, const char *word, size_t len, struct bnt_ids *out,
                               bool *hit, struct bnt_err *err);
void word_cache_put(struct scratch *s, const char *word, size_t len, const int32_t *ids, size_t n);

/* ---- bpe_merges.c, bpe.c, spm.c ---- */
/* Merges from the file, and the symbols of the 256 bytes. *n_bad: merges that no text could ever
 * use. */
enum bnt_status bpe_load_merges(struct bnt_tokenizer *t, const struct gguf *g, size_t *n_bad,
                                struct bnt_err *err);
/* Rank of a pair, MERGE_NONE when it does not merge. */
uint32_t bpe_find_merge(const struct bnt_tokenizer *t, int32_t left, int32_t right);
enum bnt_status bpe_encode(const struct bnt_tokenizer *t, struct scratch *s, const char *text,
                           size_t len, struct bnt_ids *out, struct bnt_err *err);
/* What encoding needs to know of the vocabulary as a whole. */
void spm_prepare(struct bnt_tokenizer *t);
/* prefix: a space goes in front of the text. */
enum bnt_status spm_encode(const struct bnt_tokenizer *t, struct scratch *s, const char *text,
                           size_t len, bool prefix, struct bnt_ids *out, struct bnt_err *err);

/* ---- detok.c ---- */
/* The byte that "<0x0A>" stands for; -1: the text is of no byte. */
int token_byte(const char *text, size_t len);

#endif
