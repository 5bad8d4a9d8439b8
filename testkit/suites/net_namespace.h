/* Network namespaces for tests: one with loopback, one with nothing, made once by a helper process
 * and entered by each test. With the right to make one (CAP_SYS_ADMIN) as it is, else inside a user
 * namespace that maps this user to itself. */
#ifndef SUITES_NET_NAMESPACE_H
#define SUITES_NET_NAMESPACE_H

#include <stdbool.h>

/* In the process that forks: make it unless it is there, or has failed before. */
void net_namespace_prepare(bool loopback);
bool net_namespace_is_there(bool loopback);
/* In the forked process, while it has one thread. False: not possible here. No capability is gained
 * by it. */
bool net_namespace_enter(bool loopback);

#endif
