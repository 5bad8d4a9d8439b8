/* `bnt fetch`: bring models into the cache and say where they lie: sources, or models of a
 * manifest.
 */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "fetch/bnt_fetch.h"
#include "fetch/commands.h"
#include "fetch/project.h"
#include "fetch/unpack.h"

struct fetch_cmd_opts {
    const char *name, *sha256, *manifest, *group, *unpack;
    struct bnt_strs mirrors;
    int64_t connections;
    uint64_t limit_bytes_s;
    bool locked, frozen, offline, force, json, quiet;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "name",
     .arg = "NAME",
     .help = "what to call a SOURCE [the file's name without .gguf]",
     .offset = offsetof(struct fetch_cmd_opts, name)},
    {.kind = BNT_OPT_STR,
     .long_name = "sha256",
     .arg = "HEX",
     .help = "the digest that a SOURCE must have",
     .offset = offsetof(struct fetch_cmd_opts, sha256)},
    {.kind = BNT_OPT_STR,
     .long_name = "manifest",
     .arg = "FILE",
     .help = "the manifest [bnt.yml in this folder or the nearest above]",
     .offset = offsetof(struct fetch_cmd_opts, manifest)},
    {.kind = BNT_OPT_STR,
     .long_name = "group",
     .arg = "GROUP",
     .help = "the models of the manifest that are in this group",
     .offset = offsetof(struct fetch_cmd_opts, group)},
    {.kind = BNT_OPT_STR,
     .long_name = "unpack",
     .arg = "DIR",
     .help = "unpack the archive that is fetched into the new folder DIR, and print that",
     .offset = offsetof(struct fetch_cmd_opts, unpack)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "locked",
     .help = "bnt.lock must be up to date; exit code 20 when it is not",
     .offset = offsetof(struct fetch_cmd_opts, locked)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "offline",
     .help = "use no network; what is not in the cache is exit code 15",
     .offset = offsetof(struct fetch_cmd_opts, offline)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "frozen",
     .help = "--locked and --offline",
     .offset = offsetof(struct fetch_cmd_opts, frozen)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "force",
     .help = "fetch again, and let the name move to this source",
     .offset = offsetof(struct fetch_cmd_opts, force)},
    {.kind = BNT_OPT_LIST,
     .long_name = "mirror",
     .arg = "URL",
     .help = "another place of the one SOURCE; needs --sha256 (may be given many times)",
     .offset = offsetof(struct fetch_cmd_opts, mirrors)},
    {.kind = BNT_OPT_INT,
     .long_name = "connections",
     .arg = "N",
     .help = "at most so many at a time",
     .offset = offsetof(struct fetch_cmd_opts, connections),
     .def = "4",
     .min = 1,
     .max = 16},
    {.kind = BNT_OPT_SIZE,
     .long_name = "limit-rate",
     .arg = "BYTES",
     .help = "per second and file, all connections together [no limit]",
     .offset = offsetof(struct fetch_cmd_opts, limit_bytes_s)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output: of one SOURCE an object, else a list",
     .offset = offsetof(struct fetch_cmd_opts, json)},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'q',
     .long_name = "quiet",
     .help = "no notes and no progress",
     .offset = offsetof(struct fetch_cmd_opts, quiet)},
    BNT_OPT_END,
};

/* One run. */
struct fetching {
    const struct fetch_cmd_opts *o;
    struct project_opts opts;
    struct project project;
    bool have_project;
    json_t *results; /* of --json */
    const volatile sig_atomic_t *interrupted;
    struct bnt_progress progress;
};

static void show_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct bnt_progress *p = ctx;
    p->total = total_bytes;
    bnt_progress_update(p, done_bytes);
}

/* ---- what is printed ---- */

static enum bnt_status keep_json(struct fetching *f, const struct bnt_fetch_result *r)
{
    const struct bnt_cache_entry *e = &r->entry;
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:b}", "name", e->name, "path", r->path, "digest",
                  e->digest, "size", (json_int_t)e->size, "source", e->source, "hit", (int)r->hit);
    if (f->o->unpack) {
        (void)json_object_set_new(value, "unpacked", json_string(f->o->unpack));
    }
    return json_array_append_new(f->results, value) == 0
               ? BNT_OK
               : bnt_msg_fail(BNT_E_MEMORY, NULL, "the JSON answer could not be made");
}

