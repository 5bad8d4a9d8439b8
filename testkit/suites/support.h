/* What the program around the tests shares with support.c; tests see testkit/suite.h only. */
#ifndef SUITES_SUPPORT_H
#define SUITES_SUPPORT_H

#include "base/file.h"
#include "base/status.h"

/* A new empty folder under $TMPDIR, which suite_scratch of processes forked from now on names. The
 * caller removes it. */
enum bnt_status support_make_scratch(char out[BNT_PATH_MAX], struct bnt_err *err);
/* In the child: lead HOME, TMPDIR and the caches into the scratch folder. */
void support_enter_test(void);

/* The source tree and the shared folder, or NULL where there is none. */
const char *support_source_dir(void);
const char *support_shared_dir(void);

#endif
