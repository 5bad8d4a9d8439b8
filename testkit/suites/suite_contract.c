/* Guards contracts: a mock that drifts from the model it stands in for, a model that changes under
 * its mocks, and a difference that is not seen or cannot be applied. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "mock/contract.h"
#include "mock/draw.h"
#include "mock/line_diff.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"

static const char bundled[] = "testkit/data/contracts/tinystories-bitnet.contract";

/* Fails with the patch unless the model keeps the contract. */
static void keeps(const char *contract, const char *model)
{
    struct bnt_err err = {0};
    struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    unsigned sections = BNT_CONTRACT_EVERYTHING;
    if (bnt_contract_check(contract, &(struct bnt_contract_of){.path = model}, &sections, &patch,
                           &err) != BNT_OK) {
        fail_msg("%s\n%s", err.msg, bnt_buf_view(&patch));
    }
    assert_int_equal(patch.len, 0);
    bnt_buf_release(&patch);
}

/* A contract that somebody did not wait for is none. */
static void an_interrupted_derivation_is_told(void **state)
{
    (void)state;
    static const unsigned each[] = {BNT_CONTRACT_FORMAT, BNT_CONTRACT_ERRORS,
                                    BNT_CONTRACT_BEHAVIOUR, BNT_CONTRACT_ANSWERS};
    const volatile sig_atomic_t now = 1;
    const struct bnt_contract_of of = {.path = suite_bundled_model(), .interrupted = &now};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        assert_int_equal(bnt_contract_derive(&of, each[i], &text, NULL), BNT_E_INTERRUPTED);
        bnt_buf_release(&text);
    }
}

/* ---- real and mock ---- */

static void a_mock_like_the_bundled_model_keeps_its_contract(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct bnt_mock_recipe r = {.like = suite_bundled_model(), .seed = seed};
        const char *mock = ms_make("mock.gguf", &r, NULL);
        keeps(suite_source(bundled), mock);
    }
}

static void the_bundled_model_keeps_its_contract(void **state)
{
    (void)state;
    keeps(suite_source(bundled), suite_bundled_model());
}

static void a_contract_is_the_same_text_every_time(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_buf one = BNT_BUF(BNT_CONTRACT_MAX_BYTES), two = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    struct bnt_mock_recipe r = {.tokenizer = "spm"};
    const struct bnt_contract_of of = {.path = ms_make("m.gguf", &r, NULL), .seed = 5};
    es_ok(bnt_contract_derive(&of, BNT_CONTRACT_ALL, &one, &err), &err);
    es_ok(bnt_contract_derive(&of, BNT_CONTRACT_ALL, &two, &err), &err);
    assert_string_equal(bnt_buf_view(&one), bnt_buf_view(&two));
    bnt_buf_release(&one);
    bnt_buf_release(&two);
}

static size_t lines_between(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    const char *end = at ? strstr(at, to) : NULL;
    size_t n = 0;
    assert_non_null(end);
    for (at = strchr(at, '\n') + 1; at < end; at = strchr(at, '\n') + 1) {
        n++;
    }
    return n;
}

static void a_contract_has_500_texts_and_30_bad_inputs(void **state)
{
    (void)state;
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    assert_int_equal(bnt_file_read(suite_source(bundled), &text, NULL), BNT_OK);
    const char *t = bnt_buf_view(&text);
    assert_int_equal(lines_between(t, "[text]", "\n[errors]"), BNT_CONTRACT_STRINGS);
    assert_true(lines_between(t, "[errors]", "\n[behaviour]") >= 30);
    /* Only the last section says yes or no, and here all of it says yes. */
    assert_null(strstr(strstr(t, "[behaviour]"), ": no\n"));
    bnt_buf_release(&text);
}

/* ---- drift ---- */

static void drift_is_a_patch_in_either_direction(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_recipe recipe;
        const char *gone, *new;
    } cases[] = {
        {{.fault = "rope-base-off"}, "\n-rope base 10000\n", "\n+rope base 100\n"},
        {{.fault = "epsilon-off"}, "\n-norm epsilon 9.99999975e-06\n", "\n+norm epsilon 0.5\n"},
        {{.fault = "end-token-wrong"}, "\n-eos 2046 ", "\n+eos 65 \"A\"\n"},
        {{.n_layer = 3}, "\n-n_layer 4\n", "\n+n_layer 3\n"},
        {{.n_ctx = 128}, "\n-n_ctx_train 512\n", "\n+n_ctx_train 128\n"},
        {{.fault = "norm-nan"}, "\n-logits are finite: yes\n", "\n+logits are finite: no\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        struct bnt_mock_recipe r = cases[i].recipe;
        r.like = suite_bundled_model();
        const struct bnt_contract_of of = {.path = ms_make("mock.gguf", &r, NULL)};
        unsigned all = BNT_CONTRACT_EVERYTHING;
        enum bnt_status st = bnt_contract_check(suite_source(bundled), &of, &all, &patch, &err);
        /* A model of NaN may also refuse to speak. */
        bool refused = cases[i].recipe.fault && strcmp(cases[i].recipe.fault, "norm-nan") == 0 &&
                       st == BNT_E_INFERENCE;
        if (!refused && (st != BNT_E_CONTRACT || !strstr(bnt_buf_view(&patch), cases[i].gone) ||
                         !strstr(bnt_buf_view(&patch), cases[i].new))) {
            fail_msg("case %zu: status %d, %s\n%s", i, (int)st, err.msg, bnt_buf_view(&patch));
        }
        bnt_buf_release(&patch);
    }
}

