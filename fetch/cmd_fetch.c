/* `bnt fetch`: bring models into the cache and say where they lie: sources, or models of a
 * manifest.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/msg.h"
#include "base/opt.h"
#include "base/sysinfo.h"
#include "fetch/bnt_fetch.h"
#include "fetch/cmd_deadline.h"
#include "fetch/cmd_fetch_tell.h"
#include "fetch/commands.h"
#include "fetch/family.h"
#include "fetch/fetch_room.h"
#include "fetch/project.h"
#include "fetch/project_needs.h"
#include "fetch/settle.h"
#include "fetch/source.h"
#include "fetch/unpack.h"

struct fetch_cmd_opts {
    const char *name, *sha256, *manifest, *group, *unpack, *timeout, *near, *update, *target;
    struct bnt_strs mirrors;
    int64_t connections;
    uint64_t limit_bytes_s;
    bool locked, frozen, offline, force, with_tokenizer, json, quiet;
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
     .help = "use no network; what is not in the cache is exit code 15 [BNT_OFFLINE=1]",
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
    {.kind = BNT_OPT_STR,
     .long_name = "mirror-cache",
     .arg = "URL",
     .help = "a server of bnt cache serve that is asked first, by digest [that of BNT_MIRROR]",
     .offset = offsetof(struct fetch_cmd_opts, near)},
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
     .long_name = "with-tokenizer",
     .help = "of a SOURCE: tokenizer, template and configuration beside it, too",
     .offset = offsetof(struct fetch_cmd_opts, with_tokenizer)},
    {.kind = BNT_OPT_STR,
     .long_name = "update",
     .arg = "POLICY",
     .help = "when a source is asked for something new [what the manifest says, or if-missing]",
     .choices = BNT_FETCH_UPDATE_WORDS,
     .offset = offsetof(struct fetch_cmd_opts, update)},
    {.kind = BNT_OPT_STR,
     .long_name = "for",
     .arg = "TARGET",
     .help = "where it is to run; wasm32 can hold 100 MB, more is exit code 18",
     .choices = "native|wasm32",
     .offset = offsetof(struct fetch_cmd_opts, target)},
    {.kind = BNT_OPT_STR,
     .long_name = "timeout",
     .arg = "TIME",
     .help = CMD_DEADLINE_HELP,
     .offset = offsetof(struct fetch_cmd_opts, timeout)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "events on standard output, one JSON object per line; the last is the result",
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
    const volatile sig_atomic_t *interrupted;
    struct fetch_tell tell;
    struct project_machine machine;
    struct digest_list came; /* digests of all that was fetched */
    uint64_t began_ns;
    enum bnt_status first; /* why the first that failed did */
    size_t n_wanted, n_failed;
    struct bnt_buf failed;            /* their names, as far as they fit */
    char label[BNT_CACHE_SOURCE_MAX]; /* of the operand at hand */
};

/* ---- time ---- */

static enum bnt_status settle_timeout(struct fetching *f, struct bnt_err *err)
{
    const struct cmd_deadline d = {
        .option = f->o->timeout,
        .manifest_s = f->have_project ? f->project.manifest.timeout_s : 0,
        .began_ns = f->began_ns,
        .json = f->o->json,
    };
    return cmd_deadline_set(&d, &f->opts.fetch, err);
}

/* ---- one of several ---- */

/* Note how one went. Whether the next one is to be fetched: an end that the user or the clock
 * wants is one for all. */
static bool go_on(struct fetching *f, const char *name, enum bnt_status st)
{
    f->n_wanted++;
    if (st != BNT_OK) {
        f->first = f->first == BNT_OK ? st : f->first;
        (void)bnt_buf_printf(&f->failed, NULL, "%s%.80s", f->n_failed ? ", " : "", name);
        f->n_failed++;
    }
    return st != BNT_E_INTERRUPTED && st != BNT_E_TIME &&
           !(st != BNT_OK && BNT_FAULT(first_failure));
}

/* What has failed among several. */
static void summarise(const struct fetching *f)
{
    if (f->n_wanted > 1 && f->n_failed > 0) {
        bnt_msg_warn(f->n_failed < f->n_wanted ? "the others are in the cache" : NULL,
                     "%zu of %zu could not be fetched: %s", f->n_failed, f->n_wanted,
                     bnt_buf_view(&f->failed));
    }
}

/* Keep the cache within the limits of the manifest. What was asked for is there, so a failure here
 * is a warning. */
