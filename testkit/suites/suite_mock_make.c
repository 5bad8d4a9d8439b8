/* Guards tiny models: a recipe that gives other bytes on another machine or another day, a file
 * that the loader would not take from a stranger, text that says nothing because it is always the
 * same, and above all a mock that passes for a trained model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/model_arg.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

/* ---- bytes ---- */

static const struct {
    struct bnt_mock_recipe recipe;
    const char *digest;
} recorded[] = {
#define R(digest, ...)                                                                             \
    {                                                                                              \
        {__VA_ARGS__}, digest                                                                      \
    }
#include "mock/check/digests.inc"
#undef R
};

static void recipes_have_their_recorded_digests(void **state)
{
    (void)state;
    size_t n_wrong = 0;
    for (size_t i = 0; i < sizeof recorded / sizeof recorded[0]; i++) {
        struct bnt_mock_made made;
        ms_make("m.gguf", &recorded[i].recipe, &made);
        if (strcmp(made.digest, recorded[i].digest) != 0) {
            print_message("%s\n  is %s, recorded %s\n", made.recipe, made.digest,
                          recorded[i].digest);
            n_wrong++;
        }
    }
    assert_int_equal(n_wrong, 0);
}

static void digest_and_size_are_those_of_the_file(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_mock_made made;
    char hex[BNT_SHA256_HEX];
    struct bnt_mapping map;
    const char *path = ms_make("m.gguf", &(struct bnt_mock_recipe){.seed = 3}, &made);
    es_ok(bnt_sha256_file(path, NULL, NULL, hex, &err), &err);
    assert_string_equal(hex, made.digest);
    es_ok(bnt_map_file(path, &map, &err), &err);
    assert_int_equal(map.size, made.bytes);
    bnt_unmap(&map);
}

static void seeds_differ_in_weights_and_words(void **state)
{
    (void)state;
    struct bnt_mock_made one, two;
    ms_make("1.gguf", &(struct bnt_mock_recipe){.seed = 1}, &one);
    ms_make("2.gguf", &(struct bnt_mock_recipe){.seed = 2}, &two);
    assert_string_not_equal(one.digest, two.digest);
}

/* ---- codes of the packed types ---- */

static void packed_types_read_back_what_was_written(void **state)
{
    (void)state;
    static const struct ternary_source shapes[] = {
        {.type = TENSOR_I2_S, .rows = 12, .cols = 128, .layout = I2S_X86},
        {.type = TENSOR_I2_S, .rows = 10, .cols = 64, .layout = I2S_X86},
        {.type = TENSOR_I2_S, .rows = 10, .cols = 192, .layout = I2S_ARM},
        {.type = TENSOR_I2_S, .rows = 12, .cols = 160, .layout = I2S_ROWS4},
        {.type = TENSOR_TQ1_0, .rows = 5, .cols = 512},
        {.type = TENSOR_TQ2_0, .rows = 5, .cols = 512},
        {.type = TENSOR_IQ1_BN, .rows = 5, .cols = 192},
        {.type = TENSOR_IQ2_BN, .rows = 5, .cols = 192},
        {.type = TENSOR_IQ2_BN_R4, .rows = 12, .cols = 192},
        {.type = TENSOR_TL1, .rows = 256, .cols = 256, .tiles = {128, 64, 64}},
        {.type = TENSOR_TL1, .rows = 320, .cols = 128, .tiles = {160, 64, 32}},
        {.type = TENSOR_TL2, .rows = 256, .cols = 320, .tiles = {128, 96, 32}},
        {.type = TENSOR_TL2, .rows = 320, .cols = 288, .tiles = {160, 96, 32}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct bnt_err err = {0};
        struct ternary_source s = shapes[i];
        uint64_t ne[4] = {s.cols, s.rows, 1, 1}, n = s.rows * s.cols;
        assert_true(tensor_size(s.type, ne, &s.size));
        int8_t *w = malloc(n), *back = malloc(n);
        uint8_t *bytes = malloc(s.size);
        float scale = 0;
        for (uint64_t k = 0; k < n; k++) {
            w[k] = (int8_t)((k * 2654435761u >> 13) % 3) - 1;
        }
        es_ok(ternary_encode(&s, w, 0.125f, bytes, &err), &err);
        s.data = bytes;
        es_ok(ternary_decode(&s, 0, s.rows, back, &scale, &err), &err);
        assert_memory_equal(w, back, n);
        assert_true(scale == 0.125f);
        free(w);
        free(back);
        free(bytes);
    }
}

/* ---- running ---- */

enum { STEPS = 32 };

/* Greedy ids after a fixed prompt; all logits on the way are finite. Returns how many differ. */
static size_t generate(const char *path, int32_t out[STEPS])
{
    struct es_engine e;
    struct bnt_model_options mo = {0};
    es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 64, .n_threads = 1});
    const int32_t prompt[] = {72, 101, 108, 108, 111};
    int32_t id = es_greedy(&e, prompt, sizeof prompt / sizeof prompt[0]);
    size_t n_distinct = 0;
    for (size_t i = 0; i < STEPS; i++) {
        const float *logits = bnt_session_logits(e.session);
        for (uint32_t v = 0; v < bnt_session_n_vocab(e.session); v++) {
            assert_true(isfinite(logits[v]));
        }
        out[i] = id;
        bool seen = false;
        for (size_t k = 0; k < i; k++) {
            seen = seen || out[k] == id;
        }
        n_distinct += !seen;
        id = es_greedy(&e, &id, 1);
    }
    es_close(&e);
    return n_distinct;
}

