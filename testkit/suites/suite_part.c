/* Guards what is kept of a transfer: bytes that are lost when a process is killed, a file that is
 * fetched by many processes at once, a part that two processes write. */
#include "testkit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/part.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { FILE_BYTES = 8 << 20, KILLS = 12, PROCESSES_MAX = 32 };

/* ---- what the bodies share ---- */

/* `bnt fetch URL --sha256 HEX --json` as a process of its own; its events go to `events`. */
static pid_t spawn_fetch_telling(const char *url, const char *hex, const char *connections,
                                 const char *events)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        int out = open(events, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        (void)dup2(null, 0);
        (void)dup2(out, 1);
        (void)dup2(null, 2);
        execl(suite_bnt(), "bnt", "fetch", url, "--sha256", hex, "--name", "m", "--json",
              "--connections", connections, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static pid_t spawn_fetch(const char *url, const char *hex, const char *connections)
{
    return spawn_fetch_telling(url, hex, connections, "/dev/null");
}

/* Where process i tells its events. */
static const char *events_path(char path[BNT_PATH_MAX], size_t i)
{
    char name[32];
    snprintf(name, sizeof name, "events.%zu", i);
    return fixture_path(path, name);
}

/* The bytes of the last event of this name that a process told; -1: none yet. */
static int64_t told_bytes(const char *events, const char *name)
{
    FILE *f = fopen(events, "re");
    json_int_t bytes = -1;
    json_t *event;
    while (f && (event = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL)) != NULL) {
        const char *what = json_string_value(json_object_get(event, "event"));
        if (what && strcmp(what, name) == 0) {
            bytes = json_integer_value(json_object_get(event, "bytes"));
        }
        json_decref(event);
    }
    if (f) {
        (void)fclose(f);
    }
    return bytes;
}

/* What a process received, by the last of its events. */
static uint64_t received_bytes(const char *events)
{
    int64_t bytes = told_bytes(events, "result");
    assert_true(bytes >= 0);
    return (uint64_t)bytes;
}

static int exit_of(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void enter_cache(void)
{
    char dir[BNT_PATH_MAX];
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
}

/* Files in <scratch>/c/part whose names end so. */
static size_t count_parts(const char *ending)
{
    char path[BNT_PATH_MAX];
    size_t n = 0;
    DIR *d = opendir(fixture_path(path, "c/part"));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        size_t len = strlen(e->d_name), k = strlen(ending);
        n += len > k && strcmp(e->d_name + len - k, ending) == 0;
    }
    if (d) {
        closedir(d);
    }
    return n;
}

/* ---- processes ---- */

/* Kill the process in the middle of its transfer, so long after it asked the server; false when it
 * had ended before. */
static bool kill_after(struct bnt_mock_server *s, size_t asked, pid_t pid, uint64_t ns)
{
    int status = 0;
    while (bnt_mock_server_requests(s) <= asked) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            return false;
        }
        bnt_clock_sleep_ns(1000000);
    }
    bnt_clock_sleep_ns(ns); /* the process runs in real time */
    assert_int_equal(kill(pid, SIGKILL), 0);
    return exit_of(pid) == -SIGKILL;
}

/* *served: bytes of the server; the file has FILE_BYTES. */
static void kill_and_finish(const char *connections, uint64_t *served)
{
    char hex[BNT_SHA256_HEX], url[300];
    const char *bytes = transfer_bytes(FILE_BYTES, 3);
    transfer_digest(bytes, FILE_BYTES, hex);
    const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf",
         .status = 200,
         .body = bytes,
         .body_bytes = FILE_BYTES,
         .etag = "\"v1\"",
         .rate_bytes_s = (4 << 20) / strtoull(connections, NULL, 10)},
        {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    snprintf(url, sizeof url, "%s/m.gguf", bnt_mock_server_url(s));
    enter_cache();
    uint64_t seed = 42;
    size_t kills = 0;
    for (size_t i = 0; i < KILLS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const size_t asked = bnt_mock_server_requests(s);
        kills += kill_after(s, asked, spawn_fetch(url, hex, connections),
                            2000000 + (seed >> 33) % 100000000);
    }
    assert_true(kills > 3); /* a loaded machine may finish the file before the last kill */
    assert_int_equal(exit_of(spawn_fetch(url, hex, connections)), 0);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_fetch(c, url, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL), BNT_OK);
    assert_true(r.hit);
    transfer_assert_blob(&r, bytes, FILE_BYTES);
    bnt_cache_close(c);
    *served = bnt_mock_server_body_bytes(s);
    assert_int_equal(count_parts(".data"), 0);
    assert_int_equal(count_parts(".state"), 0);
    bnt_mock_server_stop(s);
}

