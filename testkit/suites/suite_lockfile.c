/* Guards bnt.lock and what is done by it: content that differs from what was locked, a lock that no
 * longer fits the manifest and is used nevertheless, a mirror that decides what a project uses, a
 * secret in a file that is committed. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/project.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"

/* Run bnt in the scratch folder and expect the exit code; what it wrote on stderr is returned,
 * valid until the next call. */
static const char *bnt(int exit, const char *const *words)
{
    static char said[4096];
    struct suite_output o;
    fixture_bnt(&o, exit, words);
    snprintf(said, sizeof said, "%s", o.err);
    suite_output_release(&o);
    return said;
}
#define BNT(exit, ...) bnt((exit), (const char *const[]){__VA_ARGS__, NULL})

/* The lock file's text, which the caller frees. */
static char *lock_text(void)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf b = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(fixture_path(path, LOCKFILE_FILE), &b, NULL), BNT_OK);
    return bnt_buf_take(&b);
}

static void assert_lock_has(const char *text, bool has)
{
    char *lock = lock_text();
    if ((strstr(lock, text) != NULL) != has) {
        fail_msg("%s%s in %s", text, has ? " is not" : "", lock);
    }
    free(lock);
}

/* The name leads to this content. */
static void assert_named(const char *name, const char *text)
{
    struct bnt_cache *cache;
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_open(NULL, &cache, NULL), BNT_OK);
    assert_int_equal(bnt_cache_lookup(cache, name, &e, path, NULL), BNT_OK);
    bnt_cache_close(cache);
    fixture_assert_holds(path, text);
}

