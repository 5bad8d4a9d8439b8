/* Preloaded into a program under test: file locks that answer success and lock nothing, as some
 * network file systems have them. suite_bad_locks.c says what must hold nevertheless. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

int flock(int fd, int operation)
{
    (void)operation;
    return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

static int lie(int fd, int command, void *arg)
{
    switch (command) {
    case F_GETLK:
    case F_OFD_GETLK:
        ((struct flock *)arg)->l_type = F_UNLCK;
        return 0;
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return 0;
    default:
        return (int)syscall(SYS_fcntl, fd, command, arg);
    }
}

int fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return lie(fd, command, arg);
}

/* Programs that were built for large files call it by this name. */
int fcntl64(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return lie(fd, command, arg);
}
