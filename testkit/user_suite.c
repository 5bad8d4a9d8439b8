/* A suite file: YAML tree -> tests. Tables of keys drive the reading, as in the manifest. A test
 * that has parameters or several models is written out once for each of them, texts filled in. */
#include "testkit/user_suite.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/opt.h"
#include "engine/stop.h"
#include "testkit/user_values.h"

#define NAME_BYTES 128
#define DEFAULT_TOKENS 32
#define TIMEOUT_MAX_S 600

/* ---- expectations ---- */

/* Of a figure that lies between `least` and `most` whatever the answer. */
static enum bnt_status check_range(const struct user_reader *r, const struct yaml_node *n,
                                   const struct user_range *g, double least, double most)
{
    if (isnan(g->min) && isnan(g->max)) {
        return user_bad(r, n, "needs min, max or both");
    }
    if (g->min > g->max) {
        return user_bad(r, n, "min is above max");
    }
    return g->min > least || g->max < most ? BNT_OK : user_bad(r, n, "holds for every answer");
}

static enum bnt_status read_within(struct user_reader *r, const struct yaml_node *n, void *into,
                                   user_read_fn *bound, double most)
{
    const struct user_key keys[] = {{"min", bound}, {"max", bound}, {NULL, NULL}};
    struct user_range *g = into;
    *g = NO_RANGE;
    enum bnt_status st = user_read_map(r, n, keys, (void *const[]){&g->min, &g->max});
    return st == BNT_OK ? check_range(r, n, g, 0, most) : st;
}

static enum bnt_status read_range(struct user_reader *r, const struct yaml_node *n, void *into)
{
    return read_within(r, n, into, user_read_double, INFINITY);
}

static enum bnt_status read_share(struct user_reader *r, const struct yaml_node *n, void *into)
{
    return read_within(r, n, into, user_read_double, 1);
}

static enum bnt_status read_byte_range(struct user_reader *r, const struct yaml_node *n, void *into)
{
    return read_within(r, n, into, user_read_size, INFINITY);
}

static enum bnt_status read_begins(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_texts one = {0};
    enum bnt_status st =
        n->kind == TREE_TEXT ? user_read_parts(r, n, &one) : user_bad(r, n, "must be a text");
    *(const char **)into = st == BNT_OK ? one.at[0] : NULL;
    return st;
}

static enum bnt_status read_quality(struct user_reader *r, const struct yaml_node *n, void *into)
{
    enum bnt_status st = user_read_flag(r, n, into);
    return st == BNT_OK && !*(bool *)into ? user_bad(r, n, "false asks for nothing") : st;
}

static enum bnt_status read_repeats(struct user_reader *r, const struct yaml_node *n, void *into)
{
    enum bnt_status st = user_read_u32(r, n, into);
    return st == BNT_OK && *(uint32_t *)into < 2
               ? user_bad(r, n, "must be at least 2: one answer equals itself")
               : st;
}

static enum bnt_status read_shape(struct user_reader *r, const struct yaml_node *n, void *into)
{
    *(const struct yaml_node **)into = n;
    return json_shape_read(n, r->shown, r->err);
}

static enum bnt_status read_finish(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    enum bnt_status st = user_read_text(r, n, &text);
    *(const char **)into = text;
    for (int f = BNT_FINISH_STOP; st == BNT_OK && f <= BNT_FINISH_CONTEXT; f++) {
        if (strcmp(bnt_finish_name((enum bnt_finish)f), text) == 0) {
            return BNT_OK;
        }
    }
    return st == BNT_OK ? user_bad(r, n, "must be stop, length or context") : st;
}

static enum bnt_status read_one_logprob(struct user_reader *r, const struct yaml_node *n,
                                        struct user_logprob *l)
{
    static const struct user_key keys[] = {{"at", user_read_u32},     {"token", user_read_text},
                                           {"id", user_read_i32},     {"min", user_read_double},
                                           {"max", user_read_double}, {NULL, NULL}};
    *l = (struct user_logprob){.id = -1, .range = NO_RANGE};
    enum bnt_status st = user_read_map(
        r, n, keys, (void *const[]){&l->at, &l->token, &l->id, &l->range.min, &l->range.max});
    if (st == BNT_OK && !l->token == (l->id < 0)) {
        st = user_bad(r, n, "needs either token or id");
    }
    return st == BNT_OK ? check_range(r, n, &l->range, -INFINITY, 0) : st;
}

