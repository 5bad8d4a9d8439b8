/* Guards the end of a fetch in time: a wait, a transfer or a step that hangs beyond what it was
 * given, what has arrived lost with it, a limit that another one should have gone before. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/part.h"
#include "fetch/project.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { LONG_BYTES = 6000000 };
#define SECOND_NS 1000000000ull
#define RUN FIXTURE_BNT

/* A file of 6 MB at 100 kB/s, for which there are 30 seconds. */
static void time_ends_a_transfer_and_the_next_one_goes_on(void **state)
{
    (void)state;
    const char *bytes = transfer_bytes(LONG_BYTES, 1);
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf",
                                             .status = 200,
                                             .body = bytes,
                                             .body_bytes = LONG_BYTES,
                                             .etag = "\"1\""},
                                            {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    double waited_s;
    bnt_clock_fake(TRANSFER_START_S * SECOND_NS);
    struct bnt_fetch_opts o = {.limit_bytes_s = 100000,
                               .connections = 1,
                               .deadline_ns = (TRANSFER_START_S + 30) * SECOND_NS};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, &waited_s, &err), BNT_E_TIME);
    assert_true(waited_s >= 30 && waited_s < 32);
    assert_non_null(strstr(err.hint, "goes on from there"));
    const uint64_t first_bytes = bnt_mock_server_body_bytes(s);
    o = (struct bnt_fetch_opts){.connections = 1};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    transfer_assert_blob(&r, bytes, LONG_BYTES);
    char head[8192];
    bnt_mock_server_request(s, 1, head, sizeof head);
    const char *range = strstr(head, "Range: bytes=");
    assert_non_null(range);
    const unsigned long begin = strtoul(range + strlen("Range: bytes="), NULL, 10);
    assert_true(begin >= 2900000 && begin <= first_bytes); /* 30 s of it were kept */
    bnt_mock_server_stop(s);
}

static void wait_for_another_process_ends_in_time(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct part_lock lock;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.deadline_ns = (TRANSFER_START_S + 7) * SECOND_NS};
    bnt_clock_fake(TRANSFER_START_S * SECOND_NS);
    assert_int_equal(bnt_mkdirs(fixture_path(dir, "c/part"), NULL), BNT_OK);
    int fd = open(fixture_path(path, "c/part/k.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0); /* as another process has it */
    assert_int_equal(part_lock_wait(fixture_path(dir, "c"), "k", &o, &lock, &err), BNT_E_TIME);
    const uint64_t waited_ns = bnt_clock_now_ns() - TRANSFER_START_S * SECOND_NS;
    assert_true(waited_ns >= 7 * SECOND_NS && waited_ns < 8 * SECOND_NS);
    close(fd);
}

/* A pause that would outlast the time is not begun: the cause is told at once. */
static void pause_beyond_the_time_is_not_begun(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {{.status = 429, .headers = "Retry-After: 100\r\n"},
                                                 {0}};
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf", .steps = steps}, {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    double waited_s;
    bnt_clock_fake(TRANSFER_START_S * SECOND_NS);
    const struct bnt_fetch_opts o = {.deadline_ns = (TRANSFER_START_S + 90) * SECOND_NS};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, &waited_s, &err), BNT_E_RATE_LIMIT);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    assert_true(waited_s < 1);
    bnt_mock_server_stop(s);
}

/* What does not look at the clock is ended by force: here SQLite, which waits for a lock. */
static void step_that_hangs_is_ended_by_force(void **state)
{
    (void)state;
    struct suite_output o;
    sqlite3 *db;
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    assert_int_equal(unsetenv("BNT_FETCH_TIMEOUT"), 0);
    RUN(&o, 0, "fetch", "bundled:");
    suite_output_release(&o);
    assert_int_equal(bnt_cache_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(path, NULL, "%s/index.db", dir), BNT_OK);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    RUN(&o, 19, "fetch", "--json", "--force", "--timeout", "1", "bundled:");
    assert_non_null(strstr(o.err, "goes on from there"));
    assert_non_null(strstr(o.out, "{\"event\":\"result\",\"exit\":19"));
    suite_output_release(&o);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    RUN(&o, 0, "fetch", "bundled:");
    suite_output_release(&o);
}