static void every_type_loads_and_speaks(void **state)
{
    (void)state;
    static const struct bnt_mock_recipe recipes[] = {
        {.type = "i2_s"},      {.type = "tq1_0"},       {.type = "tq2_0"},
        {.type = "iq2_bn"},    {.type = "f32"},         {.type = "f16"},
        {.type = "bf16"},      {.type = "q4_0"},        {.type = "q4_1"},
        {.type = "q5_0"},      {.type = "q5_1"},        {.type = "q8_0"},
        {.type = "q4_k"},      {.type = "q5_k"},        {.type = "q6_k"},
        {.embd_type = "q6_k"}, {.type = "q1_0"},        {.type = "q2_0"},
        {.type = "q2_0_g128"}, {.embd_type = "q8_0"},   {.embd_type = "tq2_0"},
        {.type = "q2_k"},      {.type = "q3_k"},        {.type = "iq4_nl"},
        {.type = "iq4_xs"},    {.embd_type = "iq4_nl"}, {.type = "iq1_bn"},
        {.type = "iq2_bn_r4"},
    };
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct bnt_mock_recipe r = recipes[i];
        int32_t ids[STEPS];
        r.seed = 5;
        size_t n = generate(ms_make("m.gguf", &r, NULL), ids);
        if (n < STEPS / 4) {
            fail_msg("%s, embedding %s: only %zu ids of %d differ", r.type ? r.type : "i2_s",
                     r.embd_type ? r.embd_type : "f16", n, STEPS);
        }
    }
}

static void tiled_types_load_and_say_what_i2_s_says(void **state)
{
    (void)state;
    static const char *const types[] = {"i2_s", "tl1", "tl2"};
    int32_t ids[3][STEPS];
    for (size_t i = 0; i < 3; i++) {
        struct bnt_mock_recipe r = {.type = types[i],
                                    .n_embd = 1536,
                                    .n_ff = 4096,
                                    .n_head = 16,
                                    .n_head_kv = 16,
                                    .n_layer = 1};
        generate(ms_make("m.gguf", &r, NULL), ids[i]);
        assert_memory_equal(ids[0], ids[i], sizeof ids[0]);
    }
}

