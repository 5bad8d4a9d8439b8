/* What the files of the subject `http` share: subject_http.c has the exchange with the server and
 * finds out what it speaks; subject_llama.c and subject_openai.c are the two protocols.
 *
 * Nothing that a server sends is trusted: a member that is missing, of another type or out of its
 * range is an error that names it. */
#ifndef BNT_SUBJECT_HTTP_H
#define BNT_SUBJECT_HTTP_H

#include <jansson.h>

#include "testkit/subject.h"

#define HTTP_ADDRESS_MAX 1024
#define HTTP_KEY_MAX 2048

struct http_subject;

struct http_protocol {
    enum bnt_status (*tokenize)(struct http_subject *s, const char *text, size_t len,
                                unsigned flags, struct bnt_ids *out, struct bnt_err *err);
    enum bnt_status (*generate)(struct http_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err);
    enum bnt_status (*row)(struct http_subject *s, const struct bnt_subject_request *r, uint32_t at,
                           struct bnt_row *out, struct bnt_err *err);
};

/* Where a llama-server tells the ids of its answers. */
enum http_ids {
    HTTP_IDS_NONE,
    HTTP_IDS_PLAIN,   /* in "tokens" of /completion: today's */
    HTTP_IDS_PIECES,  /* as texts of /completion, whose ids /tokenize lists: bitnet.cpp */
    HTTP_IDS_CONTENT, /* in the log-probabilities of /v1/completions: ik_llama.cpp */
};

/* How the rows of a server add up: one version of ik_llama.cpp counts what is not in the row twice,
 * so that all probabilities are too small. */
enum http_rest { HTTP_REST_UNKNOWN, HTTP_REST_ONCE, HTTP_REST_TWICE };

/* The texts of a vocabulary, as a server of HTTP_IDS_PIECES shows them. */
struct http_pieces {
    char **at; /* by id; NULL while it was not asked for */
    size_t n;
    int32_t *by_text; /* ids in the order of their texts */
};

struct http_subject {
    struct bnt_subject base;
    const struct http_protocol *protocol;
    char url[HTTP_ADDRESS_MAX]; /* without a slash at its end */
    char name[256];             /* of the model */
    char key[HTTP_KEY_MAX];     /* "": none */
    uint32_t n_vocab, n_ctx;    /* 0: not known */
    unsigned can;
    enum http_ids ids_by;
    enum http_rest rest;
    struct http_pieces pieces;
    uint32_t timeout_ms, max_attempts;
    const volatile sig_atomic_t *interrupted; /* of the request at hand, if it has one, else of the
                                                 options it was opened with; may be NULL */
};

/* GET without a question, else POST; the question is taken (NULL: out of memory, by `posts`).
 * *answer is an object, for the caller to release. Errors: as bnt_subject_open_http. */
struct http_question {
    const char *path; /* "/props" */
    bool posts;
    json_t *body;
    size_t answer_max_bytes; /* 0: ASK_BODY_MAX_BYTES */
    bool once;               /* a server in trouble is not asked again */
    bool streams;            /* asks for events, and the answer is {"events": [object, ...]} */
};
enum bnt_status subject_http_ask(const struct http_subject *s, struct http_question q,
                                 json_t **answer, struct bnt_err *err);
/* INFERENCE: what the server sent cannot be. */
enum bnt_status subject_http_bad(const struct http_subject *s, const char *path, const char *what,
                                 struct bnt_err *err);

/* An id of this server's vocabulary, or false. */
bool subject_http_id(const struct http_subject *s, const json_t *value, int32_t *id);
/* A list of ids, appended to out. */
enum bnt_status subject_http_ids(const struct http_subject *s, const char *path, const json_t *list,
                                 struct bnt_ids *out, struct bnt_err *err);
/* The text of the answer: none of the stop strings of the request is in it. */
enum bnt_status subject_http_text(const struct http_subject *s, const char *path,
                                  const json_t *value, const struct bnt_subject_request *r,
                                  struct bnt_subject_answer *out, struct bnt_err *err);
/* A whole number of 0 to UINT32_MAX; 0 for anything else. */
uint32_t subject_http_count(const json_t *value);
/* A list for a question; NULL: out of memory, or a text that is no UTF-8. */
json_t *subject_http_stops(const struct bnt_subject_request *r);
/* UNSUPPORTED for a text that is no UTF-8: JSON cannot carry it. */
enum bnt_status subject_http_utf8(const char *text, size_t len, struct bnt_err *err);
/* Index of the stop string, or -1. */
int subject_http_stop_index(const struct bnt_subject_request *r, const json_t *text);

/* The id whose text this is, or -1 when there is none or more than one. The vocabulary is asked for
 * at the first call. */
enum bnt_status http_pieces_find(struct http_subject *s, const char *text, int32_t *id,
                                 struct bnt_err *err);
void http_pieces_release(struct http_pieces *p);

/* llama-server's question of a completion; the prompt is taken. NULL: out of memory. */
json_t *subject_llama_body(const struct bnt_subject_request *r, json_t *prompt);
/* Which way this server tells ids, once it has answered one token of the greedy answer to `prompt`.
 */
enum bnt_status subject_llama_ids_by(struct http_subject *s, const struct bnt_ids *prompt,
                                     const json_t *answer, struct bnt_err *err);
/* The ids of an answer to r, the end token included, into out->made.ids; out->prompt_ids is the
 * prompt. out->ids_end_early tells that the server does not tell all. */
enum bnt_status subject_llama_ids(struct http_subject *s, const struct bnt_subject_request *r,
                                  const json_t *answer, struct bnt_subject_answer *out,
                                  struct bnt_err *err);
/* The table's row of llama-server's protocol. */
enum bnt_status subject_llama_row(struct http_subject *s, const struct bnt_subject_request *r,
                                  uint32_t at, struct bnt_row *out, struct bnt_err *err);

/* Whether it is that server, by /props; when it is, s is filled. */
enum bnt_status subject_llama_detect(struct http_subject *s, bool *is, struct bnt_err *err);
/* s is filled from /v1/models; s->name is the model that the address names, or "". */
enum bnt_status subject_openai_detect(struct http_subject *s, struct bnt_err *err);

#endif
