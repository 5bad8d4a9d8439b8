/* What the suites of mocks share. A failure fails the test. */
#ifndef SUITES_MOCK_SUPPORT_H
#define SUITES_MOCK_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "mock/bnt_mock.h"

/* Path of a file in the test's scratch folder: valid until the next call but three. */
const char *ms_path(const char *name);
/* Make a model there; its digest and recipe in *made, which may be NULL. */
const char *ms_make(const char *name, const struct bnt_mock_recipe *r, struct bnt_mock_made *made);

/* Give every row of its linear weights, which are IQ2_BN or IQ2_BN_R4, a scale of its own. */
void ms_scale_each_row(const char *path);

/* A bare socket as HTTP client, so that what is seen is what was sent. */
struct ms_answer {
    char text[8192];
    size_t len;
    bool reset; /* the connection ended with an error, or nothing came for 300 ms */
};
/* One request; headers: more lines, each ending in "\r\n", and behind an empty one a body. */
struct ms_answer ms_ask(const char *url, const char *method, const char *path, const char *headers);
const char *ms_body(const struct ms_answer *a);

#endif
