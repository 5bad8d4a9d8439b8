/* The values of a suite file: texts with their parameters, words, patterns, numbers. */
#include "testkit/user_values.h"

#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/opt.h"
#include "base/pattern.h"

#define MAX_KEYS 32

/* ---- errors ---- */

enum bnt_status user_bad(const struct user_reader *r, const struct yaml_node *n, const char *what)
{
    bool keyed = n->key != NULL;
    enum bnt_status st = bnt_err_set(
        r->err, BNT_E_FILE, "%s:%u:%u: %s%s%s", r->shown, keyed ? n->key_line : n->line,
        keyed ? n->key_column : n->column, keyed ? n->key : "", keyed ? ": " : "", what);
    bnt_err_hint(r->err, "docs/user-suites.md describes every key");
    return st;
}

void *user_take(struct user_reader *r, size_t n, enum bnt_status *st)
{
    void *p = *st == BNT_OK ? bnt_arena_alloc(&r->suite->arena, n ? n : 1) : NULL;
    if (!p && *st == BNT_OK) {
        *st = bnt_err_set(r->err, BNT_E_FILE, "%s: parameters make more than %zu MiB of tests",
                          r->shown, USER_ARENA_BYTES >> 20);
    }
    return p;
}

const char *user_keep(struct user_reader *r, const char *text, size_t n, enum bnt_status *st)
{
    char *copy = user_take(r, n + 1, st);
    if (copy) {
        memcpy(copy, text, n);
    }
    return copy ? copy : "";
}

/* ---- maps ---- */

static enum bnt_status unknown_key(const struct user_reader *r, const struct yaml_node *n,
                                   const char *const *names)
{
    const char *near = bnt_did_you_mean(n->key, names);
    enum bnt_status st = bnt_err_set(r->err, BNT_E_FILE, "%s:%u:%u: unknown key '%.80s'", r->shown,
                                     n->key_line, n->key_column, n->key);
    if (near) {
        bnt_err_hint(r->err, "did you mean '%s'?", near);
    } else {
        char all[512] = "";
        for (size_t i = 0, len = 0; names[i] && len < sizeof all; i++) {
            len += (size_t)snprintf(all + len, sizeof all - len, "%s%s", i ? ", " : "", names[i]);
        }
        bnt_err_hint(r->err, "the keys here: %s (docs/user-suites.md)", all);
    }
    return st;
}

/* Hand every member of a map to its key's reader. */
enum bnt_status user_read_map(struct user_reader *r, const struct yaml_node *n,
                              const struct user_key *keys, void *const *into)
{
    const char *names[MAX_KEYS + 1] = {NULL};
    size_t n_keys = 0;
    for (; n_keys < MAX_KEYS && keys[n_keys].name; n_keys++) {
        names[n_keys] = keys[n_keys].name;
    }
    enum bnt_status st = n->kind == TREE_MAP ? BNT_OK : user_bad(r, n, "must be a map");
    for (const struct yaml_node *m = n->first; st == BNT_OK && m; m = m->next) {
        size_t i = 0;
        while (i < n_keys && strcmp(keys[i].name, m->key) != 0) {
            i++;
        }
        st = i < n_keys ? keys[i].read(r, m, into[i]) : unknown_key(r, m, names);
    }
    return st;
}

/* ---- texts ---- */

static const struct yaml_node *parameter(const struct user_reader *r, const char *name, size_t len)
{
    const struct yaml_node *p = r->with ? r->with->first : NULL;
    while (p && (strlen(p->key) != len || memcmp(p->key, name, len) != 0)) {
        p = p->next;
    }
    return p;
}

