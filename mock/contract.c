#include "mock/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/utf8.h"
#include "engine/unicode.h"
#include "engine/shape.h"
#include "mock/contract_impl.h"
#include "mock/line_diff.h"

static const char first_line[] = "bnt contract 1";

/* ---- lines ---- */

enum bnt_status contract_quote(struct bnt_buf *out, const char *text, size_t n, struct bnt_err *err)
{
    const unsigned char *s = (const unsigned char *)text;
    enum bnt_status st = bnt_buf_putc(out, '"', err);
    for (size_t i = 0; st == BNT_OK && i < n;) {
        unsigned len = bnt_utf8_len(s + i, n - i);
        if (len == 1 && s[i] >= 0x20 && s[i] < 0x7f) {
            bool escaped = s[i] == '"' || s[i] == '\\';
            st = bnt_buf_printf(out, err, "%s%c", escaped ? "\\" : "", s[i]);
        } else if (len > 1) {
            uni_char c;
            uni_scan(text + i, len, &c);
            st = bnt_buf_printf(out, err, "\\u{%x}", uni_cp(c));
        } else {
            st = bnt_buf_printf(out, err, "\\x%02x", s[i]);
        }
        i += len ? len : 1;
    }
    return st == BNT_OK ? bnt_buf_putc(out, '"', err) : st;
}

/* A growing list of lines, sorted before they are written: their order says nothing. */
struct sorted {
    char **at;
    size_t n, cap;
};

static enum bnt_status sorted_add(struct sorted *l, const char *line, struct bnt_err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        char **grown = realloc(l->at, cap * sizeof *grown);
        if (!grown) {
            return bnt_err_nomem(err, "lines", cap);
        }
        l->at = grown;
        l->cap = cap;
    }
    l->at[l->n] = strdup(line);
    return l->at[l->n++] ? BNT_OK : bnt_err_nomem(err, "a line", strlen(line));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sorted_sort(struct sorted *l)
{
    if (l->n > 1) {
        qsort(l->at, l->n, sizeof *l->at, by_text);
    }
}

static void sorted_release(struct sorted *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->at[i]);
    }
    free(l->at);
}

static enum bnt_status sorted_write(struct sorted *l, struct bnt_buf *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    sorted_sort(l);
    for (size_t i = 0; st == BNT_OK && i < l->n; i++) {
        st = bnt_buf_printf(out, err, "%s\n", l->at[i]);
    }
    return st;
}

/* ---- header sections ---- */

static enum bnt_status format(struct derivation *d, struct bnt_err *err)
{
    return bnt_buf_printf(d->out, err, "version %u\nbyte order %s\nalignment %llu\n", d->g->version,
                          d->g->big_endian ? "big" : "little", (unsigned long long)d->g->alignment);
}

static bool of_a_mock(const struct gguf_kv *kv)
{
    return kv->key.len > 13 && memcmp(kv->key.data, "general.mock.", 13) == 0;
}

/* What a line says of a key, behind its name. */
typedef enum bnt_status key_fn(struct derivation *d, const struct gguf_kv *kv, struct bnt_buf *line,
                               struct bnt_err *err);

/* A line for each key, in order of their names. */
static enum bnt_status each_key(struct derivation *d, key_fn *fn, struct bnt_err *err)
{
    struct sorted lines = {0};
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < d->g->n_kv; i++) {
        const struct gguf_kv *kv = &d->g->kv[i];
        struct bnt_buf line = BNT_BUF(1 << 20);
        if (of_a_mock(kv)) {
            continue;
        }
        st = bnt_buf_printf(&line, err, "%.*s ", (int)kv->key.len, kv->key.data);
        st = st == BNT_OK ? fn(d, kv, &line, err) : st;
        st = st == BNT_OK ? sorted_add(&lines, bnt_buf_view(&line), err) : st;
        bnt_buf_release(&line);
    }
    st = st == BNT_OK ? sorted_write(&lines, d->out, err) : st;
    sorted_release(&lines);
    return st;
}

