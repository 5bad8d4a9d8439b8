/* Guards what must be whole on disk: a digest that is not SHA-256, a file seen half written, a lock
 * that two processes hold. */
#include "testkit/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"

static unsigned entries_in_scratch(void)
{
    DIR *dir = opendir(suite_scratch());
    assert_non_null(dir);
    unsigned n = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_content(const char *path, const char *wanted)
{
    struct bnt_buf b = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&b), wanted);
    bnt_buf_release(&b);
}

/* ---- digests ---- */

/* The examples of FIPS 180-4's companion document, and the empty message. */
static const struct {
    const char *text;
    unsigned repeat;
    const char *hex;
} known[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnop"
     "qrsmnopqrstnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

static void digest_of_known_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct bnt_sha256 *d = NULL;
        char hex[BNT_SHA256_HEX];
        assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
        for (unsigned k = 0; k < known[i].repeat; k++) {
            assert_int_equal(bnt_sha256_update(d, known[i].text, strlen(known[i].text), NULL),
                             BNT_OK);
        }
        assert_int_equal(bnt_sha256_hex(d, hex, NULL), BNT_OK);
        assert_string_equal(hex, known[i].hex);
        bnt_sha256_free(d);
    }
    bnt_sha256_free(NULL);
}

static int count_progress(void *ctx, uint64_t done_bytes)
{
    (void)done_bytes;
    ++*(int *)ctx;
    return 0;
}

static int stop_at_once(void *ctx, uint64_t done_bytes)
{
    (void)ctx;
    (void)done_bytes;
    return 1;
}

static void digest_of_a_file_tells_and_can_be_stopped(void **state)
{
    (void)state;
    char hex[BNT_SHA256_HEX];
    const char *path = suite_in_scratch("million");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 1000000; i++) {
        fputc('a', f);
    }
    assert_int_equal(fclose(f), 0);
    int calls = 0;
    assert_int_equal(bnt_sha256_file(path, count_progress, &calls, hex, NULL), BNT_OK);
    assert_string_equal(hex, known[4].hex);
    assert_true(calls > 0);
    assert_int_equal(bnt_sha256_file(path, NULL, NULL, hex, NULL), BNT_OK);
    struct bnt_err err = {0};
    assert_int_equal(bnt_sha256_file(path, stop_at_once, NULL, hex, &err), BNT_E_INTERRUPTED);
    assert_int_equal(bnt_sha256_file(suite_in_scratch("absent"), NULL, NULL, hex, NULL),
                     BNT_E_NOT_FOUND);
}

static void digest_text_is_checked(void **state)
{
    (void)state;
    char hex[80];
    snprintf(hex, sizeof hex, "%s", known[1].hex);
    assert_true(bnt_sha256_is_hex(hex));
    hex[10] = 'F';
    assert_true(bnt_sha256_is_hex(hex));
    hex[10] = 'g';
    assert_false(bnt_sha256_is_hex(hex));
    hex[10] = '0';
    hex[63] = '\0';
    assert_false(bnt_sha256_is_hex(hex));
    snprintf(hex, sizeof hex, "%s0", known[1].hex);
    assert_false(bnt_sha256_is_hex(hex));
    assert_false(bnt_sha256_is_hex(""));
}

/* ---- durable files ---- */

static void durable_file_appears_whole(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("target"));
    write_file(path, "old");
    struct bnt_durable d;
    assert_int_equal(bnt_durable_open(&d, path, NULL), BNT_OK);
    assert_int_equal(bnt_durable_write(&d, "new ", 4, NULL), BNT_OK);
    assert_content(path, "old"); /* until the commit, the old content */
    assert_int_equal(bnt_durable_write(&d, "content", 7, NULL), BNT_OK);
    assert_int_equal(bnt_durable_commit(&d, 0444, NULL), BNT_OK);
    bnt_durable_release(&d);
    assert_content(path, "new content");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0444);
    assert_int_equal(entries_in_scratch(), 1);
}

