/* The scanners that pre-tokenizers are put together from. Regular expressions in the comments are
 * what each is exactly equal to, with \p{..} and \s as in unicode.h. */
#ifndef BNT_PRETOK_SCAN_H
#define BNT_PRETOK_SCAN_H

#include "engine/pretok.h"

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ ; rule is not used. */
pretok_match_fn pretok_match_gpt2;

/* Words in the manner of the LLaMA-3 expression:
 *   C|WORD|\p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+TAIL|\s*[\r\n]+|\s+(?!\S)|\s+
 *   C: '(s|t|re|ve|m|ll|d), either case */
struct pretok_words {
    pretok_match_fn *word;  /* one of pretok_word_*, with this struct as its rule */
    uint32_t letters;       /* classes that words are made of: UNI_L, perhaps with UNI_M */
    unsigned max_digits;    /* 0: any number */
    const char *tail;       /* TAIL: a run of these, or "" */
    bool tail_once;         /* TAIL: one of these at most */
    bool contraction_first; /* C comes first */
    bool contraction_last;  /* no C there, but WORD ends with (C)? (cased and Han words) */
    bool cased;             /* cased words: the case of ASCII letters counts */
    bool marks_are_words;   /* punctuation stops at \p{M} too */
};
pretok_match_fn pretok_match_words;
/* [^\r\n\p{L}\p{N}]?LETTERS+ */
pretok_match_fn pretok_word_plain;
/* [^\r\n\p{L}\p{N}]?U*V+C?|[^\r\n\p{L}\p{N}]?U+V*C? with U = LETTERS but a-z and V = LETTERS but
 * A-Z if cased */
pretok_match_fn pretok_word_cased;
/* [^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ */
pretok_match_fn pretok_word_phrase;
/* \p{Han}+|[^\r\n\p{L}\p{N}]?LETTERS+C? with letters that are not Han */
pretok_match_fn pretok_word_han;

/* LLaMA-3 words (rule pretok_llama3) where runs of white space are cut in powers of two, 512 first.
 */
extern const struct pretok_words pretok_llama3;
pretok_cut_fn pretok_cut_space_powers;

/* [!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
 * ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
pretok_match_fn pretok_match_deepseek;

/* (SPACE)[CLASSES + ASCII]{min,max} */
struct pretok_run {
    uint32_t classes;
    const char *ascii; /* further characters of the set; NULL: none */
    unsigned min,
        max;    /* max 0: no limit; min characters must be there (when 1 < min, min == max) */
    bool space; /* \s? in front */
};
pretok_match_fn pretok_match_run;

/* Sets given by code points. White space outside ASCII never belongs to them. */
struct pretok_range {
    uint32_t lo, hi;
};
struct pretok_set {
    const struct pretok_range *ranges; /* ascending */
    size_t n;
    enum {
        PRETOK_LEAD_NONE,
        PRETOK_LEAD_BLANK,
        PRETOK_LEAD_SPACE
    } lead;       /* nothing, ' '? or \s? in front */
    bool negated; /* all but these and white space */
};
pretok_match_fn pretok_match_set; /* (LEAD)[SET]+ */
pretok_match_fn pretok_match_youtu_sets;
extern const struct pretok_set pretok_set_western, pretok_set_marks, pretok_set_cjk_wide,
    pretok_set_cjk_kana, pretok_set_asian, pretok_set_not_stops;

pretok_match_fn pretok_match_sentinel; /* <sentinel:[0-9]+> */
pretok_match_fn pretok_match_image;    /* IMGIMG[A-I]{1,4}Z */
pretok_match_fn pretok_match_blanks;   /* [\t\n]|four blanks|two blanks */

pretok_cut_fn pretok_cut_trailing_space; /* \s+$ */
pretok_cut_fn pretok_cut_lines;          /* [^\n]+|\n+ */
pretok_cut_fn pretok_cut_thousands;      /* (?=([0-9]{3})+(?![0-9])) */
/* Numbers in threes from the right; the text in front of a number stays with its first part. */
pretok_cut_fn pretok_cut_numbers_right;

#endif
