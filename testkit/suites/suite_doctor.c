/* Guards bnt doctor: a cause that is not seen, one that is named wrongly or together with others,
 * and a healthy machine that is called ill. Each fault is seeded as it comes about outside. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sysinfo.h"
#include "cache/bnt_cache.h"
#include "fetch/breaker.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/support.h"

/* ---- the patient ---- */

/* The program, in `cwd` (NULL: here). */
static void run_ok(const char *const *argv, const char *cwd)
{
    struct suite_output o;
    suite_run(argv, cwd, 0, &o);
    if (o.exit != 0) {
        fail_msg("%s: %s", argv[1], o.err);
    }
    suite_output_release(&o);
}

/* A cache with the bundled model; its folder. */
static const char *make_cache(void)
{
    static char dir[BNT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/cache", suite_scratch());
    assert_int_equal(setenv("BNT_CACHE_DIR", dir, 1), 0);
    run_ok((const char *const[]){suite_bnt(), "fetch", "bundled:", NULL}, NULL);
    return dir;
}

/* The ids of all problems, separated by blanks; what the first one found, in `found`. */
static void problems_of(const struct suite_output *o, char ids[256], char found[640])
{
    json_t *root = json_loads(o->out, 0, NULL);
    if (!root) {
        fail_msg("no JSON: %s%s", o->out, o->err);
    }
    const json_t *checks = js_get(root, "checks");
    ids[0] = found[0] = '\0';
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *c = json_array_get(checks, i);
        size_t len = strlen(ids);
        snprintf(ids + len, 256 - len, "%s%s", len ? " " : "", js_text(c, "id"));
        if (!found[0]) {
            snprintf(found, 640, "%s", js_text(c, "found"));
        }
        assert_true(js_text(c, "next")[0] != '\0');
        assert_true(js_text(c, "looked")[0] != '\0');
    }
    json_decref(root);
}

/* The doctor names `id` and nothing else (NULL: nothing at all), with `word` in what it found. */
static void examine(const char *const *more, const char *cwd, const char *id, const char *word)
{
    char ids[256], found[640];
    const char *argv[16] = {suite_bnt(), "doctor", "--json", "--problems"};
    for (size_t n = 4; *more; more++) {
        argv[n++] = *more;
    }
    struct suite_output o;
    suite_run(argv, cwd, 0, &o);
    problems_of(&o, ids, found);
    if (strcmp(ids, id ? id : "") != 0 || (word && !strstr(found, word))) {
        fail_msg("wanted [%s] with \"%s\", got [%s]: %s", id ? id : "", word ? word : "", ids,
                 found);
    }
    assert_int_equal(o.exit, id ? BNT_E_FAILED : 0);
    suite_output_release(&o);
}
#define EXAMINE(id, word, ...) examine((const char *const[]){__VA_ARGS__ NULL}, NULL, id, word)

static void a_healthy_machine_has_no_problem(void **state)
{
    (void)state;
    if (bnt_cpu_count() < 2) {
        suite_skip("needs: two processors");
    }
    EXAMINE(NULL, NULL, );
    make_cache();
    EXAMINE(NULL, NULL, "-m", "tinystories-bitnet", "-t", "2", "--kernel", "auto", );
}

/* ---- options of the run ---- */

static const struct run_case {
    const char *id, *word, *argv[3];
} run_cases[] = {
    {"processor.threads", "one thread is asked for", {"-t", "1"}},
    {"processor.threads", "256 threads", {"-t", "256"}},
    {"processor.kernel", "reference kernels are asked for", {"--kernel", "ref"}},
#if defined(__x86_64__)
    {"processor.instructions", "another kind of processor", {"--kernel", "neon"}},
#else
    {"processor.instructions", "another kind of processor", {"--kernel", "avx2"}},
#endif
    {"model.memory", "memory", {"--memory-limit", "20M"}},
    {"model.packing", "packed as 128/32", {"--i2s-layout", "64/16"}},
    {"model.pre-tokenizer", "the file states llama-bpe", {"--pre", "qwen2"}},
    {"model.chat-template", "<|im_start|>", {"--chat-template", "chatml"}},
    {"model.file", "/nothere.gguf", {"-m", "/nothere.gguf"}},
};

static void a_wrong_option_of_the_run_is_named(void **state)
{
    (void)state;
    if (bnt_cpu_count() < 2) {
        suite_skip("needs: two processors");
    }
    for (size_t i = 0; i < sizeof run_cases / sizeof run_cases[0]; i++) {
        examine(run_cases[i].argv, NULL, run_cases[i].id, run_cases[i].word);
    }
}

