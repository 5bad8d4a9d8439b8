/* The digests that a text names: every word of 64 hex digits, whatever the format, but for the
 * values of "tree" and "revision", which in a lock file are of no content. A lock file, a listing
 * of sha256sum and `bnt cache ls --json` all work. */
#ifndef BNT_CACHE_DIGEST_LIST_H
#define BNT_CACHE_DIGEST_LIST_H

#include "base/digest.h"

struct digest_list {
    char (*at)[BNT_SHA256_HEX]; /* sorted, each once, lower case */
    size_t n, cap;
};

enum bnt_status digest_list_add(struct digest_list *l, const char *hex, struct bnt_err *err);
/* The words of a file of at most DIGEST_LIST_FILE_MAX bytes. */
enum bnt_status digest_list_read(struct digest_list *l, const char *path, struct bnt_err *err);
/* Sort after the last addition, before the first look-up. */
void digest_list_sort(struct digest_list *l);
bool digest_list_has(const struct digest_list *l, const char *hex);
void digest_list_release(struct digest_list *l);

#define DIGEST_LIST_FILE_MAX (64u << 20)

#endif
