/* The order of a fetch: what can be answered from the cache is; else bytes go to a temporary, are
 * compared with the expected digest, and only then become a blob with a name. */
#include "fetch/bnt_fetch.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "fetch/asked.h"
#include "fetch/delta.h"
#include "fetch/fetch_room.h"
#include "fetch/hub.h"
#include "fetch/oci.h"
#include "fetch/part.h"
#include "fetch/depot.h"
#include "fetch/settle.h"
#include "fetch/sink.h"
#include "fetch/source.h"
#include "fetch/transfer.h"
#include "fetch/url_text.h"

#define COPY_BYTES (1u << 20)
#define NEAR_CONNECT_MS 3000 /* a server beside us answers soon or not at all */

struct sources {
    struct source *at;
    size_t n;
};

/* One call of bnt_fetch. */
struct fetch {
    struct bnt_cache *cache;
    const struct bnt_fetch_opts *opts;
    struct source source;
    uint64_t size;                 /* bytes that will come; 0: not known yet */
    char expected[BNT_SHA256_HEX]; /* "" when any content is right */
    struct asked known;            /* what the source had when it was last asked */
    bool ask;                      /* the cache has that, and the source may have another one */
    int64_t began_s;
    bool recalls; /* from the cold tier */
    struct bnt_fetch_result
        *result; /* entry.name, source, source_tag and file_name are filled by prepare() */
};

/* ---- what is asked for ---- */

static enum bnt_status set_expected(struct fetch *f, struct bnt_err *err)
{
    const char *hex = f->opts->sha256;
    if (!hex && f->opts->n_mirrors > 0) {
        enum bnt_status st = bnt_err_set(
            err, BNT_E_USAGE, "mirrors need a digest: nothing else says that they have the same");
        bnt_err_hint(err, "give the digest that the file must have: --sha256 HEX");
        return st;
    }
    if (!hex) {
        if (f->source.kind != SOURCE_HTTP || oci_is_trusted_http(&f->source)) {
            return BNT_OK;
        }
        enum bnt_status st = bnt_err_set(
            err, BNT_E_USAGE, "%.300s: over http anybody may change the bytes", f->source.shown);
        bnt_err_hint(
            err,
            "use https, or give the digest that the file must have: --sha256 HEX; in a manifest "
            "sha256: HEX");
        return st;
    }
    if (!bnt_sha256_is_hex(hex)) {
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "'%.80s' is not a sha256 digest", hex);
        bnt_err_hint(err, "a digest is 64 hex digits, as sha256sum prints them");
        return st;
    }
    for (size_t i = 0; i < BNT_SHA256_HEX; i++) {
        f->expected[i] = (char)tolower((unsigned char)hex[i]);
    }
    return BNT_OK;
}

/* What a file was called there. Records of it are JSON: a name that is no UTF-8, or is cut within a
 * character, is kept as a URL writes it. */
static void keep_file_name(struct bnt_cache_entry *e, const char *name)
{
    const size_t size = sizeof e->file_name;
    snprintf(e->file_name, size, "%s", name);
    if (bnt_utf8_valid(e->file_name, strlen(e->file_name)) < strlen(e->file_name)) {
        (void)url_append(e->file_name, size, 0, name, "");
    }
}

static enum bnt_status set_name(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    const char *name = f->opts->name ? f->opts->name : f->source.name;
    if (!bnt_cache_name_ok(name)) {
        enum bnt_status st;
        if (f->opts->name) {
            st = bnt_err_set(err, BNT_E_USAGE, "'%.80s' cannot be the name of a model", name);
        } else {
            st = bnt_err_set(err, BNT_E_USAGE, "%.300s: no name can be made from this",
                             f->source.shown);
        }
        bnt_err_hint(
            err,
            "give one: --name NAME, of up to %d letters, digits and . _ + - , not ending in .gguf",
            BNT_CACHE_NAME_MAX - 1);
        return st;
    }
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->source, sizeof e->source, "%s", f->source.shown);
    keep_file_name(e, f->source.file_name);
    return BNT_OK;
}

