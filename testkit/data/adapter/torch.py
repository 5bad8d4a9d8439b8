"""What docs/examples/crossval_adapter.py needs of torch, in plain lists: for a test of the adapter on
machines that have no torch."""
import contextlib
import math

float32 = "float32"


class Tensor:
    def __init__(self, values):
        self.values = values

    def __getitem__(self, key):
        values = self.values
        for k in key if isinstance(key, tuple) else (key,):
            values = values[k]
        return Tensor(values) if isinstance(values, list) else values

    def __iter__(self):
        return (Tensor(v) for v in self.values)

    def __len__(self):
        return len(self.values)

    def tolist(self):
        return self.values

    def double(self):
        return self

    def argmax(self):
        return self.values.index(max(self.values))


def tensor(values):
    return Tensor(values)


def no_grad():
    return contextlib.nullcontext()


def log_softmax(rows, dim):
    assert dim == -1
    out = []
    for row in rows.values:
        most = max(row)
        total = most + math.log(sum(math.exp(v - most) for v in row))
        out.append([v - total for v in row])
    return Tensor(out)
