/* The one table of exit codes. A status of a library function and the exit code of the command that
 * reports it are the same number, so there is no mapping to keep in step. Codes are stable: scripts
 * and workflows depend on them. */
#ifndef BNT_EXIT_H
#define BNT_EXIT_H

/* X(number, identifier, meaning) */
#define BNT_EXIT_TABLE(X)                                                                          \
    X(0, BNT_OK, "ok")                                                                             \
    X(1, BNT_E_FAILED, "failed (a test, a check, an operation)")                                   \
    X(2, BNT_E_USAGE, "usage")                                                                     \
    X(3, BNT_E_INCONCLUSIVE, "inconclusive")                                                       \
    X(4, BNT_E_NO_TESTS, "no tests selected")                                                      \
    X(5, BNT_E_FILE, "file invalid")                                                               \
    X(6, BNT_E_DIFFERS, "output differs from reference")                                           \
    X(7, BNT_E_QUALITY, "quality (perplexity, degenerate text)")                                   \
    X(8, BNT_E_NOT_FOUND, "model, file or name not found")                                         \
    X(9, BNT_E_UNSUPPORTED, "unsupported format or feature")                                       \
    X(10, BNT_E_NO_SPACE, "no space")                                                              \
    X(11, BNT_E_AUTH, "authorisation")                                                             \
    X(12, BNT_E_RATE_LIMIT, "rate limited")                                                        \
    X(13, BNT_E_DIGEST, "digest differs")                                                          \
    X(14, BNT_E_NETWORK, "network")                                                                \
    X(15, BNT_E_OFFLINE, "offline and not in cache")                                               \
    X(16, BNT_E_INFERENCE, "inference failed")                                                     \
    X(17, BNT_E_SLOWER, "performance regression")                                                  \
    X(18, BNT_E_MEMORY, "memory limit")                                                            \
    X(19, BNT_E_TIME, "time limit")                                                                \
    X(20, BNT_E_LOCK_DRIFT, "lock file drift")                                                     \
    X(21, BNT_E_CIRCUIT, "circuit open")                                                           \
    X(22, BNT_E_DEVICE, "no such device")                                                          \
    X(23, BNT_E_SELF_TEST, "kernel self-test")                                                     \
    X(24, BNT_E_MOCK_USED, "a mock was used")                                                      \
    X(25, BNT_E_RESULT_CACHE, "result cache disagreed")                                            \
    X(26, BNT_E_CONTRACT, "contract drift")                                                        \
    X(27, BNT_E_NOT_ALL_RAN, "not all ran (budget, --strict)")                                     \
    X(70, BNT_E_INTERNAL, "internal error")                                                        \
    X(130, BNT_E_INTERRUPTED, "interrupted")

#endif
