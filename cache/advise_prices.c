/* The price file. No price has a default: a figure that nobody stated would decide about money. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml_tree.h"
#include "cache/advise.h"

#define N_PRICES (sizeof fields / sizeof fields[0])

static const struct {
    const char *key;
    size_t offset;
} fields[] = {
#define ADVISE_PRICE_ROW(name) {#name, offsetof(struct advise_prices, name)},
    ADVISE_PRICE_TABLE(ADVISE_PRICE_ROW)
#undef ADVISE_PRICE_ROW
};

static const char form[] = "docs/cache.md, \"What it costs\", has an example";

static enum bnt_status bad(const char *path, const struct yaml_node *n, const char *what,
                           struct bnt_err *err)
{
    enum bnt_status st =
        bnt_err_set(err, BNT_E_FILE, "%s:%u:%u: %.80s: %s", path, n->key ? n->key_line : n->line,
                    n->key ? n->key_column : n->column, n->key ? n->key : "price file", what);
    bnt_err_hint(err, "%s", form);
    return st;
}

/* Digits, a point, an exponent: nothing else that strtod knows (hexadecimal, nan, inf, blanks). */
static bool parse_price(const char *text, double *out)
{
    char *end = NULL;
    *out = strtod(text, &end);
    return text[0] && text[strspn(text, "0123456789.eE+-")] == '\0' && *end == '\0' &&
           isfinite(*out) && *out >= 0 && !signbit(*out) && *out <= ADVISE_PRICE_MAX;
}

static enum bnt_status read_currency(const char *path, const struct yaml_node *n,
                                     struct advise_prices *out, struct bnt_err *err)
{
    size_t len = strlen(n->text);
    if (n->kind != TREE_TEXT || yaml_is_null(n) || len == 0 || len >= sizeof out->currency) {
        return bad(path, n, "must be a text of 1 to 15 bytes", err);
    }
    memcpy(out->currency, n->text, len + 1);
    return BNT_OK;
}

static enum bnt_status read_member(const char *path, const struct yaml_node *n,
                                   struct advise_prices *out, bool seen[], struct bnt_err *err)
{
    if (strcmp(n->key, "currency") == 0) {
        return read_currency(path, n, out, err);
    }
    size_t i = 0;
    while (i < N_PRICES && strcmp(fields[i].key, n->key) != 0) {
        i++;
    }
    if (i == N_PRICES) {
        return bad(path, n, "no such price", err);
    }
    double price = 0;
    if (n->kind != TREE_TEXT || !parse_price(n->text, &price)) {
        return bad(path, n, "must be a number from 0 to 1e9", err);
    }
    memcpy((char *)out + fields[i].offset, &price, sizeof price);
    seen[i] = true;
    return BNT_OK;
}

static enum bnt_status read_map(const char *path, const struct yaml_node *root,
                                struct advise_prices *out, struct bnt_err *err)
{
    bool seen[N_PRICES] = {false};
    enum bnt_status st = BNT_OK;
    if (!root || root->kind != TREE_MAP) {
        const struct yaml_node top = {.line = 1, .column = 1};
        return bad(path, root ? root : &top, "must be a map of prices", err);
    }
    for (const struct yaml_node *n = root->first; st == BNT_OK && n; n = n->next) {
        st = read_member(path, n, out, seen, err);
    }
    for (size_t i = 0; st == BNT_OK && i < N_PRICES; i++) {
        if (!seen[i]) {
            st = bnt_err_set(err, BNT_E_FILE, "%s: the price %s is absent", path, fields[i].key);
            bnt_err_hint(err, "write %s: 0 where it costs nothing; %s", fields[i].key, form);
        }
    }
    return st;
}

enum bnt_status advise_prices_read(const char *path, struct advise_prices *out, struct bnt_err *err)
{
    struct yaml_tree tree = {.root = NULL};
    *out = (struct advise_prices){.currency = ""};
    enum bnt_status st = yaml_tree_read(&tree, path, path, YAML_TREE_ONE_LINE, err);
    if (st == BNT_OK) {
        st = read_map(path, tree.root, out, err);
        yaml_tree_release(&tree);
    }
    return st;
}
