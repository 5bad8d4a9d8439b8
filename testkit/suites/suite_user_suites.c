/* Guards suites that users write in YAML: a mistake that is passed over in silence, an error
 * without a place, an expectation that holds whatever comes, a skip that hides a failure. */
#include "testkit/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/user_suite.h"

static const char *suite_file(const char *text)
{
    static char path[BNT_PATH_MAX];
    fixture_write(fixture_path(path, "greeter.bnt.yml"), text);
    return path;
}

static enum bnt_status read_suite(struct user_suite *s, const char *text, struct bnt_err *err)
{
    return user_suite_read(suite_file(text), s, err);
}

/* ---- reading ---- */

static void parameters_and_models_make_a_test_each(void **state)
{
    (void)state;
    struct user_suite s;
    struct bnt_err err = {0};
    if (read_suite(
            &s,
            "suite: My Suite\ntier: integration\ntags: [a, b]\nsubjects: real\n"
            "models: [\"bundled:\", other]\n"
            "defaults: {max_tokens: 7, temperature: 0.5, timeout: 30s}\n"
            "tests:\n"
            "  - name: greets\n    with:\n      - {who: Ann, n: 1}\n      - {who: Bob, n: 2}\n"
            "    prompt: \"Hello ${who}, $$5 $ ${n}\"\n    expect: {contains: \"${who}\"}\n"
            "  - name: plain\n    tier: fast\n    max_tokens: 3\n    ids: [1, 2]\n"
            "    expect: {ids: [3]}\n",
            &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_string_equal(s.name, "my_suite");
    assert_int_equal(s.n, 6);
    assert_string_equal(s.tests[0].name, "my_suite_greets_ann_1_bundled");
    assert_string_equal(s.tests[0].model, "bundled:");
    assert_string_equal(s.tests[0].prompt, "Hello Ann, $5 $ 1");
    assert_string_equal(s.tests[0].expect.contains.at[0], "Ann");
    assert_string_equal(s.tests[3].name, "my_suite_greets_bob_2_other");
    assert_int_equal(s.tests[3].tier, BNT_TIER_INTEGRATION);
    assert_int_equal(s.tests[3].max_tokens, 7);
    assert_int_equal(s.tests[3].timeout_ms, 30000);
    assert_true(s.tests[3].sampling.temperature == 0.5);
    assert_string_equal(s.tests[3].tags, "a,b");
    assert_string_equal(s.tests[4].name, "my_suite_plain_bundled");
    assert_int_equal(s.tests[4].tier, BNT_TIER_FAST);
    assert_int_equal(s.tests[4].max_tokens, 3);
    assert_int_equal(s.tests[4].ids.n, 2);
    assert_int_equal(s.tests[4].line, 14);
    assert_true(user_test_takes(&s.tests[4], "real"));
    assert_false(user_test_takes(&s.tests[4], "rea"));
    assert_false(user_test_takes(&s.tests[4], "tiny"));
    user_suite_release(&s);
}

static void mistakes_are_errors_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "the file is empty"},
        {"suite: x\n", "needs a list of tests"},
        {"tests: []\n", "needs a list of tests"},
        {"test: [{name: a}]\n", ":1:1: unknown key 'test'"},
        {"tests: [{nam: a}]\n", ":1:10: unknown key 'nam'"},
        {"tests: [{name: a, prompt: x}]\n", "without `expect` cannot fail"},
        {"tests: [{name: a, prompt: x, expect: {}}]\n", "asks for nothing"},
        {"tests: [{name: a, prompt: x, expect: {contain: y}}]\n", "unknown key 'contain'"},
        {"tests: [{name: a, expect: {text: y}}]\n", "needs a prompt, ids or a perplexity"},
        {"tests: [{name: a, prompt: x, ids: [1], expect: {text: y}}]\n", "not both"},
        {"tests: [{prompt: x, expect: {text: y}}]\n", "a test needs a name"},
        {"tests: [{name: '', prompt: x, expect: {text: y}}]\n", "a test needs a name"},
        {"tests: [{name: \xc3\xa9, prompt: x, expect: {text: y}}]\n", "letters (a-z) or digits"},
        {"tests: [{name: a, prompt: x, top_p: 7, expect: {text: y}}]\n", "top_p = 7 is outside"},
        {"defaults: {temperature: -1}\ntests: [{name: a, prompt: x, expect: {text: y}}]\n",
         "temperature = -1 is outside"},
        {"tests: [{name: a, prompt: x, stop: '', expect: {text: y}}]\n", "must be 1 to 1024"},
        {"tests:\n  - {name: a, prompt: x, expect: {text: y}}\n"
         "  - {name: A, prompt: x, expect: {text: y}}\n",
         "another test has this name, greeter_a:"},
        {"tests: [{name: a, with: [{b: \xc3\xa9}, {b: \xc3\xa8}], prompt: x, expect: {text: y}}]\n",
         "letters a-z and digits of suite, name, parameters"},
        {"tests: [{name: a, prompt: \"${who}\", expect: {text: y}}]\n", "${...}"},
        {"tests: [{name: a, with: {b: c}, prompt: x, expect: {text: y}}]\n", "list of maps"},
        {"tests: [{name: a, with: [{b: [c]}], prompt: x, expect: {text: y}}]\n", "map of texts"},
        {"tests: [{name: a, prompt: x, max_tokens: -1, expect: {text: y}}]\n", "whole number"},
        {"tests: [{name: a, prompt: x, max_tokens: 1.5, expect: {text: y}}]\n", "whole number"},
        {"tests: [{name: a, prompt: x, max_tokens: 4294967299, expect: {text: y}}]\n", "too large"},
        {"tests: [{name: a, prompt: x, temperature: hot, expect: {text: y}}]\n", "a number"},
        {"tests: [{name: a, prompt: x, tier: quick, expect: {text: y}}]\n", "fast, integration"},
        {"tests: [{name: a, prompt: x, timeout: 11m, expect: {text: y}}]\n", "1s to 10m"},
        {"tests: [{name: a, prompt: x, timeout: 0s, expect: {text: y}}]\n", "1s to 10m"},
        {"tests: [{name: a, prompt: x, subjects: fake, expect: {text: y}}]\n", "real, tiny"},
        {"tests: [{name: a, prompt: x, tags: [a b], expect: {text: y}}]\n", "without blanks"},
        {"tests: [{name: a, prompt: x, tags: [\"a\\nb\"], expect: {text: y}}]\n", "without blanks"},
        {"tests: [{name: a, prompt: \"x\\0\", expect: {text: y}}]\n", "control character"},
        {"tests: [{name: a, prompt: x, \"to\\np\": 1, expect: {text: y}}]\n", "line break"},
        {"tests: [{name: a, prompt: x, expect: {matches: \"(\"}}]\n", "no regular expression"},
        {"tests: [{name: a, prompt: x, expect: {tokens: {}}}]\n", "needs min, max or both"},
        {"tests: [{name: a, prompt: x, expect: {tokens: {min: 2, max: 1}}}]\n", "above max"},
        {"tests: [{name: a, prompt: x, expect: {memory: {max: much}}}]\n", "a size"},
        {"tests: [{name: a, prompt: x, expect: {finish: done}}]\n", "stop, length or context"},
        {"tests: [{name: a, prompt: x, expect: {quality: yes}}]\n", "true or false"},
        {"tests: [{name: a, prompt: x, expect: {logprob: {min: 0}}}]\n", "either token or id"},
        {"tests: [{name: a, expect: {perplexity: {max: 2}}}]\n", "needs text or file"},
        {"tests: [{name: a, prompt: x, expect: {contains: ''}}]\n", "in every answer"},
        {"tests: [{name: a, prompt: x, expect: {contains_any: [y, '']}}]\n", "in every answer"},
        {"tests: [{name: a, prompt: x, expect: {not_contains: ''}}]\n", "in every answer"},
        {"tests: [{name: a, prompt: x, expect: {begins: ''}}]\n", "in every answer"},
        {"tests: [{name: a, prompt: x, expect: {begins: [y]}}]\n", "must be a text"},
        {"tests: [{name: a, prompt: x, expect: {matches: '((a{1,255}){1,255}){1,255}'}}]\n",
         "its repetitions make more than"},
        {"tests: [{name: a, prompt: x, expect: {json: {pattern: '((a{9999})+b){2,99}'}}}]\n",
         "pattern"},
        {"tests: [{name: a, prompt: x, expect: {matches: ''}}]\n", "in every answer"},
        {"tests: [{name: a, prompt: x, expect: {matches: '.*'}}]\n", "matches every answer"},
        {"tests: [{name: a, prompt: x, expect: {matches: [y, '^(a|b?)']}}]\n", "every answer"},
        {"tests: [{name: a, prompt: x, expect: {matches: '( |$)'}}]\n", "every answer"},
        {"tests: [{name: a, prompt: x, expect: {matches: '^.*$'}}]\n", "every answer"},
        {"tests: [{name: a, prompt: x, expect: {quality: false}}]\n", "asks for nothing"},
        {"tests: [{name: a, prompt: x, expect: {repeats: 1}}]\n", "at least 2"},
        {"tests: [{name: a, prompt: x, expect: {logprob: []}}]\n", "asks for nothing"},
        {"tests: [{name: a, prompt: x, expect: {tokens: {min: 0}}}]\n", "every answer"},
        {"tests: [{name: a, prompt: x, expect: {coherence: {max: 1}}}]\n", "every answer"},
        {"tests: [{name: a, prompt: x, expect: {logprob: {id: 1, max: 0}}}]\n", "every answer"},
        {"tests: [{name: a, expect: {perplexity: {text: y, min: 1}}}]\n", "every answer"},
        {"tests: [{name: a, ids: [1], expect: {relevance: {min: 1}}}]\n", "answer to a prompt"},
        {"tests: [{name: a, prompt: x, expect: {coherence: 0.7}}]\n", "coherence"},
        {"tests: [{name: a, expect: {perplexity: {file: none.txt, max: 2}}}]\n", "none.txt"},
        {"tests: [{name: a, prompt: x, expect: {json: {typ: object}}}]\n", "does not know 'typ'"},
        {"tests: [{name: a, prompt: x, expect: {json: {type: thing}}}]\n", "behind 'type'"},
        {"tests: [{name: a, prompt: x, expect: {json: {items: {min: 1}}}}]\n", "'min'"},
        {"defaults: {prompt: x}\ntests: [{name: a, expect: {text: y}}]\n", "not to the defaults"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct user_suite s;
        struct bnt_err err = {0};
        enum bnt_status st = read_suite(&s, cases[i].text, &err);
        if (st == BNT_OK || !strstr(err.msg, cases[i].says) || !strstr(err.msg, "bnt.yml")) {
            fail_msg("case %zu: status %d, '%s', should say '%s'", i, (int)st, err.msg,
                     cases[i].says);
        }
    }
}

