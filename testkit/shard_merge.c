/* Merging the shards of one run, and the proof that their union is whole: every test of the
 * division in exactly one file, and all files of the same division, program, model and tier. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/shard.h"

/* Where a test was found. */
struct found {
    const char *name; /* SUITE/NAME */
    char *owned;
    size_t n_results, n_mentions;
};

struct merging {
    struct bnt_test_run *parts;
    size_t n_parts;
    struct found *names;
    size_t n_names;
    struct bnt_buf *problems;
    struct bnt_err *err;
    enum bnt_status status; /* of the first call that failed */
};

#define PROBLEM(m, ...)                                                                            \
    do {                                                                                           \
        if ((m)->status == BNT_OK) {                                                               \
            (m)->status = bnt_buf_printf((m)->problems, (m)->err, __VA_ARGS__);                    \
        }                                                                                          \
    } while (0)

static void compare_text(struct merging *m, size_t i, const char *what, const char *first,
                         const char *other)
{
    if (strcmp(first, other) != 0) {
        PROBLEM(m, "shard %u has %s %.64s, shard %u has %.64s\n", m->parts[0].shard.index, what,
                first[0] ? first : "(none)", m->parts[i].shard.index, other[0] ? other : "(none)");
    }
}

/* A mock that is no file is what its name says; of a server, which each machine may reach by
 * another address, nobody knows what it serves. */
static const char *identity_of_model(const struct bnt_test_run *run)
{
    bool named = !run->model.digest[0] && bnt_test_kind_is_mock(run->model.kind);
    return named ? run->model.path : run->model.digest;
}

static void check_parts_agree(struct merging *m)
{
    const struct bnt_test_run *a = &m->parts[0];
    for (size_t i = 1; i < m->n_parts; i++) {
        const struct bnt_test_run *b = &m->parts[i];
        compare_text(m, i, "program", a->program_digest, b->program_digest);
        compare_text(m, i, "model", identity_of_model(a), identity_of_model(b));
        compare_text(m, i, "kind of model", a->model.kind, b->model.kind);
        compare_text(m, i, "tier", bnt_test_tier_name(a->tier), bnt_test_tier_name(b->tier));
        compare_text(m, i, "division", a->shard.plan, b->shard.plan);
        if (a->shard.total != b->shard.total) {
            PROBLEM(m, "shard %u is of %u, shard %u is of %u\n", a->shard.index, a->shard.total,
                    b->shard.index, b->shard.total);
        }
    }
}

static void check_every_shard_once(struct merging *m)
{
    unsigned total = m->parts[0].shard.total;
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].shard.total == 0) {
            PROBLEM(m, "file %zu is no shard: it was run without --shard\n", i + 1);
        }
    }
    for (unsigned k = 1; k <= total; k++) {
        size_t n = 0;
        for (size_t i = 0; i < m->n_parts; i++) {
            n += m->parts[i].shard.index == k;
        }
        if (n != 1) {
            PROBLEM(m, "shard %u of %u is %s\n", k, total, n == 0 ? "missing" : "there twice");
        }
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

/* Every name of every file, sorted. */
static void collect_names(struct merging *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_parts; i++) {
        n += m->parts[i].n + m->parts[i].shard.elsewhere.n;
    }
    m->names = calloc(n + 1, sizeof *m->names);
    if (!m->names) {
        m->status = bnt_err_nomem(m->err, "the merged run", n * sizeof *m->names);
        return;
    }
    for (size_t i = 0; i < m->n_parts; i++) {
        const struct bnt_test_run *p = &m->parts[i];
        for (size_t j = 0; j < p->n; j++) {
            char *full = shard_full_name(&p->at[j]);
            if (!full) {
                m->status = bnt_err_nomem(m->err, "the merged run", 0);
                return;
            }
            m->names[m->n_names++] = (struct found){full, full, 1, 0};
        }
        for (size_t j = 0; j < p->shard.elsewhere.n; j++) {
            m->names[m->n_names++] = (struct found){p->shard.elsewhere.at[j], NULL, 0, 1};
        }
    }
    qsort(m->names, m->n_names, sizeof *m->names, by_name);
}

