/* A script as libyaml's tree, walked by two tables of keys: those of a route and those of a step.
 * All texts belong to the list of what was allocated. */
#include "mock/server_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/opt.h"

enum { MAX_ROUTES = 4096, MAX_STEPS = 65536 };

struct server_script {
    struct bnt_mock_route *routes;
    void **owned;
    size_t n_owned, cap_owned;
};

/* One reading. */
struct reading {
    struct server_script *s;
    const char *path;
    yaml_document_t *doc;
    struct bnt_err *err;
};

static enum bnt_status wrong(const struct reading *r, const yaml_node_t *at, const char *what,
                             const char *name)
{
    bnt_err_hint(r->err, "docs/mock.md describes the script");
    return bnt_err_set(r->err, BNT_E_FILE, "%s:%zu: %s%s%s", r->path,
                       at ? at->start_mark.line + 1 : 1, name, name[0] ? " " : "", what);
}

/* Keep p until the script is closed; NULL when there is no memory, and p is freed. */
static void *own(struct server_script *s, void *p)
{
    if (p && s->n_owned == s->cap_owned) {
        size_t cap = s->cap_owned ? 2 * s->cap_owned : 64;
        void **grown = realloc(s->owned, cap * sizeof *grown);
        if (!grown) {
            free(p);
            return NULL;
        }
        s->owned = grown;
        s->cap_owned = cap;
    }
    if (p) {
        s->owned[s->n_owned++] = p;
    }
    return p;
}

static enum bnt_status no_memory(const struct reading *r)
{
    return bnt_err_nomem(r->err, "a script", 0);
}

/* ---- values ---- */

static const char *text_of(const yaml_node_t *n)
{
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static enum bnt_status take_text(const struct reading *r, const yaml_node_t *n, const char **out)
{
    const char *text = text_of(n);
    if (!text) {
        return wrong(r, n, "a text is expected here", "");
    }
    *out = own(r->s, strdup(text));
    return *out ? BNT_OK : no_memory(r);
}

static enum bnt_status take_number(const struct reading *r, const yaml_node_t *n, int64_t min,
                                   int64_t max, int64_t *out)
{
    const char *text = text_of(n);
    char *end = NULL;
    long long v = text ? strtoll(text, &end, 10) : 0;
    if (!text || !text[0] || *end || v < min || v > max) {
        return wrong(r, n, "is no whole number that makes sense here", text ? text : "this");
    }
    *out = v;
    return BNT_OK;
}

static enum bnt_status take_size(const struct reading *r, const yaml_node_t *n, uint64_t *out)
{
    const char *text = text_of(n);
    return text && bnt_parse_size(text, out, NULL) == BNT_OK
               ? BNT_OK
               : wrong(r, n, "is no number of bytes", text ? text : "this");
}

static enum bnt_status take_bool(const struct reading *r, const yaml_node_t *n, bool *out)
{
    const char *text = text_of(n);
    *out = text && strcmp(text, "true") == 0;
    return *out || (text && strcmp(text, "false") == 0)
               ? BNT_OK
               : wrong(r, n, "is neither true nor false", text ? text : "this");
}

static enum bnt_status take_fault(const struct reading *r, const yaml_node_t *n,
                                  enum bnt_mock_fault *out)
{
    const char *text = text_of(n);
    for (int f = BNT_MOCK_NO_FAULT; text && f <= BNT_MOCK_LORIS; f++) {
        if (strcmp(bnt_mock_fault_name((enum bnt_mock_fault)f), text) == 0) {
            *out = (enum bnt_mock_fault)f;
            return BNT_OK;
        }
    }
    return wrong(r, n, "is none of close, reset, stall, flip, trickle, loris",
                 text ? text : "this");
}

/* A map of names and values as header lines. */
static enum bnt_status take_headers(const struct reading *r, const yaml_node_t *n, const char **out)
{
    struct bnt_buf lines = BNT_BUF(65536);
    if (n->type != YAML_MAPPING_NODE) {
        return wrong(r, n, "headers are a map of names and values", "");
    }
    enum bnt_status st = BNT_OK;
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start;
         st == BNT_OK && p < n->data.mapping.pairs.top; p++) {
        const char *name = text_of(yaml_document_get_node(r->doc, p->key));
        const char *value = text_of(yaml_document_get_node(r->doc, p->value));
        if (!name || !value || strpbrk(name, "\r\n:") || strpbrk(value, "\r\n")) {
            st = wrong(r, n, "is no header with one line of text", name ? name : "this");
        } else {
            st = bnt_buf_printf(&lines, r->err, "%s: %s\r\n", name, value);
        }
    }
    *out = st == BNT_OK ? own(r->s, strdup(bnt_buf_view(&lines))) : NULL;
    bnt_buf_release(&lines);
    return st != BNT_OK || *out ? st : no_memory(r);
}

