/* What test bodies may ask of the place where they run: folders, models, programs. */
#include "testkit/suites/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "engine/bnt_infer.h"
#include "testkit/proc.h"
#include "testkit/suite.h"
#include "testkit/suites/judge.h"

enum { RUN_TIMEOUT_MS = 60 * 1000, RUN_KEEP_BYTES = 4 * 1024 * 1024, MAX_CLIMB = 6 };

static char scratch_dir[BNT_PATH_MAX];

static bool join(char out[BNT_PATH_MAX], const char *dir, const char *relative)
{
    return bnt_path_format(out, NULL, "%s/%s", dir, relative) == BNT_OK;
}

static const char *set_in_environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* Climb from the executable (build/<config>/) to the folder that holds the list of suites. */
static bool climb_to_source(char out[BNT_PATH_MAX])
{
    char marker[BNT_PATH_MAX];
    if (bnt_exe_dir(out, NULL) != BNT_OK) {
        return false;
    }
    for (int i = 0; i < MAX_CLIMB; i++) {
        if (join(marker, out, "testkit/suites.def") && access(marker, R_OK) == 0) {
            return true;
        }
        char *slash = strrchr(out, '/');
        if (!slash || slash == out) {
            return false;
        }
        *slash = '\0';
    }
    return false;
}

const char *support_source_dir(void)
{
    static char found[BNT_PATH_MAX];
    const char *given = set_in_environment("BNT_SOURCE_DIR");
    if (given) {
        return given;
    }
    return climb_to_source(found) ? found : NULL;
}

const char *support_shared_dir(void)
{
    static char beside[BNT_PATH_MAX];
    const char *given = set_in_environment("BNT_SHARED");
    if (given) {
        return access(given, R_OK | X_OK) == 0 ? given : NULL;
    }
    const char *source = support_source_dir();
    bool there = source && join(beside, source, "../shared") && access(beside, R_OK | X_OK) == 0;
    return there ? beside : NULL;
}

void support_set_scratch(const char *dir)
{
    (void)bnt_path_format(scratch_dir, NULL, "%s", dir);
}

static const char *named_cause;

const char *support_cause(void)
{
    return named_cause;
}

bool support_is_cause(const char *word)
{
    static const char *const causes[] = {"network", "disk", "memory"};
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        if (strcmp(causes[i], word) == 0) {
            return true;
        }
    }
    return false;
}

void suite_metric(const char *name, double value, const char *unit)
{
    printf("@metric %s %.17g %s\n", name, value, unit);
}

void suite_infrastructure(const char *cause, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    named_cause = support_is_cause(cause) ? cause : NULL;
    fail_msg("%s: %s", cause, what);
    abort(); /* fail_msg does not return, but says so to no compiler */
}

static struct {
    char *why;
    size_t size;
} skip_reason;

void support_skip_into(char *why, size_t size)
{
    skip_reason.why = why;
    skip_reason.size = size;
}

void suite_skip(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(skip_reason.why, skip_reason.size, fmt, ap);
    va_end(ap);
    skip();
    abort(); /* skip does not return, but says so to no compiler */
}

const char *suite_shared(const char *relative)
{
    static char path[BNT_PATH_MAX];
    const char *dir = support_shared_dir();
    if (!dir || !join(path, dir, relative)) {
        fail_msg("no shared folder for %s: the test must say .needs = \"shared\"", relative);
    }
    return path;
}

const char *suite_source(const char *relative)
{
    static char path[BNT_PATH_MAX];
    const char *dir = support_source_dir();
    if (!dir || !join(path, dir, relative)) {
        fail_msg("no source tree for %s: set BNT_SOURCE_DIR to it", relative);
    }
    return path;
}

