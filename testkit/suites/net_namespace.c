/* Network namespaces for tests. See net_namespace.h. */
#include "testkit/suites/net_namespace.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How the helper made it, as a byte to its maker. */
enum { MADE_NONE, MADE_PLAIN, MADE_WITH_USER };

static struct {
    bool tried;
    int net, user; /* user: -1 when it was made without one */
} spaces[2] = {{false, -1, -1}, {false, -1, -1}};

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

static bool unshare_with_user(void)
{
    char map[64];
    unsigned uid = geteuid();
    unsigned gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        return false;
    }
    write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", gid, gid);
    write_text("/proc/self/gid_map", map);
    return geteuid() == uid && getegid() == gid;
}

static bool raise_loopback(void)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
    bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    request.ifr_flags |= IFF_UP;
    up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return up;
}

/* Makes the namespace, says how, and keeps it until it is killed. */
static _Noreturn void helper_main(int fd, bool loopback)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char how = unshare(CLONE_NEWNET) == 0 ? MADE_PLAIN
               : unshare_with_user()      ? MADE_WITH_USER
                                          : MADE_NONE;
    if (how != MADE_NONE && loopback && !raise_loopback()) {
        how = MADE_NONE;
    }
    (void)!write(fd, &how, 1);
    for (;;) {
        pause();
    }
}

static int open_space(pid_t pid, const char *kind)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    return open(path, O_RDONLY | O_CLOEXEC);
}

void net_namespace_prepare(bool loopback)
{
    int pipes[2];
    char how = MADE_NONE;
    if (spaces[loopback].tried || pipe2(pipes, O_CLOEXEC) != 0) {
        return;
    }
    spaces[loopback].tried = true;
    pid_t pid = fork();
    if (pid == 0) {
        helper_main(pipes[1], loopback);
    }
    close(pipes[1]);
    if (pid > 0) {
        if (read(pipes[0], &how, 1) == 1 && how != MADE_NONE) {
            spaces[loopback].net = open_space(pid, "net");
            spaces[loopback].user = how == MADE_WITH_USER ? open_space(pid, "user") : -1;
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    close(pipes[0]);
}

bool net_namespace_is_there(bool loopback)
{
    return spaces[loopback].net >= 0;
}

/* A user namespace gives every capability inside it; a test must not have more than before. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    (void)syscall(SYS_capset, &header, none);
}

bool net_namespace_enter(bool loopback)
{
    int net = spaces[loopback].net;
    int user = spaces[loopback].user;
    if (net < 0 || (user >= 0 && setns(user, CLONE_NEWUSER) != 0)) {
        return false;
    }
    bool entered = setns(net, CLONE_NEWNET) == 0;
    if (user >= 0) {
        drop_capabilities();
    }
    return entered;
}
