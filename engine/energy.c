/* RAPL through Linux's powercap: folders intel-rapl:N are packages (on AMD's processors, too);
 * intel-rapl:N:M are parts of package N and already counted in it. */
#include "engine/energy.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"

#define PACKAGE "intel-rapl:"

/* 0, or the errno with which the number cannot be had. */
static int read_number(const char *path, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return errno;
    }
    int got = fscanf(f, "%" SCNu64, out);
    fclose(f);
    return got == 1 ? 0 : EIO;
}

static bool is_package(const char *name)
{
    size_t prefix = strlen(PACKAGE);
    return strncmp(name, PACKAGE, prefix) == 0 && name[prefix] != '\0' &&
           strspn(name + prefix, "0123456789") == strlen(name + prefix);
}

/* Add the package of a folder; 0, or the errno of what cannot be read. */
static int add_package(struct energy *e, const char *root, const char *name)
{
    char range[sizeof e->at[0].path];
    int n = snprintf(e->at[e->n].path, sizeof e->at[e->n].path, "%s/%s/energy_uj", root, name);
    int m = snprintf(range, sizeof range, "%s/%s/max_energy_range_uj", root, name);
    if (n >= (int)sizeof e->at[e->n].path || m >= (int)sizeof range) {
        return ENAMETOOLONG;
    }
    int failed = read_number(e->at[e->n].path, &e->at[e->n].last_uj);
    failed = failed != 0 ? failed : read_number(range, &e->at[e->n].wrap_uj);
    e->n += failed == 0;
    return failed;
}

void energy_open(struct energy *e, const char *root)
{
    *e = (struct energy){0};
    DIR *dir = opendir(root);
    int failed = 0;
    const struct dirent *entry;
    while (dir && failed == 0 && e->n < ENERGY_PACKAGES_MAX && (entry = readdir(dir)) != NULL) {
        failed = is_package(entry->d_name) ? add_package(e, root, entry->d_name) : 0;
    }
    if (dir) {
        closedir(dir);
    }
    if (failed != 0) { /* the sum of some packages is no figure */
        e->n = 0;
        snprintf(e->why, sizeof e->why, "the counters in %s cannot be read: %s%s", root,
                 strerror(failed), failed == EACCES ? " (the superuser may)" : "");
    } else if (e->n == 0) {
        snprintf(e->why, sizeof e->why, "this machine shows no counters (RAPL) in %s", root);
    }
}

bool energy_since(struct energy *e, double *joules)
{
    uint64_t sum_uj = 0;
    for (size_t i = 0; i < e->n; i++) {
        uint64_t now_uj;
        int failed = read_number(e->at[i].path, &now_uj);
        if (failed != 0) {
            e->n = 0;
            snprintf(e->why, sizeof e->why, "a counter of energy went away: %s", strerror(failed));
            return false;
        }
        bool wrapped = now_uj < e->at[i].last_uj && !BNT_FAULT(energy_wrap);
        sum_uj += now_uj + (wrapped ? e->at[i].wrap_uj : 0) - e->at[i].last_uj;
        e->at[i].last_uj = now_uj;
    }
    *joules = (double)sum_uj / 1e6;
    return e->n > 0;
}