static enum bnt_status put_type(struct derivation *d, const struct gguf_kv *kv,
                                struct bnt_buf *line, struct bnt_err *err)
{
    (void)d;
    enum bnt_status st = bnt_buf_puts(line, gguf_value_type_name(kv->type), err);
    if (st == BNT_OK && kv->type == GGUF_ARR) {
        st = bnt_buf_printf(line, err, " of %s", gguf_value_type_name(kv->elem_type));
    }
    if (st == BNT_OK && gguf_str_eq(kv->key, "general.architecture")) {
        st = bnt_buf_putc(line, ' ', err);
        st = st == BNT_OK ? contract_quote(line, (const char *)kv->raw, kv->raw_len, err) : st;
    }
    return st;
}

static enum bnt_status metadata(struct derivation *d, struct bnt_err *err)
{
    return each_key(d, put_type, err);
}

enum { VALUE_TEXT_MAX = 64 }; /* bytes of a text that is written out */

static enum bnt_status put_value(struct derivation *d, const struct gguf_kv *kv,
                                 struct bnt_buf *line, struct bnt_err *err)
{
    char key[256];
    uint64_t whole;
    int64_t negative;
    double number;
    bool flag;
    if (kv->type == GGUF_ARR) {
        return bnt_buf_printf(line, err, "%llu elements", (unsigned long long)kv->n);
    }
    if (kv->type == GGUF_STR) {
        return kv->raw_len <= VALUE_TEXT_MAX
                   ? contract_quote(line, (const char *)kv->raw, kv->raw_len, err)
                   : bnt_buf_printf(line, err, "more than %d bytes", VALUE_TEXT_MAX);
    }
    snprintf(key, sizeof key, "%.*s", kv->key.len < 255 ? (int)kv->key.len : 255, kv->key.data);
    if (gguf_get_bool(d->g, key, &flag)) {
        return bnt_buf_puts(line, flag ? "true" : "false", err);
    }
    if (gguf_get_u64(d->g, key, &whole)) {
        return bnt_buf_printf(line, err, "%llu", (unsigned long long)whole);
    }
    if (gguf_get_i64(d->g, key, &negative)) {
        return bnt_buf_printf(line, err, "%lld", (long long)negative);
    }
    return gguf_get_f64(d->g, key, &number) ? bnt_buf_printf(line, err, "%.9g", number)
                                            : bnt_buf_puts(line, "of an unknown form", err);
}

static enum bnt_status values(struct derivation *d, struct bnt_err *err)
{
    return each_key(d, put_value, err);
}

enum { LINE_BYTES = 512 };

/* "blk.*.attn_q.weight I2_S n_embd x n_head*head_dim" where the shape is what the table says; else
 * the name and the numbers as they are. */
static void tensor_line(const struct gguf_tensor *t, const struct shape_dims *dims, bool pattern,
                        char out[LINE_BYTES])
{
    uint32_t layer;
    const struct shape_rule *rule = shape_find(t->name, &layer);
    const char *type = tensor_type_name((uint32_t)t->type);
    uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    bool derived = rule && t->ne[0] == dims->n[rule->cols] && rows == dims->n[rule->rows];
    if (derived && pattern) {
        bool vector = rule->rows == SHAPE_ONE;
        snprintf(out, LINE_BYTES, "%s%s %s %s%s%s", rule->per_layer ? "blk.*." : "", rule->name,
                 type, shape_dim_name(rule->cols), vector ? "" : " x ",
                 vector ? "" : shape_dim_name(rule->rows));
    } else {
        snprintf(out, LINE_BYTES, "%.*s %s %llu x %llu x %llu x %llu", (int)t->name.len,
                 t->name.data, type, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                 (unsigned long long)t->ne[2], (unsigned long long)t->ne[3]);
    }
}

