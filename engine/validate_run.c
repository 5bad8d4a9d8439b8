/* What the file does: how its weights are packed, whether it loads, whether the kernels agree on
 * it, whether plain English makes sense to it, how fast it is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/bandwidth.h"
#include "engine/bnt_infer.h"
#include "engine/cpu/kernels.h"
#include "engine/quality.h"
#include "engine/validate_impl.h"

/* Everyday English, which any model that answers at all finds likelier than noise. */
static const char known_text[] =
    "Once upon a time, there was a little girl named Lily. She lived in a small house with her "
    "mom and her dad. One day, Lily went to the park to play with her friends. They saw a big dog "
    "near the tree. The dog was very happy and wanted to play too. Lily threw the ball, and the "
    "dog ran to get it. Everyone laughed. When it was time to go home, Lily said goodbye to the "
    "dog and went home with her mom. She was tired, but she had a very good day.";

#define MOST_SURPRISE 0.8 /* of a blind guess, in logarithms */
enum { SCORED_IDS = 128, AGREEING_IDS = 4, PREFILL_IDS = 64, DECODE_IDS = 12 };

struct run {
    struct validate *v;
    struct bnt_model *model;
    struct bnt_ids ids; /* of known_text */
    struct bnt_err *err;
};

/* ---- packing ---- */

static void check_packing(struct run *r)
{
    const struct bnt_model_info *info = bnt_model_info(r->model);
    struct validate_place at = {.offset = NULL};
    r->v->report->run.i2s_layout = info->i2s_layout;
    if (info->i2s_layout && strcmp(info->i2s_layout, i2s_layout_name(I2S_X86)) != 0) {
        validate_add(r->v, VALIDATE_PACKING, &at,
                     "I2_S weights are packed %s, not %s (a fixed text makes sense under that "
                     "packing only, or the file says so)",
                     info->i2s_layout, i2s_layout_name(I2S_X86));
    }
    if (info->i2s_undecided && !r->v->report->mock) {
        validate_add(r->v, VALIDATE_SENSE, &at,
                     "plain English makes no sense to this model under any I2_S packing");
    }
}

/* ---- loading ---- */

static enum bnt_status load(struct run *r)
{
    struct bnt_err why = {0};
    struct validate_place at = {.offset = NULL};
    struct bnt_session_options session = {.n_ctx = SCORED_IDS};
    const struct validate_options *o = r->v->o;
    struct bnt_model_options opts = {.session = &session,
                                     .tl_tiles = o->tl_tiles,
                                     .n_tl_tiles = o->n_tl_tiles,
                                     .tl_look_up = o->tl_look_up};
    uint64_t start = bnt_clock_now_ns();
    if (bnt_model_open(r->v->path, &opts, &r->model, &why) != BNT_OK) {
        validate_add_error(r->v, VALIDATE_LOAD, &at, &why);
        return BNT_OK;
    }
    struct validate_run *run = &r->v->report->run;
    run->loaded = true;
    run->load_ms = (double)(bnt_clock_now_ns() - start) / 1e6;
    run->memory_mb = (double)bnt_model_memory_need(r->model, &session) / 1e6;
    return bnt_tokenizer_encode(bnt_model_tokenizer(r->model), known_text, strlen(known_text),
                                BNT_ENCODE_ADD_SPECIAL, &r->ids, r->err);
}

static uint32_t context_of(const struct run *r, uint32_t wanted)
{
    uint32_t most = bnt_model_info(r->model)->n_ctx_train;
    return most < wanted ? most : wanted;
}

/* A session for n positions; one that cannot be had is a finding: *out is NULL. */
static void open_session(struct run *r, uint32_t n, const char *kernel, struct bnt_session **out)
{
    struct bnt_err why = {0};
    struct validate_place at = {.offset = NULL};
    struct bnt_session_options opts = {
        .n_ctx = n, .kernel = kernel, .interrupted = r->v->o->interrupted};
    *out = NULL;
    if (bnt_session_new(r->model, &opts, out, &why) != BNT_OK) {
        int kind = why.status == BNT_E_SELF_TEST ? VALIDATE_SELF_TEST : VALIDATE_LOAD;
        validate_add_error(r->v, kind, &at, &why);
    }
}

