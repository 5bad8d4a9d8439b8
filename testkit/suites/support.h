/* What the program around the tests shares with support.c; tests see testkit/suite.h only. */
#ifndef SUITES_SUPPORT_H
#define SUITES_SUPPORT_H

#include <stdbool.h>

#include "base/file.h"
#include "base/status.h"

/* suite_scratch of this process and those forked from it. */
void support_set_scratch(const char *dir);
/* Map the model of suite_model_open, so that processes forked from now on have it. A failure is
 * told to each test that asks. */
void support_map_model(void);
bool support_program_in_path(const char *name);

/* suite_bnt, or NULL where there is none. */
const char *support_bnt(void);

/* The program bnt of a build with planted defects: this one, or that in build/fault beside it when
 * it is as new as this one. NULL without. */
const char *support_fault_bnt(void);

/* Put this library of the build folder (testkit/preload/) before all others in every program that
 * this process starts from now on. Skips the test where it is not there: it is not installed. */
void support_preload(const char *library);

/* Where suite_skip of this process writes its reason. */
void support_skip_into(char *why, size_t size);

/* The cause that suite_infrastructure named in this process, or NULL. */
const char *support_cause(void);
/* True for a word that suite_infrastructure takes. */
bool support_is_cause(const char *word);

/* Digest of what the tests of a suite depend on in the source tree: the suite's own file and the
 * paths of testkit/suites/inputs.def. "-" without a source tree. Valid until the next call. */
const char *support_inputs_digest(const char *suite);

/* The source tree and the shared folder, or NULL where there is none. */
const char *support_source_dir(void);
const char *support_shared_dir(void);

#endif
