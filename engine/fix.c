/* One pass: validate, refuse or plan, write, validate what was written. Another packing is only
 * seen in a file that loads, so that a file with wrong alignment and a foreign packing takes two
 * passes, the second from the first one's temporary. */
#include "engine/fix.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/fault.h"
#include "base/file.h"
#include "engine/chat.h"
#include "engine/gguf_write.h"
#include "engine/model.h"
#include "engine/pretok.h"

enum { MAX_PASSES = 2, TAIL_BYTES = 32 };

static const char pre_key[] = "tokenizer.ggml.pre";
static const char template_key[] = "tokenizer.chat_template";

struct fix {
    const struct fix_options *o;
    struct fix_report *report;
    struct validate_report found; /* in the file that is read */
    struct gguf *g;               /* found.gguf */
    struct gguf_plan plan;
    enum i2s_layout layout; /* of the file's I2_S weights */
    struct bnt_err *err;
};

static void note(struct fix *f, const char *what, const char *fmt, ...) BNT_PRINTF(3, 4);

static void note(struct fix *f, const char *what, const char *fmt, ...)
{
    if (f->report->n == FIX_MAX_CHANGES) {
        return; /* there are not that many kinds */
    }
    struct fix_change *c = &f->report->changes[f->report->n++];
    c->what = what;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->text, sizeof c->text, fmt, ap);
    va_end(ap);
}

static bool has(const struct fix *f, int kind)
{
    for (size_t i = 0; i < f->found.n; i++) {
        if (f->found.findings[i].kind == kind) {
            return true;
        }
    }
    return false;
}

/* ---- what can be put right ---- */

static enum bnt_status refuse(const struct fix *f, const struct validate_finding *finding)
{
    bnt_err_hint(f->err, "%s", finding->hint);
    return bnt_err_set(f->err, finding->status, "this cannot be put right: %s: %s",
                       validate_class_info(finding->kind).name, finding->message);
}

/* With a wrong alignment the place of the data is a guess, which the end of the file confirms. */
static bool ends_with_tensors(const struct gguf *g)
{
    uint64_t end = g->data_offset, padded;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        end = t->offset + t->size > end ? t->offset + t->size : end;
    }
    return end == g->file_size || (bnt_align_u64(end - g->data_offset, g->alignment, &padded) &&
                                   g->data_offset + padded == g->file_size);
}

static enum bnt_status check_findings(const struct fix *f)
{
    for (size_t i = 0; i < f->found.n; i++) {
        const struct validate_finding *finding = &f->found.findings[i];
        bool fixable = validate_class_info(finding->kind).fixable;
        if (finding->severity == VALIDATE_ERROR && !fixable) {
            return refuse(f, finding);
        }
    }
    if (has(f, GGUF_FAULT_ALIGNMENT) && !ends_with_tensors(f->g)) {
        bnt_err_hint(f->err, "fetch the file again");
        return bnt_err_set(f->err, BNT_E_FILE,
                           "this cannot be put right: with the alignment wrong, nothing says where "
                           "the tensors begin (the last one does not end with the file)");
    }
    return BNT_OK;
}

/* ---- keys ---- */

static bool is_power_of_two(uint64_t a)
{
    return a >= 8 && (a & (a - 1)) == 0;
}

static enum bnt_status fix_alignment(struct fix *f)
{
    uint64_t stated = 0;
    bool said = gguf_find(f->g, "general.alignment") != NULL;
    bool number = gguf_get_u64(f->g, "general.alignment", &stated);
    f->plan.alignment =
        is_power_of_two(f->g->alignment) ? (uint32_t)f->g->alignment : GPLAN_DEFAULT_ALIGNMENT;
    if (!has(f, GGUF_FAULT_ALIGNMENT)) {
        return BNT_OK;
    }
    if (said && !(number && is_power_of_two(stated))) {
        note(f, "alignment", "general.alignment was %llu and is %u", (unsigned long long)stated,
             f->plan.alignment);
        gplan_drop(&f->plan, "general.alignment");
    } else {
        note(f, "alignment", "tensors begin at multiples of %u", f->plan.alignment);
    }
    return BNT_OK;
}

/* The one asked for, or the one that the vocabulary shows. */
static enum bnt_status choose_pre(const struct fix *f, char pre[FIX_TEXT_BYTES])
{
    struct bnt_tokenizer *t = NULL;
    const char *family;
    if (f->o->pre) {
        snprintf(pre, FIX_TEXT_BYTES, "%s", f->o->pre);
        return BNT_OK;
    }
    struct bnt_tokenizer_options opts = {.pre = "default"};
    enum bnt_status st = bnt_tokenizer_new(f->g, &opts, &t, f->err);
    const char *known = st == BNT_OK ? bnt_tokenizer_recognise(t, &family) : NULL;
    if (known) {
        snprintf(pre, FIX_TEXT_BYTES, "%s", known);
    } else if (st == BNT_OK) {
        bnt_err_hint(f->err, "name the one it was trained with: --pre NAME");
        st = bnt_err_set(f->err, BNT_E_UNSUPPORTED,
                         "no %s, and the vocabulary is none that is known here", pre_key);
    }
    bnt_tokenizer_free(t);
    return st;
}

