/* Guards bnt trace and bnt diff: statistics that are not those of the row, a record under another
 * place than its own, a difference that is passed over or named at the wrong place, and a damaged
 * trace that is believed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/op_trace_diff.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"

/* ---- one row, by hand ---- */

static enum bnt_status to_file(void *ctx, const char *line, size_t n, struct bnt_err *err)
{
    (void)err;
    assert_int_equal(fwrite(line, 1, n, ctx), n);
    return BNT_OK;
}

/* A trace of one record at layer 1, token 2, read back. */
static void trace_row(const float *values, uint32_t n, bool full, struct op_trace *out)
{
    static const int32_t ids[] = {5, 6, 7};
    struct bnt_err err = {0};
    struct op_choice choice = {.full = full};
    struct bnt_ids none = {0};
    es_ok(op_choice_ops(NULL, &choice, &err), &err);
    FILE *f = fopen(suite_in_scratch("row.trace"), "w");
    assert_non_null(f);
    struct op_tracer t = {.choice = &choice, .put = to_file, .ctx = f};
    struct op_trace_head head = {.model = "a \"b\"\\c\xc3\xa4\xff",
                                 .arch = "x",
                                 .kernel = "ref",
                                 .kv_type = "f16",
                                 .ids = ids,
                                 .n_ids = 3};
    es_ok(op_tracer_begin(&t, &head, &err), &err);
    op_tracer_row(&t, &(struct bnt_tap_row){BNT_TAP_K, 1, 0, 2, n, values});
    es_ok(op_tracer_end(&t, &none, &err), &err);
    fclose(f);
    es_ok(op_trace_read(suite_in_scratch("row.trace"), out, &err), &err);
    assert_int_equal(out->n_records, 1);
}

static void statistics_are_those_of_the_row(void **state)
{
    (void)state;
    struct op_trace t;
    const float values[] = {1, -3, NAN, INFINITY, -INFINITY, 2.5f, -NAN};
    trace_row(values, 7, true, &t);
    const struct op_record *r = &t.records[0];
    assert_string_equal(t.model, "a \"b\"\\c\xc3\xa4\xef\xbf\xbd"); /* no UTF-8: U+FFFD */
    assert_int_equal(r->op, BNT_TAP_K);
    assert_int_equal(r->layer, 1);
    assert_int_equal(r->position, 2);
    assert_int_equal(r->n_nan, 2);
    assert_int_equal(r->n_inf, 2);
    assert_true(r->min == -3 && r->max == 2.5);
    assert_true(fabs(r->mean - 0.5 / 3) < 1e-8);
    assert_true(fabs(r->rms - sqrt(16.25 / 3)) < 1e-8);
    for (int i = 0; i < 7; i++) {
        assert_true(r->values[i] == values[i] || (isnan(r->values[i]) && isnan(values[i])));
    }
    op_trace_release(&t);
}

/* 100 elements: 16 of them stand for the row, the digest for all. */
static void samples_are_elements_of_the_row(void **state)
{
    (void)state;
    float values[100];
    struct op_trace t, same, other;
    for (int i = 0; i < 100; i++) {
        values[i] = 0.1f * (float)i;
    }
    trace_row(values, 100, false, &t);
    assert_int_equal(t.records[0].n_values, OP_TRACE_SAMPLES);
    for (uint32_t i = 0; i < OP_TRACE_SAMPLES; i++) {
        assert_true(t.records[0].values[i] == values[op_record_element(&t.records[0], i)]);
    }
    trace_row(values, 100, false, &same);
    values[7] = nextafterf(values[7], 1); /* no sample */
    trace_row(values, 100, false, &other);
    assert_string_equal(t.records[0].digest, same.records[0].digest);
    assert_string_not_equal(t.records[0].digest, other.records[0].digest);
    struct op_diff_result result;
    op_trace_diff(&t, &other, &(struct op_tolerance){0}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_UNSAMPLED);
    op_trace_release(&t);
    op_trace_release(&same);
    op_trace_release(&other);
}

/* ---- comparison ---- */

/* A whole run of the bundled model. */
static void trace_model(const char *name, const char *const *more)
{
    const char *argv[24] = {
        suite_bnt(), "trace", "-m", suite_bundled_model(), "-p", "Once upon a time",
        "-n",        "2",     "-o", suite_in_scratch(name)};
    for (size_t n = 10; *more; more++) {
        argv[n++] = *more;
    }
    struct suite_output o;
    suite_run(argv, NULL, 0, &o);
    if (o.exit != 0) {
        fail_msg("%s", o.err);
    }
    suite_output_release(&o);
}
#define TRACE(name, ...) trace_model(name, (const char *const[]){__VA_ARGS__, NULL})

