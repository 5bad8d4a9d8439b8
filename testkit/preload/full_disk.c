/* Preloaded into a program under test: the disk is full. No byte enters a regular file; pipes and
 * terminals take what they are given. suite_doctor.c says what must be said of it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (n > 0 && is_file(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    if (n > 0 && is_file(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, n, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    (void)fd, (void)mode, (void)offset, (void)n;
    errno = ENOSPC;
    return -1;
}

int fallocate64(int fd, int mode, off_t offset, off_t n)
{
    return fallocate(fd, mode, offset, n);
}

/* Programs that were built for large files call it by this name. */
ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t offset)
{
    return pwrite(fd, bytes, n, offset);
}