static void relative_models_lie_beside_the_suite(void **state)
{
    (void)state;
    struct user_suite s;
    struct bnt_err err = {0};
    char own[BNT_PATH_MAX], below[BNT_PATH_MAX], script[BNT_PATH_MAX + 16] = "scripted:";
    if (read_suite(&s,
                   "models: [own.gguf, sub/m, \"scripted:a.json\", name, /abs.gguf]\n"
                   "tests: [{name: a, prompt: x, expect: {text: y}}]\n",
                   &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    fixture_path(script + strlen(script), "a.json");
    const char *const want[] = {fixture_path(own, "own.gguf"), fixture_path(below, "sub/m"), script,
                                "name", "/abs.gguf"};
    assert_int_equal(s.n, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(s.tests[i].model, want[i]);
    }
    user_suite_release(&s);
}

/* ---- the schema for editors ---- */

static const json_t *at_path(const json_t *o, const char *path)
{
    char name[64];
    while (o && *path) {
        size_t len = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        o = json_object_get(o, name);
        path += len + (path[len] == '.');
    }
    return o;
}

/* The keys that the reader names where it meets one that it does not know. */
static void known_keys(const char *text, char *out, size_t size)
{
    static const char begin[] = "the keys here: ";
    struct user_suite s;
    struct bnt_err err = {0};
    assert_int_equal(read_suite(&s, text, &err), BNT_E_FILE);
    const char *list = strstr(err.hint, begin);
    const char *end = strstr(err.hint, " (docs/user-suites.md)");
    if (!list || !end) {
        fail_msg("%s: %s; %s", text, err.msg, err.hint);
    }
    list += sizeof begin - 1;
    snprintf(out, size, ", %.*s,", (int)(end - list), list);
}

static size_t all_are_known(const json_t *properties, const char *keys)
{
    const char *key;
    const json_t *ignored;
    char word[64];
    json_object_foreach((json_t *)(uintptr_t)properties, key, ignored)
    {
        snprintf(word, sizeof word, ", %s,", key);
        if (!strstr(keys, word)) {
            fail_msg("the schema has '%s', which is not read: %s", key, keys);
        }
    }
    return json_object_size(properties);
}

static void schema_has_the_keys_that_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *paths[2];
    } places[] = {
        {"zzzzzzzz: 1\n", {"properties", ""}},
        {"tests: [{name: a, zzzzzzzz: 1}]\n", {"$defs.keys.properties", "$defs.test.properties"}},
        {"tests: [{name: a, prompt: x, expect: {zzzzzzzz: 1}}]\n", {"$defs.expect.properties", ""}},
        {"tests: [{name: a, prompt: x, expect: {logprob: {zzzzzzzz: 1}}}]\n",
         {"$defs.logprob.properties", ""}},
        {"tests: [{name: a, prompt: x, expect: {perplexity: {zzzzzzzz: 1}}}]\n",
         {"$defs.expect.properties.perplexity.properties", ""}},
        {"tests: [{name: a, prompt: x, expect: {tokens: {zzzzzzzz: 1}}}]\n",
         {"$defs.range.properties", ""}},
    };
    json_t *schema = json_load_file(suite_source("docs/user-suites.schema.json"), 0, NULL);
    assert_non_null(schema);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char keys[1024];
        size_t n = 0, n_read = 0;
        known_keys(places[i].text, keys, sizeof keys);
        for (const char *c = keys + 1; *c; c++) {
            n_read += *c == ',';
        }
        for (size_t k = 0; k < 2 && places[i].paths[k][0]; k++) {
            const json_t *properties = at_path(schema, places[i].paths[k]);
            assert_non_null(properties);
            n += all_are_known(properties, keys);
        }
        if (n != n_read) {
            fail_msg("%zu keys are read, %zu are in the schema: %s", n_read, n, keys);
        }
    }
    json_decref(schema);
}

