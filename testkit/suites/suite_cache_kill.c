/* Guards what a death or a failing disk may cost: at most the work under way. Every step of every
 * change of the cache that writes, syncs, renames or removes is killed once and made to fail once;
 * then the cache must be sound, hold everything that was finished, and let the same change succeed.
 * Random kills hit what lies between those steps, SQLite's own writes among them. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/app.h"
#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "cache/store.h"
#include "cache/tier.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/disk_steps.h"

/* ---- a disk that is not waited for ---- */

/* A kill loses nothing that was written: only a machine that goes off does, which nothing here can
 * show. So the syncs of these tests (SQLite's among them) do not wait for the disk, of which there
 * are thousands; that they are asked for is what the steps count. */
static bool syncs_wait = true;

int fsync(int fd)
{
    return syncs_wait ? (int)syscall(SYS_fsync, fd) : 0;
}

int fdatasync(int fd)
{
    return syncs_wait ? (int)syscall(SYS_fdatasync, fd) : 0;
}

/* ---- content: compressible, and enough for several writes ---- */

enum { TEXT_BYTES = 40000 };

static void make_text(char text[TEXT_BYTES + 1], unsigned which)
{
    size_t n = 0;
    while (n < TEXT_BYTES) {
        n += (size_t)snprintf(text + n, TEXT_BYTES + 1 - n, "%u of text %u; ", (unsigned)n, which);
        n = n < TEXT_BYTES ? n : TEXT_BYTES;
    }
}

/* ---- the changes ---- */

static void fill_entry(struct bnt_cache_entry *e, const char *name, const char *text)
{
    *e = (struct bnt_cache_entry){0};
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->source, sizeof e->source, "file:///test/%s", name);
    fixture_digest(text, e->digest);
}

static enum bnt_status add_text(struct bnt_cache *c, const char *name, unsigned which)
{
    char text[TEXT_BYTES + 1];
    struct bnt_cache_temp t;
    struct bnt_cache_entry e;
    make_text(text, which);
    fill_entry(&e, name, text);
    enum bnt_status st = bnt_cache_temp_open(c, &t, NULL);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t at = 0; st == BNT_OK && at < TEXT_BYTES; at += TEXT_BYTES / 4) {
        st = bnt_write_all(t.fd, text + at, TEXT_BYTES / 4, "test", NULL);
    }
    if (st == BNT_OK) {
        st = bnt_cache_add(c, &t, &e, NULL);
    }
    bnt_cache_temp_release(&t);
    return st;
}

static enum bnt_status change_add(struct bnt_cache *c)
{
    return add_text(c, "new", 2);
}

static enum bnt_status change_heal(struct bnt_cache *c)
{
    return add_text(c, "kept", 1);
}

static enum bnt_status change_demote(struct bnt_cache *c)
{
    struct bnt_cache_entry e;
    struct bnt_cache_demotion d;
    enum bnt_status st = bnt_cache_find(c, "kept", &e, NULL);
    return st == BNT_OK ? bnt_cache_demote(c, &e, &d, NULL) : st;
}

static enum bnt_status change_promote(struct bnt_cache *c)
{
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    return bnt_cache_lookup(c, "kept", &e, path, NULL);
}

static enum bnt_status change_collect(struct bnt_cache *c)
{
    struct bnt_cache_gc_report r;
    struct bnt_cache_entry e;
    enum bnt_status st = bnt_cache_pin(c, "kept", true, &e, NULL);
    if (st == BNT_OK) {
        st = bnt_cache_gc(c, &(struct bnt_cache_gc_opts){.max_bytes = 1}, &r, NULL);
        bnt_cache_gc_report_release(&r);
    }
    return st;
}

static enum bnt_status open_text(const struct bnt_source_want *want, void **reader,
                                 struct bnt_err *err)
{
    (void)want, (void)err;
    *reader = NULL;
    return BNT_OK;
}

static enum bnt_status read_text(void *reader, uint64_t offset, void *out, size_t n,
                                 struct bnt_err *err)
{
    char text[TEXT_BYTES + 1];
    (void)reader, (void)err;
    make_text(text, 1);
    memcpy(out, text + offset, n);
    return BNT_OK;
}

static void close_text(void *reader)
{
    (void)reader;
}

static enum bnt_status change_repair(struct bnt_cache *c)
{
    static const struct bnt_source source = {open_text, read_text, close_text};
    struct bnt_cache_entry e;
    struct bnt_cache_damage d = {0};
    enum bnt_status st = bnt_cache_find(c, "kept", &e, NULL);
    if (st == BNT_OK) {
        st = bnt_cache_damage_find(c, &e, &d, NULL);
    }
    if (st == BNT_OK && d.n_bad > 0) {
        st = bnt_cache_repair(c, &e, &d, &source, NULL);
    }
    bnt_cache_damage_release(&d);
    return st;
}

