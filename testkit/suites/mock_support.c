#include "testkit/suites/mock_support.h"

#include "base/file.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"

const char *ms_path(const char *name)
{
    static char paths[4][BNT_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), name), BNT_OK);
    return path;
}

const char *ms_make(const char *name, const struct bnt_mock_recipe *r, struct bnt_mock_made *made)
{
    struct bnt_err err = {0};
    struct bnt_mock_made unused;
    const char *path = ms_path(name);
    es_ok(bnt_mock_make(r, path, made ? made : &unused, &err), &err);
    return path;
}