static void read_into(const char *name, struct op_trace *t)
{
    struct bnt_err err = {0};
    es_ok(op_trace_read(suite_in_scratch(name), t, &err), &err);
}

static struct op_record *record_of(struct op_trace *t, enum bnt_tap_op op, int32_t layer,
                                   uint32_t position)
{
    for (size_t i = 0; i < t->n_records; i++) {
        struct op_record *r = &t->records[i];
        if (r->op == op && r->layer == layer && r->position == position) {
            return r;
        }
    }
    fail_msg("no record of %s", bnt_tap_name(op));
    return NULL;
}

static void kernels_threads_and_batches_leave_equal_traces(void **state)
{
    (void)state;
    struct op_trace a, b;
    struct op_diff_result result;
    TRACE("a", "--kernel", "ref", "-t", "1", "--batch", "1");
    TRACE("b", "-t", "2");
    read_into("a", &a);
    read_into("b", &b);
    /* 7 tokens, 3 ops outside of layers, and in each of 4 layers all. */
    assert_int_equal(a.n_records, 7 * (3 + 4 * (BNT_TAP_N_OPS - 3)));
    assert_int_equal(a.generated.n, 2);
    op_trace_diff(&a, &b, &(struct op_tolerance){0}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_NONE);
    assert_int_equal(result.n_compared, a.n_records);
    op_trace_release(&a);
    op_trace_release(&b);
}

/* Two places are changed; the earlier one in the order of computation is named, whatever comes
 * first in the file. */
static void first_difference_is_named(void **state)
{
    (void)state;
    struct op_trace a, b;
    struct op_diff_result result;
    TRACE("full", "--full", "--positions", "1-2", "--layers", "0,2-3");
    read_into("full", &a);
    read_into("full", &b);
    struct op_record *late = record_of(&b, BNT_TAP_EMBD, -1, 2),
                     *early = record_of(&b, BNT_TAP_ATTN, 2, 1);
    late->values[0] += 1;
    late->digest[0] ^= 1;
    early->values[40] += 0.25f;
    early->values[41] += 0.5f;
    early->digest[0] ^= 1;
    op_trace_diff(&a, &b, &(struct op_tolerance){0}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_VALUES);
    assert_string_equal(result.first.op, "attn");
    assert_int_equal(result.first.layer, 2);
    assert_int_equal(result.first.position, 1);
    assert_int_equal(result.first.element, 40);
    assert_int_equal(result.first.n_differ, 2);
    assert_int_equal(result.first.largest_at, 41);
    assert_int_equal(result.n_differ, 2);
    op_trace_diff(&a, &b, &(struct op_tolerance){.absolute = 0.3}, &result);
    assert_int_equal(result.first.element, 41);
    op_trace_diff(&a, &b, &(struct op_tolerance){.absolute = 0.6}, &result);
    assert_string_equal(result.first.op, "embd");
    op_trace_diff(&a, &b, &(struct op_tolerance){.absolute = 1.5}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_NONE);
    early->values[3] = NAN;
    op_trace_diff(&a, &b, &(struct op_tolerance){.absolute = 1e30}, &result);
    assert_int_equal(result.first.element, 3);
    op_trace_release(&a);
    op_trace_release(&b);
}

static void ids_and_missing_records_are_named(void **state)
{
    (void)state;
    struct op_trace a, b;
    struct op_diff_result result;
    TRACE("a", "--ops", "embd,logits");
    TRACE("b", "--ops", "embd");
    read_into("a", &a);
    read_into("b", &b);
    op_trace_diff(&a, &b, &(struct op_tolerance){0}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_ONLY_A);
    assert_string_equal(result.first.op, "logits");
    assert_int_equal(result.first.position, 0);
    op_trace_diff(&a, &b, &(struct op_tolerance){.common = true}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_NONE);
    b.generated.at[1]++;
    op_trace_diff(&a, &b, &(struct op_tolerance){.common = true}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_GENERATED);
    assert_int_equal(result.first.position, 6);
    b.ids.at[3]++;
    op_trace_diff(&a, &b, &(struct op_tolerance){.common = true}, &result);
    assert_int_equal(result.first.kind, OP_DIFF_IDS);
    assert_int_equal(result.first.position, 3);
    assert_int_equal(result.n_compared, 3);
    op_trace_release(&a);
    op_trace_release(&b);
}

/* ---- damaged files ---- */

#define HEAD                                                                                       \
    "{\"trace\":\"bnt\",\"format\":1,\"model\":\"m\",\"arch\":\"x\",\"kernel\":\"ref\","           \
    "\"threads\":1,\"ids\":[1]}\n"
