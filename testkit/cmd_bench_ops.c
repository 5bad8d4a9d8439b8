/* `bnt bench --ops`: single operations, told and judged. What is timed is engine/op_bench.h's. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/device.h"
#include "engine/op_bench.h"
#include "testkit/cmd_bench_impl.h"

#define SHAPES_DEFAULT "model,2b,3b,odd"
#define BATCHES_DEFAULT "1,8,128"
enum { BATCH_LARGEST = 4096, NAME_LEN_MAX = 64 };

struct ops {
    const struct bench_opts *o;
    const struct bnt_model_ref *ref;
    bool copied; /* single tokens read copies of weights, as they do on a processor */
    struct op_shape shapes[OP_SHAPES_MAX];
    struct op_bench_plan plan;
    struct op_bench_result result;
    struct op_verdict verdict;
};

/* ---- what is asked for ---- */

static enum bnt_status add_model(struct ops *ops, struct bnt_err *err)
{
    struct bnt_model *model;
    struct bnt_model_options options = {.i2s_layout = ops->o->engine.i2s_layout,
                                        .no_tokenizer = true,
                                        .head = BNT_HEAD_FULL,
                                        .memory_limit = ops->o->engine.memory_limit,
                                        .warn = bnt_msg_warn_fn};
    char packed_dir[BNT_PATH_MAX];
    bnt_engine_packed(ops->copied ? ops->o->engine.packed : "off", ops->ref->digest, packed_dir,
                      &options);
    enum bnt_status st = bnt_model_open(ops->ref->path, &options, &model, err);
    if (st == BNT_OK) {
        st = op_shapes_of_model(model, ops->shapes, &ops->plan.n_shapes, err);
        bnt_model_close(model);
    }
    return st;
}

static enum bnt_status add_shapes(struct ops *ops, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (const char *at = ops->o->shapes ? ops->o->shapes : SHAPES_DEFAULT; st == BNT_OK;) {
        char name[NAME_LEN_MAX];
        size_t len = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name), at);
        st = strcmp(name, "model") == 0
                 ? add_model(ops, err)
                 : op_shapes_named(name, ops->copied, ops->shapes, &ops->plan.n_shapes, err);
        if (at[len] == '\0') {
            break;
        }
        at += len + 1;
    }
    if (st == BNT_OK && ops->plan.n_shapes == 0) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "%s has no ternary matrix", ops->ref->path);
    }
    return st;
}

static enum bnt_status plan_of(const struct bnt_app *app, struct ops *ops, struct bnt_err *err)
{
    const struct bench_opts *o = ops->o;
    struct op_bench_plan *plan = &ops->plan;
    ops->copied = strcmp(o->engine.packed, "off") != 0 && strcmp(o->engine.device, "cpu") == 0;
    plan->shapes = ops->shapes;
    plan->timer = (struct op_timer_options){.kernel = o->engine.kernel,
                                            .n_threads = (int)o->engine.threads,
                                            .repetitions = (uint32_t)o->repetitions,
                                            .interrupted = app->interrupted};
    const struct bench_list batches = {"--batches", o->batches ? o->batches : BATCHES_DEFAULT,
                                       BATCH_LARGEST};
    enum bnt_status st =
        bench_parse_list(batches, plan->batches, OP_BATCHES_MAX, &plan->n_batches, err);
    return st == BNT_OK ? add_shapes(ops, err) : st;
}

/* ---- JSON ---- */

static json_t *json_time(const struct op_time *t)
{
    return json_pack("{s:f, s:I, s:f}", "us", t->ns / 1e3, "bytes", (json_int_t)t->bytes,
                     "gb_per_s", op_gb_per_s(t));
}

static json_t *json_product(const struct ops *ops, const struct op_product *p)
{
    json_t *ternary = json_time(&p->ternary), *f32 = json_time(&p->f32);
    json_object_set_new(ternary, "gmac_per_s", json_real(op_gmacs(&p->ternary)));
    json_object_set_new(ternary, "form", json_string(op_form_name(p)));
    json_object_set_new(ternary, "weight_bytes", json_integer((json_int_t)p->ternary.weight_bytes));
    json_object_set_new(ternary, "bandwidth_share", json_real(op_product_share(&ops->result, p)));
    json_object_set_new(ternary, "judged_share",
                        json_real(op_product_judged_share(&ops->result, p)));
    json_object_set_new(ternary, "plain_read_us",
                        p->read.ns > 0 ? json_real(p->read.ns / 1e3) : json_null());
    json_object_set_new(f32, "gmac_per_s", json_real(op_gmacs(&p->f32)));
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:f, s:o, s:o, s:o}", "shape", p->shape->name,
                     "rows", (json_int_t)p->shape->rows, "cols", (json_int_t)p->shape->cols,
                     "tokens", (json_int_t)p->n_tok, "bound",
                     op_bound_name(op_bench_bound(&ops->result, p)), "ratio", op_product_ratio(p),
                     "ternary", ternary, "f32", f32, "quantize_act", json_time(&p->quantize));
}

