/* Pathological tests about reach: what a test leaves behind, takes, and touches that is not its
 * own. The verdict of each is in suite_isolation.c. */
#include "testkit/suites/corpus.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/bnt_infer.h"
#include "testkit/memory_group.h"

/* ---- processes ---- */

static _Noreturn void wait_for_ever(void)
{
    for (;;) {
        pause();
    }
}

/* Twice forked, in a session of its own, without a descriptor of ours: an orphan of the test. */
static void leaves_a_daemon(void **state)
{
    (void)state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            for (int fd = 0; fd < 3; fd++) {
                close(fd);
            }
            (void)!write(ready[1], "x", 1);
            wait_for_ever();
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
}

static void leaves_a_session_with_the_pipe(void **state)
{
    (void)state;
    if (fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        wait_for_ever();
    }
}

/* 2 to the 6th processes, each of which forks on. */
static void forks_like_a_bomb(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        (void)fork();
    }
    wait_for_ever();
}

static void stopped_child_is_left(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
}

static void changes_its_group(void **state)
{
    (void)state;
    (void)setpgid(0, getppid());
    (void)setpgid(0, 0);
    (void)setsid();
}

/* The process that watches is not the test's to end. */
static void cannot_kill_its_parent(void **state)
{
    (void)state;
    assert_int_equal(kill(getppid(), SIGKILL), -1);
    assert_int_equal(errno, EPERM);
}

static void cannot_kill_everything(void **state)
{
    (void)state;
    /* Asked with signal 0: where this is not enforced nothing must die of it. */
    assert_int_equal(kill(getppid(), 0), -1);
    assert_int_equal(kill(1, 0), -1);
}

static void cannot_trace_its_parent(void **state)
{
    (void)state;
    assert_int_equal(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL), -1);
}

/* Only run where nothing is enforced: the worker's death is blamed on this test alone. */
static void kills_its_parent(void **state)
{
    (void)state;
    kill(getppid(), SIGKILL);
    wait_for_ever();
}

/* ---- descriptors, files ---- */

static void leaks_a_descriptor(void **state)
{
    (void)state;
    assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static void leaks_a_socket(void **state)
{
    (void)state;
    assert_true(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static void write_file(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
}

static void leaves_a_file_in_tmpdir(void **state)
{
    (void)state;
    char path[4200];
    snprintf(path, sizeof path, "%s/bnt-forgotten", getenv("TMPDIR"));
    write_file(path);
}

static void leaves_a_file_at_home(void **state)
{
    (void)state;
    char path[4200];
    snprintf(path, sizeof path, "%s/.forgotten", getenv("HOME"));
    write_file(path);
}

static void leaves_a_file_where_it_stands(void **state)
{
    (void)state;
    write_file("core");
}

static void deletes_its_scratch(void **state)
{
    (void)state;
    assert_int_equal(rmdir(suite_scratch()), 0);
}

static void closes_its_scratch(void **state)
{
    (void)state;
    assert_int_equal(chdir(suite_scratch()), 0);
    assert_int_equal(mkdir("in", 0700), 0);
    write_file("in/file");
    assert_int_equal(chmod("in", 0), 0);
    assert_int_equal(chmod(".", 0), 0);
}

static void goes_elsewhere(void **state)
{
    (void)state;
    assert_int_equal(chdir("/"), 0);
    umask(0777);
}

static void cannot_write_outside(void **state)
{
    (void)state;
    static const char *const places[] = {"/tmp/bnt-corpus-outside", "/bnt-corpus-outside",
                                         "/var/tmp/bnt-corpus-outside"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        assert_int_equal(open(places[i], O_WRONLY | O_CREAT, 0600), -1);
    }
    assert_int_equal(open(suite_source("README.md"), O_WRONLY), -1);
    assert_int_equal(unlink(suite_source("README.md")), -1);
}

static void cannot_read_other_tests(void **state)
{
    (void)state;
    assert_int_equal(open("/tmp", O_RDONLY | O_DIRECTORY), -1);
    assert_int_equal(errno, EACCES);
}

static void reads_what_it_may(void **state)
{
    (void)state;
    assert_int_equal(access(suite_source("README.md"), R_OK), 0);
    int fd = open(suite_bundled_model(), O_RDONLY);
    assert_true(fd >= 0);
    close(fd);
}

static void uses_the_model(void **state)
{
    (void)state;
    assert_true(bnt_model_info(suite_model_open())->n_layer > 0);
}

/* ---- memory, limits ---- */

static void allocates_without_end(void **state)
{
    (void)state;
    for (;;) {
        char *block = malloc(1 << 20);
        assert_non_null(block);
        memset(block, 1, 1 << 20);
    }
}

/* Each below the limit, all above it. */
static void children_take_too_much(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            const size_t bytes = (size_t)100 << 20;
            volatile char *block = malloc(bytes);
            for (size_t at = 0; block && at < bytes; at += 4096) {
                block[at] = 1;
            }
            wait_for_ever();
        }
    }
    wait_for_ever();
}

static void leaves_control_groups(void **state)
{
    (void)state;
    struct memory_group g;
    memory_group_open(&g);
    fail_msg("its group is %s", memory_group_name(&g));
}

static void lowers_its_limits(void **state)
{
    (void)state;
    const struct rlimit none = {0, 0};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(setrlimit(RLIMIT_NPROC, &none), 0);
}

/* ---- network ---- */

static int connect_to(const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET, host, &a.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, (const struct sockaddr *)&a, sizeof a);
    int error = errno;
    close(fd);
    return rc == 0 ? 0 : error;
}

