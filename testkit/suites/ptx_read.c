/* PTX as nvcc writes it, read into instructions whose operands are slots. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/suites/ptx_module.h"

/* ---- what a lane computes for itself ---- */

struct lane_op {
    const char *name;
    uint8_t bytes[5]; /* of the result and the operands */
};

static const struct lane_op lane_ops[PTX_N_LANE_OPS] = {
#define ROW(name, d, a, b, c, e, value)                                                            \
    {name, {sizeof(d), sizeof(a), sizeof(b), sizeof(c), sizeof(e)}},
    PTX_OPS(ROW)
#undef ROW
};

/* ---- the text ---- */

enum { MAX_WORDS = 16, WORD = 96, MAX_REGS = 8, MAX_LABELS = 4096 };

struct registers {
    char prefix[8];
    uint32_t first, n;
    bool wide;
};

struct label {
    char name[32];
    uint32_t at;
};

struct reader {
    const char *p;
    uint32_t line;
    char *why;
    size_t why_size;
    struct ptx_kernel *k;
    struct registers registers[MAX_REGS];
    uint32_t n_registers;
    struct label *labels;
    uint32_t n_labels;
    char (*targets)[32]; /* of branches, by instruction */
    uint32_t n_targets;
};

/* A statement: its first word and the words behind it; brackets and braces are told by the first
 * character of a word and removed. */
struct statement {
    char op[WORD], guard[WORD];
    char word[MAX_WORDS][WORD];
    uint32_t n;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct reader *r, const char *format, ...)
{
    int n = snprintf(r->why, r->why_size, "line %u: ", r->line);
    va_list list;
    va_start(list, format);
    if (n > 0 && (size_t)n < r->why_size) {
        vsnprintf(r->why + n, r->why_size - (size_t)n, format, list);
    }
    va_end(list);
    return false;
}

static void *enough(void *p)
{
    if (!p) {
        fputs("ptx: out of memory\n", stderr);
        abort();
    }
    return p;
}

static void skip_space(struct reader *r)
{
    for (;; r->p++) {
        if (r->p[0] == '/' && r->p[1] == '/') {
            r->p += strcspn(r->p, "\n");
        }
        if (!isspace((unsigned char)*r->p)) {
            return;
        }
        r->line += *r->p == '\n';
    }
}

static bool take_word(struct reader *r, const char *ends, char *out)
{
    size_t n = strcspn(r->p, ends);
    if (n >= WORD) {
        return wrong(r, "a word of %zu characters", n);
    }
    memcpy(out, r->p, n);
    out[n] = '\0';
    r->p += n;
    skip_space(r);
    return true;
}

/* Up to and with the semicolon. */
static bool take_statement(struct reader *r, struct statement *s)
{
    *s = (struct statement){.n = 0};
    if (*r->p == '@') {
        r->p++;
        if (!take_word(r, " \t\n", s->guard)) {
            return false;
        }
    }
    if (!take_word(r, " \t\n;", s->op)) {
        return false;
    }
    while (*r->p && *r->p != ';') {
        if (strchr(",{}[]", *r->p)) {
            r->p++;
            skip_space(r);
            continue;
        }
        if (s->n == MAX_WORDS) {
            return wrong(r, "%s: more than %d operands", s->op, MAX_WORDS);
        }
        if (!take_word(r, " \t\n,{}[];", s->word[s->n++])) {
            return false;
        }
    }
    r->p += *r->p == ';';
    return true;
}

/* ---- operands ---- */

static uint32_t new_slot(struct ptx_kernel *k, bool wide)
{
    uint32_t slot = k->n_slots;
    k->n_slots += wide ? 2 : 1;
    return slot;
}