/* Under --unpack: what came, in a folder. */
static enum bnt_status unpack_result(struct fetching *f, const struct bnt_fetch_result *r)
{
    static const struct unpack_limits limits = UNPACK_LIMITS;
    struct unpack_count count;
    struct bnt_err err = {0};
    if (!f->o->unpack) {
        return BNT_OK;
    }
    if (unpack(r->path, f->o->unpack, &limits, f->interrupted, &count, &err) != BNT_OK) {
        (void)bnt_err_context(&err, "%s", r->entry.name);
        return bnt_msg_error(&err);
    }
    if (!f->o->quiet) {
        bnt_msg_note("%s: %llu files, %.1f MB", f->o->unpack, (unsigned long long)count.files,
                     (double)count.bytes / 1e6);
    }
    return BNT_OK;
}

static enum bnt_status report(struct fetching *f, const struct bnt_fetch_result *r)
{
    const struct bnt_cache_entry *e = &r->entry;
    if (!f->o->quiet && r->hit) {
        bnt_msg_note("%s is in the cache already, from %s", e->name, e->source);
    } else if (!f->o->quiet) {
        bnt_msg_note("%s: %.1f MB from %s, sha256 %.12s", e->name, (double)e->size / 1e6, e->source,
                     e->digest);
    }
    enum bnt_status st = unpack_result(f, r);
    if (st == BNT_OK && f->o->json) {
        return keep_json(f, r);
    }
    if (st == BNT_OK) {
        puts(f->o->unpack ? f->o->unpack : r->path);
    }
    return st;
}

/* The one result alone, or all in a list. */
static enum bnt_status print_json(const struct fetching *f, bool alone)
{
    const json_t *value = alone ? json_array_get(f->results, 0) : f->results;
    int rc = json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    return rc == 0 ? BNT_OK : bnt_msg_fail(BNT_E_MEMORY, NULL, "the JSON answer could not be made");
}

/* ---- sources and models ---- */

static enum bnt_status bring_source(struct fetching *f, const char *source)
{
    struct bnt_err err = {0};
    struct bnt_fetch_result result;
    if (f->o->locked || f->o->frozen) {
        return bnt_msg_fail(BNT_E_USAGE, "a SOURCE is held to its content by --sha256 HEX",
                            "--locked and --frozen are for models of a manifest; '%.80s' is none",
                            source);
    }
    bnt_progress_begin(&f->progress, "fetching", 0, true);
    enum bnt_status st = bnt_fetch(f->opts.cache, source, &f->opts.fetch, &result, &err);
    bnt_progress_end(&f->progress);
    return st == BNT_OK ? report(f, &result) : bnt_msg_error(&err);
}

/* Bring the lock's entry up to date, or under --locked find that it is. */
static enum bnt_status settle_lock(struct fetching *f, const struct manifest_model *model,
                                   struct bnt_err *err)
{
    if (f->o->locked || f->o->frozen) {
        return project_check(&f->project, model, err);
    }
    bnt_progress_begin(&f->progress, model->name, 0, true);
    enum bnt_status st = project_lock(&f->project, model, false, &f->opts, err);
    bnt_progress_end(&f->progress);
    return st == BNT_OK ? lockfile_write(&f->project.lock, err) : st;
}

static enum bnt_status bring_model(struct fetching *f, const struct manifest_model *model)
{
    struct bnt_err err = {0};
    if (f->o->unpack && model->n_files != 1) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "--unpack belongs to one archive; %s has %zu files",
                            model->name, model->n_files);
    }
    enum bnt_status st = settle_lock(f, model, &err);
    for (size_t i = 0; st == BNT_OK && i < model->n_files; i++) {
        struct bnt_fetch_result result;
        bnt_progress_begin(&f->progress, model->files[i].cache_name, 0, true);
        st = project_fetch(&f->project, model, i, &f->opts, &result, &err);
        bnt_progress_end(&f->progress);
        if (st == BNT_OK) {
            st = report(f, &result);
        }
    }
    return st == BNT_OK || err.status == BNT_OK ? st : bnt_msg_error(&err);
}

