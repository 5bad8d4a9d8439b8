/* `bnt infer`: sessions from one run to the next, and several prompts in one run. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/msg.h"
#include "engine/cmd_infer_impl.h"

enum bnt_status infer_load_session(struct infer *in, struct bnt_err *err)
{
    const char *save = in->o->session_save;
    enum bnt_status kept = save ? bnt_session_check_kept(in->session, save, err) : BNT_OK;
    if (kept != BNT_OK) { /* told before the work that goes there */
        return kept;
    }
    if (in->o->session_load == NULL) {
        return BNT_OK;
    }
    enum bnt_status st = infer_need_digest(in, err);
    if (st == BNT_OK) {
        st = bnt_session_restore(in->session, in->o->session_load, in->ref.digest, err);
    }
    if (st == BNT_OK) {
        bnt_msg_verbose("%s: %u positions", in->o->session_load, bnt_session_n_past(in->session));
    }
    return st;
}

enum bnt_status infer_save_session(struct infer *in, struct bnt_err *err)
{
    if (in->o->session_save == NULL) {
        return BNT_OK;
    }
    enum bnt_status st = infer_need_digest(in, err);
    return st == BNT_OK ? bnt_session_save(in->session, in->o->session_save, in->ref.digest, err)
                        : st;
}

/* ---- Several prompts. */

/* One line, with an end in place of its newline. */
static enum bnt_status take_line(const char **at, const char *end, struct bnt_buf *line,
                                 struct bnt_err *err)
{
    const char *newline = memchr(*at, '\n', (size_t)(end - *at));
    size_t n = (size_t)((newline != NULL ? newline : end) - *at);
    bnt_buf_reset(line);
    enum bnt_status st = bnt_buf_append(line, *at, n, err);
    if (st == BNT_OK && line->len > 0 && line->data[line->len - 1] == '\r') {
        line->data[--line->len] = '\0';
    }
    *at += n + (newline != NULL);
    return st;
}

/* Each prompt is answered as if it were alone: the sampler begins anew. */
static enum bnt_status answer_line(struct infer *in, const struct bnt_buf *line, size_t number)
{
    char where[256];
    struct bnt_err err = {0};
    snprintf(where, sizeof where, "%.200s:%zu", in->o->prompts, number);
    bnt_ids_release(&in->prompt);
    bnt_sampler_free(in->sampler);
    in->sampler = NULL;
    return infer_make_sampler(in, &err) == BNT_OK ? infer_run_prompt(in, line, where)
                                                  : bnt_msg_error(&err);
}

enum bnt_status infer_run_prompts(struct infer *in)
{
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(INFER_MAX_PROMPT), line = BNT_BUF(INFER_MAX_PROMPT);
    enum bnt_status st = bnt_file_read(in->o->prompts, &text, &err);
    const char *at = bnt_buf_view(&text), *end = at + text.len;
    if (st == BNT_OK && text.len == 0) {
        st = bnt_err_set(&err, BNT_E_USAGE, "%s: there is no prompt in it", in->o->prompts);
    }
    st = st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
    for (size_t number = 1; st == BNT_OK && at < end; number++) {
        st = take_line(&at, end, &line, &err);
        st = st == BNT_OK ? answer_line(in, &line, number) : bnt_msg_error(&err);
    }
    bnt_buf_release(&text);
    bnt_buf_release(&line);
    return st;
}