static uint32_t slot_of_constant(struct ptx_kernel *k, uint64_t value, bool wide)
{
    for (uint32_t i = 0; i < k->n_constants; i++) {
        if (k->constants[i].value == value && k->constants[i].wide == wide) {
            return k->constants[i].slot;
        }
    }
    k->constants = enough(realloc(k->constants, (k->n_constants + 1) * sizeof *k->constants));
    uint32_t slot = new_slot(k, wide);
    k->constants[k->n_constants++] = (struct ptx_constant){value, slot, wide};
    return slot;
}

static uint32_t slot_of_special(struct ptx_kernel *k, uint32_t *special)
{
    if (*special == PTX_NONE) {
        *special = new_slot(k, false);
    }
    return *special;
}

/* A register by its prefix and number. */
static bool find_register(struct reader *r, const char *word, uint32_t *slot, bool *wide)
{
    size_t prefix = strcspn(word, "0123456789");
    for (uint32_t i = 0; i < r->n_registers; i++) {
        const struct registers *g = &r->registers[i];
        uint32_t n = (uint32_t)strtoul(word + prefix, NULL, 10);
        if (strlen(g->prefix) == prefix && strncmp(g->prefix, word, prefix) == 0 && n < g->n) {
            *slot = g->first + n * (g->wide ? 2 : 1);
            *wide = g->wide;
            return true;
        }
    }
    return wrong(r, "no register %s", word);
}

static bool find_value(struct reader *r, const char *word, bool wide, uint32_t *slot)
{
    static const struct {
        const char *name;
        size_t field;
    } specials[] = {{"%tid.x", offsetof(struct ptx_kernel, tid)},
                    {"%ntid.x", offsetof(struct ptx_kernel, ntid)},
                    {"%ctaid.x", offsetof(struct ptx_kernel, ctaid_x)},
                    {"%ctaid.y", offsetof(struct ptx_kernel, ctaid_y)}};
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        if (!strcmp(word, specials[i].name)) {
            uint32_t *field = (uint32_t *)(void *)((char *)r->k + specials[i].field);
            *slot = slot_of_special(r->k, field);
            return true;
        }
    }
    if (word[0] == '%') {
        bool is_wide;
        if (!find_register(r, word, slot, &is_wide)) {
            return false;
        }
        return is_wide == wide || wrong(r, "%s is of another width", word);
    }
    uint64_t value = 0;
    if (!strcmp(word, "block_shared")) {
        value = PTX_SHARED_FIRST;
    } else if (strstr(word, "_param_0") && !strchr(word, '+')) {
        value = PTX_ARGS;
    } else if (word[0] == '0' && (word[1] == 'f' || word[1] == 'd')) {
        value = strtoull(word + 2, NULL, 16);
    } else if (isdigit((unsigned char)word[0]) || word[0] == '-') {
        value = (uint64_t)strtoll(word, NULL, 0);
    } else {
        return wrong(r, "%s is not known", word);
    }
    *slot = slot_of_constant(r->k, wide ? value : (uint32_t)value, wide);
    return true;
}

/* base+offset: a register, the arguments, or shared memory. */
static bool find_address(struct reader *r, const char *word, uint32_t *slot,
                         struct ptx_instruction *in)
{
    char base[WORD];
    size_t n = strcspn(word, "+");
    memcpy(base, word, n);
    base[n] = '\0';
    in->offset = word[n] ? strtoll(word + n + 1, NULL, 0) : 0;
    if (base[0] == '%') {
        return find_register(r, base, slot, &in->wide_base);
    }
    in->wide_base = in->space != PTX_SHARED_SPACE;
    return find_value(r, base, in->wide_base, slot);
}

/* ---- instructions ---- */

/* Whether name begins with `with`, which then is skipped. */
static bool skip(const char **name, const char *with)
{
    size_t n = strlen(with);
    bool is = strncmp(*name, with, n) == 0;
    *name += is ? n : 0;
    return is;
}