/* An address that is kept for documentation: nobody has it. */
static void cannot_connect_outside(void **state)
{
    (void)state;
    assert_int_equal(connect_to("192.0.2.1", 9), ENETUNREACH);
}

static void connects_to_itself(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    assert_int_equal(inet_pton(AF_INET, "127.0.0.1", &a.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(connect_to("127.0.0.1", ntohs(a.sin_port)), 0);
    close(fd);
}

static void cannot_connect_to_itself(void **state)
{
    (void)state;
    assert_int_equal(connect_to("127.0.0.1", 9), ENETUNREACH);
}

/* ---- sanitizers: a pass without them ---- */

static void writes_to_freed_memory(void **state)
{
    (void)state;
    char *volatile block = malloc(100);
    assert_non_null(block);
    free(block);
    block[5] = 1;
}

static void overflows_an_integer(void **state)
{
    (void)state;
    volatile int number = INT32_MAX;
    number = number + 1;
}

static int raced;

static void *race(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        *(volatile int *)&raced = raced + 1;
    }
    return arg;
}

static void races(void **state)
{
    (void)state;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

/* ---- executed instead of forked ---- */

static void passes(void **state)
{
    (void)state;
}

static void exits_0(void **state)
{
    (void)state;
    exit(0);
}

static void writes_to_null(void **state)
{
    (void)state;
    volatile char *volatile nowhere = (volatile char *)(uintptr_t)16; /* in the page of NULL */
    *nowhere = 1;
}

static void hangs(void **state)
{
    (void)state;
    wait_for_ever();
}

static const struct suite_test tests[] = {
    {.name = "corpus_leaves_a_daemon", .body = leaves_a_daemon},
    {.name = "corpus_leaves_a_session_with_the_pipe", .body = leaves_a_session_with_the_pipe},
    {.name = "corpus_forks_like_a_bomb", .body = forks_like_a_bomb, .timeout_ms = 500},
    {.name = "corpus_stopped_child_is_left", .body = stopped_child_is_left},
    {.name = "corpus_changes_its_group", .body = changes_its_group},
    {.name = "corpus_cannot_kill_its_parent",
     .body = cannot_kill_its_parent,
     .needs = "landlock-signals"},
    {.name = "corpus_cannot_kill_everything",
     .body = cannot_kill_everything,
     .needs = "landlock-signals"},
    {.name = "corpus_cannot_trace_its_parent",
     .body = cannot_trace_its_parent,
     .needs = "landlock"},
    {.name = "corpus_kills_its_parent",
     .body = kills_its_parent,
     .needs = "corpus-asked",
     .timeout_ms = 60000},
    {.name = "corpus_leaks_a_descriptor", .body = leaks_a_descriptor},
    {.name = "corpus_leaks_a_socket", .body = leaks_a_socket},
    {.name = "corpus_keeps_a_descriptor", .body = leaks_a_descriptor, .keeps_fds = true},
    {.name = "corpus_leaves_a_file_in_tmpdir", .body = leaves_a_file_in_tmpdir},
    {.name = "corpus_leaves_a_file_at_home", .body = leaves_a_file_at_home},
    {.name = "corpus_leaves_a_file_where_it_stands", .body = leaves_a_file_where_it_stands},
    {.name = "corpus_deletes_its_scratch", .body = deletes_its_scratch},
    {.name = "corpus_closes_its_scratch", .body = closes_its_scratch},
    {.name = "corpus_goes_elsewhere", .body = goes_elsewhere},
    {.name = "corpus_cannot_write_outside",
     .body = cannot_write_outside,
     .needs = "landlock,source"},
    {.name = "corpus_cannot_read_other_tests",
     .body = cannot_read_other_tests,
     .needs = "landlock"},
    {.name = "corpus_reads_what_it_may", .body = reads_what_it_may, .needs = "source"},
    {.name = "corpus_uses_the_model", .body = uses_the_model},
    {.name = "corpus_allocates_without_end",
     .body = allocates_without_end,
     .memory_mib = 128,
     .timeout_ms = 60000},
    {.name = "corpus_children_take_too_much",
     .body = children_take_too_much,
     .memory_mib = 256,
     .timeout_ms = 60000},
    {.name = "corpus_leaves_control_groups", .body = leaves_control_groups, .makes_groups = true},
    {.name = "corpus_lowers_its_limits", .body = lowers_its_limits},
    {.name = "corpus_cannot_connect_outside",
     .body = cannot_connect_outside,
     .needs = "net-namespace"},
    {.name = "corpus_connects_to_itself", .body = connects_to_itself},
    {.name = "corpus_cannot_connect_to_itself",
     .body = cannot_connect_to_itself,
     .network = SUITE_NETWORK_NONE,
     .needs = "net-namespace"},
    {.name = "corpus_writes_to_freed_memory", .body = writes_to_freed_memory},
    {.name = "corpus_overflows_an_integer", .body = overflows_an_integer},
    {.name = "corpus_races", .body = races},
    {.name = "corpus_fresh_passes", .body = passes, .fresh = true},
    {.name = "corpus_fresh_exits_0", .body = exits_0, .fresh = true},
    {.name = "corpus_fresh_crashes", .body = writes_to_null, .fresh = true},
    {.name = "corpus_fresh_hangs", .body = hangs, .fresh = true, .timeout_ms = 500},
    {.name = "corpus_has_far_too_much_time", .body = passes, .timeout_ms = 300000},
    {0},
};

const struct suite suite_corpus_reach = {"corpus_reach", tests, NULL};
