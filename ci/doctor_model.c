/* Checks of the model: why its text is garbage, or its memory not enough. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ci/doctor.h"
#include "engine/bnt_infer.h"
#include "engine/chat.h"
#include "engine/model_arg.h"
#include "engine/pretok.h"

/* Plain English, which every trained model finds likelier than chance. */
static const char probe_text[] = "Once upon a time, there was a little girl. She loved to play "
                                 "outside with her friends, and they were very happy.";
/* Of the nats of a blind guess among the whole vocabulary; a trained model needs about half, one
 * with wrong weights about all of them. */
#define BLIND_SHARE 0.9

/* Contractions, numbers, marks and line ends, which pre-tokenizers cut in different places. */
static const char split_text[] =
    "One day, Lily said, \"I don't want to go. It's too far!\"\n\n"
    "Her mom said, \"You'll be fine. We're not late, and they've got 3 cakes.\"\n"
    "They went to the park. \"Let's play!\" said Tom. He'd found 12 balls.\n";
/* By this share of its nats that text must be likelier in another splitting to tell that the model
 * was trained with it. The bundled model finds it 12 % likelier in its own than in the next one. */
#define SPLIT_GAIN 0.05
#define SPLITS_MAX 32

struct patient {
    char path[BNT_PATH_MAX];
    struct gguf *gguf;
    struct bnt_tokenizer *tokenizer;
    struct bnt_model *model;
};

/* ---- the file ---- */

static void check_open(struct doctor *d, struct patient *p)
{
    struct bnt_err err = {0};
    struct bnt_model_ref ref;
    struct doctor_check *c =
        doctor_check(d, "model.file", "the model %s", d->o->model ? d->o->model : "bundled:");
    if (d->app->resolve_model(d->app, d->o->model, &ref, &err) != BNT_OK ||
        gguf_open(ref.path, GGUF_MODE_AUTO, &p->gguf, &err) != BNT_OK) {
        doctor_error(c, "run: bnt inspect FILE, or bnt fetch it anew", &err);
        return;
    }
    snprintf(p->path, sizeof p->path, "%s", ref.path);
    doctor_found(c, "%s", ref.path);
}

static void check_kind(struct doctor *d, const struct patient *p)
{
    struct doctor_check *c = doctor_check(d, "model.kind", "general.mock.kind of the file");
    if (!p->gguf) {
        doctor_skipped(c, "the file cannot be opened");
    } else if (!gguf_find(p->gguf, BNT_MOCK_KIND_KEY)) {
        doctor_found(c, "no mock");
    } else if (doctor_is_ill(d, "environment.mock")) {
        doctor_skipped(c, "the environment leads to a mock");
    } else {
        doctor_problem(c, "name a trained model with -m; bnt cache ls shows those that are here",
                       "this file is a mock: what it says means nothing");
    }
}

/* ---- tokenizer and template ---- */

static void check_pre(struct doctor *d, struct patient *p)
{
    struct bnt_err err = {0};
    struct gguf_str stated = {0};
    struct doctor_check *c = doctor_check(d, "model.pre-tokenizer",
                                          "tokenizer.ggml.pre, --pre, what the vocabulary tells, "
                                          "and how likely text is as it is split");
    if (!p->gguf) {
        doctor_skipped(c, "the file cannot be opened");
        return;
    }
    struct bnt_tokenizer_options to = {.pre = d->o->pre};
    if (bnt_tokenizer_new(p->gguf, &to, &p->tokenizer, &err) != BNT_OK) {
        doctor_error(c, "take one that splits alike: --pre NAME", &err);
        return;
    }
    const char *family = NULL, *force = bnt_tokenizer_pre(p->tokenizer);
    const char *trained = bnt_tokenizer_recognise(p->tokenizer, &family);
    bool has = gguf_get_str(p->gguf, "tokenizer.ggml.pre", &stated) && stated.len > 0;
    if (trained && strcmp(trained, force) != 0) {
        doctor_problem(c, "leave --pre out, or write --pre as the vocabulary was trained",
                       "text is split by %s; the vocabulary is that of %s, trained with %s", force,
                       family, trained);
    } else if (d->o->pre && has &&
               !(strlen(d->o->pre) == stated.len &&
                 memcmp(d->o->pre, stated.data, stated.len) == 0)) {
        doctor_problem(c, "leave --pre out", "text is split by %s; the file states %.*s", d->o->pre,
                       (int)stated.len, stated.data);
    } else if (!has && force[0] && !d->o->pre) {
        doctor_problem(c, "name what the model was trained with: --pre NAME",
                       "the file names no pre-tokenizer: text is split by %s, which is a guess",
                       force);
    } else {
        doctor_found(c, "%s", force[0] ? force : "none (SentencePiece)");
    }
}

