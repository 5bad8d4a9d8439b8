/* Frequencies are made once in double with our own exp and log, so that they have the same bits on
 * every machine. */
#include "engine/rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"

enum { KEY_BYTES = 128 };
#define PI 3.14159265358979323846

/* Metadata "<arch>.rope.*" besides what struct rope keeps. */
struct rope_keys {
    double n_rot, factor, n_ctx_orig, beta_fast, beta_slow, attn_factor;
};

/* A whole number or a float; *value stays as it is where the key is absent. */
static enum bnt_status key_number(const struct gguf *g, const char *arch, const char *suffix,
                                  double *value, struct bnt_err *err)
{
    char key[KEY_BYTES];
    double v;
    snprintf(key, sizeof key, "%s.rope.%s", arch, suffix);
    if (!gguf_find(g, key)) {
        return BNT_OK;
    }
    if (!gguf_get_number(g, key, &v) || !isfinite(v)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s is no number", g->path, key);
    }
    *value = v;
    return BNT_OK;
}

static enum bnt_status read_keys(const struct gguf *g, const char *arch, struct rope *r,
                                 struct rope_keys *k, struct bnt_err *err)
{
    const struct {
        const char *suffix;
        double *value;
    } rows[] = {
        {"dimension_count", &k->n_rot},
        {"freq_base", &r->theta},
        {"scale_linear", &k->factor}, /* the older key: the newer one overrides */
        {"scaling.factor", &k->factor},
        {"scaling.original_context_length", &k->n_ctx_orig},
        {"scaling.yarn_beta_fast", &k->beta_fast},
        {"scaling.yarn_beta_slow", &k->beta_slow},
        {"scaling.attn_factor", &k->attn_factor},
    };
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof rows / sizeof rows[0]; i++) {
        st = key_number(g, arch, rows[i].suffix, rows[i].value, err);
    }
    return st;
}

/* YaRN, section 3.2: which pairs are interpolated, as a ramp between the dimensions whose
 * wavelength makes beta_fast and beta_slow turns within the original context. 1: keep the pair,
 * 0: interpolate it. */
static double yarn_ramp(const struct rope *r, const struct rope_keys *k, uint32_t pair)
{
    const double beta[2] = {k->beta_fast, k->beta_slow};
    double dim[2];
    for (int i = 0; i < 2; i++) {
        dim[i] = r->n_rot * fm_log(k->n_ctx_orig / (beta[i] * 2 * PI)) / (2 * fm_log(r->theta));
    }
    double low = floor(dim[0]) > 0 ? floor(dim[0]) : 0;
    double high = ceil(dim[1]) < r->n_rot - 1 ? ceil(dim[1]) : r->n_rot - 1;
    double y = (pair - low) / (high - low > 0.001 ? high - low : 0.001);
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

static enum bnt_status apply_yarn(struct rope *r, const struct rope_keys *k, const char *path,
                                  struct bnt_err *err)
{
    if (!(k->n_ctx_orig > 0 && k->beta_fast > 0 && k->beta_slow > 0)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS,
                         "%s: yarn with an original context of %g and betas of %g and %g", path,
                         k->n_ctx_orig, k->beta_fast, k->beta_slow);
    }
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double mix = yarn_ramp(r, k, i);
        r->freq[i] = r->freq[i] / k->factor * (1 - mix) + r->freq[i] * mix;
    }
    r->attn_scale *= 1 + (BNT_FAULT(yarn_scale) ? 0 : 0.1 * fm_log(k->factor));
    return BNT_OK;
}

static enum bnt_status apply_scaling(struct rope *r, const struct gguf *g, const char *arch,
                                     const struct rope_keys *k, struct bnt_err *err)
{
    char key[KEY_BYTES];
    struct gguf_str type = {"linear", 6}; /* what a factor without a type means */
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    gguf_get_str(g, key, &type);
    bool linear = gguf_str_eq(type, "linear") || gguf_str_eq(type, "longrope"),
         yarn = gguf_str_eq(type, "yarn");
    if (!linear && !yarn && !gguf_str_eq(type, "none")) {
        bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: rope scaling '%.*s' is not known here", g->path,
                    type.len > 64 ? 64 : (int)type.len, type.data);
        bnt_err_hint(err, "none, linear, yarn, longrope and rope_freqs are");
        return BNT_E_UNSUPPORTED;
    }
    if (k->factor < 0) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s.rope.scaling.factor is %g", g->path, arch,
                         k->factor);
    }
    if (!(k->attn_factor > 0)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s.rope.scaling.attn_factor is %g", g->path,
                         arch, k->attn_factor);
    }
    r->attn_scale = BNT_FAULT(attn_factor) ? 1 : k->attn_factor; /* whatever the kind of scaling */
    if (k->factor == 0 || k->factor == 1) {
        return BNT_OK;
    }
    for (uint32_t i = 0; linear && i < r->n_rot / 2; i++) {
        r->freq[i] /= k->factor;
    }
    return yarn ? apply_yarn(r, k, g->path, err) : BNT_OK;
}

