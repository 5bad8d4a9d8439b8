/* bnt devices: what can compute here, which kernels are used, and why. */
#include <dlfcn.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "base/sysinfo.h"
#include "engine/bandwidth.h"
#include "engine/commands.h"
#include "engine/cpu/kernels.h"
#include "engine/cuda/backend_cuda.h"

struct devices_opts {
    bool json;
};

static const struct bnt_opt options[] = {
    {BNT_OPT_FLAG, 0, "json", NULL, "one JSON value", offsetof(struct devices_opts, json), NULL, 0,
     0, NULL},
    BNT_OPT_END,
};

enum { MAX_TABLES = 8 };

enum table_state { TABLE_CHOSEN, TABLE_AVAILABLE, TABLE_MISSING_FEATURE, TABLE_FAILED };

static const char *const state_names[] = {"chosen", "available", "missing feature",
                                          "failed self-test"};

struct table_report {
    const char *name;
    enum table_state state;
    char why[700];
    double self_test_ms;
};

/* GPUs that are used when asked for. */
enum { MAX_GPUS = 16 };
struct cuda_report {
    bool module; /* this build has the module */
    int n;
    struct cuda_info at[MAX_GPUS];
    char why[256]; /* there is none */
};

/* A back end that does not exist, and whether the machine has what it would need. */
struct gpu_report {
    const char *name, *library;
    bool driver;
};

struct report {
    const struct cpu_features *cpu;
    int cores_allowed, cores_online;
    uint64_t memory_limit;
    struct bandwidth memory;
    size_t n_tables;
    struct table_report tables[MAX_TABLES];
    double self_test_ms;
    struct cuda_report cuda;
    struct gpu_report gpus[2];
};

struct feature {
    const char *name;
    bool present;
};

enum { N_FEATURES = 11 };

static void list_features(const struct cpu_features *f, struct feature out[N_FEATURES])
{
    const struct feature all[N_FEATURES] = {
        {"avx2", f->avx2},
        {"f16c", f->f16c},
        {"avxvnni", f->avxvnni},
        {"avx512f", f->avx512f},
        {"avx512bw", f->avx512bw},
        {"avx512vl", f->avx512vl},
        {"avx512vnni", f->avx512vnni},
        {"avx512vbmi", f->avx512vbmi},
        {"neon", f->neon},
        {"dotprod", f->dotprod},
        {"i8mm", f->i8mm},
    };
    for (size_t i = 0; i < N_FEATURES; i++) {
        out[i] = all[i];
    }
}

static void report_table(const struct cpu_kernels *k, bool chosen_before, struct table_report *t)
{
    const char *missing = cpu_kernels_missing(k);
    t->name = k->name;
    t->self_test_ms = 0;
    if (missing != NULL) {
        t->state = TABLE_MISSING_FEATURE;
        snprintf(t->why, sizeof(t->why), "this processor lacks %s", missing);
        return;
    }
    struct bnt_err err = {0};
    uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = cpu_kernels_self_test(k, &err);
    t->self_test_ms = (double)(bnt_clock_now_ns() - start) / 1e6;
    if (st != BNT_OK) {
        t->state = TABLE_FAILED;
        snprintf(t->why, sizeof(t->why), "%s", err.msg);
    } else if (chosen_before) {
        t->state = TABLE_AVAILABLE;
        snprintf(t->why, sizeof(t->why), "a faster one is used; --kernel %s takes this one",
                 k->name);
    } else {
        t->state = TABLE_CHOSEN;
        snprintf(t->why, sizeof(t->why), "the fastest that runs here and passes its self-test");
    }
}

static void report_tables(struct report *r)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    bool chosen = false;
    for (size_t i = 0; i < MAX_TABLES && all[i] != NULL; i++) {
        report_table(all[i], chosen, &r->tables[i]);
        chosen = chosen || r->tables[i].state == TABLE_CHOSEN;
        r->self_test_ms += r->tables[i].self_test_ms;
        r->n_tables++;
    }
}

static void report_cuda(struct cuda_report *c)
{
    const struct cuda_table *t = cuda_table_get(c->why, sizeof(c->why));
    c->module = t != NULL;
    int n = cuda_device_count(c->why, sizeof(c->why));
    for (int i = 0; i < n && c->n < MAX_GPUS; i++) {
        if (t->info(i, &c->at[c->n]) == CUDA_OK) {
            c->n++;
        }
    }
}