static void check_chat(struct doctor *d, const struct patient *p)
{
    struct bnt_err err = {0};
    struct bnt_chat own, chat;
    struct doctor_check *c = doctor_check(d, "model.chat-template",
                                          "tokenizer.chat_template, --chat-template, and whether "
                                          "the vocabulary has its control tokens");
    if (!p->tokenizer) {
        doctor_skipped(c, "there is no tokenizer");
        return;
    }
    const char *asked = d->o->chat_template;
    enum bnt_status st = bnt_chat_detect(p->gguf, NULL, &own, &err);
    if (!asked && st == BNT_E_NOT_FOUND) {
        doctor_found(c, "none: the model continues text");
        return;
    }
    bool known = st == BNT_OK;
    err = (struct bnt_err){0};
    struct bnt_ids ids = {0};
    st = bnt_chat_detect(p->gguf, asked, &chat, &err);
    if (st == BNT_OK) {
        struct bnt_chat_message hello = {"user", "Hello"};
        st = bnt_chat_encode(&chat, p->tokenizer, &hello, 1, &ids, &err);
    }
    bnt_ids_release(&ids);
    if (st != BNT_OK) {
        doctor_error(c, "leave --chat-template out, or take the form the model was trained with",
                     &err);
    } else if (asked && known && own.form != chat.form) {
        doctor_problem(c, "leave --chat-template out",
                       "messages are written as %s; the file has %s", chat.name, own.name);
    } else {
        doctor_found(c, "%s%s%s", chat.name, chat.note ? ": " : "", chat.note ? chat.note : "");
    }
}

/* ---- weights and memory ---- */

static uint64_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;
    while (f && kib == 0 && fgets(line, sizeof line, f)) {
        sscanf(line, "MemAvailable: %llu kB", &kib);
    }
    if (f) {
        fclose(f);
    }
    return (uint64_t)kib * 1024;
}

static void check_memory(struct doctor *d, struct patient *p)
{
    struct bnt_err err = {0};
    struct doctor_check *c = doctor_check(
        d, "model.memory", "--memory-limit, the cgroup's limit, memory that is available");
    if (!p->tokenizer) {
        doctor_skipped(c, "the model cannot be opened");
        return;
    }
    struct bnt_session_options so = {.n_threads = (int)d->o->threads};
    struct bnt_model_options mo = {
        .session = &so, .pre = d->o->pre, .i2s_layout = "auto", .memory_limit = d->o->memory_limit};
    if (bnt_model_open(p->path, &mo, &p->model, &err) != BNT_OK) {
        doctor_error(c, "run: bnt inspect FILE", &err);
        return;
    }
    const struct bnt_model_info *info = bnt_model_info(p->model);
    uint64_t need = bnt_model_memory_need(p->model, &so), have = memory_available();
    if (info->streamed) {
        doctor_problem(c, "raise --memory-limit or the container's limit, or take a smaller --ctx",
                       "weights of %.1f MB do not fit into the limit: they are read from the disk "
                       "for every token",
                       (double)info->file_bytes / 1e6);
    } else if (have > 0 && have < need) {
        doctor_problem(c, "end what else runs here, or take a smaller model or --ctx",
                       "%.0f MB are needed, %.0f MB are available: the machine will swap",
                       (double)need / 1e6, (double)have / 1e6);
    } else {
        doctor_found(c, "%.1f MB are needed", (double)need / 1e6);
    }
}