/* What identifies the state of a local file: it is another one when its size or time differs. */
static enum bnt_status local_tag(int fd, const char *path, char tag[BNT_CACHE_TAG_MAX],
                                 struct bnt_err *err)
{
    struct stat sb;
    if ((fd < 0 ? stat(path, &sb) : fstat(fd, &sb)) != 0) {
        return bnt_err_errno(err, "source %s", path);
    }
    if (!S_ISREG(sb.st_mode)) {
        bnt_err_set(err, BNT_E_FILE, "source %s is not a regular file", path);
        bnt_err_hint(err, "%s",
                     S_ISDIR(sb.st_mode) ? "name a file in it; a model of several files is written "
                                           "into bnt.yml, with files: (docs/manifest.md)"
                                         : "");
        return BNT_E_FILE;
    }
    snprintf(tag, BNT_CACHE_TAG_MAX, "%lld-%lld.%09ld", (long long)sb.st_size,
             (long long)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec);
    return BNT_OK;
}

static enum bnt_status prepare(struct fetch *f, const char *source, struct bnt_err *err)
{
    *f->result = (struct bnt_fetch_result){0};
    enum bnt_status st = source_parse(source, &f->source, err);
    if (st == BNT_OK) {
        st = set_expected(f, err);
    }
    if (st == BNT_OK) {
        st = set_name(f, err);
    }
    if (st == BNT_OK && !source_is_remote(&f->source)) {
        st = local_tag(-1, f->source.path, f->result->entry.source_tag, err);
    }
    return st;
}

/* ---- what the cache can answer ---- */

/* Whether a row of the wanted name is what a fetch would bring: by the digest where one is
 * expected. Else a remote source is taken to be unchanged: a hit must not need the network. */
static bool row_answers(const struct fetch *f, const struct bnt_cache_entry *row)
{
    const struct bnt_cache_entry *e = &f->result->entry;
    return strcmp(row->source, e->source) == 0 &&
           (f->expected[0]
                ? strcmp(row->digest, f->expected) == 0
                : source_is_remote(&f->source) || f->opts->update == BNT_FETCH_UPDATE_NEVER ||
                      strcmp(row->source_tag, e->source_tag) == 0);
}

/* The cache has the expected content: give it the name that was asked for. */
static enum bnt_status take_blob(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    struct bnt_cache_entry row;
    memcpy(e->digest, f->expected, sizeof e->digest);
    enum bnt_status st = BNT_OK;
    if (!source_is_remote(&f->source)) {
        e->source_tag[0] = '\0'; /* whether the file has this content now, nobody has looked */
    }
    if (!f->opts->nameless) {
        st = bnt_cache_set_name(f->cache, e, err);
    } else if ((st = bnt_cache_find(f->cache, e->digest, &row, err)) == BNT_OK) {
        e->size = row.size;
    }
    f->result->hit = st == BNT_OK;
    return st;
}

/* The same for a blob that was seen a moment ago: when it has been removed since, there is no hit.
 */
static enum bnt_status take_if_there(struct fetch *f, struct bnt_err *err)
{
    struct bnt_err why = {0};
    enum bnt_status st = take_blob(f, &why);
    if (st == BNT_E_NOT_FOUND) {
        return BNT_OK;
    }
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = why;
    }
    return st;
}

/* The source has what it had. */
static enum bnt_status take_known(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    memcpy(f->expected, f->known.digest, sizeof f->expected);
    snprintf(e->source_tag, sizeof e->source_tag, "%s",
             f->known.validator[0] == '"' ? f->known.validator : "");
    return take_blob(f, err);
}

static enum bnt_status name_taken(const struct bnt_cache_entry *row, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(
        err, BNT_E_USAGE, "the name %s belongs to another source: %.300s", row->name, row->source);
    bnt_err_hint(err, "give another name with --name, or let the name move with --force");
    return st;
}

/* Whether the source is to be asked although the cache has what it had: as the policy says, unless
 * somebody has asked since this fetch began. */
