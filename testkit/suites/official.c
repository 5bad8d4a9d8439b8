/* Where the official file is. See official.h. */
#include "testkit/suites/official.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "cache/bnt_cache.h"
#include "testkit/suite.h"
#include "testkit/suites/support.h"

static const char name[] = "bitnet-b1.58-2B-4T";

/* The file of facts, or of the contract; false without a source tree. */
static bool path_of(const char *folder, const char *ending, char out[BNT_PATH_MAX])
{
    const char *given = getenv("BNT_OFFICIAL_FACTS"), *source = support_source_dir();
    if (given && given[0]) {
        return bnt_path_format(out, NULL, "%s/%s%s", given, name, ending) == BNT_OK;
    }
    return source && bnt_path_format(out, NULL, "%s/testkit/data/%s/%s%s", source, folder, name,
                                     ending) == BNT_OK;
}

static bool recorded_digest(char out[BNT_SHA256_HEX])
{
    char path[BNT_PATH_MAX];
    json_t *facts = path_of("golden", ".json", path) ? json_load_file(path, 0, NULL) : NULL;
    const char *digest =
        json_string_value(json_object_get(json_object_get(facts, "model"), "sha256"));
    bool is = digest && strlen(digest) == BNT_SHA256_HEX - 1;
    snprintf(out, BNT_SHA256_HEX, "%s", is ? digest : "");
    json_decref(facts);
    return is;
}

/* Name the cache's file, if there is one. */
static void ask_the_cache(void)
{
    char digest[BNT_SHA256_HEX], path[BNT_PATH_MAX];
    struct bnt_cache *cache = NULL;
    struct bnt_cache_entry entry;
    if (!recorded_digest(digest) || bnt_cache_open(NULL, &cache, NULL) != BNT_OK) {
        return;
    }
    /* The index first: a cache without it must not be asked to bring it from afar. */
    if (bnt_cache_find(cache, digest, &entry, NULL) == BNT_OK && !BNT_FAULT(official_unseen) &&
        bnt_cache_lookup(cache, digest, &entry, path, NULL) == BNT_OK) {
        setenv("BNT_OFFICIAL_2B", path, 1);
    }
    bnt_cache_close(cache);
}

bool official_find(void)
{
    const char *given = getenv("BNT_OFFICIAL_2B");
    if (!given || !given[0]) {
        ask_the_cache();
        given = getenv("BNT_OFFICIAL_2B");
    }
    return given && given[0] && access(given, R_OK) == 0;
}

json_t *official_facts(void)
{
    char path[BNT_PATH_MAX];
    json_error_t e = {.text = "no source tree"};
    json_t *doc = path_of("golden", ".json", path) ? json_load_file(path, 0, &e) : NULL;
    if (!doc) {
        fail_msg("facts of the official file: line %d: %s", e.line, e.text);
    }
    return doc;
}

const char *official_contract(void)
{
    static char path[BNT_PATH_MAX];
    assert_true(path_of("contracts", ".contract", path));
    return path;
}

const char *official_file(void)
{
    return getenv("BNT_OFFICIAL_2B");
}
