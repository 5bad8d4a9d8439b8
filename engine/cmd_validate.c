/* bnt validate: everything that is wrong with a model file. */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/cmd_inspect_impl.h"
#include "engine/cmd_validate_impl.h"
#include "engine/commands.h"
#include "engine/engine_arg.h"
#include "engine/model_arg.h"

enum { MAX_SHOWN_BYTES = 640 };

struct validate_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *level, *profile, *sha256;
    bool comprehensive, benchmark, json, sarif;
};

static const struct bnt_opt options[] = {
    BNT_MODEL_ARG_ROWS(struct validate_opts, model),
    BNT_OPT_HEAD("What is looked at"),
    {.kind = BNT_OPT_STR,
     .short_name = 'l',
     .long_name = "level",
     .arg = "LEVEL",
     .help = "basic: the header; standard (default): and architecture and tokenizer; "
             "comprehensive: and every byte; paranoid: and what it does when it runs",
     .offset = offsetof(struct validate_opts, level),
     .def = "standard",
     .choices = "basic|standard|comprehensive|paranoid"},
    {.kind = BNT_OPT_FLAG,
     .long_name = "comprehensive",
     .help = "the same as --level comprehensive",
     .offset = offsetof(struct validate_opts, comprehensive)},
    {.kind = BNT_OPT_STR,
     .long_name = "profile",
     .arg = "PROFILE",
     .help = "for whom the file must be good: runtime (default): this engine; bitnet: bitnet.cpp; "
             "llama.cpp; strict: this engine, and a warning is an error",
     .offset = offsetof(struct validate_opts, profile),
     .def = "runtime",
     .choices = "runtime|bitnet|llama.cpp|strict"},
    {.kind = BNT_OPT_STR,
     .long_name = "sha256",
     .arg = "DIGEST",
     .help =
         "what the file must be; of a cached model it is known, and compared from comprehensive "
         "on",
     .offset = offsetof(struct validate_opts, sha256)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "benchmark",
     .help = "measure speed too, whatever the level",
     .offset = offsetof(struct validate_opts, benchmark)},
    BNT_ENGINE_TL_ROW(struct validate_opts),
    BNT_ENGINE_TILES_ROW(struct validate_opts),
    BNT_OPT_HEAD("Output"),
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value: findings, platforms, statistics of every tensor, measurements",
     .offset = offsetof(struct validate_opts, json)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "sarif",
     .help = "a SARIF 2.1.0 log of the findings, for code scanning",
     .offset = offsetof(struct validate_opts, sarif)},
    BNT_OPT_END,
};

/* ---- text ---- */

static void put(const char *text)
{
    inspect_put_text((struct gguf_str){text, strlen(text)}, MAX_SHOWN_BYTES);
}

static void print_finding(const struct validate_finding *f)
{
    const char *gap = "";
    printf("%-8s %-17s ", validate_severity_name(f->severity), validate_class_info(f->kind).name);
    if (f->tensor || f->key) {
        put(f->tensor ? f->tensor : f->key);
        gap = ", ";
    }
    if (f->has_offset) {
        printf("%sbyte %llu", gap, (unsigned long long)f->offset);
    }
    printf("\n    ");
    put(f->message);
    printf("\n    hint: ");
    put(f->hint);
    printf("%s\n", f->recoverable ? "" : " (the file cannot be repaired)");
}

static void print_platforms(const struct validate_report *r)
{
    for (int i = 0; i < VALIDATE_N_PLATFORMS; i++) {
        const struct validate_platform *p = &r->platforms[i];
        if (p->name) {
            printf("%-14s %-8s %s%s%s\n", i == 0 ? "platforms" : "", p->name,
                   p->fits ? "fits" : "too large", p->note[0] ? ": " : "", p->note);
        }
    }
}

static void print_run(const struct validate_run *run)
{
    if (!run->loaded) {
        return;
    }
    printf("%-14s in %.0f ms, needs %.0f MB%s%s\n", "loads", run->load_ms, run->memory_mb,
           run->i2s_layout ? ", I2_S packed " : "", run->i2s_layout ? run->i2s_layout : "");
    if (run->n_kernels > 0) {
        printf("%-14s %u agree on the logits, bit for bit\n", "kernels", run->n_kernels);
    }
    if (run->has_perplexity) {
        printf("%-14s %.4g over %llu tokens of plain English\n", "perplexity", run->perplexity,
               (unsigned long long)run->n_scored);
    }
    if (run->has_speed) {
        printf("%-14s prefill %.1f tokens/s, decode %.1f tokens/s: %.2f GB/s of weights, memory "
               "gives %.1f GB/s\n",
               "speed", run->prefill_tps, run->decode_tps, run->decode_gb_per_s,
               run->memory_gb_per_s);
    }
}

static void print_text(const struct validate_report *r, const struct bnt_model_ref *ref)
{
    for (size_t i = 0; i < r->n; i++) {
        print_finding(&r->findings[i]);
    }
    print_platforms(r);
    if (r->digest[0]) {
        printf("%-14s %s\n", "sha256", r->digest);
    }
    print_run(&r->run);
    if (r->n_left_out) {
        printf("%llu more findings are left out\n", (unsigned long long)r->n_left_out);
    }
    printf("%s: %s: ", ref->path, r->n_of[VALIDATE_ERROR] ? "broken" : "sound");
    for (int i = VALIDATE_ERROR; i > VALIDATE_IGNORED; i--) {
        printf("%llu %s%s, ", (unsigned long long)r->n_of[i],
               validate_severity_name((enum validate_severity)i), r->n_of[i] == 1 ? "" : "s");
    }
    printf("level %s, profile %s\n", validate_level_name(r->options.level),
           validate_profile_name(r->options.profile));
}

