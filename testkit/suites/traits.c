/* The table of traits. See traits.h. */
#include "testkit/suites/traits.h"

#include "base/msg.h"
#include "testkit/suites/corpus.h"

#define SUITE(name) extern const struct suite suite_##name;
#include "testkit/suites.def"
#undef SUITE

/* A suite that does not exist does not link. */
static const struct traits table[] = {
#define TRAITS(suite, tags, subjects, retry_on, cacheable, threads)                                \
    {&suite_##suite, tags, subjects, retry_on, cacheable, threads},
#include "testkit/suites/traits.def"
#undef TRAITS
    {&suite_corpus, "", "", "", false, SUITE_NO_THREADS},
};
enum { N_ROWS = sizeof table / sizeof table[0] };

const struct traits *traits_of(const struct suite *s)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (table[i].suite == s) {
            return &table[i];
        }
    }
    return NULL;
}

const struct traits *traits_of_test(const struct suite_test *t)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        for (const struct suite_test *at = table[i].suite->tests; at->name; at++) {
            if (at == t) {
                return &table[i];
            }
        }
    }
    return NULL;
}

enum bnt_status traits_check(const struct suite *const *all)
{
    for (const struct suite *const *s = all; *s; s++) {
        if (!traits_of(*s)) {
            return bnt_msg_fail(BNT_E_FAILED, "state its traits in testkit/suites/traits.def",
                                "suite %s has no traits", (*s)->name);
        }
    }
    return BNT_OK;
}
