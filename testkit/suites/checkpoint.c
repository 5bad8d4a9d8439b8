#include "testkit/suites/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/suite.h"

void cp_add(struct cp_made *m, const char *name, const char *dtype, const uint64_t shape[2],
            const void *numbers)
{
    const size_t width = strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "U8") == 0 ? 1 : 2;
    assert_true(m->n < CP_MAX_TENSORS);
    struct cp_tensor *t = &m->t[m->n++];
    *t = (struct cp_tensor){.dtype = dtype, .shape = {shape[0], shape[1]}};
    t->n = width * (size_t)(shape[0] * (shape[1] ? shape[1] : 1));
    t->bytes = malloc(t->n);
    assert_non_null(t->bytes);
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->bytes, numbers, t->n);
}

void cp_release(struct cp_made *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->t[i].bytes);
    }
    m->n = 0;
}

void cp_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void cp_text(const char *path, const char *text)
{
    cp_file(path, text, strlen(text));
}

/* Printable bytes of Latin-1 stand for themselves, the others for 256 and up, in order. */
void cp_byte_tokens(struct bnt_buf *json)
{
    unsigned next = 256;
    for (unsigned i = 0; i < 256; i++) {
        bool own = (i > 32 && i < 127) || (i > 160 && i != 173);
        bnt_buf_printf(json, NULL, "%s\"\\u%04x\":%u", i ? "," : "", own ? i : next, i);
        next += !own;
    }
}

void cp_write_shard(const struct cp_made *m, size_t from, size_t to, const char *name)
{
    struct bnt_buf header = BNT_BUF(1u << 20), file = BNT_BUF(64u << 20);
    size_t at = 0;
    char path[128];
    for (size_t i = from; i < to; i++) {
        const struct cp_tensor *t = &m->t[i];
        char shape[48];
        snprintf(shape, sizeof shape, t->shape[1] ? "%llu,%llu" : "%llu",
                 (unsigned long long)t->shape[0], (unsigned long long)t->shape[1]);
        bnt_buf_printf(&header, NULL,
                       "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                       i == from ? "{" : ",", t->name, t->dtype, shape, at, at + t->n);
        at += t->n;
    }
    bnt_buf_puts(&header, "}", NULL);
    uint64_t n = header.len;
    bnt_buf_append(&file, &n, sizeof n, NULL);
    bnt_buf_append(&file, header.data, header.len, NULL);
    for (size_t i = from; i < to; i++) {
        bnt_buf_append(&file, m->t[i].bytes, m->t[i].n, NULL);
    }
    snprintf(path, sizeof path, "ck/%s", name);
    cp_file(path, file.data, file.len);
    bnt_buf_release(&header);
    bnt_buf_release(&file);
}

void cp_write_shards(const struct cp_made *m)
{
    struct bnt_buf index = BNT_BUF(1u << 20);
    bnt_buf_puts(&index, "{\"weight_map\":{", NULL);
    for (size_t i = 0; i < m->n; i++) {
        bnt_buf_printf(&index, NULL, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", m->t[i].name,
                       i < m->n / 2 ? "one" : "two");
    }
    bnt_buf_puts(&index, "}}", NULL);
    cp_write_shard(m, 0, m->n / 2, "one.safetensors");
    cp_write_shard(m, m->n / 2, m->n, "two.safetensors");
    cp_file("ck/model.safetensors.index.json", index.data, index.len);
    bnt_buf_release(&index);
}
