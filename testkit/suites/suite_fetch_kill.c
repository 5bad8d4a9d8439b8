/* Guards what a death or a failing disk may cost a fetch: a wrong byte, a finished model, more than
 * a twentieth of what was received, a cache that does not go on. Every step of a fetch over the
 * network that writes, syncs, renames or removes, those within the databases included, is killed
 * once and fails once; thousands of random kills hit fetches, imports, collections and the moves
 * between the tiers wherever they are. */
#include "testkit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "fetch/bnt_fetch.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/disk_steps.h"
#include "testkit/suites/transfer_fixture.h"

enum { MODELS = 3, MODEL_BYTES = 700000, LARGE_BYTES = 8 << 20 };

/* ---- what is fetched: compressible ---- */

static struct {
    char name[8], path[16], url[300], digest[BNT_SHA256_HEX];
    char *bytes;
    size_t n;
} models[MODELS];

static struct bnt_mock_route routes[MODELS + 1];
static struct bnt_mock_server *server;

static void make_model(size_t m, size_t n)
{
    char *text = malloc(n + 64);
    assert_non_null(text);
    for (size_t at = 0; at < n;) {
        at += (size_t)snprintf(text + at, 64, "%zu of model %zu; ", at, m);
    }
    snprintf(models[m].name, sizeof models[m].name, "m%zu", m);
    snprintf(models[m].path, sizeof models[m].path, "/m%zu", m);
    transfer_digest(text, n, models[m].digest);
    models[m].bytes = text;
    models[m].n = n;
}

static void serve(size_t n, uint64_t rate_bytes_s)
{
    for (size_t m = 0; m < MODELS; m++) {
        make_model(m, n);
        routes[m] = (struct bnt_mock_route){.path = models[m].path,
                                            .status = 200,
                                            .body = models[m].bytes,
                                            .body_bytes = n,
                                            .etag = "\"v\"",
                                            .rate_bytes_s = rate_bytes_s};
    }
    server = transfer_server(routes);
    for (size_t m = 0; m < MODELS; m++) {
        snprintf(models[m].url, sizeof models[m].url, "%s%s", bnt_mock_server_url(server),
                 models[m].path);
    }
}

/* How far the transfer of now has come, in memory that outlives the process that receives it, and
 * what of it a later process did not find again. Taken from the client: a server has also handed to
 * the network what a killed process left in its sockets, which grows with the load of the machine.
 */
static struct received {
    uint64_t done, lost;
} * received;

static void note_done(struct received *r, uint64_t done_bytes)
{
    if (done_bytes < r->done) {
        r->lost += r->done - done_bytes;
    }
    r->done = done_bytes;
}

static void note_start(void *ctx, const struct bnt_fetch_event *event)
{
    if (event->kind == BNT_FETCH_START) {
        note_done(ctx, event->done_bytes);
    }
}

static void note_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)total_bytes;
    note_done(ctx, done_bytes);
}

static enum bnt_status fetch_model(struct bnt_cache *c, size_t m, struct bnt_err *err)
{
    struct bnt_fetch_result r;
    struct bnt_fetch_opts o = {
        .sha256 = models[m].digest, .name = models[m].name, .connections = 1};
    if (received) {
        o.event = note_start;
        o.progress = note_progress;
        o.ctx = received;
    }
    return bnt_fetch(c, models[m].url, &o, &r, err);
}

/* Nothing is corrupt, and `finished` is there. */
static void assert_sound(struct bnt_cache *c, const char *finished, long at)
{
    struct bnt_cache_list list;
    bool there = false;
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    for (size_t i = 0; i < list.n; i++) {
        enum bnt_cache_health h = BNT_CACHE_MISSING;
        assert_int_equal(bnt_cache_verify(c, &list.at[i], NULL, NULL, &h, NULL), BNT_OK);
        bool wanted = strcmp(list.at[i].name, finished) == 0;
        there = there || wanted;
        if (h != BNT_CACHE_OK && (wanted || h != BNT_CACHE_MISSING)) {
            fail_msg("point %ld: %s has health %d", at, list.at[i].name, (int)h);
        }
    }
    bnt_cache_list_release(&list);
    if (!there) {
        fail_msg("point %ld: a finished model is lost", at);
    }
}

static void assert_fetches(struct bnt_cache *c, size_t m, long at)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    struct bnt_buf b = BNT_BUF(64 << 20);
    if (fetch_model(c, m, &err) != BNT_OK ||
        bnt_cache_lookup(c, models[m].name, &e, path, &err) != BNT_OK) {
        fail_msg("point %ld: %s", at, err.msg);
    }
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    assert_int_equal(b.len, models[m].n);
    assert_memory_equal(b.data, models[m].bytes, models[m].n);
    bnt_buf_release(&b);
}

/* ---- every step ---- */

/* The first steps are those of the bytes themselves: none of them is passed over. */
static long next_step(long step, long stride)
{
    return step < 10 ? 1 : stride;
}