/* A contract that says more or less than the model does is drift too. */
static void lines_added_to_or_taken_from_a_contract_are_seen(void **state)
{
    (void)state;
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    assert_int_equal(bnt_file_read(suite_source(bundled), &text, NULL), BNT_OK);
    const struct bnt_contract_of of = {.path = suite_bundled_model()};
    char *line = strstr(text.data, "general.license str\n");
    assert_non_null(line);
    for (int added = 0; added < 2; added++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        const char *path = ms_path("other.contract");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "%.*s%s%s", (int)(line - text.data), text.data,
                added ? "general.more str\n" : "",
                added ? line : line + strlen("general.license str\n"));
        fclose(f);
        unsigned all = BNT_CONTRACT_EVERYTHING;
        assert_int_equal(bnt_contract_check(path, &of, &all, &patch, &err), BNT_E_CONTRACT);
        assert_non_null(strstr(bnt_buf_view(&patch),
                               added ? "\n-general.more str\n" : "\n+general.license str\n"));
        assert_non_null(strstr(err.msg, "1 lines differ"));
        bnt_buf_release(&patch);
    }
    bnt_buf_release(&text);
}

static void what_is_no_contract_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "bnt contract 2\nsections: format\nseed: 1\n",
        "bnt contract 1\nseed: 1\n",
        "bnt contract 1\nsections: format\n",
        "bnt contract 1\nsections: format\nseed: one\n",
        "bnt contract 1\nsections: weights\nseed: 1\n",
        "GGUF",
    };
    const struct bnt_contract_of of = {.path = suite_bundled_model()};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        const char *path = ms_path("none.contract");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        fclose(f);
        unsigned all = BNT_CONTRACT_EVERYTHING;
        enum bnt_status st = bnt_contract_check(path, &of, &all, &patch, &err);
        if ((st != BNT_E_FILE && st != BNT_E_USAGE) || patch.len > 0) {
            fail_msg("case %zu: status %d, '%s'", i, (int)st, err.msg);
        }
        bnt_buf_release(&patch);
    }
}

/* ---- differences ---- */

/* What the hunks of a patch make of `from`. */
static void apply(const char *from, const char *patch, struct bnt_buf *out)
{
    size_t line = 1;
    for (const char *p = patch; *p; p = strchr(p, '\n') + 1) {
        size_t len = strcspn(p, "\n"), at = 0;
        if (strncmp(p, "--- ", 4) == 0 || strncmp(p, "+++ ", 4) == 0) {
            continue;
        }
        if (p[0] == '@') {
            at = strtoull(p + 4, NULL, 10);
            bool none = strncmp(strchr(p, ',') + 1, "0 ", 2) == 0;
            for (at += none; line < at; line++) {
                const char *end = strchr(from, '\n') + 1;
                bnt_buf_append(out, from, (size_t)(end - from), NULL);
                from = end;
            }
            continue;
        }
        if (p[0] != '+') {
            assert_memory_equal(p + 1, from, len - 1); /* context and removed lines are there */
            from = strchr(from, '\n') + 1;
            line++;
        }
        if (p[0] != '-') {
            bnt_buf_append(out, p + 1, len, NULL);
        }
    }
    bnt_buf_puts(out, from, NULL);
}

static void patches_turn_one_text_into_the_other(void **state)
{
    (void)state;
    struct draw d = draw_stream(99, "diff", 4);
    for (int round = 0; round < 300; round++) {
        struct bnt_buf text[2] = {BNT_BUF(65536), BNT_BUF(65536)};
        struct bnt_buf patch = BNT_BUF(65536), made = BNT_BUF(65536);
        for (uint64_t i = 0; i < 60; i++) {
            uint64_t word = draw_below(&d, 8), change = draw_below(&d, 12);
            for (int side = 0; side < 2; side++) {
                bool left_out = change == (uint64_t)side;
                if (!left_out) {
                    bnt_buf_printf(&text[side], NULL, "line %d\n",
                                   (int)(change == 2 && side ? word + 8 : word));
                }
            }
        }
        assert_int_equal(
            line_diff("a", bnt_buf_view(&text[0]), "b", bnt_buf_view(&text[1]), &patch, NULL),
            BNT_OK);
        apply(bnt_buf_view(&text[0]), bnt_buf_view(&patch), &made);
        assert_string_equal(bnt_buf_view(&made), bnt_buf_view(&text[1]));
        bnt_buf_release(&text[0]);
        bnt_buf_release(&text[1]);
        bnt_buf_release(&patch);
        bnt_buf_release(&made);
    }
}

static const struct suite_test tests[] = {
    {.name = "contract_mock_like_the_bundled_model_keeps_it",
     .body = a_mock_like_the_bundled_model_keeps_its_contract,
     .tags = "contract",
     .needs = "source"},
    {.name = "contract_bundled_model_keeps_its_own",
     .body = the_bundled_model_keeps_its_contract,
     .tags = "contract",
     .needs = "source",
     .tier = SUITE_INTEGRATION},
    {.name = "contract_is_the_same_text_every_time",
     .body = a_contract_is_the_same_text_every_time},
    {.name = "contract_has_500_texts_and_30_bad_inputs",
     .body = a_contract_has_500_texts_and_30_bad_inputs,
     .needs = "source"},
    {.name = "contract_drift_is_a_patch_in_either_direction",
     .body = drift_is_a_patch_in_either_direction,
     .needs = "source"},
    {.name = "contract_lines_added_or_taken_are_seen",
     .body = lines_added_to_or_taken_from_a_contract_are_seen,
     .needs = "source"},
    {.name = "contract_what_is_none_is_refused", .body = what_is_no_contract_is_refused},
    {.name = "contract_patches_turn_one_text_into_the_other",
     .body = patches_turn_one_text_into_the_other},
    {.name = "contract_interrupted_derivation_is_told", .body = an_interrupted_derivation_is_told},
    {0},
};
const struct suite suite_contract = {"contract", tests, "contract_drift"};