static void packings_of_one_seed_say_the_same(void **state)
{
    (void)state;
    static const struct bnt_mock_recipe recipes[] = {
        {.type = "i2_s"},  {.layout = "64/16"}, {.layout = "4-rows"}, {.type = "tq1_0"},
        {.type = "tq2_0"}, {.type = "iq1_bn"},  {.type = "iq2_bn"},   {.type = "iq2_bn_r4"},
    };
    int32_t first[STEPS], ids[STEPS];
    generate(ms_make("first.gguf", &recipes[0], NULL), first);
    for (size_t i = 1; i < sizeof recipes / sizeof recipes[0]; i++) {
        generate(ms_make("m.gguf", &recipes[i], NULL), ids);
        assert_memory_equal(first, ids, sizeof first);
    }
}

static void rows_with_scales_of_their_own_say_the_same(void **state)
{
    (void)state;
    int32_t plain[STEPS], alone[STEPS], together[STEPS];
    const char *path = ms_make("m.gguf", &(struct bnt_mock_recipe){.type = "iq2_bn"}, NULL);
    generate(path, plain);
    ms_scale_each_row(path);
    generate(path, alone);
    path = ms_make("m.gguf", &(struct bnt_mock_recipe){.type = "iq2_bn_r4"}, NULL);
    ms_scale_each_row(path);
    generate(path, together);
    assert_memory_not_equal(plain, alone, sizeof plain);
    assert_memory_equal(alone, together, sizeof alone);
}

static void every_family_and_vocabulary_speaks(void **state)
{
    (void)state;
    static const struct bnt_mock_recipe recipes[] = {
        {.arch = "bitnet-b1.58", .tokenizer = "spm"},
        {.arch = "bitnet", .tokenizer = "bpe"},
        {.arch = "bitnet-25", .n_layer = 8},
        {.arch = "llama", .tokenizer = "spm", .type = "q8_0"},
        {.arch = "qwen2", .n_embd = 64, .n_head = 2, .n_vocab = 2000, .type = "f16"},
        {.arch = "qwen3", .embd_type = "q1_0", .type = "q2_0"},
        {.arch = "minicpm", .type = "tq2_0"},
    };
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        int32_t ids[STEPS];
        assert_in_range(generate(ms_make("m.gguf", &recipes[i], NULL), ids), STEPS / 4, STEPS);
    }
}

static void drawn_vocabularies_lose_no_text(void **state)
{
    (void)state;
    static const char *const kinds[] = {"bpe", "spm"};
    static const char text[] =
        "The quick brown fox: 12 + 3 = 15\n\t\xc3\xa9\xe4\xbd\xa0 \xf0\x9f\x98\x80 end";
    for (size_t i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        struct gguf *g;
        struct bnt_tokenizer *t;
        struct bnt_ids ids = {0};
        struct bnt_buf back = BNT_BUF(4096);
        struct bnt_mock_recipe r = {.tokenizer = kinds[i], .n_vocab = 3000};
        es_ok(gguf_open(ms_make("m.gguf", &r, NULL), GGUF_MODE_AUTO, &g, &err), &err);
        es_ok(bnt_tokenizer_new(g, NULL, &t, &err), &err);
        es_ok(bnt_tokenizer_encode(t, text, sizeof text - 1, BNT_ENCODE_ADD_SPECIAL, &ids, &err),
              &err);
        assert_int_equal(bnt_tokenizer_n_vocab(t), 3000);
        assert_int_equal(ids.at[0], bnt_tokenizer_bos(t));
        assert_true(ids.n < sizeof text); /* some merges apply */
        es_ok(bnt_tokenizer_decode(t, ids.at, ids.n, false, &back, &err), &err);
        assert_string_equal(bnt_buf_view(&back), text);
        bnt_buf_release(&back);
        bnt_ids_release(&ids);
        bnt_tokenizer_free(t);
        gguf_close(g);
    }
}

/* ---- like another ---- */

