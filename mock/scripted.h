/* Answers from a file, for tests of what surrounds a model: what a prompt becomes is written down
 * beforehand. The format, JSON, is described in docs/mock.md:
 *
 *     {"bnt_scripted": 1, "name": "greeter", "n_vocab": 4, "n_ctx": 64,
 *      "answers": [
 *        {"prompt": "Hello", "prompt_ids": [0, 1], "ids": [2, 3], "pieces": [" wor", "ld"],
 *         "finish": "stop", "logits": [[0, 0.5, 1, 0], [0, 0, 2, 1]]},
 *        {"matches": "^Weather in ", "pieces": ["Sunny."]},
 *        {"error": {"status": 16, "message": "the model fell over"}}]}
 *
 * The first answer that fits is given: an exact prompt, its ids, a regular expression (POSIX,
 * extended), or none of them, which fits all. Immutable after open and shared by threads. */
#ifndef BNT_MOCK_SCRIPTED_H
#define BNT_MOCK_SCRIPTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/bnt_infer.h"
#include "engine/generate.h"

#define BNT_SCRIPTED_MAX_BYTES (256u << 20) /* of the file */

struct bnt_scripted;

/* Errors: those of bnt_file_read; FILE with the line or the place ("answers[2].ids"). */
enum bnt_status bnt_scripted_open(const char *path, struct bnt_scripted **out, struct bnt_err *err);
void bnt_scripted_close(struct bnt_scripted *s); /* NULL is fine */

const char *bnt_scripted_name(const struct bnt_scripted *s);
uint32_t bnt_scripted_n_vocab(const struct bnt_scripted *s); /* 0: not said */
uint32_t bnt_scripted_n_ctx(const struct bnt_scripted *s);   /* 0: no limit */
/* Some answer has ids of its prompt, logits, log-probabilities. */
bool bnt_scripted_has_ids(const struct bnt_scripted *s);
bool bnt_scripted_has_logits(const struct bnt_scripted *s);
bool bnt_scripted_has_logprobs(const struct bnt_scripted *s);

/* The ids that the script gives for a prompt, appended. Errors: NOT_FOUND (no answer fits),
 * UNSUPPORTED (it has no ids), what the script wants to fail with. */
enum bnt_status bnt_scripted_tokenize(const struct bnt_scripted *s, const char *text, size_t len,
                                      struct bnt_ids *out, struct bnt_err *err);
/* The logits that the script gives for ids, a row for each. Errors: as above. */
enum bnt_status bnt_scripted_evaluate(const struct bnt_scripted *s, const int32_t *ids, size_t n,
                                      bnt_logits_fn *fn, void *ctx, struct bnt_err *err);
/* The answer to a prompt by its text, or by its ids where text is NULL, under max_tokens, stop,
 * stop_ids, n_logprobs and on_text of p. g is initialised. Errors: as above; UNSUPPORTED for
 * log-probabilities that the answer has not. */
struct bnt_scripted_prompt {
    const char *text;
    size_t len;
    const int32_t *ids;
    size_t n_ids;
};
enum bnt_status bnt_scripted_generate(const struct bnt_scripted *s,
                                      const struct bnt_scripted_prompt *prompt,
                                      const struct bnt_generate_params *p, struct bnt_generation *g,
                                      struct bnt_err *err);

#endif
