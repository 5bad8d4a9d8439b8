/* Files that appear whole or not at all, and locks. Durability: data is synced before the rename
 * that shows it, and the folder after. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

enum bnt_status bnt_file_reserve(int fd, uint64_t bytes, const char *what, struct bnt_err *err)
{
    size_t n = (size_t)bytes;
    errno = bnt_file_step(BNT_FILE_WRITE, &n);
    int rc = errno != 0 ? -1 : fallocate(fd, 0, 0, (off_t)bytes);
    if (rc != 0 && (errno == EOPNOTSUPP || errno == EINVAL)) { /* EINVAL: an empty one, too */
        rc = ftruncate(fd, (off_t)bytes);
    }
    return rc == 0 ? BNT_OK : bnt_err_errno(err, "cannot write %s", what);
}

enum bnt_status bnt_map_new_file(int fd, uint64_t bytes, const char *what, struct bnt_mapping *out,
                                 struct bnt_err *err)
{
    size_t n = (size_t)bytes;
    *out = (struct bnt_mapping){0};
    errno = bnt_file_step(BNT_FILE_WRITE, &n);
    int rc = errno != 0 ? -1 : fallocate(fd, 0, 0, (off_t)bytes);
    if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: the file system promises no room", what);
    }
    void *p = rc != 0 ? MAP_FAILED : mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return bnt_err_errno(err, "cannot write %s", what);
    }
    *out = (struct bnt_mapping){.data = p, .size = bytes};
    return BNT_OK;
}

int bnt_file_open_direct(int fd)
{
    static const _Alignas(BNT_FILE_BLOCK) char zeros[BNT_FILE_BLOCK];
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int direct = open(self, O_WRONLY | O_DIRECT | O_CLOEXEC);
    /* Some file systems open it, and refuse to write. */
    if (direct >= 0 && pwrite(direct, zeros, sizeof zeros, 0) != (ssize_t)sizeof zeros) {
        close(direct);
        direct = -1;
    }
    return direct;
}

bool bnt_file_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t n)
{
    off_t at = (off_t)from_offset, put = (off_t)to_offset;
    while (n > 0) {
        size_t part = n;
        int code = bnt_file_step(BNT_FILE_WRITE, &part);
        ssize_t w = code != 0 ? 0 : copy_file_range(from, &at, to, &put, part, 0);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            return false;
        }
        n -= (size_t)w;
    }
    return true;
}

enum bnt_status bnt_folder_of(const char *path, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        return bnt_path_format(out, err, ".");
    }
    if (slash == path) {
        return bnt_path_format(out, err, "/");
    }
    return bnt_path_format(out, err, "%.*s", (int)(slash - path), path);
}

enum bnt_status bnt_file_is_named(const char *path, struct bnt_err *err)
{
    if (!path[0]) {
        bnt_err_hint(err, "name a file; a variable that is not set is an empty name");
        return bnt_err_set(err, BNT_E_USAGE, "the name of the file to be written is empty");
    }
    if (strcmp(path, "-") != 0) {
        return BNT_OK;
    }
    bnt_err_hint(err, "name a file; ./- is one of that name");
    return bnt_err_set(err, BNT_E_USAGE, "-: this is not written to standard output");
}

/* The rename would put a file in the place of /dev/null, for whoever may write there. */
static enum bnt_status check_target(const char *target, struct bnt_err *err)
{
    struct stat sb;
    if (stat(target, &sb) != 0 || S_ISREG(sb.st_mode) || BNT_FAULT(device_replaced)) {
        return BNT_OK;
    }
    bnt_err_hint(err, "name a file: it is written beside it and takes its place at the end");
    return bnt_err_set(err, BNT_E_USAGE, "%s is there and is no regular file", target);
}

enum bnt_status bnt_durable_open(struct bnt_durable *d, const char *target, struct bnt_err *err)
{
    d->fd = -1;
    enum bnt_status st = bnt_file_is_named(target, err);
    st = st == BNT_OK ? check_target(target, err) : st;
    if (st == BNT_OK) {
        st = bnt_path_format(d->target, err, "%s", target);
    }
    if (st == BNT_OK) {
        st = bnt_path_format(d->temp, err, "%s.XXXXXX.tmp", target);
    }
    if (st != BNT_OK) {
        return st;
    }
    d->fd = mkostemps(d->temp, (int)strlen(".tmp"), O_CLOEXEC);
    if (d->fd < 0) {
        return bnt_err_errno(err, "cannot write beside %s", target);
    }
    return BNT_OK;
}

