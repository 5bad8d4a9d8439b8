/* One request over https or http, as a part of a libcurl multi handle. transfer.c drives it. */
#ifndef BNT_FETCH_HTTP_H
#define BNT_FETCH_HTTP_H

#include "fetch/bnt_fetch.h"
#include "fetch/curl_lib.h"
#include "fetch/source.h"

#define HTTP_TO_THE_END UINT64_MAX

/* What the head of an answer says. */
struct http_head {
    long code;
    char etag[BNT_CACHE_TAG_MAX];      /* the strong ETag, or "", as for a file that changed in the
                                          second of its answer, for which it may stay as it is */
    char validator[BNT_CACHE_TAG_MAX]; /* for If-Range: the strong ETag, else a Last-Modified that
                                          is old enough to be trusted, or "" */
    uint64_t total;                    /* bytes of the whole file; 0 while unknown */
    uint64_t range_begin; /* 206: first byte; UINT64_MAX without a Content-Range that makes sense */
    int64_t wait_s;       /* of a 429 or 503: what the server asks to wait; -1: nothing */
    char encoding[32];    /* in which the body is packed for the way; "": it comes as it is */
};

/* What a PUT sends. */
struct http_upload {
    int fd; /* from its beginning */
    uint64_t bytes;
};

struct http_request {
    const struct source *source;
    uint64_t begin, end;  /* bytes wanted; without a Range when 0 and HTTP_TO_THE_END */
    const char *if_range; /* NULL or "": none */
    const char *unless;   /* a validator: only when the file is another one (304); NULL or "" */
    const struct http_upload *upload; /* NULL: a GET. Then 200, 201 and 204 are answers, whose
                                         bodies nobody wants: on_head and on_body are not called */
    const struct bnt_fetch_opts *opts;
    /* Called once, before the first byte of the body of a 200 or 206, and then for the bytes. A
     * status other than OK ends the request with that error. */
    enum bnt_status (*on_head)(void *ctx, const struct http_head *head, struct bnt_err *err);
    enum bnt_status (*on_body)(void *ctx, const char *bytes, size_t n, struct bnt_err *err);
    void *ctx;
};

/* What the lines of a head say of time: how long to wait, by the clock of who says it. */
struct http_times {
    int64_t date_s;   /* Date; 0: not said */
    const char *name; /* of the line that asks for a wait; NULL: none */
    char value[128];  /* its value: it may come before Date, on which it depends */
};

struct http_exchange {
    const struct curl_lib *lib;
    CURL *easy; /* NULL when there is none */
    struct curl_slist *headers;
    struct http_request request;
    struct http_head head;
    uint64_t sent;         /* of the upload */
    bool head_seen;        /* on_head was called */
    struct bnt_err failed; /* of the callbacks */
    struct http_times times;
    char last_modified[64];
    char range[64];
    char text[CURL_ERROR_SIZE];
};

/* How it ended. */
struct http_outcome {
    enum bnt_status status; /* as bnt_fetch says */
    bool transient;         /* the same request may succeed later */
    bool redirected;        /* the answer came from where a redirect led */
    bool slow;              /* the first byte took longer than HTTP_SLOW_MS */
};
#define HTTP_SLOW_MS 5000

/* Make the request ready to be added to a multi handle. `x` must not move until release. */
enum bnt_status http_begin(struct http_exchange *x, const struct curl_lib *lib,
                           const struct http_request *request, struct bnt_err *err);
/* What libcurl's result and the answer mean; err is set when status is not OK. */
struct http_outcome http_end(struct http_exchange *x, CURLcode rc, struct bnt_err *err);
void http_release(struct http_exchange *x);

/* The value of a line of a head, without the blanks around it, when it is the header of that name
 * and fits. */
bool http_header_value(const char *line, size_t n, const char *name, char *value, size_t size);
/* Take a line of a head; the first one of an answer begins anew. */
void http_times_line(struct http_times *t, const char *line, size_t n);
/* Seconds to wait that an answer of this code asks for; -1: none. Only 429 and 503 ask: others tell
 * with the same words what is left of an allowance. */
int64_t http_times_wait_s(const struct http_times *t, long code);

/* Whether the same request may get another answer later. */
bool http_code_is_transient(long code);
bool http_curl_is_transient(CURLcode rc);
/* The status that the code of an answer stands for, when it is not a success. */
enum bnt_status http_status_of_code(long code);
/* When no answer came since a proxy did not let the request through: the status of its code. Else
 * OK. */
enum bnt_status http_proxy_error(const struct curl_lib *lib, CURL *easy, const char *shown,
                                 bool *transient, struct bnt_err *err);
/* What to do about a proxy's code. */
void http_proxy_hint(long code, struct bnt_err *err);

#endif
