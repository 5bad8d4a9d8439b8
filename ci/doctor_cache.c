/* Checks of the cache, the project's lock file and what is known of servers. Nothing waits for a
 * lock: who holds one is told instead. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/file.h"
#include "cache/bnt_cache.h"
#include "ci/doctor.h"
#include "fetch/breaker.h"
#include "fetch/curl_lib.h"
#include "fetch/project.h"

enum {
    PROBE_BYTES = 1 << 20, /* of the file that is written to see whether there is room */
    REACH_TIMEOUT_S = 10,
    LOCK_PATIENCE_MS = 2000, /* a writer holds the index for milliseconds */
};

/* ---- folder and room ---- */

/* Whether a folder that is not there can be made: one is made, and removed, in the nearest folder
 * above it that is there. Modes alone do not tell it of all file systems, nor to root. */
static bool can_be_made(const char *dir)
{
    char above[BNT_PATH_MAX], probe[BNT_PATH_MAX];
    struct stat st;
    enum bnt_status made = bnt_folder_of(dir, above, NULL);
    while (made == BNT_OK && stat(above, &st) != 0 && errno == ENOENT) {
        made = bnt_folder_of(above, probe, NULL);
        memcpy(above, probe, sizeof above);
    }
    made = made == BNT_OK ? bnt_path_format(probe, NULL, "%s/bnt-doctor-XXXXXX", above) : made;
    return made == BNT_OK && mkdtemp(probe) && rmdir(probe) == 0;
}

/* The folder, "" when there is none to be had. */
static void check_folder(struct doctor *d, char dir[BNT_PATH_MAX])
{
    struct stat st;
    struct doctor_check *c = doctor_check(d, "cache.folder", "the folder of the cache");
    if (bnt_cache_dir(dir, NULL) != BNT_OK) {
        doctor_skipped(c, "there is none: see environment.home");
        dir[0] = '\0';
        return;
    }
    if (stat(dir, &st) != 0 && errno == ENOENT && !can_be_made(dir)) {
        doctor_problem(c, "set BNT_CACHE_DIR to a folder that this user can make",
                       "%s is not there, and cannot be made", dir);
    } else if (stat(dir, &st) != 0 && errno == ENOENT) {
        doctor_found(c, "%s is not there yet: the first fetch makes it", dir);
    } else if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && access(dir, R_OK | W_OK | X_OK) == 0) {
        doctor_found(c, "%s can be read and written", dir);
        return;
    } else {
        doctor_problem(c, "give it to this user, or set BNT_CACHE_DIR to another folder",
                       "%s is no folder that this user can read and write", dir);
    }
    dir[0] = '\0';
}

/* Write and remove a file, since quotas and limits are not seen in the free space of a disk. */
static enum bnt_status write_probe(const char *dir, struct bnt_err *err)
{
    static const char zeros[4096];
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(path, err, "%s/doctor-XXXXXX", dir);
    int fd = st == BNT_OK ? mkstemp(path) : -1;
    if (fd < 0) {
        return st == BNT_OK ? bnt_err_errno(err, "%s", path) : st;
    }
    for (size_t n = 0; st == BNT_OK && n < PROBE_BYTES; n += sizeof zeros) {
        st = bnt_write_all(fd, zeros, sizeof zeros, dir, err);
    }
    if (st == BNT_OK && fsync(fd) != 0) {
        st = bnt_err_errno(err, "%s", dir);
    }
    close(fd);
    unlink(path);
    return st;
}

static void check_space(struct doctor *d, const char *dir)
{
    struct bnt_err err = {0};
    struct doctor_check *c =
        doctor_check(d, "cache.space", "room for a file of 1 MiB in the cache");
    if (!dir[0]) {
        doctor_skipped(c, "there is no folder to write to");
    } else if (write_probe(dir, &err) != BNT_OK) {
        doctor_problem(c,
                       "make room: bnt cache gc --max-size SIZE, or set BNT_CACHE_DIR to a disk "
                       "with room; see also ulimit -f and quota",
                       "%s", err.msg);
    } else {
        doctor_found(c, "it could be written");
    }
}

/* ---- index and blobs ---- */

/* The process that keeps others from the index, 0 without one. SQLite's locks are those of bytes
 * from 2^30 on. */
static pid_t index_holder(const char *dir)
{
    char path[BNT_PATH_MAX];
    if (bnt_path_format(path, NULL, "%s/index.db", dir) != BNT_OK) {
        return 0;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 1 << 30, .l_len = 512};
    pid_t holder =
        fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    if (fd >= 0) {
        close(fd);
    }
    return holder;
}