/* The root of the chunk tree of a text. */
static void tree_of(const char *text, char root[BNT_SHA256_HEX])
{
    struct bnt_chunk_tree *t;
    assert_int_equal(bnt_chunk_tree_new(&t, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_update(t, text, strlen(text), NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_root(t, root, NULL), BNT_OK);
    bnt_chunk_tree_free(t);
}

static const char manifest_ab[] = "models:\n  b:\n    source: b.gguf\n    groups: [ci]\n"
                                  "  a:\n    source: .\n    files: [a.gguf, sub.json]\n";

static void make_ab(void)
{
    fixture_file("a.gguf", "aa");
    fixture_file("b.gguf", "bb");
    fixture_file("sub.json", "{}");
    fixture_file(MANIFEST_FILE, manifest_ab);
}

/* ---- what the file is ---- */

static void lock_is_sorted_one_line_per_file_and_stable(void **state)
{
    (void)state;
    char aa[BNT_SHA256_HEX], bb[BNT_SHA256_HEX], sub[BNT_SHA256_HEX], want[2048];
    char aa_tree[BNT_SHA256_HEX], bb_tree[BNT_SHA256_HEX], sub_tree[BNT_SHA256_HEX];
    make_ab();
    tree_of("aa", aa_tree);
    tree_of("bb", bb_tree);
    tree_of("{}", sub_tree);
    fixture_digest("aa", aa);
    fixture_digest("bb", bb);
    fixture_digest("{}", sub);
    snprintf(want, sizeof want,
             "{\n  \"schema\": 1,\n  \"models\": {\n    \"a\": {\n      \"source\": \".\",\n"
             "      \"files\": [\n"
             "        {\"path\": \"a.gguf\", \"size\": 2, \"sha256\": \"%s\", \"tree\": \"%s\", "
             "\"mirrors\": []},\n"
             "        {\"path\": \"sub.json\", \"size\": 2, \"sha256\": \"%s\", \"tree\": \"%s\", "
             "\"mirrors\": []}\n"
             "      ]\n    },\n    \"b\": {\n      \"source\": \"b.gguf\",\n      \"files\": [\n"
             "        {\"path\": \"b.gguf\", \"size\": 2, \"sha256\": \"%s\", \"tree\": \"%s\", "
             "\"mirrors\": []}\n"
             "      ]\n    }\n  }\n}\n",
             aa, aa_tree, sub, sub_tree, bb, bb_tree);
    for (int i = 0; i < 2; i++) {
        BNT(0, "lock");
        char *lock = lock_text();
        assert_string_equal(lock, want);
        free(lock);
    }
    BNT(0, "update", "--check");
}

static void broken_lock_is_named_with_its_line(void **state)
{
    (void)state;
    static const char head[] = "{\n  \"schema\": 1,\n  \"models\": {\n    \"b\": {\n"
                               "      \"source\": \"b.gguf\",\n      \"files\": [\n";
    static const char good[] =
        "{\"path\": \"b\", \"size\": 2, \"sha256\": "
        "\"4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162\","
        " \"mirrors\": []}";
    static const struct {
        const char *file; /* second in the list of files */
        const char *where;
    } cases[] = {
        {"{\"path\": \"b\", \"size\": 2, \"sha256\": \"42\", \"mirrors\": []}", "bnt.lock:8: b: "},
        {"{\"path\": \"b\", \"size\": 2}", "bnt.lock:8: b: "},
        {"{\"path\": \"b\", \"size\": 2, \"url\": \"x\"}", "bnt.lock:8: b: "},
        {"{\"path\": \"b\", \"path\": \"b\"}", "bnt.lock:8:"},
        {"{\"path\": \"b\" \"size\"}", "bnt.lock:8:"},
        {"<<<<<<< ours", "bnt.lock:8: a mark"},
        {"=======", "bnt.lock:8: a mark"},
        {">>>>>>> theirs", "bnt.lock:8: a mark"},
    };
    make_ab();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s,\n%s\n]}}}\n", head, good, cases[i].file);
        fixture_file(LOCKFILE_FILE, text);
        const char *said = BNT(5, "fetch", "--locked");
        if (!strstr(said, cases[i].where)) {
            fail_msg("%s: %s", cases[i].file, said);
        }
    }
    fixture_file(LOCKFILE_FILE, "{\"schema\": 1, \"models\": {\n\"b\": {\"companions\": 1}}}");
    assert_non_null(strstr(BNT(5, "lock"), "bnt.lock:2: b: companions is neither"));
    fixture_file(LOCKFILE_FILE, "{\"schema\": 2, \"models\": {}}");
    BNT(9, "fetch");
    fixture_file(LOCKFILE_FILE, "{\"models\": {}}");
    BNT(5, "fetch");
    fixture_file(LOCKFILE_FILE, "[]");
    BNT(5, "lock");
    fixture_file(LOCKFILE_FILE, "\n");
    assert_non_null(strstr(BNT(5, "fetch"), "bnt.lock is empty"));
}

/* Every process has read the file before the first one writes. */
static void processes_that_lock_at_a_time_keep_each_others_entries(void **state)
{
    enum { PROCESSES = 8 };
    (void)state;
    static struct project projects[PROCESSES];
    char text[2048] = "models:\n", digest[BNT_SHA256_HEX];
    pid_t pids[PROCESSES];
    fixture_digest("aa", digest);
    fixture_file("m", "aa");
    for (int i = 0; i < PROCESSES; i++) {
        const size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "  m%d:\n    source: m\n    sha256: %s\n    size: 2\n",
                 i, digest);
    }
    fixture_file(MANIFEST_FILE, text);
    for (int i = 0; i < PROCESSES; i++) {
        char path[BNT_PATH_MAX];
        assert_int_equal(project_open(&projects[i], fixture_path(path, MANIFEST_FILE), NULL), 0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct project_opts opts = {.warn = NULL};
            enum bnt_status st = bnt_cache_open(NULL, &opts.cache, NULL);
            st = st ? st
                    : project_lock(&projects[i], &projects[i].manifest.models[i], false, &opts,
                                   NULL);
            _exit(st ? st : lockfile_write(&projects[i].lock, NULL));
        }
        assert_true(pids[i] > 0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
        project_release(&projects[i]);
    }
    BNT(0, "fetch", "--frozen");
}