static bool must_ask(struct fetch *f, const struct bnt_cache_entry *row)
{
    const enum bnt_fetch_update policy = f->opts->update;
    const bool offline = f->opts->offline || (f->source.hub.repo[0] && hub_is_offline(f->opts));
    if (f->expected[0] || !source_is_remote(&f->source) || offline ||
        (policy != BNT_FETCH_UPDATE_DAILY && policy != BNT_FETCH_UPDATE_ALWAYS)) {
        return false;
    }
    asked_look(bnt_cache_folder(f->cache), row->source, &f->known);
    if (strcmp(f->known.digest, row->digest) != 0) { /* net.db was lost, or the name was moved */
        f->known = (struct asked){.at_s = row->fetched_s};
        memcpy(f->known.validator, row->source_tag, sizeof f->known.validator);
        memcpy(f->known.digest, row->digest, sizeof f->known.digest);
    }
    f->ask = f->known.at_s <= f->began_s &&
             (policy == BNT_FETCH_UPDATE_ALWAYS || !asked_today(&f->known));
    return f->ask;
}

/* What the source has now: the next question can be whether that has changed. */
static void note_asked(const struct fetch *f, const char *validator)
{
    struct asked a = {.at_s = bnt_clock_unix_s()};
    snprintf(a.validator, sizeof a.validator, "%s", validator);
    memcpy(a.digest, f->result->entry.digest, sizeof a.digest);
    asked_note(bnt_cache_folder(f->cache), f->source.shown, &a);
}

/* Sets result->hit when the cache has what is asked for. */
static enum bnt_status try_cache(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    struct bnt_cache_entry row;
    bool found = false, have = false;
    enum bnt_status st = bnt_cache_find_name(f->cache, e->name, &row, &found, err);
    if (st == BNT_OK && found && row_answers(f, &row)) {
        st = bnt_cache_has(f->cache, row.digest, &have, err);
        if (st == BNT_OK && have && !must_ask(f, &row)) {
            *e = row;
            f->result->hit = true;
        }
        return st;
    }
    if (st == BNT_OK && f->expected[0]) {
        st = bnt_cache_has(f->cache, f->expected, &have, err);
    }
    bool other = found && !BNT_FAULT(name_taken) && strcmp(row.source, e->source) != 0 &&
                 strcmp(row.digest, f->expected) != 0;
    if (st == BNT_OK && other && !f->opts->move_name && !f->opts->nameless) {
        return name_taken(&row, err);
    }
    return st == BNT_OK && have ? take_if_there(f, err) : st;
}

/* ---- bytes ---- */

static enum bnt_status copy_open_file(int fd, const char *path, struct sink *sink,
                                      struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    char *block = malloc(COPY_BYTES);
    if (!block) {
        return bnt_err_nomem(err, "copy buffer", COPY_BYTES);
    }
    while (st == BNT_OK) {
        ssize_t n = read(fd, block, COPY_BYTES);
        if (n < 0 && errno != EINTR) {
            st = bnt_err_errno(err, "cannot read %s", path);
        } else if (n == 0) {
            break;
        } else if (n > 0) {
            st = sink_write(sink, block, (size_t)n, err);
        }
    }
    free(block);
    return st;
}

