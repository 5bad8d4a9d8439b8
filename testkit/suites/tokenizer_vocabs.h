/* Vocabularies for tests: small ones from tables, the recorded ones from the shared folder. */
#ifndef SUITES_TOKENIZER_VOCABS_H
#define SUITES_TOKENIZER_VOCABS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/tokenizer.h"

struct tv_token {
    const char *text;
    int type; /* tokenizer.ggml.token_type; 0: normal */
    float score;
};

/* A file of nothing but a tokenizer. Everything that is NULL, 0 or false is left out. */
struct tv_spec {
    const char *model, *pre, *name;
    bool bytes; /* begin with the 256 tokens of the bytes: in the byte alphabet, or <0x00>... */
    const struct tv_token *tokens;          /* further tokens, up to one whose text is NULL */
    const char *const *merges;              /* up to NULL */
    bool no_merges;                         /* not even an empty array */
    const char *bos, *eos;                  /* text of the token, of tokens */
    int add_bos, add_eos, add_space_prefix; /* 1: true, -1: false */
    int extra_scores;                       /* so many more scores than tokens, or fewer */
    int extra_types;
    const char *number_key; /* one more key, the number 1 */
};

/* Open such a file; fails the test when it is no GGUF. Valid until the next call or tv_close. */
const struct gguf *tv_file(const struct tv_spec *spec);
void tv_close(void);

/* What the tokenizer said while it was made; "" for nothing. Valid until the next tv_new. */
const char *tv_warnings(void);
/* A tokenizer from g, with or without (NULL) an override; fails the test with the error's message.
 */
struct bnt_tokenizer *tv_new(const struct gguf *g, const char *pre);
struct bnt_tokenizer *tv_small(const struct tv_spec *spec, const char *pre);
struct bnt_tokenizer *tv_open(const char *path, const char *pre);
/* The LLaMA-3 vocabulary, from the ranks in the shared folder, with neither pre-tokenizer nor
 * tensors. */
const struct gguf *tv_llama3_file(void);

/* The character of a byte in the byte alphabet, in UTF-8 and terminated. Returns its length. */
unsigned tv_byte_char(unsigned byte, char out[3]);

/* ids of text[0..len-1] must be want[0..n-1]; the test fails with both. */
void tv_expect(const struct bnt_tokenizer *t, const char *text, size_t len, unsigned flags,
               const int32_t *want, size_t n);

#endif
