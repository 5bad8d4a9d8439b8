/* Tokenizers built from a GGUF's metadata alone: byte-level BPE (tokenizer.ggml.model = "gpt2") and
 * SentencePiece BPE
 * ("llama"). A vocabulary-only file works. Immutable after construction and shared by threads; it
 * copies what it needs, so the gguf may be closed.
 *
 * Ids are int32. Text is bytes: invalid UTF-8 is never an error (byte-level BPE encodes the bytes;
 * SentencePiece falls back to byte tokens), and decode(encode(x)) == x for byte-level BPE on every
 * input without special tokens, if the vocabulary has a token for every byte and the file puts no
 * blank in front. Bytes without one become the unknown token (SentencePiece: a run of characters
 * that are no token becomes one, as in the sentencepiece library), or are left out where there is
 * none. */
#ifndef BNT_TOKENIZER_H
#define BNT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/gguf.h"

/* Keys of this program's own, for what GGUF has no field: arrays of the ids of special tokens that
 * swallow the white space before or after them in a text (one of them present: names of families
 * are not looked at), and whether a piece of byte-level BPE that is a token stands for itself
 * whatever merges would make of it (absent: as the pre-tokenizer's family does). */
#define TOKENIZER_LSTRIP_KEY "bnt.tokenizer.lstrip"
#define TOKENIZER_RSTRIP_KEY "bnt.tokenizer.rstrip"
#define TOKENIZER_IGNORE_MERGES_KEY "bnt.tokenizer.ignore_merges"
/* Byte-level BPE: a text, and what follows a special token, gets a blank in front where it begins
 * with none. */
#define TOKENIZER_BLANK_KEY "bnt.tokenizer.blank_in_front"
/* SentencePiece: the space of add_space_prefix goes in front of a text alone, not behind special
 * tokens in it. */
#define TOKENIZER_PREFIX_FIRST_KEY "bnt.tokenizer.prefix_first"

struct bnt_tokenizer;

struct bnt_tokenizer_options {
    /* Override of tokenizer.ggml.pre, e.g. "llama-bpe"; NULL: the file's. Where neither is there,
     * "default" splits the text, as in other engines, and the warning names what would be better.
     */
    const char *pre;
    bnt_warn_fn *warn; /* a missing tokenizer.ggml.pre and the like; may be NULL */
    void *warn_ctx;
};

/* A growable list of ids. */
struct bnt_ids {
    int32_t *at;
    size_t n, cap;
};
void bnt_ids_release(struct bnt_ids *ids);
enum bnt_status bnt_ids_push(struct bnt_ids *ids, int32_t id, struct bnt_err *err);
/* Append the ids of a text: numbers separated by blanks, commas and brackets. Errors: USAGE. */
enum bnt_status bnt_ids_parse(const char *text, struct bnt_ids *out, struct bnt_err *err);

enum bnt_encode_flags {
    /* BOS and EOS as the file's add_bos_token and add_eos_token say; where it says nothing: BOS for
     * SentencePiece and for the pre-tokenizers of the LLaMA-3 kind, never EOS. */
    BNT_ENCODE_ADD_SPECIAL = 1,
    BNT_ENCODE_PARSE_SPECIAL =
        2 /* text of control tokens becomes their id; else it is plain text */
};
/* Text of user-defined tokens always becomes their id. */

/* opts may be NULL. Errors: FILE with class MISSING_METADATA or TOKENIZER; UNSUPPORTED for an
 * unknown model or pre-tokenizer, which is named together with those that are known. */
enum bnt_status bnt_tokenizer_new(const struct gguf *g, const struct bnt_tokenizer_options *opts,
                                  struct bnt_tokenizer **out, struct bnt_err *err);
void bnt_tokenizer_free(struct bnt_tokenizer *t);

/* Append the ids of text[0..len-1]. Time is O(len log len) on every input. Thread-safe. */
enum bnt_status bnt_tokenizer_encode(const struct bnt_tokenizer *t, const char *text, size_t len,
                                     unsigned flags, struct bnt_ids *out, struct bnt_err *err);

/* Append the bytes of ids to out. special: also show control tokens (else they are skipped). The
 * first SentencePiece word loses its leading space, as the file's add_space_prefix says. Errors:
 * USAGE for an id outside the vocabulary. */
enum bnt_status bnt_tokenizer_decode(const struct bnt_tokenizer *t, const int32_t *ids, size_t n,
                                     bool special, struct bnt_buf *out, struct bnt_err *err);

/* Raw bytes of one token as decode would write it in mid-text: appended to out. */
enum bnt_status bnt_tokenizer_piece(const struct bnt_tokenizer *t, int32_t id, bool special,
                                    struct bnt_buf *out, struct bnt_err *err);

/* Streaming: push ids one by one; only whole UTF-8 sequences come out, the rest is held back (at
 * most 3 bytes). Bytes that can never become valid are passed on unchanged. flush returns what is
 * held. To stream what continues a prompt, set `started`: then the first word keeps its space. */
struct bnt_detok {
    const struct bnt_tokenizer *t;
    bool special, started;
    unsigned char held[4];
    unsigned n_held;
};
void bnt_detok_init(struct bnt_detok *d, const struct bnt_tokenizer *t, bool special);
enum bnt_status bnt_detok_push(struct bnt_detok *d, int32_t id, struct bnt_buf *out,
                               struct bnt_err *err);
enum bnt_status bnt_detok_flush(struct bnt_detok *d, struct bnt_buf *out, struct bnt_err *err);

int32_t bnt_tokenizer_n_vocab(const struct bnt_tokenizer *t);
/* -1 when the file names none (SentencePiece: then 1 and 2 are BOS and EOS). */
int32_t bnt_tokenizer_bos(const struct bnt_tokenizer *t);
int32_t bnt_tokenizer_eos(const struct bnt_tokenizer *t);
int32_t bnt_tokenizer_eot(const struct bnt_tokenizer *t);
bool bnt_tokenizer_add_bos(const struct bnt_tokenizer *t);
bool bnt_tokenizer_add_eos(const struct bnt_tokenizer *t);
/* True for ids that end an answer: EOS, EOT, and tokens with the usual names (<|eot_id|>,
 * <|im_end|>, <|endoftext|>, <end_of_turn>, <|end|>...), which are control tokens even if the file
 * calls them something else. */
bool bnt_tokenizer_is_eog(const struct bnt_tokenizer *t, int32_t id);
bool bnt_tokenizer_is_control(const struct bnt_tokenizer *t, int32_t id);
/* Id of the token whose vocabulary text is exactly `text`, or -1. */
int32_t bnt_tokenizer_find(const struct bnt_tokenizer *t, const char *text);
/* "gpt2" or "llama"; and the pre-tokenizer in force ("llama-bpe", "default"; "" for SentencePiece).
 */
const char *bnt_tokenizer_model(const struct bnt_tokenizer *t);
const char *bnt_tokenizer_pre(const struct bnt_tokenizer *t);
/* The pre-tokenizer that a vocabulary of this kind was trained with, told by tokens that only it
 * has at their places, and the family in *family; NULL when it is not known. */
const char *bnt_tokenizer_recognise(const struct bnt_tokenizer *t, const char **family);

#endif