static enum bnt_status copy_file(struct fetch *f, struct sink *sink, struct bnt_err *err)
{
    const char *path = f->source.path;
    char *tag = f->result->entry.source_tag;
    char after[BNT_CACHE_TAG_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    enum bnt_status st = local_tag(fd, path, tag, err);
    if (st == BNT_OK) {
        sink->total = strtoull(tag, NULL, 10); /* the tag begins with the size */
        st = fetch_room(f->opts, sink->temp->fd, f->source.shown, sink->total, err);
    }
    if (st == BNT_OK) {
        /* What shares its blocks is the file as it was at one moment, and is read in its stead. */
        st = copy_open_file(sink_share(sink, fd) ? sink->temp->fd : fd, path, sink, err);
    }
    if (st == BNT_OK) {
        st = local_tag(fd, path, after, err);
    }
    if (st == BNT_OK && strcmp(tag, after) != 0) {
        st = bnt_err_set(err, BNT_E_FILE, "%s changed while it was read", path);
        bnt_err_hint(err, "wait until its writer is done, then fetch again");
    }
    close(fd);
    return st;
}

static void tell(const struct fetch *f, enum bnt_fetch_event_kind kind, uint64_t done_bytes)
{
    if (f->opts->event) {
        const struct bnt_fetch_event e = {
            .kind = kind, .why = "", .done_bytes = done_bytes, .total_bytes = f->size};
        f->opts->event(f->opts->ctx, &e);
    }
}

/* Compare what came with what was expected. */
static enum bnt_status check_digest(const struct fetch *f, struct bnt_err *err)
{
    const char *digest = f->result->entry.digest;
    if (!f->expected[0]) {
        return BNT_OK;
    }
    if (strcmp(digest, f->expected) == 0 || BNT_FAULT(digest_unchecked)) {
        tell(f, BNT_FETCH_VERIFIED, 0);
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_DIGEST, "%.300s: sha256 is %s, expected %s",
                                     f->source.shown, digest, f->expected);
    bnt_err_hint(err, "the file at the source is not the one that was meant; nothing was kept");
    return st;
}

static enum bnt_status publish(struct fetch *f, struct bnt_cache_temp *temp, struct bnt_err *err)
{
    if (f->opts->nameless) {
        f->result->entry.name[0] = '\0';
    }
    temp->origin = f->recalls ? BNT_CACHE_FROM_COLD : BNT_CACHE_FROM_SOURCE;
    return bnt_cache_add(f->cache, temp, &f->result->entry, err);
}

/* A file of this machine: copied into a temporary, then put into the cache. */
static enum bnt_status copy(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    struct bnt_cache_temp temp;
    struct sink sink;
    enum bnt_status st = bnt_cache_temp_open(f->cache, &temp, err);
    if (st != BNT_OK) {
        return st;
    }
    st = sink_init(&sink, &temp, f->opts, err);
    if (st == BNT_OK) {
        tell(f, BNT_FETCH_START, 0);
        st = copy_file(f, &sink, err);
    }
    if (st == BNT_OK && sink.done == 0) {
        st = bnt_err_set(err, BNT_E_FILE, "%.300s is empty", f->source.shown);
        bnt_err_hint(err, "was its copying or its download cut short? take it from where it came");
    }
    if (st == BNT_OK) {
        st = sink_digest(&sink, e->digest, err);
    }
    if (st == BNT_OK) {
        st = check_digest(f, err);
    }
    if (st == BNT_OK) {
        st = publish(f, &temp, err);
    }
    bnt_cache_temp_release(&temp);
    return st;
}

/* An update of a model begins with the chunks that did not change. */
static enum bnt_status seed(struct fetch *f, const struct sources *from, struct part *part,
                            struct bnt_err *err)
{
    const struct delta_want want = {.sources = from->at,
                                    .n_sources = from->n,
                                    .digest = f->expected,
                                    .name = f->result->entry.name,
                                    .size = f->size,
                                    .opts = f->opts};
    enum bnt_status st = delta_seed(f->cache, &want, part, &f->result->reused_bytes, err);
    f->size = part->record.total ? part->record.total : f->size;
    return st;
}

/* One transfer into a part. *again: what came is wrong, but not all of it came now: it may have
 * been spoilt by the transfer before. */
static enum bnt_status download_once(struct fetch *f, const char *key, const struct sources *from,
                                     bool *again, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &f->result->entry;
    struct transfer_result result;
    struct part part;
    const struct transfer_spec spec = {.cache_dir = bnt_cache_folder(f->cache),
                                       .sources = from->at,
                                       .n_sources = from->n,
                                       .digest = f->expected,
                                       .known =
                                           f->ask && !f->expected[0] ? f->known.validator : NULL,
                                       .opts = f->opts};
    const bool was_again = *again;
    enum bnt_status st = part_open(spec.cache_dir, key, !f->opts->force && !was_again, &part, err);
    *again = false;
    if (st != BNT_OK) {
        return st;
    }
    if (!part.resumed && !f->opts->force && !was_again) {
        st = seed(f, from, &part, err);
    }
    bool resumed = part.resumed, unpublished = false;
    if (st == BNT_OK) {
        st = fetch_room(f->opts, part.file.fd, f->source.shown, f->size, err);
    }
    if (st == BNT_OK) {
        tell(f, BNT_FETCH_START, part_done_bytes(&part));
        st = transfer_run(&spec, &part, &result, err);
        tell(f, BNT_FETCH_TRANSFERRED, result.received_bytes);
    }
    if (st != BNT_OK) {
        part_keep(&part);
        return st;
    }
    if (result.unchanged) {
        part_drop(&part);
        return take_known(f, err);
    }
    memcpy(e->digest, result.digest, sizeof e->digest);
    memcpy(e->source_tag, result.etag, sizeof e->source_tag);
    if (resumed && f->expected[0] && strcmp(e->digest, f->expected) != 0) {
        *again = true;
    } else {
        st = check_digest(f, err);
        if (st == BNT_OK) {
            st = publish(f, &part.file, err);
            unpublished = st != BNT_OK && part.file.path[0];
        }
        if (st == BNT_OK) {
            note_asked(f, result.validator);
        }
    }
    if (unpublished) { /* the bytes are right, and the next fetch only has to publish them */
        part_keep(&part);
    } else {
        part_drop(&part);
    }
    return st;
}

/* The source and its mirrors. `out->at` is for free(). */
static enum bnt_status list_sources(const struct fetch *f, struct sources *out, struct bnt_err *err)
{
    const struct bnt_fetch_opts *o = f->opts;
    enum bnt_status st = BNT_OK;
    if (o->n_mirrors > BNT_FETCH_MIRRORS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "at most %d mirrors", BNT_FETCH_MIRRORS_MAX);
    }
    out->at = calloc(o->n_mirrors + 1, sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "list of mirrors", o->n_mirrors * sizeof *out->at);
    }
    out->at[0] = f->source;
    out->n = 1 + o->n_mirrors;
    for (size_t i = 0; st == BNT_OK && i < o->n_mirrors; i++) {
        struct source *mirror = &out->at[i + 1];
        st = source_parse(o->mirrors[i], mirror, err);
        if (st == BNT_OK && (!source_is_remote(mirror) || mirror->hub.repo[0])) {
            st = bnt_err_set(err, BNT_E_USAGE,
                             "%.300s: a mirror is https://, http://, s3:// or "
                             "oci://",
                             mirror->shown);
        }
        if (st == BNT_OK) {
            st = settle_mirror(mirror, f->expected, err);
        }
    }
    return st;
}

