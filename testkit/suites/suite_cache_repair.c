/* Guards against bit rot: a flipped bit that is not found, a chunk tree that is believed although
 * it is damaged, a repair that reads more than the bad chunks, takes other bytes for the right
 * ones, or changes what a program has mapped. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "cache/tree.h"
#include "testkit/suites/cache_fixture.h"

enum { CHUNKS = 5, TAIL = 12345, BLOB_BYTES = (CHUNKS - 1) * (4 << 20) + TAIL };

/* ---- a source that counts ---- */

static uint8_t *origin; /* BLOB_BYTES, what the source has */
static uint64_t bytes_read;

static enum bnt_status open_origin(const struct bnt_source_want *want, void **reader,
                                   struct bnt_err *err)
{
    *reader = NULL;
    return want->n_places == 1 && strcmp(want->places[0], "file:///test/m") == 0
               ? BNT_OK
               : bnt_err_set(err, BNT_E_NOT_FOUND, "asked for %s", want->places[0]);
}

static enum bnt_status read_origin(void *reader, uint64_t offset, void *out, size_t n,
                                   struct bnt_err *err)
{
    (void)reader;
    if (offset + n > BLOB_BYTES) {
        return bnt_err_set(err, BNT_E_FILE, "past the end");
    }
    memcpy(out, origin + offset, n);
    bytes_read += n;
    return BNT_OK;
}

static void close_origin(void *reader)
{
    (void)reader;
}

static const struct bnt_source counting_source = {open_origin, read_origin, close_origin};

/* ---- what the bodies share ---- */

static unsigned seed;

static void make_origin(void)
{
    seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    origin = malloc(BLOB_BYTES);
    assert_non_null(origin);
    uint32_t x = seed | 1;
    for (size_t i = 0; i < BLOB_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        origin[i] = (uint8_t)(x >> 24);
    }
}

/* The origin under the name m. */
static struct bnt_cache_entry add_origin(struct bnt_cache *c)
{
    struct bnt_cache_entry e = {.name = "m", .source = "file:///test/m", .file_name = "m.gguf"};
    struct bnt_cache_temp t;
    struct bnt_sha256 *d;
    assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_update(d, origin, BLOB_BYTES, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_hex(d, e.digest, NULL), BNT_OK);
    bnt_sha256_free(d);
    assert_int_equal(bnt_cache_temp_open(c, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, origin, BLOB_BYTES, "test", NULL), BNT_OK);
    assert_int_equal(bnt_cache_add(c, &t, &e, NULL), BNT_OK);
    bnt_cache_temp_release(&t);
    return e;
}

static void flip_bit(const char *path, uint64_t offset, int bit)
{
    uint8_t byte;
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static enum bnt_cache_health health_of(struct bnt_cache *c, struct bnt_cache_entry *e)
{
    enum bnt_cache_health h = BNT_CACHE_OK;
    assert_int_equal(bnt_cache_verify(c, e, NULL, NULL, &h, NULL), BNT_OK);
    return h;
}

/* ---- bodies ---- */

static void random_flips_are_found_and_healed_by_chunks(void **state)
{
    (void)state;
    enum { ROUNDS = 6 };
    char path[BNT_PATH_MAX];
    make_origin();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_origin(c);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    for (int round = 0; round < ROUNDS; round++) {
        bool hit[CHUNKS] = {false};
        size_t n_hit = 0;
        struct bnt_cache_damage d;
        for (int flips = 0; flips <= round; flips++) {
            uint64_t at =
                ((uint64_t)(unsigned)rand_r(&seed) << 16 ^ (unsigned)rand_r(&seed)) % BLOB_BYTES;
            n_hit += !hit[at / BNT_CACHE_CHUNK_BYTES];
            hit[at / BNT_CACHE_CHUNK_BYTES] = true;
            flip_bit(path, at, flips); /* another bit each, so that two never cancel out */
        }
        assert_int_equal(health_of(c, &e), BNT_CACHE_CORRUPT);
        assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
        assert_true(d.has_tree);
        assert_int_equal(d.n_chunks, CHUNKS);
        assert_int_equal(d.n_bad, n_hit);
        for (size_t i = 0; i < d.n_bad; i++) {
            assert_int_equal(d.bad[i] % BNT_CACHE_CHUNK_BYTES, 0);
            assert_true(hit[d.bad[i] / BNT_CACHE_CHUNK_BYTES]);
        }
        bytes_read = 0;
        assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, NULL), BNT_OK);
        assert_int_equal(bytes_read, d.bad_bytes);
        assert_true(bytes_read <= n_hit * BNT_CACHE_CHUNK_BYTES);
        bnt_cache_damage_release(&d);
        assert_int_equal(health_of(c, &e), BNT_CACHE_OK);
    }
    assert_int_equal(bnt_cache_find(c, "m", &e, NULL), BNT_OK); /* the name is where it was */
    bnt_cache_close(c);
    free(origin);
}

