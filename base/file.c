/* Files: reading, writing, mapping, and the seam by which tests make writes fail. What survives a
 * death, and locks: file_durable.c. */
#include "base/fault.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP = 1 << 16 };

/* ---- the seam of tests ---- */

static bnt_file_fault_fn *fault_fn;

void bnt_file_fault(bnt_file_fault_fn *fn)
{
    fault_fn = fn;
}

int bnt_file_step(enum bnt_file_step step, size_t *n)
{
    return fault_fn ? fault_fn(step, n) : 0;
}

/* True when the step fails by order of a test; errno is set. */
static bool faulty(enum bnt_file_step step, size_t *n)
{
    int code = bnt_file_step(step, n);
    if (code != 0) {
        errno = code;
    }
    return code != 0;
}

int bnt_file_rename(const char *from, const char *to)
{
    return faulty(BNT_FILE_RENAME, NULL) ? -1 : rename(from, to);
}

int bnt_file_sync(int fd)
{
    return faulty(BNT_FILE_SYNC, NULL) ? -1 : fsync(fd);
}

int bnt_file_unlink(const char *path)
{
    return faulty(BNT_FILE_UNLINK, NULL) ? -1 : unlink(path);
}

bool bnt_same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

enum bnt_status bnt_path_format(char out[BNT_PATH_MAX], struct bnt_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, BNT_PATH_MAX, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= BNT_PATH_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "path is longer than %d bytes: %.80s...",
                           BNT_PATH_MAX - 1, out);
    }
    return BNT_OK;
}

enum bnt_status bnt_mkdirs(const char *path, struct bnt_err *err)
{
    char part[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(part, err, "%s", path);
    if (st != BNT_OK) {
        return st;
    }
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        bool last = *p == '\0';
        *p = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return bnt_err_errno(err, "cannot make folder %s", part);
        }
        if (last) {
            break;
        }
        *p = '/';
    }
    struct stat sb;
    if (stat(path, &sb) != 0) {
        return bnt_err_errno(err, "cannot make folder %s", path);
    }
    if (!S_ISDIR(sb.st_mode) && !BNT_FAULT(folder_in_the_way)) {
        return bnt_err_set(err, BNT_E_FAILED,
                           "cannot make folder %s: a file of that name is in the way", path);
    }
    return BNT_OK;
}

enum bnt_status bnt_read_line(FILE *f, struct bnt_buf *line, bool *end, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    int c = EOF;
    bnt_buf_reset(line);
    while (st == BNT_OK && (c = getc_unlocked(f)) != EOF && c != '\n') {
        st = line->len < line->max
                 ? bnt_buf_putc(line, (char)c, err)
                 : bnt_err_set(err, BNT_E_FILE, "a line of more than %zu bytes", line->max);
    }
    *end = st == BNT_OK && c == EOF && line->len == 0;
    if (st == BNT_OK && c == EOF && ferror(f)) {
        st = errno == EINTR
                 ? bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted while reading a line")
                 : bnt_err_errno(err, "cannot read a line");
    }
    return st;
}

static enum bnt_status read_fd(int fd, const char *path, struct bnt_buf *buf, struct bnt_err *err)
{
    for (;;) {
        char chunk[READ_STEP];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) { /* of a pipe, into which nobody may ever write */
            return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted while reading %s", path);
        }
        if (n < 0) {
            return bnt_err_errno(err, "cannot read %s", path);
        }
        if (n == 0) {
            return BNT_OK;
        }
        if ((size_t)n > buf->max - buf->len) {
            return bnt_err_set(err, BNT_E_FILE, "%s: more than %zu bytes", path, buf->max);
        }
        if (bnt_buf_append(buf, chunk, (size_t)n, err) != BNT_OK) {
            return bnt_err_context(err, "%s", path);
        }
    }
}

enum bnt_status bnt_file_read(const char *path, struct bnt_buf *buf, struct bnt_err *err)
{
    if (strcmp(path, "-") == 0) {
        return read_fd(STDIN_FILENO, "standard input", buf, err);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EINTR) { /* a named pipe that nobody writes into */
        return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted while opening %s", path);
    }
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    enum bnt_status st = read_fd(fd, path, buf, err);
    close(fd);
    return st;
}

enum bnt_status bnt_write_all(int fd, const void *bytes, size_t n, const char *what,
                              struct bnt_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        size_t part = n;
        ssize_t w = faulty(BNT_FILE_WRITE, &part) ? -1 : write(fd, p, part);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w < 0) {
            return bnt_err_errno(err, "cannot write %s", what);
        }
        p += w;
        n -= BNT_FAULT(short_write) ? n : (size_t)w;
    }
    return BNT_OK;
}

enum bnt_status bnt_pwrite_all(int fd, const void *bytes, size_t n, uint64_t offset,
                               const char *what, struct bnt_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        size_t part = n;
        ssize_t w = faulty(BNT_FILE_WRITE, &part) ? -1 : pwrite(fd, p, part, (off_t)offset);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w < 0) {
            return bnt_err_errno(err, "cannot write %s", what);
        }
        p += w;
        n -= (size_t)w;
        offset += (uint64_t)w;
    }
    return BNT_OK;
}

enum bnt_status bnt_map_file(const char *path, struct bnt_mapping *out, struct bnt_err *err)
{
    *out = (struct bnt_mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* no wait for a named pipe's writer */
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    enum bnt_status st = BNT_OK;
    struct stat sb;
    if (fstat(fd, &sb) != 0) {
        st = bnt_err_errno(err, "cannot stat %s", path);
    } else if (!S_ISREG(sb.st_mode)) {
        st = bnt_err_set(err, BNT_E_FILE, "%s is not a regular file", path);
    } else if ((uint64_t)sb.st_size > SIZE_MAX) {
        st = bnt_err_set(err, BNT_E_MEMORY, "%s has %lld bytes: more than can be addressed", path,
                         (long long)sb.st_size);
    } else if (sb.st_size > 0) {
        void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            st = bnt_err_errno(err, "cannot map %s (%lld bytes)", path, (long long)sb.st_size);
        } else {
            out->data = p;
            out->size = (uint64_t)sb.st_size;
        }
    }
    close(fd);
    return st;
}

void bnt_unmap(struct bnt_mapping *m)
{
    if (m->data) {
        munmap((void *)(uintptr_t)m->data, (size_t)m->size);
    }
    *m = (struct bnt_mapping){0};
}