/* The values of a tensor that divide frequencies; none of them without one. */
static enum bnt_status read_factors(const struct rope *r, const struct gguf *g, const char *name,
                                    float **out, struct bnt_err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    *out = NULL;
    if (!t || BNT_FAULT(rope_factors)) {
        return BNT_OK;
    }
    if (t->type != TENSOR_F32 || t->ne[0] != r->n_rot / 2 ||
        t->size != (uint64_t)r->n_rot / 2 * sizeof(float)) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS, "%s: %s must hold %u F32 values", g->path,
                         name, r->n_rot / 2);
    }
    float *factors = malloc((size_t)t->size);
    if (!factors) {
        return bnt_err_nomem(err, "rope factors", t->size);
    }
    enum bnt_status st = gguf_tensor_read(g, t, 0, t->size, factors, err);
    for (uint32_t i = 0; st == BNT_OK && i < r->n_rot / 2; i++) {
        if (!(factors[i] > 0) || !isfinite(factors[i])) {
            st = gguf_fail(err, GGUF_FAULT_CORRUPT, "%s: %s[%u] is %g", g->path, name, i,
                           (double)factors[i]);
        }
    }
    if (st != BNT_OK) {
        free(factors);
        return st;
    }
    *out = factors;
    return BNT_OK;
}

/* Takes the factors, which may be NULL. */
static void divide_by(struct rope *r, float *factors)
{
    for (uint32_t i = 0; factors && i < r->n_rot / 2; i++) {
        r->freq[i] /= factors[i];
    }
    free(factors);
}

static enum bnt_status apply_factors(struct rope *r, const struct gguf *g, struct bnt_err *err)
{
    float *factors;
    enum bnt_status st = read_factors(r, g, "rope_freqs.weight", &factors, err);
    divide_by(r, factors);
    return st;
}

/* LongRoPE has factors for contexts up to the original one and others beyond, which are not used
 * here. */
static enum bnt_status apply_long_rope(struct rope *r, const struct gguf *g,
                                       const struct rope_keys *k, struct bnt_err *err)
{
    static const char far[] = "rope_factors_long.weight";
    float *s = NULL, *l = NULL;
    enum bnt_status st = read_factors(r, g, "rope_factors_short.weight", &s, err);
    if (st == BNT_OK) {
        st = read_factors(r, g, far, &l, err);
    }
    if (st == BNT_OK && l && !(k->n_ctx_orig >= 1)) {
        st = gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s with an original context of %g", g->path,
                       far, k->n_ctx_orig);
    } else if (st == BNT_OK && l && (!s || memcmp(s, l, r->n_rot / 2 * sizeof *l) != 0)) {
        r->n_ctx_max = k->n_ctx_orig < UINT32_MAX ? (uint32_t)k->n_ctx_orig : UINT32_MAX;
    }
    divide_by(r, s);
    free(l);
    return st;
}

enum bnt_status rope_init(struct rope *r, const struct gguf *g, const char *arch, uint32_t head_dim,
                          uint32_t n_ctx_train, struct bnt_err *err)
{
    struct rope_keys k = {.n_rot = head_dim,
                          .n_ctx_orig = n_ctx_train,
                          .beta_fast = 32,
                          .beta_slow = 1,
                          .attn_factor = 1};
    *r = (struct rope){.theta = 10000.0, .attn_scale = 1, .n_ctx_max = UINT32_MAX};
    enum bnt_status st = read_keys(g, arch, r, &k, err);
    if (st != BNT_OK) {
        return st;
    }
    if (k.n_rot < 2 || k.n_rot > head_dim || fmod(k.n_rot, 2) != 0) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                         "%s: %s.rope.dimension_count is %g, head size is %u", g->path, arch,
                         k.n_rot, head_dim);
    }
    if (!(r->theta > 1)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s.rope.freq_base is %g", g->path, arch,
                         r->theta);
    }
    r->n_rot = (uint32_t)k.n_rot;
    r->freq = calloc(r->n_rot / 2, sizeof *r->freq);
    if (!r->freq) {
        return bnt_err_nomem(err, "rope frequencies", r->n_rot);
    }
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        r->freq[i] = fm_exp(-2.0 * i / r->n_rot * fm_log(r->theta * (1 + BNT_FAULT(rope_base))));
    }
    st = apply_factors(r, g, err);
    if (st == BNT_OK) {
        st = apply_long_rope(r, g, &k, err);
    }
    return st == BNT_OK ? apply_scaling(r, g, arch, &k, err) : st;
}

void rope_release(struct rope *r)
{
    free(r->freq);
    r->freq = NULL;
}

void rope_at(const struct rope *r, uint64_t pos, float *cs)
{
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double s, c;
        fm_sincos((double)pos * r->freq[i], &s, &c);
        cs[2 * i] = (float)(c * r->attn_scale);
        cs[2 * i + 1] = (float)(s * r->attn_scale);
    }
}