/* As under `flock . bnt fetch`: who holds the folder waits for us. */
static void folder_that_is_locked_does_not_hang_it(void **state)
{
    (void)state;
    struct lockfile l;
    char path[BNT_PATH_MAX];
    const int folder = open(suite_scratch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(folder, LOCK_EX), 0);
    bnt_clock_fake(1000000000);
    assert_int_equal(lockfile_read(&l, suite_scratch(), NULL), BNT_OK);
    assert_int_equal(lockfile_write(&l, NULL), BNT_OK);
    assert_int_equal(access(fixture_path(path, LOCKFILE_FILE), F_OK), 0);
    const uint64_t now_ns = bnt_clock_now_ns();
    const struct manifest_model m = {.name = "m", .source = {.at = "x"}};
    json_t *entry;
    assert_int_equal(lockfile_entry_new(&m, &entry, NULL), BNT_OK);
    assert_int_equal(lockfile_put(&l, "m", entry, NULL), BNT_OK);
    assert_int_equal(lockfile_write(&l, NULL), BNT_OK);
    assert_int_equal(bnt_clock_now_ns(), now_ns); /* once is enough */
    lockfile_release(&l);
    close(folder);
}

/* ---- drift ---- */

static void locked_refuses_every_drift(void **state)
{
    (void)state;
    char digest[BNT_SHA256_HEX], text[512];
    fixture_digest("other", digest);
    const char *tails[] = {"    mirrors: [x]\n", "    size: 3\n", NULL, ""};
    make_ab();
    BNT(20, "fetch", "--locked");
    BNT(20, "fetch", "--frozen", "b");
    BNT(0, "fetch");
    BNT(0, "fetch", "--frozen");
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "models:\n  b:\n    source: b.gguf\n%s%s%s",
                 tails[i] ? tails[i] : "    sha256: ", tails[i] ? "" : digest,
                 tails[i] ? "" : "\n");
        fixture_file(MANIFEST_FILE, text); /* the last one lacks a model that is locked */
        BNT(20, "fetch", "--locked");
        BNT(tails[i] && !tails[i][0] ? 0 : 20, "fetch", "--locked", "b");
    }
    fixture_file(MANIFEST_FILE, "models:\n  b:\n    source: a.gguf\n");
    assert_non_null(strstr(BNT(20, "fetch", "--locked", "b"), "its source is another"));
    BNT(0, "lock");
    assert_lock_has("\"a\"", false);
    BNT(0, "fetch", "--locked");
    assert_named("b", "aa");
}

static void changed_source_is_not_what_was_locked(void **state)
{
    (void)state;
    make_ab();
    BNT(0, "lock");
    fixture_file("b.gguf", "changed");
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path((char[BNT_PATH_MAX]){0}, "empty"), 1), 0);
    const char *said = BNT(13, "fetch", "--locked", "b");
    assert_non_null(strstr(said, "bnt.yml:3: "));
    assert_non_null(strstr(said, "bnt update b"));
    BNT(20, "update", "--check");
    assert_lock_has("\"size\": 7", false);
    BNT(0, "update", "b");
    assert_lock_has("\"size\": 7", true);
    BNT(0, "fetch", "--locked", "b");
    assert_named("b", "changed");
}

static void lock_keeps_what_fits_and_learns_what_is_new(void **state)
{
    (void)state;
    make_ab();
    BNT(0, "fetch");
    fixture_file("b.gguf", "changed"); /* and nobody asked for an update */
    fixture_file(MANIFEST_FILE, "models:\n  b:\n    source: b.gguf\n  c:\n    source: a.gguf\n");
    BNT(0, "fetch", "c");
    assert_lock_has("\"size\": 7", false);
    assert_named("c", "aa");
    BNT(0, "lock");
    assert_lock_has("\"size\": 7", false);
    assert_named("b", "bb");
    BNT(0, "fetch"); /* answered by the cache: that says nothing of what the file holds by now */
    BNT(20, "update", "--check");
    assert_named("b", "bb");
}

