#include "testkit/suites/mock_support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

void ms_scale_each_row(const char *path)
{
    struct bnt_err err = {0};
    struct gguf *g;
    es_ok(gguf_open(path, GGUF_MODE_STREAM, &g, &err), &err);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const uint64_t together = tensor_type_info(t->type)->rows_together;
        const uint64_t unit = tensor_unit_bytes(t->type, t->ne[0]);
        for (uint64_t r = 0; tensor_type_info(t->type)->row_scale_bytes && r < t->ne[1]; r++) {
            const uint64_t at = t->offset + r / together * unit + r % together * sizeof(float);
            float scale;
            assert_int_equal(pread(fd, &scale, sizeof scale, (off_t)at), sizeof scale);
            scale *= 1 + (float)(r % 5) / 8;
            assert_int_equal(pwrite(fd, &scale, sizeof scale, (off_t)at), sizeof scale);
        }
    }
    close(fd);
    gguf_close(g);
}

struct ms_answer ms_ask(const char *url, const char *method, const char *path, const char *headers)
{
    struct ms_answer a = {.len = 0};
    char request[1024];
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)},
                             .sin_port = htons((uint16_t)strtol(strrchr(url, ':') + 1, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval limit = {.tv_usec = 300000};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    int n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\n%s%s", method, path,
                     headers, strstr(headers, "\r\n\r\n") ? "" : "\r\n");
    assert_int_equal(send(fd, request, (size_t)n, 0), n);
    ssize_t got;
    while ((got = recv(fd, a.text + a.len, sizeof a.text - 1 - a.len, 0)) > 0) {
        a.len += (size_t)got;
    }
    a.reset = got < 0;
    a.text[a.len] = '\0';
    close(fd);
    return a;
}

const char *ms_body(const struct ms_answer *a)
{
    const char *end = strstr(a->text, "\r\n\r\n");
    return end ? end + 4 : "";
}