/* ---- places that hold blobs by digest ---- */

/* Failures of this side, which another place does not mend. */
static bool is_ours(enum bnt_status st)
{
    return st == BNT_E_INTERRUPTED || st == BNT_E_NO_SPACE || st == BNT_E_MEMORY ||
           st == BNT_E_INTERNAL || st == BNT_E_TIME;
}

/* Ask one place, once and without patience; *done says that the content came. What it sent of it
 * stays in the part, for the source to go on from. */
static enum bnt_status bring_from_place(struct fetch *f, const char *key, const char *place,
                                        bool *done, struct bnt_err *err)
{
    struct source at;
    struct bnt_err why = {0};
    struct bnt_fetch_opts opts = *f->opts;
    struct fetch near = *f;
    bool again = false;
    enum bnt_status st = depot_source(place, f->expected, "GET", &at, err);
    if (st != BNT_OK) {
        return st;
    }
    opts.max_attempts = 1;
    opts.max_wait_s = 1;
    opts.connect_timeout_ms = opts.connect_timeout_ms ? opts.connect_timeout_ms : NEAR_CONNECT_MS;
    near.opts = &opts;
    near.source = at; /* whom errors are about */
    st = download_once(&near, key, &(struct sources){&at, 1}, &again, &why);
    *done = st == BNT_OK && !again;
    f->result->entry.source_tag[0] = '\0'; /* it tells states of the source apart, not of this */
    if (is_ours(st)) {
        return bnt_err_copy(err, &why);
    }
    if (!*done && st != BNT_E_NOT_FOUND && f->opts->warn) {
        f->opts->warn(f->opts->warn_ctx, why.msg[0] ? why.msg : "the place has other bytes",
                      "the source is asked instead");
    }
    return BNT_OK;
}

/* The server of BNT_MIRROR, when there is one and the digest is known. */
static enum bnt_status bring_from_near(struct fetch *f, const char *key, bool *done,
                                       struct bnt_err *err)
{
    const char *place = f->opts->near ? f->opts->near : getenv("BNT_MIRROR");
    place = BNT_FAULT(near_ignored) ? NULL : place;
    return place && place[0] && f->expected[0] ? bring_from_place(f, key, place, done, err)
                                               : BNT_OK;
}