/* A far place that is a folder: what the network does there is not what these tests stop. */
static void far_path(const char *digest, char path[BNT_PATH_MAX])
{
    char relative[80];
    snprintf(relative, sizeof relative, "far-%s", digest);
    fixture_path(path, relative);
}

static enum bnt_status far_place(const char *text, char out[BNT_PLACE_MAX], struct bnt_err *err)
{
    (void)err;
    snprintf(out, BNT_PLACE_MAX, "%s", text);
    return BNT_OK;
}

static enum bnt_status far_put(const struct bnt_far_blob *blob, const char *path,
                               struct bnt_err *err)
{
    char to[BNT_PATH_MAX];
    (void)err;
    far_path(blob->digest, to);
    (void)unlink(to);
    return link(path, to) == 0 ? BNT_OK : BNT_E_NETWORK;
}

static enum bnt_status far_prove(const struct bnt_far_blob *blob, bool *same, struct bnt_err *err)
{
    char at[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    (void)err;
    far_path(blob->digest, at);
    *same = bnt_sha256_file(at, NULL, NULL, hex, NULL) == BNT_OK && strcmp(hex, blob->digest) == 0;
    return BNT_OK;
}

static enum bnt_status far_recall(struct bnt_cache *c, const struct bnt_far_blob *blob,
                                  struct bnt_err *err)
{
    char at[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(1 << 20);
    struct bnt_cache_temp t;
    struct bnt_cache_entry e = {.name = ""};
    far_path(blob->digest, at);
    snprintf(e.digest, sizeof e.digest, "%s", blob->digest);
    enum bnt_status st = bnt_file_read(at, &text, err);
    st = st == BNT_OK ? bnt_cache_temp_open(c, &t, err) : st;
    if (st == BNT_OK) {
        st = bnt_write_all(t.fd, text.data, text.len, "test", err);
        st = st == BNT_OK ? bnt_cache_add(c, &t, &e, err) : st;
        bnt_cache_temp_release(&t);
    }
    bnt_buf_release(&text);
    return st;
}

static const struct bnt_network far_network = {
    .place = far_place, .put = far_put, .prove = far_prove, .recall = far_recall};

static enum bnt_status change_move(struct bnt_cache *c)
{
    struct bnt_cache_entry e;
    struct bnt_cache_pushed p;
    const struct bnt_cache_push_opts o = {.network = &far_network, .place = "far", .move = true};
    bool warm = false;
    uint64_t stored = 0;
    enum bnt_status st = bnt_cache_find(c, "kept", &e, NULL);
    st = st == BNT_OK ? bnt_cache_tier(c, e.digest, &warm, &stored, NULL) : st;
    return st == BNT_OK && stored > 0 ? bnt_cache_push(c, &e, &o, &p, NULL) : st;
}

static enum bnt_status change_recall(struct bnt_cache *c)
{
    struct bnt_cache_entry e;
    enum bnt_status st = bnt_cache_find(c, "kept", &e, NULL);
    return st == BNT_OK ? bnt_cache_pull(c, &e, &far_network, NULL) : st;
}

/* The archive that prepare_archive has made. */
static enum bnt_status change_import(struct bnt_cache *c)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_import r;
    return bnt_cache_import_file(c, fixture_path(path, "x.tar"), &r, NULL);
}

/* ---- before and after ---- */

static void prepare_nothing(struct bnt_cache *c)
{
    (void)c;
}

static void prepare_warm(struct bnt_cache *c)
{
    assert_int_equal(change_demote(c), BNT_OK);
}

static void prepare_far(struct bnt_cache *c)
{
    assert_int_equal(change_move(c), BNT_OK);
}

static void prepare_second(struct bnt_cache *c)
{
    assert_int_equal(add_text(c, "second", 3), BNT_OK);
}

static void prepare_damage(struct bnt_cache *c)
{
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_lookup(c, "kept", &e, path, NULL), BNT_OK);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "?", 1, 100), 1);
    close(fd);
}

static void prepare_archive(struct bnt_cache *c)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_list list;
    struct bnt_cache *other = fixture_cache();
    assert_int_equal(add_text(other, "carried", 4), BNT_OK);
    assert_int_equal(bnt_cache_list(other, &list, NULL), BNT_OK);
    assert_int_equal(bnt_cache_export(other, &list, fixture_path(path, "x.tar"), NULL), BNT_OK);
    bnt_cache_list_release(&list);
    bnt_cache_close(other);
    (void)c;
}

