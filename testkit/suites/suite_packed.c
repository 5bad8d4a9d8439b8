/* Guards the forms of weights that are kept from one start to the next: a file that is damaged,
 * half written or of something else and is used nevertheless, one that is made twice, and a start
 * that fails since nothing can be kept. */
#include "testkit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cache_dir.h"
#include "base/clock.h"
#include "base/packed_dir.h"
#include "engine/bnt_infer.h"
#include "engine/packed.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"
#include "testkit/suites/thread_stack.h"

enum { SIZE = 10000, HEADER = 4096 };

static unsigned n_fills, n_words;
static char last_word[8192];

static void hear(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    n_words++;
    snprintf(last_word, sizeof last_word, "%s", what);
}

static enum bnt_status fill(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    (void)err;
    n_fills++;
    for (size_t i = 0; i < SIZE; i++) {
        dst[i] = (uint8_t)(i * 7 + *(const uint8_t *)ctx);
    }
    return BNT_OK;
}

static enum bnt_status refuse(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    (void)ctx;
    (void)dst;
    return bnt_err_set(err, BNT_E_INFERENCE, "cannot be made");
}

static uint8_t salt = 3;
static const struct packed_want form = {
    .layout = "form", .version = 1, .size = SIZE, .fill = fill, .ctx = &salt};

/* Large enough to be hashed while forms are made. */
static const char *const model_in_thread = "a model in a thread";

/* Nothing is known of any file. */
static void forget_facts(void)
{
    char cache[BNT_PATH_MAX], path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_dir(cache, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(path, NULL, "%s/facts", cache), BNT_OK);
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        (void)unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir) {
        closedir(dir);
    }
}

static void model_digest(char digest[BNT_SHA256_HEX])
{
    assert_int_equal(bnt_sha256_text(model_in_thread, strlen(model_in_thread), digest, NULL),
                     BNT_OK);
}

/* A model of which only the bytes count, and a store beside it. The large one has settled. */
static void open_store(struct packed_store *s, const char *model_bytes)
{
    const char *model = suite_in_scratch("model");
    forget_facts();
    FILE *f = fopen(model, "w");
    assert_non_null(f);
    assert_true(fputs(model_bytes, f) >= 0);
    assert_int_equal(fclose(f), 0);
    struct bnt_model_options mo = {
        .packed_dir = suite_in_scratch("kept"), .packed_min_bytes = 100, .warn = hear};
    assert_int_equal(packed_store_init(s, model, &mo, NULL), BNT_OK);
    if (model_bytes == model_in_thread) {
        s->late_bytes = strlen(model_bytes);
        bnt_clock_fake((uint64_t)(bnt_clock_unix_s() + 60) * 1000000000u);
    }
}

/* Open the form; it is right, and was made or found as told. */
static void open_form(struct packed_store *s, const struct packed_want *want, bool made)
{
    struct packed p;
    unsigned before = n_fills;
    assert_int_equal(packed_open(s, want, &p, NULL), BNT_OK);
    packed_finish(s);
    assert_int_equal(p.size, SIZE);
    assert_int_equal((uintptr_t)p.data % 4096, 0);
    for (size_t i = 0; i < SIZE; i++) {
        assert_int_equal(p.data[i], (uint8_t)(i * 7 + salt));
    }
    assert_int_equal(n_fills - before, made);
    assert_int_equal(p.mapped, !made);
    packed_release(&p);
}

/* Path of the one file in the store's folder that ends so. */
static const char *kept_file(const struct packed_store *s, const char *suffix)
{
    static char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s/form.1%s", s->dir, s->digest, suffix),
                     BNT_OK);
    return path;
}