/* A cache in which m0 is finished and m1 is not begun. */
static struct bnt_cache *begin_round(int round)
{
    struct bnt_cache *c = disk_steps_cache(round);
    assert_int_equal(fetch_model(c, 0, NULL), BNT_OK);
    return c;
}

static void kill_each_step(long stride)
{
    int round = 0, points = 0;
    bool done = false;
    serve(MODEL_BYTES, 0);
    for (long step = 0; !done; step += next_step(step, stride), round++) {
        bnt_cache_close(begin_round(round));
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct bnt_cache *c = disk_steps_cache(round);
            disk_steps_arm(step, 0, false);
            _exit(fetch_model(c, 1, NULL) == BNT_OK ? 0 : 1);
        }
        done = !disk_steps_killed(child);
        points += !done;
        struct bnt_cache *c = disk_steps_cache(round);
        assert_sound(c, "m0", step);
        assert_fetches(c, 1, step);
        assert_sound(c, "m1", step);
        bnt_cache_close(c);
    }
    print_message("%d points\n", points);
    assert_true(points >= (stride > 1 ? 10 : 60));
    bnt_mock_server_stop(server);
}

static void some_steps_survive_a_kill(void **state)
{
    (void)state;
    kill_each_step(9);
}

static void every_step_survives_a_kill(void **state)
{
    (void)state;
    kill_each_step(1);
}

static void fail_each_step(long stride)
{
    static const struct {
        int code;
        bool is_short;
    } faults[] = {{ENOSPC, false}, {EIO, false}, {ENOSPC, true}};
    int round = 0, failures = 0;
    serve(MODEL_BYTES, 0);
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++) {
        bool done = false;
        for (long step = 0; !done; step += next_step(step, stride), round++) {
            struct bnt_err err = {0};
            struct bnt_cache *c = begin_round(round);
            disk_steps_arm(step, faults[f].code, faults[f].is_short);
            enum bnt_status st = fetch_model(c, 1, &err);
            done = !disk_steps_disarm();
            failures += st != BNT_OK;
            if (st != BNT_OK && st != BNT_E_NO_SPACE && st != BNT_E_FAILED) {
                fail_msg("step %ld: status %d: %s", step, (int)st, err.msg);
            }
            assert_true(!done || st == BNT_OK);
            assert_sound(c, "m0", step);
            assert_fetches(c, 1, step);
            bnt_cache_close(c);
        }
    }
    print_message("%d failures\n", failures);
    assert_true(failures >= (stride > 1 ? 20 : 100));
    bnt_mock_server_stop(server);
}

static void some_steps_survive_a_failing_disk(void **state)
{
    (void)state;
    fail_each_step(13);
}

static void every_step_survives_a_failing_disk(void **state)
{
    (void)state;
    fail_each_step(1);
}

/* ---- random kills: soundness ---- */

enum { KILL_AFTER_MAX_US = 25000, CHECK_EACH = 25 };

/* Everything that changes a cache, again and again, until it is killed. */
static void endless_changes(unsigned seed)
{
    char archive[BNT_PATH_MAX];
    struct bnt_cache *c = disk_steps_cache(0);
    fixture_path(archive, "x.tar");
    for (;;) {
        struct bnt_cache_entry e;
        struct bnt_cache_demotion d;
        struct bnt_cache_import in;
        struct bnt_cache_gc_report gc;
        char path[BNT_PATH_MAX];
        bool removed;
        unsigned r = (unsigned)rand_r(&seed);
        size_t m = 1 + r / 64 % (MODELS - 1);
        switch (r % 8) {
        case 0:
        case 1:
            (void)fetch_model(c, m, NULL);
            break;
        case 2:
            (void)bnt_cache_import_file(c, archive, &in, NULL);
            break;
        case 3:
            if (bnt_cache_find(c, models[m].name, &e, NULL) == BNT_OK) {
                (void)bnt_cache_demote(c, &e, &d, NULL);
            }
            break;
        case 4:
            (void)bnt_cache_lookup(c, models[m].name, &e, path, NULL);
            break;
        case 5:
            (void)bnt_cache_remove(c, models[m].name, &e, &removed, NULL);
            break;
        case 6:
            if (bnt_cache_find(c, "m0", &e, NULL) == BNT_OK) { /* the finished one moves, too */
                (void)bnt_cache_demote(c, &e, &d, NULL);
                (void)bnt_cache_lookup(c, "m0", &e, path, NULL);
            }
            break;
        default:
            (void)bnt_cache_gc(c, &(struct bnt_cache_gc_opts){.max_bytes = 1}, &gc, NULL);
            bnt_cache_gc_report_release(&gc);
            break;
        }
    }
}

/* The archive that is imported: another model. */
static void make_archive(void)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_list list;
    struct bnt_cache *other = fixture_cache();
    (void)fixture_add(other, "carried", "carried from another machine");
    assert_int_equal(bnt_cache_list(other, &list, NULL), BNT_OK);
    assert_int_equal(bnt_cache_export(other, &list, fixture_path(path, "x.tar"), NULL), BNT_OK);
    bnt_cache_list_release(&list);
    bnt_cache_close(other);
}

