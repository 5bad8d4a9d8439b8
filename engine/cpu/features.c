/* What this processor can do, detected once. x86-64: CPUID and XGETBV (the system must save the
 * wide registers); aarch64: the auxiliary vector. Cache sizes come from sysfs, which knows them on
 * both. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/commands.h"
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

static struct cpu_features detected;
static pthread_once_t detect_once = PTHREAD_ONCE_INIT;

/* First line of a small file without its newline; "" when it cannot be read. */
static void read_line(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return;
    }
    if (fgets(out, (int)size, f) == NULL) {
        out[0] = '\0';
    }
    out[strcspn(out, "\n")] = '\0';
    fclose(f);
}

static uint64_t parse_cache_size(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    return *end == 'K' ? n * 1024 : *end == 'M' ? n * 1024 * 1024 : n;
}

static void detect_caches(struct cpu_features *f)
{
    for (int i = 0; i < 8; i++) {
        char path[96], type[32], level[16], size[32];
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        read_line(path, type, sizeof(type));
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        read_line(path, level, sizeof(level));
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        read_line(path, size, sizeof(size));
        if (strcmp(type, "Data") != 0 && strcmp(type, "Unified") != 0) {
            continue;
        }
        switch (level[0]) {
        case '1':
            f->l1d = parse_cache_size(size);
            break;
        case '2':
            f->l2 = parse_cache_size(size);
            break;
        case '3':
            f->l3 = parse_cache_size(size);
            break;
        default:
            break;
        }
    }
}

#if defined(__x86_64__)

static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void detect_model(struct cpu_features *f)
{
    unsigned words[12] = {0};
    for (unsigned i = 0; i < 3; i++) {
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3])) {
            break;
        }
    }
    char text[sizeof(words) + 1] = {0};
    memcpy(text, words, sizeof(words));
    const char *start = text + strspn(text, " ");
    size_t len = strlen(start);
    while (len > 0 && start[len - 1] == ' ') {
        len--;
    }
    snprintf(f->model, sizeof(f->model), "%.*s", (int)len, start);
}

static void detect_isa(struct cpu_features *f)
{
    const uint64_t ymm_state = 0x6,
                   zmm_state = 0xe6; /* XCR0: SSE and AVX; these, opmask and both halves of ZMM */
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
        return;
    }
    uint64_t xcr0 = read_xcr0();
    bool ymm = (xcr0 & ymm_state) == ymm_state, zmm = (xcr0 & zmm_state) == zmm_state;
    f->f16c = ymm && (c & bit_F16C) != 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return;
    }
    f->avx2 = ymm && (b & bit_AVX2) != 0;
    f->avx512f = zmm && (b & bit_AVX512F) != 0;
    /* The tables ask for DQ together with BW: no processor has one without the other. */
    f->avx512bw = zmm && (b & bit_AVX512BW) != 0 && (b & bit_AVX512DQ) != 0;
    f->avx512vl = zmm && (b & bit_AVX512VL) != 0;
    f->avx512vnni = zmm && (c & bit_AVX512VNNI) != 0;
    f->avx512vbmi = zmm && (c & bit_AVX512VBMI) != 0;
#ifdef CPU_EMULATED /* by AVX2 and FMA (engine/cpu/check/emulated) */
    f->avx512f = f->avx512bw = f->avx512vl = f->avx512vnni = f->avx512vbmi = f->avx2;
#endif
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        f->avxvnni = ymm && (a & 1u << 4) != 0;
    }
}

#elif defined(__aarch64__)

static void detect_model(struct cpu_features *f)
{
    FILE *info = fopen("/proc/cpuinfo", "re");
    char line[256], implementer[16] = "?", part[16] = "?";
    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        sscanf(line, "CPU implementer : %15s", implementer);
        sscanf(line, "CPU part : %15s", part);
    }
    if (info != NULL) {
        fclose(info);
    }
    snprintf(f->model, sizeof(f->model), "aarch64 implementer %s part %s", implementer, part);
}

static void detect_isa(struct cpu_features *f)
{
    /* Bits of the Linux arm64 ABI, written out since old headers lack some of them. */
    const unsigned long asimd = 1ul << 1, asimddp = 1ul << 20, i8mm = 1ul << 13;
    f->neon = (getauxval(AT_HWCAP) & asimd) != 0;
    f->dotprod = (getauxval(AT_HWCAP) & asimddp) != 0;
    f->i8mm = (getauxval(AT_HWCAP2) & i8mm) != 0;
}

#else

static void detect_model(struct cpu_features *f)
{
    snprintf(f->model, sizeof(f->model), "unknown");
}

static void detect_isa(struct cpu_features *f)
{
    (void)f;
}

#endif

static void detect(void)
{
    detect_model(&detected);
    if (!BNT_FAULT(bare_processor)) {
        detect_isa(&detected);
    }
    detect_caches(&detected);
}

const struct cpu_features *cpu_features(void)
{
    pthread_once(&detect_once, detect);
    return &detected;
}

int engine_cpu_has(const char *feature)
{
    const struct cpu_features *f = cpu_features();
    const struct {
        const char *name;
        bool has;
    } rows[] = {
        {"avx2", f->avx2},
        {"f16c", f->f16c},
        {"avx512f", f->avx512f},
        {"avx512bw", f->avx512bw},
        {"avx512vl", f->avx512vl},
        {"avx512vnni", f->avx512vnni},
        {"avx512vbmi", f->avx512vbmi},
        {"avxvnni", f->avxvnni},
        {"neon", f->neon},
        {"dotprod", f->dotprod},
        {"i8mm", f->i8mm},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, feature) == 0) {
            return rows[i].has;
        }
    }
    return -1;
}
