/* Longest common subsequence of the lines between the first and the last difference, by a table of
 * lengths; then hunks with three lines around. */
#include "mock/line_diff.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 3 };

struct lines {
    const char **at;
    size_t *len;
    size_t n;
};

/* One line of the result: ' ', '-' or '+', and which. */
struct edit {
    char sign;
    size_t from, to;
};

struct script {
    struct edit *at;
    size_t n;
};

static void release_lines(struct lines *l)
{
    free(l->at);
    free(l->len);
}

static enum bnt_status split(const char *text, struct lines *out, struct bnt_err *err)
{
    size_t n = 1;
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++) {
        n++;
    }
    *out = (struct lines){calloc(n, sizeof *out->at), calloc(n, sizeof *out->len), 0};
    if (!out->at || !out->len) {
        return bnt_err_nomem(err, "lines", n);
    }
    while (*text) {
        size_t len = strcspn(text, "\n");
        out->at[out->n] = text;
        out->len[out->n++] = len;
        text += len + (text[len] == '\n');
    }
    return BNT_OK;
}

static bool same(const struct lines *a, size_t i, const struct lines *b, size_t j)
{
    return a->len[i] == b->len[j] && memcmp(a->at[i], b->at[j], a->len[i]) == 0;
}

static void put(struct script *s, char sign, size_t from, size_t to)
{
    s->at[s->n++] = (struct edit){sign, from, to};
}

/* The part that differs: lines [head, n - tail) of both. */
struct middle {
    size_t head, a_end, b_end;
};

static struct middle find_middle(const struct lines *a, const struct lines *b)
{
    struct middle m = {0, a->n, b->n};
    while (m.head < a->n && m.head < b->n && same(a, m.head, b, m.head)) {
        m.head++;
    }
    while (m.a_end > m.head && m.b_end > m.head && same(a, m.a_end - 1, b, m.b_end - 1)) {
        m.a_end--;
        m.b_end--;
    }
    return m;
}

/* Lengths of the common subsequences of what follows (i, j) within the middle. */
static uint16_t *make_table(const struct lines *a, const struct lines *b, const struct middle *m)
{
    size_t rows = m->a_end - m->head, cols = m->b_end - m->head;
    if (rows > LINE_DIFF_MAX || cols > LINE_DIFF_MAX) {
        return NULL;
    }
    uint16_t *t = calloc((rows + 1) * (cols + 1), sizeof *t);
    for (size_t i = rows; t && i-- > 0;) {
        for (size_t j = cols; j-- > 0;) {
            uint16_t down = t[(i + 1) * (cols + 1) + j], right = t[i * (cols + 1) + j + 1];
            t[i * (cols + 1) + j] = same(a, m->head + i, b, m->head + j)
                                        ? (uint16_t)(t[(i + 1) * (cols + 1) + j + 1] + 1)
                                    : down > right ? down
                                                   : right;
        }
    }
    return t;
}

static void walk(const struct lines *a, const struct lines *b, const struct middle *m,
                 struct script *s)
{
    uint16_t *t = make_table(a, b, m);
    size_t cols = m->b_end - m->head, i = m->head;
    size_t j = i;
    while (i < m->a_end || j < m->b_end) {
        bool both = i < m->a_end && j < m->b_end;
        size_t r = i - m->head, c = j - m->head;
        if (both && t && same(a, i, b, j)) {
            put(s, ' ', i++, j++);
        } else if (j == m->b_end ||
                   (both && (!t || t[(r + 1) * (cols + 1) + c] >= t[r * (cols + 1) + c + 1]))) {
            put(s, '-', i++, j);
        } else {
            put(s, '+', i, j++);
        }
    }
    free(t);
}

static enum bnt_status make_script(const struct lines *a, const struct lines *b, struct script *s,
                                   struct bnt_err *err)
{
    struct middle m = find_middle(a, b);
    s->at = calloc(a->n + b->n + 1, sizeof *s->at);
    if (!s->at) {
        return bnt_err_nomem(err, "a difference", a->n + b->n);
    }
    for (size_t i = 0; i < m.head; i++) {
        put(s, ' ', i, i);
    }
    walk(a, b, &m, s);
    for (size_t i = m.a_end; i < a->n; i++) {
        put(s, ' ', i, m.b_end + (i - m.a_end));
    }
    return BNT_OK;
}

/* Edits [begin, end) as one hunk. */
static enum bnt_status print_hunk(const struct lines *a, const struct lines *b,
                                  const struct edit *begin, const struct edit *end,
                                  struct bnt_buf *out, struct bnt_err *err)
{
    size_t n_from = 0, n_to = 0;
    for (const struct edit *e = begin; e < end; e++) {
        n_from += e->sign != '+';
        n_to += e->sign != '-';
    }
    enum bnt_status st =
        bnt_buf_printf(out, err, "@@ -%zu,%zu +%zu,%zu @@\n", begin->from + (n_from > 0), n_from,
                       begin->to + (n_to > 0), n_to);
    for (const struct edit *e = begin; st == BNT_OK && e < end; e++) {
        const struct lines *l = e->sign == '+' ? b : a;
        size_t i = e->sign == '+' ? e->to : e->from;
        st = bnt_buf_printf(out, err, "%c%.*s\n", e->sign, (int)l->len[i], l->at[i]);
    }
    return st;
}

/* The end of the hunk that begins at edit i: changes with at most twice the context between them
 * belong together. */
static size_t hunk_end(const struct script *s, size_t i)
{
    size_t last = i;
    for (; i < s->n && i <= last + 2 * CONTEXT; i++) {
        last = s->at[i].sign != ' ' ? i : last;
    }
    return last + 1 + CONTEXT < s->n ? last + 1 + CONTEXT : s->n;
}

static enum bnt_status print_hunks(const struct lines *a, const struct lines *b,
                                   const struct script *s, struct bnt_buf *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < s->n; i++) {
        if (s->at[i].sign != ' ') {
            size_t begin = i > CONTEXT ? i - CONTEXT : 0, end = hunk_end(s, i);
            st = print_hunk(a, b, s->at + begin, s->at + end, out, err);
            i = end;
        }
    }
    return st;
}

enum bnt_status line_diff(const char *from_name, const char *from, const char *to_name,
                          const char *to, struct bnt_buf *out, struct bnt_err *err)
{
    struct lines a = {0}, b = {0};
    struct script s = {0};
    if (strcmp(from, to) == 0) {
        return BNT_OK;
    }
    enum bnt_status st = split(from, &a, err);
    if (st == BNT_OK) {
        st = split(to, &b, err);
    }
    if (st == BNT_OK) {
        st = make_script(&a, &b, &s, err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_printf(out, err, "--- %s\n+++ %s\n", from_name, to_name);
    }
    if (st == BNT_OK) {
        st = print_hunks(&a, &b, &s, out, err);
    }
    release_lines(&a);
    release_lines(&b);
    free(s.at);
    return st;
}
