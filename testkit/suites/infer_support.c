/* `bnt infer` run inside the test's process: streams redirected into the scratch folder. */
#include "testkit/suites/infer_support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "engine/commands.h"
#include "testkit/suite.h"

volatile sig_atomic_t infer_interrupted;
const char *infer_model_kind = "real";

static enum bnt_status resolve(const struct bnt_app *app, const char *name,
                               struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    *out = (struct bnt_model_ref){.kind = infer_model_kind};
    return bnt_path_format(out->path, err, "%s", name != NULL ? name : suite_bundled_model());
}

static char *slurp(const char *path)
{
    struct bnt_buf b = BNT_BUF(64u << 20);
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    char *text = strdup(bnt_buf_view(&b));
    bnt_buf_release(&b);
    return text;
}

static int redirect(int fd, const char *path, int flags)
{
    int saved = dup(fd), file = open(path, flags, 0644);
    assert_true(saved >= 0 && file >= 0);
    assert_true(dup2(file, fd) == fd);
    close(file);
    return saved;
}

static void restore(int fd, int saved)
{
    dup2(saved, fd);
    close(saved);
}

struct infer_result infer_run(const char *input, const char *const *args)
{
    return infer_run_command(&bnt_cmd_infer, input, args);
}

struct infer_result infer_run_command(const struct bnt_cmd *command, const char *input,
                                      const char *const *args)
{
    char in[BNT_PATH_MAX], out[BNT_PATH_MAX], err[BNT_PATH_MAX];
    char *argv[64] = {(char *)(uintptr_t)command->name};
    int argc = 1;
    for (; args[argc - 1] != NULL; argc++) {
        assert_true(argc < 63);
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    }
    struct bnt_app app = {.interrupted = &infer_interrupted, .resolve_model = resolve};
    assert_int_equal(bnt_path_format(in, NULL, "%s/in", suite_scratch()), BNT_OK);
    assert_int_equal(bnt_path_format(out, NULL, "%s/out", suite_scratch()), BNT_OK);
    assert_int_equal(bnt_path_format(err, NULL, "%s/err", suite_scratch()), BNT_OK);
    FILE *f = fopen(in, "w");
    assert_non_null(f);
    fputs(input, f);
    fclose(f);
    fflush(stdout);
    fflush(stderr);
    assert_non_null(freopen(in, "r", stdin)); /* also forgets what an earlier run has read ahead */
    int saved_out = redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
    int saved_err = redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC);
    struct infer_result r = {.status = bnt_cmd_run(command, "bnt", &app, argc, argv)};
    fflush(stdout);
    fflush(stderr);
    restore(1, saved_out);
    restore(2, saved_err);
    r.out = slurp(out);
    r.err = slurp(err);
    r.json = json_loads(r.out, 0, NULL);
    return r;
}

void infer_drop(struct infer_result *r)
{
    free(r->out);
    free(r->err);
    json_decref(r->json);
}

void infer_expect(const struct infer_result *r, enum bnt_status status)
{
    if (r->status != status) {
        fail_msg("ended with %d, not %d: %s", (int)r->status, (int)status, r->err);
    }
}

void infer_fails(struct infer_result r, enum bnt_status status, const char *word)
{
    infer_expect(&r, status);
    if (strstr(r.err, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, r.err);
    }
    infer_drop(&r);
}

json_t *js_get(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL) {
        fail_msg("no key %s", key);
    }
    return v;
}

const char *js_text(const json_t *object, const char *key)
{
    return json_string_value(js_get(object, key));
}

int32_t js_id(const json_t *ids, size_t i)
{
    return (int32_t)json_integer_value(json_array_get(ids, i));
}

size_t js_count(const json_t *object, const char *key)
{
    return json_array_size(js_get(object, key));
}
