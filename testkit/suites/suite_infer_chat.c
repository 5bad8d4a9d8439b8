/* Guards `bnt infer --chat`: an answer to another text than the form says, a history that is lost,
 * or kept where it should not be. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "testkit/suites/infer_support.h"

static void chat_wants_a_form(void **state)
{
    (void)state;
    infer_fails(INFER("--chat", "-p", "Hi"), BNT_E_NOT_FOUND, "--chat-template");
    infer_fails(INFER("--chat", "--chat-template", "chatml", "-p", "Hi"), BNT_E_UNSUPPORTED,
                "<|im_start|>");
    infer_fails(INFER("--system", "x", "-p", "Hi"), BNT_E_USAGE, "--chat");
    infer_fails(INFER("--chat", "--raw", "--system", "x", "-p", "Hi"), BNT_E_USAGE, "--raw");
    infer_fails(INFER("--chat", "--json"), BNT_E_USAGE, "-p");
    struct infer_result raw = INFER("--chat", "--raw", "-p", "Once upon a time", "-n", "8");
    struct infer_result plain = INFER("-p", "Once upon a time", "-n", "8");
    assert_string_equal(raw.out, plain.out);
    infer_drop(&raw);
    infer_drop(&plain);
}

static void chat_turn_is_the_template_s(void **state)
{
    (void)state;
    struct infer_result r = INFER("--chat", "--chat-template", "bitnet", "--system", "Be kind.",
                                  "-p", "Hello", "-n", "4", "--json");
    struct infer_result same = INFER(
        "-p", "System: Be kind.<|eot_id|>User: Hello<|eot_id|>Assistant: ", "-n", "4", "--json");
    infer_expect(&r, BNT_OK);
    assert_string_equal(js_text(r.json, "chat_form"), "bitnet");
    assert_true(json_equal(js_get(r.json, "prompt_ids"), js_get(same.json, "prompt_ids")));
    assert_true(json_equal(js_get(r.json, "ids"), js_get(same.json, "ids")));
    infer_drop(&r);
    infer_drop(&same);
}

/* Lines of the answers of a conversation, the newlines inside answers included. */
static struct infer_result converse(const char *lines, const char *form, const char *n)
{
    return infer_run(lines,
                     (const char *const[]){"--chat", form != NULL ? "--chat-template" : "--raw",
                                           form != NULL ? form : "--deterministic", "-n", n, NULL});
}

static void conversation_has_a_history_until_reset(void **state)
{
    (void)state;
    static const char *const forms[] = {NULL, "bitnet", "zephyr"};
    for (size_t i = 0; i < 3; i++) {
        struct infer_result one = converse("Tom saw a dog.\n", forms[i], "24");
        struct infer_result two = converse("Tom saw a dog.\nWhat is its name?\n", forms[i], "24");
        struct infer_result second = converse("What is its name?\n", forms[i], "24");
        struct infer_result reset =
            converse("Tom saw a dog.\n/reset\nWhat is its name?\n", forms[i], "24");
        struct infer_result left =
            converse("Tom saw a dog.\n\n/exit\nThe dog ran.\n", forms[i], "24");
        infer_expect(&two, BNT_OK);
        char expected[8192];
        assert_true(strlen(one.out) > 1);
        assert_int_equal(strncmp(two.out, one.out, strlen(one.out)), 0);
        assert_string_equal(left.out, one.out);
        snprintf(expected, sizeof(expected), "%s%s", one.out, second.out);
        assert_string_equal(reset.out, expected);
        assert_string_not_equal(two.out, expected); /* the second answer knew of the first */
        infer_drop(&one);
        infer_drop(&two);
        infer_drop(&second);
        infer_drop(&reset);
        infer_drop(&left);
    }
}

/* The cache of a conversation holds what encoding its text anew would give. */
static void conversation_equals_one_long_prompt(void **state)
{
    (void)state;
    struct infer_result talk = converse("Tom saw a dog.\nThe dog ran.\n", "bitnet", "12");
    struct infer_result first = converse("Tom saw a dog.\n", "bitnet", "12");
    char prompt[4096];
    snprintf(prompt, sizeof(prompt),
             "User: Tom saw a dog.<|eot_id|>Assistant: %.*s<|eot_id|>User: The dog ran.<|eot_id|>"
             "Assistant: ",
             (int)strcspn(first.out, "\n"), first.out);
    struct infer_result whole = INFER("-p", prompt, "-n", "12");
    assert_string_equal(talk.out + strlen(first.out), whole.out);
    infer_drop(&talk);
    infer_drop(&first);
    infer_drop(&whole);
}

/* A stop string leaves ids in the cache that the conversation does not hold: they must go. */
static void conversation_forgets_what_a_stop_string_cut(void **state)
{
    (void)state;
    static const char *const options[] = {"--chat", "--chat-template", "bitnet", "-n",
                                          "12",     "--stop",          " want",  NULL};
    struct infer_result talk = infer_run("Tom saw a dog.\nThe dog ran.\n", options);
    struct infer_result first = infer_run("Tom saw a dog.\n", options);
    assert_string_equal(first.out, "Zoom, \"I\n");
    static const char rendered[] = "User: Tom saw a dog.<|eot_id|>Assistant: Zoom, \"I<|eot_id|>"
                                   "User: The dog ran.<|eot_id|>Assistant: ";
    struct infer_result whole = INFER("-p", rendered, "-n", "12", "--stop", " want");
    assert_string_equal(talk.out + strlen(first.out), whole.out);
    infer_drop(&talk);
    infer_drop(&first);
    infer_drop(&whole);
}

/* A turn that does not fit is refused and leaves the conversation as it was. */
static void conversation_survives_a_turn_too_long(void **state)
{
    (void)state;
    struct bnt_buf lines = BNT_BUF(8192);
    assert_int_equal(bnt_buf_puts(&lines, "Tom saw a dog.\n", NULL), BNT_OK);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(bnt_buf_puts(&lines, "The dog ran. ", NULL), BNT_OK);
    }
    assert_int_equal(bnt_buf_puts(&lines, "\nThe dog ran.\n", NULL), BNT_OK);
    struct infer_result r =
        infer_run(bnt_buf_view(&lines), (const char *const[]){"--chat", "--chat-template", "bitnet",
                                                              "-n", "12", "--ctx", "100", NULL});
    struct infer_result plain = converse("Tom saw a dog.\nThe dog ran.\n", "bitnet", "12");
    infer_expect(&r, BNT_OK);
    assert_non_null(strstr(r.err, "--ctx"));
    assert_string_equal(r.out, plain.out);
    infer_drop(&r);
    infer_drop(&plain);
    bnt_buf_release(&lines);
}

static const struct suite_test tests[] = {
    {.name = "infer_chat_wants_a_form", .body = chat_wants_a_form},
    {.name = "infer_chat_turn_is_the_template_s", .body = chat_turn_is_the_template_s},
    {.name = "infer_conversation_has_a_history_until_reset",
     .body = conversation_has_a_history_until_reset},
    {.name = "infer_conversation_equals_one_long_prompt",
     .body = conversation_equals_one_long_prompt},
    {.name = "infer_conversation_forgets_what_a_stop_string_cut",
     .body = conversation_forgets_what_a_stop_string_cut},
    {.name = "infer_conversation_survives_a_turn_too_long",
     .body = conversation_survives_a_turn_too_long},
    {0},
};

const struct suite suite_infer_chat = {"infer_chat", tests,
    "chat_opening chat_bos stop_across_tokens"};
