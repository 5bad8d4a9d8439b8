/* A VFS of SQLite around the default one.
 *
 * It excludes where file locks do not. SQLite relies on fcntl locks; on a file system on which they
 * answer success without locking, two writers, or a reader that takes the journal of a living
 * writer for that of a dead one, destroy the database. So whoever has any lock on a database also
 * has a name in the abstract socket namespace, made of the file's device and inode and the user:
 * the kernel gives it to one socket at a time, takes it back when the process ends however it ends,
 * and no file system has a say. It is exclusive, for readers too; transactions take milliseconds.
 * Handles of one process share it, since SQLite keeps those apart itself. Processes of other
 * machines, users and network namespaces are kept apart by the file locks alone.
 *
 * And it is a seam for tests: each write, sync and truncation asks bnt_file_step. */
#include "cache/guard_vfs.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"

enum { HELD_MAX = 8, NAME_MAX_BYTES = 64, TRIES = 20, TRY_US = 100 };

struct guard_file {
    sqlite3_file base;
    bool holds;                /* counts in `held` */
    char name[NAME_MAX_BYTES]; /* "": no database, or nothing is known of it */
    sqlite3_int64 real[]; /* the default VFS's file; SQLite aligns files to 8 bytes, not to more */
};

static sqlite3_vfs *real_vfs;

/* ---- the names ---- */

/* Names that this process has, with the number of files that share each. */
static struct {
    char name[NAME_MAX_BYTES];
    int fd, n;
} held[HELD_MAX];
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

/* A socket of that name, or -1 when another process has it. */
static int claim(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(at.sun_path + 1, name, n); /* the leading zero byte makes it abstract */
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, size) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* One try; the caller has held_lock. False: another process has the name. Where there is no place
 * or no socket for it the file locks must do. */
static bool take_name(struct guard_file *f)
{
    size_t free_at = HELD_MAX;
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (held[i].n > 0 && strcmp(held[i].name, f->name) == 0) {
            held[i].n++;
            f->holds = true;
            return true;
        }
        free_at = held[i].n == 0 ? i : free_at;
    }
    if (free_at == HELD_MAX || BNT_FAULT(db_guard)) {
        return true;
    }
    int fd = claim(f->name);
    if (fd < 0) {
        return errno != EADDRINUSE;
    }
    held[free_at].fd = fd;
    held[free_at].n = 1;
    memcpy(held[free_at].name, f->name, sizeof f->name);
    f->holds = true;
    return true;
}

static bool acquire(struct guard_file *f)
{
    bool ok = f->name[0] == '\0' || f->holds;
    for (int i = 0; !ok && i < TRIES; i++) {
        if (i > 0) {
            (void)real_vfs->xSleep(real_vfs, TRY_US);
        }
        pthread_mutex_lock(&held_lock);
        ok = take_name(f);
        pthread_mutex_unlock(&held_lock);
    }
    return ok;
}

static void release(struct guard_file *f)
{
    pthread_mutex_lock(&held_lock);
    for (size_t i = 0; f->holds && i < HELD_MAX; i++) {
        if (held[i].n > 0 && strcmp(held[i].name, f->name) == 0) {
            f->holds = false;
            if (--held[i].n == 0) {
                close(held[i].fd);
            }
        }
    }
    pthread_mutex_unlock(&held_lock);
}

/* ---- files ---- */

static sqlite3_file *real_of(sqlite3_file *file)
{
    return (sqlite3_file *)((struct guard_file *)file)->real;
}

/* What a test wants to happen at a step, as SQLite's code. */
static int fault(size_t *n, int code)
{
    int failed = bnt_file_step(BNT_FILE_DB, n);
    return failed == 0 ? SQLITE_OK : failed == ENOSPC ? SQLITE_FULL : code;
}

static int guard_close(sqlite3_file *file)
{
    int rc = real_of(file)->pMethods->xClose(real_of(file));
    release((struct guard_file *)file);
    return rc;
}

