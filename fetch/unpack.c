/* The rules that keep an archive inside:
 *
 * 1. Everything is written into a folder that this process has just made beside the target, with a
 *    name nobody knows, and that becomes the target by rename at the end, when it is on the disk.
 * 2. Only folders and regular files are made in it, so that no link is ever there to be followed.
 * 3. A path is refused when it is absolute or has an empty part, "." or "..".
 * 4. Files are made with O_EXCL and O_NOFOLLOW: an entry that comes twice is refused.
 * 5. Bytes are counted as they come out, never believed from a header.
 *
 * libarchive brings a dozen libraries, so it is loaded when an archive is unpacked and not before.
 */
#include "fetch/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/dyn_lib.h"
#include "base/file.h"

#define LIBRARY "libarchive.so.13"
#define READ_BYTES (1u << 17)
#define TEMP_MARK ".unpack-"
#define TEMP_RANDOM "XXXXXX"
enum { WALK_OPEN_MAX = 16, LEFT_S = 3600 };

struct archive_lib {
    struct archive *(*read_new)(void);
    int (*read_free)(struct archive *);
    int (*format_tar)(struct archive *);
    int (*format_zip)(struct archive *);
    int (*filter_gzip)(struct archive *);
    int (*filter_zstd)(struct archive *);
    int (*open_fd)(struct archive *, int, size_t);
    int (*next_header)(struct archive *, struct archive_entry **);
    la_ssize_t (*read_data)(struct archive *, void *, size_t);
    const char *(*error_string)(struct archive *);
    const char *(*pathname)(struct archive_entry *);
    const char *(*hardlink)(struct archive_entry *);
    __LA_MODE_T (*filetype)(struct archive_entry *);
};

struct unpacking {
    struct archive_lib lib;
    struct archive *archive;
    const char *shown;       /* the archive, in errors */
    char temp[BNT_PATH_MAX]; /* the folder that is filled */
    int folder;              /* open on it */
    const struct unpack_limits *limits;
    const volatile sig_atomic_t *interrupted;
    uint64_t input_bytes, entries;
    struct unpack_count *count;
};

/* ---- libarchive ---- */

static enum bnt_status no_library(const char *what, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_UNSUPPORTED, "archives need libarchive: %s", what);
    bnt_err_hint(err, "install it: apt-get install libarchive13");
    return st;
}

static enum bnt_status load(struct archive_lib *lib, struct bnt_err *err)
{
    const struct bnt_dyn_symbol symbols[] = {
        {"archive_read_new", &lib->read_new},
        {"archive_read_free", &lib->read_free},
        {"archive_read_support_format_tar", &lib->format_tar},
        {"archive_read_support_format_zip", &lib->format_zip},
        {"archive_read_support_filter_gzip", &lib->filter_gzip},
        {"archive_read_support_filter_zstd", &lib->filter_zstd},
        {"archive_read_open_fd", &lib->open_fd},
        {"archive_read_next_header", &lib->next_header},
        {"archive_read_data", &lib->read_data},
        {"archive_error_string", &lib->error_string},
        {"archive_entry_pathname", &lib->pathname},
        {"archive_entry_hardlink", &lib->hardlink},
        {"archive_entry_filetype", &lib->filetype},
    };
    const char *missing = bnt_dyn_lib_load(LIBRARY, symbols, sizeof symbols / sizeof symbols[0]);
    return missing ? no_library(missing, err) : BNT_OK;
}

static enum bnt_status archive_error(const struct unpacking *u, struct bnt_err *err)
{
    const char *text = u->lib.error_string(u->archive);
    enum bnt_status st =
        bnt_err_set(err, BNT_E_FILE, "%.200s: %.200s", u->shown, text ? text : "damaged");
    bnt_err_hint(err, "known are tar, tar.gz, tar.zst and zip");
    return st;
}