static bool type_of(struct reader *r, const char *name, struct ptx_instruction *in)
{
    unsigned bits = (unsigned)strtoul(name + 1, NULL, 10);
    if (!strchr("busf", name[0]) || (bits != 8 && bits != 16 && bits != 32 && bits != 64)) {
        return wrong(r, "type %s is not known", name);
    }
    in->bytes = (uint8_t)(bits / 8);
    in->sign = name[0] == 's';
    return true;
}

static enum ptx_space space_of(const char **name)
{
    return skip(name, "global.")   ? PTX_GLOBAL
           : skip(name, "shared.") ? PTX_SHARED_SPACE
           : skip(name, "param.")  ? PTX_PARAM
                                   : PTX_GENERIC;
}

/* ld and st: slot 0 is the base, values follow. */
static bool read_access(struct reader *r, const struct statement *s, const char *name,
                        struct ptx_instruction *in)
{
    bool load = in->op == PTX_LOAD;
    in->space = space_of(&name);
    in->constant = skip(&name, "nc.");
    in->n = skip(&name, "v2.") ? 2 : skip(&name, "v4.") ? 4 : 1;
    if (!type_of(r, name, in)) {
        return false;
    }
    if (s->n != in->n + 1u) {
        return wrong(r, "%s with %u operands", s->op, s->n);
    }
    if (!find_address(r, s->word[load ? in->n : 0], &in->at[0], in)) {
        return false;
    }
    for (uint32_t i = 0; i < in->n; i++) {
        const char *word = s->word[load ? i : i + 1];
        if (word[0] == '%' ? !find_register(r, word, &in->at[1 + i], &in->wide[i])
                           : !find_value(r, word, in->bytes == 8, &in->at[1 + i])) {
            return false;
        }
        in->wide[i] = word[0] == '%' ? in->wide[i] : in->bytes == 8;
    }
    return true;
}

/* atom.SPACE.RULE.TYPE d, [a], b */
static bool read_atomic(struct reader *r, const struct statement *s, const char *name,
                        struct ptx_instruction *in)
{
    in->space = space_of(&name);
    in->rule = skip(&name, "add.") ? PTX_ADD : PTX_MAX;
    in->n = 1;
    if ((in->rule == PTX_MAX && !skip(&name, "max.")) || s->n != 3) {
        return wrong(r, "%s is not known", s->op);
    }
    return type_of(r, name, in) && find_address(r, s->word[1], &in->at[0], in) &&
           find_value(r, s->word[0], in->bytes == 8, &in->at[1]) &&
           find_value(r, s->word[2], in->bytes == 8, &in->at[2]);
}

/* cp.async.WAY.shared.global [to], [from], bytes, how many of them are read */
static bool read_copy(struct reader *r, const struct statement *s, struct ptx_instruction *in)
{
    if (s->n != 4) {
        return wrong(r, "%s with %u operands", s->op, s->n);
    }
    struct ptx_instruction from = {.space = PTX_GLOBAL};
    in->space = PTX_SHARED_SPACE;
    in->bytes = (uint8_t)strtoul(s->word[2], NULL, 10);
    if (!find_address(r, s->word[0], &in->at[0], in) ||
        !find_address(r, s->word[1], &in->at[1], &from) ||
        !find_value(r, s->word[3], false, &in->at[2])) {
        return false;
    }
    if (in->offset != 0 || from.offset != 0 || in->wide_base || !from.wide_base) {
        return wrong(r, "%s with offsets", s->op);
    }
    return true;
}

static bool read_values(struct reader *r, const struct statement *s, uint32_t n,
                        struct ptx_instruction *in)
{
    if (s->n != n) {
        return wrong(r, "%s with %u operands", s->op, s->n);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!find_value(r, s->word[i], false, &in->at[i])) {
            return false;
        }
    }
    return true;
}

static bool read_branch(struct reader *r, const struct statement *s, struct ptx_instruction *in)
{
    if (s->n != 1 || strlen(s->word[0]) >= sizeof r->targets[0]) {
        return wrong(r, "%s", s->op);
    }
    r->targets = enough(realloc(r->targets, (r->n_targets + 1) * sizeof *r->targets));
    memcpy(r->targets[r->n_targets], s->word[0], strlen(s->word[0]) + 1);
    in->target = r->n_targets++;
    return true;
}

