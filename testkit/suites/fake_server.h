/* A scripted server, and the subject behind its address. Routes are made of the macros; the clock
 * is a fake one from fake_server_begin on. */
#ifndef BNT_SUITES_FAKE_SERVER_H
#define BNT_SUITES_FAKE_SERVER_H

#include "mock/bnt_mock.h"
#include "testkit/subject.h"

#define JSON(text) .status = 200, .body = (text), .body_bytes = sizeof(text) - 1

#define PROPS                                                                                      \
    {                                                                                              \
        .path = "/props",                                                                          \
        JSON("{\"default_generation_settings\": {\"n_ctx\": 64}, \"model_path\": \"/m/x.gguf\"}")  \
    }
#define MODELS                                                                                     \
    {                                                                                              \
        .path = "/v1/models", JSON("{\"data\": [{\"id\": \"x\", \"max_model_len\": 99,"            \
                                   " \"meta\": {\"n_vocab\": 10}}]}")                              \
    }
#define TOKENIZE                                                                                   \
    {                                                                                              \
        .path = "/tokenize", JSON("{\"tokens\": [1, 2]}")                                          \
    }

struct fake_server {
    struct bnt_mock_server *server;
    struct bnt_subject *subject;
};

struct bnt_mock_server *fake_server_start(const struct bnt_mock_route *routes);
/* `behind` goes after the address. */
enum bnt_status fake_server_open_at(const struct bnt_mock_server *s, const char *behind,
                                    struct bnt_subject **out, struct bnt_err *err);
struct fake_server fake_server_begin(const struct bnt_mock_route *routes);
void fake_server_end(struct fake_server *s);

extern const struct bnt_subject_request fake_server_hello;

/* The last question has that part. */
void fake_server_assert_asked(const struct fake_server *s, const char *part);

#endif