static enum bnt_status bring_all(struct fetching *f)
{
    const struct manifest *m = &f->project.manifest;
    struct bnt_err err = {0};
    size_t chosen = 0;
    enum bnt_status st = BNT_OK;
    if (f->o->locked || f->o->frozen) {
        st = project_check(&f->project, NULL, &err);
    } else {
        lockfile_prune(&f->project.lock, m);
        st = lockfile_write(&f->project.lock, &err);
    }
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    for (size_t i = 0; st == BNT_OK && i < m->n_models; i++) {
        if (!f->o->group || manifest_in_group(&m->models[i], f->o->group)) {
            chosen++;
            st = bring_model(f, &m->models[i]);
        }
    }
    if (st == BNT_OK && chosen == 0 && f->o->group) {
        return bnt_msg_fail(BNT_E_NOT_FOUND, "groups are written below a model: groups: [NAME]",
                            "no model of %s is in the group '%s'", m->shown, f->o->group);
    }
    return st;
}

/* ---- operands ---- */

static enum bnt_status open_project(struct fetching *f)
{
    struct bnt_err err = {0};
    if (f->have_project) {
        return BNT_OK;
    }
    f->have_project = project_open(&f->project, f->o->manifest, &err) == BNT_OK;
    return f->have_project ? BNT_OK : bnt_msg_error(&err);
}

/* Whether an operand is to be looked up in a manifest: it could be a name, and there is one. */
static bool ask_manifest(const struct fetching *f, const char *operand)
{
    char path[BNT_PATH_MAX];
    bool found = f->o->manifest != NULL || f->have_project;
    if (bnt_cache_name_ok(operand) && !found) {
        (void)manifest_find(path, &found, NULL);
    }
    return bnt_cache_name_ok(operand) && found;
}

static enum bnt_status bring_operand(struct fetching *f, const char *operand)
{
    struct bnt_err err = {0};
    const struct manifest_model *model;
    if (!ask_manifest(f, operand)) {
        return bring_source(f, operand);
    }
    enum bnt_status st = open_project(f);
    if (st != BNT_OK) {
        return st;
    }
    if (project_model(&f->project, operand, &model, &err) == BNT_OK) {
        if (f->o->mirrors.n > 0) {
            return bnt_msg_fail(BNT_E_USAGE, "write them into the manifest, as mirrors",
                                "--mirror belongs to a SOURCE; %.80s is a NAME", operand);
        }
        return bring_model(f, model);
    }
    return access(operand, F_OK) == 0 ? bring_source(f, operand) : bnt_msg_error(&err);
}

static enum bnt_status check_usage(const struct fetch_cmd_opts *o, int argc)
{
    if (argc != 1 && (o->name || o->sha256)) {
        return bnt_msg_fail(BNT_E_USAGE, "for example: bnt fetch m.gguf --name m",
                            "--name and --sha256 belong to one SOURCE");
    }
    struct stat sb;
    if (o->mirrors.n > 0 && !o->sha256) {
        return bnt_msg_fail(BNT_E_USAGE, "give the digest that all of them have: --sha256 HEX",
                            "--mirror needs --sha256: nothing else says that it is the same file");
    }
    if (o->unpack && argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "for example: bnt fetch m.tar.zst --unpack models",
                            "--unpack belongs to one archive");
    }
    if (o->unpack && lstat(o->unpack, &sb) == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "name a folder that is not there yet",
                            "%s exists; archives go into a new folder", o->unpack);
    }
    if (argc > 0 && o->group) {
        return bnt_msg_fail(BNT_E_USAGE,
                            "write either: bnt fetch --group GROUP, or: bnt fetch NAME",
                            "--group and operands do not go together");
    }
    return BNT_OK;
}

/* No operand: the whole manifest. */
static enum bnt_status bring_manifest(struct fetching *f)
{
    char path[BNT_PATH_MAX];
    bool found = f->o->manifest != NULL;
    struct bnt_err err = {0};
    if (!found && manifest_find(path, &found, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    if (!found) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt fetch SOURCE, for example: bnt fetch bundled:",
                            "no source is given, and there is no %s here or above", MANIFEST_FILE);
    }
    enum bnt_status st = open_project(f);
    return st == BNT_OK ? bring_all(f) : st;
}