/* "${name}" becomes the parameter of that name; "$$" a "$". */
static enum bnt_status fill_in(struct user_reader *r, const struct yaml_node *n, const char **into)
{
    struct bnt_buf out = BNT_BUF(YAML_TREE_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    for (const char *p = n->text; st == BNT_OK && *p;) {
        size_t plain = strcspn(p, "$");
        size_t name = p[plain] && p[plain + 1] == '{' ? strcspn(p + plain + 2, "}") : 0;
        st = bnt_buf_append(&out, p, plain, r->err);
        p += plain;
        if (st != BNT_OK || !*p) {
            break;
        }
        if (p[1] == '{' && p[2 + name] == '}') {
            const struct yaml_node *value = parameter(r, p + 2, name);
            st = value ? bnt_buf_puts(&out, value->text, r->err)
                       : user_bad(r, n, "a parameter ${...} that `with` does not have");
            p += name + 3;
        } else {
            st = bnt_buf_putc(&out, '$', r->err);
            p += p[1] == '$' ? 2 : 1;
        }
    }
    if (st == BNT_OK) {
        *into = user_keep(r, bnt_buf_view(&out), out.len, &st);
    }
    bnt_buf_release(&out);
    return st;
}

enum bnt_status user_read_text(struct user_reader *r, const struct yaml_node *n, void *into)
{
    if (n->kind != TREE_TEXT || yaml_is_null(n)) {
        return user_bad(r, n, "must be a text");
    }
    return fill_in(r, n, into);
}

size_t user_count(const struct yaml_node *n)
{
    size_t k = 0;
    for (const struct yaml_node *i = n->first; i; i = i->next) {
        k++;
    }
    return k;
}

enum bnt_status user_read_texts(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts *t = into;
    enum bnt_status st = BNT_OK;
    const struct yaml_node *i = n->kind == TREE_LIST ? n->first : n;
    size_t k = n->kind == TREE_LIST ? user_count(n) : 1;
    if (k == 0) {
        return user_bad(r, n, "an empty list asks for nothing");
    }
    t->at = user_take(r, k * sizeof *t->at, &st);
    for (t->n = 0; st == BNT_OK && t->n < k; t->n++) {
        st = user_read_text(r, i, &t->at[t->n]);
        i = i->next;
    }
    return st;
}

/* An empty text is in every answer. */
enum bnt_status user_read_parts(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const struct user_texts *t = into;
    enum bnt_status st = user_read_texts(r, n, into);
    for (size_t i = 0; st == BNT_OK && i < t->n; i++) {
        st = t->at[i][0] ? BNT_OK : user_bad(r, n, "an empty text is in every answer");
    }
    return st;
}

/* Of words that stand in one comma-separated text afterwards. */
enum bnt_status user_read_words(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts t = {0};
    struct bnt_buf out = BNT_BUF(4096);
    enum bnt_status st = user_read_texts(r, n, &t);
    for (size_t i = 0; st == BNT_OK && i < t.n; i++) {
        bool word = t.at[i][0] && !t.at[i][strcspn(t.at[i], ", \t\n=")];
        st = word ? bnt_buf_printf(&out, r->err, "%s%s", i ? "," : "", t.at[i])
                  : user_bad(r, n, "words without blanks, commas and =");
    }
    if (st == BNT_OK) {
        *(const char **)into = user_keep(r, bnt_buf_view(&out), out.len, &st);
    }
    bnt_buf_release(&out);
    return st;
}

/* Whether a pattern that matches the empty text does so in every text: at its beginning when
 * nothing in it looks at what follows, at its end when nothing looks at what comes before. */
static bool matches_all(const regex_t *regex, const char *pattern)
{
    bool begin = strchr(pattern, '^'), end = strchr(pattern, '$'), words = strchr(pattern, '\\');
    return strcmp(pattern, "^.*$") == 0 ||
           (!(begin && end) && !words && regexec(regex, "", 0, NULL, 0) == 0);
}

enum bnt_status user_read_matches(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const struct user_texts *t = into;
    enum bnt_status st = user_read_patterns(r, n, into);
    for (size_t i = 0; st == BNT_OK && i < t->n; i++) {
        regex_t regex;
        if (bnt_pattern_compile(&regex, t->at[i], NULL) == BNT_OK) {
            st = matches_all(&regex, t->at[i]) ? user_bad(r, n, "matches every answer") : st;
            regfree(&regex);
        }
    }
    return st;
}

enum bnt_status user_read_patterns(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts *t = into;
    enum bnt_status st = user_read_parts(r, n, into);
    for (size_t i = 0; st == BNT_OK && i < t->n; i++) {
        regex_t regex;
        struct bnt_err why = {0};
        if (bnt_pattern_compile(&regex, t->at[i], &why) != BNT_OK) {
            char what[200];
            snprintf(what, sizeof what, "no regular expression: %.150s", why.msg);
            return user_bad(r, n, what);
        }
        regfree(&regex);
    }
    return st;
}

/* ---- numbers ---- */

static enum bnt_status number(struct user_reader *r, const struct yaml_node *n, double *value)
{
    const char *text = "";
    char *end;
    enum bnt_status st = user_read_text(r, n, &text);
    if (st != BNT_OK) {
        return st;
    }
    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*value)
               ? BNT_OK
               : user_bad(r, n, "must be a number");
}

static enum bnt_status whole(struct user_reader *r, const struct yaml_node *n, double most,
                             double *value)
{
    enum bnt_status st = number(r, n, value);
    if (st == BNT_OK && (*value < 0 || floor(*value) != *value)) {
        st = user_bad(r, n, "must be a whole number that is not negative");
    } else if (st == BNT_OK && *value > most) {
        st = user_bad(r, n, "is too large");
    }
    *value = st == BNT_OK ? *value : 0; /* which every integer can hold */
    return st;
}

enum bnt_status user_read_u32(struct user_reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, INT32_MAX, &v);
    *(uint32_t *)into = (uint32_t)v;
    return st;
}

enum bnt_status user_read_i32(struct user_reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, INT32_MAX, &v);
    *(int32_t *)into = (int32_t)v;
    return st;
}

enum bnt_status user_read_seed(struct user_reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, 0x1p53, &v);
    *(uint64_t *)into = (uint64_t)v;
    return st;
}

enum bnt_status user_read_double(struct user_reader *r, const struct yaml_node *n, void *into)
{
    return number(r, n, into);
}

enum bnt_status user_read_flag(struct user_reader *r, const struct yaml_node *n, void *into)
{
    bool yes = n->kind == TREE_TEXT && strcmp(n->text, "true") == 0;
    bool no = n->kind == TREE_TEXT && strcmp(n->text, "false") == 0;
    *(bool *)into = yes;
    return yes || no ? BNT_OK : user_bad(r, n, "must be true or false");
}

enum bnt_status user_read_ids(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_ids *ids = into;
    enum bnt_status st =
        n->kind == TREE_LIST && n->first ? BNT_OK : user_bad(r, n, "must be a list of ids");
    ids->at = user_take(r, user_count(n) * sizeof *ids->at, &st);
    for (const struct yaml_node *i = n->first; st == BNT_OK && i; i = i->next) {
        st = user_read_i32(r, i, &ids->at[ids->n++]);
    }
    return st;
}

enum bnt_status user_read_size(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    uint64_t bytes = 0;
    struct bnt_err why = {0};
    enum bnt_status st = user_read_text(r, n, &text);
    if (st == BNT_OK && bnt_parse_size(text, &bytes, &why) != BNT_OK) {
        st = user_bad(r, n, "must be a size, such as 500MB");
    }
    *(double *)into = (double)bytes;
    return st;
}