static enum bnt_status fix_pre(struct fix *f)
{
    char pre[FIX_TEXT_BYTES];
    struct gguf_str said = {"", 0};
    struct gguf_str model = {"", 0};
    gguf_get_str(f->g, "tokenizer.ggml.model", &model);
    if (f->o->pre && !gguf_str_eq(model, "gpt2")) {
        return bnt_err_set(f->err, BNT_E_USAGE, "--pre: a vocabulary of this kind has none");
    }
    gguf_get_str(f->g, pre_key, &said);
    bool other = f->o->pre && !gguf_str_eq(said, f->o->pre);
    if (!has(f, VALIDATE_PRE_TOKENIZER) && !other) {
        return BNT_OK;
    }
    enum bnt_status st = choose_pre(f, pre);
    if (st == BNT_OK) {
        st = gplan_put_str(&f->plan, pre_key, pre, f->err);
    }
    if (st == BNT_OK) {
        note(f, "pre-tokenizer", "%s is %s%s", pre_key, pre, said.len ? "" : " (it was missing)");
    }
    return st;
}

static enum bnt_status fix_template(struct fix *f)
{
    if (!has(f, VALIDATE_CHAT_TEMPLATE) || BNT_FAULT(fix_template)) {
        return BNT_OK;
    }
    note(f, "chat-template", "%s is the one that bitnet-b1.58-2B-4T was trained with",
         template_key);
    return gplan_put_str(&f->plan, template_key, bnt_chat_bitnet_template(), f->err);
}

static void note_format(struct fix *f)
{
    if (f->g->version != 3) {
        note(f, "version", "GGUF version %u became 3", f->g->version);
    }
    if (f->g->big_endian) {
        note(f, "byte-order", "big-endian became little-endian");
    }
    if (has(f, VALIDATE_PADDING)) {
        note(f, "padding", "bytes that belonged to no tensor are gone");
    }
}

static enum bnt_status fix_packing(struct fix *f)
{
    const char *layout = f->found.run.i2s_layout;
    f->layout = I2S_X86;
    if (!has(f, VALIDATE_PACKING)) {
        return BNT_OK;
    }
    enum bnt_status st = i2s_layout_parse(layout, &f->layout, f->err);
    if (st == BNT_OK && gguf_find(f->g, I2S_LAYOUT_KEY)) {
        st = gplan_put_str(&f->plan, I2S_LAYOUT_KEY, i2s_layout_name(I2S_X86), f->err);
    }
    note(f, "packing", "I2_S weights were packed %s and are %s", layout, i2s_layout_name(I2S_X86));
    return st;
}

static enum bnt_status plan(struct fix *f)
{
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < f->g->n_kv; i++) {
        st = gplan_put_copy(&f->plan, f->g, &f->g->kv[i], f->err);
    }
    for (uint64_t i = 0; st == BNT_OK && i < f->g->n_tensors; i++) {
        st = gplan_copy_tensor(&f->plan, &f->g->tensors[i], f->err);
    }
    if (st == BNT_OK) {
        st = fix_alignment(f);
    }
    if (st == BNT_OK) {
        st = fix_pre(f);
    }
    if (st == BNT_OK) {
        st = fix_template(f);
    }
    if (st == BNT_OK) {
        st = fix_packing(f);
    }
    note_format(f);
    return st;
}

/* ---- tensors ---- */

/* The whole tensor in memory three times over: its bytes, its codes, its bytes. */
static enum bnt_status repack(const struct fix *f, struct gguf_writer *w,
                              const struct gguf_tensor *t)
{
    uint64_t cols = t->ne[0], rows = t->ne[1] * t->ne[2] * t->ne[3];
    uint8_t *bytes = malloc((size_t)t->size);
    int8_t *codes = malloc((size_t)(rows * cols));
    struct ternary_source src = {.type = t->type,
                                 .data = bytes,
                                 .size = t->size,
                                 .rows = rows,
                                 .cols = cols,
                                 .layout = f->layout};
    float scale = 0;
    uint8_t tail[TAIL_BYTES]; /* the scale, and what the quantiser left behind it */
    char name[GGUF_MAX_NAME_BYTES + 1];
    gplan_name(name, t->name);
    enum bnt_status st = bytes && codes ? gguf_tensor_read(f->g, t, 0, t->size, bytes, f->err)
                                        : bnt_err_nomem(f->err, name, t->size + rows * cols);
    if (st == BNT_OK) {
        st = ternary_decode(&src, 0, rows, codes, &scale, f->err);
    }
    if (st == BNT_OK) {
        memcpy(tail, bytes + t->size - TAIL_BYTES, TAIL_BYTES);
        src.layout = I2S_X86;
        st = ternary_encode(&src, codes, scale, bytes, f->err);
        memcpy(bytes + t->size - TAIL_BYTES, tail, TAIL_BYTES);
    }
    if (st == BNT_OK) {
        st = gguf_writer_begin(w, name, f->err);
    }
    if (st == BNT_OK) {
        st = gguf_writer_put(w, bytes, (size_t)t->size, f->err);
    }
    free(bytes);
    free(codes);
    return st;
}

