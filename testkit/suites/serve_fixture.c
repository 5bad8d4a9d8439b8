/* Start, ask, stop. */
#include "testkit/suites/serve_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "testkit/suite.h"
#include "testkit/suites/cache_fixture.h"

enum { START_MS = 20000, ANSWER_MAX = 64 << 20, OPTIONS_MAX = 12 };

void served_start(struct served *s, const char *cache, const char *const *options)
{
    char dir[BNT_PATH_MAX];
    const char *argv[OPTIONS_MAX + 7] = {suite_bnt(), "cache",       "serve", "-v",
                                         "--listen",  "127.0.0.1:0", NULL};
    size_t n = 6;
    for (size_t i = 0; options && options[i] && i < OPTIONS_MAX; i++) {
        argv[n++] = options[i];
    }
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, cache), 1), 0);
    assert_int_equal(setenv("BNT_CACHE_TOKEN", SERVE_TOKEN, 1), 0);
    struct bnt_err err = {0};
    const struct proc_spec spec = {.argv = (char *const *)(uintptr_t)argv};
    if (proc_start(&s->proc, &spec, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    unsetenv("BNT_CACHE_DIR");
    unsetenv("BNT_CACHE_TOKEN");
    const struct proc_capture *out = &s->proc.capture[PROC_OUT];
    for (int waited = 0; !proc_done(&s->proc) && waited < START_MS; waited += 10) {
        proc_serve(&s->proc, 1, 10);
        if (out->len > 0 && memchr(out->data, '\n', out->len)) {
            break;
        }
    }
    char *text = proc_output(&s->proc, PROC_OUT), *why = proc_output(&s->proc, PROC_ERR);
    if (sscanf(text, "http://127.0.0.1:%u\n", &s->port) != 1) {
        fail_msg("no URL: %s%s", text, why);
    }
    free(text);
    free(why);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", s->port);
}

int served_stop(struct served *s, int signal_number, char **log)
{
    if (!proc_done(&s->proc)) {
        assert_int_equal(kill(s->proc.pid, signal_number), 0);
    }
    for (int i = 0; i < 3000 && !proc_done(&s->proc); i++) {
        proc_serve(&s->proc, 1, 10);
    }
    assert_true(proc_done(&s->proc));
    char *text = proc_output(&s->proc, PROC_ERR);
    if (s->proc.end != PROC_EXITED) {
        fail_msg("the server did not exit by itself: %s", text);
    }
    int code = s->proc.code;
    if (log) {
        *log = text;
    } else {
        free(text);
    }
    proc_release(&s->proc);
    return code;
}

/* Everything until the server closes. */
static void read_all(int fd, struct bnt_buf *all)
{
    char block[65536];
    for (;;) {
        ssize_t n = recv(fd, block, sizeof block, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        assert_int_equal(bnt_buf_append(all, block, (size_t)n, NULL), BNT_OK);
    }
}

static void send_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w <= 0) {
            return; /* refused early: the answer says why */
        }
        p += w;
        n -= (size_t)w;
    }
}

void served_ask(const struct served *s, const char *head, const void *body, size_t n,
                struct served_answer *out)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_addr = {htonl(INADDR_LOOPBACK)},
                                   .sin_port = htons((uint16_t)s->port)};
    struct bnt_buf all = BNT_BUF(ANSWER_MAX);
    *out = (struct served_answer){.code = 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    send_all(fd, head, strlen(head));
    send_all(fd, "\r\nConnection: close\r\n\r\n", 23);
    if (body) {
        send_all(fd, body, n);
    }
    read_all(fd, &all);
    close(fd);
    const char *text = bnt_buf_view(&all), *end = strstr(text, "\r\n\r\n");
    if (end && strncmp(text, "HTTP/1.1 ", 9) == 0) {
        out->code = (int)strtol(text + 9, NULL, 10);
        snprintf(out->head, sizeof out->head, "%.*s", (int)(end + 2 - text), text);
        out->n = all.len - (size_t)(end + 4 - text);
        out->body = malloc(out->n + 1);
        assert_non_null(out->body);
        memcpy(out->body, end + 4, out->n + 1);
    }
    bnt_buf_release(&all);
}

void served_get(const struct served *s, const char *method, const char *path, const char *header,
                struct served_answer *out)
{
    char head[8192];
    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: test%s%s", method, path,
             header ? "\r\n" : "", header ? header : "");
    served_ask(s, head, NULL, 0, out);
}

bool served_has(const struct served_answer *a, const char *line)
{
    char whole[512];
    snprintf(whole, sizeof whole, "\r\n%s\r\n", line);
    return strstr(a->head, whole) != NULL;
}

void served_release(struct served_answer *a)
{
    free(a->body);
    a->body = NULL;
}
