/* Guards against file locks that lie: flock and fcntl answer success and lock nothing. Processes
 * then do everything at once, and it may cost traffic and repeated work, but no content may be
 * wrong, nothing that was finished and pinned may be gone, and the index must stay whole. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/support.h"
#include "testkit/suites/transfer_fixture.h"

enum { MODELS = 3, MODEL_BYTES = 600000, WORKERS_MAX = 8, ROUND_WORDS = 10 };

/* ---- what is fetched: compressible, so that demotion has something to do ---- */

static struct {
    char name[8], path[16], url[300], digest[BNT_SHA256_HEX];
    char *bytes;
} models[MODELS];

static void make_models(void)
{
    for (unsigned m = 0; m < MODELS; m++) {
        char *text = malloc(MODEL_BYTES + 64);
        assert_non_null(text);
        for (size_t n = 0; n < MODEL_BYTES;) {
            n += (size_t)snprintf(text + n, 64, "%zu of model %u; ", n, m);
        }
        snprintf(models[m].name, sizeof models[m].name, "m%u", m);
        snprintf(models[m].path, sizeof models[m].path, "/m%u", m);
        transfer_digest(text, MODEL_BYTES, models[m].digest);
        models[m].bytes = text;
    }
}

static struct bnt_mock_server *serve(struct bnt_mock_route routes[MODELS + 1])
{
    memset(routes, 0, (MODELS + 1) * sizeof *routes);
    for (size_t m = 0; m < MODELS; m++) {
        routes[m] = (struct bnt_mock_route){.path = models[m].path,
                                            .status = 200,
                                            .body = models[m].bytes,
                                            .body_bytes = MODEL_BYTES,
                                            .etag = "\"v\""};
    }
    struct bnt_mock_server *s = transfer_server(routes);
    for (size_t m = 0; m < MODELS; m++) {
        snprintf(models[m].url, sizeof models[m].url, "%s/m%zu", bnt_mock_server_url(s), m);
    }
    return s;
}

/* ---- processes whose locks lie ---- */

/* The words of a run at the top of its log, so that a failed one can be repeated. */
static void log_words(int out, const char *const *argv)
{
    for (size_t i = 0; argv[i]; i++) {
        dprintf(out, "%s%s", argv[i], argv[i + 1] ? " " : "\n");
    }
}

