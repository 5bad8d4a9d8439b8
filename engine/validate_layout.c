/* Where the tensors lie, and what kinds of machine can make of the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/validate_impl.h"

#define WASM_MEMORY_BYTES (1ull << 32) /* all that a 32-bit module can address */
#define WORKING_BYTES (64ull << 20)    /* program, scratch and a small KV cache */
#define VECTOR_BYTES 32u

bool validate_all_placed(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].size == 0) {
            return false;
        }
    }
    return true;
}

/* End of the data that tensors have, padded as a writer pads the last one. */
static uint64_t end_of_data(const struct gguf *g)
{
    uint64_t end = g->data_offset;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        end = t->size && t->offset + t->size > end ? t->offset + t->size : end;
    }
    return end;
}

static void check_rest(struct validate *v)
{
    uint64_t end = end_of_data(v->g), padded = end;
    bnt_align_u64(end, v->g->alignment, &padded);
    if (validate_all_placed(v->g) && v->g->file_size > padded) {
        struct validate_place at = {.offset = &end};
        validate_add(v, VALIDATE_PADDING, &at, "%llu bytes after the last tensor",
                     (unsigned long long)(v->g->file_size - end));
    }
}

/* ggml places the tensors itself, one after the other, and refuses a file that says otherwise. */
static void check_order(struct validate *v)
{
    uint64_t expected = v->g->data_offset;
    for (uint64_t i = 0; i < v->g->n_tensors; i++) {
        const struct gguf_tensor *t = &v->g->tensors[i];
        if (t->offset != expected) {
            struct validate_place at = validate_at_tensor(t);
            validate_add(v, VALIDATE_READER, &at,
                         "tensor %.*s begins at byte %llu; llama.cpp expects it at %llu, right "
                         "behind the one before",
                         (int)t->name.len, t->name.data, (unsigned long long)t->offset,
                         (unsigned long long)expected);
            return;
        }
        if (!bnt_align_u64(t->offset + t->size, v->g->alignment, &expected)) {
            return;
        }
    }
}

/* Types that only bitnet.cpp or ik_llama.cpp has numbers for. */
static void check_types(struct validate *v)
{
    for (uint64_t i = 0; i < v->g->n_tensors; i++) {
        const struct gguf_tensor *t = &v->g->tensors[i];
        const char *maker = tensor_type_maker(t->type);
        if (maker) {
            struct validate_place at = validate_at_tensor(t);
            validate_add(v, VALIDATE_READER, &at,
                         "tensors are %s (first: %.*s), a type of %s that llama.cpp does not read",
                         tensor_type_info((uint32_t)t->type)->name, (int)t->name.len, t->name.data,
                         maker);
            return;
        }
    }
}

void validate_layout(struct validate *v)
{
    check_rest(v);
    if (v->o->profile != VALIDATE_LLAMA_CPP || !validate_all_placed(v->g)) {
        return;
    }
    check_order(v);
    check_types(v);
    const struct gguf_kv *kv = gguf_find(v->g, "general.alignment");
    struct validate_place at = validate_at_key("general.alignment");
    if (kv && kv->type != GGUF_U32) {
        validate_add(v, VALIDATE_READER, &at, "general.alignment is %s; llama.cpp wants u32",
                     gguf_value_type_name(kv->type));
    }
}

/* ---- platforms ---- */

static bool all_aligned(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].offset % VECTOR_BYTES != 0) {
            return false;
        }
    }
    return true;
}

static void say(struct validate_platform *p, const char *text)
{
    size_t n = strlen(p->note);
    snprintf(p->note + n, sizeof p->note - n, "%s%s", n ? "; " : "", text);
}

static void describe(const struct gguf *g, struct validate_platform *p, bool wasm)
{
    uint64_t need = g->file_size + g->data_offset * 3 + WORKING_BYTES;
    p->byte_order = !g->big_endian;
    p->alignment = all_aligned(g);
    p->size = !wasm || need <= WASM_MEMORY_BYTES;
    p->mapped = !wasm && p->byte_order;
    p->fits = p->size;
    if (!p->byte_order) {
        say(p, "big-endian: every tensor is converted into memory of its own");
    }
    if (!p->alignment) {
        say(p, "tensors cross the borders of vectors: slower reads");
    }
    if (wasm) {
        say(p, p->size ? "no memory map: the whole file is read into linear memory"
                       : "larger than the 4 GiB that a module can address");
    }
}

void validate_platforms(struct validate *v)
{
    static const char *const names[VALIDATE_N_PLATFORMS] = {"x86-64", "aarch64", "wasm32"};
    bool tl1 = gguf_has_type(v->g, TENSOR_TL1), tl2 = gguf_has_type(v->g, TENSOR_TL2);
    for (int i = 0; i < VALIDATE_N_PLATFORMS; i++) {
        struct validate_platform *p = &v->report->platforms[i];
        p->name = names[i];
        describe(v->g, p, i == 2);
        if (tl1 && i != 1) {
            say(p, "TL1 is packed for aarch64: converted on load");
        }
        if (tl2 && i != 0) {
            say(p, "TL2 is packed for x86-64: converted on load");
        }
    }
}
