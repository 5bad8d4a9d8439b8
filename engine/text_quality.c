/* Words, their order, and what they are about. A text is read once into an array of words, which
 * point into it. */
#include "engine/text_quality.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

enum { WINDOW = 4, LONGEST = 24, NAME_WEIGHT = 3 };

/* Kinds of words whose order English fixes. */
enum kind { CONTENT, DET, PREP, CONJ, AUX, SUBJ, OBJ, OTHER };

static const struct {
    enum kind kind;
    const char *words; /* each between blanks */
} kinds[] = {
    {DET, " a an the my your our its their every "},
    {PREP, " of at with from into onto for by upon among toward towards during "},
    {CONJ, " and but or because if when while although unless "},
    {AUX,
     " is was are were am has had have do does did can could will would shall should may might "
     "must be been being "},
    {SUBJ, " i he she we they "},
    {OBJ, " him them me us "},
    {OTHER, " to in on up out as so not no it you that this these those his her what who which how "
            "why where there here then than very too also just about after before over under off "
            "down all some any one only again more most other such once "},
};

struct word {
    const char *at;
    size_t len;
    enum kind kind;
    bool ends;    /* a sentence ends behind it, and not in a quotation that may go on */
    bool capital; /* it begins with a capital letter, a digit or no ASCII letter */
};

struct words {
    struct word *at;
    size_t n;
    size_t chunks,
        broken; /* between blanks, of letters or digits at all; those that are no words */
};

static bool is_letter(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Letter by letter without regard to case. */
static bool same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (tolower((unsigned char)a[i]) != tolower((unsigned char)b[i])) {
            return false;
        }
    }
    return true;
}

static enum kind kind_of(const char *word, size_t len)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (const char *p = kinds[k].words + 1; *p;) {
            size_t n = strcspn(p, " ");
            if (n == len && same(p, word, n)) {
                return kinds[k].kind;
            }
            p += n + 1;
        }
    }
    return CONTENT;
}

/* Letters with a vowel among them, or a number: what can be said aloud. */
static bool is_word(const char *at, size_t len)
{
    size_t digits = 0, vowels = 0, odd = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)at[i];
        digits += isdigit(c) != 0;
        vowels += c >= 0x80 || strchr("aeiouyAEIOUY", c) != NULL;
        odd += !is_letter(at[i]) && c != '\'' && c != '-' && c != '.' && c != ',';
    }
    return odd == 0 && len <= LONGEST &&
           (digits == len || (digits == 0 && (vowels > 0 || len <= 2)) || (digits > 0 && len <= 6));
}

/* One chunk between blanks: a word, with what stands around it; or hyphenated ones as one. */
static void add_chunk(struct words *w, const char *at, size_t len)
{
    size_t first = 0, end = len;
    while (first < len && !is_letter(at[first])) {
        first++;
    }
    while (end > first && !is_letter(at[end - 1])) {
        end--;
    }
    bool ends = memchr(".!?", at[len - 1], 3) != NULL;
    if (first == end) {
        if (w->n > 0) {
            w->at[w->n - 1].ends = ends; /* a full stop that stands alone */
        }
        w->broken += len > 3; /* a dash is none, a row of signs is a broken word */
        w->chunks += len > 3;
        return;
    }
    w->chunks++;
    w->broken += !is_word(at + first, end - first);
    w->at[w->n++] = (struct word){.at = at + first,
                                  .len = end - first,
                                  .kind = kind_of(at + first, end - first),
                                  .ends = ends,
                                  .capital = !islower((unsigned char)at[first])};
}

static enum bnt_status read_words(const char *text, size_t len, struct words *out,
                                  struct bnt_err *err)
{
    *out = (struct words){.at = malloc((len / 2 + 1) * sizeof *out->at)};
    if (!out->at) {
        return bnt_err_nomem(err, "the words of a text", (len / 2 + 1) * sizeof *out->at);
    }
    for (size_t i = 0; i < len;) {
        size_t n = 0;
        while (i + n < len && !isspace((unsigned char)text[i + n]) && text[i + n] != '\0') {
            n++;
        }
        if (n > 0) {
            add_chunk(out, text + i, n);
        }
        i += n + 1;
    }
    return BNT_OK;
}

/* ---- coherence ---- */

/* Whether `next` cannot stand behind `word` in English; *tells: whether the pair could have told.
 */
static bool out_of_order(const struct word *word, const struct word *next, bool *tells)
{
    enum kind k = next->kind;
    *tells = word->ends || word->kind == DET || word->kind == PREP || word->kind == SUBJ;
    if (word->ends && !next->capital) {
        return true;
    }
    if (word->kind == DET) {
        return word->ends || k == DET || k == PREP || k == CONJ || k == AUX || k == SUBJ ||
               k == OBJ;
    }
    if (word->kind == PREP) {
        return !word->ends && (k == CONJ || k == AUX || k == SUBJ);
    }
    return word->kind == SUBJ && !word->ends && (k == DET || k == PREP || k == OBJ || k == SUBJ);
}