static void name_of(pid_t pid, char out[64])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(out, 64, f)) {
        snprintf(out, 64, "?");
    }
    out[strcspn(out, "\n")] = '\0';
    if (f) {
        fclose(f);
    }
}

static void check_lock(struct doctor *d, const char *dir)
{
    struct doctor_check *c =
        doctor_check(d, "cache.lock", "whether a process keeps others from the index");
    pid_t pid = dir[0] ? index_holder(dir) : 0;
    for (int waited = 0; pid != 0 && waited < LOCK_PATIENCE_MS; waited += 100) {
        bnt_clock_sleep_ns(100 * 1000000ull);
        pid = index_holder(dir);
    }
    if (!dir[0]) {
        doctor_skipped(c, "there is no cache");
    } else if (pid != 0) {
        char name[64], next[128];
        name_of(pid, name);
        snprintf(next, sizeof next, "see what it does, and end it if it hangs: kill %d", (int)pid);
        doctor_problem(c, next, "process %d (%s) has held the lock of %s/index.db for %d s",
                       (int)pid, name, dir, LOCK_PATIENCE_MS / 1000);
    } else {
        doctor_found(c, "none");
    }
}

static void check_index(struct doctor *d, const char *dir, struct bnt_cache **cache)
{
    struct bnt_err err = {0};
    struct bnt_cache_list list = {0};
    struct doctor_check *c = doctor_check(d, "cache.index", "index.db");
    if (!dir[0] || doctor_is_ill(d, "cache.lock") || doctor_is_ill(d, "cache.space")) {
        doctor_skipped(c, "the cache cannot be opened for another reason");
        return;
    }
    enum bnt_status st = bnt_cache_open(dir, cache, &err);
    if (st == BNT_OK) {
        st = bnt_cache_list(*cache, &list, &err);
    }
    if (st == BNT_OK) {
        doctor_found(c, "%zu rows", list.n);
    } else {
        doctor_error(c, "run: bnt cache rebuild", &err);
    }
    bnt_cache_list_release(&list);
}

/* Sizes alone: hashing is bnt cache verify's. */
static void check_blobs(struct doctor *d, struct bnt_cache *cache)
{
    struct bnt_cache_list list = {0};
    struct doctor_check *c =
        doctor_check(d, "cache.blobs", "models of the cache: there, and of their size");
    if (!cache || doctor_is_ill(d, "cache.index") || bnt_cache_list(cache, &list, NULL) != BNT_OK) {
        doctor_skipped(c, "there is no index to ask");
        return;
    }
    doctor_found(c, "%zu, all of their size", list.n);
    for (size_t i = 0; i < list.n; i++) {
        const struct bnt_cache_entry *e = &list.at[i];
        struct bnt_err err = {0};
        bool has = false;
        enum bnt_status st = bnt_cache_has(cache, e->digest, &has, &err);
        if (st != BNT_OK || !has) {
            doctor_problem(c, "run: bnt cache verify --repair", "%s (%.12s) %s",
                           e->name[0] ? e->name : "a model", e->digest,
                           st == BNT_OK ? "is gone, or has not the size with which it entered"
                                        : err.msg);
            break;
        }
    }
    bnt_cache_list_release(&list);
}

/* ---- project ---- */

static void check_lock_file(struct doctor *d)
{
    struct project p;
    struct bnt_err err = {0};
    struct doctor_check *c = doctor_check(d, "cache.lock-file", "bnt.lock against bnt.yml");
    enum bnt_status st = project_open(&p, NULL, &err);
    if (st == BNT_E_NOT_FOUND) {
        doctor_found(c, "no bnt.yml here: nothing to hold it against");
        return;
    }
    if (st == BNT_OK) {
        st = project_check(&p, NULL, &err);
        project_release(&p);
    }
    if (st == BNT_OK) {
        doctor_found(c, "they fit");
    } else {
        doctor_error(c, "run: bnt lock", &err);
    }
}

void doctor_cache(struct doctor *d)
{
    char dir[BNT_PATH_MAX];
    struct bnt_cache *cache = NULL;
    check_folder(d, dir);
    check_space(d, dir);
    check_lock(d, dir);
    check_index(d, dir, &cache);
    check_blobs(d, cache);
    check_lock_file(d);
    bnt_cache_close(cache);
}

/* ---- network ---- */