static bool read_redux(struct reader *r, const struct statement *s, struct ptx_instruction *in)
{
    in->rule = strstr(s->op, ".add.") ? PTX_ADD : PTX_MAX;
    return read_values(r, s, 3, in);
}

static bool read_wait(struct reader *r, const struct statement *s, struct ptx_instruction *in)
{
    in->offset = s->n == 1 ? strtoll(s->word[0], NULL, 10) : -1;
    return in->offset >= 0 || wrong(r, "%s", s->op);
}

/* What looks beyond a lane. *known is false where it is not one of those. */
static bool read_other(struct reader *r, const struct statement *s, struct ptx_instruction *in,
                       bool *known)
{
    static const struct {
        const char *name;
        uint32_t op;
    } plain[] = {{"ret", PTX_RET},
                 {"cp.async.commit_group", PTX_COPIES_END},
                 {"griddepcontrol.wait", PTX_WAIT_GRID},
                 {"griddepcontrol.launch_dependents", PTX_NOTHING},
                 {"prefetch.global.L2", PTX_NOTHING}};
    const char *name = s->op;
    *known = true;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (!strcmp(name, plain[i].name)) {
            in->op = plain[i].op;
            return true;
        }
    }
    if (!strcmp(name, "bra") || !strcmp(name, "bra.uni")) {
        in->op = PTX_BRA;
        return read_branch(r, s, in);
    }
    if (!strcmp(name, "bar.sync") && s->n == 1 && !strcmp(s->word[0], "0")) {
        in->op = PTX_BARRIER;
        return true;
    }
    if (!strcmp(name, "bar.warp.sync") && s->n == 1 && !strcmp(s->word[0], "-1")) {
        in->op = PTX_WARP_BARRIER;
        return true;
    }
    if (!strcmp(name, "activemask.b32")) {
        in->op = PTX_ACTIVE;
        return read_values(r, s, 1, in);
    }
    if (!strcmp(name, "redux.sync.max.u32") || !strcmp(name, "redux.sync.add.s32")) {
        in->op = PTX_REDUX;
        return read_redux(r, s, in);
    }
    if (!strcmp(name, "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32")) {
        in->op = PTX_MMA;
        return read_values(r, s, 14, in);
    }
    if (!strcmp(name, "cp.async.wait_group")) {
        in->op = PTX_COPIES_WAIT;
        return read_wait(r, s, in);
    }
    if (!strcmp(name, "cp.async.cg.shared.global") || !strcmp(name, "cp.async.ca.shared.global")) {
        in->op = PTX_COPY;
        return read_copy(r, s, in);
    }
    if (skip(&name, "ld.") || skip(&name, "st.")) {
        in->op = s->op[0] == 'l' ? PTX_LOAD : PTX_STORE;
        return read_access(r, s, name, in);
    }
    if (skip(&name, "atom.")) {
        in->op = PTX_ATOMIC;
        return read_atomic(r, s, name, in);
    }
    *known = false;
    return true;
}

static bool read_lane_op(struct reader *r, const struct statement *s, struct ptx_instruction *in)
{
    for (uint32_t op = 0; op < PTX_N_LANE_OPS; op++) {
        if (strcmp(lane_ops[op].name, s->op) != 0) {
            continue;
        }
        in->op = op;
        if (s->n < 2 || s->n > 5) {
            return wrong(r, "%s with %u operands", s->op, s->n);
        }
        for (uint32_t i = 0; i < s->n; i++) {
            if (!find_value(r, s->word[i], lane_ops[op].bytes[i] == 8, &in->at[i])) {
                return false;
            }
        }
        return true;
    }
    return wrong(r, "instruction %s is not known", s->op);
}

