/* An update needs the chunk tree of the new content before its bytes. It is looked for at every
 * place of the file:
 *
 *     file                         its tree
 *     .../v1/blobs/sha256/<hex>    .../v1/trees/sha256/<hex>, of another cache (bnt cache serve)
 *     any other URL                the same URL and ".bnttree", before a query
 *
 * and only when that may save something: the name, or the source, has older content in the cache;
 * of another cache, always. So a first fetch asks for nothing in vain.
 *
 * A tree from the network decides nothing. It says which chunks are worth a look; each is compared
 * with its leaf before it is taken, the others are transferred, and the whole must have the digest
 * that was known before. A tree that lies costs one more transfer of the whole. One whose root the
 * lock file contradicts, or whose size is another, is not used at all. */
#include "fetch/delta.h"

#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "fetch/ask.h"
#include "fetch/s3.h"

#define BLOBS "/v1/blobs/sha256/"
#define TREES "/v1/trees/sha256/"

/* ---- where the tree is ---- */

/* The part of the URL of a blob of another cache that its tree has differently, or NULL. */
static char *blob_of_cache(char *url)
{
    char *at = strstr(url, BLOBS);
    const char *hex = at ? at + strlen(BLOBS) : "";
    return at && strlen(hex) == BNT_SHA256_HEX - 1 && bnt_sha256_is_hex(hex) ? at : NULL;
}

bool delta_tree_source(const struct source *s, struct source *out)
{
    char text[BNT_CACHE_SOURCE_MAX + sizeof BNT_CHUNK_TREE_SUFFIX];
    if (!source_is_remote(s)) {
        return false;
    }
    *out = *s;
    char *blob = blob_of_cache(out->url);
    if (blob) {
        memcpy(blob, TREES, strlen(TREES)); /* as long as what it replaces */
        return true;
    }
    if (s->s3) { /* the URL of the file is signed for the file alone */
        snprintf(text, sizeof text, "%s" BNT_CHUNK_TREE_SUFFIX, s->shown);
        return source_parse(text, out, NULL) == BNT_OK && s3_settle(out, NULL) == BNT_OK;
    }
    size_t path = strcspn(s->url, "?");
    int n = snprintf(out->url, sizeof out->url, "%.*s" BNT_CHUNK_TREE_SUFFIX "%s", (int)path,
                     s->url, s->url + path);
    return n > 0 && (size_t)n < sizeof out->url;
}

/* ---- the tree ---- */

/* One question for a tree; what is no tree of this content is none. */
static struct bnt_chunk_tree *tree_of_answer(const struct delta_want *want, const struct ask *a)
{
    char root[BNT_SHA256_HEX];
    struct bnt_chunk_tree *t = NULL;
    if (a->code != 200 ||
        bnt_chunk_tree_decode(bnt_buf_view(&a->body), a->body.len, &t, NULL) != BNT_OK) {
        return NULL;
    }
    bool fits = want->size == 0 || bnt_chunk_tree_size(t) == want->size;
    if (fits && want->opts->tree) {
        fits = bnt_chunk_tree_root(t, root, NULL) == BNT_OK &&
               (strcmp(root, want->opts->tree) == 0 || BNT_FAULT(delta_root));
    }
    if (!fits) {
        bnt_chunk_tree_free(t);
        t = NULL;
    }
    return t;
}

static struct bnt_chunk_tree *find_tree(const struct delta_want *want)
{
    struct bnt_chunk_tree *t = NULL;
    for (size_t i = 0; !t && i < want->n_sources; i++) {
        struct source s;
        struct ask a = {.url = s.url, .shown = s.shown, .token = s.token, .opts = want->opts};
        if (delta_tree_source(&want->sources[i], &s) && ask(&a, NULL) == BNT_OK) {
            t = tree_of_answer(want, &a);
        }
        bnt_buf_release(&a.body);
    }
    return t;
}

/* ---- whether to look for it ---- */

/* Older content of the name or the source, which is made hot: only then its chunks are at hand. */
static bool older_content(struct bnt_cache *c, const struct delta_want *want)
{
    struct bnt_cache_list list = {0};
    bool found = false;
    enum bnt_status st = bnt_cache_list(c, &list, NULL);
    for (size_t i = 0; st == BNT_OK && i < list.n; i++) {
        const struct bnt_cache_entry *e = &list.at[i];
        bool same = strcmp(e->name, want->name) == 0 ||
                    (e->source[0] && strcmp(e->source, want->sources[0].shown) == 0);
        bool here = false;
        if (same && strcmp(e->digest, want->digest) != 0) {
            found = (bnt_cache_has(c, e->digest, &here, NULL) == BNT_OK && here) || found;
        }
    }
    bnt_cache_list_release(&list);
    return found;
}

static bool is_update(struct bnt_cache *c, const struct delta_want *want)
{
    char url[SOURCE_URL_MAX];
    snprintf(url, sizeof url, "%s", want->sources[0].url);
    return want->digest[0] && !BNT_FAULT(delta_whole) &&
           (blob_of_cache(url) || older_content(c, want));
}

enum bnt_status delta_seed(struct bnt_cache *c, const struct delta_want *want, struct part *part,
                           uint64_t *reused_bytes, struct bnt_err *err)
{
    struct bnt_cache_reuse reuse = {0};
    *reused_bytes = 0;
    struct bnt_chunk_tree *t = is_update(c, want) ? find_tree(want) : NULL;
    if (!t) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_cache_reuse_chunks(c, t, part->file.fd, &reuse, err);
    if (st == BNT_OK && reuse.reused_bytes > 0) {
        st = part_seed(part, bnt_chunk_tree_size(t), reuse.missing, reuse.n_missing, err);
        *reused_bytes = reuse.reused_bytes;
    }
    bnt_cache_reuse_release(&reuse);
    bnt_chunk_tree_free(t);
    return st;
}