/* Run bnt with these words, its output into a file of the worker; the exit code. */
static int run_bnt(const char *const *words, const char *log)
{
    int status = 0, out = open(log, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    const char *argv[ROUND_WORDS + 2] = {"bnt"};
    for (size_t i = 0; words[i] && i < ROUND_WORDS; i++) {
        argv[i + 1] = words[i];
    }
    log_words(out, argv);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out, 1);
        (void)dup2(out, 2);
        execv(suite_bnt(), (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int code = waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    dprintf(out, "exit %d, wait status %d\n", code, status);
    close(out);
    return code;
}

/* What a worker may do, and which exit codes are no failure: a model may just have been removed by
 * another one (8) or be in the way of a removal (1). */
static bool one_step(unsigned r, const char *log)
{
    size_t m = r / 16 % MODELS;
    const char *const fetch[] = {"fetch",          models[m].url, "--sha256",
                                 models[m].digest, "--name",      models[m].name,
                                 "--connections",  "1",           NULL};
    const char *const steps[][5] = {{"cache", "gc", "--max-size", "700k", NULL},
                                    {"cache", "demote", models[m].name, NULL},
                                    {"path", models[m].name, NULL},
                                    {"cache", "rm", models[m].name, NULL},
                                    {"cache", "verify", models[m].name, NULL}};
    if (r % 16 < 8) {
        return run_bnt(fetch, log) == 0;
    }
    int code = run_bnt(steps[r % 16 % 5], log);
    return code == 0 || code == 8 || code == 1;
}

/* Exit 0 when all steps went well; else the log of the failed one stays. */
static int work(unsigned worker, unsigned seed, int steps)
{
    char relative[32], log[BNT_PATH_MAX];
    snprintf(relative, sizeof relative, "log%u", worker);
    fixture_path(log, relative);
    for (int i = 0; i < steps; i++) {
        if (!one_step((unsigned)rand_r(&seed), log)) {
            return 1;
        }
    }
    return 0;
}

static void fail_with_log(unsigned worker)
{
    char relative[32], path[BNT_PATH_MAX];
    struct bnt_buf b = BNT_BUF(1 << 20);
    snprintf(relative, sizeof relative, "log%u", worker);
    (void)bnt_file_read(fixture_path(path, relative), &b, NULL);
    fail_msg("worker %u: %s", worker, bnt_buf_view(&b));
}

static void assert_sound(void)
{
    struct bnt_cache_list list;
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    for (size_t i = 0; i < list.n; i++) {
        enum bnt_cache_health h = BNT_CACHE_MISSING;
        assert_int_equal(bnt_cache_verify(c, &list.at[i], NULL, NULL, &h, NULL), BNT_OK);
        if (h != BNT_CACHE_OK && h != BNT_CACHE_MISSING) {
            fail_msg("%s has health %d", list.at[i].name, (int)h);
        }
    }
    bnt_cache_list_release(&list);
    assert_int_equal(bnt_cache_lookup(c, "kept", &e, path, NULL), BNT_OK);
    fixture_assert_holds(path, "finished and pinned");
    bnt_cache_close(c);
    assert_string_equal(fixture_sql_text("PRAGMA integrity_check"), "ok");
}

static void everything_at_once(unsigned workers, int steps)
{
    char dir[BNT_PATH_MAX];
    pid_t pids[WORKERS_MAX];
    struct bnt_mock_route routes[MODELS + 1];
    struct bnt_cache_entry e;
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    make_models();
    struct bnt_mock_server *s = serve(routes);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    struct bnt_cache *c = fixture_cache();
    (void)fixture_add(c, "kept", "finished and pinned");
    assert_int_equal(bnt_cache_pin(c, "kept", true, &e, NULL), BNT_OK);
    bnt_cache_close(c);
    support_preload("no_locks.so");
    for (unsigned w = 0; w < workers; w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        if (pids[w] == 0) {
            _exit(work(w, seed + w, steps));
        }
    }
    for (unsigned w = 0; w < workers; w++) {
        int status = 0;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail_with_log(w);
        }
    }
    assert_sound();
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    for (size_t m = 0; m < MODELS; m++) { /* and it goes on */
        const struct bnt_fetch_opts o = {.sha256 = models[m].digest, .name = models[m].name};
        if (transfer_fetch(s, models[m].path, &o, &r, NULL, &err) != BNT_OK) {
            fail_msg("%s", err.msg);
        }
        transfer_assert_blob(&r, models[m].bytes, MODEL_BYTES);
    }
    bnt_mock_server_stop(s);
}

/* ---- bodies ---- */

static void a_few_processes_do_everything_at_once(void **state)
{
    (void)state;
    everything_at_once(8, 16);
}

static void many_processes_do_everything_at_once(void **state)
{
    (void)state;
    everything_at_once(8, 60);
}

/* The shim does what it says: nobody waits for the one who transfers, and all are served. */
static void a_lock_that_lies_costs_traffic(void **state)
{
    (void)state;
    enum { PROCESSES = 6 };
    char dir[BNT_PATH_MAX];
    pid_t pids[PROCESSES];
    struct bnt_mock_route routes[MODELS + 1];
    make_models();
    struct bnt_mock_server *s = serve(routes);
    bnt_mock_server_hold(s);
    routes[0].rate_bytes_s = MODEL_BYTES;
    bnt_mock_server_go_on(s);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    support_preload("no_locks.so");
    const char *const fetch[] = {"fetch", models[0].url, "--sha256", models[0].digest, NULL};
    for (unsigned w = 0; w < PROCESSES; w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        if (pids[w] == 0) {
            char relative[32], log[BNT_PATH_MAX];
            snprintf(relative, sizeof relative, "log%u", w);
            _exit(run_bnt(fetch, fixture_path(log, relative)));
        }
    }
    for (unsigned w = 0; w < PROCESSES; w++) {
        int status = 0;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail_with_log(w);
        }
    }
    assert_true(bnt_mock_server_body_bytes(s) > MODEL_BYTES); /* with locks: once */
    bnt_mock_server_stop(s);
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e;
    enum bnt_cache_health h = BNT_CACHE_MISSING;
    assert_int_equal(bnt_cache_find(c, "m0", &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_verify(c, &e, NULL, NULL, &h, NULL), BNT_OK);
    assert_int_equal(h, BNT_CACHE_OK);
    bnt_cache_close(c);
}

static const struct suite_test tests[] = {
    {.name = "bad_locks_a_lock_that_lies_costs_traffic",
     .body = a_lock_that_lies_costs_traffic,
     .timeout_ms = 30000},
    {.name = "bad_locks_a_few_processes_do_everything_at_once",
     .body = a_few_processes_do_everything_at_once,
     .timeout_ms = 60000},
    {.name = "bad_locks_many_processes_do_everything_at_once",
     .body = many_processes_do_everything_at_once,
     .timeout_ms = 300000,
     .tier = SUITE_INTEGRATION},
    {0},
};
const struct suite suite_bad_locks = {"bad_locks", tests, "db_guard"};