#define RECORD(layer, values)                                                                      \
    "{\"op\":\"k\",\"layer\":" layer ",\"position\":0,\"n\":2,\"min\":0,\"max\":1,\"mean\":0.5,"   \
    "\"rms\":0.7,\"nan\":0,\"inf\":0,\"digest\":\"0123456789abcdef\",\"values\":" values "}\n"
#define END(n) "{\"end\":true,\"records\":" n ",\"generated\":[]}\n"

static const struct damaged {
    const char *text;
    enum bnt_status status;
} damaged[] = {
    {"", BNT_E_FILE},
    {"hello\n", BNT_E_FILE},
    {"{\"trace\":\"bnt\",\"format\":2}\n", BNT_E_UNSUPPORTED},
    {"{\"trace\":\"bnt\",\"format\":1}\n", BNT_E_FILE},
    {HEAD, BNT_E_FILE},
    {HEAD RECORD("0", "[0,1]"), BNT_E_FILE},
    {HEAD RECORD("0", "[0,1]") END("2"), BNT_E_FILE},
    {HEAD RECORD("0", "[0,1]") END("1") HEAD, BNT_E_FILE},
    {HEAD RECORD("0", "[0,1]") END("1") "x\n", BNT_E_FILE},
    {HEAD RECORD("0", "[0,1]") RECORD("0", "[0,1]") END("2"), BNT_E_FILE},
    {HEAD RECORD("-1", "[0,1]") END("1"), BNT_E_FILE},
    {HEAD RECORD("0", "[0,1,2]") END("1"), BNT_E_FILE},
    {HEAD RECORD("0", "[]") END("1"), BNT_E_FILE},
    {HEAD RECORD("0", "[0,\"x\"]") END("1"), BNT_E_FILE},
    {HEAD RECORD("0", "[\"nan\",\"-inf\"]") END("1"), BNT_OK},
};

static void damaged_traces_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        FILE *f = fopen(suite_in_scratch("damaged"), "w");
        assert_non_null(f);
        fputs(damaged[i].text, f);
        fclose(f);
        struct bnt_err err = {0};
        struct op_trace t;
        enum bnt_status st = op_trace_read(suite_in_scratch("damaged"), &t, &err);
        if (st != damaged[i].status) {
            fail_msg("case %zu: %d, %s", i, (int)st, err.msg);
        }
        op_trace_release(&t);
    }
}

/* Nothing of it is a line, and no more of it is held than a line may have. */
static void endless_line_is_not_read_to_its_end(void **state)
{
    (void)state;
    FILE *f = fopen(suite_in_scratch("endless"), "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)1 << 40), 0);
    fclose(f);
    struct bnt_err err = {0};
    struct op_trace t;
    assert_int_equal(op_trace_read(suite_in_scratch("endless"), &t, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "longer than a record can be"));
    op_trace_release(&t);
}

static void lists_are_parsed_or_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "1,", ",1", "3-1", "a", "1-", "-1", "1;2", "99999999999"};
    struct op_ranges r;
    struct bnt_err err = {0};
    es_ok(op_ranges_parse("--layers", "0,3-5", &r, &err), &err);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.at[1].first, 3);
    assert_int_equal(r.at[1].last, 5);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct bnt_err e = {0};
        assert_int_equal(op_ranges_parse("--layers", bad[i], &r, &e), BNT_E_USAGE);
    }
    struct op_choice c;
    assert_int_equal(op_choice_ops("q,", &c, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "attn_norm_q8"));
}

static const struct suite_test tests[] = {
    {.name = "op_trace_statistics_are_those_of_the_row", .body = statistics_are_those_of_the_row},
    {.name = "op_trace_samples_are_elements_of_the_row", .body = samples_are_elements_of_the_row},
    {.name = "op_trace_kernels_threads_and_batches_leave_equal_traces",
     .body = kernels_threads_and_batches_leave_equal_traces},
    {.name = "op_trace_first_difference_is_named", .body = first_difference_is_named},
    {.name = "op_trace_ids_and_missing_records_are_named",
     .body = ids_and_missing_records_are_named},
    {.name = "op_trace_damaged_traces_are_refused", .body = damaged_traces_are_refused},
    {.name = "op_trace_endless_line_is_not_read_to_its_end",
     .body = endless_line_is_not_read_to_its_end},
    {.name = "op_trace_lists_are_parsed_or_refused", .body = lists_are_parsed_or_refused},
    {0},
};
const struct suite suite_op_trace = {"op_trace", tests, "trace_position diff_first"};
