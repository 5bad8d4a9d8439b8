/* A suite file: YAML tree -> tests. Tables of keys drive the reading, as in the manifest. A test
 * that has parameters or several models is written out once for each of them, texts filled in. */
#include "testkit/user_suite.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/opt.h"

#define ARENA_BYTES ((size_t)64 << 20) /* reserved, not touched, for what parameters multiply */
#define NAME_BYTES 128
#define MAX_KEYS 32
#define DEFAULT_TOKENS 32
#define TIMEOUT_MAX_S 600

struct reader {
    struct user_suite *suite;
    const char *shown;
    const struct yaml_node *with; /* the parameters that texts are filled with; may be NULL */
    struct bnt_err *err;
};

struct key {
    const char *name;
    enum bnt_status (*read)(struct reader *r, const struct yaml_node *n, void *into);
};

/* ---- errors ---- */

static enum bnt_status bad(const struct reader *r, const struct yaml_node *n, const char *what)
{
    bool keyed = n->key != NULL;
    enum bnt_status st = bnt_err_set(
        r->err, BNT_E_FILE, "%s:%u:%u: %s%s%s", r->shown, keyed ? n->key_line : n->line,
        keyed ? n->key_column : n->column, keyed ? n->key : "", keyed ? ": " : "", what);
    bnt_err_hint(r->err, "docs/user-suites.md describes every key");
    return st;
}

static void *take(struct reader *r, size_t n, enum bnt_status *st)
{
    void *p = *st == BNT_OK ? bnt_arena_alloc(&r->suite->arena, n ? n : 1) : NULL;
    if (!p && *st == BNT_OK) {
        *st = bnt_err_set(r->err, BNT_E_FILE, "%s: parameters make more than %zu MiB of tests",
                          r->shown, ARENA_BYTES >> 20);
    }
    return p;
}

static const char *keep(struct reader *r, const char *text, size_t n, enum bnt_status *st)
{
    char *copy = take(r, n + 1, st);
    if (copy) {
        memcpy(copy, text, n);
    }
    return copy ? copy : "";
}

/* ---- maps ---- */

static enum bnt_status unknown_key(const struct reader *r, const struct yaml_node *n,
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
static enum bnt_status read_map(struct reader *r, const struct yaml_node *n, const struct key *keys,
                                void *const *into)
{
    const char *names[MAX_KEYS + 1] = {NULL};
    size_t n_keys = 0;
    for (; n_keys < MAX_KEYS && keys[n_keys].name; n_keys++) {
        names[n_keys] = keys[n_keys].name;
    }
    enum bnt_status st = n->kind == TREE_MAP ? BNT_OK : bad(r, n, "must be a map");
    for (const struct yaml_node *m = n->first; st == BNT_OK && m; m = m->next) {
        size_t i = 0;
        while (i < n_keys && strcmp(keys[i].name, m->key) != 0) {
            i++;
        }
        st = i < n_keys ? keys[i].read(r, m, into[i]) : unknown_key(r, m, names);
    }
    return st;
}

static enum bnt_status skip_key(struct reader *r, const struct yaml_node *n, void *into)
{
    (void)r;
    (void)n;
    (void)into;
    return BNT_OK;
}

/* ---- texts ---- */

static const struct yaml_node *parameter(const struct reader *r, const char *name, size_t len)
{
    const struct yaml_node *p = r->with ? r->with->first : NULL;
    while (p && (strlen(p->key) != len || memcmp(p->key, name, len) != 0)) {
        p = p->next;
    }
    return p;
}

/* "${name}" becomes the parameter of that name; "$$" a "$". */
static enum bnt_status fill_in(struct reader *r, const struct yaml_node *n, const char **into)
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
                       : bad(r, n, "a parameter ${...} that `with` does not have");
            p += name + 3;
        } else {
            st = bnt_buf_putc(&out, '$', r->err);
            p += p[1] == '$' ? 2 : 1;
        }
    }
    if (st == BNT_OK) {
        *into = keep(r, bnt_buf_view(&out), out.len, &st);
    }
    bnt_buf_release(&out);
    return st;
}