static bool read_instruction(struct reader *r, const struct statement *s)
{
    struct ptx_kernel *k = r->k;
    struct ptx_instruction in = {.line = r->line, .guard = PTX_NONE};
    if (s->guard[0]) {
        in.guard_not = s->guard[0] == '!';
        if (!find_value(r, s->guard + in.guard_not, false, &in.guard)) {
            return false;
        }
    }
    bool known;
    if (!read_other(r, s, &in, &known) || (!known && !read_lane_op(r, s, &in))) {
        return false;
    }
    k->waits_for_grid |= in.op == PTX_WAIT_GRID;
    if (k->n == k->cap) {
        k->cap = k->cap ? 2 * k->cap : 256;
        k->code = enough(realloc(k->code, k->cap * sizeof *k->code));
    }
    k->code[k->n++] = in;
    return true;
}

/* .reg .f32 %f<470>, or one alone: .reg .b64 %tmp, which may come again between other braces. */
static bool read_registers(struct reader *r, const struct statement *s)
{
    struct registers *g = &r->registers[r->n_registers];
    size_t prefix = s->n == 2 ? strcspn(s->word[1], "<") : 0;
    if (prefix == 0 || prefix >= sizeof g->prefix || r->n_registers == MAX_REGS) {
        return wrong(r, "registers that cannot be read");
    }
    memcpy(g->prefix, s->word[1], prefix);
    g->prefix[prefix] = '\0';
    for (uint32_t i = 0; i < r->n_registers; i++) {
        if (!strcmp(r->registers[i].prefix, g->prefix)) {
            return true;
        }
    }
    r->n_registers++;
    g->n = s->word[1][prefix] ? (uint32_t)strtoul(s->word[1] + prefix + 1, NULL, 10) : 1;
    g->wide = strstr(s->word[0], "64") != NULL;
    g->first = r->k->n_slots;
    r->k->n_slots += g->n * (g->wide ? 2 : 1);
    return true;
}

static bool read_label(struct reader *r, size_t n)
{
    if (n >= sizeof r->labels[0].name || r->n_labels == MAX_LABELS) {
        return wrong(r, "a label that cannot be kept");
    }
    struct label *l = &r->labels[r->n_labels++];
    memcpy(l->name, r->p, n);
    l->name[n] = '\0';
    l->at = r->k->n;
    r->p += n + 1;
    return true;
}

static bool find_targets(struct reader *r)
{
    for (uint32_t i = 0; i < r->k->n; i++) {
        struct ptx_instruction *in = &r->k->code[i];
        if (in->op != PTX_BRA) {
            continue;
        }
        const char *name = r->targets[in->target];
        uint32_t l = 0;
        while (l < r->n_labels && strcmp(r->labels[l].name, name) != 0) {
            l++;
        }
        if (l == r->n_labels) {
            return wrong(r, "no label %s", name);
        }
        in->target = r->labels[l].at;
    }
    return true;
}

static bool read_statement(struct reader *r)
{
    struct statement s;
    if (!take_statement(r, &s)) {
        return false;
    }
    if (!strcmp(s.op, ".pragma")) {
        return true;
    }
    return !strcmp(s.op, ".reg") ? read_registers(r, &s) : read_instruction(r, &s);
}

/* From behind the first brace to behind the last one. Braces that begin or end a statement come
 * from inline assembly. */
static bool read_body(struct reader *r)
{
    static const char name_chars[] =
        "$_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    int depth = 1;
    while (depth > 0) {
        skip_space(r);
        size_t name = strspn(r->p, name_chars);
        bool label = name && r->p[name] == ':';
        if (!*r->p) {
            return wrong(r, "ends in a kernel");
        }
        if (*r->p == '{' || *r->p == '}') {
            depth += *r->p++ == '{' ? 1 : -1;
        } else if (label ? !read_label(r, name) : !read_statement(r)) {
            return false;
        }
    }
    return find_targets(r);
}

