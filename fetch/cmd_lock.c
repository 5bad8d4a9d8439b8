/* `bnt lock` and `bnt update`: write down exactly which bytes the models of a manifest are. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/app.h"
#include "base/clock.h"
#include "base/msg.h"
#include "base/opt.h"
#include "fetch/cmd_deadline.h"
#include "fetch/commands.h"
#include "fetch/lock_trees.h"
#include "fetch/project.h"

struct lock_cmd_opts {
    const char *manifest, *timeout;
    bool offline, check, quiet;
};

#define MANIFEST_ROW                                                                               \
    {                                                                                              \
        .kind = BNT_OPT_STR, .long_name = "manifest", .arg = "FILE",                               \
        .help = "the manifest [bnt.yml in this folder or the nearest above]",                      \
        .offset = offsetof(struct lock_cmd_opts, manifest)                                         \
    }
#define OFFLINE_ROW                                                                                \
    {                                                                                              \
        .kind = BNT_OPT_FLAG, .long_name = "offline",                                              \
        .help = "use no network; what would need it is exit code 15 [BNT_OFFLINE=1]",              \
        .offset = offsetof(struct lock_cmd_opts, offline)                                          \
    }
#define TIMEOUT_ROW                                                                                \
    {                                                                                              \
        .kind = BNT_OPT_STR, .long_name = "timeout", .arg = "TIME", .help = CMD_DEADLINE_HELP,     \
        .offset = offsetof(struct lock_cmd_opts, timeout)                                          \
    }
#define QUIET_ROW                                                                                  \
    {                                                                                              \
        .kind = BNT_OPT_FLAG, .short_name = 'q', .long_name = "quiet",                             \
        .help = "no notes and no progress", .offset = offsetof(struct lock_cmd_opts, quiet)        \
    }

static const struct bnt_opt lock_options[] = {
    MANIFEST_ROW, OFFLINE_ROW, TIMEOUT_ROW, QUIET_ROW, BNT_OPT_END,
};

static const struct bnt_opt update_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "check",
     .help = "write nothing; exit code 20 when something would change",
     .offset = offsetof(struct lock_cmd_opts, check)},
    MANIFEST_ROW,
    OFFLINE_ROW,
    TIMEOUT_ROW,
    QUIET_ROW,
    BNT_OPT_END,
};

/* One run of either command. */
struct locking {
    const struct lock_cmd_opts *o;
    struct project project;
    struct project_opts opts;
    struct bnt_progress progress;
    size_t changed; /* models */
};

/* Lock one model, and say what became of it. */
static enum bnt_status lock_one(struct locking *l, const struct manifest_model *model, bool refresh,
                                struct bnt_err *err)
{
    json_t *before = json_deep_copy(lockfile_entry(&l->project.lock, model->name));
    bnt_progress_begin(&l->progress, model->name, 0, true);
    enum bnt_status st = project_lock(&l->project, model, refresh, &l->opts, err);
    bnt_progress_end(&l->progress);
    if (st == BNT_OK && !refresh) {
        st = lock_trees_fill(&l->project.lock, model->name, l->opts.cache, err);
    }
    const json_t *after = lockfile_entry(&l->project.lock, model->name);
    if (st == BNT_OK && !json_equal(before, after)) {
        l->changed++;
        if (!l->o->quiet) {
            bnt_msg_note("%s: %s, sha256 %.12s", model->name, before ? "changed" : "locked",
                         lockfile_file(after, 0).sha256);
        }
    }
    json_decref(before);
    return st;
}

static enum bnt_status lock_all(struct locking *l, bool refresh, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < l->project.manifest.n_models; i++) {
        st = lock_one(l, &l->project.manifest.models[i], refresh, err);
    }
    if (st == BNT_OK) {
        lockfile_prune(&l->project.lock, &l->project.manifest);
    }
    return st;
}

static enum bnt_status lock_named(struct locking *l, int n, char **names, struct bnt_err *err)
{
    const struct manifest_model *model;
    enum bnt_status st = BNT_OK;
    for (int i = 0; st == BNT_OK && i < n; i++) {
        st = project_model(&l->project, names[i], &model, err);
        if (st == BNT_OK) {
            st = lock_one(l, model, true, err);
        }
    }
    return st;
}

