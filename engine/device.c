/* From a choice to a back end. What auto measures is remembered as a fact of the model's file: it
 * holds for this version, this GPU and its driver. */
#include "engine/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/file_facts.h"

#define FACT_KEY "device"
enum { GPU_BATCH = 512, MEASURE_TOKENS = 8 };

/* ---- one GPU ---- */

static enum bnt_status new_cuda(const struct bnt_model *m, const struct backend_config *config,
                                const struct device_choice *choice, struct backend **out,
                                struct bnt_err *err)
{
    const char *overlap = getenv("BNT_CUDA_OVERLAP"), *times = getenv("BNT_CUDA_TIMES");
    const char *split = getenv("BNT_CUDA_SPLIT");
    struct cuda_options o = {.index = choice->index,
                             .limit = choice->limit,
                             .overlap = overlap && strcmp(overlap, "1") == 0,
                             .times = times && times[0] ? times : NULL,
                             .split = split ? (uint32_t)strtoul(split, NULL, 10) : 0};
    return backend_cuda_new(m, config, &o, out, err);
}

static void warn(const struct device_choice *choice, const struct bnt_err *why)
{
    char text[sizeof why->msg + 64];
    snprintf(text, sizeof text, "%s: the CPU computes instead", why->msg);
    if (choice->warn) {
        choice->warn(choice->warn_ctx, text, "--fallback never makes an error of this");
    }
}

/* A GPU that is there and cannot take the model is replaced, unless that was forbidden. */
static enum bnt_status cuda_or_cpu(const struct bnt_model *m, const struct backend_config *config,
                                   const struct device_choice *choice, struct backend **out,
                                   struct bnt_err *err)
{
    char why[256];
    struct bnt_err failed = {0};
    bool absent = choice->index >= cuda_device_count(why, sizeof why);
    enum bnt_status st = new_cuda(m, config, choice, out, &failed);
    if (st == BNT_OK || st == BNT_E_INTERRUPTED || absent ||
        choice->fallback == DEVICE_FALLBACK_NEVER) {
        bnt_err_copy(err, &failed);
        return st;
    }
    warn(choice, &failed);
    return backend_cpu_new(m, config, out, err);
}

/* ---- auto ---- */

/* What auto found out. */
struct device_verdict {
    bool gpu;   /* the GPU is faster, and gave the CPU's logits */
    bool equal; /* the logits were equal bit for bit */
    double gpu_tokens_per_s, cpu_tokens_per_s;
};

/* Decode a few ids after one another; the seconds that it took, and the last row of logits. */
static enum bnt_status decode_some(struct backend *b, float *logits, double *seconds,
                                   struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    uint64_t t0 = 0;
    for (uint32_t i = 0; st == BNT_OK && i <= MEASURE_TOKENS; i++) {
        struct backend_row row = {.id = (int32_t)(i % b->model->info.n_vocab), .pos = i};
        t0 = i == 1 ? bnt_clock_now_ns() : t0; /* the first one warms up */
        st = b->ops->forward(b, &row, 1, err);
        if (st == BNT_OK) {
            st = b->ops->logits(b, 0, 1, logits, err);
        }
    }
    *seconds = (double)(bnt_clock_now_ns() - t0) / 1e9;
    return st;
}

/* Decode a few tokens on both. */
static enum bnt_status measure(const struct bnt_model *m, const struct backend_config *config,
                               const struct device_choice *choice, struct device_verdict *out,
                               struct bnt_err *err)
{
    struct backend_config short_config = *config;
    size_t bytes = (size_t)m->info.n_vocab * sizeof(float);
    float *logits = malloc(2 * bytes);
    double seconds[2] = {0};
    struct backend *b = NULL;
    short_config.n_ctx = MEASURE_TOKENS + 1;
    short_config.n_batch = 1;
    short_config.n_seq = 1;
    enum bnt_status st = logits ? BNT_OK : bnt_err_nomem(err, "a measurement", 2 * bytes);
    for (int i = 0; st == BNT_OK && i < 2; i++) {
        st = i == 0 ? backend_cpu_new(m, &short_config, &b, err)
                    : new_cuda(m, &short_config, choice, &b, err);
        if (st == BNT_OK) {
            st = decode_some(b, logits + (size_t)i * m->info.n_vocab, &seconds[i], err);
            b->ops->free(b);
        }
    }
    if (st == BNT_OK) {
        out->equal = memcmp(logits, logits + m->info.n_vocab, bytes) == 0;
        out->cpu_tokens_per_s = seconds[0] > 0 ? MEASURE_TOKENS / seconds[0] : 0;
        out->gpu_tokens_per_s = seconds[1] > 0 ? MEASURE_TOKENS / seconds[1] : 0;
        out->gpu = out->equal && out->gpu_tokens_per_s > out->cpu_tokens_per_s;
    }
    free(logits);
    return st;
}