static enum bnt_status read_text(struct reader *r, const struct yaml_node *n, void *into)
{
    if (n->kind != TREE_TEXT || yaml_is_null(n)) {
        return bad(r, n, "must be a text");
    }
    return fill_in(r, n, into);
}

static size_t count(const struct yaml_node *n)
{
    size_t k = 0;
    for (const struct yaml_node *i = n->first; i; i = i->next) {
        k++;
    }
    return k;
}

static enum bnt_status read_texts(struct reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts *t = into;
    enum bnt_status st = BNT_OK;
    const struct yaml_node *i = n->kind == TREE_LIST ? n->first : n;
    size_t k = n->kind == TREE_LIST ? count(n) : 1;
    if (k == 0) {
        return bad(r, n, "an empty list asks for nothing");
    }
    t->at = take(r, k * sizeof *t->at, &st);
    for (t->n = 0; st == BNT_OK && t->n < k; t->n++) {
        st = read_text(r, i, &t->at[t->n]);
        i = i->next;
    }
    return st;
}

/* Of words that stand in one comma-separated text afterwards. */
static enum bnt_status read_words(struct reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts t = {0};
    struct bnt_buf out = BNT_BUF(4096);
    enum bnt_status st = read_texts(r, n, &t);
    for (size_t i = 0; st == BNT_OK && i < t.n; i++) {
        bool word = t.at[i][0] && !t.at[i][strcspn(t.at[i], ", \t\n=")];
        st = word ? bnt_buf_printf(&out, r->err, "%s%s", i ? "," : "", t.at[i])
                  : bad(r, n, "words without blanks, commas and =");
    }
    if (st == BNT_OK) {
        *(const char **)into = keep(r, bnt_buf_view(&out), out.len, &st);
    }
    bnt_buf_release(&out);
    return st;
}

static enum bnt_status read_patterns(struct reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts *t = into;
    enum bnt_status st = read_texts(r, n, into);
    for (size_t i = 0; st == BNT_OK && i < t->n; i++) {
        regex_t regex;
        int rc = regcomp(&regex, t->at[i], REG_EXTENDED | REG_NOSUB);
        if (rc != 0) {
            char why[120], what[200];
            regerror(rc, &regex, why, sizeof why);
            snprintf(what, sizeof what, "no regular expression: %s", why);
            return bad(r, n, what);
        }
        regfree(&regex);
    }
    return st;
}

/* ---- numbers ---- */

static enum bnt_status number(struct reader *r, const struct yaml_node *n, double *value)
{
    const char *text = "";
    char *end;
    enum bnt_status st = read_text(r, n, &text);
    if (st != BNT_OK) {
        return st;
    }
    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*value)
               ? BNT_OK
               : bad(r, n, "must be a number");
}

static enum bnt_status whole(struct reader *r, const struct yaml_node *n, double most,
                             double *value)
{
    enum bnt_status st = number(r, n, value);
    if (st == BNT_OK && (*value < 0 || floor(*value) != *value)) {
        st = bad(r, n, "must be a whole number that is not negative");
    } else if (st == BNT_OK && *value > most) {
        st = bad(r, n, "is too large");
    }
    *value = st == BNT_OK ? *value : 0; /* which every integer can hold */
    return st;
}

static enum bnt_status read_u32(struct reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, INT32_MAX, &v);
    *(uint32_t *)into = (uint32_t)v;
    return st;
}

static enum bnt_status read_i32(struct reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, INT32_MAX, &v);
    *(int32_t *)into = (int32_t)v;
    return st;
}

static enum bnt_status read_seed(struct reader *r, const struct yaml_node *n, void *into)
{
    double v = 0;
    enum bnt_status st = whole(r, n, 0x1p53, &v);
    *(uint64_t *)into = (uint64_t)v;
    return st;
}

