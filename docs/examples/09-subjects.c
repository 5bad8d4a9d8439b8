/* Subjects: one body of a test, run on a mock made for it and on the model that was named. The body
 * never asks which one it has, only what it can do.
 *
 *     build/release/examples/09-subjects engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/msg.h"
#include "testkit/subject.h"

/* What holds for any subject that can tell ids: an answer of the asked length, twice the same. */
static enum bnt_status answers_twice_the_same(struct bnt_subject *s, struct bnt_err *err)
{
    static const char prompt[] = "The quick brown fox";
    const struct bnt_subject_request request = {
        .prompt = prompt, .prompt_len = strlen(prompt), .max_tokens = 8, .ignore_eos = true};
    struct bnt_subject_answer a[2];
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < 2; i++) {
        bnt_subject_answer_init(&a[i]);
        st = st == BNT_OK ? bnt_subject_generate(s, &request, &a[i], err) : st;
    }
    const struct bnt_ids *x = &a[0].made.ids;
    const struct bnt_ids *y = &a[1].made.ids;
    if (st == BNT_OK && (x->n != 8 || y->n != 8 || memcmp(x->at, y->at, 8 * sizeof *x->at) != 0)) {
        st = bnt_err_set(err, BNT_E_FAILED, "one prompt has two answers");
    }
    bnt_subject_answer_release(&a[0]);
    bnt_subject_answer_release(&a[1]);
    return st;
}

static enum bnt_status check(struct bnt_subject *s, struct bnt_err *err)
{
    const struct bnt_subject_facts facts = bnt_subject_describe(s);
    if (!(facts.can & BNT_CAN_IDS)) {
        printf("skipped on %s: it tells no ids\n", facts.kind);
        return BNT_OK;
    }
    enum bnt_status st = answers_twice_the_same(s, err);
    if (st != BNT_OK) {
        return bnt_err_context(err, "on %s", facts.kind);
    }
    printf("holds on %s (%s, %u tokens)\n", facts.kind, facts.arch, facts.n_vocab);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    struct bnt_model_ref named = {.kind = "real"}; /* corrected by what the file says */
    struct bnt_subject *subjects[2] = {NULL, NULL};
    enum bnt_status st = bnt_subject_open(NULL, "tiny:7", NULL, &subjects[0], err);
    if (st == BNT_OK) {
        st = bnt_path_format(named.path, err, "%s", path);
    }
    if (st == BNT_OK) {
        st = bnt_subject_open_model(&named, NULL, &subjects[1], err);
    }
    for (size_t i = 0; i < 2; i++) {
        st = st == BNT_OK ? check(subjects[i], err) : st;
        bnt_subject_close(subjects[i]);
    }
    return st;
}

int main(int argc, char **argv)
{
    struct bnt_err err = {0};
    if (argc != 2) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "usage: %s MODEL", argv[0]);
    }
    return show(argv[1], &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}
