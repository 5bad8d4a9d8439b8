/* Checks of the environment and the processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cache_dir.h"
#include "base/env.h"
#include "base/sysinfo.h"
#include "ci/doctor.h"
#include "engine/cpu/kernels.h"
#include "engine/model_arg.h"

/* ---- environment ---- */

static void check_home(struct doctor *d)
{
    char dir[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct doctor_check *c =
        doctor_check(d, "environment.home", "BNT_CACHE_DIR, XDG_CACHE_HOME and HOME");
    if (bnt_cache_dir(dir, &err) == BNT_OK) {
        doctor_found(c, "the cache is in %s", dir);
    } else {
        doctor_problem(c, "set HOME, or BNT_CACHE_DIR to a folder for the cache", "%s", err.msg);
    }
}

static void check_temporary(struct doctor *d)
{
    const char *dir = bnt_temp_dir();
    struct stat st;
    struct doctor_check *c = doctor_check(d, "environment.tmp", "the temporary folder %s", dir);
    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && access(dir, W_OK | X_OK) == 0) {
        doctor_found(c, "it can be written to");
    } else {
        doctor_problem(c, "set TMPDIR to a folder that can be written to",
                       "%s is no folder that can be written to", dir);
    }
}

/* A model that a variable puts in the place of a real one. */
static bool leads_to_mock(const char *name, char found[256])
{
    const char *value = bnt_env(name);
    char path[BNT_PATH_MAX];
    if (!value) {
        return false;
    }
    const char *kind = "real";
    enum bnt_status st = strcmp(name, "BNT_MODELS_DIR") == 0
                             ? bnt_bundled_model(path, NULL)
                             : bnt_path_format(path, NULL, "%s", value);
    if (st != BNT_OK || bnt_model_kind_of_file(path, &kind, NULL) != BNT_OK ||
        strcmp(kind, "real") == 0) {
        return false;
    }
    snprintf(found, 256, "%s=%.150s leads to a mock, not to a trained model", name, value);
    return true;
}

static void check_mock(struct doctor *d)
{
    static const char *const models[] = {"BNT_MODELS_DIR", "BNT_TEST_MODEL"};
    char found[256] = "";
    struct doctor_check *c =
        doctor_check(d, "environment.mock", "BNT_MODELS_DIR, BNT_TEST_MODEL and BNT_TEST_SUBJECT");
    const char *subject = bnt_env("BNT_TEST_SUBJECT"), *name = "BNT_TEST_SUBJECT";
    for (size_t i = 0; i < 2 && !found[0]; i++) {
        name = leads_to_mock(models[i], found) ? models[i] : name;
    }
    if (!found[0] && subject &&
        (strncmp(subject, "scripted", 8) == 0 || strcmp(subject, "tiny") == 0)) {
        snprintf(found, sizeof found, "BNT_TEST_SUBJECT=%.150s: answers do not come from a model",
                 subject);
    }
    if (!found[0]) {
        doctor_found(c, "none of them leads to a mock");
        return;
    }
    char next[64];
    snprintf(next, sizeof next, "unset %s", name);
    doctor_problem(c, next, "%s", found);
}

/* Files of certificates that do not exist make every https transfer fail. */
static void check_certificates(struct doctor *d)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"};
    struct doctor_check *c = doctor_check(d, "environment.certificates",
                                          "CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR");
    doctor_found(c, "what they name can be read");
    for (size_t i = 0; i < 3; i++) {
        const char *path = bnt_env(names[i]);
        if (path && access(path, R_OK) != 0) {
            char next[96];
            snprintf(next, sizeof next, "unset %s, or name the certificates of the authorities",
                     names[i]);
            doctor_problem(c, next, "%s=%s cannot be read", names[i], path);
            return;
        }
    }
}

void doctor_environment(struct doctor *d)
{
    check_home(d);
    check_temporary(d);
    check_mock(d);
    check_certificates(d);
}

/* ---- processor ---- */

