/* The vocabulary of a llama-server that tells texts where today's tell ids: asked for once, as a
 * list of all ids to /tokenize, and looked up by text. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/subject_http.h"

#define ANSWER_MAX_BYTES (256u << 20) /* of a vocabulary of some 300,000 */
#define VOCAB_MAX (1 << 20)

/* A text, or the bytes of one that is no UTF-8: a single byte is shown by its number, several have
 * no text of their own. */
static char *text_of(const json_t *piece)
{
    char shown[16] = "";
    if (json_is_string(piece)) {
        return strdup(json_string_value(piece));
    }
    if (json_array_size(piece) == 1) {
        snprintf(shown, sizeof shown, "byte: \\x%x",
                 (unsigned)json_integer_value(json_array_get(piece, 0)) & 0xff);
    }
    return strdup(shown);
}

static int by_text(const void *a, const void *b, void *pieces)
{
    char *const *at = ((const struct http_pieces *)pieces)->at;
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    const int order = strcmp(at[x], at[y]);
    return order ? order : (x > y) - (x < y);
}

void http_pieces_release(struct http_pieces *p)
{
    for (size_t i = 0; p->at && i < p->n; i++) {
        free(p->at[i]);
    }
    free(p->at);
    free(p->by_text);
    *p = (struct http_pieces){0};
}

static enum bnt_status take(struct http_subject *s, const json_t *list, struct bnt_err *err)
{
    struct http_pieces *p = &s->pieces;
    p->n = s->n_vocab;
    p->at = calloc(p->n, sizeof *p->at);
    p->by_text = calloc(p->n, sizeof *p->by_text);
    if (!p->at || !p->by_text) {
        return bnt_err_nomem(err, "a vocabulary", p->n);
    }
    for (size_t i = 0; i < p->n; i++) {
        const json_t *entry = json_array_get(list, i);
        if (json_integer_value(json_object_get(entry, "id")) != (json_int_t)i) {
            return subject_http_bad(s, "/tokenize", "it lists other ids than it was asked for",
                                    err);
        }
        p->at[i] = text_of(json_object_get(entry, "piece"));
        p->by_text[i] = (int32_t)i;
        if (!p->at[i]) {
            return bnt_err_nomem(err, "a vocabulary", p->n);
        }
    }
    qsort_r(p->by_text, p->n, sizeof *p->by_text, by_text, p);
    return BNT_OK;
}

static enum bnt_status ask(struct http_subject *s, struct bnt_err *err)
{
    json_t *answer = NULL, *ids = json_array();
    if (s->n_vocab == 0 || s->n_vocab > VOCAB_MAX) {
        json_decref(ids);
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%.300s does not tell its vocabulary", s->url);
    }
    for (uint32_t i = 0; ids && i < s->n_vocab; i++) {
        if (json_array_append_new(ids, json_integer(i)) != 0) {
            json_decref(ids);
            ids = NULL;
        }
    }
    const struct http_question q = {.path = "/tokenize",
                                    .posts = true,
                                    .body =
                                        json_pack("{s:o, s:b}", "content", ids, "with_pieces", 1),
                                    .answer_max_bytes = ANSWER_MAX_BYTES};
    enum bnt_status st = subject_http_ask(s, q, &answer, err);
    if (st == BNT_OK) {
        st = take(s, json_object_get(answer, "tokens"), err);
    }
    if (st != BNT_OK) {
        http_pieces_release(&s->pieces);
    }
    json_decref(answer);
    return st;
}

/* The first id whose text is not below this one. */
static size_t lower_bound(const struct http_pieces *p, const char *text)
{
    size_t low = 0, high = p->n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (strcmp(p->at[p->by_text[mid]], text) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

enum bnt_status http_pieces_find(struct http_subject *s, const char *text, int32_t *id,
                                 struct bnt_err *err)
{
    const struct http_pieces *p = &s->pieces;
    enum bnt_status st = p->at ? BNT_OK : ask(s, err);
    *id = -1;
    if (st != BNT_OK || text[0] == '\0') {
        return st;
    }
    const size_t i = lower_bound(p, text);
    const bool here = i < p->n && strcmp(p->at[p->by_text[i]], text) == 0;
    const bool twice = here && i + 1 < p->n && strcmp(p->at[p->by_text[i + 1]], text) == 0;
    if (here && (!twice || BNT_FAULT(http_first_piece))) {
        *id = p->by_text[i];
    }
    return BNT_OK;
}
