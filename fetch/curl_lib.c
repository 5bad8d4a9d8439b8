/* The table of libcurl's functions. */
#include "fetch/curl_lib.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/dyn_lib.h"
#include "base/env.h"

#define LIBRARY "libcurl.so.4"

static struct curl_lib lib;
static bool loaded;

static enum bnt_status no_library(const char *what, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_UNSUPPORTED, "https needs libcurl: %s", what);
    bnt_err_hint(err, "install it: apt-get install libcurl4");
    return st;
}

/* Fill every slot of the table. NULL, or what is missing. */
static const char *load(void)
{
    const struct bnt_dyn_symbol symbols[] = {
        {"curl_global_init", &lib.global_init},
        {"curl_easy_init", &lib.easy_init},
        {"curl_easy_setopt", &lib.easy_setopt},
        {"curl_easy_perform", &lib.easy_perform},
        {"curl_easy_getinfo", &lib.easy_getinfo},
        {"curl_easy_cleanup", &lib.easy_cleanup},
        {"curl_easy_strerror", &lib.easy_strerror},
        {"curl_multi_init", &lib.multi_init},
        {"curl_multi_add_handle", &lib.multi_add_handle},
        {"curl_multi_remove_handle", &lib.multi_remove_handle},
        {"curl_multi_perform", &lib.multi_perform},
        {"curl_multi_poll", &lib.multi_poll},
        {"curl_multi_info_read", &lib.multi_info_read},
        {"curl_multi_cleanup", &lib.multi_cleanup},
        {"curl_slist_append", &lib.slist_append},
        {"curl_slist_free_all", &lib.slist_free_all},
    };
    return bnt_dyn_lib_load(LIBRARY, symbols, sizeof symbols / sizeof symbols[0]);
}

enum bnt_status curl_lib_load(const struct curl_lib **out, struct bnt_err *err)
{
    if (!loaded) {
        const char *missing = load();
        if (missing) {
            return no_library(missing, err);
        }
        CURLcode rc = lib.global_init(CURL_GLOBAL_DEFAULT);
        if (rc != CURLE_OK) {
            return no_library(lib.easy_strerror(rc), err);
        }
        loaded = true;
    }
    *out = &lib;
    return BNT_OK;
}

CURLcode curl_lib_set_certificates(const struct curl_lib *l, CURL *easy)
{
    const char *file = bnt_env("CURL_CA_BUNDLE");
    const char *dir = bnt_env("SSL_CERT_DIR");
    file = file ? file : bnt_env("SSL_CERT_FILE");
    CURLcode rc = CURLE_OK;
    if (file) {
        rc = l->easy_setopt(easy, CURLOPT_CAINFO, file);
    }
    if (rc == CURLE_OK && dir) {
        rc = l->easy_setopt(easy, CURLOPT_CAPATH, dir);
    }
    return rc;
}

CURLcode curl_lib_set_token(const struct curl_lib *l, CURL *easy, const char *token, bool basic)
{
    const long kind = basic ? (long)CURLAUTH_BASIC : (long)CURLAUTH_BEARER;
    CURLcode rc = l->easy_setopt(easy, CURLOPT_HTTPAUTH, kind);
    return rc == CURLE_OK
               ? l->easy_setopt(easy, basic ? CURLOPT_USERPWD : CURLOPT_XOAUTH2_BEARER, token)
               : rc;
}