static void collect(struct fetching *f)
{
    struct bnt_err err = {0};
    struct bnt_cache_gc_report r = {0};
    if (!f->have_project || !f->project.manifest.limits.given) {
        return;
    }
    if (project_collect(&f->project, f->opts.cache, &f->came, &r, &err) != BNT_OK) {
        bnt_msg_warn("the limits are looked at again after the next fetch", "%s", err.msg);
    }
    const uint64_t kept = r.bytes_before - r.bytes_removed - r.bytes_saved;
    if (r.n_removed + r.n_demoted > 0 || r.unmet) {
        fetch_tell_put(&f->tell,
                       json_pack("{s:s, s:I, s:I, s:I, s:I, s:b}", "event", "collected", "removed",
                                 (json_int_t)r.n_removed, "bytes", (json_int_t)r.bytes_removed,
                                 "demoted", (json_int_t)r.n_demoted, "bytes_kept", (json_int_t)kept,
                                 "unmet", (int)r.unmet));
    }
    if (r.n_removed + r.n_demoted > 0 && !f->o->quiet) {
        bnt_msg_note(
            "cache: %llu removed (%.1f MB), %llu compressed, %.1f MB stay: the limits of %s",
            (unsigned long long)r.n_removed, (double)r.bytes_removed / 1e6,
            (unsigned long long)r.n_demoted, (double)kept / 1e6, f->project.manifest.shown);
    }
    if (r.unmet) {
        bnt_msg_warn("bnt cache gc --dry-run says what stays, and why",
                     "cache: what must stay is more than the limits of %s allow",
                     f->project.manifest.shown);
    }
    bnt_cache_gc_report_release(&r);
}

/* A usage error that this command finds. */
BNT_PRINTF(3, 4)
static enum bnt_status refuse(struct fetching *f, const char *hint, const char *fmt, ...)
{
    char text[300];
    struct bnt_err err = {0};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bnt_err_set(&err, BNT_E_USAGE, "%s", text);
    bnt_err_hint(&err, "%s", hint);
    return fetch_tell_error(&f->tell, &err);
}

/* Under --unpack: what came, in a folder. */
static enum bnt_status unpack_result(struct fetching *f, const struct bnt_fetch_result *r,
                                     struct bnt_err *err)
{
    static const struct unpack_limits limits = UNPACK_LIMITS;
    struct unpack_count count;
    if (!f->o->unpack) {
        return BNT_OK;
    }
    if (unpack(r->path, f->o->unpack, &limits, f->interrupted, &count, err) != BNT_OK) {
        return bnt_err_context(err, "%s", r->entry.name);
    }
    if (!f->o->quiet) {
        bnt_msg_note("%s: %llu files, %.1f MB", f->o->unpack, (unsigned long long)count.files,
                     (double)count.bytes / 1e6);
    }
    return BNT_OK;
}

/* A file came, or it did not. */
static enum bnt_status report(struct fetching *f, enum bnt_status st,
                              const struct bnt_fetch_result *r, struct bnt_err *err)
{
    fetch_tell_pause(&f->tell);
    if (st == BNT_OK) {
        st = unpack_result(f, r, err);
    }
    if (st == BNT_OK) {
        st = digest_list_add(&f->came, r->entry.digest, err);
    }
    if (st == BNT_OK) {
        fetch_tell_done(&f->tell, r, f->o->unpack);
    } else {
        (void)fetch_tell_error(&f->tell, err);
    }
    fetch_tell_forget(&f->tell);
    return st;
}

/* ---- sources and models ---- */

/* One more file of a model: `path` as that of the first, at the source that has that. */
static enum bnt_status bring_relative(struct fetching *f, const struct source *s,
                                      const struct bnt_fetch_result *first, const char *path)
{
    char place[BNT_PATH_MAX], name[BNT_CACHE_NAME_MAX];
    struct bnt_err err = {0};
    struct bnt_fetch_result result;
    struct bnt_fetch_opts opts = f->opts.fetch;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    enum bnt_status st = BNT_OK;
    if (s->hub.repo[0]) {
        st = settle_pinned(s, s->hub.rev, path, place, &err);
    } else {
        st = bnt_path_format(place, &err, "%.*s%s", (int)(strrchr(s->path, '/') + 1 - s->path),
                             s->path, base);
    }
    if (st == BNT_OK && !manifest_file_name(first->entry.name, base, name)) {
        st = bnt_err_set(&err, BNT_E_USAGE, "%.200s makes no name for the cache", base);
    }
    opts.name = name;
    opts.sha256 = NULL;
    opts.n_mirrors = 0;
    fetch_tell_begin(&f->tell, name);
    st = st == BNT_OK ? bnt_fetch(f->opts.cache, place, &opts, &result, &err) : st;
    return report(f, st, &result, &err);
}

