/* Programs as children that die with the test, and requests by libcurl. */
#include "testkit/suites/server_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fetch/curl_lib.h"
#include "testkit/suite.h"

enum { START_TIMEOUT_S = 60, STOP_TIMEOUT_S = 10, LOOK_MS = 20 };

static struct sockaddr_in address(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* A socket bound to the port (0: any), or -1. */
static int bind_port(int port, int *bound)
{
    struct sockaddr_in a = address(port);
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        close(fd);
        return -1;
    }
    *bound = ntohs(a.sin_port);
    return fd;
}

int server_free_ports(int n)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int fds[8], first = 0, port, have = 1;
        assert_true(n <= 8);
        fds[0] = bind_port(0, &first);
        for (; fds[0] >= 0 && have < n; have++) {
            fds[have] = bind_port(first + have, &port);
            if (fds[have] < 0) {
                break;
            }
        }
        for (int i = 0; fds[0] >= 0 && i < have; i++) {
            close(fds[i]);
        }
        if (fds[0] >= 0 && have == n) {
            return first;
        }
    }
    fail_msg("no %d neighbouring ports are free", n);
    return 0;
}

/* ---- programs ---- */

struct start {
    const char *const *argv;
    int input;
};

static int become(void *ctx)
{
    const struct start *s = ctx;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (dup2(s->input, 0) == 0) {
        execvp(s->argv[0], (char *const *)(uintptr_t)s->argv);
    }
    return 127;
}

static bool listens(int port)
{
    struct sockaddr_in a = address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return is;
}

static bool says_ready(struct server *s)
{
    char *out = proc_output(&s->proc, PROC_OUT);
    bool is = out && strstr(out, "ready\n");
    free(out);
    return is;
}

/* Real time: it is another program that needs it. */
static void wait_until(struct server *s, int port)
{
    const time_t begin = time(NULL);
    while (port ? !listens(port) : !says_ready(s)) {
        proc_serve(&s->proc, 1, LOOK_MS);
        if (proc_done(&s->proc) || time(NULL) - begin > START_TIMEOUT_S) {
            char *out = proc_output(&s->proc, PROC_OUT);
            suite_infrastructure("network", "the server does not start: %s", out ? out : "");
        }
    }
}

static void start(struct server *s, const char *const *argv, int port)
{
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct start ctx = {.argv = argv, .input = pipe_fds[0]};
    struct proc_spec spec = {.body = become, .ctx = &ctx, .merge = true};
    assert_int_equal(proc_start(&s->proc, &spec, NULL), BNT_OK);
    close(pipe_fds[0]);
    s->stop_fd = pipe_fds[1];
    wait_until(s, port);
}

void server_start(struct server *s, const char *const *argv, int port)
{
    start(s, argv, port);
}

void server_start_ready(struct server *s, const char *const *argv)
{
    start(s, argv, 0);
}

void server_stop(struct server *s)
{
    close(s->stop_fd);
    if (s->proc.pid > 0) {
        kill(s->proc.pid, SIGTERM);
    }
    for (const time_t begin = time(NULL);
         !proc_done(&s->proc) && time(NULL) - begin < STOP_TIMEOUT_S;) {
        proc_serve(&s->proc, 1, LOOK_MS);
    }
    proc_release(&s->proc);
}

/* ---- fetches ---- */