static void survive_random_kills(int kills)
{
    struct bnt_cache_entry e;
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    serve(MODEL_BYTES, 0);
    make_archive();
    struct bnt_cache *c = begin_round(0);
    assert_int_equal(bnt_cache_pin(c, "m0", true, &e, NULL), BNT_OK);
    bnt_cache_close(c);
    for (int i = 1; i <= kills; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            endless_changes(seed + (unsigned)i);
        }
        disk_steps_kill_after(child, (unsigned)rand_r(&seed) % KILL_AFTER_MAX_US);
        if (i % CHECK_EACH == 0 || i == kills) {
            c = disk_steps_cache(0);
            assert_sound(c, "m0", i);
            assert_fetches(c, 0, i);
            bnt_cache_close(c);
        }
    }
    print_message("%d kills: corrupt 0, finished lost 0; %zu requests\n", kills,
                  bnt_mock_server_requests(server));
    bnt_mock_server_stop(server);
}

static void survives_a_hundred_random_kills(void **state)
{
    (void)state;
    survive_random_kills(100);
}

static void survives_thousands_of_random_kills(void **state)
{
    (void)state;
    survive_random_kills(5000);
}

/* ---- random kills: what is kept ---- */

/* Fetch m1 over and over; of all that was received, at least 95 % must have become a model or be in
 * the part that the next fetch takes up. */
static void kept_share(int kills, unsigned after_min_us, unsigned after_span_us)
{
    uint64_t finished = 0;
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    received =
        mmap(NULL, sizeof *received, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(received, MAP_FAILED);
    serve(LARGE_BYTES, 4 << 20);
    for (int i = 0; i < kills; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct bnt_cache *c = disk_steps_cache(0);
            _exit(fetch_model(c, 1, NULL) == BNT_OK ? 0 : 1);
        }
        disk_steps_kill_after(child, after_min_us + (unsigned)rand_r(&seed) % after_span_us);
        struct bnt_cache *c = disk_steps_cache(0);
        struct bnt_cache_entry e;
        bool there = false, removed;
        assert_int_equal(bnt_cache_find_name(c, "m1", &e, &there, NULL), BNT_OK);
        if (there) {
            finished++;
            assert_fetches(c, 1, i);
            assert_int_equal(bnt_cache_remove(c, "m1", &e, &removed, NULL), BNT_OK);
            received->done = 0;
        }
        bnt_cache_close(c);
    }
    struct bnt_cache *c = disk_steps_cache(0);
    assert_fetches(c, 1, kills);
    finished++;
    bnt_cache_close(c);
    uint64_t kept = finished * LARGE_BYTES;
    double share = (double)kept / (double)(kept + received->lost);
    print_message("%d kills: %llu bytes kept, %llu lost (%.2f %% kept)\n", kills,
                  (unsigned long long)kept, (unsigned long long)received->lost, share * 100);
    assert_true(received->done > 0); /* the client told what it did */
    assert_true(share >= 0.95);
    bnt_mock_server_stop(server);
}

static void some_kills_keep_what_came(void **state)
{
    (void)state;
    kept_share(12, 2000, 100000);
}

static void kills_keep_what_came(void **state)
{
    (void)state;
    kept_share(200, 300000, 600000);
}

static const struct suite_test tests[] = {
    {.name = "fetch_kill_some_steps_survive_a_kill",
     .body = some_steps_survive_a_kill,
     .needs = "no-tsan",
     .timeout_ms = 60000},
    {.name = "fetch_kill_some_steps_survive_a_failing_disk",
     .body = some_steps_survive_a_failing_disk,
     .timeout_ms = 60000},
    {.name = "fetch_kill_survives_a_hundred_random_kills",
     .body = survives_a_hundred_random_kills,
     .timeout_ms = 60000},
    {.name = "fetch_kill_some_kills_keep_what_came",
     .body = some_kills_keep_what_came,
     .timeout_ms = 60000},
    {.name = "fetch_kill_every_step_survives_a_kill",
     .body = every_step_survives_a_kill,
     .needs = "no-tsan",
     .timeout_ms = 300000,
     .tier = SUITE_INTEGRATION},
    {.name = "fetch_kill_every_step_survives_a_failing_disk",
     .body = every_step_survives_a_failing_disk,
     .timeout_ms = 300000,
     .tier = SUITE_INTEGRATION},
    {.name = "fetch_kill_survives_thousands_of_random_kills",
     .body = survives_thousands_of_random_kills,
     .timeout_ms = 1200000,
     .tier = SUITE_FULL},
    {.name = "fetch_kill_kills_keep_what_came",
     .body = kills_keep_what_came,
     .timeout_ms = 600000,
     .tier = SUITE_FULL},
    {0},
};
const struct suite suite_fetch_kill = {"fetch_kill", tests, "part_write_lost"};
