/* Vocabularies of Hugging Face checkpoints as keys of a GGUF file: tokenizer.json (byte-level BPE,
 * and the BPE of LLaMA with its bytes), tokenizer.model (sentencepiece), and what
 * tokenizer_config.json and others say of special tokens and of the chat. */
#ifndef BNT_HF_VOCAB_H
#define BNT_HF_VOCAB_H

#include "engine/hf_config.h"
#include "engine/tokenizer.h"

/* A vocabulary before it is keys. */
struct hf_token {
    char *text; /* owned, `len` bytes; NULL: an id without a token */
    size_t len;
    float score;
    int32_t type; /* as tokenizer.ggml.token_type has it */
    /* Of an added token: swallows the white space before, after it; counts only where no letter or
     * digit stands beside it; is looked for in rewritten text. */
    bool lstrip, rstrip, single_word, normalized;
};
enum {
    HF_TOKEN_NORMAL = 1,
    HF_TOKEN_UNKNOWN,
    HF_TOKEN_CONTROL,
    HF_TOKEN_USER,
    HF_TOKEN_UNUSED,
    HF_TOKEN_BYTE
};

#define HF_UNMADE_SCORE (-1e6f) /* of LLaMA's kind from a tokenizer.json: no merge makes it */

/* Tokens of which something is to be told. */
struct hf_some {
    uint32_t n;
    char first[80];
};

struct hf_vocab {
    struct hf_token *tokens;
    uint32_t n; /* ids; those of the embedding */
    bool spm;   /* tokenizer.ggml.model "llama", else "gpt2" */
    bool no_space_prefix;
    struct bnt_buf merges; /* "a b": texts with their lengths; of a tokenizer.json */
    uint64_t n_merges;
    char pre[48];
    int ignore_merges; /* -1: as the name `pre` has it */
    int64_t bos, eos, unk, pad;
    int add_bos, add_eos; /* -1: not said */
    char rewritten[120];  /* how text is rewritten before it is cut, which no GGUF can say; or "" */
    bool prefix_first;    /* the blank goes in front of a whole text, not behind special tokens */
    bool prepends;        /* rewriting puts a blank in front of a text, and of a token */
    int64_t eom;          /* ends an answer too, and its name does not say so; -1: none */
    struct hf_some ends;  /* more of that kind, which no GGUF can say */
    struct hf_some beyond;   /* added tokens for which the embedding has no row: left out */
    struct hf_some unlisted; /* LLaMA's kind: pairs that are a token, but no merge */
    bool byte_level_alone;   /* the pre-tokenizer is ByteLevel and nothing else */
    bool blank_in_front; /* byte-level: a text gets a blank in front where it begins with none */
    char around[48];     /* what is put around a text in a way that is not known; or "" */
};

struct hf_vocab_options {
    const char *pre;   /* name of the pre-tokenizer; NULL: find it */
    bnt_warn_fn *warn; /* of what the file cannot say; may be NULL */
    void *warn_ctx;
};

/* Put the vocabulary of the folder into p, n_vocab ids. Errors: NOT_FOUND (no tokenizer file),
 * FILE (malformed), UNSUPPORTED (a kind of tokenizer or a pre-tokenizer that is not known: --pre).
 */
enum bnt_status hf_vocab_put(const char *dir, const struct hf_config *c,
                             const struct hf_vocab_options *o, struct gguf_plan *p,
                             struct bnt_err *err);

/* ---- inside: hf_vocab.c, hf_vocab_tell.c, hf_merging.c, hf_tokenizer_json.c, spm_model.c ---- */

/* A token at its id, which must be free or have the same text. Errors: FILE. */
enum bnt_status hf_vocab_set(struct hf_vocab *v, int64_t id, const char *text, size_t len,
                             int32_t type, struct bnt_err *err);
int64_t hf_vocab_find(const struct hf_vocab *v, const char *text); /* -1: none */
/* Fill v from a loaded tokenizer.json. */
enum bnt_status hf_tokenizer_json(const json_t *root, const char *pre, struct hf_vocab *v,
                                  struct bnt_err *err);
/* Tokens that tokenizer.json adds to those of its model, or tokenizer_config.json to a
 * tokenizer.model: an array with "id", or an object by id. */
enum bnt_status hf_added_tokens(const json_t *added, struct hf_vocab *v, struct bnt_err *err);
/* Have v say whether a piece that is a token stands for itself (`ignores`) or is merged like
 * others, once tokens, merges and the name of the pre-tokenizer are there: by the name as it is,
 * where merges make every token of its own text, so that it is all one; else by one that cuts
 * alike, unless the name was asked for; else by ignore_merges. */
enum bnt_status hf_settle_merging(struct hf_vocab *v, bool asked, bool ignores,
                                  struct bnt_err *err);
/* Have v->unlisted count pairs of neighbours that GGUF's LLaMA kind would merge since their text is
 * a token, while no merge lists them. */
enum bnt_status hf_count_unlisted(struct hf_vocab *v, struct bnt_err *err);
/* Whether a tokenizer.json is of the kind that `prefix_first` names. */
bool hf_prefix_first(const json_t *root);
/* Warn of what the written file cannot say, or says in keys that other engines do not read.
 * config: tokenizer_config.json with the names that hold, or NULL. */
void hf_vocab_tell(const char *dir, const struct hf_vocab *v, const json_t *config,
                   const struct hf_vocab_options *o);
/* The id named by a value of tokenizer_config.json, "<s>" or {"content": "<s>"}: its text, or
 * NULL. */
const char *hf_token_name(const json_t *config, const char *key);
/* Fill v from the bytes of a tokenizer.model (a sentencepiece ModelProto). */
enum bnt_status spm_model_read(const uint8_t *bytes, size_t n, struct hf_vocab *v,
                               struct bnt_err *err);

#endif