/* ---- checking ---- */

static const char script[] =
    "{\"bnt_scripted\": 1, \"name\": \"greeter\", \"n_vocab\": 5, \"n_ctx\": 64, \"answers\": ["
    "{\"prompt\": \"Hi\", \"prompt_ids\": [0, 1], \"ids\": [2, 3, 4],"
    " \"pieces\": [\" wor\", \"ld\", \"!\"],"
    " \"logits\": [[0, 1, 0, 0, 0], [0, 0, 2, 1, 0]]},"
    "{\"prompt\": \"json\", \"text\": \"{\\\"a\\\": [1, 2], \\\"b\\\": \\\"x\\\", \\\"n\\\": 3.0,"
    " \\\"f\\\": 3.5}\"},"
    "{\"prompt\": \"two\\n\\tlines\", \"text\": \"one\\ntwo\\n\\nthree\"},"
    "{\"prompt\": \"fail\", \"error\": {\"status\": 16, \"message\": \"fell over\"}}]}";

/* One test with this prompt and expectation on scripted answers. */
static enum bnt_status run_on_script(const char *prompt, const char *expect, struct bnt_buf *report)
{
    char text[1024], path[BNT_PATH_MAX];
    struct user_suite s;
    struct bnt_subject *subject = NULL;
    struct bnt_err err = {0};
    fixture_write(fixture_path(path, "answers.json"), script);
    snprintf(text, sizeof text, "tests: [{name: a, prompt: %s, expect: %s}]\n", prompt, expect);
    if (read_suite(&s, text, &err) != BNT_OK ||
        bnt_subject_open_scripted(path, &subject, &err) != BNT_OK) {
        fail_msg("%s: %s", expect, err.msg);
    }
    bnt_buf_reset(report);
    enum bnt_status st = user_test_run(&s.tests[0], subject, report, &err);
    if (st != BNT_OK && st != BNT_E_FAILED) {
        (void)bnt_buf_puts(report, err.msg, NULL);
    }
    bnt_subject_close(subject);
    user_suite_release(&s);
    return st;
}