/* ---- the run ---- */

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct bnt_progress *p = ctx;
    if (p->total == 0) {
        bnt_progress_begin(p, "reading", total, true);
    }
    bnt_progress_update(p, done);
}

static enum bnt_status options_of(const struct bnt_app *app, const struct validate_opts *o,
                                  const struct bnt_model_ref *ref, struct validate_options *out,
                                  struct bnt_err *err)
{
    const struct bnt_model_options mo = bnt_engine_model(&o->engine);
    *out = (struct validate_options){.benchmark = o->benchmark,
                                     .interrupted = app->interrupted,
                                     .tl_tiles = mo.tl_tiles,
                                     .n_tl_tiles = mo.n_tl_tiles,
                                     .tl_look_up = mo.tl_look_up};
    validate_level_parse(o->comprehensive ? "comprehensive" : o->level, &out->level);
    validate_profile_parse(o->profile, &out->profile);
    out->expected = ref->digest[0] ? ref->digest : NULL;
    if (o->sha256) {
        if (!bnt_sha256_is_hex(o->sha256)) {
            return bnt_err_set(err, BNT_E_USAGE, "--sha256 wants 64 digits 0-9 and a-f");
        }
        out->expected = o->sha256;
        out->hash = true;
    }
    return BNT_OK;
}

static enum bnt_status print(const struct validate_opts *o, const struct validate_report *r,
                             const struct bnt_model_ref *ref, struct bnt_err *err)
{
    if (o->json) {
        return validate_print_json(r, ref, err);
    }
    if (o->sarif) {
        return validate_print_sarif(r, ref->path, err);
    }
    print_text(r, ref);
    return BNT_OK;
}

static enum bnt_status validate(struct bnt_app *app, const struct validate_opts *o,
                                const struct bnt_model_arg *model, enum bnt_status *verdict,
                                struct bnt_err *err)
{
    struct bnt_model_ref ref;
    struct validate_options run;
    struct validate_report report = {.n = 0};
    struct bnt_progress progress = {.total = 0};
    bool mock = false;
    enum bnt_status st = bnt_model_arg_resolve(app, model, &ref, &mock, err);
    if (st == BNT_OK) {
        st = options_of(app, o, &ref, &run, err);
    }
    if (st == BNT_OK) {
        run.progress = show_progress;
        run.ctx = &progress;
        st = validate_file(ref.path, &run, &report, err);
        bnt_progress_end(&progress);
    }
    if (st == BNT_OK) {
        st = print(o, &report, &ref, err);
        *verdict = bnt_model_arg_exit(validate_status(&report), mock);
    }
    if (st == BNT_OK && mock) {
        bnt_model_arg_warn(&ref);
    }
    validate_release(&report);
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct validate_opts *o = opts;
    struct bnt_model_arg model = o->model;
    struct bnt_err err = {0};
    enum bnt_status verdict = BNT_OK;
    enum bnt_status st = bnt_model_arg_operand(&model, "bnt validate FILE", argc, argv, &err);
    if (st == BNT_OK && o->json && o->sarif) {
        bnt_err_hint(&err, "give one of the two");
        st = bnt_err_set(&err, BNT_E_USAGE, "--json and --sarif do not go together");
    } else if (st == BNT_OK) {
        st = validate(app, o, &model, &verdict, &err);
    }
    if (st == BNT_OK) {
        return verdict;
    }
    if (o->sarif && st != BNT_E_USAGE) {
        validate_print_failure_sarif(&err);
    } else if (o->json) {
        inspect_print_error_json(&err);
    }
    return bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_validate = {
    .name = "validate",
    .synopsis = "[OPTIONS] [FILE]",
    .summary = "everything that is wrong with a model file",
    .description =
        "FILE is a GGUF file or the name of a cached model; without it the bundled model is "
        "looked at. One run tells of all defects, as far as the format allows: each finding has a "
        "class, a place (key, tensor, byte), a severity for the profile, a hint, and whether the "
        "file can be put right without fetching it again. docs/validate.md lists the classes and "
        "what each level promises.\n\n"
        "Exit code 0: no error. Otherwise the status of the first error: 5 (file invalid), 9 (not "
        "supported), 13 (digest differs), 16 (inference failed), 23 (kernels disagree), or 7 for "
        "a model that makes no sense of plain English where the profile calls that an error. "
        "Warnings and notes do not change it.",
    .examples =
        "  bnt validate model.gguf                            # header, architecture, vocabulary\n"
        "  bnt validate --comprehensive --json model.gguf     # every byte, with statistics\n"
        "  bnt validate --level paranoid --profile strict NAME # all there is\n"
        "  bnt validate --sarif model.gguf > model.sarif      # for code scanning",
    .opts = options,
    .opts_size = sizeof(struct validate_opts),
    .run = run,
};
