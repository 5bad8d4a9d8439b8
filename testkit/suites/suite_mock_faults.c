/* Guards the loader against files that are broken in one way each, and the promise of the table:
 * what a planted defect is found as, and by whom. A defect that goes through unseen, that is called
 * by another name, or that a reader dies of, is a failure. */
#include <stdlib.h>
#include <string.h>

#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"

enum { LEAST_FOUND_BY_LOADER = 25, MAX_FAULTS = 256 };

/* The recipe that has what the fault breaks. */
static struct bnt_mock_recipe recipe_for(const struct bnt_mock_file_fault *f)
{
    struct bnt_mock_recipe r = {
        .seed = 4, .n_layer = 1, .n_embd = 128, .n_head = 4, .n_vocab = 360, .fault = f->name};
    if (f->needs && strstr(f->needs, "spm")) {
        r.tokenizer = "spm";
    }
    return r;
}

/* ---- the table ---- */

static void table_covers_every_class(void **state)
{
    (void)state;
    size_t by_class[GGUF_N_FAULTS] = {0}, n_found = 0;
    const struct bnt_mock_file_fault *f;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        by_class[f->fault]++;
        n_found += f->found != BNT_MOCK_FOUND_DEEP;
        assert_true((f->found == BNT_MOCK_FOUND_DEEP) == (f->status == BNT_OK));
        if (f->fault != GGUF_FAULT_NONE) {
            assert_int_equal(f->status, gguf_fault_info((int)f->fault)->status);
        }
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(f->name, bnt_mock_file_fault(k)->name);
        }
    }
    assert_true(n_found >= LEAST_FOUND_BY_LOADER);
    for (int c = GGUF_FAULT_HEADER; c < GGUF_N_FAULTS; c++) {
        if (by_class[c] == 0) {
            fail_msg("no fault of class %s", gguf_fault_info(c)->name);
        }
    }
}

/* ---- in this process ---- */

/* What reading the header and making a model say; found tells who said it. */
static struct bnt_err open_and_load(const char *path, enum bnt_mock_found *found)
{
    struct bnt_err err = {0};
    struct gguf *g = NULL;
    struct bnt_model *m = NULL;
    *found = BNT_MOCK_FOUND_OPEN;
    if (gguf_open(path, GGUF_MODE_AUTO, &g, &err) == BNT_OK) {
        *found = BNT_MOCK_FOUND_LOAD;
        if (bnt_model_open(path, NULL, &m, &err) == BNT_OK) {
            *found = BNT_MOCK_FOUND_DEEP;
        }
    }
    bnt_model_close(m);
    gguf_close(g);
    return err;
}

static bool as_promised(const struct bnt_mock_file_fault *f, const char *path)
{
    enum bnt_mock_found found;
    struct bnt_err err = open_and_load(path, &found);
    bool class = err.domain && strcmp(err.domain, "gguf") == 0;
    int fault = class ? err.foreign : GGUF_FAULT_NONE;
    if (found == f->found && err.status == f->status && fault == (int)f->fault) {
        return true;
    }
    print_message("%s: found by %s as %s with status %d, promised %s, %s, %d: %s\n", f->name,
                  bnt_mock_found_name(found), gguf_fault_info(fault)->name, (int)err.status,
                  bnt_mock_found_name(f->found), gguf_fault_info((int)f->fault)->name,
                  (int)f->status, err.msg);
    return false;
}

static void each_is_found_where_and_as_promised(void **state)
{
    (void)state;
    size_t n_broken = 0;
    const struct bnt_mock_file_fault *f;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        struct bnt_mock_recipe r = recipe_for(f);
        n_broken += !as_promised(f, ms_make("broken.gguf", &r, NULL));
    }
    assert_int_equal(n_broken, 0);
}

/* Where a file has not what would be broken, nothing is written. */
static void each_is_found_in_other_files_too(void **state)
{
    (void)state;
    struct bnt_mock_recipe recipes[] = {
        {.arch = "llama", .type = "q8_0", .tokenizer = "spm", .n_layer = 1},
        {.arch = "qwen2", .type = "tq2_0", .n_layer = 1},
        {.like = suite_bundled_model()},
    };
    const struct bnt_mock_file_fault *f;
    size_t n_broken = 0, n_planted = 0, n_tried = 0;
    for (size_t r = 0; r < sizeof recipes / sizeof recipes[0]; r++) {
        for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++, n_tried++) {
            struct bnt_err err = {0};
            struct bnt_mock_made made;
            const char *path = ms_path("broken.gguf");
            recipes[r].fault = f->name;
            enum bnt_status st = bnt_mock_make(&recipes[r], path, &made, &err);
            if (st == BNT_E_USAGE && strstr(err.msg, "cannot be planted")) {
                continue;
            }
            es_ok(st, &err);
            n_planted++;
            n_broken += !as_promised(f, path);
        }
    }
    assert_int_equal(n_broken, 0);
    assert_true(n_planted * 10 >= n_tried * 8);
}

