/* What lies far away, and how it gets there.
 *
 *   hot or warm ─► bytes sent ─► read back and hashed ─► record, durable ─► local copy dropped
 *        ▲                                                                        │
 *        └──────────────── recall: fetched under the digest ◄─────────────────────┘
 *
 * Invariants:
 *   1. A record is written only after every byte was read back from the place and hashed to the
 *      name; the local copy goes only after its record is durable. So a death anywhere leaves a
 *      local copy, a proven far one, or both.
 *   2. The network is asked through struct bnt_network alone. What comes back enters by
 *      bnt_cache_add, under the digest, as any download.
 *   3. A record stays when its blob is hot again: the far copy is still there, and the next move
 *      proves it again instead of sending it.
 *   4. A record that is not whole counts as none. */
#include "cache/cold.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/json_load.h"
#include "cache/cache_impl.h"
#include "cache/tier.h"
#include "cache/warm_file.h"

#define COLD "cold/sha256"

static_assert(BNT_PLACE_MAX <= BNT_CACHE_SOURCE_MAX, "a record has room for every place");
enum { RECORD_MAX_BYTES = 16 << 10, RECORD_SCHEMA = 1 };

/* ---- records ---- */

static enum bnt_status record_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                                   struct bnt_err *err)
{
    if (!bnt_sha256_is_hex(digest)) {
        return bnt_err_set(err, BNT_E_INTERNAL, "cache: '%.80s' is not a sha256 digest", digest);
    }
    return bnt_path_format(out, err, "%s/" COLD "/%.2s/%s.json", dir, digest, digest);
}

static bool parse_record(const char *text, size_t n, const char *digest, struct bnt_cache_cold *out)
{
    json_t *root = bnt_json_load(text, n, JSON_REJECT_DUPLICATES, NULL);
    const char *of = NULL, *place = NULL;
    json_int_t schema = 0, size = -1, proven_s = 0;
    bool whole = json_unpack(root, "{s:I, s:s, s:I, s:s, s:I}", "schema", &schema, "digest", &of,
                             "size", &size, "place", &place, "proven_s", &proven_s) == 0 &&
                 schema == RECORD_SCHEMA && strcmp(of, digest) == 0 && size >= 0 &&
                 strlen(place) < sizeof out->place;
    if (whole) {
        memcpy(out->place, place, strlen(place) + 1);
        out->size = (uint64_t)size;
        out->proven_s = proven_s;
    }
    json_decref(root);
    return whole;
}

enum bnt_status bnt_cache_cold(struct bnt_cache *c, const char *digest, struct bnt_cache_cold *out,
                               bool *found, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(RECORD_MAX_BYTES);
    *out = (struct bnt_cache_cold){.size = 0};
    enum bnt_status st = record_path(c->dir, digest, path, err);
    *found = st == BNT_OK && bnt_file_read(path, &text, NULL) == BNT_OK &&
             parse_record(bnt_buf_view(&text), text.len, digest, out);
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status write_record(const char *dir, const char *digest,
                                    const struct bnt_cache_cold *r, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    json_t *root =
        json_pack("{s:i, s:s, s:I, s:s, s:I}", "schema", RECORD_SCHEMA, "digest", digest, "size",
                  (json_int_t)r->size, "place", r->place, "proven_s", (json_int_t)r->proven_s);
    char *text = root ? bnt_json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) {
        return bnt_err_nomem(err, "the record of a cold model", 0);
    }
    enum bnt_status st = record_path(dir, digest, path, err);
    if (st == BNT_OK) {
        st = store_write_record(dir, path, text, err);
    }
    free(text);
    return st;
}

void cold_drop(const char *dir, const char *digest)
{
    char path[BNT_PATH_MAX];
    if (record_path(dir, digest, path, NULL) == BNT_OK) {
        (void)bnt_file_unlink(path);
    }
}

struct walk {
    struct bnt_cache *c;
    store_visit_fn *fn;
    void *ctx;
};