/* Each kind of expectation, once where it holds and once where it does not. */
static void every_expectation_holds_and_fails(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *holds, *fails, *says;
    } cases[] = {
        {"Hi", "{ids: [2, 3, 4]}", "{ids: [2, 3]}", "ids: 3 ids came, should be 2"},
        {"Hi", "{ids: [2, 3, 4]}", "{ids: [2, 1, 4]}", "ids: id 1 is 3, should be 1"},
        {"Hi", "{ids_begin: [2]}", "{ids_begin: [3]}", "ids_begin: id 0 is 2"},
        {"Hi", "{ids_begin: [2, 3, 4]}", "{ids_begin: [2, 3, 4, 0]}", "3 ids came"},
        {"Hi", "{text: \" world!\"}", "{text: \" world\"}", "text: is not"},
        {"Hi", "{begins: \" wor\"}", "{begins: wor}", "begins: does not begin"},
        {"Hi", "{contains: [wor, \"!\"]}", "{contains: [wor, \"?\"]}", "there is no \"?\""},
        {"Hi", "{contains_any: [x, wor]}", "{contains_any: [x, y]}", "none of the 2 texts"},
        {"Hi", "{not_contains: x}", "{not_contains: [x, ld]}", "there is \"ld\""},
        {"Hi", "{matches: \"w.*d!$\"}", "{matches: \"^w\"}", "does not match /^w/"},
        {"Hi", "{matches: \"^[^x]*$\"}", "{matches: \"^[^w]*$\"}", "does not match /^[^w]*$/"},
        {"Hi", "{not_matches: \"^w\"}", "{not_matches: \"o.l\"}", "matches /o.l/"},
        {"Hi", "{finish: stop}", "{finish: length}", "ended by stop, should be length"},
        {"Hi", "{tokens: {min: 3, max: 3}}", "{tokens: {max: 2}}", "3, should be at most 2"},
        {"Hi", "{tokens: {min: 3}}", "{tokens: {min: 4}}", "3, should be at least 4"},
        {"Hi", "{quality: true}", "{text: x, quality: true}", "text: is not"},
        {"Hi", "{repeats: 3}", "{repeats: 3, text: x}", "text: is not"},
        {"Hi", "{logprob: {at: 0, id: 2, min: -0.6}}", "{logprob: {at: 0, id: 3, min: -0.6}}",
         "logprob: -1.57"},
        {"Hi", "{memory: {min: 1MB}}", "{memory: {max: 1kB}}", "memory: "},
        {"json", "{json: {type: object, required: [a, b]}}", "{json: {required: [c]}}",
         "$ lacks \"c\""},
        {"json", "{json: {properties: {a: {items: {type: integer}}}}}",
         "{json: {properties: {a: {items: {type: string}}}}}", "$.a[0] is not of type string"},
        {"json", "{json: {properties: {n: {type: integer}, f: {type: number}}}}",
         "{json: {properties: {f: {type: integer}}}}", "$.f is not of type integer"},
        {"json", "{json: {properties: {b: {enum: [x, y], pattern: \"^x$\"}}}}",
         "{json: {properties: {b: {enum: [y]}}}}", "$.b is none of"},
        {"json", "{json: {properties: {a: {maxItems: 2}, b: {minLength: 1}}}}",
         "{json: {properties: {a: {maxItems: 1}}}}", "$.a: maxItems is 1, this is 2"},
        {"json", "{json: {properties: {a: {items: {minimum: 1}}}}}",
         "{json: {properties: {a: {items: {minimum: 2}}}}}", "$.a[0]: minimum is 2"},
        {"Hi", "{text: \" world!\"}", "{json: {type: object}}", "not one JSON value"},
        {"\"two\\n\\tlines\"", "{text: \"one\\ntwo\\n\\nthree\"}", "{contains: \"two\\nthree\"}",
         "contains: "},
        {"\"two\\n\\tlines\", stop: \"\\n\\n\"", "{text: \"one\\ntwo\"}", "{begins: \"one\\n\\n\"}",
         "begins: "},
    };
    struct bnt_buf report = BNT_BUF(1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (run_on_script(cases[i].prompt, cases[i].holds, &report) != BNT_OK) {
            fail_msg("%s should hold: %s", cases[i].holds, bnt_buf_view(&report));
        }
        enum bnt_status st = run_on_script(cases[i].prompt, cases[i].fails, &report);
        if (st != BNT_E_FAILED || !strstr(bnt_buf_view(&report), cases[i].says) ||
            !strstr(bnt_buf_view(&report), "the answer: ")) {
            fail_msg("%s should fail with '%s': %d, %s", cases[i].fails, cases[i].says, (int)st,
                     bnt_buf_view(&report));
        }
    }
    bnt_buf_release(&report);
}