/* The next ids after a fixed prompt, one of which ends what they are. */
static void run_on(const char *path, int32_t ids[8], bool *failed)
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_model_options mo = {0};
    int32_t next = 72;
    es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 16, .n_threads = 1});
    *failed = false;
    for (int i = 0; i < 8 && !*failed; i++) {
        const float *logits = NULL;
        *failed = bnt_session_eval(e.session, &next, 1, &err) != BNT_OK;
        logits = bnt_session_logits(e.session);
        next = 0;
        for (int32_t v = 1; !*failed && v < (int32_t)bnt_session_n_vocab(e.session); v++) {
            next = logits[v] > logits[next] ? v : next;
        }
        *failed = *failed || logits[next] != logits[next];
        ids[i] = next;
    }
    es_close(&e);
}

/* Nothing here tells a deep defect from a sound file by itself; the bytes do. */
static void deep_ones_load_run_and_differ(void **state)
{
    (void)state;
    struct bnt_mock_made sound;
    int32_t right[8];
    bool failed;
    struct bnt_mock_recipe plain = {
        .seed = 4, .n_layer = 1, .n_embd = 128, .n_head = 4, .n_vocab = 360};
    run_on(ms_make("sound.gguf", &plain, &sound), right, &failed);
    assert_false(failed);
    const struct bnt_mock_file_fault *f;
    size_t n_seen = 0, n_deep = 0;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        if (f->found != BNT_MOCK_FOUND_DEEP) {
            continue;
        }
        struct bnt_mock_recipe r = recipe_for(f);
        struct bnt_mock_made made;
        int32_t ids[8] = {0};
        run_on(ms_make("deep.gguf", &r, &made), ids, &failed);
        assert_string_not_equal(made.digest, sound.digest);
        assert_int_equal(made.bytes > 0, true);
        n_seen += failed || memcmp(ids, right, sizeof right) != 0;
        n_deep++;
    }
    assert_true(n_deep >= 8);
    assert_true(n_seen >= 4); /* scales, norm, base, epsilon show in eight ids */
}

/* ---- by the commands ---- */

static void inspect_says(const struct bnt_mock_file_fault *f, const char *path)
{
    struct suite_output o;
    json_error_t e;
    suite_run((const char *const[]){suite_bnt(), "inspect", "--json", "--allow-mock", path, NULL},
              suite_scratch(), 0, &o);
    json_t *doc = json_loads(o.out, 0, &e);
    const char *class = json_string_value(json_object_get(json_object_get(doc, "error"), "class"));
    if (o.exit != (int)f->status || !class ||
        strcmp(class, gguf_fault_info((int)f->fault)->name) != 0) {
        fail_msg("%s: bnt inspect ends with %d and says %s", f->name, o.exit, o.out);
    }
    json_decref(doc);
    suite_output_release(&o);
}

static void infer_says(const struct bnt_mock_file_fault *f, const char *path)
{
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "infer", "--allow-mock", "-m", path, "-p", "Hello",
                                    "-n", "2", NULL},
              suite_scratch(), 0, &o);
    if (o.exit != (int)f->status || !strstr(o.err, "error: ")) {
        fail_msg("%s: bnt infer ends with %d and says %s", f->name, o.exit, o.err);
    }
    suite_output_release(&o);
}

static void commands_end_with_the_promised_code(void **state)
{
    (void)state;
    const struct bnt_mock_file_fault *f;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        struct bnt_mock_recipe r = recipe_for(f);
        if (f->found == BNT_MOCK_FOUND_DEEP) {
            continue;
        }
        const char *path = ms_make("broken.gguf", &r, NULL);
        if (f->found == BNT_MOCK_FOUND_OPEN) {
            inspect_says(f, path);
        } else {
            infer_says(f, path);
        }
    }
}

static void unknown_fault_names_its_neighbour(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_mock_made made;
    struct bnt_mock_recipe r = {.fault = "scale-nann"};
    assert_int_equal(bnt_mock_make(&r, ms_path("m.gguf"), &made, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "scale-nan"));
}

static const struct suite_test tests[] = {
    {.name = "mock_fault_table_covers_every_class", .body = table_covers_every_class},
    {.name = "mock_faults_are_found_where_and_as_promised",
     .body = each_is_found_where_and_as_promised},
    {.name = "mock_faults_are_found_in_other_files_too",
     .body = each_is_found_in_other_files_too,
     .timeout_ms = 60000,
     .tier = SUITE_INTEGRATION},
    {.name = "mock_faults_that_are_deep_load_run_and_differ",
     .body = deep_ones_load_run_and_differ},
    {.name = "mock_faults_end_commands_with_the_promised_code",
     .body = commands_end_with_the_promised_code,
     .timeout_ms = 60000},
    {.name = "mock_fault_unknown_names_its_neighbour", .body = unknown_fault_names_its_neighbour},
    {0},
};
const struct suite suite_mock_faults = {
    "mock_faults", tests, "scale_unchecked gguf_bounds gguf_version gguf_duplicate gguf_count"};