const char *suite_bundled_model(void)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    if (bnt_bundled_model(path, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return path;
}

const char *suite_model(void)
{
    const char *given = set_in_environment("BNT_TEST_MODEL");
    return given ? given : suite_bundled_model();
}

const char *suite_on_device(void)
{
    const char *given = set_in_environment("BNT_TEST_DEVICE");
    return given ? given : "cpu";
}

static struct {
    bool tried;
    struct bnt_model *model;
    struct bnt_err err;
} mapped;

void support_map_model(void)
{
    const char *given = set_in_environment("BNT_TEST_MODEL");
    char bundled[BNT_PATH_MAX];
    if (mapped.tried) {
        return;
    }
    mapped.tried = true;
    if (given || bnt_bundled_model(bundled, &mapped.err) == BNT_OK) {
        (void)bnt_model_open(given ? given : bundled, NULL, &mapped.model, &mapped.err);
    }
}

struct bnt_model *suite_model_open(void)
{
    support_map_model();
    if (!mapped.model) {
        fail_msg("the model under test: %s", mapped.err.msg);
    }
    return mapped.model;
}

const char *support_bnt(void)
{
    /* The build folder; an installed bnt-suites lies in <prefix>/libexec/bnt. */
    static const char *const places[] = {"bnt", "../../bin/bnt"};
    static char path[BNT_PATH_MAX];
    const char *given = set_in_environment("BNT");
    if (given) {
        return given;
    }
    char dir[BNT_PATH_MAX];
    if (bnt_exe_dir(dir, NULL) == BNT_OK) {
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            if (join(path, dir, places[i]) && access(path, X_OK) == 0) {
                return path;
            }
        }
    }
    return NULL;
}

const char *suite_bnt(void)
{
    const char *path = support_bnt();
    if (!path) {
        fail_msg("no program bnt beside bnt-suites: run make, or set BNT to it");
    }
    return path;
}

/* Whether `path` was built after this build's bnt. */
static bool is_as_new(const char *path)
{
    struct stat there, here;
    return stat(path, &there) == 0 && stat(suite_bnt(), &here) == 0 &&
           there.st_mtime >= here.st_mtime;
}

const char *support_fault_bnt(void)
{
    static char path[BNT_PATH_MAX];
    if (strcmp(BNT_CONFIG, "fault") == 0) {
        return suite_bnt();
    }
    char dir[BNT_PATH_MAX];
    bool there = bnt_exe_dir(dir, NULL) == BNT_OK && join(path, dir, "../fault/bnt") &&
                 access(path, X_OK) == 0 && is_as_new(path);
    return there ? path : NULL;
}

void support_preload(const char *library)
{
    char path[BNT_PATH_MAX], options[512];
    const char *bnt = suite_bnt(), *slash = strrchr(bnt, '/');
    if (bnt_path_format(path, NULL, "%.*s/%s", slash ? (int)(slash - bnt) : 1, slash ? bnt : ".",
                        library) != BNT_OK ||
        access(path, R_OK) != 0) {
        suite_skip("needs: %s beside bnt (make builds it, nobody installs it)", library);
    }
    assert_int_equal(setenv("LD_PRELOAD", path, 1), 0);
    /* A sanitizer wants to be the first library, and only says so. */
    const char *before = set_in_environment("ASAN_OPTIONS");
    snprintf(options, sizeof options, "%s%sverify_asan_link_order=0", before ? before : "",
             before ? ":" : "");
    assert_int_equal(setenv("ASAN_OPTIONS", options, 1), 0);
}

const char *suite_scratch(void)
{
    return scratch_dir;
}

const char *suite_in_scratch(const char *name)
{
    static char paths[4][BNT_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", scratch_dir, name), BNT_OK);
    return path;
}

void suite_run(const char *const *argv, const char *cwd, unsigned timeout_ms,
               struct suite_output *result)
{
    struct bnt_err err = {0};
    struct proc p;
    const struct proc_spec spec = {
        .argv = (char *const *)(uintptr_t)argv,
        .cwd = cwd,
        .timeout_ms = timeout_ms ? timeout_ms : RUN_TIMEOUT_MS,
        .keep_bytes = RUN_KEEP_BYTES,
    };
    if (proc_run(&p, &spec, &err) != BNT_OK) {
        fail_msg("%s: %s", argv[0], err.msg);
    }
    result->exit = p.code;
    result->out = proc_output(&p, PROC_OUT);
    result->err = proc_output(&p, PROC_ERR);
    char how[160];
    proc_describe(&p, how, sizeof how);
    bool exited = p.end == PROC_EXITED;
    proc_release(&p);
    assert_non_null(result->out);
    assert_non_null(result->err);
    if (judge_build_is_sanitized() && judge_find_report(result->err)) {
        fail_msg("%s: a sanitizer reported a fault, whatever its exit code:\n%s", argv[0],
                 result->err);
    }
    if (!exited) {
        fail_msg("%s %s: %s\n%s", argv[0], argv[1] ? argv[1] : "", how, result->err);
    }
}

void suite_output_release(struct suite_output *o)
{
    free(o->out);
    free(o->err);
    *o = (struct suite_output){0};
}
