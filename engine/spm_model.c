/* tokenizer.model of sentencepiece: a protocol buffer. Read here: ModelProto 1 (pieces: 1 text, 2
 * score, 3 type), 2 (trainer: 3 model type, 24 whether blanks end words, 40 to 43 ids of unknown,
 * start, end, padding) and 3 (normalizer: 2 a table of characters, 3 whether a blank goes in front,
 * 4 whether blanks are joined, 5 whether they are spelt as U+2581). Other fields are passed over by
 * their wire type.
 */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "engine/hf_vocab.h"

struct proto {
    const uint8_t *at, *end;
};

/* One field: a number, or bytes. */
struct field {
    uint32_t id;
    uint64_t value;
    struct proto bytes; /* of wire type 2; else at is NULL */
};

static bool read_varint(struct proto *p, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        uint8_t b = *p->at++;
        *out |= (uint64_t)(b & 127) << shift;
        if (b < 128) {
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct proto *p, unsigned width, uint64_t *out)
{
    *out = 0;
    if ((size_t)(p->end - p->at) < width) {
        return false;
    }
    for (unsigned i = 0; i < width; i++) {
        *out |= (uint64_t)*p->at++ << 8 * i;
    }
    return true;
}

/* False at the end, and when what comes is no field; then p->at is not p->end. */
static bool next_field(struct proto *p, struct field *f)
{
    const uint8_t *start = p->at;
    uint64_t tag, n;
    bool ok = p->at < p->end && read_varint(p, &tag) && tag >> 3 != 0 && tag >> 35 == 0;
    *f = (struct field){.id = ok ? (uint32_t)(tag >> 3) : 0};
    switch (ok ? tag & 7 : 7) {
    case 0:
        ok = read_varint(p, &f->value);
        break;
    case 1:
        ok = read_fixed(p, 8, &f->value);
        break;
    case 5:
        ok = read_fixed(p, 4, &f->value);
        break;
    case 2:
        ok = read_varint(p, &n) && n <= (size_t)(p->end - p->at);
        f->bytes = (struct proto){p->at, ok ? p->at + n : p->at};
        p->at = f->bytes.end;
        break;
    default:
        ok = false;
        break;
    }
    p->at = ok ? p->at : start;
    return ok;
}

static enum bnt_status bad(struct bnt_err *err, const char *what)
{
    bnt_err_hint(err, "a tokenizer.model of sentencepiece is read; LLaMA 3 has a list of ranks "
                      "under this name, beside which tokenizer.json must lie");
    return bnt_err_set(err, BNT_E_FILE, "%s", what);
}

static enum bnt_status read_piece(struct proto p, struct hf_vocab *v, int64_t id,
                                  struct bnt_err *err)
{
    struct field f;
    struct proto text = {NULL, NULL};
    uint32_t bits = 0;
    uint64_t type = HF_TOKEN_NORMAL;
    while (next_field(&p, &f)) {
        if (f.id == 1 && f.bytes.at) {
            text = f.bytes;
        } else if (f.id == 2 && !BNT_FAULT(piece_score)) {
            bits = (uint32_t)f.value;
        } else if (f.id == 3) {
            type = f.value;
        }
    }
    if (p.at != p.end || !text.at || type < HF_TOKEN_NORMAL || type > HF_TOKEN_BYTE) {
        return bad(err, "a piece is malformed");
    }
    enum bnt_status st = hf_vocab_set(v, id, (const char *)text.at, (size_t)(text.end - text.at),
                                      (int32_t)type, err);
    if (st == BNT_OK) {
        memcpy(&v->tokens[id].score, &bits, sizeof bits);
    }
    return st;
}

/* An id as sentencepiece has it: 32 bits, negative for none. */
static int64_t id_of(uint64_t value)
{
    return (int32_t)(uint32_t)value;
}

static enum bnt_status read_trainer(struct proto p, struct hf_vocab *v, struct bnt_err *err)
{
    enum { BPE = 2, UNIGRAM = 1 };
    struct field f;
    uint64_t model = UNIGRAM, suffix = 0;
    v->unk = 0; /* defaults of the format */
    v->bos = 1;
    v->eos = 2;
    while (next_field(&p, &f)) {
        model = f.id == 3 ? f.value : model;
        suffix = f.id == 24 ? f.value : suffix;
        v->unk = f.id == 40 ? id_of(f.value) : v->unk;
        v->bos = f.id == 41 ? id_of(f.value) : v->bos;
        v->eos = f.id == 42 ? id_of(f.value) : v->eos;
        v->pad = f.id == 43 ? id_of(f.value) : v->pad;
    }
    if (p.at != p.end) {
        return bad(err, "the trainer's part is malformed");
    }
    if (suffix) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "a sentencepiece model whose blanks end words is not known here");
    }
    return model == BPE
               ? BNT_OK
               : bnt_err_set(err, BNT_E_UNSUPPORTED,
                             "a sentencepiece model of kind %llu is not known here: BPE is",
                             (unsigned long long)model);
}

static enum bnt_status read_normalizer(struct proto p, struct hf_vocab *v, struct bnt_err *err)
{
    struct field f;
    bool joins = true, maps = false, spells = true; /* defaults of the format */
    while (next_field(&p, &f)) {
        v->no_space_prefix = f.id == 3 ? f.value == 0 : v->no_space_prefix;
        joins = f.id == 4 ? f.value != 0 : joins;
        spells = f.id == 5 ? f.value != 0 : spells;
        maps = maps || (f.id == 2 && f.bytes.end > f.bytes.at);
    }
    if (!spells) {
        return bnt_err_set(
            err, BNT_E_UNSUPPORTED,
            "a sentencepiece model that does not spell blanks as U+2581 is not known "
            "here");
    }
    if (joins || maps) {
        snprintf(v->rewritten, sizeof v->rewritten, "%s%s%s",
                 joins ? "several blanks become one" : "", joins && maps ? ", " : "",
                 maps ? "characters are replaced by a table" : "");
    }
    return p.at == p.end ? BNT_OK : bad(err, "the normalizer's part is malformed");
}

enum bnt_status spm_model_read(const uint8_t *bytes, size_t n, struct hf_vocab *v,
                               struct bnt_err *err)
{
    struct proto p = {bytes, bytes + n};
    struct field f;
    enum bnt_status st = BNT_OK;
    int64_t id = 0;
    unsigned parts = 0; /* bit 2: the trainer's; 3: the normalizer's: in every file that is whole */
    v->spm = true;
    while (st == BNT_OK && next_field(&p, &f)) {
        parts |= f.id < 4 ? 1u << f.id : 0;
        if (f.id <= 3 && !f.bytes.at) {
            return bad(err, "it is no sentencepiece model");
        }
        st = f.id == 1   ? read_piece(f.bytes, v, id++, err)
             : f.id == 2 ? read_trainer(f.bytes, v, err)
             : f.id == 3 ? read_normalizer(f.bytes, v, err)
                         : BNT_OK;
    }
    if (st == BNT_OK && (p.at != p.end || id == 0)) {
        return bad(err, "it is no sentencepiece model");
    }
    return st != BNT_OK || parts == (1u << 1 | 1u << 2 | 1u << 3)
               ? st
               : bad(err, "a part of the sentencepiece model is missing");
}