static void cut_and_missing_files_are_healed(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache_damage d;
    make_origin();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_origin(c);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(truncate(path, 2 * (off_t)BNT_CACHE_CHUNK_BYTES + 1), 0);
    assert_int_equal(health_of(c, &e), BNT_CACHE_SIZE_DIFFERS);
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    assert_int_equal(d.n_bad, CHUNKS - 2);
    assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, NULL), BNT_OK);
    bnt_cache_damage_release(&d);
    assert_int_equal(health_of(c, &e), BNT_CACHE_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    assert_int_equal(d.n_bad, CHUNKS);
    assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, NULL), BNT_OK);
    bnt_cache_damage_release(&d);
    assert_int_equal(health_of(c, &e), BNT_CACHE_OK);
    bnt_cache_close(c);
    free(origin);
}

static void mapping_keeps_its_bytes_during_a_repair(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache_damage d;
    struct bnt_mapping m;
    make_origin();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_origin(c);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    flip_bit(path, 7, 0);
    assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, NULL), BNT_OK);
    assert_int_equal(m.data[7], origin[7] ^ 1);
    bnt_unmap(&m);
    bnt_cache_damage_release(&d);
    bnt_cache_close(c);
    free(origin);
}

static void source_with_other_bytes_heals_nothing(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache_damage d;
    struct bnt_err err = {0};
    make_origin();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_origin(c);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    flip_bit(path, 100, 3);
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    origin[200] ^= 1;
    assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, &err), BNT_E_DIGEST);
    assert_non_null(strstr(err.hint, "bnt fetch --force file:///test/m"));
    assert_int_equal(health_of(c, &e), BNT_CACHE_CORRUPT);
    bnt_cache_damage_release(&d);
    bnt_cache_close(c);
    free(origin);
}

/* Content of sizes around the ends of chunks: the chain's digest is SHA-256, and of each chunk it
 * knows the right one. */
static void chain_has_the_digest_and_knows_each_chunk(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4 << 20, (4 << 20) + 1, 8 << 20, BLOB_BYTES};
    char hex[BNT_SHA256_HEX], want[BNT_SHA256_HEX];
    make_origin();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bnt_chunk_tree *t;
        assert_int_equal(bnt_chunk_chain_new(&t, NULL), BNT_OK);
        for (size_t at = 0; at < sizes[i]; at += 1000003) {
            size_t n = sizes[i] - at < 1000003 ? sizes[i] - at : 1000003;
            assert_int_equal(bnt_chunk_tree_update(t, origin + at, n, NULL), BNT_OK);
        }
        assert_int_equal(bnt_chunk_chain_digest(t, hex, NULL), BNT_OK);
        assert_int_equal(bnt_sha256_text(origin, sizes[i], want, NULL), BNT_OK);
        assert_string_equal(hex, want);
        for (size_t k = 0; k < tree_leaves(t) && sizes[i] > 0; k++) {
            uint8_t *chunk = origin + k * BNT_CACHE_CHUNK_BYTES;
            size_t n = tree_leaf_bytes(t, k);
            bool same = false;
            assert_int_equal(tree_leaf_is(t, k, chunk, n, &same, NULL), BNT_OK);
            assert_true(same);
            chunk[n / 2] ^= 1;
            assert_int_equal(tree_leaf_is(t, k, chunk, n, &same, NULL), BNT_OK);
            assert_false(same);
            chunk[n / 2] ^= 1;
        }
        bnt_chunk_tree_free(t);
    }
    free(origin);
}

