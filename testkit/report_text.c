/* Text of tests in reports: whatever its bytes, it stays text. What XML 1.0 forbids and what is no
 * UTF-8 is shown as \xHH, so that one rule serves JUnit, HTML and Markdown. */
#include <string.h>

#include "base/fault.h"
#include "base/utf8.h"
#include "testkit/report_writer.h"

/* Control codes past ASCII, and what turns the order of characters round: it would show a text that
 * is not there. */
static bool misleads(uint32_t c)
{
    return (c >= 0x80 && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

size_t report_sequence(const unsigned char *s)
{
    if (s[0] < 0x80) {
        return (s[0] >= 0x20 && s[0] != 0x7f) || s[0] == '\t' || s[0] == '\n' || s[0] == '\r';
    }
    const unsigned n = bnt_utf8_len(s, strnlen((const char *)s, 4));
    uint32_t c = s[0] & (0xffu >> (n + 1));
    for (unsigned i = 1; i < n; i++) {
        c = c << 6 | (s[i] & 0x3fu);
    }
    return c == 0xfffe || c == 0xffff || misleads(c) ? 0 : n;
}

void report_line(struct report_writer *w, const char *text, size_t max_bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < max_bytes && s[i];) {
        const bool shown = (s[i] >= ' ' || s[i] == '\t') && s[i] != 0x7f;
        const size_t n = BNT_FAULT(report_raw) ? 1 : shown ? report_sequence(s + i) : 0;
        if (n > 0) {
            report_bytes(w, s + i, n);
        } else {
            report_printf(w, "\\x%02x", s[i]);
        }
        i += n > 0 ? n : 1;
    }
}

void report_name(struct report_writer *w, const struct bnt_test *t)
{
    report_line(w, t->suite, SIZE_MAX);
    report_printf(w, "/");
    report_line(w, t->name, SIZE_MAX);
}

static const char *entity(unsigned char c, bool in_attribute)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '\r':
        return "&#13;";
    case '"':
        return in_attribute ? "&quot;" : NULL;
    case '\n':
        return in_attribute ? "&#10;" : NULL;
    case '\t':
        return in_attribute ? "&#9;" : NULL;
    default:
        return NULL;
    }
}

void report_markup(struct report_writer *w, const char *text, size_t max_bytes, bool in_attribute)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < max_bytes && s[i];) {
        size_t n = report_sequence(s + i);
        const char *as = n == 1 ? entity(s[i], in_attribute) : NULL;
        if (as) {
            report_printf(w, "%s", as);
        } else if (n > 0) {
            report_bytes(w, s + i, n);
        } else {
            report_printf(w, "\\x%02x", s[i]);
        }
        i += n > 0 ? n : 1;
    }
}

/* Characters that mean something somewhere in Markdown. '_' does so beside a blank alone: names of
 * tests stay readable. */
static bool is_markdown(const unsigned char *text, size_t i)
{
    if (text[i] == '_') {
        bool inside = i > 0 && text[i - 1] >= '0' && text[i + 1] >= '0';
        return !inside;
    }
    return text[i] < 0x80 && strchr("<>&|`*[]\\~#@!", text[i]) != NULL;
}

void report_markdown(struct report_writer *w, const char *text, size_t max_bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < max_bytes && s[i]) {
        size_t n = report_sequence(s + i);
        if (s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
            report_printf(w, " ");
        } else if (is_markdown(s, i)) {
            report_printf(w, "&#%u;", s[i]);
        } else if (n > 0) {
            report_bytes(w, s + i, n);
        } else {
            report_printf(w, "&#92;x%02x", s[i]);
        }
        i += n > 0 ? n : 1;
    }
    if (s[i]) {
        report_printf(w, " (%zu bytes more)", strlen(text + i));
    }
}

static size_t longest_run(const char *text, size_t max_bytes, char c)
{
    size_t longest = 0;
    size_t run = 0;
    for (size_t i = 0; i < max_bytes && text[i]; i++) {
        run = text[i] == c ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

static void report_fence(struct report_writer *w, size_t n)
{
    while (n-- > 0) {
        report_bytes(w, "`", 1);
    }
    report_printf(w, "\n");
}

/* The fence is longer than any run of its character in the text: nothing in it can end the block.
 */
void report_markdown_block(struct report_writer *w, const char *text, size_t max_bytes)
{
    size_t fence = longest_run(text, max_bytes, '`') + 1;
    fence = fence < 3 ? 3 : fence;
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    report_fence(w, fence);
    while (i < max_bytes && s[i]) {
        size_t n = report_sequence(s + i);
        if (n > 0 && s[i] != '\r') {
            report_bytes(w, s + i, n);
        } else {
            report_printf(w, "\\x%02x", s[i]);
        }
        i += n > 0 ? n : 1;
    }
    if (s[i]) {
        report_printf(w, "\n... %zu bytes more", strlen(text + i));
    }
    report_printf(w, "%s", i > 0 && s[i - 1] == '\n' && !s[i] ? "" : "\n");
    report_fence(w, fence);
}