static void killed_fetches_finish(void **state)
{
    (void)state;
    uint64_t served;
    kill_and_finish("1", &served);
    assert_true(served < 2 * FILE_BYTES);
}

/* Several connections have more in their sockets, and holes in many places. */
static void killed_fetches_of_many_connections_finish(void **state)
{
    (void)state;
    uint64_t served;
    kill_and_finish("8", &served);
    assert_true(served < 2 * FILE_BYTES);
}

/* The server of a file for processes of one cache; *url and *hex are what they fetch. */
static struct bnt_mock_server *serve_one(unsigned seed, uint64_t rate_bytes_s, char url[300],
                                         char hex[BNT_SHA256_HEX])
{
    static struct bnt_mock_route routes[2];
    const char *bytes = transfer_bytes(FILE_BYTES, seed);
    transfer_digest(bytes, FILE_BYTES, hex);
    routes[0] = (struct bnt_mock_route){.path = "/m.gguf",
                                        .status = 200,
                                        .body = bytes,
                                        .body_bytes = FILE_BYTES,
                                        .etag = "\"v1\"",
                                        .rate_bytes_s = rate_bytes_s};
    struct bnt_mock_server *s = transfer_server(routes);
    snprintf(url, 300, "%s/m.gguf", bnt_mock_server_url(s));
    enter_cache();
    return s;
}

/* Counted where bytes are received: a server has also handed to the network what a connection that
 * was cut short left in its sockets, which grows with the load of the machine. */
static void processes_fetch_once(size_t n, const char *connections)
{
    char hex[BNT_SHA256_HEX], url[300];
    pid_t pids[PROCESSES_MAX];
    struct bnt_mock_server *s = serve_one(4, 16 << 20, url, hex);
    char events[BNT_PATH_MAX];
    for (size_t i = 0; i < n; i++) {
        pids[i] = spawn_fetch_telling(url, hex, connections, events_path(events, i));
    }
    uint64_t received = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(exit_of(pids[i]), 0);
        received += received_bytes(events_path(events, i));
    }
    print_message("%zu processes: %llu bytes received of a file of %d\n", n,
                  (unsigned long long)received, FILE_BYTES);
    assert_true(received >= FILE_BYTES && received <= FILE_BYTES + FILE_BYTES / 100);
    bnt_mock_server_stop(s);
}

static void many_processes_fetch_once(void **state)
{
    (void)state;
    processes_fetch_once(8, "1");
}

static void very_many_processes_fetch_once(void **state)
{
    (void)state;
    processes_fetch_once(PROCESSES_MAX, "4");
}

/* The one who transfers is killed; of those that wait, one goes on where it was, and asks for no
 * more than a twentieth of what the killed one had told to have. */
