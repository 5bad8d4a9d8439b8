/* First the names that there could be, then one look at what is there. */
#include "fetch/family.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fault.h"
#include "fetch/hub.h"

/* In the order in which they are fetched. */
static const char *const companions_known[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
};
enum { N_COMPANIONS = sizeof companions_known / sizeof companions_known[0] };

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool ends_in(const char *path, const char *ending)
{
    const size_t n = strlen(path), k = strlen(ending);
    return n > k && strcasecmp(path + n - k, ending) == 0;
}

/* "-00001-of-00003" before the ending; its offset, or 0. */
static size_t shard_mark(const char *path, unsigned *k, unsigned *n)
{
    enum { MARK = 15 };
    const char *dot = strrchr(path, '.');
    const size_t at = dot ? (size_t)(dot - path) : 0;
    if (at <= MARK || (!ends_in(path, ".gguf") && !ends_in(path, ".safetensors"))) {
        return 0;
    }
    const char *mark = path + at - MARK;
    for (size_t i = 0; i < MARK; i++) {
        const char want = "-00000-of-00000"[i];
        if (want == '0' ? !isdigit((unsigned char)mark[i]) : mark[i] != want) {
            return 0;
        }
    }
    *k = (unsigned)strtoul(mark + 1, NULL, 10);
    *n = (unsigned)strtoul(mark + 10, NULL, 10);
    return *k >= 1 && *k <= *n ? at - MARK : 0;
}

bool family_shard(const char *path, unsigned *k, unsigned *n)
{
    return shard_mark(path, k, n) > 0;
}

bool family_needs_companions(const char *path)
{
    return ends_in(path, ".safetensors");
}

bool family_by_itself(const char *path)
{
    unsigned k, n;
    return (family_shard(path, &k, &n) && n > 1) || family_needs_companions(path);
}

/* ---- names that there could be ---- */

struct wanted {
    struct family *all;
    bool *there;
    size_t n_shards; /* the first of them, which must be there */
};

static enum bnt_status list_wanted(const char *path, bool companions, struct wanted *w,
                                   struct bnt_err *err)
{
    unsigned k = 1, n = 1;
    const size_t mark = shard_mark(path, &k, &n);
    const int folder = (int)(base_of(path) - path);
    if (k != 1 || n > FAMILY_SHARDS_MAX) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE, "%.200s is part %u of %u of a model", path, k, n);
        bnt_err_hint(err, "name the first part; the others, up to %d, come with it",
                     FAMILY_SHARDS_MAX);
        return st;
    }
    w->all->at = calloc(n + N_COMPANIONS, sizeof *w->all->at);
    w->there = calloc(n + N_COMPANIONS, sizeof *w->there);
    if (!w->all->at || !w->there) {
        return bnt_err_nomem(err, "list of files", (n + N_COMPANIONS) * sizeof *w->all->at);
    }
    for (unsigned i = 2; i <= n; i++) {
        snprintf(w->all->at[w->all->n++], FAMILY_PATH_MAX, "%.*s-%05u-of-%05u%s", (int)mark, path,
                 i, n, strrchr(path, '.'));
    }
    w->n_shards = w->all->n;
    companions = companions && !BNT_FAULT(family_companions);
    for (size_t i = 0; companions && i < N_COMPANIONS; i++) {
        snprintf(w->all->at[w->all->n++], FAMILY_PATH_MAX, "%.*s%s", folder, path,
                 companions_known[i]);
    }
    return BNT_OK;
}

/* ---- what is there ---- */

static void mark_listed(void *ctx, const char *path)
{
    struct wanted *w = ctx;
    for (size_t i = 0; i < w->all->n; i++) {
        w->there[i] = w->there[i] || strcmp(w->all->at[i], path) == 0;
    }
}

/* In the folder of a file of this machine. */
static void mark_local(struct wanted *w, const char *file)
{
    const int folder = (int)(base_of(file) - file);
    for (size_t i = 0; i < w->all->n; i++) {
        char path[BNT_PATH_MAX];
        w->there[i] =
            bnt_path_format(path, NULL, "%.*s%s", folder, file, base_of(w->all->at[i])) == BNT_OK &&
            access(path, F_OK) == 0;
    }
}

static enum bnt_status keep_there(struct wanted *w, struct bnt_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < w->all->n; i++) {
        if (!w->there[i] && i < w->n_shards && !BNT_FAULT(missing_shard)) {
            enum bnt_status st =
                bnt_err_set(err, BNT_E_NOT_FOUND, "%.300s is not there", w->all->at[i]);
            bnt_err_hint(err, "the model is cut into %zu files, and this one is missing",
                         w->n_shards + 1);
            return st;
        }
        if (w->there[i]) {
            memmove(w->all->at[n++], w->all->at[i], FAMILY_PATH_MAX);
        }
    }
    w->all->n = n;
    return BNT_OK;
}

enum bnt_status family_find(const struct source *s, const char *path, bool companions,
                            const struct bnt_fetch_opts *opts, struct family *out,
                            struct bnt_err *err)
{
    struct wanted w = {.all = out};
    *out = (struct family){0};
    enum bnt_status st = list_wanted(path, companions, &w, err);
    if (st == BNT_OK && s->hub.repo[0]) {
        st = hub_list(&s->hub, opts, mark_listed, &w, err);
    } else if (st == BNT_OK && s->kind == SOURCE_FILE) {
        mark_local(&w, s->path);
    } else if (st == BNT_OK) {
        st =
            bnt_err_set(err, BNT_E_USAGE, "%.300s: what lies beside it cannot be listed", s->shown);
        bnt_err_hint(err, "name the files in the manifest: files: [FILE, FILE]");
    }
    st = st == BNT_OK ? keep_there(&w, err) : st;
    free(w.there);
    if (st != BNT_OK) {
        family_release(out);
    }
    return st;
}

void family_release(struct family *f)
{
    free(f->at);
    *f = (struct family){0};
}