static const struct change {
    const char *what;
    void (*prepare)(struct bnt_cache *c);
    enum bnt_status (*run)(struct bnt_cache *c);
    bool damaged; /* before the change */
} changes[] = {
    {"add", prepare_nothing, change_add, false},
    {"heal", prepare_damage, change_heal, true},
    {"repair", prepare_damage, change_repair, true},
    {"demote", prepare_nothing, change_demote, false},
    {"promote", prepare_warm, change_promote, false},
    {"move away", prepare_nothing, change_move, false},
    {"move away, compressed", prepare_warm, change_move, false},
    {"recall", prepare_far, change_recall, false},
    {"import", prepare_archive, change_import, false},
    {"collect", prepare_second, change_collect, false},
};
enum { CHANGES = sizeof changes / sizeof changes[0] };

/* Every blob that the index names is whole or, when it was damaged before, told to be so. */
static void assert_sound(struct bnt_cache *c, const struct change *ch, long step)
{
    struct bnt_cache_list list;
    bool kept = false;
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    for (size_t i = 0; i < list.n; i++) {
        enum bnt_cache_health h = BNT_CACHE_MISSING;
        assert_int_equal(bnt_cache_verify(c, &list.at[i], NULL, NULL, &h, NULL), BNT_OK);
        bool is_kept = strcmp(list.at[i].name, "kept") == 0;
        kept = kept || is_kept;
        if (h == BNT_CACHE_COLD) { /* then the far copy is right */
            bool same = false;
            const struct bnt_far_blob blob = {.place = "far", .digest = list.at[i].digest};
            assert_int_equal(far_prove(&blob, &same, NULL), BNT_OK);
            assert_true(same);
            continue;
        }
        if (h != BNT_CACHE_OK && !(ch->damaged && is_kept && h == BNT_CACHE_CORRUPT)) {
            fail_msg("%s, step %ld: %s has health %d", ch->what, step, list.at[i].name, (int)h);
        }
    }
    if (!kept) {
        fail_msg("%s, step %ld: a finished model is lost", ch->what, step);
    }
    bnt_cache_list_release(&list);
}

/* The same change, undisturbed, succeeds, and what was kept is there bit by bit. */
static void assert_goes_on(struct bnt_cache *c, const struct change *ch, long step)
{
    char path[BNT_PATH_MAX], text[TEXT_BYTES + 1];
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    if (ch->run(c) != BNT_OK) {
        fail_msg("%s does not succeed after step %ld", ch->what, step);
    }
    if (bnt_cache_find(c, "kept", &e, &err) == BNT_OK &&
        bnt_cache_lookup(c, "kept", &e, path, NULL) == BNT_E_OFFLINE) {
        assert_int_equal(change_recall(c), BNT_OK);
    }
    if (bnt_cache_lookup(c, "kept", &e, path, &err) != BNT_OK) {
        fail_msg("%s, step %ld: %s", ch->what, step, err.msg);
    }
    make_text(text, 1);
    fixture_assert_holds(path, text);
}

/* A new index, made from the files alone, leads from the name to the same bytes. */
static void assert_rebuilds(int round, const struct change *ch, long step)
{
    char relative[64], dir[BNT_PATH_MAX], path[BNT_PATH_MAX], text[TEXT_BYTES + 1];
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    uint64_t blobs = 0;
    snprintf(relative, sizeof relative, "r%d", round);
    assert_int_equal(bnt_cache_rebuild(fixture_path(dir, relative), &blobs, NULL), BNT_OK);
    struct bnt_cache *c = disk_steps_cache(round);
    if (bnt_cache_lookup(c, "kept", &e, path, &err) != BNT_OK) {
        fail_msg("%s, step %ld, after a rebuild: %s", ch->what, step, err.msg);
    }
    make_text(text, 1);
    fixture_assert_holds(path, text);
    bnt_cache_close(c);
}

static struct bnt_cache *begin_round(int round, const struct change *ch)
{
    syncs_wait = false;
    struct bnt_cache *c = disk_steps_cache(round);
    assert_int_equal(add_text(c, "kept", 1), BNT_OK);
    ch->prepare(c);
    return c;
}

/* ---- bodies ---- */

/* The fast tier takes each fifth step of every change, the integration tier all. */
static const long each_step = 1, some_steps = 5;
enum { REBUILD_EACH = 7 }; /* of the rounds: a rebuild costs as much as the change */

static void steps_survive_a_kill(void **state)
{
    const long stride = *(const long *)*state;
    int round = 0, points = 0;
    for (size_t i = 0; i < CHANGES; i++) {
        const struct change *ch = &changes[i];
        bool done = false;
        for (long step = 0; !done; step += stride, round++) {
            bnt_cache_close(begin_round(round, ch));
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                struct bnt_cache *c = disk_steps_cache(round);
                disk_steps_arm(step, 0, false);
                _exit(ch->run(c) == BNT_OK ? 0 : 1);
            }
            done = !disk_steps_killed(child);
            points += !done;
            struct bnt_cache *c = disk_steps_cache(round);
            assert_sound(c, ch, step);
            assert_goes_on(c, ch, step);
            bnt_cache_close(c);
            if (round % REBUILD_EACH == 0) {
                assert_rebuilds(round, ch, step);
            }
        }
    }
    print_message("%d points\n", points);
    assert_true(points >= 50 / stride);
}

