/* What the tests of a suite depend on in the source tree, as one digest per suite: `bnt test` runs
 * first what was touched since its last pass. */
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "testkit/suites/support.h"

enum { LIST_MAX_BYTES = 4 << 20 };

/* Paths relative to the source tree, separated by blanks: files, or folders with all below them. */
static const struct {
    const char *suite, *paths;
} inputs[] = {
#define INPUTS(suite, paths) {#suite, paths},
#include "testkit/suites/inputs.def"
#undef INPUTS
};

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* One line per file: its digest and its path below the source tree. */
static enum bnt_status add_path(const char *source, const char *relative, struct bnt_buf *lines)
{
    char path[BNT_PATH_MAX];
    char hex[BNT_SHA256_HEX];
    enum bnt_status status = bnt_path_format(path, NULL, "%s/%s", source, relative);
    char *const roots[] = {path, NULL};
    FTS *tree = status == BNT_OK ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name) : NULL;
    for (FTSENT *e; tree && status == BNT_OK && (e = fts_read(tree)) != NULL;) {
        if (e->fts_info == FTS_F) {
            status = bnt_sha256_file(e->fts_path, NULL, NULL, hex, NULL);
            if (status == BNT_OK) {
                status = bnt_buf_printf(lines, NULL, "%s %s\n", hex, e->fts_path + strlen(source));
            }
        }
    }
    if (tree) {
        fts_close(tree);
    }
    return status;
}

static enum bnt_status add_paths(const char *source, const char *suite, struct bnt_buf *lines)
{
    char path[256];
    snprintf(path, sizeof path, "testkit/suites/suite_%s.c", suite);
    enum bnt_status status = add_path(source, path, lines);
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (strcmp(inputs[i].suite, suite) != 0) {
            continue;
        }
        for (const char *at = inputs[i].paths; status == BNT_OK && *at;) {
            size_t len = strcspn(at, " ");
            snprintf(path, sizeof path, "%.*s", (int)len, at);
            status = add_path(source, path, lines);
            at += len + strspn(at + len, " ");
        }
    }
    return status;
}

static bool digest_of(const char *text, size_t n, char hex[BNT_SHA256_HEX])
{
    struct bnt_sha256 *d = NULL;
    bool done = bnt_sha256_new(&d, NULL) == BNT_OK &&
                bnt_sha256_update(d, text, n, NULL) == BNT_OK && bnt_sha256_hex(d, hex, NULL) == 0;
    bnt_sha256_free(d);
    return done;
}

const char *support_inputs_digest(const char *suite)
{
    static char last_suite[64];
    static char hex[BNT_SHA256_HEX];
    if (strcmp(last_suite, suite) == 0) { /* tests are listed suite by suite */
        return hex;
    }
    const char *source = support_source_dir();
    struct bnt_buf lines = BNT_BUF(LIST_MAX_BYTES);
    bool known = source && add_paths(source, suite, &lines) == BNT_OK &&
                 digest_of(bnt_buf_view(&lines), lines.len, hex);
    bnt_buf_release(&lines);
    if (!known) {
        snprintf(hex, sizeof hex, "-");
    }
    snprintf(last_suite, sizeof last_suite, "%s", suite);
    return hex;
}