static enum bnt_status visit_record(void *ctx, const char *digest, uint64_t bytes,
                                    struct bnt_err *err)
{
    const struct walk *w = ctx;
    struct bnt_cache_cold r;
    bool found = false;
    (void)bytes;
    enum bnt_status st = bnt_cache_cold(w->c, digest, &r, &found, err);
    return st == BNT_OK && found ? w->fn(w->ctx, digest, r.size, err) : st;
}

enum bnt_status cold_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err)
{
    char root[BNT_PATH_MAX];
    struct bnt_cache c = {.index = NULL};
    struct walk w = {&c, fn, ctx};
    enum bnt_status st = bnt_path_format(c.dir, err, "%s", dir);
    if (st == BNT_OK) {
        st = bnt_path_format(root, err, "%s/" COLD, dir);
    }
    return st == BNT_OK ? store_walk_below(root, ".json", visit_record, &w, err) : st;
}

/* ---- there ---- */

/* The bytes to send as a file: the hot one, under a lease, or the warm one expanded. */
struct sendable {
    char path[BNT_PATH_MAX];
    struct bnt_cache_lease lease;
    struct bnt_cache_temp temp;
};

static void release_sendable(struct sendable *s)
{
    bnt_cache_lease_release(&s->lease);
    bnt_cache_temp_release(&s->temp);
}

static enum bnt_status expand_warm(struct bnt_cache *c, const char *digest, struct sendable *s,
                                   struct bnt_err *err)
{
    char warm[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    enum bnt_status st = tier_warm_path(c->dir, digest, warm, err);
    if (st == BNT_OK) {
        st = bnt_cache_temp_open(c, &s->temp, err);
    }
    if (st == BNT_OK) {
        st = warm_file_read(warm, s->temp.fd, hex, c->interrupted, err);
    }
    if (st == BNT_OK && strcmp(hex, digest) != 0) {
        st = bnt_err_set(err, BNT_E_DIGEST, "cache: the compressed copy of %s is corrupt", digest);
        bnt_err_hint(err, "run: bnt cache verify --repair %s", digest);
    }
    return st == BNT_OK ? bnt_path_format(s->path, err, "%s", s->temp.path) : st;
}

static enum bnt_status make_sendable(struct bnt_cache *c, const struct bnt_cache_entry *e,
                                     struct sendable *s, struct bnt_err *err)
{
    bool warm = false;
    uint64_t stored = 0;
    s->lease.fd = s->temp.fd = -1;
    s->temp.tree = NULL;
    enum bnt_status st = bnt_cache_tier(c, e->digest, &warm, &stored, err);
    if (st != BNT_OK || warm) {
        return st == BNT_OK ? expand_warm(c, e->digest, s, err) : st;
    }
    st = bnt_cache_lease_take(c, e->digest, &s->lease, err);
    return st == BNT_OK ? store_blob_path(c->dir, e->digest, s->path, err) : st;
}

/* Send unless the place has it, and prove that it does. */
static enum bnt_status send_and_prove(const struct bnt_cache_push_opts *o,
                                      const struct bnt_far_blob *blob, const char *path,
                                      uint64_t *sent_bytes, struct bnt_err *err)
{
    bool same = false;
    enum bnt_status st = o->network->prove(blob, &same, err);
    if (st != BNT_OK || same) {
        return st;
    }
    st = o->network->put(blob, path, err);
    if (st == BNT_OK) {
        *sent_bytes = blob->size;
        st = o->network->prove(blob, &same, err);
    }
    if (st == BNT_OK && !same && !BNT_FAULT(cold_unproven)) {
        st = bnt_err_set(err, BNT_E_DIGEST,
                         "%.300s does not give back the bytes of %s; nothing was removed here",
                         blob->place, blob->digest);
        bnt_err_hint(err, "see that the server keeps what it is sent, and: bnt cache verify %.12s",
                     blob->digest);
    }
    return st;
}

/* Drop what is here of a blob whose far copy is proven. */
static enum bnt_status drop_local(struct bnt_cache *c, const char *digest, bool *in_use,
                                  struct bnt_err *err)
{
    char warm[BNT_PATH_MAX];
    enum lease_state state = LEASE_FREE;
    int fd = -1;
    enum bnt_status st = cache_drop_hot(c, digest, &state, err);
    if (st == BNT_OK && state != LEASE_TAKEN) {
        st = tier_warm_path(c->dir, digest, warm, err);
    }
    if (st == BNT_OK && state != LEASE_TAKEN) {
        st = lease_claim(warm, &state, &fd, err);
    }
    if (st == BNT_OK && state == LEASE_FREE) {
        tier_drop(c->dir, digest);
    }
    if (fd >= 0) {
        close(fd);
    }
    *in_use = state == LEASE_TAKEN;
    return st;
}

enum bnt_status bnt_cache_push(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                               const struct bnt_cache_push_opts *opts, struct bnt_cache_pushed *out,
                               struct bnt_err *err)
{
    struct sendable s;
    struct bnt_cache_cold record = {.size = entry->size};
    const struct bnt_far_blob blob = {
        .place = record.place,
        .digest = entry->digest,
        .size = entry->size,
        .cache_dir = c->dir,
        .interrupted = c->interrupted,
    };
    *out = (struct bnt_cache_pushed){.sent_bytes = 0};
    enum bnt_status st = opts->network->place(opts->place, record.place, err);
    if (st != BNT_OK) {
        return st;
    }
    st = make_sendable(c, entry, &s, err);
    if (st == BNT_OK) {
        st = send_and_prove(opts, &blob, s.path, &out->sent_bytes, err);
    }
    release_sendable(&s);
    if (st == BNT_OK) {
        record.proven_s = bnt_clock_unix_s();
        st = write_record(c->dir, entry->digest, &record, err);
    }
    if (st == BNT_OK && opts->move) {
        st = drop_local(c, entry->digest, &out->in_use, err);
        out->moved = st == BNT_OK && !out->in_use;
    }
    return st;
}

/* ---- and back ---- */

enum bnt_status cache_cold_error(const struct bnt_cache_entry *e, const struct bnt_cache_cold *cold,
                                 struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_OFFLINE, "cache: %s is in the cold tier: %.300s",
                                     cache_label(e), cold->place);
    bnt_err_hint(err, "run, with the network: bnt cache pull %.200s", cache_label(e));
    return st;
}

