#include "testkit/filter.h"

#include <stdio.h>
#include <string.h>

enum { WORD_BYTES = 256 };

bool filter_has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; *at;) {
        at += strspn(at, ", ");
        size_t n = strcspn(at, ", ");
        if (n == len && n > 0 && strncmp(at, word, n) == 0) {
            return true;
        }
        at += n;
    }
    return false;
}

static bool in_full_name(const struct bnt_test *t, const char *text)
{
    char full[2 * WORD_BYTES];
    snprintf(full, sizeof full, "%s/%s", t->suite, t->name);
    return strstr(full, text) != NULL;
}

static bool is_suite(const struct bnt_test *t, const char *text)
{
    return strcmp(t->suite, text) == 0;
}

static bool in_name(const struct bnt_test *t, const char *text)
{
    return strstr(t->name, text) != NULL;
}

static bool has_tag(const struct bnt_test *t, const char *text)
{
    return filter_has_word(t->tags, text);
}

static bool has_subject(const struct bnt_test *t, const char *text)
{
    return filter_has_word(t->subjects[0] ? t->subjects : "none", text);
}

static bool is_tier(const struct bnt_test *t, const char *text)
{
    return strcmp(bnt_test_tier_name(t->tier), text) == 0;
}

static bool must_kill(const struct bnt_test *t, const char *text)
{
    return t->kills && filter_has_word(t->kills, text);
}

static bool has_need(const struct bnt_test *t, const char *text)
{
    return filter_has_word(t->needs, text);
}

static const struct {
    const char *key;
    bool (*matches)(const struct bnt_test *t, const char *text);
} keys[] = {
    {"suite:", is_suite}, {"name:", in_name},   {"tag:", has_tag},     {"subject:", has_subject},
    {"tier:", is_tier},   {"needs:", has_need}, {"kills:", must_kill},
};

enum { N_KEYS = sizeof keys / sizeof keys[0] };

/* The key's row, or -1 for plain text; *text is what follows it. */
static int find_key(const char *word, const char **text)
{
    for (int i = 0; i < N_KEYS; i++) {
        size_t len = strlen(keys[i].key);
        if (strncmp(word, keys[i].key, len) == 0) {
            *text = word + len;
            return i;
        }
    }
    *text = word;
    return -1;
}

/* The next word into out; false at the end. */
static bool next_word(const char **at, char out[WORD_BYTES])
{
    *at += strspn(*at, " \t");
    size_t len = strcspn(*at, " \t");
    snprintf(out, WORD_BYTES, "%.*s", (int)len, *at);
    *at += len;
    return len > 0;
}

static enum bnt_status check_word(const char *word, struct bnt_err *err)
{
    const char *text;
    const char *bare = word + (word[0] == '!');
    bool known = find_key(bare, &text) >= 0 || !strchr(bare, ':');
    if (known && text[0]) {
        return BNT_OK;
    }
    enum bnt_status status = bnt_err_set(
        err, BNT_E_USAGE, known ? "filter %s: nothing follows" : "filter %s: no such key", word);
    bnt_err_hint(err, "keys are suite: name: tag: subject: tier: needs: and kills:");
    return status;
}

enum bnt_status filter_check(const struct bnt_strs *filters, struct bnt_err *err)
{
    for (size_t i = 0; filters && i < filters->n; i++) {
        char word[WORD_BYTES];
        size_t n_words = 0;
        for (const char *at = filters->at[i]; next_word(&at, word); n_words++) {
            enum bnt_status status =
                strlen(word) < WORD_BYTES - 1
                    ? check_word(word, err)
                    : bnt_err_set(err, BNT_E_USAGE, "filter %.40s...: longer than %d bytes", word,
                                  WORD_BYTES - 2);
            if (status != BNT_OK) {
                return status;
            }
        }
        if (n_words == 0) {
            return bnt_err_set(err, BNT_E_USAGE, "an empty filter");
        }
    }
    return BNT_OK;
}

static bool matches_word(const char *word, const struct bnt_test *t)
{
    bool wanted = word[0] != '!';
    const char *text;
    int key = find_key(word + !wanted, &text);
    return (key < 0 ? in_full_name(t, text) : keys[key].matches(t, text)) == wanted;
}

static bool matches_all(const char *filter, const struct bnt_test *t)
{
    char word[WORD_BYTES];
    for (const char *at = filter; next_word(&at, word);) {
        if (!matches_word(word, t)) {
            return false;
        }
    }
    return true;
}

bool filter_matches(const struct bnt_strs *filters, const struct bnt_test *test)
{
    for (size_t i = 0; filters && i < filters->n; i++) {
        if (matches_all(filters->at[i], test)) {
            return true;
        }
    }
    return !filters || filters->n == 0;
}