/* Bytes on the disk of transfers that are not done. */
static uint64_t bytes_in_parts(void)
{
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX];
    uint64_t bytes = 0;
    struct stat sb;
    struct bnt_cache *c;
    assert_int_equal(bnt_cache_open(NULL, &c, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(folder, NULL, "%s/part", bnt_cache_folder(c)), BNT_OK);
    bnt_cache_close(c);
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (bnt_path_format(path, NULL, "%s/%s", folder, e->d_name) == BNT_OK &&
            stat(path, &sb) == 0 && S_ISREG(sb.st_mode)) {
            bytes += (uint64_t)sb.st_blocks * 512;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return bytes;
}

void server_kill_fetch(const char *const *words, uint64_t bytes)
{
    const char *argv[12] = {suite_bnt()};
    struct proc p;
    for (size_t n = 0; words[n] && n < 10; n++) {
        argv[n + 1] = words[n];
    }
    const struct proc_spec spec = {.argv = (char *const *)(uintptr_t)argv, .merge = true};
    assert_int_equal(proc_start(&p, &spec, NULL), BNT_OK);
    while (!proc_done(&p) && bytes_in_parts() < bytes) {
        proc_serve(&p, 1, 10);
    }
    if (proc_done(&p)) {
        char *out = proc_output(&p, PROC_OUT);
        fail_msg("it ended before it was killed: %s", out ? out : "");
    }
    proc_release(&p);
}

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    uint64_t *first = ctx;
    (void)total_bytes;
    *first = *first == UINT64_MAX ? done_bytes : *first;
}

enum bnt_status server_fetch(const char *source, const struct bnt_fetch_opts *opts,
                             struct bnt_fetch_result *r, uint64_t *resumed_bytes,
                             struct bnt_err *err)
{
    struct bnt_fetch_opts o = *opts;
    struct bnt_cache *c;
    uint64_t first = UINT64_MAX;
    o.progress = on_progress;
    o.ctx = &first;
    *err = (struct bnt_err){0};
    assert_int_equal(bnt_cache_open(NULL, &c, NULL), BNT_OK);
    enum bnt_status st = bnt_fetch(c, source, &o, r, err);
    bnt_cache_close(c);
    if (resumed_bytes) {
        *resumed_bytes = first;
    }
    return st;
}

/* ---- requests ---- */

struct sending {
    struct server_request *r;
    size_t sent;
};

static size_t on_send(char *out, size_t one, size_t n, void *ctx)
{
    struct sending *s = ctx;
    size_t left = s->r->body_bytes - s->sent;
    n = one * n < left ? one * n : left;
    memcpy(out, (const char *)s->r->body + s->sent, n);
    s->sent += n;
    return n;
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    struct sending *s = ctx;
    (void)one;
    if (n > 9 && strncasecmp(line, "location:", 9) == 0) {
        const char *value = line + 9;
        value += strspn(value, " ");
        snprintf(s->r->location, sizeof s->r->location, "%.*s", (int)strcspn(value, "\r\n"), value);
    }
    return n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
    (void)bytes, (void)ctx;
    return one * n;
}

long server_send(struct server_request *r)
{
    const struct curl_lib *l;
    struct sending s = {.r = r};
    struct curl_slist *lines = NULL;
    long code = 0;
    r->location[0] = '\0';
    assert_int_equal(curl_lib_load(&l, NULL), BNT_OK);
    CURL *easy = l->easy_init();
    assert_non_null(easy);
    l->easy_setopt(easy, CURLOPT_URL, r->url);
    l->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    l->easy_setopt(easy, CURLOPT_NOBODY, (long)(strcmp(r->method, "HEAD") == 0));
    l->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    l->easy_setopt(easy, CURLOPT_HEADERDATA, &s);
    l->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    if (r->body) {
        l->easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        l->easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
        l->easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
        l->easy_setopt(easy, CURLOPT_READDATA, &s);
        lines = l->slist_append(lines, "Expect:");
    }
    for (size_t i = 0; r->headers && r->headers[i]; i++) {
        lines = l->slist_append(lines, r->headers[i]);
    }
    l->easy_setopt(easy, CURLOPT_HTTPHEADER, lines);
    if (r->login) {
        (void)curl_lib_set_token(l, easy, r->login, true);
    }
    CURLcode rc = l->easy_perform(easy);
    if (rc != CURLE_OK) {
        fail_msg("%s %s: %s", r->method, r->url, l->easy_strerror(rc));
    }
    l->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
    l->easy_cleanup(easy);
    l->slist_free_all(lines);
    return code;
}