static void report_gpus(struct report *r)
{
    const struct gpu_report known[] = {{"ROCm", "libamdhip64.so", false}, {"Metal", NULL, false}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        r->gpus[i] = known[i];
        void *library =
            known[i].library != NULL ? dlopen(known[i].library, RTLD_LAZY | RTLD_LOCAL) : NULL;
        r->gpus[i].driver = library != NULL;
        if (library != NULL) {
            dlclose(library);
        }
    }
}

static const char *driver_text(const struct gpu_report *g)
{
    return g->library == NULL ? "only on Apple systems"
           : g->driver        ? "driver found"
                              : "no driver found";
}

/* Everything runs from 7.5 on; what is older has no kernels in the module. */
static bool gpu_is_supported(const struct cuda_info *g)
{
    return g->major * 10 + g->minor >= 75;
}

static const char *gpu_means(const struct cuda_info *g)
{
    return !gpu_is_supported(g) ? "not supported: 7.5 is needed"
           : g->major < 8       ? "dp4a"
                                : "dp4a, int8 tensor cores";
}

static void print_cuda(const struct cuda_report *c)
{
    for (int i = 0; i < c->n; i++) {
        const struct cuda_info *g = &c->at[i];
        printf("  cuda:%-3d%s, compute capability %u.%u, %u multiprocessors, %.1f of %.1f GB free, "
               "driver %u.%u, runtime %u.%u\n          %s; %s\n",
               i, g->name, g->major, g->minor, g->n_processors, (double)g->free / 1e9,
               (double)g->memory / 1e9, g->driver / 1000, g->driver % 1000 / 10, g->runtime / 1000,
               g->runtime % 1000 / 10, gpu_means(g),
               i == 0 ? "--device cuda takes it, --device auto when it is the faster"
                      : "--device cuda:N takes it");
    }
    if (c->n == 0) {
        printf("  CUDA    %s: %s\n", c->module ? "none" : "not built", c->why);
    }
}

static void print_text(const struct report *r)
{
    struct feature features[N_FEATURES];
    list_features(r->cpu, features);
    printf("CPU       %s, %d of %d processors allowed\n", r->cpu->model, r->cores_allowed,
           r->cores_online);
    printf("features ");
    for (size_t i = 0; i < N_FEATURES; i++) {
        if (features[i].present) {
            printf(" %s", features[i].name);
        }
    }
    printf("\ncaches    L1d %llu KiB, L2 %llu KiB, L3 %llu KiB (0: unknown)\n",
           (unsigned long long)r->cpu->l1d / 1024, (unsigned long long)r->cpu->l2 / 1024,
           (unsigned long long)r->cpu->l3 / 1024);
    printf("memory    %.1f GB may be used; reads %.1f GB/s with 1 thread in %d stream%s, %.1f "
           "GB/s with %d in %d each (measured)\n",
           (double)r->memory_limit / 1e9, r->memory.one_gb_per_s, r->memory.one_streams,
           r->memory.one_streams == 1 ? "" : "s", r->memory.all_gb_per_s, r->memory.n_threads,
           r->memory.all_streams);
    printf("kernels   self-tests took %.1f ms\n", r->self_test_ms);
    for (size_t i = 0; i < r->n_tables; i++) {
        const struct table_report *t = &r->tables[i];
        printf("  %-8s%s: %s\n", t->name, state_names[t->state], t->why);
    }
    printf("GPU\n");
    print_cuda(&r->cuda);
    for (size_t i = 0; i < sizeof(r->gpus) / sizeof(r->gpus[0]); i++) {
        const struct gpu_report *g = &r->gpus[i];
        printf("  %-8snot built; %s%s%s%s\n", g->name, driver_text(g),
               g->library != NULL ? " (" : "", g->library != NULL ? g->library : "",
               g->library != NULL ? ")" : "");
    }
}

static json_t *json_cpu(const struct report *r)
{
    struct feature features[N_FEATURES];
    list_features(r->cpu, features);
    json_t *flags = json_object();
    for (size_t i = 0; i < N_FEATURES; i++) {
        json_object_set_new(flags, features[i].name, json_boolean(features[i].present));
    }
    return json_pack("{s:s, s:i, s:i, s:o, s:I, s:I, s:I}", "model", r->cpu->model,
                     "processors_allowed", r->cores_allowed, "processors_online", r->cores_online,
                     "features", flags, "l1d_bytes", (json_int_t)r->cpu->l1d, "l2_bytes",
                     (json_int_t)r->cpu->l2, "l3_bytes", (json_int_t)r->cpu->l3);
}