/* A pattern of layers that not every layer has is written layer by layer. */
static enum bnt_status tensor_lines(struct derivation *d, const struct shape_dims *dims,
                                    struct sorted *patterns, struct sorted *lines,
                                    struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    char line[LINE_BYTES];
    for (uint64_t i = 0; st == BNT_OK && i < d->g->n_tensors; i++) {
        tensor_line(&d->g->tensors[i], dims, true, line);
        st = sorted_add(patterns, line, err);
    }
    sorted_sort(patterns);
    for (uint64_t i = 0; st == BNT_OK && i < d->g->n_tensors; i++) {
        tensor_line(&d->g->tensors[i], dims, true, line);
        size_t n = 0;
        for (size_t k = 0; k < patterns->n; k++) {
            n += strcmp(patterns->at[k], line) == 0;
        }
        bool per_layer = strncmp(line, "blk.*.", 6) == 0;
        if (per_layer && n != dims->n_layer) {
            tensor_line(&d->g->tensors[i], dims, false, line);
        }
        st = sorted_add(lines, line, err);
    }
    return st;
}

static enum bnt_status tensors(struct derivation *d, struct bnt_err *err)
{
    struct sorted patterns = {0}, lines = {0};
    struct shape_dims dims;
    struct gguf_str arch = {"", 0};
    char name[128];
    gguf_get_str(d->g, "general.architecture", &arch);
    snprintf(name, sizeof name, "%.*s", arch.len < 100 ? (int)arch.len : 100, arch.data);
    enum bnt_status st = shape_read(d->g, name, &dims, err);
    if (st == BNT_OK) {
        st = tensor_lines(d, &dims, &patterns, &lines, err);
    }
    sorted_sort(&lines);
    for (size_t i = 0; st == BNT_OK && i < lines.n; i++) {
        if (i == 0 || strcmp(lines.at[i - 1], lines.at[i]) != 0) {
            st = bnt_buf_printf(d->out, err, "%s\n", lines.at[i]);
        }
    }
    sorted_release(&patterns);
    sorted_release(&lines);
    return st;
}

static enum bnt_status numbers(struct derivation *d, struct bnt_err *err)
{
    const struct bnt_model_info *i = bnt_model_info(d->model);
    return bnt_buf_printf(
        d->out, err,
        "n_layer %u\nn_embd %u\nn_ff %u\nn_head %u\nn_head_kv %u\nhead_dim %u\nn_vocab %u\n"
        "n_ctx_train %u\nrope base %.9g\nnorm epsilon %.9g\nhead %s\n",
        i->n_layer, i->n_embd, i->n_ff, i->n_head, i->n_head_kv, i->head_dim, i->n_vocab,
        i->n_ctx_train, i->rope_theta, i->rms_eps, i->tied_head ? "the embedding" : "its own");
}

/* ---- the frame ---- */

typedef enum bnt_status section_fn(struct derivation *d, struct bnt_err *err);

static const struct section {
    const char *name;
    unsigned bit;
    section_fn *write;
} table[] = {
    {"format", BNT_CONTRACT_FORMAT, format},
    {"metadata", BNT_CONTRACT_METADATA, metadata},
    {"tensors", BNT_CONTRACT_TENSORS, tensors},
    {"numbers", BNT_CONTRACT_NUMBERS, numbers},
    {"tokenizer", BNT_CONTRACT_TOKENIZER, contract_tokenizer},
    {"text", BNT_CONTRACT_TEXT, contract_text},
    {"errors", BNT_CONTRACT_ERRORS, contract_errors},
    {"behaviour", BNT_CONTRACT_BEHAVIOUR, contract_behaviour},
    {"values", BNT_CONTRACT_VALUES, values},
    {"answers", BNT_CONTRACT_ANSWERS, contract_answers},
};
enum { N_SECTIONS = sizeof table / sizeof table[0] };

#define NEEDS_MODEL                                                                                \
    (~(unsigned)(BNT_CONTRACT_FORMAT | BNT_CONTRACT_METADATA | BNT_CONTRACT_TENSORS |              \
                 BNT_CONTRACT_VALUES))