/* The other files of the model that a SOURCE is, when it has any. */
static enum bnt_status bring_family(struct fetching *f, const char *source,
                                    const struct bnt_fetch_result *first)
{
    struct bnt_err err = {0};
    struct source s;
    struct source_facts facts = {0};
    struct family family = {0};
    const char *file = first->entry.file_name;
    const bool companions = f->o->with_tokenizer || family_needs_companions(file);
    if (!f->o->with_tokenizer && !family_by_itself(file)) {
        return BNT_OK;
    }
    enum bnt_status st = source_parse(source, &s, &err);
    if (st == BNT_OK && !f->o->with_tokenizer && source_is_remote(&s) && !s.hub.repo[0] &&
        family_needs_companions(file)) {
        return BNT_OK; /* nobody asked, and there is no listing */
    }
    if (st == BNT_OK && s.hub.repo[0]) {
        st = settle_ask(&s, &f->opts.fetch, &facts, &err);
        snprintf(s.hub.rev, sizeof s.hub.rev, "%.127s", facts.revision);
    }
    if (st == BNT_OK) {
        st = family_find(&s, facts.file[0] ? facts.file : file, companions, &f->opts.fetch, &family,
                         &err);
    }
    if (st != BNT_OK) {
        return fetch_tell_error(&f->tell, &err);
    }
    for (size_t i = 0; st == BNT_OK && i < family.n; i++) {
        st = bring_relative(f, &s, first, family.at[i]);
    }
    family_release(&family);
    return st;
}

static enum bnt_status bring_source(struct fetching *f, const char *source)
{
    struct bnt_err err = {0};
    struct bnt_fetch_result result;
    if (f->o->locked || f->o->frozen) {
        return refuse(f, "a SOURCE is held to its content by --sha256 HEX",
                      "--locked and --frozen are for models of a manifest; '%.80s' is none",
                      f->label);
    }
    fetch_tell_begin(&f->tell, f->label);
    enum bnt_status st = bnt_fetch(f->opts.cache, source, &f->opts.fetch, &result, &err);
    st = report(f, st, &result, &err);
    return st == BNT_OK ? bring_family(f, source, &result) : st;
}

/* Bring the lock's entry up to date, or under --locked find that it is. */
static enum bnt_status settle_lock(struct fetching *f, const struct manifest_model *model,
                                   struct bnt_err *err)
{
    if (f->o->locked || f->o->frozen) {
        return project_check(&f->project, model, err);
    }
    fetch_tell_begin(&f->tell, model->name);
    enum bnt_status st = project_settle(&f->project, model, &f->opts, err);
    fetch_tell_pause(&f->tell);
    return st == BNT_OK ? lockfile_write(&f->project.lock, err) : st;
}

/* Refuse a model that cannot run, before it comes; warn of one that will be slow. */
static enum bnt_status settle_model(struct fetching *f, const struct manifest_model *model,
                                    struct bnt_err *err)
{
    enum bnt_status st = project_check_machine(&f->project, model, &f->machine, err);
    if (st == BNT_OK) {
        st = settle_lock(f, model, err);
    }
    const uint64_t bytes = project_bytes(&f->project, model);
    if (st == BNT_OK) {
        st = fetch_room_memory(&f->opts.fetch, model->name, bytes, err);
    }
    if (st == BNT_OK && bytes > f->machine.memory) {
        bnt_msg_warn("take a smaller one, or a machine with more",
                     "%s has %.1f GB, and the memory %.1f GB: it is read from disk for each token",
                     model->name, (double)bytes / 1e9, (double)f->machine.memory / 1e9);
    }
    return st;
}

static enum bnt_status bring_files(struct fetching *f, const struct manifest_model *model,
                                   struct bnt_err *err)
{
    enum bnt_status st = settle_model(f, model, err);
    if (st != BNT_OK) {
        return report(f, st, NULL, err);
    }
    for (size_t i = 0; st == BNT_OK && i < model->n_files; i++) {
        struct bnt_fetch_result result;
        fetch_tell_begin(&f->tell, model->files[i].cache_name);
        st = project_fetch(&f->project, model, i, &f->opts, &result, err);
        st = report(f, st, &result, err);
    }
    return st;
}

static enum bnt_status bring_model(struct fetching *f, const struct manifest_model *model)
{
    struct bnt_err err = {0};
    fetch_tell_begin(&f->tell, model->name);
    if (f->o->unpack && model->n_files != 1) {
        return refuse(f, "fetch it without --unpack",
                      "--unpack belongs to one archive; %s has %zu files", model->name,
                      model->n_files);
    }
    const uint64_t for_all = f->opts.fetch.max_bytes, for_it = project_max_bytes(model);
    f->opts.fetch.max_bytes = for_it ? for_it : for_all;
    enum bnt_status st = bring_files(f, model, &err);
    f->opts.fetch.max_bytes = for_all;
    return st;
}