static double order(const struct words *w)
{
    size_t told = 0, wrong = 0;
    for (size_t i = 0; i + 1 < w->n; i++) {
        bool tells;
        wrong += out_of_order(&w->at[i], &w->at[i + 1], &tells);
        told += tells;
    }
    double share = (double)wrong / (double)(told > 4 ? told : 4);
    return BNT_FAULT(word_order) || share <= 0 ? 1 : share >= 1.0 / 3 ? 0 : 1 - 3 * share;
}

/* Sentences are held together by small words; a list of nouns is none. */
static double grammar(const struct words *w)
{
    size_t small = 0;
    for (size_t i = 0; i < w->n; i++) {
        small += w->at[i].kind != CONTENT;
    }
    double share = (double)small / (double)w->n;
    return w->n < 12 || share >= 0.2 ? 1 : share / 0.2;
}

static double coherence(const struct words *w)
{
    if (w->n == 0) {
        return 0;
    }
    return (1 - (double)w->broken / (double)w->chunks) * order(w) * grammar(w);
}

/* ---- repetition ---- */

static bool same_word(const struct word *a, const struct word *b)
{
    return a->len == b->len && same(a->at, b->at, a->len);
}

static int compare_windows(const void *a, const void *b)
{
    const struct word *x = *(const struct word *const *)a, *y = *(const struct word *const *)b;
    for (int i = 0; i < WINDOW; i++) {
        size_t n = x[i].len < y[i].len ? x[i].len : y[i].len;
        for (size_t k = 0; k < n; k++) {
            int d = tolower((unsigned char)x[i].at[k]) - tolower((unsigned char)y[i].at[k]);
            if (d != 0) {
                return d;
            }
        }
        if (x[i].len != y[i].len) {
            return x[i].len < y[i].len ? -1 : 1;
        }
    }
    return 0;
}

static enum bnt_status repetition(const struct words *w, double *out, struct bnt_err *err)
{
    *out = 0;
    if (w->n < WINDOW) {
        return BNT_OK;
    }
    size_t n = w->n - WINDOW + 1, repeated = 0;
    const struct word **windows = malloc(n * sizeof *windows);
    if (!windows) {
        return bnt_err_nomem(err, "the windows of a text", n * sizeof *windows);
    }
    for (size_t i = 0; i < n; i++) {
        windows[i] = &w->at[i];
    }
    qsort(windows, n, sizeof *windows, compare_windows);
    for (size_t i = 1; i < n; i++) {
        repeated += compare_windows(&windows[i - 1], &windows[i]) == 0;
    }
    free(windows);
    *out = (double)repeated / (double)n;
    return BNT_OK;
}

/* ---- relevance ---- */

/* Forms of one word: equal but for an ending of at most three letters ("climb", "climbed"). */
static bool akin(const struct word *a, const struct word *b)
{
    size_t shorter = a->len < b->len ? a->len : b->len, longer = a->len + b->len - shorter;
    size_t stem =
        shorter > 4 && longer - shorter > 0 ? shorter - 1 : shorter; /* "story, stories" */
    return same_word(a, b) || (shorter >= 3 && longer - shorter <= 3 && same(a->at, b->at, stem));
}

static bool stands_in(const struct words *w, size_t n, const struct word *word)
{
    for (size_t i = 0; i < n; i++) {
        if (akin(&w->at[i], word)) {
            return true;
        }
    }
    return false;
}

/* How much a word of the prompt counts: names are what most of a text is about. */
static size_t weight(const struct words *prompt, size_t i)
{
    const struct word *p = &prompt->at[i];
    if (p->kind != CONTENT || p->len < 3 || stands_in(prompt, i, p)) {
        return 0;
    }
    bool name = p->capital && i > 0 && !prompt->at[i - 1].ends;
    return name ? NAME_WEIGHT : 1;
}

/* A third of what the prompt is about is enough. */
static double relevance(const struct words *prompt, const struct words *answer)
{
    size_t wanted = 0, found = 0;
    for (size_t i = 0; i < prompt->n; i++) {
        size_t w = weight(prompt, i);
        wanted += w;
        found += w > 0 && stands_in(answer, answer->n, &prompt->at[i]) ? w : 0;
    }
    size_t enough = (wanted + 2) / 3;
    return found >= enough ? 1 : (double)found / (double)enough;
}

enum bnt_status bnt_text_quality(const char *text, size_t len, const char *prompt,
                                 size_t prompt_len, struct bnt_text_quality *out,
                                 struct bnt_err *err)
{
    struct words answer = {0}, asked = {0};
    *out = (struct bnt_text_quality){0};
    enum bnt_status st = read_words(text, len, &answer, err);
    if (st == BNT_OK) {
        st = read_words(prompt, prompt_len, &asked, err);
    }
    if (st == BNT_OK) {
        st = repetition(&answer, &out->repetition, err);
    }
    if (st == BNT_OK) {
        out->n_words = answer.n;
        out->coherence = coherence(&answer);
        out->relevance = answer.n > 0 ? relevance(&asked, &answer) : 0;
    }
    free(answer.at);
    free(asked.at);
    return st;
}