enum bnt_status bnt_contract_sections(const char *names, unsigned *out, struct bnt_err *err)
{
    *out = 0;
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, ", ");
        unsigned bit = n == 3 && memcmp(at, "all", n) == 0 ? BNT_CONTRACT_ALL : 0;
        for (size_t i = 0; i < N_SECTIONS; i++) {
            bool is = strlen(table[i].name) == n && memcmp(table[i].name, at, n) == 0;
            bit = is ? table[i].bit : bit;
        }
        if (bit == 0) {
            bnt_err_hint(err, "they are: format, metadata, tensors, numbers, tokenizer, text, "
                              "errors, behaviour; all, which is those; values, answers");
            return bnt_err_set(err, BNT_E_USAGE, "a contract has no section '%.*s'", (int)n, at);
        }
        *out |= bit;
        at += n;
        at += strspn(at, ", ");
    }
    return *out ? BNT_OK : bnt_err_set(err, BNT_E_USAGE, "a contract of no sections");
}

void bnt_contract_section_names(unsigned sections, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < N_SECTIONS; i++) {
        if ((sections & table[i].bit) && len < size) {
            len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", table[i].name);
        }
    }
}

const char *contract_section(const char *text, const char *name, size_t *len)
{
    char head[32];
    size_t n = (size_t)snprintf(head, sizeof head, "\n\n[%s]\n", name);
    const char *at = strstr(text, head);
    const char *end = at ? strstr(at + n - 1, "\n\n[") : NULL;
    if (at) {
        at += n;
        *len = end && end >= at ? (size_t)(end + 1 - at) : end ? 0 : strlen(at);
    }
    return at;
}

static enum bnt_status write_head(struct derivation *d, unsigned sections, struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_printf(d->out, err, "%s\nsections:", first_line);
    for (size_t i = 0; st == BNT_OK && i < N_SECTIONS; i++) {
        if (sections & table[i].bit) {
            st = bnt_buf_printf(d->out, err, " %s", table[i].name);
        }
    }
    return st == BNT_OK
               ? bnt_buf_printf(d->out, err, "\nseed: %llu\n", (unsigned long long)d->of.seed)
               : st;
}

/* Those that are not asked for are as the contract has them, so that a patch fits the contract. */
static enum bnt_status write_sections(struct derivation *d, unsigned sections, unsigned asked,
                                      struct bnt_err *err)
{
    enum bnt_status st = write_head(d, sections, err);
    for (size_t i = 0; st == BNT_OK && i < N_SECTIONS; i++) {
        size_t len = 0;
        const char *as_given = NULL;
        if (!(sections & table[i].bit)) {
            continue;
        }
        st = bnt_buf_printf(d->out, err, "\n[%s]\n", table[i].name);
        if (st == BNT_OK && (asked & table[i].bit)) {
            st = table[i].write(d, err);
            st = st == BNT_OK ? bnt_err_interrupted(d->of.interrupted, err) : st;
        } else if (st == BNT_OK && (as_given = contract_section(d->given, table[i].name, &len))) {
            st = bnt_buf_append(d->out, as_given, len, err);
        }
    }
    return st;
}

/* The sections of d->out, of which only *asked are derived: all that can be asked of this file. */
static enum bnt_status derive(struct derivation *d, unsigned sections, unsigned *asked,
                              struct bnt_err *err)
{
    struct gguf *g = NULL;
    struct gguf_str kind;
    struct bnt_session_options session = {.n_ctx = CONTRACT_N_CTX};
    struct bnt_model_options mo = {.session = &session};
    enum bnt_status st = gguf_open(d->of.path, GGUF_MODE_AUTO, &g, err);
    if (st == BNT_OK && d->given && gguf_get_str(g, "general.mock.kind", &kind)) {
        *asked &= BNT_CONTRACT_ALL;
    }
    if (st == BNT_OK && *asked == 0) {
        st = bnt_err_set(err, BNT_E_USAGE, "%s: the contract has no section to hold it to",
                         d->of.path);
    }
    if (st == BNT_OK && (*asked & NEEDS_MODEL)) {
        st = bnt_model_open(d->of.path, &mo, &d->model, err);
    }
    if (st == BNT_OK) {
        d->g = g;
        st = write_sections(d, sections, *asked, err);
    }
    bnt_model_close(d->model);
    gguf_close(g);
    return st;
}