static void a_form_is_made_once(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed_want other = form;
    open_store(&s, "a model");
    open_form(&s, &form, true);
    open_form(&s, &form, false);
    packed_store_release(&s);

    open_store(&s, "a model"); /* the next start */
    open_form(&s, &form, false);
    assert_int_equal(access(kept_file(&s, BNT_PACKED_USED_SUFFIX), F_OK), 0);
    other.version = 2;
    open_form(&s, &other, true);
    other.layout = "other";
    open_form(&s, &other, true);
    open_form(&s, &form, false); /* and each has its own file */
    packed_store_release(&s);

    open_store(&s, "a model changed");
    open_form(&s, &form, true);
    packed_store_release(&s);
    assert_int_equal(n_words, 0);
}

static sig_atomic_t interrupted;

static enum bnt_status fill_interrupted(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    __atomic_store_n(&interrupted, 1, __ATOMIC_RELAXED); /* as a signal's handler would */
    return fill(ctx, dst, err);
}

/* Who stops while forms are made waits for no other one, and for no disk; the next start makes them
 * all. What was made before may be kept or not. */
static void an_interruption_ends_the_making(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed first, p;
    struct packed_want second = form;
    open_store(&s, "a model");
    s.interrupted = &interrupted;
    assert_int_equal(packed_open(&s, &form, &first, NULL), BNT_OK);
    second.layout = "second";
    second.fill = fill_interrupted;
    assert_int_equal(packed_open(&s, &second, &p, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(packed_open(&s, &form, &p, NULL), BNT_E_INTERRUPTED);
    packed_finish(&s);
    packed_release(&first);
    assert_int_equal(n_fills, 2);
    assert_int_equal(n_words, 0);
    interrupted = 0;
    second.fill = fill;
    open_form(&s, &second, true);
    packed_store_release(&s);
}

static void flip(const char *path, long at)
{
    assert_int_equal(chmod(path, 0644), 0);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

static void cut(const char *path, long size)
{
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(truncate(path, size), 0);
}

/* Each is told once, made anew, and right from then on. */
static void damage_is_made_good_with_a_word(void **state)
{
    (void)state;
    static const struct {
        void (*change)(const char *path, long at);
        long at;
        const char *word;
    } cases[] = {
        {flip, 0, "no file of this kind"},
        {flip, 12, "header is damaged"}, /* the mark of the byte order */
        {flip, 100, "header is damaged"},
        {flip, HEADER, "content is damaged"},
        {flip, HEADER + SIZE - 1, "content is damaged"},
        {cut, HEADER + SIZE - 1, "its size"},
        {cut, HEADER + SIZE + 1, "its size"},
        {cut, HEADER - 1, "cut short"},
        {cut, 0, "cut short"},
    };
    struct packed_store s;
    open_store(&s, "a model");
    open_form(&s, &form, true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        n_words = 0;
        cases[i].change(kept_file(&s, BNT_PACKED_SUFFIX), cases[i].at);
        open_form(&s, &form, true);
        assert_int_equal(n_words, 1);
        assert_non_null(strstr(last_word, cases[i].word));
        open_form(&s, &form, false);
        assert_int_equal(n_words, 1);
    }
    packed_store_release(&s);
}

/* A sound file of another model, layout or version, put where this one is looked for. */
static void a_foreign_file_is_not_used(void **state)
{
    (void)state;
    char from[BNT_PATH_MAX];
    struct packed_store other, s;
    struct packed_want version = form, layout = form;
    version.version = 11;
    layout.layout = "form-b";
    open_store(&other, "another model");
    salt = 9; /* which would be seen in what a wrong file holds */
    open_form(&other, &form, true);
    snprintf(from, sizeof from, "%s", kept_file(&other, BNT_PACKED_SUFFIX));
    salt = 3;
    open_store(&s, "a model");
    open_form(&s, &form, true);
    assert_int_equal(rename(from, kept_file(&s, BNT_PACKED_SUFFIX)), 0);
    open_form(&s, &form, true);
    assert_non_null(strstr(last_word, "something else"));
    static const char *const names[] = {"form.11", "form-b.1"};
    for (int i = 0; i < 2; i++) {
        open_form(&s, i == 0 ? &version : &layout, true);
        snprintf(from, sizeof from, "%s/%s/%s" BNT_PACKED_SUFFIX, s.dir, s.digest, names[i]);
        assert_int_equal(rename(from, kept_file(&s, BNT_PACKED_SUFFIX)), 0);
        open_form(&s, &form, true);
    }
    assert_int_equal(n_words, 3);
    packed_store_release(&s);
    packed_store_release(&other);
}

/* What was proven is remembered with the times of the file, and holds no longer than they. */
static void a_proof_ends_with_a_change(void **state)
{
    (void)state;
    struct packed_store s;
    struct bnt_file_id id;
    char value[BNT_FACT_MAX];
    open_store(&s, "a model");
    open_form(&s, &form, true);
    assert_true(bnt_file_identify(kept_file(&s, BNT_PACKED_SUFFIX), &id));
    assert_false(bnt_fact_get(&id, "packed", value));
    packed_store_release(&s);
    assert_true(bnt_fact_get(&id, "packed", value)); /* else the next start would read the file */
    s = (struct packed_store){0};
    struct bnt_model_options mo = {
        .packed_dir = suite_in_scratch("kept"), .packed_min_bytes = 100, .warn = hear};
    assert_int_equal(packed_store_init(&s, suite_in_scratch("model"), &mo, NULL), BNT_OK);
    open_form(&s, &form, false);
    flip(kept_file(&s, BNT_PACKED_SUFFIX), HEADER + 5);
    open_form(&s, &form, true);
    assert_int_equal(n_words, 1);
    packed_store_release(&s);
}

static int no_space(enum bnt_file_step step, size_t *n)
{
    return step == BNT_FILE_WRITE && n && *n >= SIZE ? ENOSPC : 0;
}

/* The disk is full after the first form. */
static int no_second_room(enum bnt_file_step step, size_t *n)
{
    static unsigned rooms;
    return step == BNT_FILE_WRITE && n && *n == HEADER + SIZE && rooms++ > 0 ? ENOSPC : 0;
}

static int no_promise(enum bnt_file_step step, size_t *n)
{
    return step == BNT_FILE_WRITE && n && *n == HEADER + SIZE ? EOPNOTSUPP : 0;
}

static int no_sync(enum bnt_file_step step, size_t *n)
{
    (void)n;
    return step == BNT_FILE_SYNC ? EIO : 0;
}

static int no_rename(enum bnt_file_step step, size_t *n)
{
    (void)n;
    return step == BNT_FILE_RENAME ? EIO : 0;
}

static unsigned entries(const char *folder)
{
    DIR *dir = opendir(folder);
    unsigned n = 0;
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        n += strstr(e->d_name, ".tmp") || strstr(e->d_name, BNT_PACKED_SUFFIX);
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

static void what_cannot_be_kept_is_made_in_memory(void **state)
{
    (void)state;
    bnt_file_fault_fn *const faults[] = {no_space, no_rename, no_sync};
    struct packed_store s;
    char folder[BNT_PATH_MAX];
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        n_words = 0;
        open_store(&s, i == 0 ? "a model" : model_in_thread);
        bnt_file_fault(faults[i]);
        open_form(&s, &form, true);
        bnt_file_fault(NULL);
        assert_int_equal(n_words, 1);
        assert_non_null(strstr(last_word, "not kept"));
        snprintf(folder, sizeof folder, "%s/%s", suite_in_scratch("kept"), s.digest);
        assert_int_equal(entries(folder), 0); /* and nothing half written is left */
        assert_int_equal(entries(suite_in_scratch("kept")), 0);
        open_form(&s, &form, true);
        assert_int_equal(n_words, 1);
        packed_store_release(&s);
    }
    open_store(&s, "a model");
    FILE *f = fopen(suite_in_scratch("kept/lies"), "w");
    assert_non_null(f);
    fclose(f);
    free(s.dir);
    s.dir = strdup(suite_in_scratch("kept/lies")); /* a file where the folder should be */
    open_form(&s, &form, true);
    assert_int_equal(n_words, 2);
    packed_store_release(&s);
}

static void small_forms_and_stores_without_a_folder_keep_nothing(void **state)
{
    (void)state;
    struct packed_store s;
    open_store(&s, "a model");
    s.min_bytes = SIZE + 1;
    open_form(&s, &form, true);
    open_form(&s, &form, true);
    assert_int_equal(access(suite_in_scratch("kept"), F_OK), -1);
    assert_string_equal(s.digest, ""); /* nor is the model read for it */
    packed_store_release(&s);
    struct bnt_model_options none = {0};
    assert_int_equal(packed_store_init(&s, suite_in_scratch("model"), &none, NULL), BNT_OK);
    open_form(&s, &form, true);
    packed_store_release(&s);
}

static void a_form_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed p;
    struct bnt_err err = {0};
    struct packed_want bad = form;
    bad.fill = refuse;
    open_store(&s, "a model");
    assert_int_equal(packed_open(&s, &bad, &p, &err), BNT_E_INFERENCE);
    assert_null(p.data);
    assert_int_equal(entries(s.dir), 0);
    open_form(&s, &form, true);
    packed_store_release(&s);
}

static void what_was_made_before_the_disk_was_full_is_kept(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed p, q;
    struct packed_want second = form;
    second.version = 2;
    open_store(&s, model_in_thread);
    bnt_file_fault(no_second_room);
    assert_int_equal(packed_open(&s, &form, &p, NULL), BNT_OK);
    assert_int_equal(packed_open(&s, &second, &q, NULL), BNT_OK);
    packed_finish(&s);
    bnt_file_fault(NULL);
    assert_int_equal(n_words, 1);
    assert_non_null(strstr(last_word, "No space left"));
    assert_memory_equal(p.data, q.data, SIZE);
    packed_release(&p);
    packed_release(&q);
    packed_store_release(&s);
    open_store(&s, model_in_thread);
    model_digest(s.digest);
    open_form(&s, &form, false);
    open_form(&s, &second, true);
    packed_store_release(&s);
}

/* Of a file system that reserves no room, a form is written and not mapped. */
static void a_form_is_kept_without_a_promise_of_room(void **state)
{
    (void)state;
    struct packed_store s;
    open_store(&s, "a model");
    bnt_file_fault(no_promise);
    open_form(&s, &form, true);
    bnt_file_fault(NULL);
    open_form(&s, &form, false);
    packed_store_release(&s);
    assert_int_equal(n_words, 0);
}

/* ---- while the digest is looked for ---- */

static struct bnt_buf file_bytes(const char *path)
{
    struct bnt_buf b = BNT_BUF(HEADER + SIZE);
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    return b;
}

/* The same file, byte for byte: with the digest known before, found by a thread, and found without
 * one. No thread stays. */
static void a_digest_may_be_known_late(void **state)
{
    (void)state;
    enum { KNOWN, LATE, NO_THREADS, N };
    struct packed_store s;
    struct packed p;
    struct bnt_buf files[N];
    char digest[BNT_SHA256_HEX];
    model_digest(digest);
    for (int i = 0; i < N; i++) {
        open_store(&s, model_in_thread);
        memcpy(s.digest, digest, i == KNOWN ? sizeof digest : 0);
        thread_stack_refuse(i == NO_THREADS);
        assert_int_equal(packed_open(&s, &form, &p, NULL), BNT_OK);
        assert_string_equal(s.digest, i == LATE ? "" : digest);
        packed_finish(&s);
        thread_stack_refuse(false);
        packed_release(&p);
        assert_int_equal(thread_stack_alive(), 0);
        assert_string_equal(s.digest, digest);
        files[i] = file_bytes(kept_file(&s, BNT_PACKED_SUFFIX));
        assert_int_equal(files[i].len, HEADER + SIZE);
        assert_memory_equal(files[i].data, files[0].data, HEADER + SIZE);
        open_form(&s, &form, false);
        assert_int_equal(unlink(kept_file(&s, BNT_PACKED_SUFFIX)), 0);
        packed_store_release(&s);
    }
    for (int i = 0; i < N; i++) {
        bnt_buf_release(&files[i]);
    }
    assert_int_equal(n_fills, N);
    assert_int_equal(n_words, 0);
}

/* A copy of a known model: its forms are there, but that is seen when they are made again. */
static void a_form_that_is_there_is_used_and_ours_is_dropped(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed p;
    struct stat before, after;
    char path[BNT_PATH_MAX];
    open_store(&s, model_in_thread);
    open_form(&s, &form, true);
    snprintf(path, sizeof path, "%s", kept_file(&s, BNT_PACKED_SUFFIX));
    packed_store_release(&s);
    for (unsigned damaged = 0; damaged < 2; damaged++) {
        assert_int_equal(stat(path, &before), 0);
        open_store(&s, model_in_thread);
        assert_int_equal(packed_open(&s, &form, &p, NULL), BNT_OK);
        assert_string_equal(s.digest, "");
        if (damaged) {
            flip(path, HEADER + 9);
        }
        packed_finish(&s);
        for (size_t i = 0; i < SIZE; i++) {
            assert_int_equal(p.data[i], (uint8_t)(i * 7 + salt));
        }
        packed_release(&p);
        assert_int_equal(n_words, damaged);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(after.st_ino != before.st_ino, damaged);
        assert_int_equal(entries(s.dir), 0);
        open_form(&s, &form, false);
        packed_store_release(&s);
    }
}

/* A form that is given back before it is in its place comes there nevertheless, and so does one of
 * an opening that failed. */
static void a_form_is_kept_although_it_was_released(void **state)
{
    (void)state;
    struct packed_store s;
    struct packed p, q;
    struct packed_want other = form;
    other.version = 2;
    open_store(&s, model_in_thread);
    assert_int_equal(packed_open(&s, &form, &p, NULL), BNT_OK);
    packed_release(&p);
    assert_int_equal(packed_open(&s, &other, &q, NULL), BNT_OK);
    packed_store_release(&s);
    for (size_t i = 0; i < SIZE; i++) {
        assert_int_equal(q.data[i], (uint8_t)(i * 7 + salt));
    }
    packed_release(&q);
    open_store(&s, model_in_thread);
    model_digest(s.digest);
    open_form(&s, &form, false);
    open_form(&s, &other, false);
    packed_store_release(&s);
}

/* The model's file was replaced between its opening and the look for its digest. */
static void a_replaced_model_lends_no_digest(void **state)
{
    (void)state;
    const char *const models[] = {"a model", model_in_thread};
    for (unsigned i = 0; i < 2; i++) {
        struct packed_store s;
        open_store(&s, models[i]);
        FILE *f = fopen(suite_in_scratch("model.new"), "w");
        assert_non_null(f);
        assert_true(fprintf(f, "not %s", models[i]) > 0);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(rename(suite_in_scratch("model.new"), suite_in_scratch("model")), 0);
        open_form(&s, &form, true);
        assert_int_equal(n_words, i + 1);
        assert_non_null(strstr(last_word, "replaced"));
        packed_store_release(&s);
    }
}

/* Of processes that start together one makes the form, and the others find it. */
static void make_form_by_processes(const char *model)
{
    enum { N = 4 };
    struct packed_store s;
    pid_t children[N];
    unsigned made = 0;
    open_store(&s, model);
    for (int i = 0; i < N; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct packed p;
            bool ok = packed_open(&s, &form, &p, NULL) == BNT_OK;
            packed_finish(&s);
            _exit(ok ? (int)n_fills : 9);
        }
    }
    for (int i = 0; i < N; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        made += (unsigned)WEXITSTATUS(status);
    }
    assert_int_equal(made, 1);
    open_form(&s, &form, false);
    packed_store_release(&s);
}

static void processes_make_a_form_once(void **state)
{
    (void)state;
    make_form_by_processes("a model");
    make_form_by_processes(model_in_thread);
}

/* ---- the weights of models ---- */

/* Logits of a few ids; what was found and what was made. */
static float *logits_of(const char *path, struct bnt_model_options *mo, uint64_t *found,
                        uint64_t *made)
{
    static const int32_t ids[] = {1, 5, 9, 2};
    struct es_engine e;
    es_open_with(&e, path, mo, &(struct bnt_session_options){.n_ctx = 16, .n_threads = 1});
    *found = bnt_model_info(e.model)->packed_bytes;
    *made = bnt_model_info(e.model)->packed_made_bytes;
    float *rows = es_eval_rows(e.session, ids, 4);
    es_close(&e);
    return rows;
}

/* Whatever packing the file has: made at the first start, found by the second, and both say what a
 * start without a folder says, bit for bit. */
static void repacked_weights_are_found_and_say_the_same(void **state)
{
    (void)state;
    static const struct bnt_mock_recipe recipes[] = {
        {.type = "tq2_0", .n_layer = 2, .n_embd = 256, .n_ff = 256, .n_vocab = 360},
        {.type = "tq1_0", .n_layer = 1, .n_embd = 256, .n_ff = 256, .n_vocab = 360},
        {.type = "i2_s", .layout = "64/16", .n_layer = 2, .n_embd = 128, .n_vocab = 360},
    };
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        const char *path = ms_make("m.gguf", &recipes[i], NULL);
        struct bnt_model_options mo = {0};
        uint64_t found, made, first_made;
        float *plain = logits_of(path, &mo, &found, &made);
        assert_int_equal(found, 0);
        mo = (struct bnt_model_options){
            .packed_dir = suite_in_scratch("kept"), .packed_min_bytes = 1, .warn = hear};
        float *first = logits_of(path, &mo, &found, &first_made);
        assert_int_equal(found, 0);
        assert_true(first_made > 0);
        float *second = logits_of(path, &mo, &found, &made);
        assert_int_equal(found, first_made);
        assert_int_equal(made, 0);
        size_t bytes = 4 * 360 * sizeof(float);
        assert_memory_equal(first, plain, bytes);
        assert_memory_equal(second, plain, bytes);
        free(plain);
        free(first);
        free(second);
    }
    assert_int_equal(n_words, 0);
}