static void check_packing(struct doctor *d, const struct patient *p)
{
    const char *asked = d->o->i2s_layout;
    struct doctor_check *c = doctor_check(
        d, "model.packing", "the packing of I2_S weights under which plain English makes sense");
    if (!p->model) {
        doctor_skipped(c, "the model cannot be opened");
        return;
    }
    const struct bnt_model_info *info = bnt_model_info(p->model);
    if (!info->i2s_layout) {
        doctor_found(c, "no I2_S weights");
    } else if (asked && strcmp(asked, "auto") != 0 && !info->i2s_undecided &&
               strcmp(asked, info->i2s_layout) != 0) {
        doctor_problem(c, "leave --i2s-layout out", "weights are read as %s, and are packed as %s",
                       asked, info->i2s_layout);
    } else {
        doctor_found(c, "%s%s", info->i2s_layout, info->i2s_undecided ? ", without certainty" : "");
    }
}

/* ---- text ---- */

/* Nats per token of ids. */
static enum bnt_status nats_of(const struct patient *p, const struct doctor *d,
                               const struct bnt_ids *ids, double *nats, struct bnt_err *err)
{
    struct bnt_session *s = NULL;
    struct bnt_perplexity ppl = {0};
    struct bnt_session_options so = {
        .n_ctx = 128, .n_threads = (int)d->o->threads, .interrupted = d->app->interrupted};
    enum bnt_status st = bnt_session_new(p->model, &so, &s, err);
    if (st == BNT_OK) {
        st = bnt_perplexity(s, ids->at, ids->n, (uint32_t)ids->n + 1, NULL, NULL, &ppl, err);
    }
    *nats = ppl.nll;
    bnt_session_free(s);
    return st;
}

static enum bnt_status probe_nats(const struct patient *p, const struct doctor *d, double *nats,
                                  struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    enum bnt_status st =
        bnt_tokenizer_encode(p->tokenizer, probe_text, strlen(probe_text), 0, &ids, err);
    st = st == BNT_OK ? nats_of(p, d, &ids, nats, err) : st;
    bnt_ids_release(&ids);
    return st;
}

static bool makes_no_sense(const struct patient *p, double nats_per_token)
{
    return isnan(nats_per_token) ||
           nats_per_token > BLIND_SHARE * log((double)bnt_model_info(p->model)->n_vocab);
}

/* ---- how text is split ---- */

/* The ways in which the text can be split, without those that give the same ids; the first is the
 * one in force. */
struct splits {
    struct {
        const char *pre;
        struct bnt_ids ids;
        double nats; /* of all ids */
    } at[SPLITS_MAX];
    size_t n;
};

static bool is_new(const struct splits *s, const struct bnt_ids *ids)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].ids.n == ids->n &&
            memcmp(s->at[i].ids.at, ids->at, ids->n * sizeof *ids->at) == 0) {
            return false;
        }
    }
    return true;
}

static enum bnt_status add_split(struct splits *s, const struct patient *p, const struct doctor *d,
                                 const struct bnt_tokenizer *t, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    double nats = 0;
    enum bnt_status st = bnt_tokenizer_encode(t, split_text, strlen(split_text), 0, &ids, err);
    if (st == BNT_OK && s->n < SPLITS_MAX && ids.n > 0 && is_new(s, &ids)) {
        st = nats_of(p, d, &ids, &nats, err);
        if (st == BNT_OK) {
            s->at[s->n].pre = bnt_tokenizer_pre(t);
            s->at[s->n].ids = ids;
            s->at[s->n++].nats = nats * (double)ids.n;
            return BNT_OK;
        }
    }
    bnt_ids_release(&ids);
    return st;
}

/* One name of each way. */
static bool is_alias(size_t row)
{
    for (size_t i = 0; i < row; i++) {
        if (pretok_at(i)->steps == pretok_at(row)->steps) {
            return true;
        }
    }
    return false;
}