enum bnt_status bnt_contract_derive(const struct bnt_contract_of *of, unsigned sections,
                                    struct bnt_buf *out, struct bnt_err *err)
{
    struct derivation d = {.of = *of, .out = out};
    return derive(&d, sections, &sections, err);
}

/* ---- checking ---- */

/* Sections and seed of a contract, from its first three lines. */
static enum bnt_status read_head(const char *path, const char *text, unsigned *sections,
                                 uint64_t *seed, struct bnt_err *err)
{
    char names[256] = "";
    unsigned long long number = 0;
    size_t n = strlen(first_line);
    const char *line = strncmp(text, first_line, n) == 0 && text[n] == '\n' ? text + n + 1 : "";
    static const char sections_word[] = "sections: ", seed_word[] = "\nseed: ";
    size_t len = strcspn(line, "\n");
    char *end = NULL;
    bool ok = strncmp(line, sections_word, sizeof sections_word - 1) == 0 && len < sizeof names;
    if (ok) {
        memcpy(names, line + sizeof sections_word - 1, len - (sizeof sections_word - 1));
        ok = strncmp(line + len, seed_word, sizeof seed_word - 1) == 0;
    }
    if (ok) {
        number = strtoull(line + len + sizeof seed_word - 1, &end, 10);
        ok = end && *end == '\n';
    }
    if (!ok) {
        bnt_err_hint(err, "make one with: bnt mock contract MODEL -o FILE");
        return bnt_err_set(err, BNT_E_FILE, "%s: this is no contract of version 1", path);
    }
    *seed = number;
    return bnt_contract_sections(names, sections, err);
}

static size_t count_changes(const char *patch)
{
    size_t n = 0;
    for (const char *at = patch; *at;) {
        size_t len = strcspn(at, "\n");
        bool header = strncmp(at, "--- ", 4) == 0 || strncmp(at, "+++ ", 4) == 0;
        n += (*at == '-' || *at == '+') && !header;
        at += len + (at[len] == '\n');
    }
    return n;
}

enum bnt_status bnt_contract_check(const char *contract_path, const struct bnt_contract_of *of,
                                   unsigned *sections, struct bnt_buf *patch, struct bnt_err *err)
{
    struct bnt_buf wanted = BNT_BUF(BNT_CONTRACT_MAX_BYTES), got = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    struct derivation d = {.of = *of, .out = &got};
    unsigned has = 0;
    enum bnt_status st = bnt_file_read(contract_path, &wanted, err);
    if (st == BNT_OK) {
        d.given = bnt_buf_view(&wanted);
        st = read_head(contract_path, d.given, &has, &d.of.seed, err);
    }
    *sections &= has;
    if (st == BNT_OK) {
        st = derive(&d, has, sections, err);
    }
    if (st == BNT_OK) {
        st = line_diff(contract_path, bnt_buf_view(&wanted), of->path, bnt_buf_view(&got), patch,
                       err);
    }
    if (st == BNT_OK && patch->len > 0 && !BNT_FAULT(contract_drift)) {
        bnt_err_hint(err, "apply the patch if the change is meant; else the model is another one");
        st = bnt_err_set(err, BNT_E_CONTRACT, "%s does not keep the contract %s: %zu lines differ",
                         of->path, contract_path, count_changes(bnt_buf_view(patch)));
    }
    bnt_buf_release(&wanted);
    bnt_buf_release(&got);
    return st;
}
