/* Files: bounded reads, durable writes, advisory locks, paths. */
#ifndef BNT_FILE_H
#define BNT_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"

#define BNT_PATH_MAX 4096 /* bytes, terminator included */

/* snprintf into a path of BNT_PATH_MAX bytes; too long is an error, never a cut. */
enum bnt_status bnt_path_format(char out[BNT_PATH_MAX], struct bnt_err *err, const char *fmt, ...)
    BNT_PRINTF(3, 4);

/* The folder part of a path; "." when there is none, "/" for what lies in it and for itself. */
enum bnt_status bnt_folder_of(const char *path, char out[BNT_PATH_MAX], struct bnt_err *err);
/* Whether two paths lead to one file; false when one leads nowhere. */
bool bnt_same_file(const char *a, const char *b);

/* mkdir -p with mode 0777 & ~umask. */
enum bnt_status bnt_mkdirs(const char *path, struct bnt_err *err);

/* The whole file appended to buf; one that is larger than its max is FILE; "-" is standard input. A
 * caught signal ends the wait for who writes into a pipe with INTERRUPTED. */
enum bnt_status bnt_file_read(const char *path, struct bnt_buf *buf, struct bnt_err *err);

/* The next line of f without its end, in place of what line held (whose max bounds it); a last one
 * without an end counts. A line that is longer is FILE, with its rest unread; a
 * caught signal ends the wait for one with INTERRUPTED. */
enum bnt_status bnt_read_line(FILE *f, struct bnt_buf *line, bool *end, struct bnt_err *err);

/* For who writes files and nothing else: USAGE for "-", by which commands that can mean standard
 * output, and for an empty name. */
enum bnt_status bnt_file_is_named(const char *path, struct bnt_err *err);

/* A file that appears whole or not at all: temporary in the same folder -> write... -> commit =
 * fsync, rename over the target, fsync the folder. Release without commit removes the temporary.
 * Errors of open: USAGE the target is a folder, a device, another thing that is no file, or "-". */
struct bnt_durable {
    int fd; /* -1 when closed */
    char target[BNT_PATH_MAX], temp[BNT_PATH_MAX];
};
enum bnt_status bnt_durable_open(struct bnt_durable *d, const char *target, struct bnt_err *err);
enum bnt_status bnt_durable_write(struct bnt_durable *d, const void *bytes, size_t n,
                                  struct bnt_err *err);
/* Take another target, on the same file system: the name was not known at first. */
enum bnt_status bnt_durable_retarget(struct bnt_durable *d, const char *target,
                                     struct bnt_err *err);
/* mode: final permission bits, e.g. 0444. */
enum bnt_status bnt_durable_commit(struct bnt_durable *d, unsigned mode, struct bnt_err *err);
void bnt_durable_release(struct bnt_durable *d);

/* For who has all of the content at hand; mode 0644. */
enum bnt_status bnt_file_write(const char *target, const void *bytes, size_t n,
                               struct bnt_err *err);
/* Whether bnt_durable_open would do, and with which error not: asked before the work whose result
 * goes there. */
enum bnt_status bnt_file_may_write(const char *target, struct bnt_err *err);

/* fsync a folder, so that a rename or unlink in it is durable. */
enum bnt_status bnt_dir_sync(const char *path, struct bnt_err *err);

/* write(2) until all is written or an error. */
enum bnt_status bnt_write_all(int fd, const void *bytes, size_t n, const char *what,
                              struct bnt_err *err);

/* The same at an offset, by pwrite(2). */
enum bnt_status bnt_pwrite_all(int fd, const void *bytes, size_t n, uint64_t offset,
                               const char *what, struct bnt_err *err);

/* Give an empty file its size, all zeros, with room on the disk where the file system can promise
 * it: what does not fit fails here, and several threads then write different places at a time. */
enum bnt_status bnt_file_reserve(int fd, uint64_t bytes, const char *what, struct bnt_err *err);

/* A descriptor of the same file that writes past the page cache. A large file that is written once
 * then takes no memory, which a virtual machine may have to wait for longer than for its disk; the
 * first reader has to read it. Offsets, sizes and memory are multiples of BNT_FILE_BLOCK. -1 where
 * that cannot be. The first BNT_FILE_BLOCK bytes of the file become 0. */
#define BNT_FILE_BLOCK 4096
int bnt_file_open_direct(int fd);

/* copy_file_range(2) until all is copied: on a file system that can, both files share the blocks.
 * False: it could not, or not to the end; write the bytes instead. */
bool bnt_file_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t n);

/* rename(2), fsync(2) and unlink(2), through the seam below: what must survive a death goes through
 * these and the writers above. */
int bnt_file_rename(const char *from, const char *to);
int bnt_file_sync(int fd);
int bnt_file_unlink(const char *path);

/* For tests: called before each such step; a result other than 0 is the errno with which it fails.
 * A write may be cut short by lowering *n (NULL for the other steps). NULL takes it away. Set while
 * no other thread writes. */
enum bnt_file_step {
    BNT_FILE_WRITE,
    BNT_FILE_SYNC,
    BNT_FILE_RENAME,
    BNT_FILE_UNLINK,
    BNT_FILE_DB, /* a write, a sync or a truncation within a database; *n as of a write */
};
typedef int bnt_file_fault_fn(enum bnt_file_step step, size_t *n);
void bnt_file_fault(bnt_file_fault_fn *fn);
/* For who writes by other ways: 0, or the errno with which the step is to fail. */
int bnt_file_step(enum bnt_file_step step, size_t *n);

/* A read-only mapping of a whole regular file. */
struct bnt_mapping {
    const uint8_t *data; /* NULL for an empty file */
    uint64_t size;       /* bytes */
};
enum bnt_status bnt_map_file(const char *path, struct bnt_mapping *out, struct bnt_err *err);
void bnt_unmap(struct bnt_mapping *m);

/* Give an empty file its size, all zeros, and map it: what is written into the mapping is the
 * file's content. Without room on the disk this fails, not the writing, which could only end the
 * process. UNSUPPORTED where the file system promises no room. */
enum bnt_status bnt_map_new_file(int fd, uint64_t bytes, const char *what, struct bnt_mapping *out,
                                 struct bnt_err *err);

/* Exclusive advisory lock on `path` (created if absent); waits. Released by bnt_lock_release or
 * process end. */
enum bnt_status bnt_lock_acquire(const char *path, int *fd, struct bnt_err *err);
/* The same for one part of the file, a number of which equal things must have equal ones: who holds
 * another part is not waited for. *waited: somebody held it. */
enum bnt_status bnt_lock_acquire_part(const char *path, uint64_t part, int *fd, bool *waited,
                                      struct bnt_err *err);
void bnt_lock_release(int *fd);

/* Folder of the running executable, without a trailing slash. */
enum bnt_status bnt_exe_dir(char out[BNT_PATH_MAX], struct bnt_err *err);

#endif
