/* Guards the warm tier: a model that does not come back bit by bit, a compressed copy whose damage
 * is not noticed, a hot file that goes while it is used or before its copy is proven, a file that
 * makes the reader read or write out of bounds, compression that saves less than it should. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/app.h"
#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "cache/frame_filter.h"
#include "cache/tier.h"
#include "cache/warm_file.h"
#include "testkit/suites/cache_fixture.h"

/* ---- content ---- */

enum { PART = 5 << 20, BLOB_BYTES = 3 * PART + 4321 };

static uint32_t random_state;

static uint32_t next_random(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* Like a model: an embedding of halves whose values fit bfloat16, ternary weights with their scales
 * between them, float norms; then what nothing compresses. */
static uint8_t *make_model(void)
{
    random_state = (uint32_t)bnt_clock_now_ns();
    print_message("seed %u\n", random_state);
    uint8_t *b = malloc(BLOB_BYTES);
    assert_non_null(b);
    for (size_t i = 0; i < PART; i += 2) {
        uint32_t exponent = 8 + (next_random() & 3) + (next_random() & 1);
        uint32_t half = (next_random() & 1) << 15 | exponent << 10 | (next_random() & 127) << 3;
        b[i] = (uint8_t)half;
        b[i + 1] = (uint8_t)(half >> 8);
    }
    for (size_t i = PART; i < 2 * PART; i++) {
        b[i] = 0;
        for (int k = 0; k < 8; k += 2) {
            b[i] |= (uint8_t)(next_random() % 3 << k);
        }
        if (i % 700001 < 4) {
            b[i] = 0xff;
        }
    }
    for (size_t i = 2 * PART; i + 4 <= 3 * PART; i += 4) {
        float f = 1.0f + (float)(next_random() & 1023) / 65536.0f;
        memcpy(b + i, &f, 4);
    }
    for (size_t i = 3 * PART; i < BLOB_BYTES; i++) {
        b[i] = (uint8_t)next_random();
    }
    return b;
}

static struct bnt_cache_entry add_bytes(struct bnt_cache *c, const uint8_t *bytes, size_t n)
{
    struct bnt_cache_entry e = {.name = "m", .source = "file:///test/m", .file_name = "m.gguf"};
    struct bnt_cache_temp t;
    struct bnt_sha256 *d;
    assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_update(d, bytes, n, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_hex(d, e.digest, NULL), BNT_OK);
    bnt_sha256_free(d);
    assert_int_equal(bnt_cache_temp_open(c, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, bytes, n, "test", NULL), BNT_OK);
    assert_int_equal(bnt_cache_add(c, &t, &e, NULL), BNT_OK);
    return e;
}

static struct bnt_cache_demotion demote(struct bnt_cache *c, const struct bnt_cache_entry *e)
{
    struct bnt_cache_demotion d;
    struct bnt_err err = {0};
    if (bnt_cache_demote(c, e, &d, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return d;
}

static bool is_warm(struct bnt_cache *c, const char *digest)
{
    bool warm = false;
    uint64_t stored = 0;
    assert_int_equal(bnt_cache_tier(c, digest, &warm, &stored, NULL), BNT_OK);
    assert_true(stored > 0);
    return warm;
}

static void warm_path(const char *digest, char path[BNT_PATH_MAX])
{
    char dir[BNT_PATH_MAX];
    assert_int_equal(tier_warm_path(fixture_path(dir, "c"), digest, path, NULL), BNT_OK);
}

static void flip(const char *path, uint64_t offset)
{
    uint8_t byte;
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* ---- filters and files ---- */

static void filters_undo_themselves(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 9, 10, 11, 127, 4096, 65537};
    random_state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s], used = 0;
        uint8_t *in = malloc(n), *mid = malloc(frame_filter_bound(n)), *out = malloc(n);
        for (int kind = 0; kind < 3; kind++) {
            for (size_t i = 0; i < n; i++) { /* any bytes, trits, trits with exceptions */
                uint32_t r = next_random();
                in[i] = (uint8_t)r;
                in[i] = kind > 0 && (in[i] & in[i] >> 1 & 0x55) ? 0 : in[i];
                in[i] = kind == 2 && i % 100 == 7 ? 0xff : in[i];
            }
            for (int f = 0; f < FRAME_FILTERS; f++) {
                size_t m = frame_filter_encode((enum frame_filter)f, in, n, mid);
                assert_true(m <= frame_filter_bound(n));
                if (m == 0) {
                    assert_int_equal(f, FRAME_TRITS);
                    continue;
                }
                used += f == FRAME_TRITS;
                memset(out, 0xee, n);
                assert_true(frame_filter_decode((enum frame_filter)f, mid, m, out, n));
                assert_memory_equal(out, in, n);
                assert_false(frame_filter_decode((enum frame_filter)f, mid, m - 1, out, n));
            }
        }
        assert_true(used > 0);
        free(in);
        free(mid);
        free(out);
    }
}

static void trits_of_a_hostile_file_stay_in_bounds(void **state)
{
    (void)state;
    uint8_t in[64] = {1, 0, 0, 0, 200, 0, 0, 0, 77}, out[20];
    assert_false(frame_filter_decode(FRAME_TRITS, in, 9 + 16, out, 20)); /* an exception at 200 */
    in[4] = 19;
    assert_true(frame_filter_decode(FRAME_TRITS, in, 9 + 16, out, 20));
    assert_int_equal(out[19], 77);
    memset(in, 0xff, 4);
    assert_false(frame_filter_decode(FRAME_TRITS, in, 9 + 16, out, 20));
    assert_false(frame_filter_decode(FRAME_TRITS, in, 3, out, 20));
    assert_false(frame_filter_decode(FRAME_FILTERS, in, 20, out, 20));
}

/* Any zstd expands the frames, and the seek table is at the end: the formats of others. */
static void warm_file_has_the_seekable_format(void **state)
{
    (void)state;
    char from[BNT_PATH_MAX], to[BNT_PATH_MAX];
    struct bnt_mapping m;
    struct warm_info info;
    fixture_write(fixture_path(from, "m"), "plain text stays plain, since nothing else wins here");
    int fd = open(fixture_path(to, "w"), O_RDWR | O_CREAT, 0644);
    assert_true(fd >= 0);
    assert_int_equal(warm_file_write(from, fd, to, NULL, NULL), BNT_OK);
    close(fd);
    assert_int_equal(warm_file_info(to, &info, NULL), BNT_OK);
    assert_int_equal(info.raw_bytes, 52);
    assert_int_equal(info.n_frames, 1);
    assert_int_equal(bnt_map_file(to, &m, NULL), BNT_OK);
    char text[64] = "";
    assert_int_equal(ZSTD_decompress(text, sizeof text, m.data, (size_t)m.size), 52);
    assert_string_equal(text, "plain text stays plain, since nothing else wins here");
    static const uint8_t footer[] = {2, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f};
    assert_memory_equal(m.data + m.size - sizeof footer, footer, sizeof footer);
    bnt_unmap(&m);
}

/* Whatever is cut off or flipped, the reader says so, or the digest does. */
static void damaged_warm_files_are_noticed(void **state)
{
    (void)state;
    char from[BNT_PATH_MAX], to[BNT_PATH_MAX], hex[BNT_SHA256_HEX], want[BNT_SHA256_HEX];
    struct stat sb;
    off_t noticed = 0, wrong = 0;
    fixture_write(fixture_path(from, "m"), "some text, some text, some text, and some more text");
    fixture_digest("some text, some text, some text, and some more text", want);
    int fd = open(fixture_path(to, "w"), O_RDWR | O_CREAT, 0644);
    assert_int_equal(warm_file_write(from, fd, to, NULL, NULL), BNT_OK);
    assert_int_equal(fstat(fd, &sb), 0);
    for (off_t at = 0; at < sb.st_size; at++) {
        flip(to, (uint64_t)at);
        enum bnt_status st = warm_file_read(to, -1, hex, NULL, NULL);
        /* Some bits of headers carry no meaning; then the content is right, which the digest says.
         */
        assert_true(st == BNT_E_FILE || st == BNT_OK);
        wrong += st == BNT_OK && strcmp(hex, want) != 0;
        noticed += st == BNT_E_FILE;
        flip(to, (uint64_t)at);
    }
    assert_int_equal(wrong, 0); /* each frame has a checksum */
    assert_true(noticed > sb.st_size * 9 / 10);
    assert_int_equal(warm_file_read(to, -1, hex, NULL, NULL), BNT_OK);
    assert_string_equal(hex, want);
    for (off_t size = sb.st_size - 1; size >= 0; size--) {
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(warm_file_read(to, -1, hex, NULL, NULL), BNT_E_FILE);
    }
    close(fd);
}

/* ---- the tier ---- */

static void demoted_model_comes_back_bit_by_bit(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], root[BNT_SHA256_HEX], again[BNT_SHA256_HEX];
    struct bnt_mapping m;
    struct bnt_cache_entry got;
    uint8_t *bytes = make_model();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_bytes(c, bytes, BLOB_BYTES);
    assert_int_equal(bnt_cache_tree_root(c, e.digest, false, root, NULL), BNT_OK);
    for (int round = 0; round < 2; round++) {
        enum bnt_cache_health h = BNT_CACHE_CORRUPT;
        struct bnt_cache_demotion d = demote(c, &e);
        assert_true(d.moved && !d.in_use);
        assert_true(d.after_bytes < d.before_bytes * 3 / 4);
        assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
        assert_int_equal(access(path, F_OK), -1);
        assert_true(is_warm(c, e.digest));
        assert_int_equal(bnt_cache_verify(c, &e, NULL, NULL, &h, NULL), BNT_OK);
        assert_int_equal(h, BNT_CACHE_OK);
        assert_true(is_warm(c, e.digest)); /* a check does not expand it */
        assert_int_equal(bnt_cache_lookup(c, "m", &got, path, NULL), BNT_OK);
        assert_false(is_warm(c, e.digest));
        assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
        assert_int_equal(m.size, BLOB_BYTES);
        assert_memory_equal(m.data, bytes, BLOB_BYTES);
        bnt_unmap(&m);
        warm_path(e.digest, path);
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_string_equal(got.source, "file:///test/m");
    assert_int_equal(bnt_cache_tree_root(c, e.digest, false, again, NULL), BNT_OK);
    assert_string_equal(again, root);
    bnt_cache_close(c);
    free(bytes);
}

/* ---- a large model ---- */

/* Past the size from which the bytes go past the page cache, with an odd end. */
enum { LARGE_BYTES = (16 << 20) + 12345 };

static atomic_long write_at, writes;

static int full_disk(enum bnt_file_step step, size_t *n)
{
    (void)n;
    return step == BNT_FILE_WRITE && atomic_fetch_add(&writes, 1) == atomic_load(&write_at) ? ENOSPC
                                                                                            : 0;
}

static void large_model_survives_a_full_disk_and_comes_back_bit_by_bit(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_mapping m;
    struct bnt_cache_entry got;
    uint8_t *bytes = calloc(1, LARGE_BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE_BYTES; i += 7) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_bytes(c, bytes, LARGE_BYTES);
    assert_true(demote(c, &e).moved);
    enum bnt_status st = BNT_E_NO_SPACE;
    for (atomic_store(&write_at, 0); st != BNT_OK; atomic_fetch_add(&write_at, 1)) {
        atomic_store(&writes, 0);
        bnt_file_fault(full_disk);
        st = bnt_cache_lookup(c, "m", &got, path, NULL);
        bnt_file_fault(NULL);
        assert_true(st == BNT_OK || st == BNT_E_NO_SPACE);
        assert_int_equal(is_warm(c, e.digest), st != BNT_OK);
    }
    assert_true(atomic_load(&write_at) > 5); /* its room, four whole frames and the end */
    assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
    assert_int_equal(m.size, LARGE_BYTES);
    assert_memory_equal(m.data, bytes, LARGE_BYTES);
    bnt_unmap(&m);
    bnt_cache_close(c);
    free(bytes);
}

static void what_does_not_shrink_or_is_used_stays_hot(void **state)
{
    (void)state;
    struct bnt_cache_lease lease;
    uint8_t *bytes = make_model();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry noise = add_bytes(c, bytes + 3 * PART, 4321);
    struct bnt_cache_entry model = add_bytes(c, bytes, PART);
    assert_false(demote(c, &noise).moved);
    assert_false(is_warm(c, noise.digest));
    assert_int_equal(bnt_cache_lease_take(c, model.digest, &lease, NULL), BNT_OK);
    struct bnt_cache_demotion d = demote(c, &model);
    assert_true(d.in_use && !d.moved);
    assert_false(is_warm(c, model.digest));
    bnt_cache_lease_release(&lease);
    assert_true(demote(c, &model).moved);
    d = demote(c, &model);
    assert_true(!d.moved && d.after_bytes == 0);
    bnt_cache_close(c);
    free(bytes);
}

static uint8_t *origin;
static uint64_t bytes_read;

static enum bnt_status open_origin(const struct bnt_source_want *want, void **reader,
                                   struct bnt_err *err)
{
    (void)want, (void)err;
    *reader = NULL;
    return BNT_OK;
}

static enum bnt_status read_origin(void *reader, uint64_t offset, void *out, size_t n,
                                   struct bnt_err *err)
{
    (void)reader, (void)err;
    memcpy(out, origin + offset, n);
    bytes_read += n;
    return BNT_OK;
}

static void close_origin(void *reader)
{
    (void)reader;
}

static void damaged_copy_is_told_and_repaired_by_chunks(void **state)
{
    (void)state;
    static const struct bnt_source source = {open_origin, read_origin, close_origin};
    char path[BNT_PATH_MAX];
    struct bnt_cache_damage damage;
    struct bnt_cache_entry got;
    struct bnt_err err = {0};
    enum bnt_cache_health h = BNT_CACHE_OK;
    origin = make_model();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_bytes(c, origin, BLOB_BYTES);
    assert_true(demote(c, &e).moved);
    warm_path(e.digest, path);
    flip(path, 1000); /* in the first frame */
    assert_int_equal(bnt_cache_lookup(c, "m", &got, path, &err), BNT_E_DIGEST);
    assert_non_null(strstr(err.hint, "bnt cache verify --repair"));
    assert_int_equal(bnt_cache_verify(c, &e, NULL, NULL, &h, NULL), BNT_OK);
    assert_int_equal(h, BNT_CACHE_CORRUPT);
    assert_int_equal(bnt_cache_damage_find(c, &e, &damage, NULL), BNT_OK);
    assert_int_equal(damage.n_bad, 1);
    assert_int_equal(damage.bad[0], 0);
    assert_int_equal(bnt_cache_repair(c, &e, &damage, &source, NULL), BNT_OK);
    assert_int_equal(bytes_read, BNT_CACHE_CHUNK_BYTES);
    bnt_cache_damage_release(&damage);
    assert_int_equal(bnt_cache_lookup(c, "m", &got, path, NULL), BNT_OK);
    assert_int_equal(bnt_cache_verify(c, &got, NULL, NULL, &h, NULL), BNT_OK);
    assert_int_equal(h, BNT_CACHE_OK);
    bnt_cache_close(c);
    free(origin);
}

static void index_is_rebuilt_with_what_is_warm(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    uint64_t blobs = 0;
    struct bnt_cache_entry got;
    uint8_t *bytes = make_model();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_bytes(c, bytes, PART);
    assert_true(demote(c, &e).moved);
    bnt_cache_close(c);
    assert_int_equal(bnt_cache_rebuild(fixture_path(dir, "c"), &blobs, NULL), BNT_OK);
    assert_int_equal(blobs, 1);
    c = fixture_cache();
    assert_int_equal(bnt_cache_lookup(c, e.digest, &got, path, NULL), BNT_OK);
    assert_int_equal(got.size, PART);
    bnt_cache_close(c);
    free(bytes);
}

static void collection_compresses_and_removes_what_is_compressed(void **state)
{
    (void)state;
    struct bnt_cache_gc_report r;
    char path[BNT_PATH_MAX];
    bool has = true;
    uint8_t *bytes = make_model();
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_bytes(c, bytes, PART);
    struct bnt_cache_gc_opts opts = {.demote_after_s = 3600};
    assert_int_equal(bnt_cache_gc(c, &opts, &r, NULL), BNT_OK);
    assert_int_equal(r.n_demoted, 0);
    bnt_cache_gc_report_release(&r);
    fixture_sql("UPDATE blob SET used_s = used_s - 4000");
    assert_int_equal(bnt_cache_gc(c, &opts, &r, NULL), BNT_OK);
    assert_int_equal(r.n_demoted, 1);
    assert_int_equal(r.at[0].verdict, BNT_GC_KEPT_WARM);
    assert_true(r.bytes_saved > PART / 4);
    bnt_cache_gc_report_release(&r);
    assert_true(is_warm(c, e.digest));
    opts = (struct bnt_cache_gc_opts){.max_bytes = 1};
    assert_int_equal(bnt_cache_gc(c, &opts, &r, NULL), BNT_OK);
    assert_int_equal(r.n_removed, 1);
    assert_true(r.bytes_removed < PART * 3 / 4);
    bnt_cache_gc_report_release(&r);
    warm_path(e.digest, path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(bnt_cache_has(c, e.digest, &has, NULL), BNT_OK);
    assert_false(has);
    bnt_cache_close(c);
    free(bytes);
}

/* It would take as long again, at every collection. */
static void what_saves_nothing_is_tried_once(void **state)
{
    (void)state;
    struct bnt_cache_gc_report r;
    struct bnt_cache *c = fixture_cache();
    uint8_t bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(next_random() >> 8);
    }
    const struct bnt_cache_entry e = add_bytes(c, bytes, sizeof bytes);
    fixture_sql("UPDATE blob SET used_s = used_s - 4000");
    for (size_t i = 0; i < 2; i++) {
        const struct bnt_cache_gc_opts tries[] = {{.demote_after_s = 3600, .dry_run = true},
                                                  {.demote_after_s = 3600}};
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(bnt_cache_gc(c, &tries[k], &r, NULL), BNT_OK);
            assert_int_equal(r.n_demoted,
                             i == 0 && k == 0); /* that it is in vain is not known yet */
            bnt_cache_gc_report_release(&r);
        }
    }
    assert_false(demote(c, &e).moved); /* who names it may try */
    assert_false(is_warm(c, e.digest));
    bnt_cache_close(c);
}