static json_t *json_worst(const struct op_product *p, double value, double least)
{
    return p ? json_pack("{s:s, s:I, s:f, s:f}", "shape", p->shape->name, "tokens",
                         (json_int_t)p->n_tok, "value", value, "least", least)
             : json_null();
}

static enum bnt_status print_json(const struct ops *ops, struct bnt_err *err)
{
    const struct op_bench_result *r = &ops->result;
    const struct op_verdict *v = &ops->verdict;
    json_t *products = json_array(), *encoders = json_array();
    for (size_t i = 0; i < r->n_products; i++) {
        json_array_append_new(products, json_product(ops, &r->products[i]));
    }
    for (size_t i = 0; i < r->n_encoders; i++) {
        const struct op_encoder *e = &r->encoders[i];
        json_t *row = json_time(&e->time);
        json_object_set_new(row, "name", json_string(e->name));
        json_object_set_new(row, "shape", json_string(e->shape->name));
        json_object_set_new(row, "gweights_per_s", json_real(op_gmacs(&e->time)));
        json_array_append_new(encoders, row);
    }
    json_t *doc =
        json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:f, s:o, s:f, s:o, s:o, s:b, s:o, s:o}",
                  "schema", 1, "version", BNT_VERSION, "kernel", r->kernel, "threads", r->n_threads,
                  "bandwidth_gb_per_s", r->bandwidth.all_gb_per_s, "bandwidth_streams",
                  r->bandwidth.all_streams, "one_thread_gb_per_s", r->bandwidth.one_gb_per_s,
                  "dot_peak_gmac_per_s", bench_json_number(r->peak_gmacs > 0 ? r->peak_gmacs : NAN),
                  "job_us", r->job_ns / 1e3, "products", products, "quantisers", encoders, "good",
                  v->good, "worst_ratio", json_worst(v->worst_ratio, v->ratio, r->ratio_min),
                  "worst_bandwidth_share", json_worst(v->worst_share, v->share, OP_SHARE_MIN));
    if (doc && r->zeros > 0) {
        json_object_set_new(doc, "zeros", json_real(r->zeros));
    }
    if (doc && r->device[0]) {
        json_object_set_new(doc, "device", json_string(r->device));
        json_object_set_new(doc, "fake", json_boolean(r->fake));
        if (r->fake) {
            json_object_set_new(doc, "good", json_null());
        }
    }
    return bench_print_document(doc, err);
}

/* ---- table ---- */

static void print_product(const struct ops *ops, const struct op_product *p)
{
    char shape[32];
    snprintf(shape, sizeof shape, "%ux%u", p->shape->rows, p->shape->cols);
    printf("%-18s  %-12s  %-8s  %8.1f  %8.2f  %6.1f  %4.0f %%  %-6s  %8.1f  %6.1f  %9.1f  %6.2f\n",
           p->shape->name, shape, op_form_name(p), op_gmacs(&p->ternary),
           (double)p->ternary.bytes / 1e6, op_gb_per_s(&p->ternary),
           100 * op_product_share(&ops->result, p), op_bound_name(op_bench_bound(&ops->result, p)),
           op_gmacs(&p->f32), op_gb_per_s(&p->f32), p->quantize.ns / 1e3, op_product_ratio(p));
}

static void print_products(const struct ops *ops)
{
    uint32_t n_tok = 0;
    for (size_t i = 0; i < ops->result.n_products; i++) {
        const struct op_product *p = &ops->result.products[i];
        if (p->n_tok != n_tok) {
            n_tok = p->n_tok;
            printf("\n%-6u token%-6s  %-12s  %-8s  %8s  %8s  %6s  %6s  %-6s  %8s  %6s  %9s  %6s\n",
                   n_tok, n_tok == 1 ? "" : "s", "rows x cols", "read as", "GMAC/s", "MB", "GB/s",
                   "share", "bound", "f32 GMAC", "f32 GB", "quant. us", "ratio");
        }
        print_product(ops, p);
    }
}