static void same_interface(const struct gguf *a, const struct gguf *b)
{
    for (uint64_t i = 0; i < a->n_kv; i++) {
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)a->kv[i].key.len, a->kv[i].key.data);
        const struct gguf_kv *kv = gguf_find(b, key);
        assert_non_null(kv);
        assert_int_equal(kv->type, a->kv[i].type);
        assert_int_equal(kv->raw_len, a->kv[i].raw_len);
        assert_memory_equal(kv->raw, a->kv[i].raw, kv->raw_len);
    }
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        assert_int_equal(a->tensors[i].type, b->tensors[i].type);
        assert_memory_equal(a->tensors[i].ne, b->tensors[i].ne, sizeof a->tensors[i].ne);
        assert_true(
            a->tensors[i].name.len == b->tensors[i].name.len &&
            memcmp(a->tensors[i].name.data, b->tensors[i].name.data, a->tensors[i].name.len) == 0);
    }
}

static void like_takes_everything_but_the_weights(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *real, *mock;
    struct bnt_mock_recipe r = {.like = suite_bundled_model(), .seed = 9};
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &real, &err), &err);
    es_ok(gguf_open(ms_make("m.gguf", &r, NULL), GGUF_MODE_AUTO, &mock, &err), &err);
    same_interface(real, mock);
    for (uint64_t i = 0; i < real->n_tensors; i++) {
        assert_memory_not_equal(gguf_tensor_view(real, &real->tensors[i]),
                                gguf_tensor_view(mock, &mock->tensors[i]), real->tensors[i].size);
    }
    gguf_close(real);
    gguf_close(mock);
}

static void like_with_other_numbers_is_smaller_and_sound(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_mock_recipe r = {.like = suite_bundled_model(),
                                .n_layer = 2,
                                .n_embd = 128,
                                .n_head = 2,
                                .n_head_kv = 1,
                                .n_ff = 256,
                                .n_vocab = 600,
                                .n_ctx = 64,
                                .tokenizer = "bpe"};
    es_ok(bnt_model_open(ms_make("m.gguf", &r, NULL), NULL, &m, &err), &err);
    const struct bnt_model_info *info = bnt_model_info(m);
    assert_int_equal(info->n_layer, 2);
    assert_int_equal(info->n_embd, 128);
    assert_int_equal(info->n_head_kv, 1);
    assert_int_equal(info->n_ff, 256);
    assert_int_equal(info->n_vocab, 600);
    assert_int_equal(info->n_ctx_train, 64);
    bnt_model_close(m);
}

/* ---- refusals ---- */

static void impossible_recipes_are_refused_and_leave_no_file(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_recipe recipe;
        enum bnt_status status;
        const char *says;
    } cases[] = {
        {{.n_embd = 100, .n_head = 3}, BNT_E_USAGE, "3 heads of an even width"},
        {{.n_head = 4, .n_head_kv = 3}, BNT_E_USAGE, "cannot share 3"},
        {{.n_head = 2, .n_head_kv = 4}, BNT_E_USAGE, "kv-heads"},
        {{.n_vocab = 100}, BNT_E_USAGE, "at least 259 tokens"},
        {{.n_vocab = 300, .tokenizer = "spm"}, BNT_E_USAGE, "at least 354 tokens"},
        {{.tokenizer = "wordpiece"}, BNT_E_USAGE, "wordpiece"},
        {{.type = "tq2_0", .n_embd = 128}, BNT_E_USAGE, "blocks of 256"},
        {{.type = "tl2"}, BNT_E_UNSUPPORTED, "no tile sizes of TL2"},
        {{.type = "iq2_tn"}, BNT_E_UNSUPPORTED, "iq2_tn"},
        {{.arch = "gemma"}, BNT_E_UNSUPPORTED, "gemma"},
        {{.layout = "8/8"}, BNT_E_USAGE, "8/8"},
        {{.n_layer = 5000}, BNT_E_USAGE, "layers"},
        {{.like = "/nothing/here.gguf"}, BNT_E_NOT_FOUND, "here.gguf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_mock_made made;
        const char *path = ms_path("refused.gguf");
        enum bnt_status st = bnt_mock_make(&cases[i].recipe, path, &made, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].says)) {
            fail_msg("case %zu: status %d, '%s'", i, (int)st, err.msg);
        }
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