/* A status of the engine is a finding, but for an interruption. */
static enum bnt_status as_finding(struct run *r, enum bnt_status st, const struct bnt_err *why)
{
    struct validate_place at = {.offset = NULL};
    if (st == BNT_OK || st == BNT_E_INTERRUPTED || st == BNT_E_MEMORY) {
        return st == BNT_OK ? BNT_OK : bnt_err_copy(r->err, why);
    }
    validate_add_error(r->v, VALIDATE_LOAD, &at, why);
    return BNT_OK;
}

/* ---- kernels ---- */

/* The logits after the first ids of the text, by this table of kernels; NULL when it says nothing.
 */
static enum bnt_status logits_by(struct run *r, const char *kernel, float **out)
{
    struct bnt_session *s;
    struct bnt_err why = {0};
    size_t n = r->ids.n < AGREEING_IDS ? r->ids.n : AGREEING_IDS;
    size_t bytes = bnt_model_info(r->model)->n_vocab * sizeof **out;
    *out = NULL;
    open_session(r, context_of(r, AGREEING_IDS), kernel, &s);
    if (!s) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_session_eval(s, r->ids.at, n, &why);
    if (st == BNT_OK) {
        const float *logits = bnt_session_logits(s);
        st = bnt_quality_logits(logits, (int32_t)bnt_model_info(r->model)->n_vocab, &why);
        *out = st == BNT_OK ? malloc(bytes) : NULL;
        if (st == BNT_OK && !*out) {
            st = bnt_err_nomem(&why, "logits", bytes);
        } else if (*out) {
            memcpy(*out, logits, bytes);
        }
    }
    bnt_session_free(s);
    return as_finding(r, st, &why);
}

/* Every table that this processor runs gives the same bits. */
static enum bnt_status check_kernels(struct run *r)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    struct validate_place at = {.offset = NULL};
    struct validate_run *run = &r->v->report->run;
    float *first = NULL;
    size_t bytes = bnt_model_info(r->model)->n_vocab * sizeof *first;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && all[i] && r->ids.n > 0; i++) {
        float *logits = NULL;
        if (cpu_kernels_missing(all[i])) {
            continue;
        }
        st = logits_by(r, all[i]->name, &logits);
        if (first && logits && memcmp(first, logits, bytes) != 0) {
            validate_add(r->v, VALIDATE_SELF_TEST, &at,
                         "kernels %s and %s give different logits for this model", run->kernel,
                         all[i]->name);
        }
        run->n_kernels += logits != NULL;
        if (!first && logits) {
            first = logits;
            run->kernel = all[i]->name;
        } else {
            free(logits);
        }
    }
    free(first);
    return st;
}

/* ---- a known text ---- */

static enum bnt_status check_sense(struct run *r)
{
    struct bnt_session *s;
    struct bnt_err why = {0};
    struct bnt_perplexity ppl;
    struct validate_place at = {.offset = NULL};
    struct validate_run *run = &r->v->report->run;
    uint32_t n_ctx = context_of(r, SCORED_IDS);
    size_t skip = bnt_tokenizer_add_bos(bnt_model_tokenizer(r->model)) ? 1 : 0;
    if (bnt_tokenizer_bos(bnt_model_tokenizer(r->model)) < 0 || r->ids.n < skip + 2 || n_ctx < 2) {
        return BNT_OK; /* a text without a beginning cannot be scored */
    }
    size_t n = r->ids.n - skip < n_ctx - 1 ? r->ids.n - skip : n_ctx - 1;
    open_session(r, n_ctx, NULL, &s);
    if (!s) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_perplexity(s, r->ids.at + skip, n, n_ctx, NULL, NULL, &ppl, &why);
    bnt_session_free(s);
    if (st != BNT_OK) {
        return as_finding(r, st, &why);
    }
    run->has_perplexity = true;
    run->perplexity = ppl.ppl;
    run->n_scored = ppl.n_tokens;
    double blind = log(bnt_model_info(r->model)->n_vocab);
    if (ppl.nll > MOST_SURPRISE * blind && !r->v->report->mock) {
        validate_add(r->v, VALIDATE_SENSE, &at,
                     "plain English has perplexity %.4g over %llu tokens; a blind guess among %u "
                     "has %u",
                     ppl.ppl, (unsigned long long)ppl.n_tokens, bnt_model_info(r->model)->n_vocab,
                     bnt_model_info(r->model)->n_vocab);
    }
    return BNT_OK;
}

