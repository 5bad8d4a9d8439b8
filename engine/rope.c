/* Frequencies are made once in double with our own exp and log, so that they have the same bits on
 * every machine. */
#include "engine/rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/cpu/fmath.h"

enum { KEY_BYTES = 128 };
#define PI 3.14159265358979323846

static double key_f64(const struct gguf *g, const char *arch, const char *suffix, double fallback)
{
    char key[KEY_BYTES];
    double v;
    snprintf(key, sizeof key, "%s.rope.%s", arch, suffix);
    return gguf_get_f64(g, key, &v) && isfinite(v) ? v : fallback;
}

/* YaRN, section 3.2: which pairs are interpolated, as a ramp between the dimensions whose
 * wavelength makes beta_fast and beta_slow turns within the original context. */
static double yarn_ramp(const struct rope *r, double n_ctx_orig, uint32_t pair,
                        const double beta[2])
{
    double dim[2];
    for (int i = 0; i < 2; i++) {
        dim[i] = r->n_rot * fm_log(n_ctx_orig / (beta[i] * 2 * PI)) / (2 * fm_log(r->theta));
    }
    double low = floor(dim[0]) > 0 ? floor(dim[0]) : 0;
    double high = ceil(dim[1]) < r->n_rot - 1 ? ceil(dim[1]) : r->n_rot - 1;
    double y = (pair - low) / (high - low > 0.001 ? high - low : 0.001);
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

static void apply_yarn(struct rope *r, const struct gguf *g, const char *arch, double factor,
                       uint32_t n_ctx_train)
{
    double n_ctx_orig = key_f64(g, arch, "scaling.original_context_length", n_ctx_train);
    double beta[2] = {key_f64(g, arch, "scaling.yarn_beta_fast", 32),
                      key_f64(g, arch, "scaling.yarn_beta_slow", 1)};
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double mix = yarn_ramp(r, n_ctx_orig, i, beta); /* 1: keep, 0: interpolate */
        r->freq[i] = r->freq[i] / factor * (1 - mix) + r->freq[i] * mix;
    }
    r->attn_scale = key_f64(g, arch, "scaling.attn_factor", 1) * (1 + 0.1 * fm_log(factor));
}

static enum bnt_status apply_scaling(struct rope *r, const struct gguf *g, const char *arch,
                                     uint32_t n_ctx_train, struct bnt_err *err)
{
    char key[KEY_BYTES];
    struct gguf_str type;
    double factor = key_f64(g, arch, "scaling.factor", 0);
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    if (!gguf_get_str(g, key, &type)) {
        factor = key_f64(g, arch, "scale_linear", factor); /* the older key */
        type = (struct gguf_str){"linear", 6};
    }
    if (gguf_str_eq(type, "none") || factor == 0 || factor == 1) {
        return BNT_OK;
    }
    if (factor < 0) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s.rope.scaling.factor is %g", g->path, arch,
                         factor);
    }
    if (gguf_str_eq(type, "linear")) {
        for (uint32_t i = 0; i < r->n_rot / 2; i++) {
            r->freq[i] /= factor;
        }
        return BNT_OK;
    }
    if (gguf_str_eq(type, "yarn")) {
        apply_yarn(r, g, arch, factor, n_ctx_train);
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: rope scaling '%.*s' is not known here", g->path,
                (int)type.len, type.data);
    bnt_err_hint(err, "none, linear, yarn and rope_freqs are");
    return BNT_E_UNSUPPORTED;
}

static enum bnt_status apply_factors(struct rope *r, const struct gguf *g, struct bnt_err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    if (!t) {
        return BNT_OK;
    }
    if (t->type != TENSOR_F32 || t->ne[0] != r->n_rot / 2 ||
        t->size != (uint64_t)r->n_rot / 2 * sizeof(float)) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                         "%s: rope_freqs.weight must hold %u F32 values", g->path, r->n_rot / 2);
    }
    float *factors = malloc((size_t)t->size);
    if (!factors) {
        return bnt_err_nomem(err, "rope factors", t->size);
    }
    enum bnt_status st = gguf_tensor_read(g, t, 0, t->size, factors, err);
    for (uint32_t i = 0; st == BNT_OK && i < r->n_rot / 2; i++) {
        if (!(factors[i] > 0) || !isfinite(factors[i])) {
            st = gguf_fail(err, GGUF_FAULT_CORRUPT, "%s: rope_freqs.weight[%u] is %g", g->path, i,
                           (double)factors[i]);
        } else {
            r->freq[i] /= factors[i];
        }
    }
    free(factors);
    return st;
}

enum bnt_status rope_init(struct rope *r, const struct gguf *g, const char *arch, uint32_t head_dim,
                          uint32_t n_ctx_train, struct bnt_err *err)
{
    double n_rot = key_f64(g, arch, "dimension_count", head_dim);
    *r = (struct rope){.theta = key_f64(g, arch, "freq_base", 10000.0), .attn_scale = 1};
    if (n_rot < 2 || n_rot > head_dim || n_rot != floor(n_rot) || (uint32_t)n_rot % 2 != 0) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                         "%s: %s.rope.dimension_count is %g, head size is %u", g->path, arch, n_rot,
                         head_dim);
    }
    if (!(r->theta > 1)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s.rope.freq_base is %g", g->path, arch,
                         r->theta);
    }
    r->n_rot = (uint32_t)n_rot;
    r->freq = calloc(r->n_rot / 2, sizeof *r->freq);
    if (!r->freq) {
        return bnt_err_nomem(err, "rope frequencies", r->n_rot);
    }
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        r->freq[i] = fm_exp(-2.0 * i / r->n_rot * fm_log(r->theta));
    }
    enum bnt_status st = apply_factors(r, g, err);
    return st == BNT_OK ? apply_scaling(r, g, arch, n_ctx_train, err) : st;
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