enum bnt_status bnt_cache_pull(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                               const struct bnt_network *network, struct bnt_err *err)
{
    struct bnt_cache_cold cold;
    bool found = false, warm = false;
    uint64_t stored = 0;
    enum bnt_status st = bnt_cache_cold(c, entry->digest, &cold, &found, err);
    if (st == BNT_OK && !found) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "cache: %s is not in the cold tier",
                         cache_label(entry));
        bnt_err_hint(err, "run: bnt fetch %.200s", entry->source[0] ? entry->source : "SOURCE");
    }
    if (st == BNT_OK && !network) {
        st = bnt_cache_tier(c, entry->digest, &warm, &stored, err);
        return st != BNT_OK || stored > 0 ? st : cache_cold_error(entry, &cold, err);
    }
    const struct bnt_far_blob blob = {
        .place = cold.place,
        .digest = entry->digest,
        .size = entry->size,
        .cache_dir = c->dir,
        .interrupted = c->interrupted,
    };
    return st == BNT_OK ? network->recall(c, &blob, err) : st;
}

enum bnt_status cold_bring(struct bnt_cache *c, const char *key, const struct bnt_network *network,
                           struct bnt_err *err)
{
    struct bnt_cache_entry e;
    struct bnt_cache_cold cold;
    bool warm = false, found = false;
    uint64_t stored = 0;
    if (!network || bnt_cache_find(c, key, &e, NULL) != BNT_OK ||
        bnt_cache_tier(c, e.digest, &warm, &stored, NULL) != BNT_OK || stored > 0 ||
        bnt_cache_cold(c, e.digest, &cold, &found, NULL) != BNT_OK || !found) {
        return BNT_OK;
    }
    return bnt_cache_pull(c, &e, network, err);
}