static enum bnt_status bring_all(struct fetching *f)
{
    const struct manifest *m = &f->project.manifest;
    struct bnt_err err = {0};
    bool more = true;
    enum bnt_status st = BNT_OK;
    if (f->o->locked || f->o->frozen) {
        st = project_check(&f->project, NULL, &err);
    } else {
        lockfile_prune(&f->project.lock, m);
        st = lockfile_write(&f->project.lock, &err);
    }
    if (st != BNT_OK) {
        return fetch_tell_error(&f->tell, &err);
    }
    for (size_t i = 0; more && i < m->n_models; i++) {
        if (!f->o->group || manifest_in_group(&m->models[i], f->o->group)) {
            more = go_on(f, m->models[i].name, bring_model(f, &m->models[i]));
        }
    }
    if (f->n_wanted == 0 && f->o->group) {
        bnt_err_set(&err, BNT_E_NOT_FOUND, "no model of %s is in the group '%s'", m->shown,
                    f->o->group);
        bnt_err_hint(&err, "groups are written below a model: groups: [NAME]");
        return fetch_tell_error(&f->tell, &err);
    }
    return f->first;
}

/* ---- operands ---- */

static enum bnt_status open_project(struct fetching *f)
{
    struct bnt_err err = {0};
    if (f->have_project) {
        return BNT_OK;
    }
    enum bnt_status st = project_open(&f->project, f->o->manifest, &err);
    f->have_project = st == BNT_OK;
    st = st == BNT_OK ? settle_timeout(f, &err) : st;
    return st == BNT_OK ? st : fetch_tell_error(&f->tell, &err);
}

/* Options that say of a SOURCE what the manifest says of its models: none is passed over. */
static enum bnt_status refuse_source_options(struct fetching *f)
{
    const struct fetch_cmd_opts *o = f->o;
    const struct {
        bool given;
        const char *option, *hint;
    } of_source[] = {
        {o->mirrors.n > 0, "--mirror", "write them into the manifest, as mirrors"},
        {o->sha256, "--sha256", "write it into the manifest, as sha256"},
        {o->name, "--name", "a model is called what the manifest calls it"},
        {o->with_tokenizer, "--with-tokenizer", "write into the manifest: companions: true"},
    };
    for (size_t i = 0; i < sizeof of_source / sizeof of_source[0]; i++) {
        if (of_source[i].given) {
            return refuse(f, of_source[i].hint,
                          "%s belongs to a SOURCE, and the manifest says it of its models",
                          of_source[i].option);
        }
    }
    return BNT_OK;
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

/* What events and the summary call an operand: the name that it gets, or what may be shown of it.
 * The query of a URL may be a signature, and one that is refused may hold a password. */
static void set_label(struct fetching *f, const char *operand)
{
    struct source s;
    const char *rest = strstr(operand, "://");
    if (f->o->name) {
        snprintf(f->label, sizeof f->label, "%s", f->o->name);
    } else if (source_parse(operand, &s, NULL) == BNT_OK) {
        snprintf(f->label, sizeof f->label, "%s", s.name[0] ? s.name : s.shown);
    } else if (rest) {
        snprintf(f->label, sizeof f->label, "%.*s...", (int)(rest + 3 - operand), operand);
    } else {
        snprintf(f->label, sizeof f->label, "%s", operand);
    }
    f->tell.name = f->label;
}

static enum bnt_status bring_operand(struct fetching *f, const char *operand)
{
    struct bnt_err err = {0};
    const struct manifest_model *model;
    set_label(f, operand);
    if (!ask_manifest(f, operand)) {
        return bring_source(f, operand);
    }
    enum bnt_status st = open_project(f);
    if (st != BNT_OK) {
        return st;
    }
    if (project_model(&f->project, operand, &model, &err) == BNT_OK) {
        st = refuse_source_options(f);
        return st == BNT_OK ? bring_model(f, model) : st;
    }
    return access(operand, F_OK) == 0 ? bring_source(f, operand) : fetch_tell_error(&f->tell, &err);
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
    if (o->force && o->update && strcmp(o->update, "never") == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "leave one of them out",
                            "--force fetches, and --update never does not");
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
        return fetch_tell_error(&f->tell, &err);
    }
    if (!found) {
        bnt_err_set(&err, BNT_E_USAGE, "no source is given, and there is no %s here or above",
                    MANIFEST_FILE);
        bnt_err_hint(&err, "write: bnt fetch SOURCE, for example: bnt fetch bundled:");
        return fetch_tell_error(&f->tell, &err);
    }
    enum bnt_status st = open_project(f);
    st = st == BNT_OK ? refuse_source_options(f) : st;
    return st == BNT_OK ? bring_all(f) : st;
}

