/* The reference kernels: plain C whose results define what every other table must return, bit for
 * bit. They follow kernels.h to the letter and favour being read over speed; they also run where no
 * other table can. */
#include "engine/cpu/kernels.h"

#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#define LANES 16

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static float lanes_sum(float lane[LANES])
{
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int j = 0; j < width; j++) {
            lane[j] += lane[j + width];
        }
    }
    return lane[0];
}

static void lanes_add_products(float lane[LANES], const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float product = a[i] * b[i];
        lane[i % LANES] += product;
    }
}

static float dot(const float *a, const float *b, size_t n)
{
    float lane[LANES] = {0};
    lanes_add_products(lane, a, b, n);
    return lanes_sum(lane);
}

/* n <= 16 values of a row, from element c on. */
static void load_values(enum tensor_type type, const uint8_t *row, uint64_t c, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        switch (type) {
        case TENSOR_F16:
            memcpy(&half, row + 2 * (c + i), sizeof(half));
            out[i] = f16_to_f32(half);
            break;
        case TENSOR_BF16:
            memcpy(&half, row + 2 * (c + i), sizeof(half));
            out[i] = bf16_to_f32(half);
            break;
        default:
            memcpy(out + i, row + 4 * (c + i), sizeof(float));
            break;
        }
    }
}

static float dot_typed(enum tensor_type type, const uint8_t *row, const float *x, uint64_t n)
{
    float lane[LANES] = {0};
    for (uint64_t c = 0; c < n; c += LANES) {
        float values[LANES];
        size_t count = n - c < LANES ? (size_t)(n - c) : LANES;
        load_values(type, row, c, count, values);
        lanes_add_products(lane, values, x + c, count);
    }
    return lanes_sum(lane);
}

static void quantize_act(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    uint32_t max_bits = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i]) & 0x7fffffffu;
        max_bits = u > max_bits ? u : max_bits;
    }
    memset(q, 0, act_stride(n));
    *sum = 0;
    float absmax = float_of(max_bits);
    if (!isfinite(absmax)) {
        /* No code stands for such a row: zeros times a non-finite scale make every product NaN,
         * which is seen. */
        *scale = absmax;
        return;
    }
    absmax = absmax < 1e-5f ? 1e-5f : absmax;
    *scale = absmax / 127.0f;
    float inverse = 127.0f / absmax;
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * inverse;
        /* Adding and taking away 1.5 * 2^23 rounds half to even. */
        v = BNT_FAULT(quantize_rounding) ? truncf(v) : (v + 0x1.8p+23f) - 0x1.8p+23f;
        v = v < -128.0f ? -128.0f : v > 127.0f ? 127.0f : v;
        q[act_position(i)] = (int8_t)v;
        *sum += (int8_t)v;
    }
}

static int32_t dot_codes(const uint8_t *codes, const int8_t *q, uint64_t n_blocks)
{
    int32_t total = 0;
    for (uint64_t b = 0; b < n_blocks; b++) {
        const uint8_t *block = codes + 32 * b;
        const int8_t *act = q + 256 * (b / 2) + 32 * (b % 2);
        for (int p = 0; p < 32; p++) {
            int byte = block[p];
            total += (byte >> 6) * act[p] + (byte >> 4 & 3) * act[64 + p] +
                     (byte >> 2 & 3) * act[128 + p] + (byte & 3) * act[192 + p];
        }
    }
    return total;
}

static void matmul_ternary(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                           const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    for (uint64_t r = row0; r < row1; r++) {
        for (size_t t = 0; t < n_tok; t++) {
            int32_t total =
                dot_codes(w->codes + r * w->row_bytes, a->q + t * a->stride, w->row_bytes / 32);
            y[t * y_stride + r] =
                (float)(total - !BNT_FAULT(ternary_sum) * a->sum[t]) * (w->scale * a->scale[t]);
        }
    }
}

static void matmul_float(const struct float_weights *w, uint64_t row0, uint64_t row1,
                         const float *x, size_t x_stride, size_t n_tok, float *y, size_t y_stride,
                         float *scratch)
{
    bool direct = tensor_is_plain(w->type);
    for (uint64_t r = row0; r < row1; r++) {
        const uint8_t *row = w->data + r * w->row_bytes;
        if (!direct) {
            dequantize_row(w->type, row, w->cols, scratch);
        }
        for (size_t t = 0; t < n_tok; t++) {
            const float *xt = x + t * x_stride;
            y[t * y_stride + r] =
                direct ? dot_typed(w->type, row, xt, w->cols) : dot(scratch, xt, w->cols);
        }
    }
}