/* From all places at once; when one of them spoilt it, from each alone. */
static enum bnt_status bring(struct fetch *f, const char *key, struct bnt_err *err)
{
    struct sources all = {NULL, 0};
    struct bnt_err why = {0};
    bool again = false;
    enum bnt_status st = list_sources(f, &all, &why);
    if (st == BNT_OK) {
        st = download_once(f, key, &all, &again, &why);
    }
    if (st == BNT_OK && again) {
        st = download_once(f, key, &all, &again, &why);
    }
    for (size_t i = 0; st == BNT_E_DIGEST && all.n > 1 && i < all.n; i++) {
        const struct sources one = {&all.at[i], 1};
        why = (struct bnt_err){0};
        again = true;
        st = download_once(f, key, &one, &again, &why);
    }
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = why;
    }
    free(all.at);
    return st;
}

/* Another process may have brought it while we waited; it may also have made the cache, which a
 * handle that is older than the folder does not see. */
static enum bnt_status look_again(struct fetch *f, struct bnt_err *err)
{
    struct bnt_cache *own = f->cache;
    enum bnt_status st = bnt_cache_open(bnt_cache_folder(own), &f->cache, err);
    if (st == BNT_OK) {
        bnt_cache_interrupt(f->cache, f->opts->interrupted);
        st = try_cache(f, err);
        bnt_cache_close(f->cache);
    }
    f->cache = own;
    return st;
}

