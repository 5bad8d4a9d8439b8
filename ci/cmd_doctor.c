/* bnt doctor: what is wrong here, and what to do next. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "ci/commands.h"
#include "ci/doctor.h"
#include "engine/bnt_infer.h"
#include "engine/chat.h"

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct doctor_opts, member), __VA_ARGS__                 \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("The run that does not go well, as with bnt infer"),
    ROW(STR, 'm', "model", "FILE", "model: a GGUF file, a cached name or bundled: (the default)",
        model, .def = NULL),
    ROW(STR, 0, "model-path", "FILE", NULL, model, .def = NULL),
    ROW(INT, 't', "threads", "N", "threads of that run; 0: not given", threads, .def = "0",
        .min = 0, .max = BNT_MAX_THREADS),
    ROW(STR, 0, "kernel", "NAME", "kernels of that run", kernel, .def = "auto",
        .choices = "auto|ref|avx2|avx512|neon"),
    ROW(SIZE, 0, "memory-limit", "SIZE", "its limit of memory", memory_limit, .def = NULL),
    ROW(STR, 0, "i2s-layout", "LAYOUT", "its packing of I2_S weights", i2s_layout, .def = "auto",
        .choices = "auto|128/32|64/16|4-rows"),
    ROW(STR, 0, "pre", "NAME", "its pre-tokenizer", pre, .def = NULL),
    ROW(STR, 0, "chat-template", "FORM", "its chat form", chat_template, .choices = BNT_CHAT_FORMS),
    BNT_OPT_HEAD("What is looked at"),
    ROW(STR, 0, "url", "URL", "ask this server too; without it the network is left alone", url,
        .def = NULL),
    ROW(FLAG, 0, "problems", NULL, "show problems alone", problems, .def = NULL),
    ROW(FLAG, 0, "json", NULL, "one JSON value", json, .def = NULL),
    BNT_OPT_END,
};

static const char *const state_names[] = {"ok", "problem", "skipped"};

static size_t count_problems(const struct doctor *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) {
        n += d->at[i].state == DOCTOR_PROBLEM;
    }
    return n;
}

static int section_len(const struct doctor_check *c)
{
    return (int)strcspn(c->id, ".");
}

static void print_text(const struct doctor *d)
{
    const char *section = "";
    for (size_t i = 0; i < d->n; i++) {
        const struct doctor_check *c = &d->at[i];
        int len = section_len(c);
        if (d->o->problems && c->state != DOCTOR_PROBLEM) {
            continue;
        }
        if (strncmp(section, c->id, (size_t)len + 1) != 0) {
            printf("%.*s\n", len, c->id);
            section = c->id;
        }
        printf("  %-8s %-16s %s\n", state_names[c->state], c->id + len + 1, c->found);
        if (c->state == DOCTOR_PROBLEM) {
            printf("           looked at: %s\n           next:      %s\n", c->looked, c->next);
        }
    }
    size_t n = count_problems(d);
    printf(n == 0 ? "nothing is wrong\n" : n == 1 ? "1 problem\n" : "%zu problems\n", n);
}

/* Texts with paths in them need not be UTF-8; then all above ASCII becomes '?'. */
static json_t *text_of(const char *bytes)
{
    json_t *text = json_string(bytes);
    char plain[sizeof((struct doctor_check *)0)->found];
    snprintf(plain, sizeof plain, "%s", bytes);
    for (char *p = plain; !text && *p; p++) {
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
    return text ? text : json_string(plain);
}

static enum bnt_status print_json(const struct doctor *d)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < d->n; i++) {
        const struct doctor_check *c = &d->at[i];
        if (!d->o->problems || c->state == DOCTOR_PROBLEM) {
            json_array_append_new(
                checks, json_pack("{s:s, s:s%, s:s, s:o, s:o, s:o}", "id", c->id, "section", c->id,
                                  (size_t)section_len(c), "state", state_names[c->state], "looked",
                                  text_of(c->looked), "found", text_of(c->found), "next",
                                  c->next[0] ? text_of(c->next) : json_null()));
        }
    }
    json_t *root =
        json_pack("{s:I, s:o}", "problems", (json_int_t)count_problems(d), "checks", checks);
    struct bnt_err err = {0};
    return bnt_json_print(root, JSON_INDENT(2), &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the model is an option: -m FILE",
                            "doctor: unexpected '%s'", argv[0]);
    }
    static void (*const sections[])(struct doctor *) = {doctor_environment, doctor_processor,
                                                        doctor_model, doctor_cache, doctor_network};
    struct doctor d = {.app = app, .o = opts};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0] &&
                       bnt_err_interrupted(app->interrupted, NULL) == BNT_OK;
         i++) {
        sections[i](&d);
    }
    /* What was found then may have been found by the interrupt. */
    if (bnt_err_interrupted(app->interrupted, NULL) != BNT_OK) {
        return bnt_msg_fail(BNT_E_INTERRUPTED, NULL, "interrupted");
    }
    enum bnt_status st = BNT_OK;
    if (d.o->json) {
        st = print_json(&d);
    } else {
        print_text(&d);
    }
    return st == BNT_OK && count_problems(&d) > 0 ? BNT_E_FAILED : st;
}

const struct bnt_cmd bnt_cmd_doctor = {
    .name = "doctor",
    .synopsis = "[OPTIONS]",
    .summary = "name the cause when text is garbage, speed is low or a fetch fails",
    .description =
        "Checks the environment, the processor, the model, the cache and what is known of "
        "servers; each check says what it looked at, what it found and what to do next. Options "
        "tell how the run was started that does not go well. Nothing is changed, and without "
        "--url the network is left alone.\n\n"
        "Exit codes: 0 nothing is wrong, 1 there is a problem.",
    .examples = "  bnt doctor                                # is all well here?\n"
                "  bnt doctor -m bitnet-2b -t 1 --kernel ref  # why is this run slow?\n"
                "  bnt doctor --url https://huggingface.co --json | jq '.checks[]'",
    .opts = options,
    .opts_size = sizeof(struct doctor_opts),
    .run = run,
};