/* A device is where it should go, not what it should replace: a pipe stands for /dev/null here. */
static void durable_file_takes_the_place_of_files_alone(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct stat sb;
    struct bnt_durable d;
    struct bnt_err err = {0};
    snprintf(path, sizeof path, "%s/pipe", suite_scratch());
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(bnt_durable_open(&d, path, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "no regular file"));
    bnt_durable_release(&d);
    assert_int_equal(stat(path, &sb), 0);
    assert_true(S_ISFIFO(sb.st_mode));
    assert_int_equal(bnt_durable_open(&d, suite_scratch(), NULL), BNT_E_USAGE);
    assert_int_equal(bnt_durable_open(&d, "-", NULL), BNT_E_USAGE);
}

static void durable_release_leaves_nothing(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("target"));
    struct bnt_durable d;
    assert_int_equal(bnt_durable_open(&d, path, NULL), BNT_OK);
    assert_int_equal(bnt_durable_write(&d, "half", 4, NULL), BNT_OK);
    bnt_durable_release(&d);
    bnt_durable_release(&d); /* twice is fine */
    assert_int_equal(entries_in_scratch(), 0);
}

/* A full disk stands in as a limit on the size of files. */
static void durable_failed_write_keeps_the_old_file(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("target"));
    write_file(path, "old");
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct bnt_durable d;
    assert_int_equal(bnt_durable_open(&d, path, NULL), BNT_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, before.rlim_max}), 0);
    static const char zeros[4096];
    struct bnt_err err = {0};
    enum bnt_status status = bnt_durable_write(&d, zeros, sizeof zeros, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_not_equal(status, BNT_OK);
    assert_non_null(strstr(err.msg, "target"));
    bnt_durable_release(&d);
    assert_content(path, "old");
    assert_int_equal(entries_in_scratch(), 1);
}

static void durable_says_where_it_cannot_write(void **state)
{
    (void)state;
    struct bnt_durable d;
    struct bnt_err err = {0};
    assert_int_equal(bnt_durable_open(&d, suite_in_scratch("no/such/folder/file"), &err),
                     BNT_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no/such/folder/file"));
    bnt_durable_release(&d);
    assert_int_equal(bnt_file_may_write(suite_in_scratch("no/such/folder/file"), NULL),
                     BNT_E_NOT_FOUND);
    assert_int_equal(bnt_file_may_write(suite_in_scratch("file"), NULL), BNT_OK);
    assert_int_equal(entries_in_scratch(), 0);
}

/* ---- reading, folders, paths ---- */

static void read_is_bounded(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("five"));
    write_file(path, "12345");
    struct bnt_buf b = BNT_BUF(4);
    struct bnt_err err = {0};
    assert_int_equal(bnt_file_read(path, &b, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "five"));
    bnt_buf_release(&b);
    struct bnt_buf enough = BNT_BUF(5);
    assert_int_equal(bnt_file_read(path, &enough, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&enough), "12345");
    bnt_buf_release(&enough);
}

static void mapping_shows_the_file(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("mapped"));
    write_file(path, "bytes");
    struct bnt_mapping m;
    assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "bytes", 5);
    bnt_unmap(&m);
    write_file(path, "");
    assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
    assert_int_equal(m.size, 0);
    assert_null(m.data);
    bnt_unmap(&m);
    struct bnt_err err = {0};
    assert_int_equal(bnt_map_file(suite_scratch(), &m, &err), BNT_E_FILE);
    assert_int_equal(bnt_map_file(suite_in_scratch("absent"), &m, NULL), BNT_E_NOT_FOUND);
}