static enum bnt_status read_double(struct reader *r, const struct yaml_node *n, void *into)
{
    return number(r, n, into);
}

static enum bnt_status read_flag(struct reader *r, const struct yaml_node *n, void *into)
{
    bool yes = n->kind == TREE_TEXT && strcmp(n->text, "true") == 0;
    bool no = n->kind == TREE_TEXT && strcmp(n->text, "false") == 0;
    *(bool *)into = yes;
    return yes || no ? BNT_OK : bad(r, n, "must be true or false");
}

static enum bnt_status read_ids(struct reader *r, const struct yaml_node *n, void *into)
{
    struct user_ids *ids = into;
    enum bnt_status st =
        n->kind == TREE_LIST && n->first ? BNT_OK : bad(r, n, "must be a list of ids");
    ids->at = take(r, count(n) * sizeof *ids->at, &st);
    for (const struct yaml_node *i = n->first; st == BNT_OK && i; i = i->next) {
        st = read_i32(r, i, &ids->at[ids->n++]);
    }
    return st;
}

static enum bnt_status read_bytes(struct reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    uint64_t bytes = 0;
    struct bnt_err why = {0};
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && bnt_parse_size(text, &bytes, &why) != BNT_OK) {
        st = bad(r, n, "must be a size, such as 500MB");
    }
    *(double *)into = (double)bytes;
    return st;
}

static enum bnt_status check_range(const struct reader *r, const struct yaml_node *n,
                                   const struct user_range *g)
{
    if (isnan(g->min) && isnan(g->max)) {
        return bad(r, n, "needs min, max or both");
    }
    return g->min > g->max ? bad(r, n, "min is above max") : BNT_OK;
}

static enum bnt_status read_range(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {{"min", read_double}, {"max", read_double}, {NULL, NULL}};
    struct user_range *g = into;
    *g = NO_RANGE;
    enum bnt_status st = read_map(r, n, keys, (void *const[]){&g->min, &g->max});
    return st == BNT_OK ? check_range(r, n, g) : st;
}

static enum bnt_status read_byte_range(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {{"min", read_bytes}, {"max", read_bytes}, {NULL, NULL}};
    struct user_range *g = into;
    *g = NO_RANGE;
    enum bnt_status st = read_map(r, n, keys, (void *const[]){&g->min, &g->max});
    return st == BNT_OK ? check_range(r, n, g) : st;
}

/* ---- expectations ---- */

static enum bnt_status read_shape(struct reader *r, const struct yaml_node *n, void *into)
{
    *(const struct yaml_node **)into = n;
    return json_shape_read(n, r->shown, r->err);
}

static enum bnt_status read_finish(struct reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    enum bnt_status st = read_text(r, n, &text);
    *(const char **)into = text;
    for (int f = BNT_FINISH_STOP; st == BNT_OK && f <= BNT_FINISH_CONTEXT; f++) {
        if (strcmp(bnt_finish_name((enum bnt_finish)f), text) == 0) {
            return BNT_OK;
        }
    }
    return st == BNT_OK ? bad(r, n, "must be stop, length or context") : st;
}

static enum bnt_status read_one_logprob(struct reader *r, const struct yaml_node *n,
                                        struct user_logprob *l)
{
    static const struct key keys[] = {{"at", read_u32},     {"token", read_text}, {"id", read_i32},
                                      {"min", read_double}, {"max", read_double}, {NULL, NULL}};
    *l = (struct user_logprob){.id = -1, .range = NO_RANGE};
    enum bnt_status st = read_map(
        r, n, keys, (void *const[]){&l->at, &l->token, &l->id, &l->range.min, &l->range.max});
    if (st == BNT_OK && !l->token == (l->id < 0)) {
        st = bad(r, n, "needs either token or id");
    }
    return st == BNT_OK ? check_range(r, n, &l->range) : st;
}