static enum bnt_status open_archive(struct unpacking *u, int fd, struct bnt_err *err)
{
    u->archive = u->lib.read_new();
    if (!u->archive) {
        return bnt_err_nomem(err, "the archive", 0);
    }
    if (u->lib.format_tar(u->archive) < ARCHIVE_WARN ||
        u->lib.format_zip(u->archive) < ARCHIVE_WARN ||
        u->lib.filter_gzip(u->archive) < ARCHIVE_WARN ||
        u->lib.filter_zstd(u->archive) < ARCHIVE_WARN ||
        u->lib.open_fd(u->archive, fd, READ_BYTES) != ARCHIVE_OK) {
        return archive_error(u, err);
    }
    return BNT_OK;
}

/* ---- entries ---- */

static enum bnt_status refuse(const struct unpacking *u, const char *path, const char *why,
                              struct bnt_err *err)
{
    enum bnt_status st =
        bnt_err_set(err, BNT_E_FILE, "%.200s: entry '%.200s': %s", u->shown, path, why);
    bnt_err_hint(err, "nothing of the archive was kept");
    return st;
}

/* Without the slash that ends a folder's path; false when the path may lead out. */
static bool clean_path(const char *given, char out[UNPACK_PATH_MAX])
{
    size_t n = strlen(given), depth = 0;
    while (n > 0 && given[n - 1] == '/') {
        n--;
    }
    while (n > 1 && given[0] == '.' && given[1] == '/') { /* as tar writes "." */
        given += 2;
        n -= 2;
    }
    if (n == 0 || n >= UNPACK_PATH_MAX || given[0] == '/') {
        return false;
    }
    snprintf(out, UNPACK_PATH_MAX, "%.*s", (int)n, given);
    for (const char *part = out; *part; depth++) {
        size_t k = strcspn(part, "/");
        if (k == 0 || (k == 1 && part[0] == '.') ||
            (k == 2 && memcmp(part, "..", 2) == 0 && !BNT_FAULT(archive_path)) ||
            memchr(part, '\\', k) || depth > UNPACK_DEPTH_MAX) {
            return false;
        }
        part += k + (part[k] == '/');
    }
    return true;
}

/* The folders of a path, all of its parts when `whole`. */
static enum bnt_status make_folders(const struct unpacking *u, const char *path, bool whole,
                                    struct bnt_err *err)
{
    char part[UNPACK_PATH_MAX];
    for (size_t n = strcspn(path, "/");; n += 1 + strcspn(path + n + 1, "/")) {
        if (!path[n] && !whole) {
            return BNT_OK;
        }
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdirat(u->folder, part, 0777) != 0 && errno != EEXIST) {
            return bnt_err_errno(err, "cannot make %s/%s", u->temp, part);
        }
        if (!path[n]) {
            return BNT_OK;
        }
    }
}

static enum bnt_status count_bytes(struct unpacking *u, const char *path, uint64_t n,
                                   struct bnt_err *err)
{
    uint64_t sum = u->count->bytes + n;
    if (bnt_err_interrupted(u->interrupted, err) != BNT_OK) {
        return BNT_E_INTERRUPTED;
    }
    if (sum > u->limits->bytes) {
        return refuse(u, path, "more bytes than allowed", err);
    }
    if (sum > UNPACK_RATIO_FREE_BYTES && sum / u->limits->ratio > u->input_bytes) {
        return refuse(u, path, "it grows too much when unpacked", err);
    }
    u->count->bytes = sum;
    return BNT_OK;
}

static enum bnt_status copy_data(struct unpacking *u, const char *path, int fd, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    char *block = malloc(READ_BYTES);
    if (!block) {
        return bnt_err_nomem(err, "the archive", READ_BYTES);
    }
    while (st == BNT_OK) {
        la_ssize_t n = u->lib.read_data(u->archive, block, READ_BYTES);
        if (n <= 0) {
            st = n < 0 ? archive_error(u, err) : BNT_OK;
            break;
        }
        st = count_bytes(u, path, (uint64_t)n, err);
        if (st == BNT_OK) {
            st = bnt_write_all(fd, block, (size_t)n, path, err);
        }
    }
    free(block);
    return st;
}