static int guard_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    const int rc = real_of(file)->pMethods->xRead(real_of(file), out, n, at);
    /* SQLite calls a database malformed that the disk cannot read. */
    return rc == SQLITE_IOERR_CORRUPTFS ? SQLITE_IOERR_READ : rc;
}

static int guard_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    size_t part = (size_t)n;
    int rc = fault(&part, SQLITE_IOERR_WRITE);
    if (rc == SQLITE_OK) {
        rc = real_of(file)->pMethods->xWrite(real_of(file), bytes, (int)part, at);
    }
    return rc == SQLITE_OK && part < (size_t)n ? SQLITE_FULL : rc;
}

static int guard_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    size_t one = 1;
    int rc = fault(&one, SQLITE_IOERR_TRUNCATE);
    return rc == SQLITE_OK ? real_of(file)->pMethods->xTruncate(real_of(file), size) : rc;
}

static int guard_sync(sqlite3_file *file, int flags)
{
    size_t one = 1;
    int rc = fault(&one, SQLITE_IOERR_FSYNC);
    return rc == SQLITE_OK ? real_of(file)->pMethods->xSync(real_of(file), flags) : rc;
}

static int guard_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int guard_lock(sqlite3_file *file, int level)
{
    struct guard_file *f = (struct guard_file *)file;
    bool had = f->holds;
    if (!acquire(f)) {
        return SQLITE_BUSY; /* SQLite waits as long as the handle may, and asks again */
    }
    int rc = real_of(file)->pMethods->xLock(real_of(file), level);
    if (rc != SQLITE_OK && !had) {
        release(f);
    }
    return rc;
}

static int guard_unlock(sqlite3_file *file, int level)
{
    int rc = real_of(file)->pMethods->xUnlock(real_of(file), level);
    if (level == SQLITE_LOCK_NONE) {
        release((struct guard_file *)file);
    }
    return rc;
}

static int guard_reserved(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int guard_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int guard_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int guard_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

/* Version 1 has no shared memory and no mapping: both would pass the guards by. */
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = guard_close,
    .xRead = guard_read,
    .xWrite = guard_write,
    .xTruncate = guard_truncate,
    .xSync = guard_sync,
    .xFileSize = guard_size,
    .xLock = guard_lock,
    .xUnlock = guard_unlock,
    .xCheckReservedLock = guard_reserved,
    .xFileControl = guard_control,
    .xSectorSize = guard_sector,
    .xDeviceCharacteristics = guard_device,
};

/* ---- the VFS ---- */

static int guard_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags,
                      int *out_flags)
{
    struct guard_file *f = (struct guard_file *)file;
    struct stat sb;
    (void)vfs;
    f->base.pMethods = NULL;
    f->holds = false;
    f->name[0] = '\0';
    int rc = real_vfs->xOpen(real_vfs, path, real_of(file), flags, out_flags);
    if (real_of(file)->pMethods) { /* also of a failure: then it is to be closed */
        f->base.pMethods = &methods;
    }
    if (rc == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB) && path && stat(path, &sb) == 0) {
        snprintf(f->name, sizeof f->name, "bnt-db-%llx-%llx-%llx", (unsigned long long)sb.st_dev,
                 (unsigned long long)sb.st_ino, (unsigned long long)geteuid());
    }
    return rc;
}

static sqlite3_vfs guard;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_vfs(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    if (real_vfs) {
        guard = *real_vfs; /* all but files is as there: it gets itself from no argument */
        guard.szOsFile = (int)sizeof(struct guard_file) + real_vfs->szOsFile;
        guard.pNext = NULL;
        guard.zName = "bnt";
        guard.xOpen = guard_open;
        guard.pAppData = real_vfs->pAppData;
        real_vfs = sqlite3_vfs_register(&guard, 0) == SQLITE_OK ? real_vfs : NULL;
    }
}

const char *guard_vfs(void)
{
    (void)pthread_once(&once, make_vfs);
    return real_vfs ? guard.zName : NULL;
}
