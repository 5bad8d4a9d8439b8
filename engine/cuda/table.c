/* Where the table of a device comes from: the module bnt_cuda.so, looked for once, beside the
 * program and in ../lib/bnt (of bin/bnt) and ../../lib/bnt (of libexec/bnt/bnt-suites). A program
 * without it, and a machine without driver or GPU, are ordinary. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dyn_lib.h"
#include "engine/cuda/backend_cuda.h"

#define MODULE "bnt_cuda.so"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct cuda_table *used, *opened;
static bool looked;
static char reason[256], module_path[BNT_PATH_MAX];

static const struct cuda_table *open_module(const char *path)
{
    cuda_module_fn *module = NULL;
    const struct bnt_dyn_symbol symbol = {CUDA_MODULE_SYMBOL, &module};
    const char *missing = bnt_dyn_lib_load(path, &symbol, 1);
    if (missing) {
        snprintf(reason, sizeof reason, "%.120s does not load: %.80s", path, missing);
        return NULL;
    }
    const struct cuda_table *t = module();
    if (!t || t->version != CUDA_TABLE_VERSION) {
        snprintf(reason, sizeof reason, "%.180s is of another version than this program", path);
        return NULL;
    }
    snprintf(module_path, sizeof module_path, "%s", path);
    return t;
}

static const struct cuda_table *look(void)
{
    static const char *const places[] = {"", "../lib/bnt/", "../../lib/bnt/"};
    char exe[BNT_PATH_MAX], path[BNT_PATH_MAX + 32];
    const char *named = getenv("BNT_CUDA_MODULE");
    if (named && named[0]) {
        return open_module(named);
    }
    snprintf(reason, sizeof reason, "this build has no module for CUDA (%s)", MODULE);
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len <= 0) {
        return NULL;
    }
    exe[len] = '\0';
    char *name = strrchr(exe, '/');
    name[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s%s%s", exe, places[i], MODULE);
        if (access(path, R_OK) == 0) {
            return open_module(path);
        }
    }
    return NULL;
}

const struct cuda_table *cuda_table_get(char *why, size_t size)
{
    pthread_mutex_lock(&lock);
    if (!looked && !used) {
        opened = look();
        looked = true;
    }
    const struct cuda_table *t = used ? used : opened;
    snprintf(why, size, "%s", t ? "" : reason);
    pthread_mutex_unlock(&lock);
    return t;
}

void cuda_module_path(char out[BNT_PATH_MAX])
{
    pthread_mutex_lock(&lock);
    memcpy(out, module_path, sizeof module_path);
    pthread_mutex_unlock(&lock);
}

void cuda_table_use(const struct cuda_table *table)
{
    pthread_mutex_lock(&lock);
    used = table;
    pthread_mutex_unlock(&lock);
}

int cuda_device_count(char *why, size_t size)
{
    const struct cuda_table *t = cuda_table_get(why, size);
    int n = 0;
    if (t && t->count(&n, why, size) != CUDA_OK) {
        n = 0;
    }
    return n;
}