static enum bnt_status take_body(const struct reading *r, const yaml_node_t *n, const void **body,
                                 size_t *bytes)
{
    const char *text = text_of(n);
    size_t len = text ? n->data.scalar.length : 0;
    char *copy = text ? own(r->s, malloc(len + 1)) : NULL;
    if (!copy) {
        return text ? no_memory(r) : wrong(r, n, "a body is a text", "");
    }
    memcpy(copy, text, len);
    *body = copy;
    *bytes = len;
    return BNT_OK;
}

static enum bnt_status take_file(const struct reading *r, const yaml_node_t *n, const void **body,
                                 size_t *bytes)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf content = BNT_BUF(SERVER_SCRIPT_MAX_FILE);
    const char *name = text_of(n), *slash = strrchr(r->path, '/');
    if (!name) {
        return wrong(r, n, "a file is a path", "");
    }
    int folder = slash && name[0] != '/' ? (int)(slash - r->path) + 1 : 0;
    enum bnt_status st = bnt_path_format(path, r->err, "%.*s%s", folder, r->path, name);
    if (st == BNT_OK) {
        st = bnt_file_read(path, &content, r->err);
    }
    if (st != BNT_OK) {
        bnt_buf_release(&content);
        return bnt_err_context(r->err, "%s:%zu", r->path, n->start_mark.line + 1);
    }
    *bytes = content.len;
    *body = own(r->s, bnt_buf_take(&content));
    return *body ? BNT_OK : no_memory(r);
}

/* ---- steps and routes ---- */

/* What a key may be part of. */
enum { OF_ROUTE = 1, OF_STEP = 2 };

/* Both kinds of maps fill a route; a step takes from it what concerns it. */
struct target {
    struct bnt_mock_route route;
    struct bnt_mock_step step;
    const yaml_node_t *steps;
};

typedef enum bnt_status key_fn(const struct reading *r, const yaml_node_t *n, struct target *t);

static enum bnt_status key_path(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    enum bnt_status st = take_text(r, n, &t->route.path);
    if (st == BNT_OK && t->route.path[0] != '/') {
        return wrong(r, n, "does not begin with /", text_of(n));
    }
    return st != BNT_OK || !strpbrk(t->route.path, " \t\r\n")
               ? st
               : wrong(r, n, "has a blank, which no request line has in a path", text_of(n));
}

static enum bnt_status key_status(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    int64_t v = 0;
    enum bnt_status st = take_number(r, n, 100, 599, &v);
    t->step.status = (int)v;
    return st;
}

static enum bnt_status key_headers(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    return take_headers(r, n, &t->step.headers);
}

static enum bnt_status key_body(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    return take_body(r, n, &t->step.body, &t->step.body_bytes);
}

static enum bnt_status key_file(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    return take_file(r, n, &t->step.body, &t->step.body_bytes);
}

static enum bnt_status key_fault(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    return take_fault(r, n, &t->step.fault);
}

static enum bnt_status key_at(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    uint64_t v = 0;
    enum bnt_status st = take_size(r, n, &v);
    t->step.fault_at = (size_t)v;
    return st;
}

static enum bnt_status key_etag(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    enum bnt_status st = take_text(r, n, &t->step.etag);
    size_t len = st == BNT_OK ? strlen(t->step.etag) : 0;
    bool quoted = len >= 2 && t->step.etag[0] == '"' && t->step.etag[len - 1] == '"';
    return st != BNT_OK || quoted ? st
                                  : wrong(r, n, "is no etag: it has quotes, '\"v1\"'", text_of(n));
}

