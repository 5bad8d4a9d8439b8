/* `bnt cache push|pull`: to the cold tier and back. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/msg.h"
#include "cache/cmd_cache_impl.h"

struct push_cmd_opts {
    const char *cold;
    bool move;
};

static const struct bnt_opt push_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "cold",
     .arg = "URL",
     .help = "where to: http://HOST:PORT, https://HOST/PATH, s3://BUCKET/PREFIX [that of BNT_COLD]",
     .offset = offsetof(struct push_cmd_opts, cold)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "move",
     .help = "then drop the copy that is here; the next use brings it back",
     .offset = offsetof(struct push_cmd_opts, move)},
    BNT_OPT_END,
};

enum bnt_status cmd_cache_cold_place(const struct bnt_app *app, const char *option,
                                     struct bnt_cache_push_opts *out)
{
    char kept[BNT_PLACE_MAX];
    struct bnt_err err = {0};
    const char *place = option ? option : getenv("BNT_COLD");
    if (!place || !place[0]) {
        return bnt_msg_fail(BNT_E_USAGE,
                            "give --cold URL, or set BNT_COLD: http://HOST:PORT, https://HOST/PATH "
                            "or s3://BUCKET/PREFIX",
                            "there is no cold tier");
    }
    if (app->network->place(place, kept, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    *out = (struct bnt_cache_push_opts){.network = app->network, .place = place};
    return BNT_OK;
}

static enum bnt_status push_one(struct bnt_cache *cache, const char *key,
                                const struct bnt_cache_push_opts *push)
{
    struct bnt_err err = {0};
    struct bnt_cache_entry e;
    struct bnt_cache_pushed p = {.sent_bytes = 0};
    enum bnt_status st = bnt_cache_find(cache, key, &e, &err);
    if (st == BNT_OK) {
        st = bnt_cache_push(cache, &e, push, &p, &err);
    }
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    if (p.in_use) {
        return bnt_msg_fail(BNT_E_FAILED, "end the program that has it open, then try again",
                            "cache: %s is far away, too, and stays here: a process uses it", key);
    }
    bnt_msg_note("%s: %.1f MB %s, read back and right%s", key, (double)e.size / 1e6,
                 p.sent_bytes ? "sent" : "were there", p.moved ? "; dropped here" : "");
    return BNT_OK;
}

static enum bnt_status run_push(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct push_cmd_opts *o = opts;
    struct bnt_cache *cache = NULL;
    struct bnt_cache_push_opts push;
    enum bnt_status st = cmd_cache_cold_place(app, o->cold, &push);
    if (st == BNT_OK) {
        push.move = o->move;
        st = cmd_cache_open_for_names(app, argc, &cache);
    }
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        st = push_one(cache, argv[i], &push);
    }
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_push = {
    .name = "push",
    .synopsis = "[--cold URL] [--move] NAME...",
    .summary = "copy models to the cold tier",
    .description =
        "Sends what is not there yet, reads it back, and remembers it only when every byte was\n"
        "right. With --move the local copy goes then, and not before. The cold tier is a server\n"
        "of bnt cache serve --writable, any server that takes PUT, or S3. BNT_CACHE_TOKEN is sent\n"
        "to servers; keys for S3 are those of bnt fetch s3://.",
    .examples = "  bnt cache push --cold http://depot:8417 --move bitnet-2b\n"
                "  BNT_COLD=s3://models/ci bnt cache push bitnet-2b",
    .opts = push_options,
    .opts_size = sizeof(struct push_cmd_opts),
    .run = run_push,
};

static enum bnt_status run_pull(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_cache *cache = NULL;
    enum bnt_status st = cmd_cache_open_for_names(app, argc, &cache);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        struct bnt_err err = {0};
        struct bnt_cache_entry e;
        st = bnt_cache_find(cache, argv[i], &e, &err);
        if (st == BNT_OK) {
            st = bnt_cache_pull(cache, &e, bnt_app_offline() ? NULL : app->network, &err);
        }
        if (st != BNT_OK) {
            st = bnt_msg_error(&err);
        } else {
            bnt_msg_note("%s: %.1f MB are here", argv[i], (double)e.size / 1e6);
        }
    }
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_pull = {
    .name = "pull",
    .synopsis = "NAME...",
    .summary = "bring models back from the cold tier",
    .description = "What a use does by itself: bnt path, bnt fetch and -m NAME bring a cold model\n"
                   "back, too. Only bytes that have the digest enter.",
    .run = run_pull,
};