/* What a verdict is about: it does not hold for another version, GPU or driver. */
static void verdict_text(const struct cuda_info *info, bool gpu, char out[BNT_FACT_MAX])
{
    snprintf(out, BNT_FACT_MAX, "%s %s %.40s %u", gpu ? "cuda" : "cpu", BNT_VERSION, info->name,
             info->driver);
}

static bool recall(const struct bnt_model *m, const struct cuda_info *info, bool *gpu)
{
    struct bnt_file_id id;
    char said[BNT_FACT_MAX], wanted[BNT_FACT_MAX];
    if (!bnt_file_identify(m->gguf->path, &id) || !bnt_fact_get(&id, FACT_KEY, said)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        verdict_text(info, i == 1, wanted);
        if (strcmp(said, wanted) == 0) {
            *gpu = i == 1;
            return true;
        }
    }
    return false;
}

static void remember(const struct bnt_model *m, const struct cuda_info *info, bool gpu)
{
    struct bnt_file_id id;
    char value[BNT_FACT_MAX];
    verdict_text(info, gpu, value);
    if (bnt_file_identify(m->gguf->path, &id)) {
        bnt_fact_put(&id, FACT_KEY, value);
    }
}

/* Whether the GPU is to be taken. A GPU that fails its measurement is not, and says so. */
static bool auto_takes_gpu(const struct bnt_model *m, const struct backend_config *config,
                           const struct device_choice *choice)
{
    char why[256];
    bool gpu = false;
    struct cuda_info info;
    struct device_verdict v = {0};
    struct bnt_err failed = {0};
    const struct cuda_table *t = cuda_table_get(why, sizeof why);
    if (!t || cuda_device_count(why, sizeof why) == 0 || t->info(0, &info) != CUDA_OK) {
        return false;
    }
    if (recall(m, &info, &gpu)) {
        return gpu;
    }
    enum bnt_status st = measure(m, config, choice, &v, &failed);
    if (st != BNT_OK) {
        if (st != BNT_E_INTERRUPTED) { /* which the CPU's session will tell */
            warn(choice, &failed);
        }
        return false;
    }
    if (!v.equal) {
        bnt_err_set(&failed, BNT_E_SELF_TEST, "cuda:0: its logits differ from the CPU's");
        warn(choice, &failed);
    }
    remember(m, &info, v.gpu);
    return v.gpu;
}

/* ---- before a session ---- */

/* By name and driver the GPU, by its digest what runs there. */
static enum bnt_status describe_gpu(int index, struct device_place *out, struct bnt_err *err)
{
    char why[256] = "", module[BNT_PATH_MAX], digest[BNT_SHA256_HEX] = "";
    struct cuda_info info;
    bool hashed;
    int n = cuda_device_count(why, sizeof why);
    if (index >= n || cuda_table_get(why, sizeof why)->info(index, &info) != CUDA_OK) {
        bnt_err_set(err, BNT_E_DEVICE, "cuda:%d: no such device: %s", index,
                    n > 0 ? "there are fewer" : why);
        bnt_err_hint(err, "bnt devices lists what is there; --device auto takes what there is");
        return BNT_E_DEVICE;
    }
    cuda_module_path(module);
    enum bnt_status st =
        module[0] ? bnt_digest_of_file(module, NULL, digest, &hashed, err) : BNT_OK;
    out->index = index;
    snprintf(out->name, sizeof out->name, "cuda:%u", (unsigned)index);
    snprintf(out->what, sizeof out->what, "%.120s %u.%u, driver %u, module %.16s", info.name,
             info.major, info.minor, info.driver, digest);
    return st;
}

enum bnt_status device_find(struct bnt_model *m, const struct bnt_session_options *opts,
                            struct device_place *out, struct bnt_err *err)
{
    struct device_choice choice;
    *out = (struct device_place){.name = "cpu", .index = -1};
    enum bnt_status st = device_choice_of(opts, &choice, err);
    if (st != BNT_OK || choice.kind == DEVICE_CPU) {
        return st;
    }
    struct backend_config config = {0};
    if (choice.kind == DEVICE_AUTO) {
        config = backend_config_of(m, opts);
    }
    bool gpu = choice.kind == DEVICE_CUDA || auto_takes_gpu(m, &config, &choice);
    return gpu ? describe_gpu(choice.index, out, err) : BNT_OK;
}

enum bnt_status device_backend_new(const struct bnt_model *m, struct backend_config config,
                                   bool n_batch_given, const struct device_choice *choice,
                                   struct backend **out, struct bnt_err *err)
{
    bool gpu = choice->kind == DEVICE_CUDA ||
               (choice->kind == DEVICE_AUTO && auto_takes_gpu(m, &config, choice));
    if (!gpu) {
        return backend_cpu_new(m, &config, out, err);
    }
    if (!n_batch_given) {
        config.n_batch = config.n_ctx < GPU_BATCH ? config.n_ctx : GPU_BATCH;
        config.n_batch = config.n_batch < config.n_seq ? config.n_seq : config.n_batch;
    }
    return cuda_or_cpu(m, &config, choice, out, err);
}