static enum bnt_status key_rate(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    return take_size(r, n, &t->route.rate_bytes_s);
}

static enum bnt_status key_steps(const struct reading *r, const yaml_node_t *n, struct target *t)
{
    t->steps = n;
    return n->type == YAML_SEQUENCE_NODE ? BNT_OK : wrong(r, n, "steps are a list", "");
}

static enum bnt_status key_ignore_range(const struct reading *r, const yaml_node_t *n,
                                        struct target *t)
{
    return take_bool(r, n, &t->step.ignore_range);
}

static enum bnt_status key_content_range(const struct reading *r, const yaml_node_t *n,
                                         struct target *t)
{
    enum bnt_status st = take_text(r, n, &t->step.content_range);
    return st != BNT_OK || !strpbrk(t->step.content_range, "\r\n")
               ? st
               : wrong(r, n, "is no header with one line of text", text_of(n));
}

static enum bnt_status key_length_delta(const struct reading *r, const yaml_node_t *n,
                                        struct target *t)
{
    return take_number(r, n, -(1ll << 40), 1ll << 40, &t->step.length_delta);
}

static const struct key {
    const char *name;
    int of;
    key_fn *take;
} keys[] = {
    {"path", OF_ROUTE, key_path},
    {"rate", OF_ROUTE, key_rate},
    {"steps", OF_ROUTE, key_steps},
    {"status", OF_ROUTE | OF_STEP, key_status},
    {"headers", OF_ROUTE | OF_STEP, key_headers},
    {"body", OF_ROUTE | OF_STEP, key_body},
    {"file", OF_ROUTE | OF_STEP, key_file},
    {"etag", OF_ROUTE | OF_STEP, key_etag},
    {"fault", OF_ROUTE | OF_STEP, key_fault},
    {"at", OF_ROUTE | OF_STEP, key_at},
    {"ignore-range", OF_STEP, key_ignore_range},
    {"content-range", OF_STEP, key_content_range},
    {"length-delta", OF_STEP, key_length_delta},
};

static const struct key *find_key(const char *name, int of)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if ((keys[i].of & of) && strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static enum bnt_status take_map(const struct reading *r, const yaml_node_t *n, int of,
                                struct target *t)
{
    if (!n || n->type != YAML_MAPPING_NODE) {
        return wrong(r, n, of == OF_STEP ? "a step is a map" : "a route is a map", "");
    }
    enum bnt_status st = BNT_OK;
    unsigned seen = 0; /* a bit for each of keys */
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start;
         st == BNT_OK && p < n->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(r->doc, p->key);
        const char *text = text_of(name);
        const struct key *key = text ? find_key(text, of) : NULL;
        if (!key) {
            return wrong(r, name, "is not known here", text ? text : "this");
        }
        if (seen & 1u << (key - keys)) {
            return wrong(r, name, "is there twice", text);
        }
        seen |= 1u << (key - keys);
        st = key->take(r, yaml_document_get_node(r->doc, p->value), t);
    }
    if (st == BNT_OK && t->step.fault_at > 0 && t->step.fault == BNT_MOCK_NO_FAULT) {
        return wrong(r, n, "at says where a fault begins, and none is named beside it", "");
    }
    return st;
}

static enum bnt_status take_steps(const struct reading *r, struct target *t)
{
    size_t n = (size_t)(t->steps->data.sequence.items.top - t->steps->data.sequence.items.start);
    if (n == 0 || n > MAX_STEPS) {
        return wrong(r, t->steps, "a list of steps has from 1 to 65536", "");
    }
    struct bnt_mock_step *steps = own(r->s, calloc(n + 1, sizeof *steps));
    enum bnt_status st = steps ? BNT_OK : no_memory(r);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        struct target step = {.step = {.status = 200}};
        st = take_map(r, yaml_document_get_node(r->doc, t->steps->data.sequence.items.start[i]),
                      OF_STEP, &step);
        steps[i] = step.step;
    }
    t->route.steps = steps;
    return st;
}