/* Large enough for several threads; beside what needs no repacking. */
static void many_threads_make_what_one_would(void **state)
{
    (void)state;
    float *rows[2];
    for (size_t i = 0; i < 2; i++) {
        const struct bnt_mock_recipe r = {.type = i ? "tq2_0" : "i2_s",
                                          .n_layer = 3,
                                          .n_embd = 1024,
                                          .n_head = 8,
                                          .n_ff = 3072,
                                          .n_vocab = 360};
        struct bnt_model_options mo = {0};
        uint64_t found, made;
        rows[i] = logits_of(ms_make("m.gguf", &r, NULL), &mo, &found, &made);
        assert_int_equal(made > 4 << 20, i == 1);
    }
    assert_memory_equal(rows[0], rows[1], 4 * 360 * sizeof(float));
    free(rows[0]);
    free(rows[1]);
}

/* 128/32 is mapped where it lies: nothing is made, kept or hashed. */
/* Less than all codes take, more than their copies by columns and five to a byte, which are made of
 * any model. */
static void weights_that_fit_as_they_are_write_nothing(void **state)
{
    (void)state;
    uint64_t found, made;
    struct bnt_model_options mo = {
        .packed_dir = suite_in_scratch("kept"), .packed_min_bytes = 600000, .warn = hear};
    struct es_engine e;
    es_open_with(&e, suite_bundled_model(), &mo, &(struct bnt_session_options){.n_ctx = 16});
    found = bnt_model_info(e.model)->packed_bytes;
    made = bnt_model_info(e.model)->packed_made_bytes;
    assert_int_equal(bnt_model_info(e.model)->hash_ns, 0);
    es_close(&e);
    assert_int_equal(found + made, 0);
    assert_int_equal(access(suite_in_scratch("kept"), F_OK), -1);
}