static enum bnt_status write_file(struct unpacking *u, const char *path, struct bnt_err *err)
{
    int fd = openat(u->folder, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0 && (errno == EEXIST || errno == ENOTDIR)) {
        return refuse(u, path, "another entry has this path", err);
    }
    if (fd < 0) {
        return bnt_err_errno(err, "cannot make %s/%s", u->temp, path);
    }
    enum bnt_status st = copy_data(u, path, fd, err);
    if (close(fd) != 0 && st == BNT_OK) {
        st = bnt_err_errno(err, "cannot write %s/%s", u->temp, path);
    }
    u->count->files += st == BNT_OK;
    return st;
}

static enum bnt_status unpack_entry(struct unpacking *u, struct archive_entry *entry,
                                    struct bnt_err *err)
{
    char path[UNPACK_PATH_MAX];
    const char *given = u->lib.pathname(entry);
    const __LA_MODE_T type = u->lib.filetype(entry);
    if (!given) {
        return refuse(u, "", "its name cannot be read", err);
    }
    if (++u->entries > u->limits->entries) {
        return refuse(u, given, "more entries than allowed", err);
    }
    if (u->lib.hardlink(entry) || (type != AE_IFREG && type != AE_IFDIR)) {
        return refuse(u, given, "only regular files and folders are unpacked", err);
    }
    if (type == AE_IFDIR && (strcmp(given, "./") == 0 || strcmp(given, ".") == 0)) {
        return BNT_OK;
    }
    if (!clean_path(given, path)) {
        return refuse(u, given, "its path may lead out of the folder", err);
    }
    enum bnt_status st = make_folders(u, path, type == AE_IFDIR, err);
    return st == BNT_OK && type == AE_IFREG ? write_file(u, path, err) : st;
}

static enum bnt_status unpack_all(struct unpacking *u, struct bnt_err *err)
{
    for (;;) {
        struct archive_entry *entry = NULL;
        int rc = u->lib.next_header(u->archive, &entry);
        if (rc == ARCHIVE_EOF) {
            return u->count->files
                       ? BNT_OK
                       : bnt_err_set(err, BNT_E_FILE, "%.200s: no files in it", u->shown);
        }
        if (rc < ARCHIVE_WARN) {
            return archive_error(u, err);
        }
        enum bnt_status st = unpack_entry(u, entry, err);
        if (st != BNT_OK) {
            return st;
        }
    }
}

/* ---- the folder ---- */

static int remove_one(const char *path, const struct stat *sb, int what, struct FTW *place)
{
    (void)sb, (void)what, (void)place;
    return remove(path);
}

/* A file or folder to the disk. */
static int sync_one(const char *path, const struct stat *sb, int what, struct FTW *place)
{
    (void)sb, (void)what, (void)place;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    /* EINVAL: a file system without folder sync. */
    int code = fd >= 0 && (bnt_file_sync(fd) == 0 || errno == EINVAL) ? 0 : errno;
    if (fd >= 0) {
        close(fd);
    }
    return code;
}