/* In each file a test is either a result or mentioned as another shard's. */
static void check_every_test_once(struct merging *m)
{
    for (size_t i = 0; i < m->n_names;) {
        size_t n_results = 0;
        size_t n_mentions = 0;
        size_t j = i;
        for (; j < m->n_names && strcmp(m->names[j].name, m->names[i].name) == 0; j++) {
            n_results += m->names[j].n_results;
            n_mentions += m->names[j].n_mentions;
        }
        if (n_results == 0 && !BNT_FAULT(merge_gap)) {
            PROBLEM(m, "missing: %s is in no file\n", m->names[i].name);
        } else if (n_results > 1) {
            PROBLEM(m, "duplicate: %s is in %zu files\n", m->names[i].name, n_results);
        } else if (n_results + n_mentions != m->n_parts) {
            PROBLEM(m, "unknown: %s is in one shard, and %zu of the others do not know it\n",
                    m->names[i].name, m->n_parts - n_results - n_mentions);
        }
        i = j;
    }
}

static void release_names(struct merging *m)
{
    for (size_t i = 0; i < m->n_names; i++) {
        free(m->names[i].owned);
    }
    free(m->names);
}

/* ---- the union ---- */

static enum bnt_status take_part(struct bnt_test_run *out, struct bnt_test_run *part, int exit_code,
                                 unsigned first_slot, struct bnt_err *err)
{
    size_t bytes = (out->n + part->n + 1) * sizeof *out->at;
    struct bnt_test *grown = realloc(out->at, bytes);
    if (!grown) {
        return bnt_err_nomem(err, "the merged run", bytes);
    }
    out->at = grown;
    for (size_t i = 0; i < part->n; i++) {
        struct bnt_test *t = &out->at[out->n++];
        *t = part->at[i];
        t->place.slot += first_slot;
    }
    part->n = 0; /* moved */
    struct bnt_test_part *p = &out->parts[out->n_parts++];
    memcpy(p->id, part->id, sizeof p->id);
    p->shard = part->shard.index;
    p->exit_code = exit_code;
    p->seconds = (double)part->wall_ns / 1e9;
    p->expected_seconds = part->shard.seconds;
    p->machine = part->machine;
    out->interrupted |= part->interrupted;
    out->wall_ns = part->wall_ns > out->wall_ns ? part->wall_ns : out->wall_ns;
    out->budget_ms = part->budget_ms > out->budget_ms ? part->budget_ms : out->budget_ms;
    out->n_jobs += part->n_jobs;
    return BNT_OK;
}

static int by_suite(const void *a, const void *b)
{
    const struct bnt_test *x = a;
    const struct bnt_test *y = b;
    int order = strcmp(x->suite, y->suite);
    return order ? order : strcmp(x->name, y->name);
}

static enum bnt_status unite(struct bnt_test_run *parts, const int *exit_codes, size_t n_parts,
                             struct bnt_test_run *out, struct bnt_err *err)
{
    const struct bnt_test_run *a = &parts[0];
    memcpy(out->id, a->id, sizeof out->id);
    memcpy(out->program, a->program, sizeof out->program);
    memcpy(out->program_digest, a->program_digest, sizeof out->program_digest);
    memcpy(out->version, a->version, sizeof out->version);
    memcpy(out->config, a->config, sizeof out->config);
    out->tier = a->tier;
    out->model = a->model;
    out->model_given = a->model_given;
    out->seed = a->seed;
    out->started_unix_s = a->started_unix_s;
    out->machine = a->machine;
    out->n_other_tier = a->n_other_tier;
    out->parts = calloc(n_parts, sizeof *out->parts);
    if (!out->parts) {
        return bnt_err_nomem(err, "the merged run", n_parts * sizeof *out->parts);
    }
    enum bnt_status st = BNT_OK;
    unsigned first_slot = 0;
    for (unsigned k = 1; st == BNT_OK && k <= a->shard.total; k++) {
        for (size_t i = 0; st == BNT_OK && i < n_parts; i++) {
            if (parts[i].shard.index == k) {
                st = take_part(out, &parts[i], exit_codes[i], first_slot, err);
                first_slot += (unsigned)parts[i].n_jobs;
            }
        }
    }
    qsort(out->at, out->n, sizeof *out->at, by_suite);
    return st;
}

enum bnt_status shard_merge(struct bnt_test_run *parts, const int *exit_codes, size_t n_parts,
                            struct bnt_test_run *out, struct bnt_buf *problems, struct bnt_err *err)
{
    struct merging m = {parts, n_parts, NULL, 0, problems, err, BNT_OK};
    check_every_shard_once(&m);
    check_parts_agree(&m);
    if (m.status == BNT_OK) {
        collect_names(&m);
    }
    check_every_test_once(&m);
    release_names(&m);
    if (m.status == BNT_OK && problems->len > 0) {
        return bnt_err_set(err, BNT_E_FAILED, "the shards are no whole run");
    }
    return m.status == BNT_OK ? unite(parts, exit_codes, n_parts, out, err) : m.status;
}