static enum bnt_status read_logprob(struct reader *r, const struct yaml_node *n, void *into)
{
    struct user_expect *e = into;
    enum bnt_status st = BNT_OK;
    const struct yaml_node *i = n->kind == TREE_LIST ? n->first : n;
    size_t k = n->kind == TREE_LIST ? count(n) : 1;
    e->logprob = take(r, k * sizeof *e->logprob, &st);
    for (; st == BNT_OK && e->n_logprob < k; i = i->next) {
        st = read_one_logprob(r, i, &e->logprob[e->n_logprob++]);
    }
    return st;
}

/* A file that a suite names lies beside it. */
static enum bnt_status read_beside(struct reader *r, const struct yaml_node *n, void *into)
{
    const char *name = "";
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(16u << 20);
    enum bnt_status st = read_text(r, n, &name);
    const char *slash = strrchr(r->suite->path, '/');
    if (st == BNT_OK) {
        st = bnt_path_format(path, r->err, "%.*s%s",
                             name[0] == '/' || !slash ? 0 : (int)(slash - r->suite->path + 1),
                             r->suite->path, name);
    }
    if (st == BNT_OK) {
        st = bnt_file_read(path, &text, r->err);
        if (st != BNT_OK) {
            bnt_err_context(r->err, "%s:%u:%u", r->shown, n->line, n->column);
        }
    }
    if (st == BNT_OK) {
        *(const char **)into = keep(r, bnt_buf_view(&text), text.len, &st);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status read_perplexity(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {{"text", read_text},
                                      {"file", read_beside},
                                      {"min", read_double},
                                      {"max", read_double},
                                      {NULL, NULL}};
    struct user_perplexity *p = into;
    p->range = NO_RANGE;
    enum bnt_status st =
        read_map(r, n, keys, (void *const[]){&p->text, &p->text, &p->range.min, &p->range.max});
    if (st == BNT_OK && !p->text) {
        st = bad(r, n, "needs text or file");
    }
    return st == BNT_OK ? check_range(r, n, &p->range) : st;
}

static enum bnt_status read_expect(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {
        {"ids", read_ids},
        {"ids_begin", read_ids},
        {"text", read_text},
        {"begins", read_text},
        {"contains", read_texts},
        {"contains_any", read_texts},
        {"not_contains", read_texts},
        {"matches", read_patterns},
        {"not_matches", read_patterns},
        {"json", read_shape},
        {"finish", read_finish},
        {"tokens", read_range},
        {"quality", read_flag},
        {"coherence", read_range},
        {"relevance", read_range},
        {"repetition", read_range},
        {"repeats", read_u32},
        {"logprob", read_logprob},
        {"perplexity", read_perplexity},
        {"tokens_per_second", read_range},
        {"first_token_ms", read_range},
        {"memory", read_byte_range},
        {NULL, NULL},
    };
    struct user_expect *e = into;
    void *const into_[] = {&e->ids,
                           &e->ids_begin,
                           &e->text,
                           &e->begins,
                           &e->contains,
                           &e->contains_any,
                           &e->not_contains,
                           &e->matches,
                           &e->not_matches,
                           &e->json,
                           &e->finish,
                           &e->tokens,
                           &e->quality,
                           &e->coherence,
                           &e->relevance,
                           &e->repetition,
                           &e->repeats,
                           e,
                           &e->perplexity,
                           &e->tokens_per_second,
                           &e->first_token_ms,
                           &e->memory_bytes};
    if (n->kind == TREE_MAP && !n->first) {
        return bad(r, n, "asks for nothing: a test that cannot fail is none");
    }
    return read_map(r, n, keys, into_);
}

/* ---- tests ---- */

static enum bnt_status read_tier(struct reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    enum bnt_status st = read_text(r, n, &text);
    enum bnt_test_tier tier = bnt_test_tier_from_name(text);
    *(enum bnt_test_tier *)into = tier;
    return st == BNT_OK && tier >= BNT_TIERS ? bad(r, n, "must be fast, integration or full") : st;
}

static enum bnt_status read_timeout(struct reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    int64_t seconds = 0;
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK &&
        (bnt_parse_duration(text, &seconds, NULL) != BNT_OK || seconds > TIMEOUT_MAX_S)) {
        return bad(r, n, "must be a time of at most 10m, such as 30s");
    }
    *(unsigned *)into = (unsigned)seconds * 1000;
    return st;
}

static enum bnt_status read_subjects(struct reader *r, const struct yaml_node *n, void *into)
{
    static const char *const kinds[] = {"real", "tiny", "scripted", "http"};
    struct user_texts t = {0};
    enum bnt_status st = read_texts(r, n, &t);
    for (size_t i = 0; st == BNT_OK && i < t.n; i++) {
        size_t k = 0;
        while (k < sizeof kinds / sizeof kinds[0] && strcmp(kinds[k], t.at[i]) != 0) {
            k++;
        }
        st = k < sizeof kinds / sizeof kinds[0] ? BNT_OK
                                                : bad(r, n, "must be real, tiny, scripted or http");
    }
    return st == BNT_OK ? read_words(r, n, into) : st;
}

static const struct key test_keys[] = {
    {"name", read_text},          {"prompt", read_text},
    {"prompt_file", read_beside}, {"ids", read_ids},
    {"max_tokens", read_u32},     {"temperature", read_double},
    {"top_k", read_i32},          {"top_p", read_double},
    {"min_p", read_double},       {"seed", read_seed},
    {"stop", read_texts},         {"ignore_eos", read_flag},
    {"tier", read_tier},          {"timeout", read_timeout},
    {"tags", read_words},         {"needs", read_words},
    {"subjects", read_subjects},  {"expect", read_expect},
    {"with", skip_key},           {NULL, NULL},
};

static enum bnt_status read_test_keys(struct reader *r, const struct yaml_node *n,
                                      struct user_test *t)
{
    void *const into[] = {&t->name,
                          &t->prompt,
                          &t->prompt,
                          &t->ids,
                          &t->max_tokens,
                          &t->sampling.temperature,
                          &t->sampling.top_k,
                          &t->sampling.top_p,
                          &t->sampling.min_p,
                          &t->sampling.seed,
                          &t->stop,
                          &t->ignore_eos,
                          &t->tier,
                          &t->timeout_ms,
                          &t->tags,
                          &t->needs,
                          &t->subjects,
                          &t->expect,
                          NULL};
    return read_map(r, n, test_keys, into);
}

static const struct yaml_node *member(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *m = map->first;
    while (m && strcmp(m->key, key) != 0) {
        m = m->next;
    }
    return m;
}

/* Append a text as a part of a name: lower case, runs of anything else as one '_'. */
static void add_to_name(char name[NAME_BYTES], const char *text)
{
    size_t n = strlen(name);
    bool gap = n > 0;
    for (; *text && n + 2 < NAME_BYTES; text++) {
        if (!isascii((unsigned char)*text) || !isalnum((unsigned char)*text)) {
            gap = n > 0;
            continue;
        }
        if (gap) {
            name[n++] = '_';
        }
        gap = false;
        name[n++] = (char)tolower((unsigned char)*text);
    }
    name[n] = '\0';
}

static enum bnt_status check_test(const struct reader *r, const struct yaml_node *n,
                                  const struct user_test *t)
{
    bool asks = t->prompt || t->ids.at;
    if (!member(n, "expect")) {
        return bad(r, n, "a test without `expect` cannot fail");
    }
    if (t->prompt && t->ids.at) {
        return bad(r, n, "a test has a prompt or ids, not both");
    }
    if (!t->prompt && (!isnan(t->expect.relevance.min) || !isnan(t->expect.relevance.max))) {
        return bad(r, n, "relevance is of an answer to a prompt");
    }
    if (!asks && !t->expect.perplexity.text) {
        return bad(r, n, "a test needs a prompt, ids or a perplexity");
    }
    for (size_t i = 0; i < r->suite->n; i++) {
        if (strcmp(r->suite->tests[i].name, t->name) == 0) {
            return bad(r, n, "another test has this name");
        }
    }
    return BNT_OK;
}

/* A model or script that is named by a relative path lies beside the suite; names stay, which never
 * end in .gguf. */
static enum bnt_status beside_suite(struct reader *r, const char *spec, const char **out)
{
    static const char scripted[] = "scripted:";
    size_t prefix = strncmp(spec, scripted, sizeof scripted - 1) == 0 ? sizeof scripted - 1 : 0;
    const char *slash = strrchr(r->suite->path, '/');
    const size_t len = strlen(spec);
    bool is_path = prefix > 0 || (!strstr(spec, "://") && strchr(spec, '/')) ||
                   (len > 5 && strcasecmp(spec + len - 5, ".gguf") == 0);
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(
        path, r->err, "%.*s%.*s%s", (int)prefix, spec,
        is_path && spec[prefix] != '/' && slash ? (int)(slash - r->suite->path + 1) : 0,
        r->suite->path, spec + prefix);
    *out = keep(r, path, strlen(path), &st);
    return st;
}

/* One test with the parameters of r->with and one model. */
static enum bnt_status add_test(struct reader *r, const struct yaml_node *n,
                                const struct user_test *defaults, const char *model)
{
    char name[NAME_BYTES] = "";
    struct user_test t = *defaults;
    if (r->suite->n == USER_SUITE_MAX_TESTS) {
        return bad(r, n, "a file has at most 2000 tests");
    }
    t.line = n->line;
    enum bnt_status st = model ? beside_suite(r, model, &t.model) : BNT_OK;
    if (st == BNT_OK) {
        st = read_test_keys(r, n, &t);
    }
    if (st == BNT_OK && (!t.name || !t.name[0])) {
        return bad(r, n, "a test needs a name");
    }
    add_to_name(name, r->suite->name);
    add_to_name(name, st == BNT_OK ? t.name : "");
    for (const struct yaml_node *p = r->with ? r->with->first : NULL; p; p = p->next) {
        add_to_name(name, p->text);
    }
    add_to_name(name, model ? model : "");
    if (st == BNT_OK) {
        t.name = keep(r, name, strlen(name), &st);
    }
    if (st == BNT_OK) {
        st = check_test(r, n, &t);
    }
    if (st == BNT_OK) {
        r->suite->tests[r->suite->n++] = t;
    }
    return st;
}

/* A test once per set of parameters and per model. */
static enum bnt_status add_variants(struct reader *r, const struct yaml_node *n,
                                    const struct user_test *defaults,
                                    const struct user_texts *models)
{
    enum bnt_status st = n->kind == TREE_MAP ? BNT_OK : bad(r, n, "a test must be a map");
    const struct yaml_node *with = st == BNT_OK ? member(n, "with") : NULL;
    if (with && (with->kind != TREE_LIST || !with->first)) {
        return bad(r, with, "must be a list of maps");
    }
    const struct yaml_node *set = with ? with->first : NULL;
    do {
        bool flat = true;
        for (const struct yaml_node *p = set ? set->first : NULL; p; p = p->next) {
            flat = flat && p->kind == TREE_TEXT;
        }
        if (set && (set->kind != TREE_MAP || !flat)) {
            return bad(r, set, "parameters are a map of texts");
        }
        r->with = set;
        for (size_t i = 0; st == BNT_OK && i < (models->n ? models->n : 1); i++) {
            st = add_test(r, n, defaults, models->n ? models->at[i] : NULL);
        }
        set = set ? set->next : NULL;
    } while (st == BNT_OK && set);
    r->with = NULL;
    return st;
}

/* ---- the file ---- */

static enum bnt_status read_tests(struct reader *r, const struct yaml_node *root,
                                  const struct user_test *defaults, const struct user_texts *models)
{
    const struct yaml_node *tests = member(root, "tests");
    enum bnt_status st = BNT_OK;
    if (!tests || tests->kind != TREE_LIST || !tests->first) {
        return bad(r, tests ? tests : root, "a suite needs a list of tests");
    }
    for (const struct yaml_node *n = tests->first; st == BNT_OK && n; n = n->next) {
        st = add_variants(r, n, defaults, models);
    }
    return st;
}

/* What a test may not have from its suite. */
static enum bnt_status read_defaults(struct reader *r, const struct yaml_node *n, void *into)
{
    static const char *const own[] = {"name", "expect", "with", "ids", "prompt", "prompt_file"};
    for (size_t i = 0; n->kind == TREE_MAP && i < sizeof own / sizeof own[0]; i++) {
        const struct yaml_node *m = member(n, own[i]);
        if (m) {
            return bad(r, m, "belongs to a test, not to the defaults");
        }
    }
    return n->kind == TREE_MAP ? read_test_keys(r, n, into) : bad(r, n, "must be a map");
}

static enum bnt_status read_root(struct reader *r, const struct yaml_node *root)
{
    static const struct key keys[] = {
        {"suite", read_text},        {"tier", read_tier},         {"tags", read_words},
        {"needs", read_words},       {"subjects", read_subjects}, {"models", read_texts},
        {"defaults", read_defaults}, {"tests", skip_key},         {NULL, NULL}};
    struct user_test d = {.tags = "",
                          .needs = "",
                          .subjects = "",
                          .max_tokens = DEFAULT_TOKENS,
                          .sampling = bnt_sampler_defaults(),
                          .expect = user_expect_nothing};
    struct user_texts models = {0};
    const char *given = NULL;
    char name[NAME_BYTES] = "";
    void *const into[] = {&given, &d.tier, &d.tags, &d.needs, &d.subjects, &models, &d, NULL};
    enum bnt_status st = read_map(r, root, keys, into);
    if (st == BNT_OK && given) {
        add_to_name(name, given);
        r->suite->name = keep(r, name, strlen(name), &st);
    }
    return st == BNT_OK ? read_tests(r, root, &d, &models) : st;
}

/* The file's name without folder and ending. */
static enum bnt_status name_by_file(struct reader *r)
{
    enum bnt_status st = BNT_OK;
    char stem[NAME_BYTES] = "", name[NAME_BYTES] = "";
    const char *slash = strrchr(r->suite->path, '/');
    const char *begin = slash ? slash + 1 : r->suite->path;
    const char *end = strstr(begin, USER_SUITE_ENDING);
    snprintf(stem, sizeof stem, "%.*s", (int)(end ? (size_t)(end - begin) : strlen(begin)), begin);
    add_to_name(name, stem);
    r->suite->name = keep(r, name, strlen(name), &st);
    return st;
}

enum bnt_status user_suite_read(const char *path, struct user_suite *out, struct bnt_err *err)
{
    struct reader r = {.suite = out, .shown = path, .err = err};
    *out = (struct user_suite){0};
    enum bnt_status st = yaml_tree_read(&out->tree, path, path, err);
    if (st == BNT_OK) {
        st = bnt_arena_init(&out->arena, ARENA_BYTES, err);
    }
    out->path = keep(&r, path, strlen(path), &st);
    out->tests = take(&r, USER_SUITE_MAX_TESTS * sizeof *out->tests, &st);
    if (st == BNT_OK) {
        st = name_by_file(&r);
    }
    if (st == BNT_OK) {
        st = out->tree.root ? read_root(&r, out->tree.root)
                            : bnt_err_set(err, BNT_E_FILE, "%s: the file is empty", path);
    }
    if (st != BNT_OK) {
        user_suite_release(out);
    }
    return st;
}

void user_suite_release(struct user_suite *s)
{
    bnt_arena_release(&s->arena);
    yaml_tree_release(&s->tree);
    *s = (struct user_suite){0};
}