static enum bnt_status write_copy(struct fix *f, const char *out, struct gguf_writer *w)
{
    enum bnt_status st = gguf_writer_open(w, &f->plan, out, f->err);
    for (uint64_t i = 0; st == BNT_OK && i < f->g->n_tensors; i++) {
        const struct gguf_tensor *t = &f->g->tensors[i];
        bool foreign = t->type == TENSOR_I2_S && f->layout != I2S_X86 && !BNT_FAULT(fix_packing);
        st = foreign ? repack(f, w, t) : gguf_writer_copy(w, f->g, t, f->err);
        gguf_tensor_release(f->g, t);
    }
    return st == BNT_OK ? gguf_writer_finish(w, f->err) : st;
}

/* ---- passes ---- */

static enum bnt_status look(struct fix *f, const char *path)
{
    const struct validate_options v = {.level = VALIDATE_COMPREHENSIVE,
                                       .profile = VALIDATE_RUNTIME,
                                       .tl_tiles = f->o->tl_tiles,
                                       .n_tl_tiles = f->o->n_tl_tiles,
                                       .interrupted = f->o->interrupted};
    enum bnt_status st = validate_file(path, &v, &f->found, f->err);
    f->g = f->found.gguf;
    return st;
}

static void release(struct fix *f)
{
    validate_release(&f->found);
    gplan_release(&f->plan);
    f->g = NULL;
}

static enum bnt_status make_copy(struct fix *f, const char *in, const char *out,
                                 struct gguf_writer *w)
{
    gplan_init(&f->plan);
    enum bnt_status st = look(f, in);
    if (st == BNT_OK) {
        st = check_findings(f);
    }
    if (st == BNT_OK) {
        st = plan(f);
    }
    return st == BNT_OK ? write_copy(f, out, w) : st;
}

/* True when the copy has what a further pass can put right. An error that none can is refused. */
static enum bnt_status check_copy(struct fix *f, const char *path, bool *again)
{
    struct fix copy = {.o = f->o, .report = f->report, .err = f->err};
    enum bnt_status st = look(&copy, path);
    *again = false;
    for (size_t i = 0; st == BNT_OK && i < copy.found.n; i++) {
        const struct validate_finding *finding = &copy.found.findings[i];
        bool fixable = validate_class_info(finding->kind).fixable;
        *again = *again || fixable;
        if (finding->severity == VALIDATE_ERROR && !fixable) {
            st = refuse(&copy, finding);
        }
    }
    f->report->n_warnings = copy.found.n_of[VALIDATE_WARNING];
    release(&copy);
    return st;
}

/* in: the file, or the temporary of the pass before. */
static enum bnt_status pass(struct fix *f, const char *in, const char *out, int n)
{
    struct gguf_writer w = {.interrupted = f->o->interrupted};
    bool again = false;
    enum bnt_status st = make_copy(f, in, out, &w);
    if (st == BNT_OK) {
        st = check_copy(f, w.file.temp, &again);
    }
    if (st == BNT_OK && again && n == MAX_PASSES) {
        st = bnt_err_set(f->err, BNT_E_INTERNAL, "%s: the copy still has what was corrected", in);
    }
    if (st == BNT_OK && again) {
        struct fix next = {.o = f->o, .report = f->report, .err = f->err};
        st = pass(&next, w.file.temp, out, n + 1);
    } else if (st == BNT_OK) {
        f->report->bytes = w.bytes;
        st = gguf_writer_commit(&w, f->report->digest, f->err);
    }
    release(f);
    gguf_writer_release(&w);
    return st;
}

static enum bnt_status check_target(const char *in, const char *out, const struct fix_options *o,
                                    struct bnt_err *err)
{
    struct stat b;
    if (o->pre && !pretok_find(o->pre, strlen(o->pre))) {
        bnt_err_hint(err, "bnt tokenize --help names them");
        return bnt_err_set(err, BNT_E_USAGE, "pre-tokenizer %s is not known here", o->pre);
    }
    if (bnt_same_file(in, out)) {
        bnt_err_hint(err, "name another file: the original is never written to");
        return bnt_err_set(err, BNT_E_USAGE, "%s and %s are one file", in, out);
    }
    if (stat(out, &b) == 0 && (!o->overwrite || !S_ISREG(b.st_mode))) {
        bnt_err_hint(err, "name another file, or give --force");
        return bnt_err_set(err, BNT_E_USAGE, "%s exists", out);
    }
    return bnt_file_may_write(out, err);
}

enum bnt_status fix_file(const char *in, const char *out, const struct fix_options *o,
                         struct fix_report *report, struct bnt_err *err)
{
    *report = (struct fix_report){.n = 0};
    struct fix f = {.o = o, .report = report, .err = err};
    enum bnt_status st = check_target(in, out, o, err);
    return st == BNT_OK ? pass(&f, in, out, 1) : st;
}
