/* A small part of JSON Schema, written in YAML: enough to say what an answer must look like. A word
 * that is not known is an error when the file is read, so that no expectation is silently void. */
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json_load.h"
#include "base/pattern.h"

#include "testkit/user_suite.h"

#define PATH_BYTES 256

struct check {
    const struct yaml_node *shape;
    const json_t *value;
    const char *path; /* "$.name[3]" */
};

struct word {
    const char *name;
    /* Is what stands behind the word in a file right? NULL: anything. */
    bool (*right)(const struct yaml_node *n);
    /* Does the value hold? Asked only when the word concerns a value of this type. */
    enum bnt_status (*holds)(const struct check *c, const struct yaml_node *n, struct bnt_err *err);
};

static const struct yaml_node *member(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *n = map->first;
    while (n && strcmp(n->key, key) != 0) {
        n = n->next;
    }
    return n;
}

static bool number_of(const struct yaml_node *n, double *value)
{
    char *end;
    errno = 0;
    *value = n->kind == TREE_TEXT && n->plain ? strtod(n->text, &end) : NAN;
    return isfinite(*value) && end != n->text && *end == '\0' && errno == 0;
}

static bool is_number(const struct yaml_node *n)
{
    double value;
    return number_of(n, &value);
}

static bool is_list(const struct yaml_node *n)
{
    return n->kind == TREE_LIST && n->first;
}

static bool is_list_of_texts(const struct yaml_node *n)
{
    bool all = is_list(n);
    for (const struct yaml_node *i = n->first; all && i; i = i->next) {
        all = i->kind == TREE_TEXT;
    }
    return all;
}

static bool is_map(const struct yaml_node *n)
{
    return n->kind == TREE_MAP;
}

static bool is_pattern(const struct yaml_node *n)
{
    regex_t regex;
    bool good = n->kind == TREE_TEXT && bnt_pattern_compile(&regex, n->text, NULL) == BNT_OK;
    if (good) {
        regfree(&regex);
    }
    return good;
}

/* ---- types ---- */

static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null",   NULL};

static bool is_type(const struct yaml_node *n)
{
    size_t i = 0;
    while (n->kind == TREE_TEXT && type_names[i] && strcmp(type_names[i], n->text) != 0) {
        i++;
    }
    return n->kind == TREE_TEXT && type_names[i];
}

static bool has_type(const json_t *v, const char *name)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return strcmp(name, "object") == 0;
    case JSON_ARRAY:
        return strcmp(name, "array") == 0;
    case JSON_STRING:
        return strcmp(name, "string") == 0;
    case JSON_INTEGER:
        return strcmp(name, "integer") == 0 || strcmp(name, "number") == 0;
    case JSON_REAL: /* 3.0 is an integer in JSON Schema, section 6.1.1 of validation */
        return strcmp(name, "number") == 0 ||
               (strcmp(name, "integer") == 0 && json_real_value(v) == trunc(json_real_value(v)));
    case JSON_TRUE:
    case JSON_FALSE:
        return strcmp(name, "boolean") == 0;
    default:
        return strcmp(name, "null") == 0;
    }
}

static enum bnt_status holds_type(const struct check *c, const struct yaml_node *n,
                                  struct bnt_err *err)
{
    return has_type(c->value, n->text)
               ? BNT_OK
               : bnt_err_set(err, BNT_E_FAILED, "%s is not of type %s", c->path, n->text);
}

/* ---- objects and arrays ---- */

static enum bnt_status check_value(const struct check *c, struct bnt_err *err);

static enum bnt_status holds_required(const struct check *c, const struct yaml_node *n,
                                      struct bnt_err *err)
{
    for (const struct yaml_node *i = n->first; i && json_is_object(c->value); i = i->next) {
        if (!json_object_get(c->value, i->text)) {
            return bnt_err_set(err, BNT_E_FAILED, "%s lacks \"%s\"", c->path, i->text);
        }
    }
    return BNT_OK;
}

static enum bnt_status holds_properties(const struct check *c, const struct yaml_node *n,
                                        struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (const struct yaml_node *i = n->first; st == BNT_OK && i; i = i->next) {
        char path[PATH_BYTES];
        const json_t *value = json_object_get(c->value, i->key);
        snprintf(path, sizeof path, "%s.%s", c->path, i->key);
        st = value ? check_value(&(struct check){i, value, path}, err) : BNT_OK;
    }
    return st;
}

static enum bnt_status holds_items(const struct check *c, const struct yaml_node *n,
                                   struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < json_array_size(c->value); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s[%zu]", c->path, i);
        st = check_value(&(struct check){n, json_array_get(c->value, i), path}, err);
    }
    return st;
}

/* ---- values ---- */

/* A text of the file equals a string, or the spelling of a number, true, false or null. */
static bool equals(const json_t *v, const struct yaml_node *n)
{
    double number;
    if (json_is_string(v)) {
        return strcmp(json_string_value(v), n->text) == 0;
    }
    if (json_is_number(v)) {
        return number_of(n, &number) && json_number_value(v) == number;
    }
    const char *spelt = json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null";
    return (json_is_boolean(v) || json_is_null(v)) && n->plain && strcmp(n->text, spelt) == 0;
}

