/* Special tokens in text.
 *
 * Longer tokens come before shorter ones over the whole text, whatever stands where: the longest
 * are cut out first, then shorter ones are looked for in what is left. Which tokens occur at all is
 * found in one walk, so that a vocabulary with hundreds of them costs nothing for text without any.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/tokenizer_impl.h"

static int compare_len(const void *a, const void *b)
{
    const struct special *x = *(const struct special *const *)a;
    const struct special *y = *(const struct special *const *)b;
    if (x->len != y->len) {
        return (x->len > y->len) ^ BNT_FAULT(special_shortest) ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static int compare_text(const void *a, const void *b)
{
    const struct special *x = *(const struct special *const *)a;
    const struct special *y = *(const struct special *const *)b;
    size_t common = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, common);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static bool is_special(enum token_type type)
{
    return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED || type == TOKEN_UNKNOWN;
}

/* Copy the texts of special tokens from the file, in the order of their ids. */
static enum bnt_status collect(struct bnt_tokenizer *t, const struct gguf *g, size_t n,
                               size_t bytes, struct bnt_err *err)
{
    struct special_set *s = &t->special;
    s->text = malloc(bytes + 1);
    s->at = calloc(n + 1, sizeof(*s->at));
    s->by_len = calloc(n + 1, sizeof(*s->by_len));
    s->by_text = calloc(n + 1, sizeof(*s->by_text));
    struct gguf_iter it;
    if (s->text == NULL || s->at == NULL || s->by_len == NULL || s->by_text == NULL) {
        return bnt_err_nomem(err, "the special tokens", bytes + n * sizeof(*s->at));
    }
    char *p = s->text;
    struct gguf_str text;
    gguf_iter_begin(g, "tokenizer.ggml.tokens", GGUF_STR, &it);
    for (int32_t id = 0; id < t->n_vocab && gguf_iter_str(&it, &text); id++) {
        enum token_type type = tokenizer_type(t, id);
        if (!is_special(type) || text.len == 0) {
            continue;
        }
        memcpy(p, text.data, text.len);
        s->at[s->n++] = (struct special){
            .text = p, .len = (uint32_t)text.len, .id = id, .control = type != TOKEN_USER_DEFINED};
        p += text.len;
    }
    return BNT_OK;
}

/* First of by_text[lo..hi-1], which agree in their first `depth` bytes, whose next byte is not
 * below `byte`. */
static uint32_t bound(const struct special_set *s, uint32_t lo, uint32_t hi, size_t depth,
                      unsigned byte)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)s->by_text[mid]->text[depth] < byte) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Mark those that the text begins with. */
static void mark_at(const struct special_set *s, const char *text, size_t len, uint8_t *present)
{
    unsigned byte = (unsigned char)text[0];
    uint32_t lo = s->first[byte];
    uint32_t hi = s->first[byte + 1];
    for (size_t depth = 1; lo < hi; depth++) {
        for (; lo < hi && s->by_text[lo]->len == depth; lo++) {
            present[s->by_text[lo] - s->at] = 1;
        }
        if (depth == len) {
            break;
        }
        byte = (unsigned char)text[depth];
        lo = bound(s, lo, hi, depth, byte);
        hi = bound(s, lo, hi, depth, byte + 1);
    }
}

static enum bnt_status push(struct fragments *f, size_t at, size_t len, int32_t id,
                            struct bnt_err *err)
{
    if (f->n == f->cap) {
        size_t cap = 2 * f->cap + 8;
        struct fragment *grown = realloc(f->at, cap * sizeof(*grown));
        if (grown == NULL) {
            return bnt_err_nomem(err, "the special tokens of a text", cap * sizeof(*grown));
        }
        f->at = grown;
        f->cap = cap;
    }
    f->at[f->n++] = (struct fragment){at, len, id};
    return BNT_OK;
}

