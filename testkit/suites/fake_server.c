/* The scripted server of the suites of the subject `http`. */
#include "testkit/suites/fake_server.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/suite.h"

struct bnt_mock_server *fake_server_start(const struct bnt_mock_route *routes)
{
    struct bnt_mock_server *s = NULL;
    assert_int_equal(bnt_mock_server_start(routes, NULL, &s, NULL), BNT_OK);
    return s;
}

enum bnt_status fake_server_open_at(const struct bnt_mock_server *s, const char *behind,
                                    struct bnt_subject **out, struct bnt_err *err)
{
    char address[256];
    const struct bnt_subject_options opts = {.http_timeout_ms = 2000, .http_max_attempts = 2};
    snprintf(address, sizeof address, "%s%s", bnt_mock_server_url(s), behind);
    return bnt_subject_open(NULL, address, &opts, out, err);
}

struct fake_server fake_server_begin(const struct bnt_mock_route *routes)
{
    struct fake_server s = {.server = fake_server_start(routes)};
    struct bnt_err err = {0};
    bnt_clock_fake(1000000000000);
    if (fake_server_open_at(s.server, "/v1/", &s.subject, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return s;
}

void fake_server_end(struct fake_server *s)
{
    bnt_subject_close(s->subject);
    bnt_mock_server_stop(s->server);
}

const struct bnt_subject_request fake_server_hello = {
    .prompt = "Hello", .prompt_len = 5, .max_tokens = 8};

void fake_server_assert_asked(const struct fake_server *s, const char *part)
{
    char body[4096];
    bnt_mock_server_last_body(s->server, body, sizeof body);
    if (!strstr(body, part)) {
        fail_msg("the server was not asked for %s: %s", part, body);
    }
}