/* A file of another machine. While one process brings it, others wait, and find it in the cache. */
static enum bnt_status download(struct fetch *f, struct bnt_err *err)
{
    char key[PART_KEY_MAX];
    struct part_lock lock;
    bool done = false;
    enum bnt_status st = part_key(f->expected, f->source.shown, key, err);
    if (st == BNT_OK) {
        st = part_lock_wait(bnt_cache_folder(f->cache), key, f->opts, &lock, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    if (!f->opts->force) {
        st = look_again(f, err);
    }
    if (st == BNT_OK && !f->result->hit) {
        st = bring_from_near(f, key, &done, err);
    }
    if (st == BNT_OK && !f->result->hit && !done) {
        st = bring(f, key, err);
    }
    part_lock_release(&lock);
    return st;
}

/* What is known only now: the signature of a request to S3, and which content a source of the hub
 * or of a registry is, which the cache may have already. */
static enum bnt_status settle(struct fetch *f, struct bnt_err *err)
{
    struct source_facts facts;
    bool have = false, told = f->expected[0] != '\0';
    enum bnt_status st = settle_source(&f->source, f->opts, f->expected, &facts, err);
    f->size = facts.size ? facts.size : f->size;
    if (st == BNT_OK && facts.file[0] && strncmp(facts.file, "sha256:", 7) != 0) {
        const char *slash = strrchr(facts.file, '/');
        keep_file_name(&f->result->entry, slash ? slash + 1 : facts.file);
    }
    if (st == BNT_OK && !told && f->expected[0] && !f->opts->force) {
        st = bnt_cache_has(f->cache, f->expected, &have, err);
    }
    if (st != BNT_OK || !have) {
        return st;
    }
    st = take_if_there(f, err);
    if (st == BNT_OK && f->result->hit) {
        note_asked(f, "");
    }
    return st;
}

static enum bnt_status check_offline(const struct fetch *f, struct bnt_err *err)
{
    if (f->opts->update != BNT_FETCH_UPDATE_NEVER &&
        (!f->opts->offline || !source_is_remote(&f->source))) {
        return BNT_OK;
    }
    const bool never = f->opts->update == BNT_FETCH_UPDATE_NEVER;
    enum bnt_status st =
        bnt_err_set(err, BNT_E_OFFLINE, "%s, and %s%s from %.300s is not in the cache",
                    never ? "update: never" : "offline", f->opts->force ? "a fresh " : "",
                    f->result->entry.name, f->source.shown);
    bnt_err_hint(err, "run once with the network: bnt fetch %.200s", f->source.shown);
    return st;
}

enum bnt_status bnt_fetch_blob(struct bnt_cache *cache, const char *place,
                               const struct bnt_fetch_opts *opts, struct bnt_fetch_result *out,
                               struct bnt_err *err)
{
    struct bnt_fetch_opts own = *opts;
    struct fetch f = {
        .cache = cache, .opts = &own, .size = opts->size, .recalls = true, .result = out};
    own.near = "";
    own.net_dir = bnt_cache_folder(cache);
    own.nameless = true;
    *out = (struct bnt_fetch_result){.hit = false};
    enum bnt_status st = depot_source(place, own.sha256, "GET", &f.source, err);
    if (st == BNT_OK) {
        st = set_expected(&f, err);
    }
    if (st == BNT_OK) {
        st = download(&f, err);
    }
    return st == BNT_OK ? bnt_cache_blob_path(cache, f.expected, out->path, err) : st;
}

/* The digest that the cache would answer with, if it had it here: "" when there is none. */
static enum bnt_status known_digest(struct fetch *f, char digest[BNT_SHA256_HEX],
                                    struct bnt_err *err)
{
    struct bnt_cache_entry row;
    bool found = false;
    memcpy(digest, f->expected, BNT_SHA256_HEX);
    enum bnt_status st = BNT_OK;
    if (!digest[0]) {
        st = bnt_cache_find_name(f->cache, f->result->entry.name, &row, &found, err);
    }
    if (st == BNT_OK && found && row_answers(f, &row)) {
        memcpy(digest, row.digest, BNT_SHA256_HEX);
    }
    return st;
}

/* What the cache has far away comes back from there; when that fails, the source is asked. */
static enum bnt_status recall(struct fetch *f, struct bnt_err *err)
{
    char digest[BNT_SHA256_HEX];
    struct bnt_cache_cold cold;
    struct bnt_fetch_result back;
    struct bnt_err why = {0};
    bool is_cold = false;
    enum bnt_status st = known_digest(f, digest, err);
    if (st == BNT_OK && digest[0]) {
        st = bnt_cache_cold(f->cache, digest, &cold, &is_cold, err);
    }
    if (st != BNT_OK || !is_cold) {
        return st;
    }
    struct bnt_fetch_opts opts = *f->opts;
    opts.sha256 = digest;
    opts.size = cold.size;
    opts.n_mirrors = 0;
    st = bnt_fetch_blob(f->cache, cold.place, &opts, &back, &why);
    if (st == BNT_OK) {
        return try_cache(f, err);
    }
    if (is_ours(st)) {
        return bnt_err_copy(err, &why);
    }
    if (f->opts->warn) {
        f->opts->warn(f->opts->warn_ctx, why.msg, "the source is asked instead");
    }
    return BNT_OK;
}

enum bnt_status bnt_fetch(struct bnt_cache *cache, const char *source,
                          const struct bnt_fetch_opts *opts, struct bnt_fetch_result *out,
                          struct bnt_err *err)
{
    struct bnt_fetch_opts own = *opts;
    struct fetch f = {.cache = cache,
                      .opts = &own,
                      .size = opts->size,
                      .result = out,
                      .began_s = bnt_clock_unix_s()};
    own.net_dir = bnt_cache_folder(cache);
    enum bnt_status st = prepare(&f, source, err);
    if (st == BNT_OK && !opts->force) {
        st = try_cache(&f, err);
    }
    if (st == BNT_OK && !out->hit && !opts->force && !opts->offline) {
        st = recall(&f, err);
    }
    if (st == BNT_OK && !out->hit && opts->update == BNT_FETCH_UPDATE_NEVER) {
        st = check_offline(&f, err);
    }
    if (st == BNT_OK && !out->hit) {
        st = settle(&f, err);
    }
    if (st == BNT_OK && !out->hit) {
        st = check_offline(&f, err);
        if (st == BNT_OK) {
            st = source_is_remote(&f.source) ? download(&f, err) : copy(&f, err);
        }
    }
    if (st == BNT_E_TIME && err && source_is_remote(&f.source)) {
        err->hint[0] = '\0';
        bnt_err_hint(err,
                     "what has arrived is kept: run the same command again and it goes on from "
                     "there, or give it more time with --timeout");
    }
    if (st == BNT_OK) { /* what the cache had already */
        st = fetch_room_memory(opts, f.source.shown, out->entry.size, err);
    }
    return st == BNT_OK ? bnt_cache_blob_path(cache, out->entry.digest, out->path, err) : st;
}