/* What a failing disk says at each step; the status tells a full one from a broken one. */
static void steps_survive_a_failing_disk(void **state)
{
    const long stride = *(const long *)*state;
    static const struct {
        int code;
        bool is_short;
        enum bnt_status status;
    } faults[] = {{ENOSPC, false, BNT_E_NO_SPACE},
                  {EIO, false, BNT_E_FAILED},
                  {ENOSPC, true, BNT_E_NO_SPACE}};
    int round = 0, failures = 0;
    for (size_t k = 0; k < CHANGES * (sizeof faults / sizeof faults[0]); k++) {
        const struct change *ch = &changes[k % CHANGES];
        size_t f = k / CHANGES;
        bool done = false;
        for (long step = 0; !done; step += stride, round++) {
            char relative[64], tmp[BNT_PATH_MAX];
            struct bnt_cache *c = begin_round(round, ch);
            disk_steps_arm(step, faults[f].code, faults[f].is_short);
            enum bnt_status st = ch->run(c);
            done = !disk_steps_disarm();
            failures += st != BNT_OK;
            if (st != BNT_OK && st != faults[f].status) {
                fail_msg("%s, step %ld: status %d", ch->what, step, (int)st);
            }
            assert_true(!done || st == BNT_OK);
            snprintf(relative, sizeof relative, "r%d/tmp", round);
            assert_int_equal(rmdir(fixture_path(tmp, relative)), 0); /* nothing is left in it */
            assert_sound(c, ch, step);
            assert_goes_on(c, ch, step);
            bnt_cache_close(c);
            if (round % REBUILD_EACH == 0) {
                assert_rebuilds(round, ch, step);
            }
        }
    }
    assert_true(failures >= 100 / stride);
}

/* ---- random kills ---- */

enum { KILL_AFTER_MAX_US = 9000, CHECK_EACH = 25 };

/* Changes and changes, until it is killed. */
static void endless_changes(unsigned seed)
{
    struct bnt_cache *c = disk_steps_cache(0);
    for (;;) {
        struct bnt_cache_entry e;
        unsigned r = (unsigned)rand_r(&seed);
        char name[16];
        bool removed;
        snprintf(name, sizeof name, "n%u", r / 8 % 3);
        switch (r % 6) {
        case 0:
            (void)add_text(c, name, 10 + r / 64 % 5);
            break;
        case 1:
            (void)change_demote(c);
            break;
        case 2:
            (void)change_promote(c);
            break;
        case 3:
            (void)bnt_cache_remove(c, name, &e, &removed, NULL);
            break;
        case 4:
            (void)change_heal(c);
            break;
        default:
            (void)change_collect(c);
            break;
        }
    }
}

static void survive_random_kills(int kills)
{
    static const struct change any = {"random kills", prepare_nothing, change_promote, false};
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    bnt_cache_close(begin_round(0, &any));
    for (int i = 1; i <= kills; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            endless_changes(seed + (unsigned)i);
        }
        disk_steps_kill_after(child, (unsigned)rand_r(&seed) % KILL_AFTER_MAX_US);
        if (i % CHECK_EACH == 0 || i == kills) {
            struct bnt_cache *c = disk_steps_cache(0);
            assert_sound(c, &any, i);
            assert_goes_on(c, &any, i);
            bnt_cache_close(c);
        }
    }
}

static void survives_hundreds_of_random_kills(void **state)
{
    (void)state;
    survive_random_kills(300);
}

static void survives_thousands_of_random_kills(void **state)
{
    (void)state;
    survive_random_kills(5000);
}

static const struct suite_test tests[] = {
    {.name = "cache_kill_some_steps_survive_a_kill",
     .body = steps_survive_a_kill,
     .ctx = &some_steps,
     .timeout_ms = 60000},
    {.name = "cache_kill_every_step_survives_a_kill",
     .body = steps_survive_a_kill,
     .ctx = &each_step,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "cache_kill_some_steps_survive_a_failing_disk",
     .body = steps_survive_a_failing_disk,
     .ctx = &some_steps,
     .timeout_ms = 60000},
    {.name = "cache_kill_every_step_survives_a_failing_disk",
     .body = steps_survive_a_failing_disk,
     .ctx = &each_step,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "cache_kill_survives_hundreds_of_random_kills",
     .body = survives_hundreds_of_random_kills,
     .timeout_ms = 120000},
    {.name = "cache_kill_survives_thousands_of_random_kills",
     .body = survives_thousands_of_random_kills,
     .timeout_ms = 900000,
     .tier = SUITE_FULL},
    {0},
};
const struct suite suite_cache_kill = {"cache_kill", tests, "short_write"};
