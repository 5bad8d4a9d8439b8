/* `bnt fetch`: bring a model into the cache and say where it lies. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "fetch/bnt_fetch.h"
#include "fetch/commands.h"

struct fetch_cmd_opts {
    const char *name, *sha256;
    bool offline, force, json, quiet;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "name",
     .arg = "NAME",
     .help = "what to call it [the file's name without .gguf]",
     .offset = offsetof(struct fetch_cmd_opts, name)},
    {.kind = BNT_OPT_STR,
     .long_name = "sha256",
     .arg = "HEX",
     .help = "the digest that the file must have",
     .offset = offsetof(struct fetch_cmd_opts, sha256)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "offline",
     .help = "use no network; what is not in the cache is exit code 15",
     .offset = offsetof(struct fetch_cmd_opts, offline)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "force",
     .help = "fetch again, and let the name move to this source",
     .offset = offsetof(struct fetch_cmd_opts, force)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct fetch_cmd_opts, json)},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'q',
     .long_name = "quiet",
     .help = "no notes and no progress",
     .offset = offsetof(struct fetch_cmd_opts, quiet)},
    BNT_OPT_END,
};

static void show_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct bnt_progress *p = ctx;
    p->total = total_bytes;
    bnt_progress_update(p, done_bytes);
}

static enum bnt_status print_json(const struct bnt_fetch_result *r)
{
    const struct bnt_cache_entry *e = &r->entry;
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:b}", "name", e->name, "path", r->path, "digest",
                  e->digest, "size", (json_int_t)e->size, "source", e->source, "hit", (int)r->hit);
    int rc = value ? json_dumpf(value, stdout, JSON_INDENT(2)) : -1;
    putchar('\n');
    json_decref(value);
    return rc == 0 ? BNT_OK : bnt_msg_fail(BNT_E_MEMORY, NULL, "the JSON answer could not be made");
}

static enum bnt_status report(const struct fetch_cmd_opts *o, const struct bnt_fetch_result *r)
{
    const struct bnt_cache_entry *e = &r->entry;
    if (!o->quiet && r->hit) {
        bnt_msg_note("%s is in the cache already, from %s", e->name, e->source);
    } else if (!o->quiet) {
        bnt_msg_note("%s: %.1f MB from %s, sha256 %.12s", e->name, (double)e->size / 1e6, e->source,
                     e->digest);
    }
    if (o->json) {
        return print_json(r);
    }
    puts(r->path);
    return BNT_OK;
}

static enum bnt_status run_fetch(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct fetch_cmd_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_progress progress;
    struct bnt_fetch_result result;
    struct bnt_cache *cache;
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt fetch SOURCE, for example: bnt fetch bundled:",
                            "one source is needed, %d given", argc);
    }
    struct bnt_fetch_opts fetch = {
        .name = o->name,
        .sha256 = o->sha256,
        .offline = o->offline,
        .force = o->force,
        .interrupted = app->interrupted,
        .progress = o->quiet ? NULL : show_progress,
        .ctx = &progress,
    };
    if (bnt_cache_open(NULL, &cache, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    bnt_progress_begin(&progress, "fetching", 0, true);
    enum bnt_status st = bnt_fetch(cache, argv[0], &fetch, &result, &err);
    bnt_progress_end(&progress);
    bnt_cache_close(cache);
    return st == BNT_OK ? report(o, &result) : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_fetch = {
    .name = "fetch",
    .synopsis = "[OPTIONS] SOURCE",
    .summary = "bring a model into the cache",
    .description =
        "SOURCE is bundled: (the model that comes with bnt), a path, file:///PATH,\n"
        "https://HOST/PATH, or http://HOST/PATH together with --sha256. The bytes are hashed\n"
        "while they arrive and enter the cache only when they are whole and the digest is\n"
        "right. The path of the file is printed on standard output.\n"
        "\n"
        "A name that is in the cache already, from the same source, is answered without the\n"
        "network. A local file is read again when its size or time has changed, a remote one\n"
        "with --force.\n"
        "\n"
        "Exit codes by cause: 8 not found, 10 no space, 11 authorisation, 12 rate limited,\n"
        "13 digest differs, 14 network, 15 offline and not in the cache. SSL_CERT_FILE,\n"
        "SSL_CERT_DIR, CURL_CA_BUNDLE, the proxy variables and ~/.netrc are honoured.",
    .examples = "  bnt fetch bundled:                            # the bundled model, as "
                "tinystories-bitnet\n"
                "  bnt fetch ./ggml-model-i2_s.gguf --name 2b    # a file that is already here\n"
                "  bnt fetch https://example.org/m.gguf          # as m\n"
                "  bnt fetch https://example.org/m.gguf --sha256 $DIGEST   # this content or none\n"
                "  bnt infer -m 2b -p Hello                      # every command takes the name",
    .opts = options,
    .opts_size = sizeof(struct fetch_cmd_opts),
    .run = run_fetch,
};