/* The option of the command: the folder of the cache, and what --json says of it. */
static void infer_keeps_packed_weights_in_the_cache(void **state)
{
    (void)state;
    const struct bnt_mock_recipe recipe = {
        .type = "tq2_0", .n_layer = 1, .n_embd = 256, .n_ff = 256, .n_vocab = 360};
    static const struct {
        const char *packed;
        bool made, found;
    } runs[] = {{"off", true, false},
                {"auto", true, false}, /* too small to be kept */
                {"always", true, false},
                {"always", false, true},
                {"off", true, false}};
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", ms_make("m.gguf", &recipe, NULL));
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct infer_result r = INFER("-m", path, "--allow-mock", "-p", "a", "-n", "2", "--json",
                                      "--packed", runs[i].packed);
        infer_expect(&r, BNT_E_MOCK_USED);
        const json_t *metrics = js_get(r.json, "metrics");
        assert_int_equal(json_integer_value(js_get(metrics, "packed_made_bytes")) > 0,
                         runs[i].made);
        assert_int_equal(json_integer_value(js_get(metrics, "packed_bytes")) > 0, runs[i].found);
        infer_drop(&r);
    }
}

static const struct suite_test tests[] = {
    {.name = "packed_a_form_is_made_once", .body = a_form_is_made_once},
    {.name = "packed_an_interruption_ends_the_making", .body = an_interruption_ends_the_making},
    {.name = "packed_damage_is_made_good_with_a_word", .body = damage_is_made_good_with_a_word},
    {.name = "packed_a_foreign_file_is_not_used", .body = a_foreign_file_is_not_used},
    {.name = "packed_a_proof_ends_with_a_change", .body = a_proof_ends_with_a_change},
    {.name = "packed_what_cannot_be_kept_is_made_in_memory",
     .body = what_cannot_be_kept_is_made_in_memory},
    {.name = "packed_small_forms_and_stores_without_a_folder_keep_nothing",
     .body = small_forms_and_stores_without_a_folder_keep_nothing},
    {.name = "packed_a_form_that_cannot_be_made_is_an_error",
     .body = a_form_that_cannot_be_made_is_an_error},
    {.name = "packed_what_was_made_before_the_disk_was_full_is_kept",
     .body = what_was_made_before_the_disk_was_full_is_kept},
    {.name = "packed_a_form_is_kept_without_a_promise_of_room",
     .body = a_form_is_kept_without_a_promise_of_room},
    {.name = "packed_a_digest_may_be_known_late", .body = a_digest_may_be_known_late},
    {.name = "packed_a_form_that_is_there_is_used_and_ours_is_dropped",
     .body = a_form_that_is_there_is_used_and_ours_is_dropped},
    {.name = "packed_a_form_is_kept_although_it_was_released",
     .body = a_form_is_kept_although_it_was_released},
    {.name = "packed_a_replaced_model_lends_no_digest", .body = a_replaced_model_lends_no_digest},
    {.name = "packed_processes_make_a_form_once", .body = processes_make_a_form_once},
    {.name = "packed_weights_are_found_and_say_the_same",
     .body = repacked_weights_are_found_and_say_the_same},
    {.name = "packed_many_threads_make_what_one_would", .body = many_threads_make_what_one_would},
    {.name = "packed_weights_that_fit_as_they_are_write_nothing",
     .body = weights_that_fit_as_they_are_write_nothing},
    {.name = "packed_infer_keeps_weights_in_the_cache",
     .body = infer_keeps_packed_weights_in_the_cache},
    {0},
};
const struct suite suite_packed = {"packed", tests,
                                   "packed_unproven packed_scale packed_replaced packed_twice"};
