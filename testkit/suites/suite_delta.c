/* Guards the update of a model by chunks: traffic for what did not change, a tree that is believed
 * although it lies, a damaged chunk that is carried over, a tree asked for in vain. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bnt_cache.h"
#include "fetch/delta.h"
#include "fetch/part.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { CHUNK = 4 << 20, CHUNKS = 6, TAIL = 54321, FILE_BYTES = (CHUNKS - 1) * CHUNK + TAIL };

/* ---- what the bodies share ---- */

/* A state of the file, and its tree as a server has it. */
struct version {
    char *bytes;
    size_t n;
    char digest[BNT_SHA256_HEX], root[BNT_SHA256_HEX];
    struct bnt_buf tree;
};

static void finish_version(struct version *v)
{
    struct bnt_chunk_tree *t;
    transfer_digest(v->bytes, v->n, v->digest);
    bnt_buf_init(&v->tree, BNT_CHUNK_TREE_MAX_BYTES);
    assert_int_equal(bnt_chunk_tree_new(&t, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_update(t, v->bytes, v->n, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_encode(t, &v->tree, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_root(t, v->root, NULL), BNT_OK);
    bnt_chunk_tree_free(t);
}

static struct version first_version(void)
{
    struct version v = {.bytes = malloc(FILE_BYTES), .n = FILE_BYTES};
    assert_non_null(v.bytes);
    memcpy(v.bytes, transfer_bytes(FILE_BYTES, 21), FILE_BYTES);
    finish_version(&v);
    return v;
}

/* The same but for one byte in each of the chunks that are named, in decimal digits; `more` bytes
 * longer. */
static struct version next_version(const struct version *from, const char *chunks, size_t more)
{
    struct version v = {.bytes = malloc(from->n + more), .n = from->n + more};
    assert_non_null(v.bytes);
    memcpy(v.bytes, from->bytes, from->n);
    memset(v.bytes + from->n, 'x', more);
    for (const char *c = chunks; *c; c++) {
        v.bytes[(size_t)(*c - '0') * CHUNK + 77] ^= 1;
    }
    finish_version(&v);
    return v;
}

static void release(struct version *v)
{
    free(v->bytes);
    bnt_buf_release(&v->tree);
}

/* Serve a version as /m.gguf; `tree` NULL: without one. */
static struct bnt_mock_server *serve(const struct version *v, const struct bnt_buf *tree,
                                     struct bnt_mock_route routes[3])
{
    memset(routes, 0, 3 * sizeof *routes);
    routes[0] = (struct bnt_mock_route){
        .path = "/m.gguf", .status = 200, .body = v->bytes, .body_bytes = v->n, .etag = "\"v\""};
    if (tree) {
        routes[1] = (struct bnt_mock_route){.path = "/m.gguf" BNT_CHUNK_TREE_SUFFIX,
                                            .status = 200,
                                            .body = tree->data,
                                            .body_bytes = tree->len};
    }
    return transfer_server(routes);
}

/* Fetch a version; bytes that the server sent. */
static uint64_t fetch(struct bnt_mock_server *s, const char *path, const struct version *v,
                      const char *root, struct bnt_fetch_result *r)
{
    struct bnt_err err = {0};
    uint64_t before = bnt_mock_server_body_bytes(s);
    const struct bnt_fetch_opts o = {
        .sha256 = v->digest, .tree = root, .name = "m", .move_name = true, .connections = 1};
    if (transfer_fetch(s, path, &o, r, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    transfer_assert_blob(r, v->bytes, v->n);
    return bnt_mock_server_body_bytes(s) - before;
}

/* A cache that has the first version under the name m. */
static struct version fetched_first(void)
{
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct version v = first_version();
    struct bnt_mock_server *s = serve(&v, &v.tree, routes);
    assert_int_equal(fetch(s, "/m.gguf", &v, NULL, &r), FILE_BYTES);
    assert_int_equal(bnt_mock_server_requests(s), 1); /* no tree is asked for in vain */
    bnt_mock_server_stop(s);
    return v;
}

/* ---- traffic ---- */

static void an_update_moves_what_changed(void **state)
{
    (void)state;
    static const struct {
        const char *chunks;
        size_t more;
        uint64_t moved; /* bytes, without the tree */
    } cases[] = {
        {"2", 0, CHUNK}, {"0", 0, CHUNK},         {"134", 0, 3 * (uint64_t)CHUNK},
        {"5", 0, TAIL},  {"", 1000, TAIL + 1000}, {"", CHUNK, TAIL + CHUNK},
    };
    struct version old = fetched_first();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_mock_route routes[3];
        struct bnt_fetch_result r;
        struct version new = next_version(&old, cases[i].chunks, cases[i].more);
        struct bnt_mock_server *s = serve(&new, &new.tree, routes);
        uint64_t moved = fetch(s, "/m.gguf", &new, new.root, &r);
        if (moved != cases[i].moved + new.tree.len) {
            fail_msg("case %zu: %llu bytes moved, not %llu", i, (unsigned long long)moved,
                     (unsigned long long)(cases[i].moved + new.tree.len));
        }
        assert_int_equal(r.reused_bytes, new.n - cases[i].moved);
        bnt_mock_server_stop(s);
        s = serve(&old, &old.tree, routes);
        assert_int_equal(fetch(s, "/m.gguf", &old, NULL, &r), 0); /* it is there yet */
        bnt_mock_server_stop(s);
        struct bnt_cache *c = fixture_cache();
        bool removed;
        assert_int_equal(bnt_cache_remove(c, new.digest, &r.entry, &removed, NULL), BNT_OK);
        bnt_cache_close(c);
        release(&new);
    }
    release(&old);
}

/* What changed back is all here, although in two models. */
static void chunks_of_any_model_count(void **state)
{
    (void)state;
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct version a = fetched_first(), b = next_version(&a, "1", 0), c = next_version(&a, "3", 0),
                   d = next_version(&b, "3", 0);
    const struct version *order[] = {&b, &c, &d};
    const uint64_t moved[] = {CHUNK, CHUNK, 0};
    for (size_t i = 0; i < 3; i++) {
        struct bnt_mock_server *s = serve(order[i], &order[i]->tree, routes);
        assert_int_equal(fetch(s, "/m.gguf", order[i], NULL, &r), moved[i] + order[i]->tree.len);
        bnt_mock_server_stop(s);
    }
    release(&a), release(&b), release(&c), release(&d);
}

static void a_compressed_old_version_serves_too(void **state)
{
    (void)state;
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct bnt_cache_demotion d;
    struct version old = first_version();
    memset(old.bytes, 'a', 4 * CHUNK); /* so that it shrinks */
    for (size_t i = 0; i < 4; i++) {
        old.bytes[i * CHUNK] = (char)i;
    }
    bnt_buf_release(&old.tree);
    finish_version(&old);
    struct version new = next_version(&old, "5", 0);
    struct bnt_mock_server *s = serve(&old, NULL, routes);
    (void)fetch(s, "/m.gguf", &old, NULL, &r);
    bnt_mock_server_stop(s);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_demote(c, &r.entry, &d, NULL), BNT_OK);
    assert_true(d.moved);
    bnt_cache_close(c);
    s = serve(&new, &new.tree, routes);
    assert_int_equal(fetch(s, "/m.gguf", &new, NULL, &r), TAIL + new.tree.len);
    bnt_mock_server_stop(s);
    release(&old), release(&new);
}

/* ---- without a tree, or with one that lies ---- */

static void without_a_tree_the_whole_comes(void **state)
{
    (void)state;
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct version old = fetched_first(), new = next_version(&old, "2", 0);
    struct bnt_mock_server *s = serve(&new, NULL, routes);
    assert_int_equal(fetch(s, "/m.gguf", &new, new.root, &r), FILE_BYTES);
    assert_int_equal(bnt_mock_server_requests(s), 2);
    bnt_mock_server_stop(s);
    release(&old), release(&new);
}

static void a_tree_that_lies_costs_traffic_only(void **state)
{
    (void)state;
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct version old = fetched_first(), new = next_version(&old, "24", 0);
    struct version stale = next_version(&old, "4", 0);
    struct bnt_buf torn = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    assert_int_equal(bnt_buf_append(&torn, new.tree.data, new.tree.len - 1, NULL), BNT_OK);
    const struct {
        const char *what;
        const struct bnt_buf *tree;
        const char *root; /* of the lock file */
        uint64_t least, most;
    } cases[] = {
        /* It says that chunk 2 did not change: the whole is wrong, and comes once more. */
        {"of another state", &stale.tree, NULL, CHUNK + FILE_BYTES, CHUNK + FILE_BYTES + 4096},
        {"of another state, and the lock file knows", &stale.tree, new.root, FILE_BYTES,
         FILE_BYTES + 4096},
        {"torn", &torn, NULL, FILE_BYTES, FILE_BYTES + 4096},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool removed;
        struct bnt_mock_server *s = serve(&new, cases[i].tree, routes);
        uint64_t moved = fetch(s, "/m.gguf", &new, cases[i].root, &r);
        if (moved < cases[i].least || moved > cases[i].most) {
            fail_msg("%s: %llu bytes moved", cases[i].what, (unsigned long long)moved);
        }
        bnt_mock_server_stop(s);
        s = serve(&old, NULL, routes);
        assert_int_equal(fetch(s, "/m.gguf", &old, NULL, &r), 0);
        bnt_mock_server_stop(s);
        struct bnt_cache *c = fixture_cache();
        assert_int_equal(bnt_cache_remove(c, new.digest, &r.entry, &removed, NULL), BNT_OK);
        bnt_cache_close(c);
    }
    bnt_buf_release(&torn);
    release(&old), release(&new), release(&stale);
}

static void a_damaged_chunk_is_not_carried_over(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_mock_route routes[3];
    struct bnt_fetch_result r;
    struct version old = fetched_first(), new = next_version(&old, "2", 0);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_blob_path(c, old.digest, path, NULL), BNT_OK);
    bnt_cache_close(c);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "?!", 2, 9), 2);
    close(fd);
    struct bnt_mock_server *s = serve(&new, &new.tree, routes);
    assert_int_equal(fetch(s, "/m.gguf", &new, NULL, &r), 2 * (uint64_t)CHUNK + new.tree.len);
    bnt_mock_server_stop(s);
    release(&old), release(&new);
}