/* What was unpacked is whole and durable before its name is. */
static enum bnt_status show_folder(struct unpacking *u, const char *folder, struct bnt_err *err)
{
    char parent[BNT_PATH_MAX];
    int code = fchmod(u->folder, 0755) != 0
                   ? errno
                   : nftw(u->temp, sync_one, WALK_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    if (code != 0) {
        errno = code > 0 ? code : errno;
        return bnt_err_errno(err, "cannot bring %s to disk", u->temp);
    }
    if (bnt_file_rename(u->temp, folder) != 0) {
        return bnt_err_errno(err, "cannot make %s", folder);
    }
    enum bnt_status st = bnt_folder_of(folder, parent, err);
    return st == BNT_OK ? bnt_dir_sync(parent, err) : st;
}

/* Whether `name`, in the folder `at`, is what a process that died while it unpacked left behind: a
 * folder of this user as mkdtemp made it, and nobody has it locked. One that is younger may be on
 * its way to its lock. */
static bool is_left(int at, const char *name)
{
    struct stat sb;
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const bool left = fd >= 0 && fstat(fd, &sb) == 0 && sb.st_uid == geteuid() &&
                      (sb.st_mode & 07777) == 0700 && bnt_clock_unix_s() - sb.st_mtime >= LEFT_S &&
                      flock(fd, LOCK_EX | LOCK_NB) == 0 && !BNT_FAULT(unpack_left);
    if (fd >= 0) {
        close(fd);
    }
    return left;
}

/* Remove what was left beside the folder; what cannot be removed costs space. */
static void sweep(const char *folder)
{
    char parent[BNT_PATH_MAX], path[BNT_PATH_MAX];
    const char *slash = strrchr(folder, '/'), *base = slash ? slash + 1 : folder;
    const size_t n = strlen(base), k = strlen(TEMP_MARK);
    DIR *d = bnt_folder_of(folder, parent, NULL) == BNT_OK ? opendir(parent) : NULL;
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;) {
        const char *name = e->d_name;
        if (strncmp(name, base, n) == 0 && strncmp(name + n, TEMP_MARK, k) == 0 &&
            strlen(name + n + k) == strlen(TEMP_RANDOM) && is_left(dirfd(d), name) &&
            bnt_path_format(path, NULL, "%s/%s", parent, name) == BNT_OK) {
            (void)nftw(path, remove_one, WALK_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
        }
    }
    if (d) {
        closedir(d);
    }
}

static enum bnt_status into_folder(struct unpacking *u, int fd, const char *folder,
                                   struct bnt_err *err)
{
    enum bnt_status st = bnt_path_format(u->temp, err, "%s" TEMP_MARK TEMP_RANDOM, folder);
    if (st != BNT_OK) {
        return st;
    }
    sweep(folder);
    if (!mkdtemp(u->temp)) {
        return bnt_err_errno(err, "cannot make a folder beside %s", folder);
    }
    u->folder = open(u->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)flock(u->folder, LOCK_EX | LOCK_NB); /* for is_left of others */
    st = u->folder < 0 ? bnt_err_errno(err, "cannot open %s", u->temp) : open_archive(u, fd, err);
    if (st == BNT_OK) {
        st = unpack_all(u, err);
    }
    if (st == BNT_OK) {
        st = show_folder(u, folder, err);
    }
    if (u->archive) {
        (void)u->lib.read_free(u->archive);
    }
    if (u->folder >= 0) {
        close(u->folder);
    }
    if (st != BNT_OK) {
        (void)nftw(u->temp, remove_one, WALK_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    }
    return st;
}

/* As a shell completes it, the name ends in a slash. */
static enum bnt_status without_slash(const char *given, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    size_t n = strlen(given);
    while (n > 1 && given[n - 1] == '/') {
        n--;
    }
    return bnt_path_format(out, err, "%.*s", (int)n, given);
}

enum bnt_status unpack(const char *path, const char *folder, const struct unpack_limits *limits,
                       const volatile sig_atomic_t *interrupted, struct unpack_count *count,
                       struct bnt_err *err)
{
    char target[BNT_PATH_MAX];
    struct unpacking u = {
        .shown = path, .folder = -1, .limits = limits, .interrupted = interrupted, .count = count};
    struct stat sb;
    *count = (struct unpack_count){0};
    if (without_slash(folder, target, err) != BNT_OK) {
        return BNT_E_USAGE;
    }
    if (lstat(target, &sb) == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "%.300s exists; archives go into a new folder",
                           target);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &sb) != 0) {
        enum bnt_status st = bnt_err_errno(err, "cannot open %s", path);
        if (fd >= 0) {
            close(fd);
        }
        return st;
    }
    u.input_bytes = (uint64_t)sb.st_size;
    /* libarchive drops names of UTF-8 that the locale cannot hold, as C cannot. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = uselocale(utf8);
    enum bnt_status st = load(&u.lib, err);
    if (st == BNT_OK) {
        st = into_folder(&u, fd, target, err);
    }
    (void)uselocale(before);
    if (utf8) {
        freelocale(utf8);
    }
    close(fd);
    return st;
}