/* ---- operands ---- */

static void groups_names_and_sources_choose(void **state)
{
    (void)state;
    make_ab();
    BNT(0, "fetch", "--group", "ci");
    assert_named("b", "bb");
    BNT(8, "path", "a");
    BNT(8, "fetch", "--group", "nightly");
    assert_non_null(strstr(BNT(8, "fetch", "bb"), "did you mean 'b'?"));
    BNT(0, "fetch", "a", "./b.gguf");
    assert_named("a.sub.json", "{}");
    BNT(2, "fetch", "a", "--name", "x", "b");
    BNT(2, "fetch", "a", "--group", "ci");
    static const char *const of_source[][2] = {
        {"--sha256", "0000000000000000000000000000000000000000000000000000000000000000"},
        {"--name", "x"},
        {"--with-tokenizer", NULL},
    };
    for (size_t i = 0; i < sizeof of_source / sizeof of_source[0]; i++) {
        const char *said = BNT(2, "fetch", "b", of_source[i][0], of_source[i][1]);
        assert_non_null(strstr(said, "belongs to a SOURCE"));
    }
    BNT(2, "fetch", "--with-tokenizer");
    BNT(2, "fetch", "--locked", "./a.gguf");
    BNT(2, "lock", "a");
    BNT(8, "update", "c");
    BNT(8, "lock", "--manifest", "absent.yml");
}

/* A name belongs to whoever's manifest is fetched: bytes stay, the name moves. */
static void name_follows_the_manifest(void **state)
{
    (void)state;
    make_ab();
    BNT(0, "fetch", "./a.gguf", "--name", "b");
    BNT(0, "fetch", "b");
    assert_named("b", "bb");
}

/* ---- mirrors and the network ---- */

static const char body[] = "the bytes of a model";
static const struct bnt_mock_route routes[] = {
    {.path = "/m.gguf?sig=s3cr3t", .status = 200, .body = body, .body_bytes = sizeof body - 1},
    {.path = "/m.gguf", .status = 200, .body = body, .body_bytes = sizeof body - 1},
    {.path = "/bad/m.gguf", .status = 200, .body = "other bytes", .body_bytes = 11},
    {0},
};

static struct bnt_mock_server *start(void)
{
    char certificate[BNT_PATH_MAX];
    struct bnt_mock_server *s = NULL;
    fixture_path(certificate, "certificate.pem");
    assert_int_equal(bnt_mock_server_start(routes, certificate, &s, NULL), BNT_OK);
    assert_int_equal(unsetenv("CURL_CA_BUNDLE"), 0);
    assert_int_equal(setenv("SSL_CERT_FILE", certificate, 1), 0);
    return s;
}

