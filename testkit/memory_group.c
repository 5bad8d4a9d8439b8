/* Limits of memory by control groups. See memory_group.h.
 *
 * Names are bnt-memory-PID; a group whose process is gone was left by one that was killed, and is
 * removed by the next that makes one beside it. */
#include "testkit/memory_group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

static const char prefix[] = "bnt-memory-";

static bool join(char out[BNT_PATH_MAX], const char *dir, const char *name)
{
    return bnt_path_format(out, NULL, "%s/%s", dir, name) == BNT_OK;
}

/* Write a word to a file of a group; false when the kernel refuses it. */
static bool put(const char *dir, const char *file, const char *text)
{
    char path[BNT_PATH_MAX];
    int fd = join(path, dir, file) ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    size_t len = strlen(text);
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool there_is(const char *dir, const char *file)
{
    char path[BNT_PATH_MAX];
    return join(path, dir, file) && access(path, W_OK) == 0;
}

/* The number behind a word at the beginning of a line; 0 where there is none. */
static uint64_t number_after(const char *dir, const char *file, const char *word)
{
    char path[BNT_PATH_MAX], line[128];
    uint64_t n = 0;
    size_t len = strlen(word);
    FILE *f = join(path, dir, file) ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof line, f)) {
        n = strncmp(line, word, len) == 0 && line[len] == ' ' ? strtoull(line + len, NULL, 10) : n;
    }
    if (f) {
        fclose(f);
    }
    return n;
}

/* ---- finding a place ---- */

/* The path of this process in a hierarchy: "0::/path" is version 2, "N:...memory...:/path" the one
 * of version 1 that has memory. False without a line. */
static bool own_group(const char *list, bool v2, char out[BNT_PATH_MAX])
{
    char line[BNT_PATH_MAX];
    bool found = false;
    FILE *f = fopen(list, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path) {
            *path++ = '\0';
            path[strcspn(path, "\n")] = '\0';
            bool is = v2 ? controllers[1] == '\0' : strcmp(controllers + 1, "memory") == 0;
            found = is && bnt_path_format(out, NULL, "%s", strcmp(path, "/") ? path : "") == BNT_OK;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

/* The process that a name below a group stands for; 0: it is none of ours. */
static pid_t owner_of(const char *name)
{
    bool ours = strncmp(name, prefix, sizeof prefix - 1) == 0;
    return ours ? (pid_t)strtol(name + sizeof prefix - 1, NULL, 10) : 0;
}

/* Remove a group, and before it those below: a test that makes groups and does not come to its end
 * leaves them. A group that somebody is in stays, and so do those above it. */
static void remove_group(const char *path)
{
    char below[BNT_PATH_MAX];
    DIR *d = rmdir(path) == 0 ? NULL : opendir(path);
    if (!d) {
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (owner_of(e->d_name) > 0 && join(below, path, e->d_name)) {
            remove_group(below);
        }
    }
    closedir(d);
    rmdir(path);
}

static void remove_stale(const char *dir)
{
    char path[BNT_PATH_MAX];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        pid_t pid = owner_of(e->d_name);
        if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH && join(path, dir, e->d_name)) {
            remove_group(path);
        }
    }
    if (d) {
        closedir(d);
    }
}

/* A group below dir that has the file of limits; a parent of version 2 is asked to pass the
 * controller on, which it does when no process is in it. */
static bool make_below(const char *dir, bool v2, struct memory_group *g)
{
    if (bnt_path_format(g->path, NULL, "%s/%s%d", dir, prefix, (int)getpid()) != BNT_OK) {
        return false;
    }
    /* One that is there was left by another process of this number. */
    if (mkdir(g->path, 0755) != 0 && errno != EEXIST) {
        return false;
    }
    remove_stale(dir);
    if (v2 && !there_is(g->path, "memory.max")) {
        (void)put(dir, "cgroup.subtree_control", "+memory");
    }
    if (there_is(g->path, v2 ? "memory.max" : "memory.limit_in_bytes")) {
        g->kind = v2 ? MEMORY_GROUP_V2 : MEMORY_GROUP_V1;
        return true;
    }
    rmdir(g->path);
    return false;
}

/* Below the group of this process, else below the nearest ancestor that allows it. */
static bool make_in(const char *list, const char *mount, bool v2, struct memory_group *g)
{
    char own[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    if (!own_group(list, v2, own)) {
        return false;
    }
    for (;;) {
        if (bnt_path_format(dir, NULL, "%s%s", mount, own) == BNT_OK && make_below(dir, v2, g)) {
            return true;
        }
        char *slash = strrchr(own, '/');
        if (!slash) {
            return false;
        }
        *slash = '\0';
    }
}

void memory_group_open_in(struct memory_group *g, const char *list, const char *v2, const char *v1)
{
    *g = (struct memory_group){.kind = MEMORY_GROUP_NONE};
    if (!make_in(list, v2, true, g)) {
        (void)make_in(list, v1, false, g);
    }
}

void memory_group_open(struct memory_group *g)
{
    memory_group_open_in(g, "/proc/self/cgroup", "/sys/fs/cgroup", "/sys/fs/cgroup/memory");
}

/* ---- use ---- */

static uint64_t all_kills(const struct memory_group *g)
{
    return g->kind == MEMORY_GROUP_V2 ? number_after(g->path, "memory.events", "oom_kill")
                                      : number_after(g->path, "memory.oom_control", "oom_kill");
}

bool memory_group_limit(struct memory_group *g, uint64_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    if (g->kind == MEMORY_GROUP_NONE) {
        return false;
    }
    g->kills_before = all_kills(g);
    if (g->kind == MEMORY_GROUP_V2) {
        (void)put(g->path, "memory.swap.max", "0");
        return put(g->path, "memory.max", text);
    }
    /* Memory with swap may not be less than memory: lifted first, then both are set. */
    (void)put(g->path, "memory.memsw.limit_in_bytes", "-1");
    bool ok = put(g->path, "memory.limit_in_bytes", text);
    (void)put(g->path, "memory.memsw.limit_in_bytes", text);
    return ok;
}

bool memory_group_enter(const struct memory_group *g)
{
    return g->kind != MEMORY_GROUP_NONE && put(g->path, "cgroup.procs", "0");
}

uint64_t memory_group_kills(const struct memory_group *g)
{
    bool none = g->kind == MEMORY_GROUP_NONE || BNT_FAULT(memory_group_blind);
    return none ? 0 : all_kills(g) - g->kills_before;
}

void memory_group_close(struct memory_group *g)
{
    if (g->kind != MEMORY_GROUP_NONE) {
        char beside[BNT_PATH_MAX];
        memcpy(beside, g->path, sizeof beside);
        remove_group(g->path);
        /* What a test of this group made may lie beside it: version 2 puts no group below one that
         * holds processes. */
        *strrchr(beside, '/') = '\0';
        remove_stale(beside);
        g->kind = MEMORY_GROUP_NONE;
    }
}

const char *memory_group_name(const struct memory_group *g)
{
    static const char *const names[] = {"no cgroup", "cgroup v1", "cgroup v2"};
    return names[g->kind];
}