static void dot_ternary(const struct ternary_weights *w, const struct row_walk *walk,
                        const struct act_rows *a, float *y)
{
    for (uint64_t i = 0; i < WALK_STREAMS; i++) {
        uint64_t first = i * walk->spread;
        matmul_ternary(w, first + walk->begin, first + walk->end, a, 1, y, 0);
    }
}

static void dot_fives(const struct five_codes *w, const struct row_walk *walk,
                      const struct act_rows *a, float *y)
{
    for (uint64_t i = 0; i < WALK_STREAMS * (walk->end - walk->begin); i++) {
        uint64_t g = i % WALK_STREAMS * walk->spread + walk->begin + i / WALK_STREAMS;
        int32_t sums[FIVES_ROWS] = {0};
        for (uint64_t p = 0; p < w->group_bytes; p++) {
            uint32_t code = w->codes[g * w->group_bytes + p];
            for (int k = 0; k < FIVES_ROWS; k++, code /= 3) {
                sums[k] += (int32_t)(code % 3) * a->q[p];
            }
        }
        for (uint64_t k = 0; k < FIVES_ROWS; k++) {
            y[FIVES_ROWS * g + k] = (float)(sums[k] - a->sum[0]) * (w->scale * a->scale[0]);
        }
    }
}

static void add_columns(const struct column_codes *w, const int8_t *q, uint64_t begin, uint64_t end,
                        int32_t *acc)
{
    for (uint64_t p = begin; p < end; p++) {
        for (uint64_t i = 0; q[p] != 0 && i < w->column_bytes; i++) {
            uint64_t line = i / COLUMN_LINE, byte = i % COLUMN_LINE;
            for (uint64_t g = 0; g < 4; g++) {
                uint64_t row = 16 * (4 * g + byte / 4 % 4) + 4 * (byte / 16) + byte % 4;
                int32_t code = w->codes[p * w->column_bytes + i] >> 2 * g & 3;
                acc[COLUMN_ROWS * line + row] += code * q[p];
            }
        }
    }
}

static void dot_float(const struct float_weights *w, const struct row_walk *walk, const float *x,
                      float *y)
{
    for (uint64_t i = 0; i < WALK_STREAMS; i++) {
        uint64_t first = i * walk->spread;
        matmul_float(w, first + walk->begin, first + walk->end, x, 0, 1, y, 0, NULL);
    }
}

static float narrow_weight(const struct narrow_codes *w, uint64_t r, uint64_t c)
{
    const struct narrow_row *row = &w->rows[r];
    uint64_t at = narrow_place(c), p = at % NARROW_BLOCK;
    const uint8_t *block = w->codes + r * w->row_bytes + c / NARROW_BLOCK * NARROW_BLOCK_BYTES;
    uint32_t high = row->high[block[p % 64] >> 4 * (p / 64) & 15];
    for (int i = 0; i < row->n_odd; i++) {
        high = row->odd_at[i] == at ? row->odd_high[i] : high;
    }
    uint32_t bits = high << 24 | (uint32_t)block[64 + p] << 16;
    return float_of(bits);
}

static void dot_narrow_row(const struct narrow_codes *w, uint64_t r, const float *x, float *y)
{
    float lane[LANES] = {0};
    if (w->rows[r].n_odd > NARROW_ODD) {
        matmul_float(&w->whole, r, r + 1, x, 0, 1, y, 0, NULL);
        return;
    }
    for (uint64_t c = 0; c < w->whole.cols; c++) {
        float product = narrow_weight(w, r, c) * x[c];
        lane[c % LANES] += product;
    }
    y[r] = lanes_sum(lane);
}

static void dot_narrow(const struct narrow_codes *w, const struct row_walk *walk, const float *x,
                       float *y)
{
    for (uint64_t i = 0; i < WALK_STREAMS; i++) {
        for (uint64_t r = walk->begin; r < walk->end; r++) {
            dot_narrow_row(w, i * walk->spread + r, x, y);
        }
    }
}

const uint8_t screen_levels[SCREEN_LEVELS] = {2,  6,  10, 14, 18, 22, 26, 31,
                                              36, 41, 47, 53, 60, 69, 80, 96};

static int32_t dot_screen_row(const uint8_t *codes, uint64_t row_bytes, const int8_t *q)
{
    int32_t total = 0;
    for (uint64_t b = 0; b < row_bytes; b += SCREEN_BLOCK_BYTES, q += 256) {
        for (int i = 0; i < 256; i++) {
            int g = i / 64, p = i % 64;
            int level = codes[b + 64 * (uint64_t)(g / 2) + (uint64_t)p] >> 4 * (g % 2) & 15;
            int sign = codes[b + 128 + (uint64_t)(p % 32)] >> (g + 4 * (p / 32)) & 1;
            total += (sign ? -screen_levels[level] : screen_levels[level]) * q[i];
        }
    }
    return total;
}