static json_t *json_tables(const struct report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_tables; i++) {
        const struct table_report *t = &r->tables[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f}", "name", t->name, "state",
                                              state_names[t->state], "why", t->why, "self_test_ms",
                                              t->self_test_ms));
    }
    return list;
}

static json_t *json_cuda(const struct cuda_report *c)
{
    json_t *devices = json_array();
    for (int i = 0; i < c->n; i++) {
        const struct cuda_info *g = &c->at[i];
        json_array_append_new(
            devices,
            json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:i, s:i, s:b, s:b}", "name", g->name,
                      "major", (int)g->major, "minor", (int)g->minor, "multiprocessors",
                      (int)g->n_processors, "memory_bytes", (json_int_t)g->memory, "free_bytes",
                      (json_int_t)g->free, "driver", (int)g->driver, "runtime", (int)g->runtime,
                      "supported", gpu_is_supported(g), "fake", g->fake));
    }
    return json_pack("{s:s, s:b, s:s, s:o}", "name", "CUDA", "built", c->module, "why", c->why,
                     "devices", devices);
}

static json_t *json_gpus(const struct report *r)
{
    json_t *list = json_array();
    json_array_append_new(list, json_cuda(&r->cuda));
    for (size_t i = 0; i < sizeof(r->gpus) / sizeof(r->gpus[0]); i++) {
        const struct gpu_report *g = &r->gpus[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:s?, s:b}", "name", g->name, "built", 0,
                                        "driver_library", g->library, "driver_found", g->driver));
    }
    return list;
}

static enum bnt_status print_json(const struct report *r)
{
    json_t *memory = json_pack(
        "{s:I, s:f, s:i, s:f, s:i, s:i, s:I}", "limit_bytes", (json_int_t)r->memory_limit,
        "read_gb_per_s_1", r->memory.one_gb_per_s, "read_streams_1", r->memory.one_streams,
        "read_gb_per_s_all", r->memory.all_gb_per_s, "read_streams_all", r->memory.all_streams,
        "threads", r->memory.n_threads, "buffer_bytes", (json_int_t)r->memory.buffer_bytes);
    json_t *root =
        json_pack("{s:o, s:o, s:o, s:f, s:o}", "cpu", json_cpu(r), "memory", memory, "kernels",
                  json_tables(r), "self_test_ms", r->self_test_ms, "gpu", json_gpus(r));
    struct bnt_err err = {0};
    size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(6);
    return bnt_json_print(root, flags, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    const struct devices_opts *o = opts;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "see bnt devices --help", "unexpected argument %s",
                            argv[0]);
    }
    struct report r = {
        .cpu = cpu_features(),
        .cores_allowed = bnt_cpu_count(),
        .cores_online = (int)sysconf(_SC_NPROCESSORS_ONLN),
        .memory_limit = bnt_memory_limit(),
    };
    struct bnt_err err = {0};
    enum bnt_status st = bandwidth_measure(0, &r.memory, &err);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    report_tables(&r);
    report_cuda(&r.cuda);
    report_gpus(&r);
    if (o->json) {
        return print_json(&r);
    }
    print_text(&r);
    return BNT_OK;
}

const struct bnt_cmd bnt_cmd_devices = {
    .name = "devices",
    .synopsis = "[--json]",
    .summary = "processors, kernels and GPUs: what is used and why",
    .description =
        "Shows the processor's features and caches, measures how fast memory is read with one "
        "thread and with all (a decoded token reads every weight once, so this bounds tokens per "
        "second), and runs the self-test of every kernel table that this processor can run. The "
        "fastest that passes is what bnt infer uses.\n\n"
        "GPUs are used with --device: without module, driver or GPU the line says which of them is "
        "missing.",
    .examples = "  bnt devices\n"
                "  bnt devices --json | jq -r '.kernels[] | select(.state == \"chosen\").name'\n",
    .opts = options,
    .opts_size = sizeof(struct devices_opts),
    .run = run,
};
