/* Section answers: prompts with their ids, and what the model says to them.
 *
 *     "hello" 128000 15339 => 1917 198 262
 *
 * A contract that is made has the greedy ids. One that is checked is followed: each recorded id is
 * fed back, and kept where it is as good as the best within BNT_CONTRACT_TOLERANCE, so that a
 * record of another engine can be held against this one. Where it is not, the line ends with the
 * best id in its place, which is the difference that a patch shows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fault.h"
#include "engine/sampler.h"
#include "mock/contract_impl.h"

enum { N_ANSWER = 8, PROMPT_MAX = 512 };

/* What is asked where no contract says it. */
static const char *const prompts[] = {"Hello", "Once upon a time", "The capital of France is",
                                      "1 + 1 ="};

/* Ids that a contract records after "=>"; n is 0 where it is made. */
struct recorded {
    int32_t at[CONTRACT_N_CTX];
    size_t n;
};

/* The id of the next place: the recorded one where it is good enough. */
static int32_t next_id(const struct derivation *d, const float *logits,
                       const struct recorded *record, size_t place)
{
    int32_t n_vocab = bnt_tokenizer_n_vocab(bnt_model_tokenizer(d->model));
    struct bnt_candidate best = {.id = 0};
    (void)bnt_logprobs_top(logits, n_vocab, 1, &best);
    int32_t id = place < record->n ? record->at[place] : best.id;
    double most = (double)logits[best.id];
    bool good =
        id >= 0 && id < n_vocab && most - (double)logits[id] <= BNT_CONTRACT_TOLERANCE * fabs(most);
    return good || BNT_FAULT(contract_answer) ? id : best.id;
}

/* The ids that follow the prompt, up to the first that is not as recorded. */
static enum bnt_status write_answer(struct derivation *d, const struct bnt_ids *prompt,
                                    const struct recorded *record, struct bnt_err *err)
{
    struct bnt_session *s = NULL;
    struct bnt_session_options so = {
        .n_ctx = CONTRACT_N_CTX, .n_threads = 1, .interrupted = d->of.interrupted};
    size_t n = record->n > 0 ? record->n : N_ANSWER;
    size_t room = CONTRACT_N_CTX - prompt->n;
    bool kept = true;
    enum bnt_status st = bnt_session_new(d->model, &so, &s, err);
    if (st == BNT_OK) {
        st = bnt_session_eval(s, prompt->at, prompt->n, err);
    }
    for (size_t i = 0; st == BNT_OK && kept && i < n && i < room; i++) {
        int32_t id = next_id(d, bnt_session_logits(s), record, i);
        kept = record->n == 0 || id == record->at[i];
        st = bnt_buf_printf(d->out, err, " %d", id);
        if (st == BNT_OK && kept && i + 1 < n && i + 1 < room) {
            st = bnt_session_eval(s, &id, 1, err);
        }
    }
    bnt_session_free(s);
    return st;
}

static enum bnt_status write_line(struct derivation *d, const char *prompt, size_t len,
                                  const struct recorded *record, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    struct bnt_ids ids = {0};
    enum bnt_status st = bnt_tokenizer_encode(t, prompt, len, BNT_ENCODE_ADD_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        st = contract_quote(d->out, prompt, len, err);
    }
    for (size_t i = 0; st == BNT_OK && i < ids.n; i++) {
        st = bnt_buf_printf(d->out, err, " %d", ids.at[i]);
    }
    if (st == BNT_OK) {
        st = bnt_buf_puts(d->out, " =>", err);
    }
    if (st == BNT_OK && ids.n > 0 && ids.n < CONTRACT_N_CTX) {
        st = write_answer(d, &ids, record, err);
    }
    bnt_ids_release(&ids);
    return st == BNT_OK ? bnt_buf_putc(d->out, '\n', err) : st;
}

/* ---- reading a line ---- */

/* One character of a quoted text, as contract_quote writes it; NULL where it is none. */
static const char *unquote_char(const char *at, char *out, size_t *len)
{
    char *end = NULL;
    *len = 1;
    if (at[0] != '\\') {
        *out = at[0];
        return at[0] == '\n' || at[0] == '\0' ? NULL : at + 1;
    }
    if (at[1] == 'u' && at[2] == '{') {
        unsigned long cp = strtoul(at + 3, &end, 16);
        *len = cp <= 0x10ffff ? (size_t)utf8proc_encode_char((int)cp, (utf8proc_uint8_t *)out) : 0;
        return *len > 0 && *end == '}' ? end + 1 : NULL;
    }
    if (at[1] == 'x') {
        char digits[3] = {at[2], at[2] ? at[3] : '\0', '\0'};
        *out = (char)strtoul(digits, &end, 16);
        return *end || end != digits + 2 ? NULL : at + 4;
    }
    *out = at[1];
    return at[1] == '"' || at[1] == '\\' ? at + 2 : NULL;
}

/* The text in quotes at `at`; the place behind it, or NULL. */
static const char *unquote(const char *at, char out[PROMPT_MAX], size_t *len)
{
    size_t n = 0;
    *len = 0;
    if (*at++ != '"') {
        return NULL;
    }
    while (at && *at != '"' && *len + 4 < PROMPT_MAX) {
        at = unquote_char(at, out + *len, &n);
        *len += at ? n : 0;
    }
    return at && *at == '"' ? at + 1 : NULL;
}

/* Prompt and recorded ids of a line. */
static bool read_line(const char *line, char prompt[PROMPT_MAX], size_t *len, struct recorded *r)
{
    const char *end = strchr(line, '\n');
    const char *at = unquote(line, prompt, len);
    const char *arrow = at ? strstr(at, " =>") : NULL;
    r->n = 0;
    if (!end || !arrow || arrow > end) {
        return false;
    }
    for (at = arrow + 3; at < end && r->n < CONTRACT_N_CTX; r->n++) {
        char *after;
        long id = strtol(at, &after, 10);
        if (after == at || after > end || id < 0 || id > INT32_MAX) {
            return false;
        }
        r->at[r->n] = (int32_t)id;
        at = after;
    }
    return at == end && r->n > 0;
}

/* The section of a contract, line by line. A line that says nothing stays out, and so differs. */
static enum bnt_status follow(struct derivation *d, const char *section, size_t len,
                              struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    const char *end = section + len;
    for (const char *at = section; st == BNT_OK && at < end; at += strcspn(at, "\n") + 1) {
        char prompt[PROMPT_MAX];
        size_t prompt_len;
        struct recorded record;
        if (read_line(at, prompt, &prompt_len, &record)) {
            st = write_line(d, prompt, prompt_len, &record, err);
        }
    }
    return st;
}

enum bnt_status contract_answers(struct derivation *d, struct bnt_err *err)
{
    static const struct recorded none = {.n = 0};
    size_t len = 0;
    const char *section = d->given ? contract_section(d->given, "answers", &len) : NULL;
    if (section) {
        return follow(d, section, len, err);
    }
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof prompts / sizeof prompts[0]; i++) {
        st = write_line(d, prompts[i], strlen(prompts[i]), &none, err);
    }
    return st;
}
