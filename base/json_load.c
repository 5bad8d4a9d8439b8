/* jansson's allocations go through here from the first text on; what it had before is of the same
 * allocator. */
#include "base/json_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/utf8.h"

static _Thread_local bool ran_out;

static void *take(size_t n)
{
    void *p = malloc(n);
    ran_out = ran_out || !p;
    return p;
}

static void watch(void)
{
    json_set_alloc_funcs(take, free);
}

static void begin_watching(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, watch);
    ran_out = false;
}

json_t *bnt_json_load(const char *text, size_t n, size_t flags, json_error_t *at)
{
    json_error_t unwanted = {.line = 0};
    at = at ? at : &unwanted;
    begin_watching();
    json_t *root = json_loadb(text, n, flags, at);
    if (ran_out) {
        json_decref(root);
        root = NULL;
        snprintf(at->text, sizeof at->text, "out of memory");
    }
    return root;
}

char *bnt_json_dumps(const json_t *root, size_t flags)
{
    begin_watching();
    char *text = root ? json_dumps(root, flags) : NULL;
    if (ran_out) {
        free(text);
        text = NULL;
    }
    return text;
}

enum bnt_status bnt_json_print(json_t *root, size_t flags, struct bnt_err *err)
{
    char *text = bnt_json_dumps(root, flags);
    json_decref(root);
    if (!text) {
        return bnt_err_nomem(err, "the JSON output", 0);
    }
    bnt_msg_puts(text);
    bnt_msg_puts("\n");
    free(text);
    return BNT_OK;
}

bool bnt_json_ran_out(void)
{
    return ran_out;
}

json_t *bnt_json_bytes(const char *bytes, size_t n)
{
    struct bnt_buf clean = BNT_BUF(SIZE_MAX / 2);
    enum bnt_status st = BNT_OK;
    for (size_t at = 0; at < n && st == BNT_OK;) {
        size_t good = bnt_utf8_valid(bytes + at, n - at);
        st = bnt_buf_append(&clean, bytes + at, good, NULL);
        at += good;
        if (at < n && st == BNT_OK) {
            st = bnt_buf_puts(&clean, "\xef\xbf\xbd", NULL);
            at++;
        }
    }
    json_t *text = st == BNT_OK ? json_stringn(bnt_buf_view(&clean), clean.len) : NULL;
    bnt_buf_release(&clean);
    return text;
}

json_t *bnt_json_text(const char *text)
{
    return bnt_json_bytes(text, strlen(text));
}

json_t *bnt_json_ids(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}
