/* The place of one test. See test_place.h. */
#include "testkit/suites/test_place.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "testkit/remove_tree.h"
#include "testkit/suites/support.h"

/* Variables that name a file or folder which tests read. */
static const char *const outer_variables[] = {"BNT_TEST_MODEL",
                                              "BNT_SYNTH2B",
                                              "BNT_OFFICIAL_2B",
                                              "BNT_LLAMA3_VOCAB",
                                              "BNT_BITNET_SERVER",
                                              "BNT_MODELS_DIR",
                                              "BNT_SOURCE_DIR",
                                              "BNT_SHARED",
                                              "BNT_OFFICIAL_FACTS",
                                              "BNT_CUDA_MODULE",
                                              "BNT"};
enum { N_OUTER = sizeof outer_variables / sizeof outer_variables[0] };

static char outer_home[BNT_PATH_MAX];

void test_place_fix_environment(void)
{
    char absolute[BNT_PATH_MAX];
    const char *home = getenv("HOME");
    (void)bnt_path_format(outer_home, NULL, "%s", home ? home : "");
    for (size_t i = 0; i < N_OUTER; i++) {
        const char *value = getenv(outer_variables[i]);
        if (value && value[0] && value[0] != '/' && realpath(value, absolute)) {
            setenv(outer_variables[i], absolute, 1);
        }
    }
}

const char *test_place_outer_file(size_t i)
{
    const char *value = i < N_OUTER ? getenv(outer_variables[i]) : NULL;
    return i >= N_OUTER ? NULL : value ? value : "";
}

const char *test_place_outer_home(void)
{
    return outer_home;
}

/* ---- folders ---- */

static const char *const folders[] = {"scratch", "tmp", "home"};

static bool join(char out[BNT_PATH_MAX], const char *root, const char *name)
{
    return bnt_path_format(out, NULL, "%s/%s", root, name) == BNT_OK;
}

/* Making and removing folders is half of what a small test costs: an empty place is kept. "": none.
 */
static char spare[BNT_PATH_MAX];

enum bnt_status test_place_make(char root[BNT_PATH_MAX], struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    if (spare[0]) {
        memcpy(root, spare, strlen(spare) + 1);
        spare[0] = '\0';
        return BNT_OK;
    }
    const char *tmp = getenv("TMPDIR");
    enum bnt_status status =
        bnt_path_format(root, err, "%s/bnt-test-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (status == BNT_OK && !mkdtemp(root)) {
        status = bnt_err_errno(err, "%s", root);
    }
    for (size_t i = 0; status == BNT_OK && i < sizeof folders / sizeof folders[0]; i++) {
        if (!join(path, root, folders[i]) || mkdir(path, 0700) != 0) {
            status = bnt_err_errno(err, "%s/%s", root, folders[i]);
        }
    }
    return status;
}

static bool is_empty_folder(const char *path)
{
    struct stat st;
    DIR *dir = lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700
                   ? opendir(path)
                   : NULL;
    bool empty = dir != NULL;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    }
    if (dir) {
        closedir(dir);
    }
    return empty;
}

/* As test_place_make makes it: the folders, and nothing else. */
static bool is_as_new(const char *root)
{
    char path[BNT_PATH_MAX];
    struct stat st;
    bool is = lstat(root, &st) == 0 && (st.st_mode & 07777) == 0700 &&
              st.st_nlink == 2 + sizeof folders / sizeof folders[0];
    for (size_t i = 0; is && i < sizeof folders / sizeof folders[0]; i++) {
        is = join(path, root, folders[i]) && is_empty_folder(path);
    }
    return is;
}

void test_place_give_back(const char *root)
{
    if (BNT_FAULT(test_folder)) {
        return;
    }
    if (!spare[0] && is_as_new(root)) {
        (void)bnt_path_format(spare, NULL, "%s", root);
    } else {
        remove_tree(root);
    }
}

void test_place_end(void)
{
    if (spare[0]) {
        remove_tree(spare);
        spare[0] = '\0';
    }
}

bool test_place_enter(const char *root)
{
    char path[BNT_PATH_MAX];
    bool entered = join(path, root, "scratch");
    support_set_scratch(path);
    if (entered && join(path, root, "scratch/.cache")) {
        setenv("XDG_CACHE_HOME", path, 1);
    }
    if (entered && join(path, root, "scratch/.state")) {
        setenv("XDG_STATE_HOME", path, 1); /* histories of the bnt test that a test runs */
    }
    if (entered && join(path, root, "tmp")) {
        setenv("TMPDIR", path, 1);
    }
    entered = entered && join(path, root, "home") && chdir(path) == 0;
    setenv("HOME", path, 1);
    unsetenv("BNT_CACHE_DIR");
    unsetenv("BNT_HISTORY");
    unsetenv("BNT_MIRROR"); /* no test asks a server of the user */
    unsetenv("BNT_CACHE_TOKEN");
    unsetenv("BNT_COLD");
    unsetenv("BNT_OFFLINE");
    return entered;
}

static void list_folder(const char *root, const char *folder, char *out, size_t size)
{
    char path[BNT_PATH_MAX];
    DIR *dir = join(path, root, folder) ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        size_t len = strlen(out);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && len + 1 < size) {
            snprintf(out + len, size - len, "%s%s/%s", len ? ", " : "", folder, e->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

void test_place_list_left(const char *root, char *out, size_t size)
{
    out[0] = '\0';
    list_folder(root, "tmp", out, size);
    list_folder(root, "home", out, size);
}