/* ---- where trees are ---- */

static void trees_lie_beside_files_and_blobs(void **state)
{
    (void)state;
    static const char hex[] = "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162";
    static const char *const cases[][2] = {
        {"https://h/d/m.gguf", "https://h/d/m.gguf.bnttree"},
        {"https://h/d/m.gguf?a=1&b=2", "https://h/d/m.gguf.bnttree?a=1&b=2"},
        {"http://h:1/v1/blobs/sha256/H", "http://h:1/v1/trees/sha256/H"},
        {"http://h:1/p/v1/blobs/sha256/H", "http://h:1/p/v1/trees/sha256/H"},
        {"http://h:1/v1/blobs/sha256/short", "http://h:1/v1/blobs/sha256/short.bnttree"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2][300];
        struct source s, tree;
        for (size_t k = 0; k < 2; k++) {
            size_t n = strlen(cases[i][k]);
            bool blob = cases[i][k][n - 1] == 'H';
            snprintf(text[k], sizeof text[k], "%.*s%s", (int)(n - blob), cases[i][k],
                     blob ? hex : "");
        }
        assert_int_equal(source_parse(text[0], &s, NULL), BNT_OK);
        assert_true(delta_tree_source(&s, &tree));
        assert_string_equal(tree.url, text[1]);
    }
}