static enum bnt_status try_splits(struct splits *s, const struct patient *p, const struct doctor *d,
                                  struct bnt_err *err)
{
    enum bnt_status st = add_split(s, p, d, p->tokenizer, err);
    for (size_t i = 0; st == BNT_OK && pretok_at(i); i++) {
        const struct bnt_tokenizer_options to = {.pre = pretok_at(i)->name};
        struct bnt_tokenizer *t = NULL;
        if (!is_alias(i)) {
            st = bnt_tokenizer_new(p->gguf, &to, &t, err);
            st = st == BNT_OK ? add_split(s, p, d, t, err) : st;
            bnt_tokenizer_free(t);
        }
    }
    return st;
}

/* Where nothing is stated wrongly and the vocabulary is of no known family, the model itself tells
 * how its text was split. */
static void check_split(struct doctor *d, const struct patient *p)
{
    struct doctor_check *c = doctor_find(d, "model.pre-tokenizer");
    const char *family = NULL;
    struct bnt_err err = {0};
    struct splits s = {.n = 0};
    size_t best = 0;
    if (c->state != DOCTOR_OK || !p->model || strcmp(bnt_tokenizer_model(p->tokenizer), "gpt2") ||
        bnt_tokenizer_recognise(p->tokenizer, &family) || doctor_is_ill(d, "model.packing") ||
        doctor_is_ill(d, "model.memory") || doctor_is_ill(d, "model.kind") ||
        doctor_is_ill(d, "environment.mock")) {
        return;
    }
    if (try_splits(&s, p, d, &err) != BNT_OK) {
        doctor_error(c, "run: bnt infer -p \"Once upon a time\"", &err);
    }
    for (size_t i = 1; i < s.n; i++) {
        best = s.at[i].nats < s.at[best].nats ? i : best;
    }
    if (best > 0 && s.at[best].nats < (1 - SPLIT_GAIN) * s.at[0].nats &&
        !makes_no_sense(p, s.at[best].nats / (double)s.at[best].ids.n)) {
        doctor_problem(c, "name what the model was trained with: --pre NAME",
                       "text is split by %s; plain English is likelier to the model when it is "
                       "split by %s or alike: %.1f nats instead of %.1f",
                       s.at[0].pre, s.at[best].pre, s.at[best].nats, s.at[0].nats);
    }
    for (size_t i = 0; i < s.n; i++) {
        bnt_ids_release(&s.at[i].ids);
    }
}

/* ---- text ---- */

static void check_text(struct doctor *d, const struct patient *p)
{
    static const char *const grounds[] = {"model.packing", "model.pre-tokenizer", "model.memory",
                                          "environment.mock", "model.kind"};
    struct bnt_err err = {0};
    double nats = 0;
    struct doctor_check *c =
        doctor_check(d, "model.text", "how likely a plain English text is to the model");
    for (size_t i = 0; i < sizeof grounds / sizeof grounds[0]; i++) {
        if (doctor_is_ill(d, grounds[i])) {
            doctor_skipped(c, "%s comes first", grounds[i]);
            return;
        }
    }
    if (!p->model) {
        doctor_skipped(c, "the model cannot be opened");
    } else if (probe_nats(p, d, &nats, &err) != BNT_OK) {
        doctor_error(c, "run: bnt infer -p \"Once upon a time\"", &err);
    } else {
        double blind = log((double)bnt_model_info(p->model)->n_vocab);
        if (makes_no_sense(p, nats)) {
            doctor_problem(c, "hold the file against its digest, and fetch it anew",
                           "%.2f nats per token, as a blind guess (%.2f): the weights are not "
                           "those that were trained",
                           nats, blind);
        } else {
            doctor_found(c, "%.2f nats per token; a blind guess has %.2f", nats, blind);
        }
    }
}

void doctor_model(struct doctor *d)
{
    struct patient p = {0};
    check_open(d, &p);
    check_kind(d, &p);
    check_pre(d, &p);
    check_chat(d, &p);
    check_memory(d, &p);
    check_packing(d, &p);
    check_split(d, &p);
    check_text(d, &p);
    if (p.model) {
        bnt_model_close(p.model);
    }
    bnt_tokenizer_free(p.tokenizer);
    gguf_close(p.gguf);
}