static enum bnt_status read_logprob(struct user_reader *r, const struct yaml_node *n, void *into)
{
    struct user_expect *e = into;
    const struct yaml_node *i = n->kind == TREE_LIST ? n->first : n;
    size_t k = n->kind == TREE_LIST ? user_count(n) : 1;
    enum bnt_status st = k ? BNT_OK : user_bad(r, n, "an empty list asks for nothing");
    e->logprob = user_take(r, k * sizeof *e->logprob, &st);
    for (; st == BNT_OK && e->n_logprob < k; i = i->next) {
        st = read_one_logprob(r, i, &e->logprob[e->n_logprob++]);
    }
    return st;
}

/* A file that a suite names lies beside it. */
static enum bnt_status read_beside(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const char *name = "";
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(16u << 20);
    enum bnt_status st = user_read_text(r, n, &name);
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
        *(const char **)into = user_keep(r, bnt_buf_view(&text), text.len, &st);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status read_perplexity(struct user_reader *r, const struct yaml_node *n, void *into)
{
    static const struct user_key keys[] = {{"text", user_read_text},
                                           {"file", read_beside},
                                           {"min", user_read_double},
                                           {"max", user_read_double},
                                           {NULL, NULL}};
    struct user_perplexity *p = into;
    p->range = NO_RANGE;
    enum bnt_status st = user_read_map(
        r, n, keys, (void *const[]){&p->text, &p->text, &p->range.min, &p->range.max});
    if (st == BNT_OK && !p->text) {
        st = user_bad(r, n, "needs text or file");
    }
    return st == BNT_OK ? check_range(r, n, &p->range, 1, INFINITY) : st;
}

static enum bnt_status read_expect(struct user_reader *r, const struct yaml_node *n, void *into)
{
    static const struct user_key keys[] = {
        {"ids", user_read_ids},
        {"ids_begin", user_read_ids},
        {"text", user_read_text},
        {"begins", read_begins},
        {"contains", user_read_parts},
        {"contains_any", user_read_parts},
        {"not_contains", user_read_parts},
        {"matches", user_read_matches},
        {"not_matches", user_read_patterns},
        {"json", read_shape},
        {"finish", read_finish},
        {"tokens", read_range},
        {"quality", read_quality},
        {"coherence", read_share},
        {"relevance", read_share},
        {"repetition", read_share},
        {"repeats", read_repeats},
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
        return user_bad(r, n, "asks for nothing: a test that cannot fail is none");
    }
    return user_read_map(r, n, keys, into_);
}

/* ---- tests ---- */

static enum bnt_status skip_key(struct user_reader *r, const struct yaml_node *n, void *into)
{
    (void)r;
    (void)n;
    (void)into;
    return BNT_OK;
}

static enum bnt_status read_tier(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    enum bnt_status st = user_read_text(r, n, &text);
    enum bnt_test_tier tier = bnt_test_tier_from_name(text);
    *(enum bnt_test_tier *)into = tier;
    return st == BNT_OK && tier >= BNT_TIERS ? user_bad(r, n, "must be fast, integration or full")
                                             : st;
}

static enum bnt_status read_timeout(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const char *text = "";
    int64_t seconds = 0;
    enum bnt_status st = user_read_text(r, n, &text);
    if (st == BNT_OK && (bnt_parse_duration(text, &seconds, NULL) != BNT_OK || seconds <= 0 ||
                         seconds > TIMEOUT_MAX_S)) {
        return user_bad(r, n, "must be a time from 1s to 10m, such as 30s");
    }
    *(unsigned *)into = (unsigned)seconds * 1000;
    return st;
}

static enum bnt_status read_stop(struct user_reader *r, const struct yaml_node *n, void *into)
{
    const struct user_texts *t = into;
    struct bnt_stop *stop = NULL;
    struct bnt_err why = {0};
    enum bnt_status st = user_read_texts(r, n, into);
    if (st == BNT_OK && bnt_stop_new(t->at, t->n, &stop, &why) != BNT_OK) {
        st = user_bad(r, n, why.msg);
    }
    bnt_stop_free(stop);
    return st;
}

static enum bnt_status read_subjects(struct user_reader *r, const struct yaml_node *n, void *into)
{
    static const char *const kinds[] = {"real", "tiny", "scripted", "http"};
    struct user_texts t = {0};
    enum bnt_status st = user_read_texts(r, n, &t);
    for (size_t i = 0; st == BNT_OK && i < t.n; i++) {
        size_t k = 0;
        while (k < sizeof kinds / sizeof kinds[0] && strcmp(kinds[k], t.at[i]) != 0) {
            k++;
        }
        st = k < sizeof kinds / sizeof kinds[0]
                 ? BNT_OK
                 : user_bad(r, n, "must be real, tiny, scripted or http");
    }
    return st == BNT_OK ? user_read_words(r, n, into) : st;
}

static const struct user_key test_keys[] = {
    {"name", user_read_text},
    {"prompt", user_read_text},
    {"prompt_file", read_beside},
    {"ids", user_read_ids},
    {"max_tokens", user_read_u32},
    {"temperature", user_read_double},
    {"top_k", user_read_i32},
    {"top_p", user_read_double},
    {"min_p", user_read_double},
    {"seed", user_read_seed},
    {"stop", read_stop},
    {"ignore_eos", user_read_flag},
    {"tier", read_tier},
    {"timeout", read_timeout},
    {"tags", user_read_words},
    {"needs", user_read_words},
    {"subjects", read_subjects},
    {"expect", read_expect},
    {"with", skip_key},
    {NULL, NULL},
};

static enum bnt_status read_test_keys(struct user_reader *r, const struct yaml_node *n,
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
    return user_read_map(r, n, test_keys, into);
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

static enum bnt_status check_test(const struct user_reader *r, const struct yaml_node *n,
                                  const struct user_test *t)
{
    bool asks = t->prompt || t->ids.at;
    struct bnt_err why = {0};
    if (!member(n, "expect")) {
        return user_bad(r, n, "a test without `expect` cannot fail");
    }
    if (t->prompt && t->ids.at) {
        return user_bad(r, n, "a test has a prompt or ids, not both");
    }
    if (!t->prompt && (!isnan(t->expect.relevance.min) || !isnan(t->expect.relevance.max))) {
        return user_bad(r, n, "relevance is of an answer to a prompt");
    }
    if (!asks && !t->expect.perplexity.text) {
        return user_bad(r, n, "a test needs a prompt, ids or a perplexity");
    }
    if (bnt_sampler_check(&t->sampling, 1, &why) != BNT_OK) {
        return user_bad(r, n, why.msg);
    }
    for (size_t i = 0; i < r->suite->n; i++) {
        if (strcmp(r->suite->tests[i].name, t->name) == 0) {
            char what[NAME_BYTES + 120];
            snprintf(what, sizeof what,
                     "another test has this name, %s: letters a-z and digits of suite, name, "
                     "parameters and model make it",
                     t->name);
            return user_bad(r, n, what);
        }
    }
    return BNT_OK;
}

/* A model or script that is named by a relative path lies beside the suite; names stay, which never
 * end in .gguf. */
static enum bnt_status beside_suite(struct user_reader *r, const char *spec, const char **out)
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
    *out = user_keep(r, path, strlen(path), &st);
    return st;
}

/* One test with the parameters of r->with and one model. */
static enum bnt_status add_test(struct user_reader *r, const struct yaml_node *n,
                                const struct user_test *defaults, const char *model)
{
    char name[NAME_BYTES] = "";
    struct user_test t = *defaults;
    if (r->suite->n == USER_SUITE_MAX_TESTS) {
        return user_bad(r, n, "a file has at most 2000 tests");
    }
    t.line = n->line;
    enum bnt_status st = model ? beside_suite(r, model, &t.model) : BNT_OK;
    if (st == BNT_OK) {
        st = read_test_keys(r, n, &t);
    }
    if (st == BNT_OK && (!t.name || !t.name[0])) {
        return user_bad(r, n, "a test needs a name");
    }
    add_to_name(name, r->suite->name);
    const size_t of_suite = strlen(name);
    add_to_name(name, st == BNT_OK ? t.name : "");
    if (st == BNT_OK && strlen(name) == of_suite) {
        return user_bad(r, n, "a name needs letters (a-z) or digits");
    }
    for (const struct yaml_node *p = r->with ? r->with->first : NULL; p; p = p->next) {
        add_to_name(name, p->text);
    }
    add_to_name(name, model ? model : "");
    if (st == BNT_OK) {
        t.name = user_keep(r, name, strlen(name), &st);
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
static enum bnt_status add_variants(struct user_reader *r, const struct yaml_node *n,
                                    const struct user_test *defaults,
                                    const struct user_texts *models)
{
    enum bnt_status st = n->kind == TREE_MAP ? BNT_OK : user_bad(r, n, "a test must be a map");
    const struct yaml_node *with = st == BNT_OK ? member(n, "with") : NULL;
    if (with && (with->kind != TREE_LIST || !with->first)) {
        return user_bad(r, with, "must be a list of maps");
    }
    const struct yaml_node *set = with ? with->first : NULL;
    do {
        bool flat = true;
        for (const struct yaml_node *p = set ? set->first : NULL; p; p = p->next) {
            flat = flat && p->kind == TREE_TEXT;
        }
        if (set && (set->kind != TREE_MAP || !flat)) {
            return user_bad(r, set, "parameters are a map of texts");
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

static enum bnt_status read_tests(struct user_reader *r, const struct yaml_node *root,
                                  const struct user_test *defaults, const struct user_texts *models)
{
    const struct yaml_node *tests = member(root, "tests");
    enum bnt_status st = BNT_OK;
    if (!tests || tests->kind != TREE_LIST || !tests->first) {
        return user_bad(r, tests ? tests : root, "a suite needs a list of tests");
    }
    for (const struct yaml_node *n = tests->first; st == BNT_OK && n; n = n->next) {
        st = add_variants(r, n, defaults, models);
    }
    return st;
}

/* What a test may not have from its suite. */
static enum bnt_status read_defaults(struct user_reader *r, const struct yaml_node *n, void *into)
{
    static const char *const own[] = {"name", "expect", "with", "ids", "prompt", "prompt_file"};
    for (size_t i = 0; n->kind == TREE_MAP && i < sizeof own / sizeof own[0]; i++) {
        const struct yaml_node *m = member(n, own[i]);
        if (m) {
            return user_bad(r, m, "belongs to a test, not to the defaults");
        }
    }
    return n->kind == TREE_MAP ? read_test_keys(r, n, into) : user_bad(r, n, "must be a map");
}

static enum bnt_status read_root(struct user_reader *r, const struct yaml_node *root)
{
    static const struct user_key keys[] = {
        {"suite", user_read_text},   {"tier", read_tier},         {"tags", user_read_words},
        {"needs", user_read_words},  {"subjects", read_subjects}, {"models", user_read_texts},
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
    enum bnt_status st = user_read_map(r, root, keys, into);
    if (st == BNT_OK && given) {
        add_to_name(name, given);
        r->suite->name = user_keep(r, name, strlen(name), &st);
    }
    return st == BNT_OK ? read_tests(r, root, &d, &models) : st;
}

/* The file's name without folder and ending. */
static enum bnt_status name_by_file(struct user_reader *r)
{
    enum bnt_status st = BNT_OK;
    char stem[NAME_BYTES] = "", name[NAME_BYTES] = "";
    const char *slash = strrchr(r->suite->path, '/');
    const char *begin = slash ? slash + 1 : r->suite->path;
    const char *end = strstr(begin, USER_SUITE_ENDING);
    snprintf(stem, sizeof stem, "%.*s", (int)(end ? (size_t)(end - begin) : strlen(begin)), begin);
    add_to_name(name, stem);
    r->suite->name = user_keep(r, name, strlen(name), &st);
    return st;
}

enum bnt_status user_suite_read(const char *path, struct user_suite *out, struct bnt_err *err)
{
    struct user_reader r = {.suite = out, .shown = path, .err = err};
    *out = (struct user_suite){0};
    enum bnt_status st = yaml_tree_read(&out->tree, path, path, YAML_TREE_LINES, err);
    if (st == BNT_OK) {
        st = bnt_arena_init(&out->arena, USER_ARENA_BYTES, err);
    }
    out->path = user_keep(&r, path, strlen(path), &st);
    out->tests = user_take(&r, USER_SUITE_MAX_TESTS * sizeof *out->tests, &st);
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
