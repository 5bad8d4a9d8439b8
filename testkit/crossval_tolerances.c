/* Bounds of the ladder: their defaults, and a file of them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml_tree.h"
#include "testkit/crossval.h"

/* Those that are off by default depend on the size of logits or on the machine. */
struct crossval_tolerances crossval_tolerances_default(void)
{
    return (struct crossval_tolerances){.forced_match = 0.99,
                                        .free_match = 0.95,
                                        .pearson = 0.98,
                                        .cosine = NAN,
                                        .kl = 0.01,
                                        .mse = NAN,
                                        .max_error = NAN,
                                        .tap_error = 0.1,
                                        .perplexity = 0.01,
                                        .speed = NAN};
}

static double *member(struct crossval_tolerances *t, const char *key)
{
    const struct {
        const char *key;
        double *value;
    } members[] = {{"forced_match", &t->forced_match},
                   {"free_match", &t->free_match},
                   {"pearson", &t->pearson},
                   {"cosine", &t->cosine},
                   {"kl", &t->kl},
                   {"mse", &t->mse},
                   {"max_error", &t->max_error},
                   {"tap_error", &t->tap_error},
                   {"perplexity", &t->perplexity},
                   {"speed", &t->speed}};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (strcmp(members[i].key, key) == 0) {
            return members[i].value;
        }
    }
    return NULL;
}

/* A finite number that is not negative, or "off". */
static bool read_bound(const struct yaml_node *n, double *out)
{
    char *end;
    errno = 0;
    *out = strcmp(n->text, "off") == 0 ? NAN : strtod(n->text, &end);
    return n->kind == TREE_TEXT && (isnan(*out) ? strcmp(n->text, "off") == 0
                                                : n->text[0] != '\0' && *end == '\0' &&
                                                      errno == 0 && *out >= 0 && isfinite(*out));
}

static enum bnt_status read_members(const struct yaml_node *root, const char *path,
                                    struct crossval_tolerances *out, struct bnt_err *err)
{
    if (!root || root->kind != TREE_MAP) {
        return bnt_err_set(err, BNT_E_FILE, "%.300s: it is no map of bounds", path);
    }
    for (const struct yaml_node *n = root->first; n; n = n->next) {
        double *value = member(out, n->key);
        if (!value) {
            bnt_err_set(err, BNT_E_FILE, "%.300s:%u:%u: there is no bound %.60s", path, n->key_line,
                        n->key_column, n->key);
            bnt_err_hint(err, "docs/crossval.md lists them");
            return BNT_E_FILE;
        }
        if (!read_bound(n, value)) {
            return bnt_err_set(err, BNT_E_FILE,
                               "%.300s:%u:%u: %.60s: must be a number that is not negative, or off",
                               path, n->line, n->column, n->key);
        }
    }
    return BNT_OK;
}

enum bnt_status crossval_tolerances_read(const char *path, struct crossval_tolerances *out,
                                         struct bnt_err *err)
{
    struct yaml_tree tree;
    *out = crossval_tolerances_default();
    enum bnt_status st = yaml_tree_read(&tree, path, path, YAML_TREE_ONE_LINE, err);
    if (st != BNT_OK) {
        return st;
    }
    st = read_members(tree.root, path, out, err);
    yaml_tree_release(&tree);
    return st;
}