static enum bnt_status take_route(const struct reading *r, const yaml_node_t *n,
                                  struct bnt_mock_route *out)
{
    struct target t = {.step = {.status = 200}};
    enum bnt_status st = take_map(r, n, OF_ROUTE, &t);
    if (st == BNT_OK && !t.route.path) {
        st = wrong(r, n, "a route without a path", "");
    }
    if (st == BNT_OK && t.steps) {
        st = take_steps(r, &t);
    }
    *out = t.route;
    out->status = t.step.status;
    out->headers = t.step.headers;
    out->body = t.step.body;
    out->body_bytes = t.step.body_bytes;
    out->fault = t.step.fault;
    out->fault_at = t.step.fault_at;
    out->etag = t.step.etag;
    return st;
}

/* The list below the only key of the document. */
static const yaml_node_t *routes_of(const struct reading *r)
{
    const yaml_node_t *root = yaml_document_get_root_node(r->doc);
    if (!root || root->type != YAML_MAPPING_NODE ||
        root->data.mapping.pairs.top - root->data.mapping.pairs.start != 1) {
        return NULL;
    }
    const char *name = text_of(yaml_document_get_node(r->doc, root->data.mapping.pairs.start->key));
    const yaml_node_t *list = yaml_document_get_node(r->doc, root->data.mapping.pairs.start->value);
    bool is = name && strcmp(name, "routes") == 0 && list && list->type == YAML_SEQUENCE_NODE;
    return is ? list : NULL;
}

static const yaml_node_t *item_of(const struct reading *r, const yaml_node_t *list, size_t i)
{
    return yaml_document_get_node(r->doc, list->data.sequence.items.start[i]);
}

/* Of two routes with one path only the first would ever answer. */
static enum bnt_status check_path(const struct reading *r, const yaml_node_t *list, size_t i)
{
    const struct bnt_mock_route *routes = r->s->routes;
    char what[64];
    for (size_t k = 0; k < i; k++) {
        if (strcmp(routes[k].path, routes[i].path) == 0) {
            snprintf(what, sizeof what, "has a route already, in line %zu",
                     item_of(r, list, k)->start_mark.line + 1);
            return wrong(r, item_of(r, list, i), what, routes[i].path);
        }
    }
    return BNT_OK;
}

static enum bnt_status take_document(const struct reading *r)
{
    const yaml_node_t *list = routes_of(r);
    if (!list) {
        return wrong(r, NULL, "a script is one key, routes, with a list", "");
    }
    size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    if (n == 0 || n > MAX_ROUTES) {
        return wrong(r, list, "a list of routes has from 1 to 4096", "");
    }
    r->s->routes = own(r->s, calloc(n + 1, sizeof *r->s->routes));
    enum bnt_status st = r->s->routes ? BNT_OK : no_memory(r);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = take_route(r, item_of(r, list, i), &r->s->routes[i]);
        st = st == BNT_OK ? check_path(r, list, i) : st;
    }
    return st;
}

static enum bnt_status parse(const struct reading *r, const struct bnt_buf *text)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    if (!yaml_parser_initialize(&parser)) {
        return no_memory(r);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)bnt_buf_view(text), text->len);
    enum bnt_status st;
    if (yaml_parser_load(&parser, &doc)) {
        struct reading inside = *r;
        inside.doc = &doc;
        st = take_document(&inside);
        yaml_document_delete(&doc);
    } else {
        st = bnt_err_set(r->err, BNT_E_FILE, "%s:%zu: %s", r->path, parser.problem_mark.line + 1,
                         parser.problem ? parser.problem : "no YAML");
    }
    yaml_parser_delete(&parser);
    return st;
}

enum bnt_status server_script_open(const char *path, struct server_script **out,
                                   struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(SERVER_SCRIPT_MAX_BYTES);
    struct server_script *s = calloc(1, sizeof *s);
    struct reading r = {.s = s, .path = path, .err = err};
    *out = NULL;
    enum bnt_status st = s ? bnt_file_read(path, &text, err) : no_memory(&r);
    if (st == BNT_OK) {
        st = parse(&r, &text);
    }
    bnt_buf_release(&text);
    if (st != BNT_OK) {
        server_script_close(s);
        return st;
    }
    *out = s;
    return BNT_OK;
}

const struct bnt_mock_route *server_script_routes(const struct server_script *s)
{
    return s->routes;
}

void server_script_close(struct server_script *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n_owned; i++) {
        free(s->owned[i]);
    }
    free(s->owned);
    free(s);
}
