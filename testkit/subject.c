/* What all subjects share: the checks in front of the table, and which opener a word means. */
#include "testkit/subject.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "mock/bnt_mock.h"

void bnt_subject_answer_init(struct bnt_subject_answer *a)
{
    a->prompt_ids = (struct bnt_ids){0};
    a->ids_end_early = false;
    bnt_generation_init(&a->made);
}

void bnt_subject_answer_release(struct bnt_subject_answer *a)
{
    bnt_ids_release(&a->prompt_ids);
    bnt_generation_release(&a->made);
}

void bnt_row_init(struct bnt_row *row)
{
    *row = (struct bnt_row){0};
}

void bnt_row_release(struct bnt_row *row)
{
    free(row->at);
    json_decref(row->answer);
    bnt_row_init(row);
}

/* ---- the table ---- */

static enum bnt_status cannot(const struct bnt_subject *s, const char *what, struct bnt_err *err)
{
    struct bnt_subject_facts f = bnt_subject_describe(s);
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "a subject of kind %s (%s) cannot %s", f.kind,
                       f.place, what);
}

static bool can(const struct bnt_subject *s, unsigned what)
{
    return (bnt_subject_describe(s).can & what) == what;
}

struct bnt_subject_facts bnt_subject_describe(const struct bnt_subject *s)
{
    struct bnt_subject_facts f = {.kind = "", .name = "", .arch = "", .place = "", .digest = ""};
    s->ops->describe(s, &f);
    return f;
}

enum bnt_status bnt_subject_tokenize(struct bnt_subject *s, const char *text, size_t len,
                                     unsigned flags, struct bnt_ids *out, struct bnt_err *err)
{
    return can(s, BNT_CAN_TOKENIZE) ? s->ops->tokenize(s, text, len, flags, out, err)
                                    : cannot(s, "turn text into ids", err);
}

enum bnt_status bnt_subject_evaluate(struct bnt_subject *s, const int32_t *ids, size_t n,
                                     bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    return can(s, BNT_CAN_EVALUATE) ? s->ops->evaluate(s, ids, n, fn, ctx, err)
                                    : cannot(s, "give logits", err);
}

/* What a request needs beyond generation; NULL: nothing that is not there. */
static const char *missing(const struct bnt_subject *s, const struct bnt_subject_request *r)
{
    const struct {
        bool wanted;
        unsigned can;
        const char *what;
    } needs[] = {{true, BNT_CAN_GENERATE, "generate"},
                 {!r->prompt, BNT_CAN_IDS, "take a prompt as ids"},
                 {r->sampling && r->sampling->temperature > 0, BNT_CAN_SAMPLE, "sample"}};
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if (needs[i].wanted && !can(s, needs[i].can)) {
            return needs[i].what;
        }
    }
    return NULL;
}

static enum bnt_status check_request(const struct bnt_subject *s,
                                     const struct bnt_subject_request *r, unsigned tells,
                                     struct bnt_err *err)
{
    if (!r->prompt == !r->ids) {
        return bnt_err_set(err, BNT_E_USAGE, "a request has a prompt as text or as ids");
    }
    const char *what = r->n_logprobs > 0 && !can(s, tells) ? "tell log-probabilities" : NULL;
    what = missing(s, r) ? missing(s, r) : what;
    return what ? cannot(s, what, err) : BNT_OK;
}

enum bnt_status bnt_subject_generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                     struct bnt_subject_answer *out, struct bnt_err *err)
{
    enum bnt_status st = check_request(s, r, BNT_CAN_LOGPROBS, err);
    return st == BNT_OK ? s->ops->generate(s, r, out, err) : st;
}

enum bnt_status bnt_subject_row(struct bnt_subject *s, const struct bnt_subject_request *r,
                                uint32_t at, struct bnt_row *out, struct bnt_err *err)
{
    enum bnt_status st = r->n_logprobs == 0
                             ? bnt_err_set(err, BNT_E_USAGE, "a row has at least one entry")
                             : check_request(s, r, BNT_CAN_ROWS, err);
    return st == BNT_OK ? s->ops->row(s, r, at, out, err) : st;
}

enum bnt_status bnt_subject_taps(struct bnt_subject *s, const int32_t *ids, size_t n,
                                 const struct bnt_tap *tap, struct bnt_err *err)
{
    return can(s, BNT_CAN_TAPS) ? s->ops->taps(s, ids, n, tap, err)
                                : cannot(s, "show what it computes", err);
}

void bnt_subject_close(struct bnt_subject *s)
{
    if (s) {
        s->ops->close(s);
    }
}

/* ---- openers ---- */

typedef enum bnt_status opener_fn(const char *rest, const struct bnt_subject_options *opts,
                                  struct bnt_subject **out, struct bnt_err *err);

static enum bnt_status open_scripted(const char *rest, const struct bnt_subject_options *opts,
                                     struct bnt_subject **out, struct bnt_err *err)
{
    (void)opts;
    return bnt_subject_open_scripted(rest, out, err);
}

/* The file of a mock is gone once it is mapped. */
static enum bnt_status open_temporary(uint64_t seed, const struct bnt_subject_options *opts,
                                      struct bnt_subject **out, struct bnt_err *err)
{
    struct bnt_mock_made made;
    struct bnt_mock_recipe recipe = {.seed = seed};
    struct bnt_model_ref ref = {.kind = "tiny"};
    enum bnt_status st = bnt_path_format(ref.path, err, "%s/bnt-tiny-XXXXXX", bnt_temp_dir());
    int fd = st == BNT_OK ? mkstemp(ref.path) : -1;
    if (fd < 0) {
        return st != BNT_OK ? st : bnt_err_errno(err, "no place for a tiny model: %s", ref.path);
    }
    close(fd);
    st = bnt_mock_make(&recipe, ref.path, &made, err);
    if (st == BNT_OK) {
        memcpy(ref.digest, made.digest, sizeof ref.digest);
        st = bnt_subject_open_model(&ref, opts, out, err);
    }
    (void)unlink(ref.path);
    return st;
}

static enum bnt_status open_tiny(const char *rest, const struct bnt_subject_options *opts,
                                 struct bnt_subject **out, struct bnt_err *err)
{
    char *end;
    errno = 0;
    unsigned long long seed = rest[0] ? strtoull(rest, &end, 10) : 1;
    if (rest[0] && (*end != '\0' || errno != 0 || rest[0] == '-')) {
        return bnt_err_set(err, BNT_E_USAGE, "tiny:%s: the seed is no whole number", rest);
    }
    return open_temporary(seed, opts, out, err);
}

static const struct {
    const char *prefix;
    opener_fn *open;
    bool whole; /* it wants the prefix, too */
} openers[] = {
    {"scripted:", open_scripted, false},
    {"tiny:", open_tiny, false},
    {"http://", bnt_subject_open_http, true},
    {"https://", bnt_subject_open_http, true},
};

enum bnt_status bnt_subject_open(const struct bnt_app *app, const char *spec,
                                 const struct bnt_subject_options *opts, struct bnt_subject **out,
                                 struct bnt_err *err)
{
    struct bnt_model_ref ref;
    for (size_t i = 0; spec && i < sizeof openers / sizeof openers[0]; i++) {
        size_t n = strlen(openers[i].prefix);
        if (strncmp(spec, openers[i].prefix, n) == 0) {
            return openers[i].open(openers[i].whole ? spec : spec + n, opts, out, err);
        }
    }
    enum bnt_status st = app->resolve_model(app, spec, &ref, err);
    return st == BNT_OK ? bnt_subject_open_model(&ref, opts, out, err) : st;
}
