/* The cache: fetch a model into a folder of its own, find it by name, verify it, and open it while
 * a lease keeps it from being collected. A second run finds the model there and reads nothing.
 *
 *     build/release/examples/10-cache bundled: /tmp/models
 *
 * The source may be whatever bnt fetch takes: a path, bundled:, https://... */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "cache/bnt_cache.h"
#include "engine/bnt_infer.h"
#include "fetch/bnt_fetch.h"

static const char name[] = "example";

/* A second fetch must be a hit. */
static enum bnt_status fetch_twice(struct bnt_cache *c, const char *source, struct bnt_err *err)
{
    const struct bnt_fetch_opts options = {.name = name};
    struct bnt_fetch_result first;
    struct bnt_fetch_result second;
    enum bnt_status st = bnt_fetch(c, source, &options, &first, err);
    if (st == BNT_OK) {
        st = bnt_fetch(c, source, &options, &second, err);
    }
    if (st == BNT_OK && (!second.hit || strcmp(first.entry.digest, second.entry.digest) != 0)) {
        st = bnt_err_set(err, BNT_E_FAILED, "%s was read twice", source);
    }
    return st;
}

static enum bnt_status verify(struct bnt_cache *c, struct bnt_cache_entry *e, struct bnt_err *err)
{
    enum bnt_cache_health health = BNT_CACHE_MISSING;
    enum bnt_status st = bnt_cache_verify(c, e, NULL, NULL, &health, err);
    if (st == BNT_OK && health != BNT_CACHE_OK) {
        st = bnt_err_set(err, BNT_E_DIGEST, "%s is not what it was", e->name);
        bnt_err_hint(err, "run: bnt cache verify --repair %s", e->name);
    }
    return st;
}

static enum bnt_status use(struct bnt_cache *c, struct bnt_err *err)
{
    struct bnt_cache_lease lease = {.fd = -1};
    struct bnt_cache_entry entry;
    char path[BNT_PATH_MAX];
    struct bnt_model *model = NULL;
    enum bnt_status st = bnt_cache_use(c, name, &entry, path, &lease, err);
    if (st == BNT_OK) {
        st = verify(c, &entry, err);
    }
    if (st == BNT_OK) {
        st = bnt_model_open(path, NULL, &model, err);
    }
    if (st == BNT_OK) {
        printf("%s: %.12s, %" PRIu64 " bytes, %s\n", entry.name, entry.digest, entry.size,
               bnt_model_info(model)->arch);
    }
    bnt_model_close(model);
    bnt_cache_lease_release(&lease);
    return st;
}

static enum bnt_status show(const char *source, const char *folder, struct bnt_err *err)
{
    struct bnt_cache *cache = NULL;
    enum bnt_status st = bnt_cache_open(folder, &cache, err);
    if (st == BNT_OK) {
        st = fetch_twice(cache, source, err);
    }
    if (st == BNT_OK) {
        st = use(cache, err);
    }
    bnt_cache_close(cache);
    return st;
}

int main(int argc, char **argv)
{
    struct bnt_err err = {0};
    if (argc != 3) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "usage: %s MODEL FOLDER", argv[0]);
    }
    return show(argv[1], argv[2], &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}