/* Where the white space that ends at text[at] begins, not before `from`. */
static size_t blanks_before(const char *text, size_t from, size_t at)
{
    uni_char c[4];
    while (at > from) {
        size_t lead = at - 1;
        while (lead > from && at - lead < 4 && ((unsigned char)text[lead] & 0xc0) == 0x80) {
            lead--;
        }
        if (uni_scan(text + lead, at - lead, c) != 1 || !uni_is(c[0], UNI_WS)) {
            break;
        }
        at = lead;
    }
    return at;
}

/* Where the white space at text[at] ends, `end` at most. */
static size_t blanks_after(const char *text, size_t at, size_t end)
{
    uni_char c[4];
    while (at < end && uni_scan(text + at, end - at < 4 ? end - at : 4, c) > 0 &&
           uni_is(c[0], UNI_WS)) {
        at += uni_len(c[0]);
    }
    return at;
}

/* Cut one stretch of text at every occurrence of `what`. */
static enum bnt_status cut(const struct special *what, const char *text, struct fragment f,
                           struct fragments *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    size_t at = f.at;
    size_t end = f.at + f.len;
    while (st == BNT_OK && at < end) {
        const char *found = memmem(text + at, end - at, what->text, what->len);
        size_t stop = found == NULL ? end : (size_t)(found - text);
        size_t kept = found != NULL && what->lstrip ? blanks_before(text, at, stop) : stop;
        if (kept > at) {
            st = push(out, at, kept - at, -1, err);
        }
        at = stop;
        if (found != NULL && st == BNT_OK) {
            st = push(out, stop, what->len, what->id, err);
            at += what->len;
            at = what->rstrip ? blanks_after(text, at, end) : at;
        }
    }
    return st;
}

/* Cut what is still text in *f at every occurrence of `what`. */
static enum bnt_status cut_all(const struct special *what, const char *text, struct fragments *f,
                               struct bnt_err *err)
{
    struct fragments next = {0};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < f->n && st == BNT_OK; i++) {
        if (f->at[i].id >= 0 || f->at[i].len < what->len) {
            st = push(&next, f->at[i].at, f->at[i].len, f->at[i].id, err);
        } else {
            st = cut(what, text, f->at[i], &next, err);
        }
    }
    free(f->at);
    *f = next;
    return st;
}

static struct special *find_text(const struct special_set *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].len == strlen(text) && memcmp(s->at[i].text, text, s->at[i].len) == 0) {
            return &s->at[i];
        }
    }
    return NULL;
}

static bool contains(struct gguf_str s, const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= s.len; i++) {
        size_t k = 0;
        while (k < len && tolower((unsigned char)s.data[i + k]) == word[k]) {
            k++;
        }
        if (k == len) {
            return true;
        }
    }
    return false;
}

/* Mark the tokens whose ids stand in an array. *there: it is. */
static enum bnt_status read_strips(struct special_set *s, const struct gguf *g, bool left,
                                   bool *there, struct bnt_err *err)
{
    const char *key = left ? TOKENIZER_LSTRIP_KEY : TOKENIZER_RSTRIP_KEY;
    const struct gguf_kv *kv = gguf_find(g, key);
    struct gguf_iter it;
    int64_t id = -1;
    *there = *there || kv != NULL;
    bool sound = kv == NULL || (kv->type == GGUF_ARR && kv->elem_type == GGUF_I32 &&
                                gguf_iter_begin(g, key, GGUF_I32, &it));
    for (uint64_t i = 0; sound && kv != NULL && i < kv->n; i++) {
        const struct special *found = gguf_iter_i64(&it, &id) && id >= 0 && id <= INT32_MAX
                                          ? special_by_id(s, (int32_t)id)
                                          : NULL;
        sound = found != NULL;
        if (sound && !BNT_FAULT(strip_keys)) {
            struct special *at = &s->at[found - s->at];
            *(left ? &at->lstrip : &at->rstrip) = true;
        }
    }
    return sound ? BNT_OK
                 : gguf_fail(err, GGUF_FAULT_TOKENIZER,
                             "%s: %s is no array of ids of special tokens (int32)", g->path, key);
}

