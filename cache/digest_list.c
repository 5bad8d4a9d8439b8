/* Words of 64 hex digits, sorted. */
#include "cache/digest_list.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

enum bnt_status digest_list_add(struct digest_list *l, const char *hex, struct bnt_err *err)
{
    if (l->n == l->cap) {
        size_t more = l->cap ? l->cap * 2 : 64;
        void *at = realloc(l->at, more * sizeof *l->at);
        if (!at) {
            return bnt_err_nomem(err, "list of digests", more * sizeof *l->at);
        }
        l->at = at;
        l->cap = more;
    }
    for (size_t i = 0; i < BNT_SHA256_HEX - 1; i++) {
        l->at[l->n][i] = (char)tolower((unsigned char)hex[i]);
    }
    l->at[l->n++][BNT_SHA256_HEX - 1] = '\0';
    return BNT_OK;
}

/* Whether a word stands where a lock file has a digest of something else than content. */
static bool is_beside(const char *text, const char *word)
{
    static const char *const keys[] = {"\"tree\":", "\"revision\":"};
    static const char before[] = "sha256:";
    const size_t n = sizeof before - 1;
    word -= (size_t)(word - text) >= n && memcmp(word - n, before, n) == 0 ? n : 0;
    word -= word > text && word[-1] == '"';
    while (word > text && word[-1] == ' ') {
        word--;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const size_t k = strlen(keys[i]);
        if ((size_t)(word - text) >= k && memcmp(word - k, keys[i], k) == 0) {
            return true;
        }
    }
    return false;
}

enum bnt_status digest_list_read(struct digest_list *l, const char *path, struct bnt_err *err)
{
    static const char hex_digits[] = "0123456789abcdefABCDEF";
    struct bnt_buf text = BNT_BUF(DIGEST_LIST_FILE_MAX);
    enum bnt_status st = bnt_file_read(path, &text, err);
    const char *begin = bnt_buf_view(&text), *p = begin, *end = p + text.len;
    while (st == BNT_OK && p < end) {
        size_t word = strspn(p, hex_digits);
        if (word == BNT_SHA256_HEX - 1 && !is_beside(begin, p)) {
            st = digest_list_add(l, p, err);
        }
        p += word ? word : 1;
    }
    bnt_buf_release(&text);
    return st;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, BNT_SHA256_HEX);
}

void digest_list_sort(struct digest_list *l)
{
    size_t n = 0;
    if (l->n > 1) {
        qsort(l->at, l->n, sizeof *l->at, compare);
    }
    for (size_t i = 0; i < l->n; i++) {
        if (n == 0 || compare(l->at[n - 1], l->at[i]) != 0) {
            memmove(l->at[n++], l->at[i], sizeof *l->at);
        }
    }
    l->n = n;
}

bool digest_list_has(const struct digest_list *l, const char *hex)
{
    return l->n > 0 && bsearch(hex, l->at, l->n, sizeof *l->at, compare) != NULL;
}

void digest_list_release(struct digest_list *l)
{
    free(l->at);
    *l = (struct digest_list){0};
}
