/* What the suites of mocks share. A failure fails the test. */
#ifndef SUITES_MOCK_SUPPORT_H
#define SUITES_MOCK_SUPPORT_H

#include "mock/bnt_mock.h"

/* Path of a file in the test's scratch folder: valid until the next call but three. */
const char *ms_path(const char *name);
/* Make a model there; its digest and recipe in *made, which may be NULL. */
const char *ms_make(const char *name, const struct bnt_mock_recipe *r, struct bnt_mock_made *made);

#endif