static void another_process_adopts_the_part(void **state)
{
    (void)state;
    enum { WAITERS = 6, OWNER = WAITERS };
    char hex[BNT_SHA256_HEX], url[300], events[BNT_PATH_MAX];
    pid_t waiters[WAITERS];
    struct bnt_mock_server *s = serve_one(5, 8 << 20, url, hex);
    pid_t owner = spawn_fetch_telling(url, hex, "1", events_path(events, OWNER));
    while (bnt_mock_server_requests(s) == 0) {
        bnt_clock_sleep_ns(5000000);
    }
    for (size_t i = 0; i < WAITERS; i++) {
        waiters[i] = spawn_fetch_telling(url, hex, "1", events_path(events, i));
    }
    while (told_bytes(events_path(events, OWNER), "progress") < FILE_BYTES / 4) {
        bnt_clock_sleep_ns(5000000); /* it runs in real time, for a second */
    }
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(exit_of(owner), -SIGKILL);
    int64_t had = told_bytes(events_path(events, OWNER), "progress");
    uint64_t received = 0;
    for (size_t i = 0; i < WAITERS; i++) {
        assert_int_equal(exit_of(waiters[i]), 0);
        received += received_bytes(events_path(events, i));
    }
    assert_int_equal(bnt_mock_server_requests(s), 2);
    if (received > FILE_BYTES - (uint64_t)had + (uint64_t)had / 20) {
        fail_msg("%llu bytes were received after %lld of %d", (unsigned long long)received,
                 (long long)had, FILE_BYTES);
    }
    assert_int_equal(count_parts(".data"), 0);
    bnt_mock_server_stop(s);
}

/* ---- parts ---- */

static void open_part(struct part *p)
{
    char dir[BNT_PATH_MAX];
    struct bnt_err err = {0};
    if (part_open(fixture_path(dir, "c"), "k", true, p, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
}

static void write_some(struct part *p, const char *text)
{
    assert_int_equal(part_write(p, 0, text, strlen(text), NULL), BNT_OK);
}

/* Locks that answer success without locking look like this: two owners at once. */
static void part_of_a_living_owner_is_left_alone(void **state)
{
    (void)state;
    struct part a, b, c;
    open_part(&a);
    write_some(&a, "abc");
    open_part(&b);
    assert_false(b.resumed);
    write_some(&b, "xyz12");
    assert_int_equal(part_front(&a), 3);
    write_some(&a, "def");
    fixture_assert_holds(a.file.path, "abcdef");
    fixture_assert_holds(b.file.path, "xyz12");
    part_keep(&a);
    open_part(&c);
    assert_true(c.resumed);
    assert_int_equal(part_front(&c), 6);
    fixture_assert_holds(c.file.path, "abcdef");
    part_drop(&b);
    part_drop(&c);
    assert_int_equal(count_parts(".data"), 0);
    assert_int_equal(count_parts(".state"), 0);
}

/* In a container nobody may ever wait for a process that was killed. */
static void part_of_a_zombie_is_taken_up(void **state)
{
    (void)state;
    struct part p;
    siginfo_t info;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        open_part(&p);
        write_some(&p, "abc");
        _exit(0);
    }
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    open_part(&p);
    assert_true(p.resumed);
    assert_int_equal(part_front(&p), 3);
    part_drop(&p);
    assert_int_equal(count_parts(".data"), 0);
    assert_int_equal(exit_of(pid), 0);
}

static void part_from_elsewhere_is_copied(void **state)
{
    (void)state;
    struct part a, b;
    char to[BNT_PATH_MAX];
    open_part(&a);
    write_some(&a, "abc");
    part_keep(&a); /* brings it to disk, so that the second record holds */
    open_part(&a);
    write_some(&a, "not on disk");
    fixture_path(to, "c/part/k.0123456789abcdef-1-1.state"); /* another boot or machine */
    assert_int_equal(rename(a.state_path, to), 0);
    open_part(&b);
    assert_true(b.resumed);
    fixture_assert_holds(b.file.path, "abc");
    assert_string_not_equal(a.file.path, b.file.path);
    write_some(&b, "x");
    fixture_assert_holds(a.file.path, "abcnot on disk");
    part_drop(&a);
    part_drop(&b);
}

static void damaged_state_is_not_believed(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t at;
        uint64_t value;
    } cases[] = {
        {"magic", offsetof(struct part_record, magic), 0},
        {"a front beyond the file", offsetof(struct part_record, holes), 4},
        {"an end beyond the total", offsetof(struct part_record, total), 2},
        {"a hole that ends before it begins", offsetof(struct part_record, holes) + 8, 1},
        {"another file", offsetof(struct part_record, data_name), 0x2f2e2e},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct part p;
        open_part(&p);
        assert_false(p.resumed);
        write_some(&p, "abc");
        assert_int_equal(pwrite(p.state_fd, &cases[i].value, 8, (off_t)cases[i].at), 8);
        char from[BNT_PATH_MAX], to[BNT_PATH_MAX];
        snprintf(from, sizeof from, "%s", p.state_path);
        assert_int_equal(rename(from, fixture_path(to, "c/part/k.free.state")), 0);
        struct part next;
        open_part(&next);
        if (next.resumed || part_front(&next) != 0) {
            fail_msg("%s: believed", cases[i].what);
        }
        part_drop(&next);
        part_drop(&p);
    }
}

