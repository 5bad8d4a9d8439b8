/* The declared half of the kill matrix; ci/check_faults.sh proves it. */
#include "testkit/suites/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/msg.h"

const char *faults_next_name(const char **at, size_t *len)
{
    *at += strspn(*at, " ");
    const char *word = *at;
    *len = strcspn(word, " ");
    *at += *len;
    return *len > 0 ? word : NULL;
}

static bool kills(const struct suite *s, enum bnt_fault which)
{
    const char *name = bnt_fault_name(which), *at = s->kills, *word;
    size_t len;
    while ((word = faults_next_name(&at, &len)) != NULL) {
        if (len == strlen(name) && memcmp(word, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool known(const char *word, size_t len)
{
    for (int i = 0; i < BNT_FAULTS_COUNT; i++) {
        const char *name = bnt_fault_name((enum bnt_fault)i);
        if (len == strlen(name) && memcmp(word, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static enum bnt_status check_suite(const struct suite *s)
{
    const char *at = s->kills ? s->kills : "", *word;
    size_t len, n = 0;
    for (; (word = faults_next_name(&at, &len)) != NULL; n++) {
        if (!known(word, len)) {
            return bnt_msg_fail(BNT_E_FAILED, "base/faults.def lists them",
                                "suite %s must kill '%.*s', and there is no such defect", s->name,
                                (int)len, word);
        }
    }
    return n > 0 ? BNT_OK
                 : bnt_msg_fail(BNT_E_FAILED, "plant a defect that it must see: base/fault.h",
                                "suite %s kills no planted defect", s->name);
}

enum bnt_status faults_check(const struct suite *const *all)
{
    enum bnt_status status = BNT_OK;
    for (const struct suite *const *s = all; *s && status == BNT_OK; s++) {
        status = check_suite(*s);
    }
    for (int i = 0; i < BNT_FAULTS_COUNT && status == BNT_OK; i++) {
        bool any = false;
        for (const struct suite *const *s = all; *s; s++) {
            any = any || kills(*s, (enum bnt_fault)i);
        }
        if (!any) {
            status = bnt_msg_fail(BNT_E_FAILED, "name it in a suite's kills",
                                  "no suite must kill %s", bnt_fault_name((enum bnt_fault)i));
        }
    }
    return status;
}

void faults_print(const struct suite *const *all)
{
    for (int i = 0; i < BNT_FAULTS_COUNT; i++) {
        for (const struct suite *const *s = all; *s; s++) {
            if (kills(*s, (enum bnt_fault)i)) {
                printf("%s\t%s\t%s\n", bnt_fault_name((enum bnt_fault)i), (*s)->name,
                       bnt_fault_what((enum bnt_fault)i));
            }
        }
    }
}