/* Another process may remove a copy between the look at it and its reading. */
static void copy_that_is_gone_is_told(void **state)
{
    (void)state;
    char digest[BNT_SHA256_HEX];
    bool same = true;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_sha256_text("gone", 4, digest, NULL), BNT_OK);
    assert_int_equal(tier_check(c, digest, &same, &err), BNT_E_NOT_FOUND);
    assert_false(same);
    assert_non_null(strstr(err.msg, digest));
    bnt_cache_close(c);
}

/* Whoever does not want to wait any longer finds everything as it was. */
static void interrupted_work_changes_nothing(void **state)
{
    (void)state;
    const volatile sig_atomic_t now = 1;
    char tar[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    uint8_t *bytes = make_model();
    struct bnt_cache_entry e = add_bytes(c, bytes, BLOB_BYTES), found;
    struct bnt_cache_list list = {.at = &e, .n = 1};
    struct bnt_cache_demotion d;
    struct bnt_chunk_tree *t = NULL;
    fixture_path(tar, "e.tar");
    assert_int_equal(bnt_cache_lookup(c, e.digest, &found, path, NULL), BNT_OK);
    bnt_cache_interrupt(c, &now);
    assert_int_equal(bnt_cache_demote(c, &e, &d, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(bnt_cache_export(c, &list, tar, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(bnt_chunk_tree_of_file(path, &now, &t, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(tar, F_OK), -1);
    bnt_cache_interrupt(c, NULL);
    assert_int_equal(bnt_cache_demote(c, &e, &d, NULL), BNT_OK);
    assert_true(d.moved);
    bnt_cache_interrupt(c, &now);
    assert_int_equal(bnt_cache_lookup(c, e.digest, &found, path, NULL), BNT_E_INTERRUPTED);
    bnt_cache_interrupt(c, NULL);
    assert_int_equal(bnt_cache_lookup(c, e.digest, &found, path, NULL), BNT_OK);
    bnt_cache_close(c);
    free(bytes);
}

static volatile sig_atomic_t asked_to_end;

static void ask_to_end(int number)
{
    (void)number;
    asked_to_end = 1;
}

/* Another process expands the same blob, and takes its time. */
static void wait_for_another_process_can_be_interrupted(void **state)
{
    (void)state;
    char warm[BNT_PATH_MAX], path[BNT_PATH_MAX];
    const struct sigaction action = {.sa_handler = ask_to_end};
    const struct itimerval soon = {.it_interval = {.tv_usec = 50000},
                                   .it_value = {.tv_usec = 50000}};
    struct bnt_cache *c = fixture_cache();
    uint8_t *bytes = make_model();
    struct bnt_cache_entry e = add_bytes(c, bytes, BLOB_BYTES), found;
    struct bnt_cache_demotion d;
    assert_int_equal(bnt_cache_demote(c, &e, &d, NULL), BNT_OK);
    assert_int_equal(tier_warm_path(bnt_cache_folder(c), e.digest, warm, NULL), BNT_OK);
    int other = open(warm, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    bnt_cache_interrupt(c, &asked_to_end);
    assert_int_equal(bnt_cache_lookup(c, e.digest, &found, path, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0}}, NULL), 0);
    bnt_cache_interrupt(c, NULL);
    close(other);
    assert_int_equal(bnt_cache_lookup(c, e.digest, &found, path, NULL), BNT_OK);
    bnt_cache_close(c);
    free(bytes);
}

static void command_compresses_and_path_expands(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX], before[BNT_SHA256_HEX], after[BNT_SHA256_HEX];
    static const char *const words[][3] = {
        {"fetch", "-q", "m.gguf"}, {"cache", "demote", "m"}, {"path", "m", NULL}};
    uint8_t *bytes = make_model();
    FILE *f = fopen(fixture_path(file, "m.gguf"), "w");
    assert_int_equal(fwrite(bytes, 1, PART, f), PART);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(bnt_sha256_file(file, NULL, NULL, before, NULL), BNT_OK);
    for (size_t i = 0; i < 3; i++) {
        struct suite_output o;
        const char *argv[] = {suite_bnt(), words[i][0], words[i][1], words[i][2], NULL};
        suite_run(argv, suite_scratch(), 0, &o);
        if (o.exit != 0) {
            fail_msg("%s", o.err);
        }
        o.out[strcspn(o.out, "\n")] = '\0';
        if (i != 1) {
            assert_int_equal(bnt_sha256_file(o.out, NULL, NULL, after, NULL), BNT_OK);
            assert_string_equal(after, before);
        } else {
            assert_non_null(strstr(o.err, "% less"));
        }
        suite_output_release(&o);
    }
    free(bytes);
}

static const struct suite_test tests[] = {
    {.name = "cache_tier_filters_undo_themselves", .body = filters_undo_themselves},
    {.name = "cache_tier_trits_of_a_hostile_file_stay_in_bounds",
     .body = trits_of_a_hostile_file_stay_in_bounds},
    {.name = "cache_tier_warm_file_has_the_seekable_format",
     .body = warm_file_has_the_seekable_format},
    {.name = "cache_tier_large_model_survives_a_full_disk_and_comes_back_bit_by_bit",
     .body = large_model_survives_a_full_disk_and_comes_back_bit_by_bit,
     .timeout_ms = 30000},
    {.name = "cache_tier_damaged_warm_files_are_noticed", .body = damaged_warm_files_are_noticed},
    {.name = "cache_tier_demoted_model_comes_back_bit_by_bit",
     .body = demoted_model_comes_back_bit_by_bit,
     .timeout_ms = 60000},
    {.name = "cache_tier_what_does_not_shrink_or_is_used_stays_hot",
     .body = what_does_not_shrink_or_is_used_stays_hot,
     .timeout_ms = 30000},
    {.name = "cache_tier_damaged_copy_is_told_and_repaired_by_chunks",
     .body = damaged_copy_is_told_and_repaired_by_chunks,
     .timeout_ms = 30000},
    {.name = "cache_tier_index_is_rebuilt_with_what_is_warm",
     .body = index_is_rebuilt_with_what_is_warm,
     .timeout_ms = 30000},
    {.name = "cache_tier_what_saves_nothing_is_tried_once",
     .body = what_saves_nothing_is_tried_once},
    {.name = "cache_tier_collection_compresses_and_removes_what_is_compressed",
     .body = collection_compresses_and_removes_what_is_compressed,
     .timeout_ms = 30000},
    {.name = "cache_tier_copy_that_is_gone_is_told", .body = copy_that_is_gone_is_told},
    {.name = "cache_tier_command_compresses_and_path_expands",
     .body = command_compresses_and_path_expands,
     .timeout_ms = 30000},
    {.name = "cache_tier_interrupted_work_changes_nothing",
     .body = interrupted_work_changes_nothing},
    {.name = "cache_tier_wait_for_another_process_can_be_interrupted",
     .body = wait_for_another_process_can_be_interrupted},
    {0},
};
const struct suite suite_cache_tier = {"cache_tier", tests, "warm_planes demote_in_vain"};