static void dot_screen(const struct screen_codes *w, const struct row_walk *walk,
                       const struct act_rows *a, float *out)
{
    for (uint64_t i = 0; i < WALK_STREAMS; i++) {
        for (uint64_t r = i * walk->spread + walk->begin; r < i * walk->spread + walk->end; r++) {
            const uint8_t *codes = w->codes + r * w->row_bytes;
            out[r] = screen_score(dot_screen_row(codes, w->row_bytes, a->q),
                                  dot_screen_row(codes, w->row_bytes, a->q + a->stride));
        }
    }
}

static void rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
    float mean = dot(x, x, n) / (float)n;
    float inverse = 1.0f / sqrtf(mean + eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = (x[i] * inverse) * w[i];
    }
}

static void rope(float *x, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                 enum rope_style style, const float *cs)
{
    for (uint32_t h = 0; h < n_head; h++) {
        float *head = x + (size_t)h * head_dim;
        for (uint32_t i = 0; i < n_rot / 2; i++) {
            float *a = style == ROPE_NEOX ? head + i : head + 2 * i;
            float *b = style == ROPE_NEOX ? head + i + n_rot / 2 : head + 2 * i + 1;
            float c = cs[2 * i], s = cs[2 * i + 1];
            float rotated_a = *a * c - *b * s;
            float rotated_b = *a * s + *b * c;
            *a = rotated_a;
            *b = rotated_b;
        }
    }
}

/* Element e of row `pos` of a key or value matrix. */
static float kv_at(const void *base, bool f16, size_t index)
{
    return f16 ? f16_to_f32(((const uint16_t *)base)[index]) : ((const float *)base)[index];
}

static void softmax_unscaled(float *scores, uint32_t n, float *sum)
{
    float max = scores[0];
    for (uint32_t p = 1; p < n; p++) {
        max = scores[p] > max ? scores[p] : max;
    }
    float lane[LANES] = {0};
    for (uint32_t p = 0; p < n; p++) {
        scores[p] = fm_expf(scores[p] - (BNT_FAULT(softmax_max) ? 0.0f : max));
        lane[p % LANES] += scores[p];
    }
    *sum = lanes_sum(lane);
}

static void attend_head(const struct attend_args *a, uint32_t n_kv, const float *q, float *out)
{
    float *scores = a->scores;
    for (uint32_t p = 0; p < n_kv; p++) {
        float lane[LANES] = {0};
        for (uint32_t c = 0; c < a->head_dim; c++) {
            float product = q[c] * kv_at(a->k, a->kv_f16, p * a->kv_stride + c);
            lane[c % LANES] += product;
        }
        scores[p] = lanes_sum(lane) * a->scale;
    }
    float sum;
    softmax_unscaled(scores, n_kv, &sum);
    for (uint32_t c = 0; c < a->head_dim; c++) {
        float acc = 0.0f;
        for (uint32_t p = 0; p < n_kv; p++) {
            float product = scores[p] * kv_at(a->v, a->kv_f16, p * a->kv_stride + c);
            acc += product;
        }
        out[c] = acc / sum;
    }
}

static void attend(const struct attend_args *a)
{
    for (uint32_t t = 0; t < a->n_tok; t++) {
        for (uint32_t h = 0; h < a->n_head_group; h++) {
            size_t at = t * a->tok_stride + (size_t)h * a->head_dim;
            attend_head(a, a->n_kv + t * a->n_kv_step, a->q + at, a->out + at);
        }
    }
}

static void act_mul(enum act_fn fn, float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i];
        if (fn == ACT_SILU) {
            gate[i] = g / (1.0f + fm_expf(-g)) * up[i];
        } else {
            float positive = g < 0.0f ? 0.0f : g; /* a NaN stays */
            gate[i] = positive * (BNT_FAULT(relu2) ? 1.0f : positive) * up[i];
        }
    }
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

static void store_f16(const float *x, size_t n, uint16_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = f32_to_f16(x[i]);
    }
}

const struct cpu_kernels cpu_kernels_ref = {
    .name = "ref",
    .matmul_ternary = matmul_ternary,
    .tl_tables = tl_tables_ref,
    .matmul_tl = tl_matmul_ref,
    .dot_fives = dot_fives,
    .add_columns = add_columns,
    CPU_OWN_ENTRIES,
};
