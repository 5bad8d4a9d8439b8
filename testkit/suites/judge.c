/* Verdicts.
 *
 * A pass needs all of: the body returned to us, cmocka counted no failure, the process then went
 * through exit(3) with all its handlers and ended with status 0, and nothing was left behind: no
 * process, no descriptor, no file. exit(0) in a body, a leak report at exit or a crash in a handler
 * of exit thus cannot pass, whatever was printed. */
#include "testkit/suites/judge.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/suites/support.h"

bool judge_build_is_sanitized(void)
{
    static const char *const configs[] = {"asan", "ubsan", "tsan"};
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        if (strcmp(BNT_CONFIG, configs[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *judge_find_report(const char *text)
{
    static const char *const marks[] = {"ERROR: AddressSanitizer: ", "ERROR: LeakSanitizer: ",
                                        "WARNING: ThreadSanitizer: ", ": runtime error: "};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        const char *at = strstr(text, marks[i]);
        if (at) {
            return at;
        }
    }
    return NULL;
}

static void say(struct isolate_result *r, enum verdict v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void say(struct isolate_result *r, enum verdict v, const char *fmt, ...)
{
    va_list ap;
    r->verdict = v;
    va_start(ap, fmt);
    vsnprintf(r->why, sizeof r->why, fmt, ap);
    va_end(ap);
}

static bool body_had_ended(const struct body_page *page)
{
    return page->stage == BODY_PASSED || page->stage == BODY_FAILED || page->stage == BODY_SKIPPED;
}

/* It came near the end of the address space that it was given. */
static bool is_near_memory_limit(const struct body_page *page)
{
    return page->memory_limit > 0 && page->memory_peak >= page->memory_limit / 8 * 7;
}

static void say_out_of_memory(const struct judge_evidence *e, struct isolate_result *r,
                              const char *how)
{
    say(r, VERDICT_OUT_OF_MEMORY, "%s, with %llu of its %llu MiB of address space taken", how,
        (unsigned long long)(e->page->memory_peak >> 20),
        (unsigned long long)(e->page->memory_limit >> 20));
}

/* ---- ended by us ---- */

static bool is_stopped_process(const struct judge_evidence *e)
{
    return e->page->stopped;
}

static bool judge_ended_by_us(const struct judge_evidence *e, struct isolate_result *r)
{
    char how[160];
    proc_describe(e->proc, how, sizeof how);
    switch (e->proc->end) {
    case PROC_TIMED_OUT:
        say(r, VERDICT_TIMEOUT, "%s%s", how,
            is_stopped_process(e)     ? ", stopped by a signal (SIGSTOP or its like)"
            : body_had_ended(e->page) ? ", after the body had ended"
                                      : "");
        return true;
    case PROC_FLOODED:
        say(r, VERDICT_FLOOD, "%s", how);
        return true;
    case PROC_OVER_MEMORY:
        say(r, VERDICT_OUT_OF_MEMORY, "%s", how);
        return true;
    case PROC_STOPPED:
        say(r, VERDICT_INTERRUPTED, "interrupted");
        return true;
    default:
        return false;
    }
}

/* ---- sanitizers ---- */

struct report_kind {
    const char *mark;
    enum verdict verdict;
    const char *why;
};

/* What a sanitizer says of faults that are ours to judge in other builds; first come, first
 * served. */
static const struct report_kind report_kinds[] = {
    {"Sanitizer: stack-overflow", VERDICT_STACK_OVERFLOW, "stack overflow"},
    {"Sanitizer: SEGV", VERDICT_CRASH, "killed by SIGSEGV (Segmentation fault)"},
    {"Sanitizer: BUS", VERDICT_CRASH, "killed by SIGBUS (Bus error)"},
    {"Sanitizer: FPE", VERDICT_CRASH, "killed by SIGFPE (Floating point exception)"},
    {"Sanitizer: ILL", VERDICT_CRASH, "killed by SIGILL (Illegal instruction)"},
    {"Sanitizer: TRAP", VERDICT_CRASH, "killed by SIGTRAP (Trace/breakpoint trap)"},
    {"Sanitizer: ABRT", VERDICT_CRASH, "killed by SIGABRT (Aborted)"},
    {"Sanitizer: out-of-memory", VERDICT_OUT_OF_MEMORY, "out of memory"},
    {"Sanitizer: ", VERDICT_SANITIZER, NULL},
    {"runtime error: ", VERDICT_SANITIZER, NULL},
};

/* "AddressSanitizer: heap-use-after-free on address ..." to the end of its line. */
static void report_line(const char *output, const char *mark, char *out, size_t size)
{
    const char *at = mark;
    while (at > output && at[-1] != ' ' && at[-1] != '\n') {
        at--;
    }
    snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}

/* An assertion that fails leaves everything as it is, so leaks say nothing then. */
static bool only_leaks_of_a_failure(const struct judge_evidence *e)
{
    return e->page->stage == BODY_FAILED && strstr(e->output, "LeakSanitizer: detected") &&
           !strstr(e->output, "AddressSanitizer: ");
}

static bool judge_sanitizer(const struct judge_evidence *e, struct isolate_result *r)
{
    char line[200];
    if (!judge_build_is_sanitized() || e->proc->end != PROC_EXITED ||
        e->proc->code != JUDGE_SANITIZER_EXIT || only_leaks_of_a_failure(e)) {
        return false;
    }
    const char *after = body_had_ended(e->page) ? ", after the body had ended" : "";
    for (size_t i = 0; i < sizeof report_kinds / sizeof report_kinds[0]; i++) {
        const struct report_kind *k = &report_kinds[i];
        const char *mark = strstr(e->output, k->mark);
        if (mark) {
            report_line(e->output, mark, line, sizeof line);
            say(r, k->verdict, "%s%s", k->why ? k->why : line, after);
            return true;
        }
    }
    say(r, VERDICT_SANITIZER, "a sanitizer ended it (exit %d)%s", e->proc->code, after);
    return true;
}

/* ---- signals ---- */

static bool is_sent_by_people(int number)
{
    return number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT;
}

static void judge_sent_signal(const struct judge_evidence *e, const char *how,
                              struct isolate_result *r)
{
    const struct body_page *page = e->page;
    bool known = page->fault.number == e->proc->code;
    if (known && page->fault.sender == page->leader) {
        say(r, VERDICT_CRASH, "%s, sent by itself", how);
    } else if (known) {
        say(r, VERDICT_KILLED, "%s, sent by process %d", how, (int)page->fault.sender);
    } else {
        say(r, VERDICT_KILLED, "%s, by itself or from outside", how);
    }
}

static void judge_fault(const struct judge_evidence *e, const char *how, struct isolate_result *r)
{
    const struct body_page *page = e->page;
    bool known = page->fault.number == e->proc->code;
    if (known && page->fault.at_stack_end) {
        say(r, VERDICT_STACK_OVERFLOW, "stack overflow: %s", how);
    } else if (known && page->fault.code > 0) {
        say(r, VERDICT_CRASH, "%s at address 0x%llx", how, (unsigned long long)page->fault.address);
    } else {
        say(r, VERDICT_CRASH, "%s", how);
    }
}

static void judge_signal(const struct judge_evidence *e, struct isolate_result *r)
{
    char how[120];
    char words[160];
    proc_describe(e->proc, words, sizeof words);
    snprintf(how, sizeof how, "%.80s%s", words,
             body_had_ended(e->page) ? ", after the body had ended" : "");
    if (is_near_memory_limit(e->page)) {
        say_out_of_memory(e, r, how);
    } else if (e->proc->code == SIGKILL && e->oom_killer) {
        say(r, VERDICT_OUT_OF_MEMORY, "%s, while the kernel's out-of-memory killer was at work",
            how);
    } else if (e->proc->code == SIGKILL) {
        say(r, VERDICT_KILLED, "%s, by itself or from outside", how);
    } else if (is_sent_by_people(e->proc->code)) {
        judge_sent_signal(e, how, r);
    } else {
        judge_fault(e, how, r);
    }
}

/* ---- exits ---- */

static void judge_failed(const struct judge_evidence *e, struct isolate_result *r)
{
    if (is_near_memory_limit(e->page)) {
        say_out_of_memory(e, r, "an assertion failed");
    } else if (support_is_cause(e->page->cause)) {
        snprintf(r->cause, sizeof r->cause, "%s", e->page->cause);
        say(r, VERDICT_ASSERTION, "not there: %s", r->cause);
    } else {
        say(r, VERDICT_ASSERTION, "an assertion failed");
    }
}

/* True when the exit by itself is a failure. */
static bool judge_exit(const struct judge_evidence *e, struct isolate_result *r)
{
    const struct body_page *page = e->page;
    if (page->stage == BODY_STARTING) {
        say(r, VERDICT_NOT_STARTED, "exited with %d before the body began%s%s", e->proc->code,
            page->trouble[0] ? ": " : "", page->trouble);
    } else if (page->stage == BODY_RUNS && is_near_memory_limit(page)) {
        say_out_of_memory(e, r, "it exited before the body ended");
    } else if (page->stage == BODY_RUNS && !BNT_FAULT(early_exit)) {
        say(r, VERDICT_EARLY_EXIT, "exited with %d before the body ended%s", e->proc->code,
            page->exit_aside ? ", from another thread (an assertion that fails there does that)"
                             : "");
    } else if (page->stage == BODY_FAILED) {
        judge_failed(e, r);
    } else if (e->proc->code != 0) {
        say(r, VERDICT_EXIT_CODE, "exited with %d, after the body had ended", e->proc->code);
    } else if (!page->exiting) {
        say(r, VERDICT_EARLY_EXIT,
            "exited with 0 amid the handlers of exit(3), after the body "
            "had ended");
    } else {
        return false;
    }
    return true;
}

static void judge_remains(const struct judge_evidence *e, struct isolate_result *r)
{
    if (e->proc->leaked && !BNT_FAULT(leaked_processes)) {
        say(r, VERDICT_LEAKED_PROCESS, "left processes running (killed): %s", e->proc->leaked_what);
    } else if (e->page->leaked_fds[0] && !BNT_FAULT(leaked_fd)) {
        say(r, VERDICT_LEAKED_FD, "left file descriptors open: %s", e->page->leaked_fds);
    } else if (e->leaked_files[0]) {
        say(r, VERDICT_LEAKED_FILE, "left files outside its scratch folder: %s", e->leaked_files);
    } else if (e->page->stage == BODY_SKIPPED) {
        say(r, VERDICT_SKIPPED_WITHIN, "%s",
            e->page->skip_why[0] ? e->page->skip_why : "the body called skip()");
    } else {
        r->verdict = VERDICT_PASSED;
    }
}

/* Whatever became of the rest: the kernel says that it took more than it may. */
static bool judge_group(const struct judge_evidence *e, struct isolate_result *r)
{
    if (e->group_kills == 0 || e->proc->end == PROC_STOPPED) {
        return false;
    }
    say(r, VERDICT_OUT_OF_MEMORY,
        "held more than %llu MiB of memory: the kernel killed for it (%s)",
        (unsigned long long)(e->proc->memory_bytes >> 20), e->group);
    return true;
}

void judge(const struct judge_evidence *e, struct isolate_result *r)
{
    if (judge_group(e, r)) {
        return;
    }
    if (judge_ended_by_us(e, r) || judge_sanitizer(e, r)) {
        return;
    }
    if (e->proc->end == PROC_SIGNALED) {
        judge_signal(e, r);
    } else if (!judge_exit(e, r)) {
        judge_remains(e, r);
    }
}
