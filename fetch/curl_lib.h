/* libcurl, loaded when the first transfer needs it and not before: it brings some forty libraries,
 * and a program that only answers from the cache should not wait for them. */
#ifndef BNT_FETCH_CURL_LIB_H
#define BNT_FETCH_CURL_LIB_H

#include <curl/curl.h>
#include <stdbool.h>

#include "base/status.h"

struct curl_lib {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *handle, CURLoption option, ...);
    CURLcode (*easy_perform)(CURL *handle);
    CURLcode (*easy_getinfo)(CURL *handle, CURLINFO info, ...);
    void (*easy_cleanup)(CURL *handle);
    const char *(*easy_strerror)(CURLcode code);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_add_handle)(CURLM *multi, CURL *handle);
    CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *handle);
    CURLMcode (*multi_perform)(CURLM *multi, int *running);
    CURLMcode (*multi_poll)(CURLM *multi, struct curl_waitfd *extra, unsigned n_extra,
                            int timeout_ms, int *n_ready);
    CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
    CURLMcode (*multi_cleanup)(CURLM *multi);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
};

/* The table; the library stays loaded until the process ends. Not thread-safe: call first from the
 * main thread. Errors: UNSUPPORTED with the package to install. */
enum bnt_status curl_lib_load(const struct curl_lib **out, struct bnt_err *err);

/* Where certificates of authorities are: CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR. libcurl
 * itself, unlike the curl program, does not look at the environment. */
CURLcode curl_lib_set_certificates(const struct curl_lib *l, CURL *easy);

/* Authorization for the first origin alone: libcurl drops it at a redirect to another scheme, host
 * or port. `basic`: the token is USER:PASSWORD, else a bearer's. */
CURLcode curl_lib_set_token(const struct curl_lib *l, CURL *easy, const char *token, bool basic);

#endif