static void folders_are_made_to_any_depth(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s", suite_in_scratch("a/b/c"));
    assert_int_equal(bnt_mkdirs(path, NULL), BNT_OK);
    assert_int_equal(bnt_mkdirs(path, NULL), BNT_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    write_file(suite_in_scratch("file"), "x");
    struct bnt_err err = {0};
    assert_int_not_equal(bnt_mkdirs(suite_in_scratch("file/below"), &err), BNT_OK);
    assert_int_not_equal(bnt_mkdirs(suite_in_scratch("file"), NULL), BNT_OK);
}

static void path_too_long_is_an_error_never_a_cut(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    char word[BNT_PATH_MAX];
    memset(word, 'w', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_int_equal(bnt_path_format(path, NULL, "%s", word), BNT_OK);
    struct bnt_err err = {0};
    assert_int_not_equal(bnt_path_format(path, &err, "%s/", word), BNT_OK);
    assert_true(err.msg[0] != '\0');
}

/* ---- locks ---- */

/* Two processes add 1 to a number in a file, 200 times each. Without the lock some additions would
 * be lost. */
static void add_up(const char *lock, const char *counter)
{
    for (int i = 0; i < 200; i++) {
        int fd = -1;
        if (bnt_lock_acquire(lock, &fd, NULL) != BNT_OK) {
            _exit(3);
        }
        FILE *f = fopen(counter, "r+");
        int value = -1;
        if (!f || fscanf(f, "%d", &value) != 1) {
            _exit(4);
        }
        rewind(f);
        fprintf(f, "%d\n", value + 1);
        fclose(f);
        bnt_lock_release(&fd);
    }
}

static void lock_excludes_another_process(void **state)
{
    (void)state;
    char lock[BNT_PATH_MAX];
    char counter[BNT_PATH_MAX];
    snprintf(lock, sizeof lock, "%s", suite_in_scratch("lock"));
    snprintf(counter, sizeof counter, "%s", suite_in_scratch("counter"));
    write_file(counter, "0\n");
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            add_up(lock, counter);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_content(counter, "400\n");
}

static void lock_ends_with_its_process(void **state)
{
    (void)state;
    char lock[BNT_PATH_MAX];
    snprintf(lock, sizeof lock, "%s", suite_in_scratch("lock"));
    int fd = -1;
    if (fork() == 0) {
        _exit(bnt_lock_acquire(lock, &fd, NULL) == BNT_OK ? 0 : 1);
    }
    int status = -1;
    assert_true(wait(&status) > 0);
    assert_int_equal(status, 0);
    assert_int_equal(bnt_lock_acquire(lock, &fd, NULL),
                     BNT_OK); /* waits forever if the dead still holds it */
    int second = open(lock, O_RDWR);
    assert_true(second >= 0);
    assert_int_not_equal(flock(second, LOCK_EX | LOCK_NB), 0);
    bnt_lock_release(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(flock(second, LOCK_EX | LOCK_NB), 0);
    close(second);
}

static const struct suite_test tests[] = {
    {.name = "files_digest_of_known_messages", .body = digest_of_known_messages},
    {.name = "files_digest_of_a_file_can_be_stopped",
     .body = digest_of_a_file_tells_and_can_be_stopped},
    {.name = "files_digest_text_is_checked", .body = digest_text_is_checked},
    {.name = "files_durable_appears_whole", .body = durable_file_appears_whole},
    {.name = "files_durable_file_takes_the_place_of_files_alone",
     .body = durable_file_takes_the_place_of_files_alone},
    {.name = "files_durable_release_leaves_nothing", .body = durable_release_leaves_nothing},
    {.name = "files_durable_failed_write_keeps_the_old",
     .body = durable_failed_write_keeps_the_old_file},
    {.name = "files_durable_says_where_it_cannot_write",
     .body = durable_says_where_it_cannot_write},
    {.name = "files_read_is_bounded", .body = read_is_bounded},
    {.name = "files_mapping_shows_the_file", .body = mapping_shows_the_file},
    {.name = "files_folders_are_made_to_any_depth", .body = folders_are_made_to_any_depth},
    {.name = "files_path_too_long_is_an_error", .body = path_too_long_is_an_error_never_a_cut},
    {.name = "files_lock_excludes_another_process", .body = lock_excludes_another_process},
    {.name = "files_lock_ends_with_its_process", .body = lock_ends_with_its_process},
    {0},
};

const struct suite suite_files = {"files", tests, "folder_in_the_way device_replaced"};