static enum bnt_status bring_operands(struct fetching *f, int argc, char **argv)
{
    bool more = true;
    for (int i = 0; more && i < argc; i++) {
        enum bnt_status st = bring_operand(f, argv[i]);
        more = go_on(f, f->label, st);
    }
    return f->first;
}

static void set_fetch_opts(struct fetching *f)
{
    const struct fetch_cmd_opts *o = f->o;
    if (o->update) {
        (void)source_update(o->update, &f->opts.update); /* one of the choices */
    }
    f->opts.fetch = (struct bnt_fetch_opts){
        .name = o->name,
        .sha256 = o->sha256,
        .offline = o->offline || o->frozen || bnt_app_offline(),
        .force = o->force,
        .max_bytes = o->target && strcmp(o->target, "wasm32") == 0 ? BNT_WASM32_MAX_BYTES : 0,
        .update = f->opts.update,
        .mirrors = o->mirrors.at,
        .n_mirrors = o->mirrors.n,
        .connections = (uint32_t)o->connections,
        .limit_bytes_s = o->limit_bytes_s,
        .interrupted = f->interrupted,
        .progress = fetch_tell_progress,
        .event = fetch_tell_event,
        .ctx = &f->tell,
        .near = o->near,
        .warn = bnt_msg_warn_fn,
    };
}

static enum bnt_status run_fetch(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct fetch_cmd_opts *o = opts;
    struct fetching f = {.o = o,
                         .opts = {.warn = bnt_msg_warn_fn},
                         .interrupted = app->interrupted,
                         .machine = {bnt_memory_limit(), app->cpu_has},
                         .began_ns = bnt_clock_now_ns(),
                         .failed = BNT_BUF(400)};
    struct bnt_err err = {0};
    enum bnt_status st = check_usage(o, argc);
    if (st != BNT_OK) {
        return st;
    }
    fetch_tell_init(&f.tell, o->json, o->quiet);
    set_fetch_opts(&f);
    st = settle_timeout(&f, &err);
    if (st == BNT_OK) {
        st = bnt_cache_open(NULL, &f.opts.cache, &err);
    }
    if (st == BNT_OK) {
        bnt_cache_interrupt(f.opts.cache, app->interrupted);
        f.opts.fetch.net_dir = bnt_cache_folder(f.opts.cache);
    }
    if (st != BNT_OK) {
        st = fetch_tell_error(&f.tell, &err);
    } else {
        st = argc == 0 ? bring_manifest(&f) : bring_operands(&f, argc, argv);
    }
    summarise(&f);
    collect(&f);
    st = fetch_tell_result(&f.tell, st);
    cmd_deadline_over();
    fetch_tell_release(&f.tell);
    bnt_buf_release(&f.failed);
    digest_list_release(&f.came);
    if (f.have_project) {
        project_release(&f.project);
    }
    bnt_cache_close(f.opts.cache);
    return st;
}

const struct bnt_cmd bnt_cmd_fetch = {
    .name = "fetch",
    .also = "pull download get add install",
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
        "A model that is cut into files NAME-00001-of-00003.gguf is fetched whole: the first file\n"
        "is called NAME, each other one NAME. and its file name. So are the tokenizer, template "
        "and\n"
        "configuration files beside a model, with --with-tokenizer, or companions: true in the\n"
        "manifest, and always beside .safetensors.\n"
        "\n"
        "--update, or update: in the manifest, says when a source is asked whether it has "
        "something\n"
        "new: never (nothing is fetched at all), if-missing, daily, always. What it has goes into\n"
        "bnt.lock; under --locked and --offline no source is asked. The old copy stays until the\n"
        "new one is verified.\n"
        "\n"
        "When one of several fails, the others are fetched nevertheless; the exit code is that of\n"
        "the first one. The whole command ends within --timeout, or BNT_FETCH_TIMEOUT, or what\n"
        "the manifest says; what has arrived then is kept, and the next run goes on from there.\n"
        "\n"
        "Exit codes by cause: 8 not found, 9 a processor that cannot run it, 10 no space, 11 "
        "authorisation, 12 rate limited,\n"
        "13 digest differs, 14 network, 15 offline and not in the cache, 19 out of time, 20 "
        "bnt.lock\n"
        "is not up to date, 21 the server failed too often lately (bnt mirror status). "
        "SSL_CERT_FILE,\n"
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
