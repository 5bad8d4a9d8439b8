/* Processes below one. See proc_tree.h.
 *
 * /proc/PID/task/TID/children lists children; a process that is stopped forks no more, so stopping
 * all until no new one shows up, and only then killing, ends a fork bomb too. */
#include "testkit/proc_tree.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_ROUNDS = 20, END_MS = 3000 };

static bool is_in(const pid_t *list, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Text of a small file of /proc; "" when it cannot be read. */
static void read_text(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    FILE *f = fopen(path, "re");
    if (f) {
        text[fread(text, 1, size - 1, f)] = '\0';
        fclose(f);
    }
}

static void add_children_of_thread(const char *path, const pid_t *spare, size_t n_spare,
                                   struct proc_tree *out)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return;
    }
    char word[32];
    size_t len = 0;
    for (int c = 0; c != EOF;) {
        c = fgetc(f);
        if (c >= '0' && c <= '9' && len < sizeof word - 1) {
            word[len++] = (char)c;
        } else if (len > 0) {
            word[len] = '\0';
            pid_t pid = (pid_t)strtol(word, NULL, 10);
            if (out->n < PROC_TREE_MAX && !is_in(spare, n_spare, pid)) {
                out->at[out->n++] = pid;
            }
            len = 0;
        }
    }
    fclose(f);
}

static void add_children(pid_t pid, const pid_t *spare, size_t n_spare, struct proc_tree *out)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks) {
        return;
    }
    for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
        if (e->d_name[0] != '.') {
            char children[128];
            snprintf(children, sizeof children, "/proc/%d/task/%.20s/children", (int)pid,
                     e->d_name);
            add_children_of_thread(children, spare, n_spare, out);
        }
    }
    closedir(tasks);
}

void proc_tree_below(pid_t root, const pid_t *spare, size_t n_spare, struct proc_tree *out)
{
    out->n = 0;
    add_children(root, spare, n_spare, out);
    for (size_t i = 0; i < out->n; i++) {
        add_children(out->at[i], NULL, 0, out);
    }
}

static uint64_t kib_after(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    return at ? strtoull(at + strlen(word), NULL, 10) * 1024 : 0;
}

uint64_t proc_tree_memory(pid_t pid)
{
    char path[64];
    char text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    read_text(path, text, sizeof text);
    return kib_after(text, "RssAnon:") + kib_after(text, "RssShmem:") + kib_after(text, "VmSwap:");
}

bool proc_tree_reap(const pid_t *spare, size_t n_spare)
{
    struct proc_tree *all = malloc(sizeof *all);
    if (!all) {
        return false;
    }
    all->n = 0;
    add_children(getpid(), spare, n_spare, all);
    bool none = true;
    for (size_t i = 0; i < all->n; i++) {
        none &= waitpid(all->at[i], NULL, WNOHANG) == all->at[i];
    }
    free(all);
    return none;
}

bool proc_tree_describe(const pid_t *spare, size_t n_spare, char *out, size_t size)
{
    struct proc_tree *all = malloc(sizeof *all);
    size_t len = 0;
    out[0] = '\0';
    if (!all) {
        return false;
    }
    proc_tree_below(getpid(), spare, n_spare, all);
    for (size_t i = 0; i < all->n && i < 4; i++) {
        char path[64];
        char name[32];
        snprintf(path, sizeof path, "/proc/%d/comm", (int)all->at[i]);
        read_text(path, name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        len += (size_t)snprintf(out + len, size - len, "%s%s (%d)", i ? ", " : "", name,
                                (int)all->at[i]);
        len = len < size ? len : size - 1;
    }
    bool any = all->n > 0;
    free(all);
    return any;
}

static void signal_all(const struct proc_tree *tree, int number)
{
    for (size_t i = 0; i < tree->n; i++) {
        kill(tree->at[i], number);
    }
}

static void stop_all(const pid_t *spare, size_t n_spare, struct proc_tree *tree)
{
    size_t before = SIZE_MAX;
    for (int i = 0; i < STOP_ROUNDS; i++) {
        proc_tree_below(getpid(), spare, n_spare, tree);
        if (tree->n == before) {
            return;
        }
        before = tree->n;
        signal_all(tree, SIGSTOP);
    }
}

void proc_tree_end(const pid_t *spare, size_t n_spare)
{
    struct proc_tree *tree = malloc(sizeof *tree);
    for (int ms = 0; tree && ms < END_MS && !proc_tree_reap(spare, n_spare); ms++) {
        stop_all(spare, n_spare, tree);
        signal_all(tree, SIGKILL);
        (void)proc_tree_reap(spare, n_spare);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    free(tree);
}