/* ---- speed ---- */

static enum bnt_status time_decode(struct run *r, struct bnt_session *s, size_t n_prefill,
                                   struct bnt_err *why)
{
    struct validate_run *run = &r->v->report->run;
    uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = bnt_session_eval(s, r->ids.at, n_prefill, why);
    uint64_t middle = bnt_clock_now_ns();
    unsigned n = 0;
    for (; st == BNT_OK && n < DECODE_IDS && bnt_session_n_past(s) < bnt_session_n_ctx(s); n++) {
        st = bnt_session_eval(s, &r->ids.at[n % r->ids.n], 1, why);
    }
    uint64_t end = bnt_clock_now_ns();
    if (st == BNT_OK && n > 0 && end > middle && middle > start) {
        struct bnt_session_stats stats;
        bnt_session_stats(s, &stats);
        run->has_speed = true;
        run->prefill_tps = (double)n_prefill / ((double)(middle - start) / 1e9);
        run->decode_tps = n / ((double)(end - middle) / 1e9);
        run->decode_gb_per_s = run->decode_tps * (double)stats.weight_bytes_per_token / 1e9;
    }
    return st;
}

static enum bnt_status measure_speed(struct run *r)
{
    struct bnt_session *s;
    struct bnt_err why = {0};
    struct bandwidth memory = {0};
    uint32_t n_ctx = context_of(r, PREFILL_IDS + DECODE_IDS);
    size_t n = r->ids.n < PREFILL_IDS ? r->ids.n : PREFILL_IDS;
    n = n < n_ctx ? n : n_ctx - 1;
    open_session(r, n_ctx, NULL, &s);
    if (!s || n == 0) {
        bnt_session_free(s);
        return BNT_OK;
    }
    r->v->report->run.kernel = bnt_session_kernel(s);
    enum bnt_status st = time_decode(r, s, n, &why);
    int n_threads = bnt_session_n_threads(s);
    bnt_session_free(s);
    if (st == BNT_OK && bandwidth_measure(n_threads, &memory, NULL) == BNT_OK) {
        r->v->report->run.memory_gb_per_s = memory.all_gb_per_s;
    }
    return as_finding(r, st, &why);
}

/* ---- all ---- */

static bool has_i2s(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].type == TENSOR_I2_S) {
            return true;
        }
    }
    return false;
}

static enum bnt_status behave(struct run *r)
{
    bool paranoid = r->v->o->level == VALIDATE_PARANOID;
    enum bnt_status st = load(r);
    if (st != BNT_OK || !r->model) {
        return st;
    }
    check_packing(r);
    if (paranoid) {
        st = check_kernels(r);
    }
    if (st == BNT_OK && paranoid) {
        st = check_sense(r);
    }
    if (st == BNT_OK && (paranoid || r->v->o->benchmark)) {
        st = measure_speed(r);
    }
    return st;
}

enum bnt_status validate_behaviour(struct validate *v, struct bnt_err *err)
{
    struct run r = {.v = v, .err = err};
    if (v->o->level < VALIDATE_PARANOID && !v->o->benchmark && !has_i2s(v->g)) {
        return BNT_OK;
    }
    enum bnt_status st = behave(&r);
    bnt_ids_release(&r.ids);
    bnt_model_close(r.model);
    return st;
}