/* A subject whose answer goes on behind a NUL, as that of a server may. */
static void describe_nul(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    (void)s;
    *out = (struct bnt_subject_facts){.kind = "http", .place = "", .can = BNT_CAN_GENERATE};
}

static enum bnt_status answer_nul(struct bnt_subject *s, const struct bnt_subject_request *r,
                                  struct bnt_subject_answer *out, struct bnt_err *err)
{
    static const char texts[][9] = {"Paris\0no", "Paris\0on"};
    (void)s;
    return bnt_buf_append(&out->made.text, texts[r->afresh], 8, err);
}

static void answer_goes_on_behind_a_nul(void **state)
{
    (void)state;
    static const struct bnt_subject_ops ops = {.describe = describe_nul, .generate = answer_nul};
    static const char *const fail[] = {"{text: Paris}", "{not_contains: \"no\"}",
                                       "{not_matches: \"no$\"}", "{matches: \"s$\"}",
                                       "{repeats: 2}"};
    struct bnt_subject subject = {&ops};
    for (size_t i = 0; i < sizeof fail / sizeof fail[0]; i++) {
        char text[256];
        struct user_suite s;
        struct bnt_err err = {0};
        struct bnt_buf report = BNT_BUF(1 << 16);
        snprintf(text, sizeof text, "tests: [{name: a, prompt: x, expect: %s}]\n", fail[i]);
        assert_int_equal(read_suite(&s, text, &err), BNT_OK);
        print_message("%s\n", fail[i]);
        assert_int_equal(user_test_run(&s.tests[0], &subject, &report, &err), BNT_E_FAILED);
        bnt_buf_release(&report);
        user_suite_release(&s);
    }
}

