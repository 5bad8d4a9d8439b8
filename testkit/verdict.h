/* What became of a test, exactly: one table for the processes that run tests (bnt-suites), for the
 * runner that reads their records, and for reports. */
#ifndef TESTKIT_VERDICT_H
#define TESTKIT_VERDICT_H

#include <stdbool.h>

/* VERDICT(identifier, word, meaning). The word is what records and reports say; it never changes.
 * The meaning is for who reads this. */
#define VERDICT_TABLE(VERDICT)                                                                     \
    VERDICT(PASSED, "passed", "the body came to its end and left nothing behind")                  \
    VERDICT(SKIPPED, "skipped", "a stated need is not met here")                                   \
    VERDICT(SKIPPED_WITHIN, "skipped-within", "the body called skip()")                            \
    VERDICT(ASSERTION, "assertion", "an assertion failed")                                         \
    VERDICT(EARLY_EXIT, "early-exit", "the process exited before the body had ended")              \
    VERDICT(EXIT_CODE, "exit-code", "the process exited with another code than 0 after the body")  \
    VERDICT(CRASH, "crash", "a signal of its own doing ended the process")                         \
    VERDICT(STACK_OVERFLOW, "stack-overflow", "a fault at the end of a thread's stack")            \
    VERDICT(TIMEOUT, "timeout", "it ran longer than its time")                                     \
    VERDICT(OUT_OF_MEMORY, "out-of-memory", "it took more memory than a test may have")            \
    VERDICT(FLOOD, "flood", "output without an end")                                               \
    VERDICT(LEAKED_PROCESS, "leaked-process", "processes outlived the test")                       \
    VERDICT(LEAKED_FD, "leaked-fd", "file descriptors were left open by the body")                 \
    VERDICT(LEAKED_FILE, "leaked-file", "files were left outside the scratch folder")              \
    VERDICT(SANITIZER, "sanitizer", "a sanitizer reported a fault")                                \
    VERDICT(KILLED, "killed", "ended by a signal that somebody else may have sent")                \
    VERDICT(WORKER_DIED, "worker-died", "the process that had forked the test is gone")            \
    VERDICT(NOT_STARTED, "not-started", "the test could not be started")                           \
    VERDICT(INTERRUPTED, "interrupted", "the run was interrupted")

enum verdict {
#define VERDICT_ROW(identifier, word, meaning) VERDICT_##identifier,
    VERDICT_TABLE(VERDICT_ROW)
#undef VERDICT_ROW
        VERDICTS
};

const char *verdict_word(enum verdict v);
/* False for a word that is none. */
bool verdict_from_word(const char *word, enum verdict *out);
/* Neither a failure nor an interruption. */
bool verdict_is_good(enum verdict v);
bool verdict_is_skip(enum verdict v);

#endif
