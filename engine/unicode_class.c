/* Character classes beyond ASCII come from utf8proc, whose tables may be of an older Unicode than
 * the vocabularies were made with; the few characters that matter are added here. */
#include <utf8proc.h>

#include "engine/unicode.h"

static bool is_space(uint32_t cp)
{
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Assigned in Unicode 15.1: CJK extension I, and description characters. */
static uint32_t class_of_unassigned(uint32_t cp)
{
    if (cp >= 0x2ebf0 && cp <= 0x2ee5d) {
        return UNI_L;
    }
    if ((cp >= 0x2ffc && cp <= 0x2fff) || cp == 0x31ef) {
        return UNI_S;
    }
    return 0;
}

static uint32_t class_of_category(utf8proc_category_t category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UNI_L;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return UNI_M;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UNI_N;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return UNI_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return UNI_S;
    default:
        return 0;
    }
}

uint32_t uni_class_beyond(uint32_t cp)
{
    if (is_space(cp)) {
        return UNI_WS;
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)cp);
    return category == UTF8PROC_CATEGORY_CN ? class_of_unassigned(cp) : class_of_category(category);
}
