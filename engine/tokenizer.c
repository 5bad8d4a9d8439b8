/* The public face of a tokenizer: encoding a whole text, questions about tokens. */
#include "engine/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/tokenizer_impl.h"

/* Texts longer than this pay for a cache of their words. */
#define WORTH_A_CACHE_BYTES 2048
#define MAX_TEXT_BYTES (1u << 30)

void bnt_ids_release(struct bnt_ids *ids)
{
    free(ids->at);
    *ids = (struct bnt_ids){0};
}

enum bnt_status bnt_ids_push(struct bnt_ids *ids, int32_t id, struct bnt_err *err)
{
    if (ids->n == ids->cap) {
        size_t cap = ids->cap + ids->cap / 2 + 32;
        int32_t *grown =
            cap > SIZE_MAX / sizeof(*grown) ? NULL : realloc(ids->at, cap * sizeof(*grown));
        if (grown == NULL) {
            return bnt_err_nomem(err, "a list of tokens", (unsigned long long)cap * sizeof(*grown));
        }
        ids->at = grown;
        ids->cap = cap;
    }
    ids->at[ids->n++] = id;
    return BNT_OK;
}

enum bnt_status bnt_ids_parse(const char *text, struct bnt_ids *out, struct bnt_err *err)
{
    for (const char *p = text; *p != '\0';) {
        if (strchr(" \t\r\n,[]", *p) != NULL) {
            p++;
            continue;
        }
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno != 0 || id < INT32_MIN || id > INT32_MAX) {
            return bnt_err_set(err, BNT_E_USAGE, "\"%.24s\" is no token id", p);
        }
        enum bnt_status st = bnt_ids_push(out, (int32_t)id, err);
        if (st != BNT_OK) {
            return st;
        }
        p = end;
    }
    return BNT_OK;
}

void bnt_tokenizer_free(struct bnt_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    vocab_release(&t->vocab);
    vocab_index_release(&t->words);
    vocab_index_release(&t->others);
    special_release(&t->special);
    free(t->type);
    free(t->merges);
    free(t->merge_slots);
    free(t->score);
    free(t);
}

static enum bnt_status encode_fragments(const struct bnt_tokenizer *t, const char *text,
                                        const struct fragments *f, struct scratch *s,
                                        struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < f->n && st == BNT_OK; i++) {
        const struct fragment *part = &f->at[i];
        if (part->id >= 0) {
            st = bnt_ids_push(out, part->id, err);
        } else if (t->spm) { /* text stands at the start or after a special token: a word begins */
            bool prefix = t->add_space_prefix && (part->at == 0 || !t->prefix_first);
            st = spm_encode(t, s, text + part->at, part->len, prefix, out, err);
        } else {
            st = bpe_encode(t, s, text + part->at, part->len, out, err);
        }
    }
    return st;
}

enum bnt_status bnt_tokenizer_encode(const struct bnt_tokenizer *t, const char *text, size_t len,
                                     unsigned flags, struct bnt_ids *out, struct bnt_err *err)
{
    if (len > MAX_TEXT_BYTES) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a text of %zu bytes is too long to tokenize at once (at most 1 GiB)",
                           len);
    }
    struct scratch s = {0};
    struct fragments f = {0};
    bool special = (flags & BNT_ENCODE_ADD_SPECIAL) != 0;
    enum bnt_status st =
        special && t->add_bos && !BNT_FAULT(bos) ? bnt_ids_push(out, t->bos, err) : BNT_OK;
    if (st == BNT_OK) {
        st = special_partition(&t->special, text, len, (flags & BNT_ENCODE_PARSE_SPECIAL) != 0, &f,
                               err);
    }
    if (st == BNT_OK && len >= WORTH_A_CACHE_BYTES) {
        s.cache =
            calloc(WORD_CACHE_SLOTS, sizeof(*s.cache)); /* goes without when memory is short */
    }
    if (st == BNT_OK) {
        st = encode_fragments(t, text, &f, &s, out, err);
    }
    if (st == BNT_OK && special && t->add_eos) {
        st = bnt_ids_push(out, t->eos, err);
    }
    free(f.at);
    scratch_release(&s);
    return st;
}

int32_t bnt_tokenizer_n_vocab(const struct bnt_tokenizer *t)
{
    return t->n_vocab;
}

int32_t bnt_tokenizer_bos(const struct bnt_tokenizer *t)
{
    return t->bos;
}

int32_t bnt_tokenizer_eos(const struct bnt_tokenizer *t)
{
    return t->eos;
}

int32_t bnt_tokenizer_eot(const struct bnt_tokenizer *t)
{
    return t->eot;
}

bool bnt_tokenizer_add_bos(const struct bnt_tokenizer *t)
{
    return t->add_bos;
}

bool bnt_tokenizer_add_eos(const struct bnt_tokenizer *t)
{
    return t->add_eos;
}

bool bnt_tokenizer_is_eog(const struct bnt_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab && (t->type[id] & TOKEN_EOG) != 0;
}

bool bnt_tokenizer_is_control(const struct bnt_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab && tokenizer_type(t, id) == TOKEN_CONTROL;
}

int32_t bnt_tokenizer_find(const struct bnt_tokenizer *t, const char *text)
{
    size_t len = strlen(text);
    int32_t id;
    if (t->spm) {
        id = vocab_find(&t->vocab, &t->words, text, len);
    } else {
        char stack[256];
        char *bytes = len <= sizeof(stack) ? stack : malloc(len);
        if (bytes == NULL) {
            return -1;
        }
        size_t n = uni_bytes_from_alphabet(text, len, bytes);
        id = n == SIZE_MAX ? vocab_find(&t->vocab, &t->others, text, len)
                           : vocab_find(&t->vocab, &t->words, bytes, n);
        if (bytes != stack) {
            free(bytes);
        }
    }
    return id < t->n_vocab ? id : -1;
}

const char *bnt_tokenizer_model(const struct bnt_tokenizer *t)
{
    return t->spm ? "llama" : "gpt2";
}

const char *bnt_tokenizer_pre(const struct bnt_tokenizer *t)
{
    return t->spm ? "" : t->pre->name;
}