static void print_encoders(const struct ops *ops)
{
    printf("\n%-18s  %-12s  %10s  %8s\n", "quantiser", "columns", "10^6 w/s", "GB/s");
    for (size_t i = 0; i < ops->result.n_encoders; i++) {
        const struct op_encoder *e = &ops->result.encoders[i];
        printf("%-18s  %-12u  %10.1f  %8.2f\n", e->name, e->shape->cols, op_gmacs(&e->time) * 1e3,
               op_gb_per_s(&e->time));
    }
    printf("quantisers of weights: one thread, a piece that a cache holds; that of activations is "
           "quant. us\n");
}

static void print_head(const struct op_bench_result *r)
{
    if (r->device[0]) {
        printf("%s%s; probed here: memory %.1f GB/s; one token is quantised by its product\n",
               r->fake ? "NO GPU, AND NO TIME OF ONE: " : "", r->device, r->bandwidth.all_gb_per_s);
        return;
    }
    printf("%s kernels, %d thread%s; probed here: memory %.1f GB/s in %d stream%s a thread (%.1f "
           "with one thread, in %d), dot products %.0f GMAC/s, a job %.2f us\n",
           r->kernel, r->n_threads, r->n_threads == 1 ? "" : "s", r->bandwidth.all_gb_per_s,
           r->bandwidth.all_streams, r->bandwidth.all_streams == 1 ? "" : "s",
           r->bandwidth.one_gb_per_s, r->bandwidth.one_streams, r->peak_gmacs, r->job_ns / 1e3);
}

static void print_verdict(const struct ops *ops)
{
    const struct op_bench_result *r = &ops->result;
    const struct op_verdict *v = &ops->verdict;
    printf(
        "\nworst ratio to float32, activations quantised: %.2f (%s, %u token%s); at least %.1f\n",
        v->ratio, v->worst_ratio->shape->name, v->worst_ratio->n_tok,
        v->worst_ratio->n_tok == 1 ? "" : "s", r->ratio_min);
    if (v->worst_share) {
        printf("worst share of bandwidth where memory binds: %.0f %% (%s, %u token%s); at least "
               "%.0f %%\n",
               100 * v->share, v->worst_share->shape->name, v->worst_share->n_tok,
               v->worst_share->n_tok == 1 ? "" : "s", 100 * OP_SHARE_MIN);
    } else {
        printf("memory binds none of these products\n");
    }
}

/* What is no GPU is not judged as one. */
static void print_table(const struct ops *ops)
{
    print_head(&ops->result);
    print_products(ops);
    if (ops->result.zeros > 0) {
        printf("columns: of down, without the %.0f %% that meet a zero, as many as squared ReLU "
               "leaves of random gates; GMAC/s count all.\nThey lie apart, and are judged by the "
               "rows that they spare: as if those had been read in their time\n",
               100 * ops->result.zeros);
    }
    if (!ops->result.device[0]) {
        print_encoders(ops);
    }
    if (!ops->result.fake) {
        print_verdict(ops);
    }
}

static enum bnt_status run_on_device(const struct bench_opts *o, struct ops *ops,
                                     struct bnt_err *err)
{
    const struct bnt_session_options so = bnt_engine_session(&o->engine);
    struct device_place place;
    if (strcmp(so.device, "auto") == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "--ops times the device that is named: cpu, cuda[:N]");
    }
    enum bnt_status st = device_find(NULL, &so, &place, err);
    if (st != BNT_OK) {
        return st;
    }
    st = place.index < 0 ? op_bench_run(&ops->plan, &ops->result, err)
                         : op_bench_run_cuda(&ops->plan, place.index, &ops->result, err);
    if (st == BNT_OK && ops->result.fake && o->gate) {
        st = bnt_err_set(err, BNT_E_DEVICE, "%s: its times say nothing that --gate could judge",
                         ops->result.device);
    }
    return st;
}

enum bnt_status bench_ops(const struct bnt_app *app, const struct bench_opts *o,
                          const struct bnt_model_ref *ref)
{
    struct bnt_err err = {0};
    struct bnt_progress progress;
    struct ops ops = {
        .o = o, .ref = ref, .plan = {.progress = bnt_progress_show, .ctx = &progress}};
    enum bnt_status st = plan_of(app, &ops, &err);
    if (st == BNT_OK) {
        bnt_progress_begin(&progress, "products", ops.plan.n_batches * ops.plan.n_shapes, false);
        st = run_on_device(o, &ops, &err);
        bnt_progress_end(&progress);
    }
    if (st == BNT_OK) {
        op_bench_judge(&ops.result, &ops.verdict);
        if (o->json) {
            st = print_json(&ops, &err);
        } else {
            print_table(&ops);
        }
    }
    st = st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
    if (st == BNT_OK && o->gate && !ops.verdict.good) {
        st = BNT_E_SLOWER;
    }
    op_bench_release(&ops.result);
    return st;
}