static enum bnt_status holds_enum(const struct check *c, const struct yaml_node *n,
                                  struct bnt_err *err)
{
    for (const struct yaml_node *i = n->first; i; i = i->next) {
        if (equals(c->value, i)) {
            return BNT_OK;
        }
    }
    return bnt_err_set(err, BNT_E_FAILED, "%s is none of the values that are allowed", c->path);
}

static enum bnt_status holds_pattern(const struct check *c, const struct yaml_node *n,
                                     struct bnt_err *err)
{
    regex_t regex;
    if (!json_is_string(c->value) || bnt_pattern_compile(&regex, n->text, NULL) != BNT_OK) {
        return BNT_OK; /* the pattern was compiled when the file was read */
    }
    bool matches = regexec(&regex, json_string_value(c->value), 0, NULL, 0) == 0;
    regfree(&regex);
    return matches ? BNT_OK
                   : bnt_err_set(err, BNT_E_FAILED, "%s does not match %s", c->path, n->text);
}

/* The number that a bound is about; false when the word does not concern the value. */
static bool measure(const json_t *v, const char *word, double *size)
{
    bool items = strstr(word, "Items"), length = strstr(word, "Length");
    if (items ? !json_is_array(v) : length ? !json_is_string(v) : !json_is_number(v)) {
        return false;
    }
    *size = items    ? (double)json_array_size(v)
            : length ? (double)json_string_length(v)
                     : json_number_value(v);
    return true;
}

static enum bnt_status holds_bound(const struct check *c, const struct yaml_node *n,
                                   struct bnt_err *err)
{
    double bound = 0, size;
    bool lower = strncmp(n->key, "min", 3) == 0;
    if (!measure(c->value, n->key, &size) || !number_of(n, &bound) ||
        (lower ? size >= bound : size <= bound)) {
        return BNT_OK;
    }
    return bnt_err_set(err, BNT_E_FAILED, "%s: %s is %s, this is %g", c->path, n->key, n->text,
                       size);
}

static const struct word words[] = {
    {"type", is_type, holds_type},
    {"required", is_list_of_texts, holds_required},
    {"properties", is_map, holds_properties},
    {"items", is_map, holds_items},
    {"enum", is_list_of_texts, holds_enum},
    {"pattern", is_pattern, holds_pattern},
    {"minimum", is_number, holds_bound},
    {"maximum", is_number, holds_bound},
    {"minItems", is_number, holds_bound},
    {"maxItems", is_number, holds_bound},
    {"minLength", is_number, holds_bound},
    {"maxLength", is_number, holds_bound},
};
enum { N_WORDS = sizeof words / sizeof words[0] };

static const struct word *word_of(const char *name)
{
    size_t i = 0;
    while (i < N_WORDS && strcmp(words[i].name, name) != 0) {
        i++;
    }
    return i < N_WORDS ? &words[i] : NULL;
}

static enum bnt_status check_value(const struct check *c, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    const struct yaml_node *type = member(c->shape, "type"); /* first: the rest builds on it */
    if (type) {
        st = holds_type(c, type, err);
    }
    for (const struct yaml_node *n = c->shape->first; st == BNT_OK && n; n = n->next) {
        st = word_of(n->key)->holds(c, n, err);
    }
    return st;
}

static enum bnt_status bad(const char *shown, const struct yaml_node *n, const char *what,
                           struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_FILE, "%s:%u:%u: %s '%.80s'", shown, n->key_line,
                                     n->key_column, what, n->key ? n->key : "");
    bnt_err_hint(err, "docs/user-suites.md lists the words of a shape");
    return st;
}

enum bnt_status json_shape_read(const struct yaml_node *shape, const char *shown,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (shape->kind != TREE_MAP) {
        return bnt_err_set(err, BNT_E_FILE, "%s:%u:%u: a shape is a map, not a %s", shown,
                           shape->line, shape->column, yaml_kind_name(shape));
    }
    for (const struct yaml_node *n = shape->first; st == BNT_OK && n; n = n->next) {
        const struct word *w = word_of(n->key);
        st = !w             ? bad(shown, n, "a shape does not know", err)
             : !w->right(n) ? bad(shown, n, "not what a shape has behind", err)
                            : BNT_OK;
        for (const struct yaml_node *p = n->first;
             st == BNT_OK && p && strcmp(n->key, "properties") == 0; p = p->next) {
            st = json_shape_read(p, shown, err);
        }
        if (st == BNT_OK && strcmp(n->key, "items") == 0) {
            st = json_shape_read(n, shown, err);
        }
    }
    return st;
}

enum bnt_status json_shape_check(const struct yaml_node *shape, const char *text, size_t len,
                                 struct bnt_err *err)
{
    json_error_t why;
    json_t *value = bnt_json_load(text, len, JSON_DECODE_ANY, &why);
    if (!value) {
        return bnt_err_set(err, BNT_E_FAILED, "the text is not one JSON value: line %d: %s",
                           why.line, why.text);
    }
    enum bnt_status st = check_value(&(struct check){shape, value, "$"}, err);
    json_decref(value);
    return st;
}