static void check_threads(struct doctor *d)
{
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN), allowed = bnt_cpu_count();
    int64_t asked = d->o->threads;
    struct doctor_check *c = doctor_check(d, "processor.threads",
                                          "processors, the affinity mask, the quota of the cgroup");
    if (asked == 1 && allowed > 1) {
        doctor_problem(c, "leave --threads out, or give the number of processors",
                       "one thread is asked for, and %d processors may be used", allowed);
    } else if (asked > allowed) {
        doctor_problem(c, "leave --threads out: more threads than processors wait for each other",
                       "%lld threads are asked for, and %d processors may be used",
                       (long long)asked, allowed);
    } else if (allowed == 1 && online > 1) {
        doctor_problem(c, "see taskset -p $$, the cpuset and the CPU quota of the container",
                       "this process may use 1 of %d processors", online);
    } else {
        doctor_found(c, "%d of %d processors may be used", allowed, online);
    }
}

/* The fastest table that this processor runs; the first one that it does not is told in *missing.
 */
static const struct cpu_kernels *best_table(const char **missing)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    *missing = NULL;
    while (cpu_kernels_missing(*all)) {
        *missing = *missing ? *missing : cpu_kernels_missing(*all);
        all++;
    }
    return *all;
}

static const struct cpu_kernels *table_of(const char *name)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    while (*all && strcmp((*all)->name, name) != 0) {
        all++;
    }
    return *all;
}

static bool is_named(const struct doctor *d)
{
    return d->o->kernel && strcmp(d->o->kernel, "auto") != 0;
}

/* Instruction sets: those of the kernels that are asked for, or of any but the reference. */
static void check_instructions(struct doctor *d)
{
    static const char next_host[] = "run on a machine with AVX2 or NEON; where it is a virtual "
                                    "one, pass the host's processor on";
    const char *missing, *asked = is_named(d) ? d->o->kernel : NULL;
    struct doctor_check *c =
        doctor_check(d, "processor.instructions", "instruction sets of %s",
                     cpu_features()->model[0] ? cpu_features()->model : "this processor");
    const struct cpu_kernels *best = best_table(&missing), *table = asked ? table_of(asked) : best;
    if (!table) {
        doctor_problem(c, "leave --kernel out: the best kernels of this processor are taken",
                       "the kernels %s are for another kind of processor", asked);
    } else if (asked && cpu_kernels_missing(table)) {
        doctor_problem(c, "leave --kernel out: the best kernels of this processor are taken",
                       "the kernels %s need %s, which this processor has not", asked,
                       cpu_kernels_missing(table));
    } else if (!asked && missing && strcmp(best->name, "ref") == 0) {
        doctor_problem(c, next_host,
                       "no %s: only the reference kernels run here, many times slower", missing);
    } else {
        doctor_found(c, "all that the kernels %s need", table->name);
    }
}

static void check_kernel(struct doctor *d)
{
    char note[256] = "";
    struct bnt_err err = {0};
    const char *missing;
    const struct cpu_kernels *k = NULL, *best = best_table(&missing);
    struct doctor_check *c =
        doctor_check(d, "processor.kernel", "kernels, each held against the reference");
    if (doctor_is_ill(d, "processor.instructions")) {
        doctor_skipped(c, "instruction sets are missing");
    } else if (cpu_kernels_choose(d->o->kernel, &k, note, sizeof note, &err) != BNT_OK) {
        doctor_error(c, "leave --kernel out", &err);
    } else if (note[0]) {
        doctor_problem(c, "report this processor with bnt devices --json", "%s", note);
    } else if (is_named(d) && strcmp(k->name, "ref") == 0 && k != best) {
        doctor_problem(c, "leave --kernel out",
                       "the reference kernels are asked for; %s run here, many times faster",
                       best->name);
    } else {
        doctor_found(c, "%s", k->name);
    }
}

void doctor_processor(struct doctor *d)
{
    check_threads(d);
    check_instructions(d);
    check_kernel(d);
}
