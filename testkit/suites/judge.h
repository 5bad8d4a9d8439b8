/* From what is known of a test's end to its verdict. */
#ifndef SUITES_JUDGE_H
#define SUITES_JUDGE_H

#include "testkit/proc.h"
#include "testkit/suites/body.h"
#include "testkit/suites/isolate.h"

struct judge_evidence {
    const struct proc *proc;
    const struct body_page *page;
    const char *output;       /* "" for none */
    const char *leaked_files; /* "" for none */
    bool oom_killer;          /* the kernel's killer was at work meanwhile */
    uint64_t group_kills;     /* processes that it killed in the test's control group */
    const char *group;        /* "cgroup v2": what that is */
};

/* The exit status of a process that a sanitizer ended, as bnt-suites sets it. */
enum { JUDGE_SANITIZER_EXIT = 86 };

/* Fills verdict, why and cause. */
void judge(const struct judge_evidence *e, struct isolate_result *r);
/* The first line of a sanitizer's report in a program's standard error, or NULL. */
const char *judge_find_report(const char *text);
/* This build has a sanitizer that ends processes with JUDGE_SANITIZER_EXIT. */
bool judge_build_is_sanitized(void);

#endif