static void like_refuses_what_it_cannot_take(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_recipe recipe;
        const char *says;
    } cases[] = {
        {{.type = "f16"}, "leave --arch, --type"},
        {{.n_layer = 9}, "only 4 layers"},
        {{.n_vocab = 600}, "vocabulary of its own"},
        {{.n_embd = 250}, "even width"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_mock_made made;
        struct bnt_mock_recipe r = cases[i].recipe;
        r.like = suite_bundled_model();
        assert_int_equal(bnt_mock_make(&r, ms_path("refused.gguf"), &made, &err), BNT_E_USAGE);
        if (!strstr(err.msg, cases[i].says)) {
            fail_msg("case %zu: '%s'", i, err.msg);
        }
    }
}

/* ---- recognised ---- */

static enum bnt_status as_typed(const struct bnt_app *app, const char *name,
                                struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    *out = (struct bnt_model_ref){.kind = "real"};
    return bnt_path_format(out->path, err, "%s", name);
}

static void a_mock_is_known_by_what_stands_in_it(void **state)
{
    (void)state;
    struct bnt_app app = {.resolve_model = as_typed};
    struct bnt_model_ref ref;
    bool mock;
    const struct bnt_mock_recipe recipes[] = {{.seed = 1}, {.like = suite_bundled_model()}};
    for (size_t i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        struct bnt_model_arg arg = {.name = ms_make("trained.gguf", &recipes[i], NULL)};
        assert_int_equal(bnt_model_arg_resolve(&app, &arg, &ref, &mock, &err), BNT_E_NOT_FOUND);
        assert_non_null(strstr(err.msg, "is a mock (kind: tiny)"));
        arg.allow_mock = true;
        assert_int_equal(bnt_model_arg_resolve(&app, &arg, &ref, &mock, NULL), BNT_OK);
        assert_true(mock);
        assert_string_equal(ref.kind, "tiny");
    }
    struct bnt_model_arg arg = {.name = suite_bundled_model()};
    assert_int_equal(bnt_model_arg_resolve(&app, &arg, &ref, &mock, NULL), BNT_OK);
    assert_string_equal(ref.kind, "real");
}

static const struct suite_test tests[] = {
    {.name = "mock_recipes_have_their_recorded_digests",
     .body = recipes_have_their_recorded_digests},
    {.name = "mock_digest_and_size_are_those_of_the_file",
     .body = digest_and_size_are_those_of_the_file},
    {.name = "mock_seeds_differ_in_weights_and_words", .body = seeds_differ_in_weights_and_words},
    {.name = "mock_packed_types_read_back_what_was_written",
     .body = packed_types_read_back_what_was_written},
    {.name = "mock_every_type_loads_and_speaks", .body = every_type_loads_and_speaks},
    {.name = "mock_tiled_types_load_and_say_what_i2_s_says",
     .body = tiled_types_load_and_say_what_i2_s_says,
     .timeout_ms = 30000},
    {.name = "mock_packings_of_one_seed_say_the_same", .body = packings_of_one_seed_say_the_same},
    {.name = "mock_rows_with_scales_of_their_own_say_the_same",
     .body = rows_with_scales_of_their_own_say_the_same},
    {.name = "mock_every_family_and_vocabulary_speaks", .body = every_family_and_vocabulary_speaks},
    {.name = "mock_drawn_vocabularies_lose_no_text", .body = drawn_vocabularies_lose_no_text},
    {.name = "mock_like_takes_everything_but_the_weights",
     .body = like_takes_everything_but_the_weights},
    {.name = "mock_like_with_other_numbers_is_smaller_and_sound",
     .body = like_with_other_numbers_is_smaller_and_sound},
    {.name = "mock_impossible_recipes_are_refused_and_leave_no_file",
     .body = impossible_recipes_are_refused_and_leave_no_file},
    {.name = "mock_like_refuses_what_it_cannot_take", .body = like_refuses_what_it_cannot_take},
    {.name = "mock_is_known_by_what_stands_in_it", .body = a_mock_is_known_by_what_stands_in_it},
    {0},
};
const struct suite suite_mock_make = {
    "mock_make", tests, "ternary_sign tl1_strip tl2_sign dequant_tq1_order gguf_q2_0_short"};
