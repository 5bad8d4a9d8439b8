/* The tests on which the machinery around tests is tested. Never part of a normal run: `bnt-suites
 * --corpus`. */
#ifndef SUITES_CORPUS_H
#define SUITES_CORPUS_H

#include "testkit/suite.h"

extern const struct suite suite_corpus, suite_corpus_ends, suite_corpus_reach;

#endif
