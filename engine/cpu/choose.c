/* Which table of kernels runs. Order: fastest first; the reference is last and needs nothing. */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/tables.h"

static const struct cpu_kernels *const all_tables[] = {
#if defined(__x86_64__)
    &cpu_kernels_avx512, &cpu_kernels_avx2,
#endif
#if defined(__aarch64__)
    &cpu_kernels_i8mm,   &cpu_kernels_neon,
#endif
#if defined(__wasm_simd128__)
    &cpu_kernels_wasm,
#endif
    &cpu_kernels_ref,    NULL,
};

const struct cpu_kernels *const *cpu_kernels_all(void)
{
    return all_tables;
}

const char *cpu_kernels_missing(const struct cpu_kernels *k)
{
    const struct cpu_features *f = cpu_features();
    const struct {
        const char *table, *feature;
        bool present;
    } needs[] = {
        {"avx512", "AVX-512 F", f->avx512f},
        {"avx512", "AVX-512 BW and DQ", f->avx512bw},
        {"avx512", "AVX-512 VL", f->avx512vl},
        {"avx512", "AVX-512 VNNI", f->avx512vnni},
        {"avx2", "AVX2", f->avx2},
        {"avx2", "F16C", f->f16c},
        {"i8mm", "8-bit matrix products (i8mm)", f->i8mm},
        {"i8mm", "dot product (asimddp)", f->dotprod},
        {"neon", "Advanced SIMD", f->neon},
        {"neon", "dot product (asimddp)", f->dotprod},
    };
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if (strcmp(k->name, needs[i].table) == 0 && !needs[i].present) {
            return needs[i].feature;
        }
    }
    return NULL;
}

static bool is_auto(const char *name)
{
    return name == NULL || strcmp(name, "auto") == 0;
}

const struct cpu_kernels *cpu_kernels_expected(const char *name)
{
    size_t i = 0;
    while (all_tables[i] != &cpu_kernels_ref &&
           (cpu_kernels_missing(all_tables[i]) ||
            !(is_auto(name) || strcmp(all_tables[i]->name, name) == 0))) {
        i++;
    }
    return all_tables[i];
}

bool cpu_kernels_have_fives(const struct cpu_kernels *k)
{
    bool avx512 = strcmp(k->name, "avx512") == 0;
    return k->dot_fives && (!avx512 || cpu_features()->avx512vbmi);
}

bool cpu_fives_pay(void)
{
    for (size_t i = 0; all_tables[i] != &cpu_kernels_ref; i++) {
        if (!cpu_kernels_missing(all_tables[i]) && cpu_kernels_have_fives(all_tables[i])) {
            return true;
        }
    }
    return false;
}

static enum bnt_status choose_forced(const struct cpu_kernels *const *tables, const char *name,
                                     const struct cpu_kernels **out, struct bnt_err *err)
{
    char known[128] = "auto";
    for (size_t i = 0; tables[i] != NULL; i++) {
        const struct cpu_kernels *k = tables[i];
        size_t len = strlen(known);
        snprintf(known + len, sizeof(known) - len, ", %s", k->name);
        if (strcmp(k->name, name) != 0) {
            continue;
        }
        const char *missing = cpu_kernels_missing(k);
        if (missing != NULL) {
            bnt_err_set(err, BNT_E_UNSUPPORTED, "kernel %s: this processor lacks %s", name,
                        missing);
            bnt_err_hint(err, "use --kernel auto; bnt devices lists what runs here");
            return BNT_E_UNSUPPORTED;
        }
        enum bnt_status st = cpu_kernels_self_test(k, err);
        if (st == BNT_OK) {
            *out = k;
        }
        return st;
    }
    bnt_err_set(err, BNT_E_USAGE, "there is no kernel %s in this build", name);
    bnt_err_hint(err, "one of: %s", known);
    return BNT_E_USAGE;
}

enum bnt_status cpu_kernels_choose_from(const struct cpu_kernels *const *tables, const char *name,
                                        struct cpu_choice *out, struct bnt_err *err)
{
    out->note[0] = '\0';
    if (!is_auto(name)) {
        return choose_forced(tables, name, &out->kernels, err);
    }
    for (size_t i = 0; tables[i] != NULL; i++) {
        if (cpu_kernels_missing(tables[i]) != NULL) {
            continue;
        }
        struct bnt_err why = {0};
        if (cpu_kernels_self_test(tables[i], &why) == BNT_OK || BNT_FAULT(self_test_blind)) {
            out->kernels = tables[i];
            return BNT_OK;
        }
        size_t len = strlen(out->note);
        snprintf(out->note + len, sizeof(out->note) - len, "%s%s: not used", len > 0 ? "; " : "",
                 why.msg);
    }
    /* Only out of memory, or on a processor or with a compiler that breaks plain C arithmetic. */
    return bnt_err_set(err, BNT_E_SELF_TEST, "no kernel passes its self-test: %s", out->note);
}

enum bnt_status cpu_kernels_choose(const char *name, const struct cpu_kernels **out, char *note,
                                   size_t size, struct bnt_err *err)
{
    struct cpu_choice choice;
    enum bnt_status st = cpu_kernels_choose_from(all_tables, name, &choice, err);
    if (st == BNT_OK) {
        *out = choice.kernels;
    }
    snprintf(note, size, "%s", choice.note);
    return st;
}
