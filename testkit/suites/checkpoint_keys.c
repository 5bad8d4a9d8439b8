#include "testkit/suites/checkpoint_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/engine_support.h"

static char warned[4096];

static void keep_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    size_t n = strlen(warned);
    snprintf(warned + n, sizeof warned - n, "%s%s; %s", n ? "\n" : "", what, hint);
}

void cv_enter(void)
{
    struct bnt_err err = {0};
    assert_int_equal(chdir(suite_scratch()), 0);
    es_ok(bnt_mkdirs("ck", &err), &err);
}

static enum bnt_status put(const struct hf_config *c, struct gguf_plan *p, struct bnt_err *err)
{
    const struct hf_vocab_options o = {.warn = keep_warning};
    warned[0] = '\0';
    *err = (struct bnt_err){0};
    gplan_init(p);
    return hf_vocab_put("ck", c, &o, p, err);
}

enum bnt_status cv_put(uint32_t n_vocab, struct gguf_plan *p, struct bnt_err *err)
{
    const struct hf_config c = {.n_vocab = n_vocab, .bos = -1, .eos = -1, .pad = -1};
    return put(&c, p, err);
}

struct gguf *cv_vocabulary(uint32_t n_vocab)
{
    return cv_vocabulary_of(
        &(struct hf_config){.n_vocab = n_vocab, .bos = -1, .eos = -1, .pad = -1});
}

struct gguf *cv_vocabulary_of(const struct hf_config *c)
{
    struct bnt_buf header = BNT_BUF(4u << 20);
    struct gguf_plan p;
    struct gguf *g;
    struct bnt_err err;
    es_ok(put(c, &p, &err), &err);
    es_ok(gplan_header(&p, &header, &err), &err);
    cp_file("vocab.gguf", header.data, header.len);
    bnt_buf_release(&header);
    gplan_release(&p);
    es_ok(gguf_open("vocab.gguf", GGUF_MODE_MAP, &g, &err), &err);
    return g;
}

void cv_expect_str(const struct gguf *g, const char *key, const char *want)
{
    struct gguf_str s = {"", 0};
    bool there = gguf_get_str(g, key, &s);
    if (there != (want != NULL) || (want && !gguf_str_eq(s, want))) {
        fail_msg("%s is %.*s, not %s", key, (int)s.len, s.data, want ? want : "absent");
    }
}

void cv_expect_id(const struct gguf *g, const char *key, int64_t want)
{
    uint64_t id = UINT64_MAX;
    gguf_get_u64(g, key, &id);
    if ((int64_t)id != want) {
        fail_msg("%s is %lld, not %lld", key, (long long)id, (long long)want);
    }
}

void cv_expect_ids(const struct gguf *g, const char *text, const int32_t *want, size_t n)
{
    struct bnt_tokenizer *t;
    struct bnt_ids ids = {0};
    struct bnt_err err = {0};
    es_ok(bnt_tokenizer_new(g, &(struct bnt_tokenizer_options){0}, &t, &err), &err);
    es_ok(bnt_tokenizer_encode(t, text, strlen(text),
                               BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, &ids, &err),
          &err);
    if (ids.n != n || memcmp(ids.at, want, n * sizeof *want) != 0) {
        for (size_t i = 0; i < ids.n; i++) {
            print_message(" %d", ids.at[i]);
        }
        fail_msg("are the ids of \"%s\"", text);
    }
    bnt_ids_release(&ids);
    bnt_tokenizer_free(t);
}

const char *cv_warned(void)
{
    return warned;
}

void cv_expect_refusal(uint32_t n_vocab, enum bnt_status status, const char *word)
{
    struct gguf_plan p;
    struct bnt_err err;
    enum bnt_status st = cv_put(n_vocab, &p, &err);
    if (st != status || !strstr(err.msg, word)) {
        fail_msg("status %d, not %d (%s): %s", (int)st, (int)status, word, err.msg);
    }
    gplan_release(&p);
}