/* Files of other programs do not say which tokens swallow the space around them: known families
 * are told by their names. */
static void guess_strips(struct special_set *s, const struct gguf *g)
{
    struct gguf_str name = {"", 0};
    struct gguf_str pre = {"", 0};
    gguf_get_str(g, "general.name", &name);
    gguf_get_str(g, "tokenizer.ggml.pre", &pre);
    struct special *mask = NULL;
    if (contains(pre, "jina-v2-de") || contains(pre, "jina-v2-es") ||
        contains(pre, "jina-v2-code")) {
        mask = find_text(s, "<mask>");
    } else if (contains(name, "phi-3") || contains(name, "phi3")) {
        for (size_t i = 0; i < s->n; i++) {
            s->at[i].rstrip = true;
        }
        static const char *const keep[] = {"<unk>", "<s>", "<|endoftext|>"};
        for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
            struct special *kept = find_text(s, keep[i]);
            if (kept != NULL) {
                kept->rstrip = false;
            }
        }
    } else if (contains(name, "modern-bert")) {
        mask = find_text(s, "[MASK]");
    }
    if (mask != NULL) {
        mask->lstrip = true;
    }
}

enum bnt_status special_build(struct bnt_tokenizer *t, const struct gguf *g, struct bnt_err *err)
{
    struct special_set *s = &t->special;
    struct gguf_iter it;
    struct gguf_str text;
    size_t n = 0;
    size_t bytes = 0;
    gguf_iter_begin(g, "tokenizer.ggml.tokens", GGUF_STR, &it);
    for (int32_t id = 0; id < t->n_vocab && gguf_iter_str(&it, &text); id++) {
        if (is_special(tokenizer_type(t, id))) {
            n++;
            bytes += text.len;
        }
    }
    enum bnt_status st = collect(t, g, n, bytes, err);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t i = 0; i < s->n; i++) {
        s->by_len[i] = s->by_text[i] = &s->at[i];
        s->first[(unsigned char)s->at[i].text[0] + 1]++;
    }
    for (unsigned b = 0; b < 256; b++) {
        s->first[b + 1] += s->first[b];
    }
    qsort(s->by_len, s->n, sizeof(*s->by_len), compare_len);
    qsort(s->by_text, s->n, sizeof(*s->by_text), compare_text);
    bool told = false;
    st = read_strips(s, g, true, &told, err);
    if (st == BNT_OK) {
        st = read_strips(s, g, false, &told, err);
    }
    if (!told || BNT_FAULT(strip_keys)) {
        guess_strips(s, g);
    }
    return st;
}

void special_release(struct special_set *s)
{
    free(s->text);
    free(s->at);
    free(s->by_len);
    free(s->by_text);
    *s = (struct special_set){0};
}

const struct special *special_by_id(const struct special_set *s, int32_t id)
{
    size_t lo = 0;
    for (size_t hi = s->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->at[mid].id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < s->n && s->at[lo].id == id ? &s->at[lo] : NULL;
}

enum bnt_status special_partition(const struct special_set *s, const char *text, size_t len,
                                  bool control, struct fragments *out, struct bnt_err *err)
{
    enum bnt_status st = len == 0 ? BNT_OK : push(out, 0, len, -1, err);
    if (st != BNT_OK || s->n == 0) {
        return st;
    }
    uint8_t *present = calloc(s->n, 1);
    if (present == NULL) {
        return bnt_err_nomem(err, "the special tokens of a text", s->n);
    }
    for (size_t at = 0; at < len; at++) {
        if (s->first[(unsigned char)text[at]] < s->first[(unsigned char)text[at] + 1]) {
            mark_at(s, text + at, len - at, present);
        }
    }
    for (size_t i = 0; i < s->n && st == BNT_OK; i++) {
        const struct special *what = s->by_len[i];
        if (present[what - s->at] && (control || !what->control || BNT_FAULT(special_text))) {
            st = cut_all(what, text, out, err);
        }
    }
    free(present);
    return st;
}
