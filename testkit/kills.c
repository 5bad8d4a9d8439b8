#include "testkit/kills.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { KILLS_MAX_BYTES = 8 << 20 };

static bool is_verdict(const char *word)
{
    return strcmp(word, "killed") == 0 || strcmp(word, "survived") == 0 ||
           strcmp(word, "skipped") == 0;
}

/* Cut the line at its tabs; false when it has not the four fields. */
static bool take_line(char *line, struct kill_pair *out)
{
    const char **const fields[] = {&out->defect, &out->suite, &out->verdict, &out->test};
    for (size_t i = 0; i < 4; i++) {
        char *tab = strchr(line, '\t');
        if ((tab == NULL) != (i == 3)) {
            return false;
        }
        *fields[i] = line;
        if (tab) {
            *tab = '\0';
            line = tab + 1;
        }
    }
    return out->defect[0] && out->suite[0] && is_verdict(out->verdict);
}

static enum bnt_status take_lines(struct kills *k, const char *path, struct bnt_err *err)
{
    size_t n_lines = 1;
    for (const char *c = k->text; *c; c++) {
        n_lines += *c == '\n';
    }
    k->at = calloc(n_lines, sizeof *k->at);
    if (!k->at) {
        return bnt_err_nomem(err, path, n_lines);
    }
    for (char *line = k->text; *line;) {
        size_t len = strcspn(line, "\n");
        char *next = line + len + (line[len] == '\n');
        line[len] = '\0';
        if (!take_line(line, &k->at[k->n])) {
            bnt_err_hint(err, "give the kills.tsv that make check-faults wrote");
            return bnt_err_set(err, BNT_E_FILE, "%s:%zu: no line of a kill matrix", path, k->n + 1);
        }
        k->n++;
        line = next;
    }
    return BNT_OK;
}

enum bnt_status kills_read(const char *path, struct kills *out, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(KILLS_MAX_BYTES);
    enum bnt_status st = bnt_file_read(path, &text, err);
    if (st == BNT_OK && memchr(bnt_buf_view(&text), '\0', text.len)) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: no text", path);
    }
    if (st == BNT_OK && text.len > 0) {
        out->text = bnt_buf_take(&text);
        st = out->text ? take_lines(out, path, err) : bnt_err_nomem(err, path, 0);
    }
    bnt_buf_release(&text);
    return st;
}

void kills_release(struct kills *k)
{
    free(k->at);
    free(k->text);
    *k = (struct kills){0};
}