static void one_processor_of_many_is_named(void **state)
{
    (void)state;
    if (bnt_cpu_count() < 2) {
        suite_skip("needs: two processors");
    }
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    EXAMINE("processor.threads", "may use 1 of", );
}

static void a_processor_without_instruction_sets_is_named(void **state)
{
    (void)state;
    assert_int_equal(setenv("BNT_FAULT", "bare_processor", 1), 0);
    const char *argv[] = {support_fault_bnt(), "doctor", "--json", "--problems", NULL};
    char ids[256], found[640];
    struct suite_output o;
    suite_run(argv, NULL, 0, &o);
    problems_of(&o, ids, found);
    assert_string_equal(ids, "processor.instructions");
    assert_non_null(strstr(found, "only the reference kernels run here"));
    suite_output_release(&o);
}

/* ---- models ---- */

static void weights_that_make_no_sense_are_named(void **state)
{
    (void)state;
    EXAMINE("model.text", "blind guess", "-m", es_scrambled_model(), );
}

/* The file states a pre-tokenizer that is known, and not the one with which it was trained: the
 * name is as long, so that nothing else in the file is another. */
static void a_pre_tokenizer_that_is_not_the_trained_one_is_named(void **state)
{
    (void)state;
    const char *path = es_patched_model("llama-bpe", "starcoder");
    EXAMINE("model.pre-tokenizer", "text is split by starcoder", "-m", path, );
}

/* A stand-in that an environment left behind takes the place of the bundled model. */
static void a_mock_in_use_is_named(void **state)
{
    (void)state;
    const char *mock = suite_in_scratch("tinystories-bitnet.gguf");
    run_ok((const char *const[]){suite_bnt(), "mock", "make", "--seed", "7", "--layers", "1", "-o",
                                 mock, NULL},
           NULL);
    EXAMINE("model.kind", "a mock", "-m", mock, );
    assert_int_equal(setenv("BNT_MODELS_DIR", suite_scratch(), 1), 0);
    EXAMINE("environment.mock", "BNT_MODELS_DIR", );
}

/* ---- environment ---- */

static void an_unset_home_is_named(void **state)
{
    (void)state;
    unsetenv("HOME");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("BNT_CACHE_DIR");
    EXAMINE("environment.home", NULL, );
    assert_int_equal(setenv("HOME", "", 1), 0);
    EXAMINE("environment.home", NULL, );
}

static void missing_certificates_are_named(void **state)
{
    (void)state;
    assert_int_equal(setenv("CURL_CA_BUNDLE", "/nothere.pem", 1), 0);
    EXAMINE("environment.certificates", "/nothere.pem", );
}

/* ---- cache ---- */

static void a_cache_that_cannot_be_used_is_named(void **state)
{
    (void)state;
    FILE *f = fopen(suite_in_scratch("in-the-way"), "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(setenv("BNT_CACHE_DIR", suite_in_scratch("in-the-way"), 1), 0);
    EXAMINE("cache.folder", "in-the-way", );
    assert_int_equal(setenv("BNT_CACHE_DIR", "/proc/no-such/folder", 1), 0);
    EXAMINE("cache.folder", "cannot be made", );
}

static void a_full_disk_is_named(void **state)
{
    (void)state;
    make_cache();
    support_preload("full_disk.so");
    EXAMINE("cache.space", "No space left on device", );
}

static void a_damaged_index_is_named(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    snprintf(path, sizeof path, "%s/index.db", make_cache());
    int fd = open(path, O_WRONLY);
    static const char garbage[8192] = "no database";
    assert_int_equal(pwrite(fd, garbage, sizeof garbage, 0), sizeof garbage);
    close(fd);
    EXAMINE("cache.index", "index", );
}

static void a_blob_cut_short_is_named(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache_entry entry;
    struct bnt_cache *cache;
    struct bnt_err err = {0};
    es_ok(bnt_cache_open(make_cache(), &cache, &err), &err);
    es_ok(bnt_cache_lookup(cache, "tinystories-bitnet", &entry, path, &err), &err);
    bnt_cache_close(cache);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(truncate(path, 1000), 0);
    EXAMINE("cache.blobs", "tinystories-bitnet", );
}

/* The lock of a writer that never ends; it is this process. */
static void who_holds_the_lock_is_named(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], word[64];
    snprintf(path, sizeof path, "%s/index.db", make_cache());
    int fd = open(path, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1 << 30, .l_len = 512};
    assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
    snprintf(word, sizeof word, "process %d ", (int)getpid());
    EXAMINE("cache.lock", word, );
    close(fd);
}