static void mirror_helps_only_under_a_digest(void **state)
{
    (void)state;
    char text[1024], digest[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start();
    const char *url = bnt_mock_server_url(s);
    fixture_digest(body, digest);
    snprintf(text, sizeof text,
             "models:\n  m:\n    source: %s/absent.gguf\n    mirrors: [%s/bad/m.gguf, "
             "%s/m.gguf]\n",
             url, url, url);
    fixture_file(MANIFEST_FILE, text);
    BNT(8, "fetch"); /* nobody knows what it should be */
    assert_int_equal(bnt_mock_server_requests(s), 1);
    snprintf(text + strlen(text), sizeof text - strlen(text), "    sha256: %s\n", digest);
    fixture_file(MANIFEST_FILE, text);
    assert_non_null(strstr(BNT(0, "fetch"), "a mirror had it"));
    assert_named("m", body);
    BNT(0, "fetch", "--frozen");
    bnt_mock_server_stop(s);
}

/* Under a digest the mirrors of a manifest are part of the transfer itself. */
static void mirrors_take_part_in_the_transfer(void **state)
{
    (void)state;
    char text[1024], digest[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start();
    const char *url = bnt_mock_server_url(s);
    fixture_digest(body, digest);
    snprintf(text, sizeof text,
             "models:\n  m:\n    source: %s/absent.gguf\n    mirrors: [%s/m.gguf]\n"
             "    sha256: %s\n",
             url, url, digest);
    fixture_file(MANIFEST_FILE, text);
    assert_null(strstr(BNT(0, "fetch"), "a mirror had it")); /* said of a second transfer */
    assert_named("m", body);
    bnt_mock_server_stop(s);
}

static void lock_holds_no_signature(void **state)
{
    (void)state;
    char text[512];
    struct bnt_mock_server *s = start();
    const char *url = bnt_mock_server_url(s);
    snprintf(text, sizeof text,
             "models:\n  m:\n    source: %s/m.gguf?sig=s3cr3t\n    mirrors: [%s/x?k=s3cr3t]\n", url,
             url);
    fixture_file(MANIFEST_FILE, text);
    BNT(0, "fetch");
    assert_lock_has("s3cr3t", false);
    assert_lock_has("/m.gguf?query-", true);
    BNT(0, "fetch", "--frozen");
    snprintf(text, sizeof text, "models:\n  m:\n    source: https://me:s3cr3t@h/m\n");
    fixture_file(MANIFEST_FILE, text);
    assert_null(strstr(BNT(2, "fetch"), "s3cr3t"));
    assert_lock_has("s3cr3t", false);
    bnt_mock_server_stop(s);
}

/* `bnt fetch --locked` of the first model with one attempt, which takes no time. */
static void fetch_once(enum bnt_status status)
{
    struct project p;
    struct bnt_fetch_result r;
    char path[BNT_PATH_MAX];
    const struct project_opts o = {.cache = fixture_cache(),
                                   .fetch = {.connections = 1, .max_attempts = 1}};
    assert_int_equal(project_open(&p, fixture_path(path, MANIFEST_FILE), NULL), BNT_OK);
    assert_int_equal(project_check(&p, NULL, NULL), BNT_OK);
    assert_int_equal(project_fetch(&p, &p.manifest.models[0], 0, &o, &r, NULL), status);
    project_release(&p);
    bnt_cache_close(o.cache);
}

static void known_digest_and_size_lock_without_the_network(void **state)
{
    (void)state;
    char text[512], digest[BNT_SHA256_HEX];
    fixture_digest(body, digest);
    snprintf(
        text, sizeof text,
        "models:\n  m:\n    source: https://127.0.0.1:1/m.gguf\n    sha256: %s\n    size: 20\n",
        digest);
    fixture_file(MANIFEST_FILE, text);
    BNT(0, "lock", "--offline");
    assert_lock_has(digest, true);
    BNT(15, "fetch", "--frozen");
    BNT(15, "fetch", "--offline", "m");
    fetch_once(BNT_E_NETWORK);
    fixture_file("m.gguf", body);
    snprintf(text, sizeof text, "models:\n  m: {source: m.gguf, sha256: %s, size: 4}\n", digest);
    fixture_file(MANIFEST_FILE, text);
    assert_non_null(strstr(BNT(5, "fetch"), "bnt.yml says that m has 4 bytes; it has 20"));
    fixture_digest("other bytes", digest);
    snprintf(text, sizeof text, "models:\n  m: {source: m.gguf, sha256: %s, size: 20}\n", digest);
    fixture_file(MANIFEST_FILE, text);
    assert_non_null(strstr(BNT(13, "fetch"), "write its sha256 into bnt.yml"));
    fixture_file(MANIFEST_FILE, "models:\n  n:\n    source: https://127.0.0.1:1/m.gguf\n");
    assert_int_equal(setenv("BNT_OFFLINE", "1", 1), 0);
    BNT(15, "lock");
    BNT(15, "update", "n");
}

static void what_cannot_fit_is_refused_before_the_first_byte(void **state)
{
    (void)state;
    char text[512], digest[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start();
    fixture_digest(body, digest);
    snprintf(text, sizeof text,
             "models:\n  m:\n    source: %s/m.gguf\n    sha256: %s\n"
             "    size: 9000000000000000000\n",
             bnt_mock_server_url(s), digest);
    fixture_file(MANIFEST_FILE, text);
    assert_non_null(strstr(BNT(10, "fetch"), "BNT_CACHE_DIR"));
    assert_int_equal(bnt_mock_server_requests(s), 0);
    bnt_mock_server_stop(s);
}

/* ---- chunk trees ---- */

/* The lock file of one file a.gguf, with the content "aa"; `tree` is its line's part with the root,
 * or "". */
static void write_lock_of(unsigned size, const char *tree)
{
    char digest[BNT_SHA256_HEX], text[1024];
    fixture_digest("aa", digest);
    snprintf(text, sizeof text,
             "{\"schema\": 1, \"models\": {\"a\": {\"source\": \"a.gguf\", \"files\": [\n"
             "{\"path\": \"a.gguf\", \"size\": %u, \"sha256\": \"%s\", %s\"mirrors\": []}]}}}\n",
             size, digest, tree);
    fixture_file(LOCKFILE_FILE, text);
}

static void write_lock(const char *tree)
{
    write_lock_of(2, tree);
}

/* The entry fits the manifest, so bnt lock leaves it as it is: the hint names what does not. */
static void wrong_size_is_put_right_as_the_hint_says(void **state)
{
    (void)state;
    fixture_file("a.gguf", "aa");
    fixture_file(MANIFEST_FILE, "models:\n  a:\n    source: a.gguf\n");
    write_lock_of(3, "");
    assert_non_null(strstr(BNT(5, "fetch", "--locked"), "make it again: bnt update a\n"));
    BNT(0, "update", "a");
    BNT(0, "fetch", "--locked");
}

static void chunk_tree_is_filled_when_it_is_known_and_never_fetched(void **state)
{
    (void)state;
    char digest[BNT_SHA256_HEX], root[BNT_SHA256_HEX], manifest[512];
    fixture_digest("aa", digest);
    tree_of("aa", root);
    snprintf(manifest, sizeof manifest,
             "models:\n  a:\n    source: a.gguf\n    sha256: %s\n    size: 2\n", digest);
    fixture_file(MANIFEST_FILE, manifest);
    BNT(0, "lock"); /* the file is not even there */
    assert_lock_has("\"tree\"", false);
    fixture_file("a.gguf", "aa");
    BNT(0, "fetch", "--locked"); /* a lock file without roots is as good as before */
    BNT(0, "update", "--check");
    assert_lock_has("\"tree\"", false);
    BNT(0, "lock");
    assert_lock_has(root, true);
    BNT(0, "fetch", "--locked");
    BNT(0, "update", "--check");
    char dir[BNT_PATH_MAX];
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "empty"), 1), 0);
    BNT(0, "update", "--check"); /* who does not know the content does not contradict */
    BNT(0, "update");
    assert_lock_has(root, true);
}