/* Write the lock file, or under --check say what writing it would do. */
static enum bnt_status finish(struct locking *l, struct bnt_err *err)
{
    const bool differs = lockfile_differs(&l->project.lock);
    if (l->o->check && differs) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_LOCK_DRIFT, "%s is not what the sources have", LOCKFILE_FILE);
        bnt_err_hint(err, "run: bnt update, look at the difference, and commit it");
        return st;
    }
    enum bnt_status st = l->o->check ? BNT_OK : lockfile_write(&l->project.lock, err);
    if (st == BNT_OK && !l->o->quiet) {
        bnt_msg_note("%s %s", l->project.lock.path, differs ? "is written" : "is up to date");
    }
    return st;
}

static enum bnt_status run(struct bnt_app *app, const struct lock_cmd_opts *o, bool refresh,
                           int argc, char **argv)
{
    struct bnt_err err = {0};
    struct locking l = {
        .o = o,
        .opts = {.fetch = {.offline = o->offline || bnt_app_offline(),
                           .interrupted = app->interrupted,
                           .warn = bnt_msg_warn_fn},
                 .warn = bnt_msg_warn_fn},
    };
    l.opts.fetch.progress = o->quiet ? NULL : bnt_progress_show;
    l.opts.fetch.ctx = &l.progress;
    struct cmd_deadline deadline = {.option = o->timeout, .began_ns = bnt_clock_now_ns()};
    enum bnt_status st = project_open(&l.project, o->manifest, &err);
    if (st == BNT_OK) {
        deadline.manifest_s = l.project.manifest.timeout_s;
        st = cmd_deadline_set(&deadline, &l.opts.fetch, &err);
    }
    if (st == BNT_OK) {
        st = bnt_cache_open(NULL, &l.opts.cache, &err);
    }
    if (st == BNT_OK) {
        bnt_cache_interrupt(l.opts.cache, app->interrupted);
        l.opts.fetch.net_dir = bnt_cache_folder(l.opts.cache);
        st = argc > 0 ? lock_named(&l, argc, argv, &err) : lock_all(&l, refresh, &err);
    }
    if (st == BNT_OK) {
        st = finish(&l, &err);
    }
    cmd_deadline_over();
    bnt_cache_close(l.opts.cache);
    project_release(&l.project);
    return st == BNT_OK ? st : bnt_msg_error(&err);
}

static enum bnt_status run_lock(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "one model is looked at again by: bnt update NAME",
                            "lock: unexpected '%s'", argv[0]);
    }
    return run(app, opts, false, 0, NULL);
}

static enum bnt_status run_update(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    return run(app, opts, true, argc, argv);
}

const struct bnt_cmd bnt_cmd_lock = {
    .name = "lock",
    .synopsis = "[OPTIONS]",
    .summary = "write down which bytes the models of bnt.yml are",
    .description =
        "Writes bnt.lock beside the manifest bnt.yml: of every file of every model its size\n"
        "and sha256, and the root of its chunk tree when the cache has the content. What the\n"
        "manifest does not say is learned from the content, which is fetched into the cache.\n"
        "An entry that still fits the manifest stays as it is but for a root that is known\n"
        "now; bnt update looks at the sources again. Commit both files.\n"
        "\n"
        "Exit codes by cause, as bnt fetch; 5 a manifest or a lock file that is not right.",
    .examples = "  bnt lock                         # after a change of bnt.yml\n"
                "  bnt lock --manifest ci/bnt.yml   # writes ci/bnt.lock",
    .opts = lock_options,
    .opts_size = sizeof(struct lock_cmd_opts),
    .run = run_lock,
};

const struct bnt_cmd bnt_cmd_update = {
    .name = "update",
    .synopsis = "[OPTIONS] [NAME]...",
    .summary = "look at the sources again and renew bnt.lock",
    .description =
        "Looks at the sources of the named models, or of all, as they are now, and writes\n"
        "what they hold into bnt.lock. A model whose sha256 is in bnt.yml stays at it.\n"
        "With --check nothing is written: exit code 0 when the lock file is what the sources\n"
        "have, 20 when it is not. To learn that, content whose digest nobody tells is fetched.",
    .examples = "  bnt update                  # all models\n"
                "  bnt update bitnet-2b        # one\n"
                "  bnt update --check          # in a nightly job: is there something new?",
    .opts = update_options,
    .opts_size = sizeof(struct lock_cmd_opts),
    .run = run_update,
};