static void all_that_is_wrong_is_told_at_once(void **state)
{
    (void)state;
    struct bnt_buf report = BNT_BUF(1 << 16);
    assert_int_equal(
        run_on_script("Hi", "{contains: x, finish: length, tokens: {max: 1}}", &report),
        BNT_E_FAILED);
    assert_non_null(strstr(bnt_buf_view(&report), "contains: "));
    assert_non_null(strstr(bnt_buf_view(&report), "finish: "));
    assert_non_null(strstr(bnt_buf_view(&report), "tokens: "));
    bnt_buf_release(&report);
}

static void what_a_subject_cannot_do_is_no_failure_and_no_pass(void **state)
{
    (void)state;
    struct bnt_buf report = BNT_BUF(1 << 16);
    assert_int_equal(run_on_script("json", "{perplexity: {text: json, max: 2}}", &report),
                     BNT_E_UNSUPPORTED);
    assert_int_equal(run_on_script("fail", "{contains: x}", &report), BNT_E_INFERENCE);
    assert_non_null(strstr(bnt_buf_view(&report), "fell over"));
    assert_int_equal(run_on_script("nobody says this", "{contains: x}", &report), BNT_E_NOT_FOUND);
    bnt_buf_release(&report);
}

/* ---- programs ---- */

static void bnt_test(const char *line, int exit_code, struct suite_output *out)
{
    const char *const argv[] = {"/bin/sh", "-c", line, suite_bnt(), NULL};
    suite_run(argv, suite_scratch(), 0, out);
    if (out->exit != exit_code) {
        fail_msg("%s: exit %d: %s%s", line, out->exit, out->out, out->err);
    }
}