/* Make a file of part/ look as if nobody wrote it for eight days. */
static void age(const char *relative)
{
    char path[BNT_PATH_MAX];
    const struct timespec old[2] = {{.tv_sec = time(NULL) - 8 * 24 * 3600},
                                    {.tv_sec = time(NULL) - 8 * 24 * 3600}};
    assert_int_equal(utimensat(AT_FDCWD, fixture_path(path, relative), old, 0), 0);
}

static void sweep_takes_what_is_old_and_nobodys(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX], relative[256];
    struct part p;
    struct part_lock lock;
    struct bnt_downloads d;
    fixture_path(dir, "c");
    assert_int_equal(part_open(dir, "live", true, &p, NULL), BNT_OK);
    assert_int_equal(part_write(&p, 0, "bytes", 5, NULL), BNT_OK);
    assert_int_equal(part_lock_wait(dir, "held", &(struct bnt_fetch_opts){0}, &lock, NULL), BNT_OK);
    fixture_write(fixture_path(path, "c/part/old.free.state"), "old");
    fixture_write(fixture_path(path, "c/part/old.AAAAAA.data"), "old bytes");
    fixture_write(fixture_path(path, "c/part/young.AAAAAA.data"), "young bytes");
    age("c/part/old.free.state");
    age("c/part/old.AAAAAA.data");
    age("c/part/held.lock");
    snprintf(relative, sizeof relative, "c/part/%s", p.record.data_name);
    age(relative);
    snprintf(relative, sizeof relative, "c/part/%s", strrchr(p.state_path, '/') + 1);
    age(relative);
    assert_int_equal(part_sweep(dir, false, &d, NULL), BNT_OK);
    assert_int_equal(d.files, 6);
    assert_int_equal(d.stale_files, 2);
    assert_true(d.bytes > d.stale_bytes && d.stale_bytes > 0);
    assert_int_equal(access(fixture_path(path, "c/part/old.AAAAAA.data"), F_OK), 0);
    assert_int_equal(part_sweep(dir, true, &d, NULL), BNT_OK);
    assert_int_equal(d.stale_files, 2);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(p.file.path, F_OK), 0);
    assert_int_equal(access(p.state_path, F_OK), 0);
    assert_int_equal(part_sweep(dir, true, &d, NULL), BNT_OK);
    assert_int_equal(d.files, 4);
    assert_int_equal(d.stale_files, 0);
    part_lock_release(&lock);
    part_drop(&p);
    assert_int_equal(part_sweep(fixture_path(path, "no such cache"), true, &d, NULL), BNT_OK);
    assert_int_equal(d.files, 0);
}

/* A lock is made once, and held long after: whoever holds it does not sweep it away, or the next
 * process would transfer the same file beside it. */
static void lock_that_is_held_is_not_swept(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct part p;
    struct part_lock lock, other;
    fixture_path(dir, "c");
    assert_int_equal(part_lock_wait(dir, "k", &(struct bnt_fetch_opts){0}, &lock, NULL), BNT_OK);
    age("c/part/k.lock");
    open_part(&p);
    const struct bnt_fetch_opts over = {.deadline_ns = 1};
    assert_int_equal(part_lock_wait(dir, "k", &over, &other, NULL), BNT_E_TIME);
    part_lock_release(&lock);
    assert_int_equal(part_lock_wait(dir, "k", &over, &other, NULL), BNT_OK);
    part_lock_release(&other);
    part_drop(&p);
}

