/* What the tokenizer files of the folder "ck" become: keys of a GGUF file, and ids of texts. A
 * failure fails the test. */
#ifndef SUITES_CHECKPOINT_KEYS_H
#define SUITES_CHECKPOINT_KEYS_H

#include "engine/gguf.h"
#include "engine/hf_vocab.h"

/* How LLaMA 3 cuts text, as tokenizer.json says it. */
#define CV_LLAMA3_SPLIT                                                                            \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'" \
    "s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "              \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"       \
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"    \
    "false,\"trim_offsets\":true,\"use_regex\":false}]}"

/* Into a scratch folder with "ck" in it. */
void cv_enter(void);
/* The keys for n_vocab rows of an embedding; what is told meanwhile is cv_warned. */
enum bnt_status cv_put(uint32_t n_vocab, struct gguf_plan *p, struct bnt_err *err);
/* The keys alone as a file, opened. */
struct gguf *cv_vocabulary(uint32_t n_vocab);
struct gguf *cv_vocabulary_of(const struct hf_config *c);
/* All warnings of the last cv_put with their hints, a line each. */
const char *cv_warned(void);

void cv_expect_refusal(uint32_t n_vocab, enum bnt_status status, const char *word);
void cv_expect_str(const struct gguf *g, const char *key, const char *want); /* NULL: absent */
void cv_expect_id(const struct gguf *g, const char *key, int64_t want);      /* -1: absent */
/* ids of a text, with the tokens around it and special tokens in it. */
void cv_expect_ids(const struct gguf *g, const char *text, const int32_t *want, size_t n);

#endif
