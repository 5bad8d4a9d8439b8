/* What merges make. Of bytes: whether they make every token of its own text; then it is all one
 * whether pieces that are tokens are merged or stand for themselves, and the usual name of a
 * pre-tokenizer will do. Of LLaMA's kind: whether they list every pair whose text is a token, since
 * files of that kind hold no merges, and any such pair merges. */
#include <string.h>

#include "base/fault.h"
#include "engine/hf_vocab.h"
#include "engine/pretok.h"
#include "engine/vocab.h"

enum { MAX_TOKEN_BYTES = 1024 }; /* longer ones count as not made */

/* Merges by their texts "a b"; the number of one is its rank. */
struct ranks {
    struct vocab texts;
    struct vocab_index index;
};

/* A token on its way: where its parts begin, and the rank of each with its next, -1: none. */
struct parts {
    const char *text;
    uint32_t n;
    uint16_t at[MAX_TOKEN_BYTES + 1];
    int32_t rank[MAX_TOKEN_BYTES];
};

static enum bnt_status read_ranks(const struct hf_vocab *v, struct ranks *r, struct bnt_err *err)
{
    enum bnt_status st = vocab_init(&r->texts, (uint32_t)v->n_merges, v->merges.len, err);
    if (st == BNT_OK) {
        st = vocab_index_init(&r->index, v->n_merges, err);
    }
    for (size_t at = 0; st == BNT_OK && at + 8 <= v->merges.len;) {
        uint64_t len;
        uint32_t rank;
        bool twice;
        memcpy(&len, v->merges.data + at, sizeof len);
        char *room = vocab_room(&r->texts, (size_t)len);
        if (!room) {
            return bnt_err_nomem(err, "merges", len);
        }
        memcpy(room, v->merges.data + at + 8, (size_t)len);
        at += 8 + (size_t)len;
        st = vocab_add(&r->texts, (size_t)len, &rank, err);
        st = st == BNT_OK ? vocab_index_put(&r->texts, &r->index, rank, &twice, err) : st;
    }
    return st;
}

static void release(struct ranks *r)
{
    vocab_release(&r->texts);
    vocab_index_release(&r->index);
}

static void set_rank(const struct ranks *r, struct parts *p, uint32_t i)
{
    char pair[MAX_TOKEN_BYTES + 1];
    if (i + 1 >= p->n) {
        p->rank[i] = -1;
        return;
    }
    size_t left = p->at[i + 1] - p->at[i], right = p->at[i + 2] - p->at[i + 1];
    memcpy(pair, p->text + p->at[i], left);
    pair[left] = ' ';
    memcpy(pair + left + 1, p->text + p->at[i + 1], right);
    p->rank[i] = vocab_find(&r->texts, &r->index, pair, left + 1 + right);
}

/* Its characters, merged by the lowest rank, leftmost first, become one part. */
static bool is_made(const struct ranks *r, const struct hf_token *t)
{
    struct parts p = {.text = t->text};
    if (t->len == 0 || t->len > MAX_TOKEN_BYTES - 1) {
        return t->len == 0;
    }
    for (size_t i = 0; i < t->len; i++) {
        if (((unsigned char)t->text[i] & 0xc0) != 0x80) {
            p.at[p.n++] = (uint16_t)i;
        }
    }
    p.at[p.n] = (uint16_t)t->len;
    for (uint32_t i = 0; i < p.n; i++) {
        set_rank(r, &p, i);
    }
    while (p.n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < p.n; i++) {
            bool lower = p.rank[i] >= 0 && (p.rank[best] < 0 || p.rank[i] < p.rank[best]);
            best = lower ? i : best;
        }
        if (p.rank[best] < 0) {
            return false;
        }
        memmove(&p.at[best + 1], &p.at[best + 2], (p.n - best - 1) * sizeof p.at[0]);
        memmove(&p.rank[best], &p.rank[best + 1], (p.n - best - 1) * sizeof p.rank[0]);
        p.n--;
        set_rank(r, &p, best);
        if (best > 0) {
            set_rank(r, &p, best - 1);
        }
    }
    return true;
}