static void check_circuits(struct doctor *d)
{
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct breaker *b = NULL;
    struct breaker_row *rows = NULL;
    size_t n = 0;
    struct doctor_check *c =
        doctor_check(d, "network.circuits", "servers that are left alone after failures");
    if (bnt_cache_dir(dir, NULL) != BNT_OK || doctor_is_ill(d, "cache.folder") ||
        doctor_is_ill(d, "cache.space") ||
        bnt_path_format(path, NULL, "%s/net.db", dir) != BNT_OK || access(path, R_OK) != 0) {
        doctor_found(c, "nothing is known of any server");
        return;
    }
    if (breaker_open(dir, &b, NULL) == BNT_OK && breaker_list(b, &rows, &n, NULL) == BNT_OK) {
        doctor_found(c, "%zu servers are known, none is left alone", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (rows[i].open_s > 0 || rows[i].cool_s > 0) {
            int64_t wait = rows[i].open_s > rows[i].cool_s ? rows[i].open_s : rows[i].cool_s;
            doctor_problem(c,
                           "wait, name another mirror, or when it is well again: bnt mirror reset",
                           "%s is left alone for %lld s yet: %s", rows[i].origin, (long long)wait,
                           rows[i].open_s > 0 ? "too many transfers failed" : "it asked for that");
            break;
        }
    }
    free(rows);
    breaker_close(b);
}

static const char *proxy_of_https(const char **name)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < 4; i++) {
        *name = names[i];
        const char *value = bnt_env(*name);
        if (value) {
            return value;
        }
    }
    return NULL;
}

/* What libcurl makes of the URL: its head alone, no redirect. */
static CURLcode ask_head(const char *url, long *code, struct bnt_err *err)
{
    const struct curl_lib *l;
    if (curl_lib_load(&l, err) != BNT_OK) {
        return CURLE_FAILED_INIT;
    }
    CURL *easy = l->easy_init();
    if (!easy) {
        return CURLE_OUT_OF_MEMORY;
    }
    CURLcode rc = l->easy_setopt(easy, CURLOPT_URL, url);
    if (rc == CURLE_OK) {
        rc = curl_lib_set_certificates(l, easy);
    }
    if (rc == CURLE_OK) {
        l->easy_setopt(easy, CURLOPT_NOBODY, 1L);
        l->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        l->easy_setopt(easy, CURLOPT_TIMEOUT, (long)REACH_TIMEOUT_S);
        rc = l->easy_perform(easy);
        l->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, code);
    }
    if (rc != CURLE_OK) {
        bnt_err_set(err, BNT_E_NETWORK, "%s", l->easy_strerror(rc));
    }
    l->easy_cleanup(easy);
    return rc;
}

static bool is_tls_failure(CURLcode rc)
{
    return rc == CURLE_SSL_CONNECT_ERROR || rc == CURLE_PEER_FAILED_VERIFICATION ||
           rc == CURLE_SSL_CACERT_BADFILE || rc == CURLE_SSL_CIPHER || rc == CURLE_SSL_ISSUER_ERROR;
}

static void check_reach(struct doctor *d)
{
    const char *name = "", *proxy = proxy_of_https(&name), *url = d->o->url;
    struct bnt_err err = {0};
    long code = 0;
    struct doctor_check *c = doctor_check(d, "network.reach", "%s", url ? url : "--url");
    if (!url) {
        doctor_skipped(c, "no URL is given, and nothing is asked by itself");
        return;
    }
    if (bnt_app_offline()) {
        doctor_skipped(c, "BNT_OFFLINE=1");
        return;
    }
    CURLcode rc = ask_head(url, &code, &err);
    bool https = strncmp(url, "https://", 8) == 0;
    if (rc == CURLE_OK) {
        doctor_found(c, "it answers with %ld%s%s", code, proxy && https ? ", through " : "",
                     proxy && https ? name : "");
    } else if (is_tls_failure(rc) && proxy && https) {
        doctor_problem(c,
                       "name its certificate in CURL_CA_BUNDLE if it reads what passes, or list "
                       "the host in NO_PROXY",
                       "the proxy of %s breaks TLS: %s", name, err.msg);
    } else if (is_tls_failure(rc)) {
        doctor_problem(c, "see CURL_CA_BUNDLE, and the clock of this machine",
                       "the certificate is not trusted: %s", err.msg);
    } else {
        doctor_problem(c,
                       proxy && https ? "see the proxy in HTTPS_PROXY, and NO_PROXY"
                                      : "see the name of the host, and whether it is up",
                       "it cannot be reached: %s", err.msg);
    }
}

void doctor_network(struct doctor *d)
{
    check_circuits(d);
    check_reach(d);
}
