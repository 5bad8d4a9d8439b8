/* The official BitNet b1.58 2B4T file, where it is at hand (in the cache, by its digest, or in
 * $BNT_OFFICIAL_2B): its header, the ids
 * of its prompts and its greedy answers as Microsoft's reference engine gave them. Guards against a
 * loader, tokenizer or forward pass that is right on small models only.
 *
 * Answers are judged with the recorded ids fed back (teacher-forced): the recorded id must lie
 * within 3 % of the largest logit of our best one, as float arithmetic and finer quantised
 * activations of other engines allow. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bnt_infer.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/official.h"

#define TOLERANCE 0.03 /* of the largest logit */

static void holds_value(const struct gguf *g, const char *key, const json_t *want)
{
    struct gguf_str text = {"", 0};
    double number = NAN;
    bool flag = false;
    if (json_is_string(want)) {
        assert_true(gguf_get_str(g, key, &text));
        if (!gguf_str_eq(text, json_string_value(want))) {
            fail_msg("%s is '%.*s'", key, (int)text.len, text.data);
        }
    } else if (json_is_boolean(want)) {
        assert_true(gguf_get_bool(g, key, &flag));
        assert_int_equal(flag, json_is_true(want));
    } else {
        double v = json_number_value(want);
        assert_true(gguf_get_f64(g, key, &number) || gguf_find(g, key) != NULL);
        uint64_t whole = 0;
        number = gguf_get_u64(g, key, &whole) ? (double)whole : number;
        if (!(fabs(number - v) <= 1e-6 * fabs(v))) {
            fail_msg("%s is %.9g, recorded is %.9g", key, number, v);
        }
    }
}

static void header_is_as_recorded(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *g;
    json_t *doc = official_facts();
    const json_t *model = js_get(doc, "model");
    es_ok(gguf_open(official_file(), GGUF_MODE_AUTO, &g, &err), &err);
    assert_int_equal(g->file_size, json_integer_value(js_get(model, "bytes")));
    assert_int_equal(g->version, json_integer_value(js_get(model, "gguf_version")));
    assert_int_equal(g->n_kv, json_integer_value(js_get(model, "n_kv")));
    assert_int_equal(g->n_tensors, json_integer_value(js_get(model, "n_tensors")));
    assert_int_equal(g->data_offset, json_integer_value(js_get(model, "data_offset")));
    const char *key;
    json_t *value;
    json_object_foreach(js_get(model, "kv"), key, value)
    {
        holds_value(g, key, value);
    }
    gguf_close(g);
    json_decref(doc);
}

static void prompts_have_the_recorded_ids(void **state)
{
    (void)state;
    struct es_engine e;
    json_t *doc = official_facts();
    size_t i;
    json_t *entry;
    es_open(&e, official_file(), &(struct bnt_session_options){.n_ctx = 64});
    json_array_foreach(js_get(doc, "greedy"), i, entry)
    {
        struct bnt_err err = {0};
        struct bnt_ids ids = {0};
        const char *prompt = js_text(entry, "prompt");
        const json_t *want = js_get(entry, "prompt_ids");
        es_ok(bnt_tokenizer_encode(bnt_model_tokenizer(e.model), prompt, strlen(prompt),
                                   BNT_ENCODE_ADD_SPECIAL, &ids, &err),
              &err);
        assert_int_equal(ids.n, json_array_size(want));
        for (size_t j = 0; j < ids.n; j++) {
            assert_int_equal(ids.at[j], js_id(want, j));
        }
        bnt_ids_release(&ids);
    }
    es_close(&e);
    json_decref(doc);
}

/* Feed the prompt, then each recorded id, and see that it was a good choice. */
static void follow(struct es_engine *e, const json_t *entry)
{
    int32_t ids[64];
    const json_t *prompt = js_get(entry, "prompt_ids"), *greedy = js_get(entry, "greedy_ids");
    size_t n = json_array_size(prompt);
    assert_in_range(n, 1, 64);
    for (size_t i = 0; i < n; i++) {
        ids[i] = js_id(prompt, i);
    }
    struct bnt_err err = {0};
    es_ok(bnt_session_rewind(e->session, 0, &err), &err);
    int32_t best = es_greedy(e, ids, n);
    const json_t *first = json_object_get(entry, "first_logit");
    for (size_t step = 0; step < json_array_size(greedy); step++) {
        const float *logits = bnt_session_logits(e->session);
        int32_t want = js_id(greedy, step);
        double largest = fabs((double)logits[best]);
        if ((double)logits[best] - (double)logits[want] > TOLERANCE * largest) {
            fail_msg("'%s', step %zu: id %d scores %.3f, recorded %d only %.3f",
                     js_text(entry, "prompt"), step, best, (double)logits[best], want,
                     (double)logits[want]);
        }
        if (step == 0 && first) {
            assert_true(fabs((double)logits[want] - json_number_value(first)) <=
                        TOLERANCE * largest);
        }
        best = es_greedy(e, &want, 1);
    }
}

static void answers_are_as_recorded(void **state)
{
    (void)state;
    struct es_engine e;
    json_t *doc = official_facts();
    size_t i;
    json_t *entry;
    es_open(&e, official_file(), &(struct bnt_session_options){.n_ctx = 128});
    json_array_foreach(js_get(doc, "greedy"), i, entry)
    {
        follow(&e, entry);
    }
    es_close(&e);
    json_decref(doc);
}

static void fail_at_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    fail_msg("warned: %s", what);
}

/* With the right pre-tokenizer named there is nothing to warn of: the packing makes sense. */
static void packing_makes_sense(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_model_options mo = {.pre = "llama-bpe", .warn = fail_at_warning};
    es_open_with(&e, official_file(), &mo, &(struct bnt_session_options){.n_ctx = 64});
    assert_string_equal(bnt_model_info(e.model)->i2s_layout, "128/32");
    es_close(&e);
}

static const struct suite_test tests[] = {
    {.name = "official_header_is_as_recorded",
     .body = header_is_as_recorded,
     .subjects = "real",
     .needs = "official2b,source"},
    {.name = "official_prompts_have_the_recorded_ids",
     .body = prompts_have_the_recorded_ids,
     .subjects = "real",
     .needs = "official2b,source",
     .timeout_ms = 30000},
    {.name = "official_answers_are_as_recorded",
     .body = answers_are_as_recorded,
     .subjects = "real",
     .needs = "official2b,source",
     .timeout_ms = 120000},
    {.name = "official_packing_makes_sense",
     .body = packing_makes_sense,
     .subjects = "real",
     .needs = "official2b",
     .timeout_ms = 60000},
    {0},
};

const struct suite suite_official = {"official", tests, "i2s_scale"};