static void time_is_read_from_option_variable_and_manifest(void **state)
{
    (void)state;
    static const struct {
        const char *option, *variable;
        int exit;
    } cases[] = {
        {"10", NULL, 0}, {"10m", NULL, 0}, {"0", NULL, 0},  {"x", NULL, 2},
        {"", NULL, 2},   {"-1", NULL, 2},  {"8d", NULL, 2}, {NULL, "x", 2},
        {NULL, "", 0},   {NULL, "1h", 0},  {"10", "x", 0}, /* what is not used is not judged */
    };
    fixture_file("m.gguf", "m");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        if (cases[i].variable) {
            assert_int_equal(setenv("BNT_FETCH_TIMEOUT", cases[i].variable, 1), 0);
        } else {
            assert_int_equal(unsetenv("BNT_FETCH_TIMEOUT"), 0);
        }
        if (cases[i].option) {
            RUN(&o, cases[i].exit, "fetch", "m.gguf", "--timeout", cases[i].option);
        } else {
            RUN(&o, cases[i].exit, "fetch", "m.gguf");
        }
        suite_output_release(&o);
    }
}

/* The option goes before the variable, and that before the manifest; lock is held to it as fetch
 * is. A pause of two seconds fits into an hour, and is not begun where there is only one. */
static void option_beats_variable_beats_manifest(void **state)
{
    (void)state;
    static const struct {
        const char *command, *manifest, *variable, *option;
        int exit;
    } cases[] = {
        {"fetch", "1s", NULL, NULL, 12}, {"fetch", "1h", "1", NULL, 12},
        {"fetch", "1h", "1h", "1", 12},  {"fetch", "1s", "1", "1h", 0},
        {"fetch", "1s", "1h", NULL, 0},  {"lock", "1h", NULL, "1", 12},
        {"lock", "1s", NULL, NULL, 12},  {"update", "1h", "1", NULL, 12},
    };
    static const struct bnt_mock_step steps[] = {
        {.status = 429, .headers = "Retry-After: 2\r\n"}, {.status = 200}, {0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bnt_mock_route routes[] = {
            {.path = "/m.gguf", .body = "bytes", .body_bytes = 5, .steps = steps}, {0}};
        struct bnt_mock_server *s = transfer_tls_server(routes);
        struct suite_output o;
        char text[300], dir[BNT_PATH_MAX], relative[16];
        snprintf(relative, sizeof relative, "c%zu", i); /* what one notes of the server */
        assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, relative), 1), 0);
        snprintf(text, sizeof text, "timeout: %s\nmodels:\n  m: {source: '%s/m.gguf'}\n",
                 cases[i].manifest, bnt_mock_server_url(s));
        fixture_file(MANIFEST_FILE, text);
        if (cases[i].variable) {
            assert_int_equal(setenv("BNT_FETCH_TIMEOUT", cases[i].variable, 1), 0);
        } else {
            assert_int_equal(unsetenv("BNT_FETCH_TIMEOUT"), 0);
        }
        if (cases[i].option) {
            RUN(&o, cases[i].exit, cases[i].command, "--timeout", cases[i].option);
        } else {
            RUN(&o, cases[i].exit, cases[i].command);
        }
        suite_output_release(&o);
        bnt_mock_server_stop(s);
        (void)unlink(fixture_path(dir, LOCKFILE_FILE));
    }
}

static const struct suite_test tests[] = {
    {.name = "fetch_time_ends_a_transfer_and_the_next_one_goes_on",
     .body = time_ends_a_transfer_and_the_next_one_goes_on},
    {.name = "fetch_wait_for_another_process_ends_in_time",
     .body = wait_for_another_process_ends_in_time},
    {.name = "fetch_pause_beyond_the_time_is_not_begun",
     .body = pause_beyond_the_time_is_not_begun},
    {.name = "fetch_step_that_hangs_is_ended_by_force",
     .body = step_that_hangs_is_ended_by_force,
     .tier = SUITE_INTEGRATION},
    {.name = "fetch_time_is_read_from_option_variable_and_manifest",
     .body = time_is_read_from_option_variable_and_manifest},
    {.name = "fetch_option_beats_variable_beats_manifest",
     .body = option_beats_variable_beats_manifest,
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_fetch_time = {"fetch_time", tests, "fetch_deadline"};