/* Another cache tells its tree although the name is new here. */
static void another_cache_gives_its_tree(void **state)
{
    (void)state;
    char blob[128], tree[128];
    struct bnt_fetch_result r;
    struct version old = fetched_first(), new = next_version(&old, "0", 0);
    snprintf(blob, sizeof blob, "/v1/blobs/sha256/%s", new.digest);
    snprintf(tree, sizeof tree, "/v1/trees/sha256/%s", new.digest);
    const struct bnt_mock_route routes[] = {
        {.path = blob, .status = 200, .body = new.bytes, .body_bytes = new.n, .etag = "\"v\""},
        {.path = tree, .status = 200, .body = new.tree.data, .body_bytes = new.tree.len},
        {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.sha256 = new.digest, .name = "other", .connections = 1};
    if (transfer_fetch(s, blob, &o, &r, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    transfer_assert_blob(&r, new.bytes, new.n);
    assert_int_equal(bnt_mock_server_body_bytes(s), CHUNK + new.tree.len);
    bnt_mock_server_stop(s);
    release(&old), release(&new);
}

/* ---- a project ---- */

/* The team's way: a web server with the sidecar that `bnt cache tree` writes, manifest and lock. */
static void a_project_is_updated_by_chunks(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], sidecar[BNT_PATH_MAX], dir[BNT_PATH_MAX], text[1024];
    struct bnt_mock_route routes[3];
    struct bnt_buf tree = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    struct suite_output o;
    struct version old = fetched_first(), new = next_version(&old, "24", 0);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    int fd = open(fixture_path(path, "new.gguf"), O_WRONLY | O_CREAT, 0644);
    assert_int_equal(bnt_write_all(fd, new.bytes, new.n, "test", NULL), BNT_OK);
    close(fd);
    fixture_path(sidecar, "new.gguf.bnttree");
    const char *const make_tree[] = {suite_bnt(), "cache", "tree", path, "-o", sidecar, NULL};
    suite_run(make_tree, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
    assert_int_equal(bnt_file_read(sidecar, &tree, NULL), BNT_OK);
    struct bnt_mock_server *s = serve(&new, &tree, routes);
    snprintf(text, sizeof text, "models:\n  m:\n    source: %s/m.gguf\n    sha256: %s\n",
             bnt_mock_server_url(s), new.digest);
    fixture_write(fixture_path(path, "bnt.yml"), text);
    snprintf(
        text, sizeof text,
        "{\"schema\": 1, \"models\": {\"m\": {\"source\": \"%s/m.gguf\", \"files\": [{\"path\": "
        "\"m.gguf\", \"size\": %zu, \"sha256\": \"%s\", \"tree\": \"%s\", \"mirrors\": []}]}}}",
        bnt_mock_server_url(s), new.n, new.digest, new.root);
    fixture_write(fixture_path(path, "bnt.lock"), text);
    const char *const fetch_locked[] = {suite_bnt(), "fetch", "--locked", NULL};
    suite_run(fetch_locked, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s", o.err);
    }
    suite_output_release(&o);
    assert_int_equal(bnt_mock_server_body_bytes(s), 2 * (uint64_t)CHUNK + tree.len);
    bnt_mock_server_stop(s);
    bnt_buf_release(&tree);
    release(&old), release(&new);
}

/* ---- parts ---- */

static void too_many_holes_are_joined(void **state)
{
    (void)state;
    enum { N = 5000, STEP = 8 << 20 };
    static struct bnt_cache_range missing[N];
    char dir[BNT_PATH_MAX];
    struct part p;
    uint64_t total = (uint64_t)N * STEP, bytes = 0;
    for (uint64_t i = 0; i < N; i++) {
        missing[i] = (struct bnt_cache_range){i * STEP, i * STEP + CHUNK};
    }
    assert_int_equal(part_open(fixture_path(dir, "c"), "k", true, &p, NULL), BNT_OK);
    assert_int_equal(part_seed(&p, total, missing, 100, NULL), BNT_OK);
    assert_int_equal(part_done_bytes(&p), total - 100 * (uint64_t)CHUNK);
    assert_int_equal(part_seed(&p, total, missing, N, NULL), BNT_OK);
    size_t h = 0;
    for (size_t i = 0; i < N; i++) { /* every missing range lies in a hole */
        while (h < PART_HOLES && p.record.holes[h].end < missing[i].end) {
            h++;
        }
        assert_true(h < PART_HOLES / 2 && p.record.holes[h].begin <= missing[i].begin);
    }
    for (size_t i = 0; i < PART_HOLES; i++) {
        bytes += p.record.holes[i].end - p.record.holes[i].begin;
    }
    assert_true(bytes <= total);
    part_drop(&p);
}

static const struct suite_test tests[] = {
    {.name = "delta_an_update_moves_what_changed",
     .body = an_update_moves_what_changed,
     .timeout_ms = 30000},
    {.name = "delta_chunks_of_any_model_count", .body = chunks_of_any_model_count},
    {.name = "delta_a_compressed_old_version_serves_too",
     .body = a_compressed_old_version_serves_too},
    {.name = "delta_without_a_tree_the_whole_comes", .body = without_a_tree_the_whole_comes},
    {.name = "delta_a_tree_that_lies_costs_traffic_only",
     .body = a_tree_that_lies_costs_traffic_only,
     .timeout_ms = 30000},
    {.name = "delta_a_damaged_chunk_is_not_carried_over",
     .body = a_damaged_chunk_is_not_carried_over},
    {.name = "delta_trees_lie_beside_files_and_blobs", .body = trees_lie_beside_files_and_blobs},
    {.name = "delta_another_cache_gives_its_tree", .body = another_cache_gives_its_tree},
    {.name = "delta_a_project_is_updated_by_chunks", .body = a_project_is_updated_by_chunks},
    {.name = "delta_too_many_holes_are_joined", .body = too_many_holes_are_joined},
    {0},
};
const struct suite suite_delta = {"delta", tests, "delta_whole delta_root"};