static enum bnt_status run_fetch(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct fetch_cmd_opts *o = opts;
    struct fetching f = {
        .o = o, .opts = {.warn = bnt_msg_warn_fn}, .interrupted = app->interrupted};
    struct bnt_err err = {0};
    enum bnt_status st = check_usage(o, argc);
    if (st != BNT_OK) {
        return st;
    }
    f.opts.fetch = (struct bnt_fetch_opts){
        .name = o->name,
        .sha256 = o->sha256,
        .offline = o->offline || o->frozen,
        .force = o->force,
        .mirrors = o->mirrors.at,
        .n_mirrors = o->mirrors.n,
        .connections = (uint32_t)o->connections,
        .limit_bytes_s = o->limit_bytes_s,
        .interrupted = app->interrupted,
        .progress = o->quiet ? NULL : show_progress,
        .ctx = &f.progress,
    };
    if (bnt_cache_open(NULL, &f.opts.cache, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    f.results = json_array();
    st = argc == 0 ? bring_manifest(&f) : BNT_OK;
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        st = bring_operand(&f, argv[i]);
    }
    if (st == BNT_OK && o->json) {
        st = print_json(&f, argc == 1 && !f.have_project);
    }
    json_decref(f.results);
    if (f.have_project) {
        project_release(&f.project);
    }
    bnt_cache_close(f.opts.cache);
    return st;
}

const struct bnt_cmd bnt_cmd_fetch = {
    .name = "fetch",
    .synopsis = "[OPTIONS] [NAME|SOURCE]...",
    .summary = "bring models into the cache",
    .description =
        "Without an operand: every model of the manifest bnt.yml, or of one --group of it.\n"
        "NAME is a model of the manifest. What bnt.lock says of a model is what comes, or\n"
        "nothing; a model that is new in the manifest is added to it, unless --locked.\n"
        "\n"
        "SOURCE is bundled: (the model that comes with bnt), a path, file:///PATH,\n"
        "https://HOST/PATH, http://HOST/PATH together with --sha256, s3://BUCKET/KEY, of a\n"
        "registry oci://HOST/REPO[:TAG][@sha256:DIGEST][#FILE], or of the model hub\n"
        "hf://ORG/REPO[@REVISION]/FILE or ORG/REPO[:QUANT]. The bytes are hashed while they\n"
        "arrive and enter the cache only when they are whole and the digest is right. The path\n"
        "of each file is printed on standard output.\n"
        "\n"
        "A name that is in the cache already, from the same source, is answered without the\n"
        "network. A local file is read again when its size or time has changed, a remote one\n"
        "with --force.\n"
        "\n"
        "What may pass is tried again, and what has arrived is kept: the next attempt, or the\n"
        "next process, goes on where it ended. Mirrors are used together, the healthy ones\n"
        "first, and stand in for each other.\n"
        "\n"
        "--unpack takes tar, tar.gz, tar.zst and zip. Only regular files and folders come out,\n"
        "below the new folder; an archive with anything else in it is refused as a whole.\n"
        "\n"
        "Exit codes by cause: 8 not found, 10 no space, 11 authorisation, 12 rate limited,\n"
        "13 digest differs, 14 network, 15 offline and not in the cache, 20 bnt.lock is not up\n"
        "to date, 21 the server failed too often lately (bnt mirror status). SSL_CERT_FILE,\n"
        "SSL_CERT_DIR, CURL_CA_BUNDLE, the proxy variables and ~/.netrc are honoured.",
    .examples =
        "  bnt fetch hf://org/repo/m.gguf                # from the model hub, as m\n"
        "  bnt fetch oci://ghcr.io/org/m:v1              # the GGUF of an artifact, as m-v1\n"
        "  bnt fetch --locked                            # in CI: what bnt.lock says\n"
        "  bnt fetch --group nightly                     # some models of bnt.yml\n"
        "  bnt fetch bundled:                            # the bundled model, as "
        "tinystories-bitnet\n"
        "  bnt fetch ./ggml-model-i2_s.gguf --name 2b    # a file that is already here\n"
        "  bnt fetch https://example.org/m.gguf          # as m\n"
        "  bnt fetch https://example.org/m.gguf --sha256 $DIGEST   # this content or none\n"
        "  bnt fetch https://a.org/m.gguf --sha256 $DIGEST --mirror https://b.org/m.gguf\n"
        "  bnt infer -m 2b -p Hello                      # every command takes the name",
    .opts = options,
    .opts_size = sizeof(struct fetch_cmd_opts),
    .run = run_fetch,
};