/* _Z14k_embed_global15cuda_embed_args: the name is as long as the number before it says. */
static bool read_name(struct reader *r)
{
    struct ptx_kernel *k = r->k;
    static const char suffix[] = "_global";
    char *end = NULL;
    size_t n = strncmp(r->p, "_Z", 2) == 0 ? strtoull(r->p + 2, &end, 10) : 0;
    if (n < sizeof suffix || n - (sizeof suffix - 1) >= sizeof k->name ||
        strncmp(end + n - (sizeof suffix - 1), suffix, sizeof suffix - 1) != 0) {
        return wrong(r, "a kernel whose name cannot be read");
    }
    memcpy(k->name, end, n - (sizeof suffix - 1));
    return true;
}

static bool read_kernel(struct reader *r)
{
    struct ptx_kernel *k = r->k;
    *k = (struct ptx_kernel){
        .n_slots = 2, .tid = PTX_NONE, .ctaid_x = PTX_NONE, .ctaid_y = PTX_NONE, .ntid = PTX_NONE};
    k->constants = enough(calloc(1, sizeof *k->constants));
    k->constants[k->n_constants++] = (struct ptx_constant){.slot = 0, .wide = true};
    r->n_registers = r->n_labels = r->n_targets = 0;
    if (!read_name(r)) {
        return false;
    }
    const char *size = strchr(r->p, '['), *body = strchr(r->p, ')');
    body = body ? strchr(body, '{') : NULL;
    if (!size || !body || size > body) {
        return wrong(r, "%s: no arguments", k->name);
    }
    k->args_bytes = strtoull(size + 1, NULL, 10);
    for (; r->p <= body; r->p++) {
        r->line += *r->p == '\n';
    }
    if (!read_body(r)) {
        return false;
    }
    ptx_find_meetings(k);
    return true;
}

static bool read_module(struct reader *r, struct ptx_module *m)
{
    static const char entry[] = ".entry ", target[] = ".target sm_";
    const char *at = strstr(r->p, target);
    m->target = at ? (uint32_t)strtoul(at + sizeof target - 1, NULL, 10) : 0;
    for (;;) {
        while (*r->p && strncmp(r->p, entry, sizeof entry - 1) != 0) {
            r->line += *r->p++ == '\n';
        }
        if (!*r->p) {
            return m->n > 0 || wrong(r, "no kernels");
        }
        r->p += sizeof entry - 1;
        m->kernels = enough(realloc(m->kernels, (m->n + 1) * sizeof *m->kernels));
        r->k = &m->kernels[m->n++];
        if (!read_kernel(r)) {
            return false;
        }
    }
}

/* ---- files ---- */

static char *whole_file(const char *path)
{
    FILE *f = fopen(path, "r");
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    char *text = size >= 0 ? enough(malloc((size_t)size + 1)) : NULL;
    if (text) {
        rewind(f);
        text[fread(text, 1, (size_t)size, f)] = '\0';
    }
    if (f) {
        fclose(f);
    }
    return text;
}

struct ptx_module *ptx_open(const char *path, char *why, size_t size)
{
    char *text = whole_file(path);
    if (!text) {
        snprintf(why, size, "%s cannot be read", path);
        return NULL;
    }
    struct ptx_module *m = enough(calloc(1, sizeof *m));
    struct reader r = {.p = text, .line = 1, .why = why, .why_size = size};
    r.labels = enough(calloc(MAX_LABELS, sizeof *r.labels));
    if (!read_module(&r, m)) {
        ptx_close(m);
        m = NULL;
    }
    free(r.labels);
    free(r.targets);
    free(text);
    return m;
}

void ptx_close(struct ptx_module *m)
{
    for (size_t i = 0; m && i < m->n; i++) {
        free(m->kernels[i].code);
        free(m->kernels[i].constants);
    }
    if (m) {
        free(m->kernels);
        free(m);
    }
}

uint32_t ptx_target(const struct ptx_module *m)
{
    return m->target;
}