enum bnt_status bnt_durable_retarget(struct bnt_durable *d, const char *target, struct bnt_err *err)
{
    return bnt_path_format(d->target, err, "%s", target);
}

enum bnt_status bnt_durable_write(struct bnt_durable *d, const void *bytes, size_t n,
                                  struct bnt_err *err)
{
    return bnt_write_all(d->fd, bytes, n, d->target, err);
}

enum bnt_status bnt_dir_sync(const char *path, struct bnt_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open folder %s", path);
    }
    enum bnt_status st = BNT_OK;
    if (bnt_file_sync(fd) != 0 && errno != EINVAL) { /* EINVAL: a file system without folder sync */
        st = bnt_err_errno(err, "cannot sync folder %s", path);
    }
    close(fd);
    return st;
}

enum bnt_status bnt_durable_commit(struct bnt_durable *d, unsigned mode, struct bnt_err *err)
{
    char folder[BNT_PATH_MAX];
    enum bnt_status st = bnt_folder_of(d->target, folder, err);
    if (st != BNT_OK) {
        return st;
    }
    if (fchmod(d->fd, (mode_t)mode) != 0 || bnt_file_sync(d->fd) != 0) {
        return bnt_err_errno(err, "cannot sync %s", d->target);
    }
    if (bnt_file_rename(d->temp, d->target) != 0) {
        return bnt_err_errno(err, "cannot rename to %s", d->target);
    }
    close(d->fd);
    d->fd = -1;
    return bnt_dir_sync(folder, err);
}

void bnt_durable_release(struct bnt_durable *d)
{
    if (d->fd >= 0) {
        close(d->fd);
        unlink(d->temp);
        d->fd = -1;
    }
}

enum bnt_status bnt_file_write(const char *target, const void *bytes, size_t n, struct bnt_err *err)
{
    struct bnt_durable d;
    enum bnt_status st = bnt_durable_open(&d, target, err);
    if (st == BNT_OK) {
        st = bnt_durable_write(&d, bytes, n, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_commit(&d, 0644, err);
    }
    bnt_durable_release(&d);
    return st;
}

enum bnt_status bnt_file_may_write(const char *target, struct bnt_err *err)
{
    struct bnt_durable d;
    enum bnt_status st = bnt_durable_open(&d, target, err);
    bnt_durable_release(&d);
    return st;
}

enum bnt_status bnt_lock_acquire(const char *path, int *fd, struct bnt_err *err)
{
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0) {
        return bnt_err_errno(err, "cannot open lock file %s", path);
    }
    while (flock(*fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            enum bnt_status st = bnt_err_errno(err, "cannot lock %s", path);
            bnt_lock_release(fd);
            return st;
        }
    }
    return BNT_OK;
}

enum bnt_status bnt_lock_acquire_part(const char *path, uint64_t part, int *fd, bool *waited,
                                      struct bnt_err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = (off_t)(part & INT64_MAX >> 1), .l_len = 1};
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0) {
        return bnt_err_errno(err, "cannot open lock file %s", path);
    }
    int rc = fcntl(*fd, F_OFD_SETLK, &lock);
    *waited = rc != 0 && (errno == EAGAIN || errno == EACCES);
    while (rc != 0 && (errno == EAGAIN || errno == EACCES || errno == EINTR)) {
        rc = fcntl(*fd, F_OFD_SETLKW, &lock);
    }
    if (rc != 0) {
        enum bnt_status st = bnt_err_errno(err, "cannot lock %s", path);
        bnt_lock_release(fd);
        return st;
    }
    return BNT_OK;
}

void bnt_lock_release(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

enum bnt_status bnt_exe_dir(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    char exe[BNT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0) {
        return bnt_err_errno(err, "cannot tell where this program lies");
    }
    exe[n] = '\0';
    return bnt_folder_of(exe, out, err);
}