static enum bnt_status all_are_made(const struct hf_vocab *v, bool *all, struct bnt_err *err)
{
    struct ranks r = {0};
    enum bnt_status st = read_ranks(v, &r, err);
    *all = true;
    for (uint32_t i = 0; st == BNT_OK && *all && i < v->n; i++) {
        const struct hf_token *t = &v->tokens[i];
        *all = !t->text || t->type != HF_TOKEN_NORMAL || is_made(&r, t);
    }
    release(&r);
    return st;
}

static bool is_one_char(const struct hf_token *t)
{
    size_t n = 1;
    while (n < t->len && ((unsigned char)t->text[n] & 0xc0) == 0x80) {
        n++;
    }
    return n == t->len;
}

/* The normal tokens that text can become, by their texts; a symbol's number is not its id. */
static enum bnt_status read_texts(const struct hf_vocab *v, struct ranks *r, struct bnt_err *err)
{
    enum bnt_status st = vocab_init(&r->texts, v->n, 16 * (size_t)v->n, err);
    if (st == BNT_OK) {
        st = vocab_index_init(&r->index, v->n, err);
    }
    for (uint32_t i = 0; st == BNT_OK && i < v->n; i++) {
        const struct hf_token *t = &v->tokens[i];
        bool is_text = t->text && t->len > 0 && t->type == HF_TOKEN_NORMAL;
        if (is_text && (t->score > HF_UNMADE_SCORE || is_one_char(t))) {
            uint32_t symbol;
            const struct vocab_word word = {t->text, t->len,
                                            vocab_hash(&r->texts, t->text, t->len)};
            st = vocab_intern(&r->texts, &r->index, word, &symbol, err);
        }
    }
    return st;
}

/* A token cut in two that are tokens: is the pair a merge? */
static void count_pairs(struct hf_vocab *v, const struct hf_token *t, const struct ranks *texts,
                        const struct ranks *merges)
{
    char pair[MAX_TOKEN_BYTES + 1];
    for (size_t cut = 1; cut < t->len && t->len < MAX_TOKEN_BYTES; cut++) {
        const char *right = t->text + cut;
        if (((unsigned char)*right & 0xc0) == 0x80 ||
            vocab_find(&texts->texts, &texts->index, t->text, cut) < 0 ||
            vocab_find(&texts->texts, &texts->index, right, t->len - cut) < 0) {
            continue;
        }
        memcpy(pair, t->text, cut);
        pair[cut] = ' ';
        memcpy(pair + cut + 1, right, t->len - cut);
        if (vocab_find(&merges->texts, &merges->index, pair, t->len + 1) < 0 &&
            v->unlisted.n++ == 0) {
            snprintf(v->unlisted.first, sizeof v->unlisted.first, "%.*s",
                     (int)(t->len + 1 < 70 ? t->len + 1 : 70), pair);
        }
    }
}

enum bnt_status hf_count_unlisted(struct hf_vocab *v, struct bnt_err *err)
{
    struct ranks texts = {0}, merges = {0};
    enum bnt_status st = read_texts(v, &texts, err);
    if (st == BNT_OK) {
        st = read_ranks(v, &merges, err);
    }
    for (uint32_t i = 0; st == BNT_OK && i < v->n; i++) {
        if (v->tokens[i].text && v->tokens[i].type == HF_TOKEN_NORMAL) {
            count_pairs(v, &v->tokens[i], &texts, &merges);
        }
    }
    release(&texts);
    release(&merges);
    return st;
}

static bool does_ignore(const struct pretok *p)
{
    return (p->flags & PRETOK_IGNORE_MERGES) != 0;
}

enum bnt_status hf_settle_merging(struct hf_vocab *v, bool asked, bool ignores, struct bnt_err *err)
{
    const struct pretok *named = pretok_find(v->pre, strlen(v->pre));
    bool all = true;
    if (does_ignore(named) == ignores || BNT_FAULT(whole_pieces)) {
        return BNT_OK;
    }
    enum bnt_status st = all_are_made(v, &all, err);
    if (st != BNT_OK || all) {
        return st;
    }
    v->ignore_merges = ignores;
    for (size_t i = 0; !asked && v->ignore_merges >= 0 && pretok_at(i); i++) {
        const struct pretok *other = pretok_at(i);
        if (other->steps == named->steps && does_ignore(other) == ignores) {
            snprintf(v->pre, sizeof v->pre, "%s", other->name);
            v->ignore_merges = -1;
        }
    }
    return BNT_OK;
}
