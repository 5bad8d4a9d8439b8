#!/usr/bin/env python3
"""A reference for `bnt crossval` by transformers: docs/crossval.md describes the protocol.

    bnt crossval -m model.gguf --reference-cmd 'python3 crossval_adapter.py CHECKPOINT'

CHECKPOINT is a folder or a name that transformers can load; it needs torch and transformers.
"""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Adapter:
    def __init__(self, checkpoint):
        self.name = checkpoint
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=torch.float32)
        self.model.eval()

    def forward(self, ids, **more):
        with torch.no_grad():
            return self.model(torch.tensor([ids]), **more)

    def describe(self, question):
        config = self.model.config
        yield {"engine": "transformers", "name": self.name, "n_vocab": config.vocab_size,
               "n_ctx": config.max_position_embeddings,
               "can": ["tokenize", "logits", "generate", "score", "taps"]}

    def tokenize(self, question):
        special = question.get("add_special", True)
        yield {"ids": self.tokenizer(question["text"], add_special_tokens=special)["input_ids"]}

    def logits(self, question):
        for index, row in enumerate(self.forward(question["ids"]).logits[0]):
            yield {"index": index, "logits": row.tolist()}

    def generate(self, question):
        ids, made, finish = list(question["ids"]), [], "length"
        began = time.monotonic()
        first = None
        while len(made) < question["max_tokens"]:
            best = int(self.forward(ids).logits[0, -1].argmax())
            first = first or time.monotonic()
            if best == self.tokenizer.eos_token_id:
                finish = "stop"
                break
            made.append(best)
            ids.append(best)
        first = first or time.monotonic()
        yield {"ids": made, "text": self.tokenizer.decode(made), "finish": finish,
               "prefill_seconds": first - began, "decode_seconds": time.monotonic() - first}

    def score(self, question):
        ids = question["ids"]
        rows = torch.log_softmax(self.forward(ids).logits[0].double(), dim=-1)
        yield {"sum": float(sum(rows[i, ids[i + 1]] for i in range(len(ids) - 1)))}

    def taps(self, question):
        """hidden_states: the embedding, then the residual stream after each layer; of the last
        layer it comes normed."""
        states = self.forward(question["ids"], output_hidden_states=True).hidden_states
        names = [("embd", -1)] + [("ffn_residual", i) for i in range(len(states) - 2)]
        for (name, layer), state in zip(names + [("output_norm", -1)], states):
            for position, row in enumerate(state[0]):
                yield {"tap": name, "layer": layer, "position": position, "values": row.tolist()}
        yield {"done": True}


def main():
    adapter = Adapter(sys.argv[1])
    asks = {name: getattr(adapter, name)
            for name in ("describe", "tokenize", "logits", "generate", "score", "taps")}
    for line in sys.stdin:
        try:
            question = json.loads(line)
            for answer in asks[question["ask"]](question):
                print(json.dumps(answer), flush=True)
        except Exception as error:  # every failure is an answer, so that the next question is read
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