/* The digest of what the only test of s.bnt.yml depends on; it takes every kind of model. */
static void inputs_of(char hex[65])
{
    struct suite_output o;
    bnt_test("\"$0\" test s.bnt.yml --list --json", 0, &o);
    json_t *list = json_loads(o.out, 0, NULL);
    const json_t *test = json_array_get(json_object_get(list, "tests"), 0);
    snprintf(hex, 65, "%s", json_string_value(json_object_get(test, "inputs")));
    assert_int_equal(strlen(hex), 64);
    assert_string_equal(json_string_value(json_object_get(test, "subjects")),
                        "real,tiny,scripted,http");
    json_decref(list);
    suite_output_release(&o);
}

/* What was edited since its last pass, and a model that a test never passed on, go first. */
static void an_edited_suite_is_another_input(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], hex[4][65];
    static const char suite[] = "tests: [{name: a, prompt_file: p.txt, expect: {text: %s}}]\n";
    char text[128];
    for (int i = 0; i < 4; i++) { /* 0 and 1 are equal, 2 has another prompt, 3 expects more */
        snprintf(text, sizeof text, suite, i == 3 ? "z" : "y");
        fixture_write(fixture_path(path, "s.bnt.yml"), text);
        fixture_write(fixture_path(path, "p.txt"), i == 2 ? "b" : "a");
        inputs_of(hex[i]);
    }
    assert_string_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[0], hex[3]);
}

static void tests_of_one_name_are_told_with_their_files(void **state)
{
    (void)state;
    struct suite_output o;
    static const char *const lines[] = {"\"$0\" test lint .", "\"$0\" test . --history none"};
    bnt_test("mkdir de en && echo 'tests: [{name: a, prompt: x, max_tokens: 1, "
             "expect: {tokens: {min: 1}}}]' >de/s.bnt.yml && cp de/s.bnt.yml en/",
             0, &o);
    suite_output_release(&o);
    for (int i = 0; i < 2; i++) {
        bnt_test(lines[i], BNT_E_FILE, &o);
        assert_non_null(strstr(o.err, "/de/s.bnt.yml:1 and "));
        assert_non_null(strstr(o.err, "/en/s.bnt.yml:1: both tests are called s_a"));
        suite_output_release(&o);
    }
}

static void suites_behind_links_are_found(void **state)
{
    (void)state;
    struct suite_output o;
    bnt_test("mkdir far all && echo 'tests: [{name: a, prompt: x, expect: {text: y}}]' "
             ">far/a.bnt.yml && cp far/a.bnt.yml b && ln -s ../b all/b.bnt.yml && "
             "ln -s ../far ../all all/ && \"$0\" test lint --list all",
             0, &o);
    assert_string_equal(o.out, "b/b_a\na/a_a\n");
    suite_output_release(&o);
    bnt_test("ln -s nowhere all/c.bnt.yml && \"$0\" test lint all", BNT_E_NOT_FOUND, &o);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "user_suite_parameters_and_models_make_a_test_each",
     .body = parameters_and_models_make_a_test_each},
    {.name = "user_suite_relative_models_lie_beside_the_suite",
     .body = relative_models_lie_beside_the_suite},
    {.name = "user_suite_mistakes_are_errors_with_their_place",
     .body = mistakes_are_errors_with_their_place},
    {.name = "user_suite_schema_has_the_keys_that_are_read",
     .body = schema_has_the_keys_that_are_read,
     .needs = "source"},
    {.name = "user_suite_every_expectation_holds_and_fails",
     .body = every_expectation_holds_and_fails},
    {.name = "user_suite_answer_goes_on_behind_a_nul", .body = answer_goes_on_behind_a_nul},
    {.name = "user_suite_all_that_is_wrong_is_told_at_once",
     .body = all_that_is_wrong_is_told_at_once},
    {.name = "user_suite_what_a_subject_cannot_do_is_no_failure_and_no_pass",
     .body = what_a_subject_cannot_do_is_no_failure_and_no_pass},
    {.name = "user_suite_an_edited_suite_is_another_input",
     .body = an_edited_suite_is_another_input},
    {.name = "user_suite_tests_of_one_name_are_told_with_their_files",
     .body = tests_of_one_name_are_told_with_their_files},
    {.name = "user_suite_suites_behind_links_are_found", .body = suites_behind_links_are_found},
    {0},
};
const struct suite suite_user_suites = {"user_suites", tests, "user_contains user_range"};
