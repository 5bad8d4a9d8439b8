#include "testkit/identity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/sysinfo.h"
#include "engine/file_facts.h"

enum bnt_status identity_digest(const char *text, size_t n, char hex[BNT_SHA256_HEX],
                                struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status status = bnt_sha256_new(&d, err);
    if (status == BNT_OK) {
        status = bnt_sha256_update(d, text, n, err);
    }
    if (status == BNT_OK) {
        status = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return status;
}

/* The value of "model name" (x86) or "CPU part" (arm64) in /proc/cpuinfo. */
static void find_cpu(char *out, size_t size)
{
    static const char *const keys[] = {"model name", "CPU part"};
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[512];
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            const char *colon =
                strncmp(line, keys[i], strlen(keys[i])) == 0 ? strchr(line, ':') : NULL;
            if (colon) {
                snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
                fclose(f);
                return;
            }
        }
    }
    if (f) {
        fclose(f);
    }
}

/* This machine; its fingerprint is a digest of processor, number of processors, memory, system,
 * build configuration, and of out->device, which the caller sets: what times depend on. Never
 * fails: what cannot be found out is "". */
static void describe_machine(struct bnt_test_machine *out)
{
    struct utsname system;
    char hex[BNT_SHA256_HEX];
    char facts[1024];
    out->n_cpu = bnt_cpu_count();
    out->memory_bytes = bnt_memory_limit();
    (void)gethostname(out->host, sizeof out->host - 1);
    find_cpu(out->cpu, sizeof out->cpu);
    if (uname(&system) == 0) {
        snprintf(out->os, sizeof out->os, "%.60s %.60s", system.sysname, system.machine);
    }
    /* Memory to the GiB: limits of containers differ by a few pages from start to start. */
    int n = snprintf(facts, sizeof facts, "%s\n%d\n%llu\n%s\n%s\n", out->cpu, out->n_cpu,
                     (unsigned long long)(out->memory_bytes >> 30), out->os, BNT_CONFIG);
    if (out->device[0] && !BNT_FAULT(device_is_any)) {
        n += snprintf(facts + n, sizeof facts - (size_t)n, "%s\n", out->device);
    }
    if (identity_digest(facts, (size_t)n, hex, NULL) == BNT_OK) {
        snprintf(out->fingerprint, sizeof out->fingerprint, "%.16s", hex);
    }
}

static enum bnt_status digest_program(struct bnt_test_run *run, struct bnt_err *err)
{
    char dir[BNT_PATH_MAX];
    char bnt[BNT_PATH_MAX];
    char hex[2][BNT_SHA256_HEX] = {"", ""};
    bool hashed;
    enum bnt_status status = bnt_digest_of_file(run->program, NULL, hex[0], &hashed, err);
    if (status == BNT_OK && bnt_exe_dir(dir, NULL) == BNT_OK &&
        bnt_path_format(bnt, NULL, "%s/bnt", dir) == BNT_OK && access(bnt, R_OK) == 0) {
        status = bnt_digest_of_file(bnt, NULL, hex[1], &hashed, err);
    }
    char both[2 * BNT_SHA256_HEX];
    int n = snprintf(both, sizeof both, "%s %s", hex[0], hex[1]);
    return status == BNT_OK ? identity_digest(both, (size_t)n, run->program_digest, err) : status;
}

enum bnt_status identity_fill(struct bnt_test_run *run, struct bnt_err *err)
{
    uint64_t random;
    bool hashed;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return bnt_err_errno(err, "no random number for the run");
    }
    snprintf(run->id, sizeof run->id, "%016llx", (unsigned long long)random);
    snprintf(run->version, sizeof run->version, "%s", BNT_VERSION);
    snprintf(run->config, sizeof run->config, "%s", BNT_CONFIG);
    describe_machine(&run->machine);
    enum bnt_status status = digest_program(run, err);
    static const char scripted[] = "scripted:";
    const size_t prefix = sizeof scripted - 1;
    const char *path = run->model.path;
    path += strncmp(path, scripted, prefix) == 0 ? prefix : 0;
    bool is_file = access(path, F_OK) == 0; /* not the address of a subject */
    if (status == BNT_OK && is_file && !run->model.digest[0]) {
        status = bnt_digest_of_file(path, NULL, run->model.digest, &hashed, err);
    }
    return status;
}
