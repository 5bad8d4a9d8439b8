#include "testkit/quarantine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/yaml_tree.h"

struct entry {
    const struct yaml_node *test, *owner, *reason, *expires;
};

struct reading {
    struct bnt_test_run *run;
    const char *path;
    int64_t now_unix_s;
    bool some_tests;
    struct bnt_err *err;
};

static enum bnt_status bad(const struct reading *r, const struct yaml_node *n, const char *what,
                           const char *hint)
{
    enum bnt_status st =
        bnt_err_set(r->err, BNT_E_FILE, "%s:%u:%u: %s", r->path, n->line, n->column, what);
    bnt_err_hint(r->err, "%s", hint);
    return st;
}

static const struct yaml_node **field_of(struct entry *e, const char *key)
{
    return strcmp(key, "test") == 0      ? &e->test
           : strcmp(key, "owner") == 0   ? &e->owner
           : strcmp(key, "reason") == 0  ? &e->reason
           : strcmp(key, "expires") == 0 ? &e->expires
                                         : NULL;
}

static enum bnt_status read_entry(const struct reading *r, const struct yaml_node *n,
                                  struct entry *e)
{
    static const char form[] = "an entry has test, owner, reason and expires";
    *e = (struct entry){0};
    if (n->kind != TREE_MAP) {
        return bad(r, n, "not an entry", form);
    }
    for (const struct yaml_node *m = n->first; m; m = m->next) {
        const struct yaml_node **field = field_of(e, m->key);
        if (!field) {
            return bad(r, m, "an unknown field", form);
        }
        if (m->kind != TREE_TEXT || yaml_is_null(m) || !m->text[0]) {
            return bad(r, m, "a field without a text", form);
        }
        *field = m;
    }
    return e->test && e->owner && e->reason && e->expires ? BNT_OK
                                                          : bad(r, n, "a field is absent", form);
}

static enum bnt_status check_date(const struct reading *r, const struct entry *e)
{
    struct tm day = {0};
    const char *rest = strptime(e->expires->text, "%Y-%m-%d", &day);
    const int mday = day.tm_mday;
    const int64_t ends = (int64_t)timegm(&day) + 86400; /* with its day */
    if (!rest || *rest || strspn(e->expires->text, "0123456789-") != 10 || day.tm_mday != mday) {
        return bad(r, e->expires, "not a date", "write it as 2026-12-20");
    }
    if (ends <= r->now_unix_s && !BNT_FAULT(quarantine_forever)) {
        bnt_err_set(r->err, BNT_E_FAILED, "%s:%u: the quarantine of %s expired on %s", r->path,
                    e->expires->line, e->test->text, e->expires->text);
        bnt_err_hint(r->err, "%s: mend the test, or give a new reason and date", e->owner->text);
        return BNT_E_FAILED;
    }
    if (ends - 86400 > r->now_unix_s + (int64_t)QUARANTINE_DAYS_MAX * 86400) {
        return bad(r, e->expires, "more than 30 days ahead", "a quarantine is not a home");
    }
    return BNT_OK;
}

static enum bnt_status check_known(const struct reading *r, const struct entry *e)
{
    const struct bnt_test_names *known = &r->run->known;
    if (r->some_tests) {
        return BNT_OK;
    }
    const char **list = malloc((known->n + 1) * sizeof *list);
    if (!list) {
        return bnt_err_nomem(r->err, r->path, known->n * sizeof *list);
    }
    bool found = false;
    for (size_t i = 0; i < known->n; i++) {
        list[i] = known->at[i];
        found |= strcmp(known->at[i], e->test->text) == 0;
    }
    list[known->n] = NULL;
    const char *near = found ? NULL : bnt_did_you_mean(e->test->text, list);
    free(list);
    if (found) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(r->err, BNT_E_FILE, "%s:%u: there is no test %s", r->path,
                                     e->test->line, e->test->text);
    bnt_err_hint(r->err, near ? "did you mean %s?" : "delete the entry%s", near ? near : "");
    return st;
}

/* Whether no entry before this one names its test. */
static enum bnt_status check_first(const struct reading *r, const struct yaml_node *first,
                                   const struct entry *e)
{
    struct entry other;
    for (const struct yaml_node *n = first; read_entry(r, n, &other) == BNT_OK; n = n->next) {
        if (other.test == e->test) {
            return BNT_OK;
        }
        if (strcmp(other.test->text, e->test->text) == 0) {
            break;
        }
    }
    return bad(r, e->test, "this test is there twice", "delete one of them");
}

static enum bnt_status mark(const struct reading *r, const struct entry *e)
{
    for (size_t i = 0; i < r->run->n; i++) {
        struct bnt_test *t = &r->run->at[i];
        if (strcmp(t->name, e->test->text) != 0) {
            continue;
        }
        t->quarantined = true;
        t->owner = strdup(e->owner->text);
        t->excuse = strdup(e->reason->text);
        t->expires = strdup(e->expires->text);
        if (!t->owner || !t->excuse || !t->expires) {
            return bnt_err_nomem(r->err, r->path, 0);
        }
    }
    return BNT_OK;
}

static enum bnt_status read_list(const struct reading *r, const struct yaml_node *root)
{
    const struct yaml_node *list = root && root->kind == TREE_MAP ? root->first : NULL;
    if (root && (!list || list->next || strcmp(list->key, "quarantine") != 0)) {
        return bad(r, root, "not a quarantine", "the file has one key, quarantine");
    }
    if (list && list->kind != TREE_LIST && !yaml_is_null(list)) {
        return bad(r, list, "not a list", "write one entry per test, each behind '-'");
    }
    const struct yaml_node *first = list ? list->first : NULL;
    enum bnt_status st = BNT_OK;
    for (const struct yaml_node *n = first; st == BNT_OK && n; n = n->next) {
        struct entry e;
        st = read_entry(r, n, &e);
        if (st == BNT_OK) {
            st = check_first(r, first, &e);
        }
        if (st == BNT_OK) {
            st = check_date(r, &e);
        }
        if (st == BNT_OK) {
            st = check_known(r, &e);
        }
        if (st == BNT_OK) {
            st = mark(r, &e);
        }
    }
    return st;
}

enum bnt_status quarantine_apply(struct bnt_test_run *run, const char *path, int64_t now_unix_s,
                                 bool some_tests, struct bnt_err *err)
{
    struct yaml_tree tree = {0};
    const struct reading r = {run, path, now_unix_s, some_tests, err};
    enum bnt_status st = yaml_tree_read(&tree, path, path, YAML_TREE_ONE_LINE, err);
    if (st == BNT_OK) {
        st = read_list(&r, tree.root);
        yaml_tree_release(&tree);
    }
    return st;
}

void quarantine_settle(struct bnt_test_run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        if (t->quarantined && t->outcome == BNT_TEST_FAILED) {
            t->outcome = BNT_TEST_QUARANTINED;
        }
    }
}
