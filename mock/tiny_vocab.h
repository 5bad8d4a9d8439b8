/* Vocabularies drawn from a seed: byte-level BPE and SentencePiece, complete for every text. */
#ifndef BNT_MOCK_TINY_VOCAB_H
#define BNT_MOCK_TINY_VOCAB_H

#include <stdint.h>

#include "engine/gguf_plan.h"

/* The tokenizer's keys of a plan: "bpe" or "spm", n tokens. Errors: USAGE for another kind, or too
 * few tokens for the bytes and the end tokens. */
enum bnt_status tiny_vocab_put(struct gguf_plan *p, const char *kind, uint32_t n, uint64_t seed,
                               struct bnt_err *err);

#endif