static void write_manifest(const char *dir, const char *source)
{
    char path[BNT_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/bnt.yml", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "models:\n  story:\n    source: %s\n", source);
    fclose(f);
}

static void a_stale_lock_file_is_named(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    char dir[BNT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/project", suite_scratch());
    assert_int_equal(mkdir(dir, 0777), 0);
    write_manifest(dir, suite_bundled_model());
    run_ok((const char *const[]){suite_bnt(), "lock", NULL}, dir);
    examine(none, dir, NULL, NULL);
    write_manifest(dir, "./another.gguf");
    examine(none, dir, "cache.lock-file", "story");
}

/* ---- network ---- */

static void a_server_that_is_left_alone_is_named(void **state)
{
    (void)state;
    struct breaker *b;
    struct bnt_err err = {0};
    es_ok(breaker_open(make_cache(), &b, &err), &err);
    for (int i = 0; i < BREAKER_CALLS_MIN + 2; i++) {
        es_ok(breaker_report(b, "https://mirror.example:443", BREAKER_FAILED, 0, &err), &err);
    }
    breaker_close(b);
    EXAMINE("network.circuits", "https://mirror.example:443", );
}

/* A proxy that opens the tunnel, and then answers for itself in plain text. */
static void *answer_once(void *arg)
{
    static const char tunnel[] = "HTTP/1.1 200 Connection established\r\n\r\n",
                      page[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    char request[4096];
    int fd = accept(*(int *)arg, NULL, NULL);
    size_t got = 0;
    while (got < sizeof request - 1) {
        ssize_t n = recv(fd, request + got, sizeof request - 1 - got, 0);
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
        request[got] = '\0';
        if (strstr(request, "\r\n\r\n")) {
            send(fd, tunnel, sizeof tunnel - 1, MSG_NOSIGNAL);
            recv(fd, request, sizeof request - 1, 0);
            send(fd, page, sizeof page - 1, MSG_NOSIGNAL);
            break;
        }
    }
    close(fd);
    return NULL;
}

static void a_proxy_that_breaks_tls_is_named(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    char proxy[64];
    pthread_t thread;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(pthread_create(&thread, NULL, answer_once, &fd), 0);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", ntohs(at.sin_port));
    unsetenv("https_proxy");
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    unsetenv("BNT_OFFLINE");
    assert_int_equal(setenv("HTTPS_PROXY", proxy, 1), 0);
    EXAMINE("network.reach", "the proxy of HTTPS_PROXY breaks TLS", "--url",
            "https://models.example/", );
    pthread_join(thread, NULL);
    close(fd);
}

static const struct suite_test tests[] = {
    {.name = "doctor_a_healthy_machine_has_no_problem", .body = a_healthy_machine_has_no_problem},
    {.name = "doctor_a_wrong_option_of_the_run_is_named",
     .body = a_wrong_option_of_the_run_is_named},
    {.name = "doctor_one_processor_of_many_is_named", .body = one_processor_of_many_is_named},
    {.name = "doctor_a_processor_without_instruction_sets_is_named",
     .body = a_processor_without_instruction_sets_is_named,
     .needs = "fault-build"},
    {.name = "doctor_weights_that_make_no_sense_are_named",
     .body = weights_that_make_no_sense_are_named},
    {.name = "doctor_a_pre_tokenizer_that_is_not_the_trained_one_is_named",
     .body = a_pre_tokenizer_that_is_not_the_trained_one_is_named},
    {.name = "doctor_a_mock_in_use_is_named", .body = a_mock_in_use_is_named},
    {.name = "doctor_an_unset_home_is_named", .body = an_unset_home_is_named},
    {.name = "doctor_missing_certificates_are_named", .body = missing_certificates_are_named},
    {.name = "doctor_a_cache_that_cannot_be_used_is_named",
     .body = a_cache_that_cannot_be_used_is_named},
    {.name = "doctor_a_full_disk_is_named", .body = a_full_disk_is_named},
    {.name = "doctor_a_damaged_index_is_named", .body = a_damaged_index_is_named},
    {.name = "doctor_a_blob_cut_short_is_named", .body = a_blob_cut_short_is_named},
    {.name = "doctor_who_holds_the_lock_is_named", .body = who_holds_the_lock_is_named},
    {.name = "doctor_a_stale_lock_file_is_named", .body = a_stale_lock_file_is_named},
    {.name = "doctor_a_server_that_is_left_alone_is_named",
     .body = a_server_that_is_left_alone_is_named},
    {.name = "doctor_a_proxy_that_breaks_tls_is_named", .body = a_proxy_that_breaks_tls_is_named},
    {0},
};
const struct suite suite_doctor = {"doctor", tests, "doctor_blind bare_processor"};