/* The cache makes a file read-only before it is a blob. */
static void part_that_was_sealed_is_taken_up(void **state)
{
    (void)state;
    struct part a, b;
    char to[BNT_PATH_MAX];
    assert_true(fixture_drop_capabilities());
    open_part(&a);
    write_some(&a, "all of it");
    assert_int_equal(fchmod(a.file.fd, 0444), 0);
    assert_int_equal(rename(a.state_path, fixture_path(to, "c/part/k.free.state")), 0);
    open_part(&b);
    assert_true(b.resumed);
    write_some(&b, "!");
    fixture_assert_holds(b.file.path, "all of it!");
    part_drop(&a);
    part_drop(&b);
}

static int renames_left;

static int fail_a_rename(enum bnt_file_step step, size_t *n)
{
    (void)n;
    return step == BNT_FILE_RENAME && renames_left-- == 0 ? ENOSPC : 0;
}

/* All bytes are there and right, and only the cache cannot take them: they are not fetched again,
 * whichever of the renames on the way into it fails. */
static void download_that_could_not_enter_the_cache_is_kept(void **state)
{
    (void)state;
    char hex[BNT_SHA256_HEX], url[300];
    struct bnt_fetch_result r;
    struct bnt_mock_server *s = serve_one(6, 0, url, hex);
    struct bnt_cache *c = fixture_cache();
    const struct bnt_fetch_opts o = {.sha256 = hex, .name = "m"};
    for (int i = 0; i < 2; i++) { /* of the chunk tree, of the blob */
        renames_left = i;
        bnt_file_fault(fail_a_rename);
        assert_int_equal(bnt_fetch(c, url, &o, &r, NULL), BNT_E_NO_SPACE);
        bnt_file_fault(NULL);
        assert_int_equal(count_parts(".data"), 1);
    }
    const size_t asked = bnt_mock_server_requests(s);
    assert_int_equal(bnt_fetch(c, url, &o, &r, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(s), asked);
    transfer_assert_blob(&r, transfer_bytes(FILE_BYTES, 6), FILE_BYTES);
    assert_int_equal(count_parts(".data"), 0);
    assert_int_equal(count_parts(".state"), 0);
    bnt_cache_close(c);
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "part_sweep_takes_what_is_old_and_nobodys",
     .body = sweep_takes_what_is_old_and_nobodys},
    {.name = "part_lock_that_is_held_is_not_swept", .body = lock_that_is_held_is_not_swept},
    {.name = "part_that_was_sealed_is_taken_up", .body = part_that_was_sealed_is_taken_up},
    {.name = "part_download_that_could_not_enter_the_cache_is_kept",
     .body = download_that_could_not_enter_the_cache_is_kept},
    {.name = "part_killed_fetches_finish", .body = killed_fetches_finish, .timeout_ms = 30000},
    {.name = "part_killed_fetches_of_many_connections_finish",
     .body = killed_fetches_of_many_connections_finish,
     .timeout_ms = 30000},
    {.name = "part_many_processes_fetch_once",
     .body = many_processes_fetch_once,
     .timeout_ms = 30000},
    {.name = "part_very_many_processes_fetch_once",
     .body = very_many_processes_fetch_once,
     .timeout_ms = 60000,
     .tier = SUITE_INTEGRATION},
    {.name = "part_another_process_adopts_that_of_a_killed_one",
     .body = another_process_adopts_the_part,
     .timeout_ms = 30000},
    {.name = "part_of_a_living_owner_is_left_alone", .body = part_of_a_living_owner_is_left_alone},
    {.name = "part_of_a_zombie_is_taken_up", .body = part_of_a_zombie_is_taken_up},
    {.name = "part_from_elsewhere_is_copied", .body = part_from_elsewhere_is_copied},
    {.name = "part_with_a_damaged_state_is_not_believed", .body = damaged_state_is_not_believed},
    {0},
};
const struct suite suite_part = {"part", tests, "resume part_sealed"};