static void chunk_tree_that_contradicts_is_an_error(void **state)
{
    (void)state;
    char wrong[BNT_SHA256_HEX], part[128], root[BNT_SHA256_HEX];
    tree_of("aa", root);
    fixture_digest("something else", wrong);
    snprintf(part, sizeof part, "\"tree\": \"%s\", ", wrong);
    fixture_file("a.gguf", "aa");
    fixture_file(MANIFEST_FILE, "models:\n  a:\n    source: a.gguf\n");
    write_lock(part);
    BNT(0, "fetch", "--locked"); /* nobody knows the tree: the digest decides */
    BNT(0, "cache", "tree", "a");
    assert_non_null(strstr(BNT(5, "fetch", "--locked"), "has the chunk tree"));
    BNT(0, "lock"); /* as the hint says */
    assert_lock_has(root, true);
    BNT(0, "fetch", "--locked");
    write_lock("\"tree\": 7, ");
    assert_non_null(strstr(BNT(5, "fetch", "--locked"), "bnt.lock:2: a: tree is not 64 digits"));
}

/* `bnt cache tree` prints what the lock file has, of the cache and of a file. */
static void command_prints_the_chunk_tree(void **state)
{
    (void)state;
    char root[BNT_SHA256_HEX], line[BNT_SHA256_HEX + 1], tree[BNT_PATH_MAX];
    struct suite_output o;
    struct bnt_buf bytes = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    struct bnt_chunk_tree *t;
    tree_of("aa", root);
    snprintf(line, sizeof line, "%s\n", root);
    fixture_file("a.gguf", "aa");
    BNT(0, "fetch", "-q", "a.gguf");
    static const char *const words[][4] = {{"a"}, {"a.gguf"}, {"./a.gguf", "-o", "a.bnttree"}};
    for (size_t i = 0; i < 3; i++) {
        const char *argv[] = {suite_bnt(), "cache",     "tree", words[i][0],
                              words[i][1], words[i][2], NULL};
        suite_run(argv, suite_scratch(), 0, &o);
        assert_int_equal(o.exit, 0);
        assert_string_equal(o.out, line);
        suite_output_release(&o);
    }
    assert_int_equal(bnt_file_read(fixture_path(tree, "a.bnttree"), &bytes, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_decode(bytes.data, bytes.len, &t, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_size(t), 2);
    bnt_chunk_tree_free(t);
    bnt_buf_release(&bytes);
    BNT(8, "cache", "tree", "nothing");
    BNT(2, "cache", "tree");
}

static const struct suite_test tests[] = {
    {.name = "lockfile_what_cannot_fit_is_refused_before_the_first_byte",
     .body = what_cannot_fit_is_refused_before_the_first_byte},
    {.name = "lockfile_is_sorted_one_line_per_file_and_stable",
     .body = lock_is_sorted_one_line_per_file_and_stable},
    {.name = "lockfile_broken_is_named_with_its_line", .body = broken_lock_is_named_with_its_line},
    {.name = "lockfile_processes_that_lock_at_a_time_keep_each_others_entries",
     .body = processes_that_lock_at_a_time_keep_each_others_entries},
    {.name = "lockfile_folder_that_is_locked_does_not_hang_it",
     .body = folder_that_is_locked_does_not_hang_it},
    {.name = "lockfile_locked_refuses_every_drift", .body = locked_refuses_every_drift},
    {.name = "lockfile_changed_source_is_not_what_was_locked",
     .body = changed_source_is_not_what_was_locked},
    {.name = "lockfile_keeps_what_fits_and_learns_what_is_new",
     .body = lock_keeps_what_fits_and_learns_what_is_new},
    {.name = "lockfile_groups_names_and_sources_choose", .body = groups_names_and_sources_choose},
    {.name = "lockfile_name_follows_the_manifest", .body = name_follows_the_manifest},
    {.name = "lockfile_mirror_helps_only_under_a_digest", .body = mirror_helps_only_under_a_digest},
    {.name = "lockfile_mirrors_take_part_in_the_transfer",
     .body = mirrors_take_part_in_the_transfer},
    {.name = "lockfile_holds_no_signature", .body = lock_holds_no_signature},
    {.name = "lockfile_known_digest_and_size_lock_without_the_network",
     .body = known_digest_and_size_lock_without_the_network},
    {.name = "lockfile_chunk_tree_is_filled_when_it_is_known_and_never_fetched",
     .body = chunk_tree_is_filled_when_it_is_known_and_never_fetched},
    {.name = "lockfile_chunk_tree_that_contradicts_is_an_error",
     .body = chunk_tree_that_contradicts_is_an_error},
    {.name = "lockfile_wrong_size_is_put_right_as_the_hint_says",
     .body = wrong_size_is_put_right_as_the_hint_says},
    {.name = "lockfile_command_prints_the_chunk_tree", .body = command_prints_the_chunk_tree},
    {0},
};
const struct suite suite_lockfile = {"lockfile", tests, "lock_digest lock_merge"};
