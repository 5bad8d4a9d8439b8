"""What docs/examples/crossval_adapter.py needs of transformers. The model behind it is `bnt crossval
--serve` (the program is BNT_ADAPTER_BNT), so that the adapter must agree with bnt on every rung;
with BNT_ADAPTER_WRONG=1 the residual stream after layer 1, and with 2 one logit, is another."""
import json
import os
import subprocess
from types import SimpleNamespace

from torch import Tensor

BNT = os.environ["BNT_ADAPTER_BNT"]
WRONG = os.environ.get("BNT_ADAPTER_WRONG")


class Server:
    def __init__(self, path):
        self.process = subprocess.Popen([BNT, "crossval", "--serve", "-t", "1", "-m", path], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        return json.loads(self.process.stdout.readline())


class Tokenizer:
    eos_token_id = None

    def __init__(self, path):
        self.path, self.server = path, Server(path)

    def __call__(self, text, add_special_tokens):
        question = {"ask": "tokenize", "text": text, "add_special": add_special_tokens,
                    "parse_special": True}
        return {"input_ids": self.server.ask(question)["ids"]}

    def decode(self, ids):
        words = [BNT, "tokenize", "-m", self.path, "--decode", *map(str, ids)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Model:
    def __init__(self, path):
        self.server = Server(path)
        about = self.server.ask({"ask": "describe"})
        self.config = SimpleNamespace(vocab_size=about["n_vocab"],
                                      max_position_embeddings=about["n_ctx"])

    def eval(self):
        pass

    def hidden_states(self, ids):
        rows, row = {}, self.server.ask({"ask": "taps", "ids": ids})
        while "done" not in row:
            rows.setdefault((row["tap"], row["layer"]), []).append(row["values"])
            row = self.server.answer()
        layers = sorted(layer for tap, layer in rows if tap == "ffn_residual")
        states = [rows["embd", -1]] + [rows["ffn_residual", layer] for layer in layers[:-1]]
        if WRONG == "1":
            states[2][0] = [2 * v for v in states[2][0]]
        return [Tensor([state]) for state in states + [rows["output_norm", -1]]]

    def __call__(self, ids, output_hidden_states=False):
        ids = ids.tolist()[0]
        rows = [self.server.ask({"ask": "logits", "ids": ids})["logits"]]
        rows += [self.server.answer()["logits"] for _ in ids[1:]]
        if WRONG == "2":
            rows[-1][7] += 30
        return SimpleNamespace(logits=Tensor([rows]),
                               hidden_states=self.hidden_states(ids) if output_hidden_states
                               else None)


class AutoTokenizer:
    from_pretrained = Tokenizer


class AutoModelForCausalLM:
    @staticmethod
    def from_pretrained(path, torch_dtype):
        assert torch_dtype == "float32"
        return Model(path)