/* A blob that came with a chain gets its tree when somebody wants leaves, and not from bytes that
 * are damaged. */
static void tree_is_made_of_a_sound_blob_that_has_a_chain(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], root[BNT_SHA256_HEX], want[BNT_SHA256_HEX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = {.name = "m"};
    struct bnt_cache_temp temp;
    struct bnt_chunk_tree *t;
    struct bnt_cache_damage d;
    make_origin();
    assert_int_equal(bnt_cache_temp_open(c, &temp, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_chain_new(&temp.tree, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_update(temp.tree, origin, BLOB_BYTES, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_chain_digest(temp.tree, e.digest, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(temp.fd, origin, BLOB_BYTES, "test", NULL), BNT_OK);
    assert_int_equal(bnt_cache_add(c, &temp, &e, NULL), BNT_OK);
    bnt_cache_temp_release(&temp);
    assert_int_equal(bnt_cache_tree_root(c, e.digest, false, root, NULL), BNT_OK);
    assert_string_equal(root, "");
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    flip_bit(path, BLOB_BYTES - 1, 3);
    assert_int_equal(bnt_cache_tree_root(c, e.digest, true, root, NULL), BNT_OK);
    assert_string_equal(root, "");
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    assert_int_equal(d.n_bad, 1);
    assert_int_equal(d.bad[0], (uint64_t)(CHUNKS - 1) * BNT_CACHE_CHUNK_BYTES);
    bnt_cache_damage_release(&d);
    flip_bit(path, BLOB_BYTES - 1, 3);
    assert_int_equal(bnt_cache_tree_root(c, e.digest, true, root, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_of_file(path, NULL, &t, NULL), BNT_OK);
    assert_int_equal(bnt_chunk_tree_root(t, want, NULL), BNT_OK);
    assert_string_equal(root, want);
    bnt_chunk_tree_free(t);
    bnt_cache_close(c);
    free(origin);
}

static void damaged_tree_counts_as_none_and_is_made_again(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX], root[BNT_SHA256_HEX], again[BNT_SHA256_HEX];
    struct bnt_cache_damage d;
    struct bnt_err err = {0};
    struct stat sb;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content");
    assert_int_equal(bnt_cache_tree_root(c, e.digest, false, root, NULL), BNT_OK);
    assert_true(bnt_sha256_is_hex(root));
    assert_int_equal(tree_path(fixture_path(dir, "c"), e.digest, path, NULL), BNT_OK);
    assert_int_equal(stat(path, &sb), 0);
    for (off_t at = 0; at < sb.st_size; at += 5) {
        flip_bit(path, (uint64_t)at, (int)(at % 8));
        assert_int_equal(bnt_cache_tree_root(c, e.digest, false, again, NULL), BNT_OK);
        assert_string_equal(again, "");
        flip_bit(path, (uint64_t)at, (int)(at % 8));
    }
    assert_int_equal(truncate(path, sb.st_size - 1), 0);
    assert_int_equal(bnt_cache_damage_find(c, &e, &d, NULL), BNT_OK);
    assert_false(d.has_tree);
    assert_int_equal(bnt_cache_repair(c, &e, &d, &counting_source, &err), BNT_E_UNSUPPORTED);
    bnt_cache_damage_release(&d);
    assert_int_equal(health_of(c, &e), BNT_CACHE_OK);
    assert_int_equal(bnt_cache_tree_root(c, e.digest, false, again, NULL), BNT_OK);
    assert_string_equal(again, root);
    bnt_cache_close(c);
}

/* The tree that the writer feeds in pieces of any size is the one of the file. */
static void tree_does_not_depend_on_the_pieces(void **state)
{
    (void)state;
    static const size_t pieces[] = {4 << 20, (4 << 20) - 1, (4 << 20) + 1, 1000003, 9 << 20};
    char first[BNT_SHA256_HEX] = "", hex[BNT_SHA256_HEX];
    make_origin();
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct bnt_chunk_tree *t;
        assert_int_equal(bnt_chunk_tree_new(&t, NULL), BNT_OK);
        for (size_t at = 0; at < BLOB_BYTES; at += pieces[i]) {
            size_t n = BLOB_BYTES - at < pieces[i] ? BLOB_BYTES - at : pieces[i];
            assert_int_equal(bnt_chunk_tree_update(t, origin + at, n, NULL), BNT_OK);
        }
        assert_int_equal(bnt_chunk_tree_root(t, hex, NULL), BNT_OK);
        assert_int_equal(tree_leaves(t), CHUNKS);
        assert_int_equal(tree_leaf_bytes(t, CHUNKS - 1), TAIL);
        bnt_chunk_tree_free(t);
        if (first[0]) {
            assert_string_equal(hex, first);
        }
        memcpy(first, hex, sizeof first);
    }
    free(origin);
}

/* From the command line, with the sources that fetch can read in ranges. */
static void command_repairs_from_a_file_and_the_bundled_model(void **state)
{
    (void)state;
    static const char *const sources[] = {"m.gguf", "bundled:"};
    static const char *const names[] = {"m", "tinystories-bitnet"};
    char file[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct suite_output o;
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    for (size_t i = 0; i < 2; i++) {
        const char *fetch[] = {suite_bnt(), "fetch", "-q", sources[i], NULL};
        const char *verify[] = {suite_bnt(), "cache", "verify", "--repair", names[i], NULL};
        suite_run(fetch, suite_scratch(), 0, &o);
        assert_int_equal(o.exit, 0);
        assert_int_equal(bnt_path_format(path, NULL, "%.*s", (int)strcspn(o.out, "\n"), o.out),
                         BNT_OK);
        suite_output_release(&o);
        flip_bit(path, 5, 5);
        suite_run(verify, suite_scratch(), 0, &o);
        if (o.exit != 0) {
            fail_msg("%s%s", o.out, o.err);
        }
        assert_string_equal(o.out, "1 checked, 0 ok, 0 corrupt, 0 missing, 1 repaired\n");
        assert_non_null(strstr(o.err, "chunks, at 0"));
        suite_output_release(&o);
        suite_run(verify, suite_scratch(), 0, &o);
        assert_string_equal(o.out, "1 checked, 1 ok, 0 corrupt, 0 missing\n");
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "cache_repair_random_flips_are_found_and_healed_by_chunks",
     .body = random_flips_are_found_and_healed_by_chunks,
     .timeout_ms = 30000},
    {.name = "cache_repair_cut_and_missing_files_are_healed",
     .body = cut_and_missing_files_are_healed},
    {.name = "cache_repair_mapping_keeps_its_bytes",
     .body = mapping_keeps_its_bytes_during_a_repair},
    {.name = "cache_repair_source_with_other_bytes_heals_nothing",
     .body = source_with_other_bytes_heals_nothing},
    {.name = "cache_repair_damaged_tree_counts_as_none_and_is_made_again",
     .body = damaged_tree_counts_as_none_and_is_made_again},
    {.name = "cache_repair_tree_does_not_depend_on_the_pieces",
     .body = tree_does_not_depend_on_the_pieces},
    {.name = "cache_repair_chain_has_the_digest_and_knows_each_chunk",
     .body = chain_has_the_digest_and_knows_each_chunk},
    {.name = "cache_repair_tree_is_made_of_a_sound_blob_that_has_a_chain",
     .body = tree_is_made_of_a_sound_blob_that_has_a_chain},
    {.name = "cache_repair_from_a_file_and_the_bundled_model",
     .body = command_repairs_from_a_file_and_the_bundled_model},
    {0},
};
const struct suite suite_cache_repair = {"cache_repair", tests, "verify_blind chain_position"};
