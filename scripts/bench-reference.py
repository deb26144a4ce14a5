"""The reference of `npm run bench`: WISE in plain PyTorch, the whole model at every step, float32.

What the released code does for one edit: a trainable copy stands beside the value matrix of one layer, the whole model runs
forward over all rows at each step, and the gradient goes to that copy alone. Reads one question a line on stdin and answers
each with one line of JSON on stdout, as src/workshop/bench/protocol.ts describes.
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
import transformers

SETTLED_CHANGE = 1e-4  # an edit ends when the last two losses differ by at most this
SETTLED_LOSS = 0.02  # and the last one is at most this
LONG_SEQUENCE = 100  # at inference, a longer one is routed by its largest token distance


class ValueMatrixWithSide(torch.nn.Module):
    """A layer's value matrix W with a trainable copy W' beside it. Both outputs of the last call are kept."""

    def __init__(self, original):
        super().__init__()
        self.original = original
        self.side = torch.nn.Parameter(original.weight.detach().clone())
        self.choose = None  # from both outputs to the one that goes on

    def forward(self, x):
        self.main_output = self.original(x)
        self.side_output = F.linear(x, self.side)
        return self.choose(self.main_output, self.side_output)

    def reset(self):
        with torch.no_grad():
            self.side.copy_(self.original.weight)


def main_only(main, side):
    return main


def side_only(main, side):
    return side


def positive_mean(x):
    """Mean of the positive entries, 0 when there is none."""
    positive = x[x > 0]
    return positive.mean() if positive.numel() else x.sum() * 0


def batch(sequences):
    """Right-padded ids and their attention mask, [B, T] each."""
    longest = max(map(len, sequences))
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences])
    real = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences])
    return ids, real


class Reference:
    """One side memory on a model. `mask`: 1 where its entries move, [D, M]."""

    def __init__(self, model, options, rows, mask):
        self.model = model
        self.options = options
        self.rows = rows
        mlp = model.model.layers[options["layer"]].mlp
        mlp.down_proj = self.adapter = ValueMatrixWithSide(mlp.down_proj)
        self.mask = mask
        self.min_act = float("nan")

    def distances(self):
        """Per token, how far the side memory moves the value matrix's output. [B, T]"""
        main, side = self.adapter.main_output, self.adapter.side_output
        if self.options["distance_act"]:
            main, side = F.silu(main), F.silu(side)
        return torch.linalg.vector_norm(side - main, dim=-1)

    def losses(self, ids, real, target):
        """ft and act of one whole forward pass, and the mean activation of the edit's prompts."""
        options = self.options
        logits = self.model(input_ids=ids, attention_mask=real, use_cache=False).logits  # [R + 1, T, V]
        templates = logits[:-1, :-1]
        token_loss = F.cross_entropy(templates.flatten(0, 1), ids[:-1, 1:].flatten(), reduction="none")
        counts = target.sum(1) + (1 if options["label_mean_extra"] else 0)
        ft = ((token_loss.view_as(target) * target).sum(1) / counts).mean()
        activation = (self.distances() * real).sum(1) / real.sum(1)  # [R + 1]
        inside, outside = activation[:-1], activation[-1]
        act = (
            positive_mean(outside - inside + options["act_margin"][2])
            + positive_mean((outside - options["act_margin"][0]).reshape(1))
            + positive_mean(options["act_margin"][1] - inside)
        )
        return ft, act, inside.mean()

    def descend(self):
        """One step of SGD on W', then its clamp to W +/- norm_constraint."""
        options, side, main = self.options, self.adapter.side, self.adapter.original.weight
        with torch.no_grad():
            side -= options["edit_lr"] * (self.mask * side.grad + options["weight_decay"] * side)
            if options["norm_constraint"] is not None:
                bound = options["norm_constraint"]
                side.copy_(torch.clamp(side, min=main - bound, max=main + bound))
        side.grad = None

    def edit(self, question):
        started = time.perf_counter()
        self.adapter.reset()
        self.adapter.choose = side_only
        edit = self.rows["edit"]
        ids, real = batch([row["ids"] for row in edit])
        target = torch.zeros(len(edit) - 1, ids.shape[1] - 1)  # [R, T - 1], 1 where a target token is predicted
        for row, mask in zip(edit[:-1], target):
            mask[row["promptTokens"] - 1 : len(row["ids"]) - 1] = 1
        steps = []
        for _ in range(question["steps"]):
            ft, act, inside = self.losses(ids, real, target)
            loss = ft + act
            last = [step["loss"] for step in steps[-2:]]
            steps.append({"ft": ft.item(), "act": act.item(), "loss": loss.item()})
            self.min_act = inside.item()
            if len(last) == 2 and abs(last[1] - last[0]) <= SETTLED_CHANGE and last[1] <= SETTLED_LOSS:
                break
            loss.backward()
            self.descend()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started, "frozen": None, "losses": steps}

    def routed(self, real):
        """The router at inference: per sequence, the side memory's output where it reaches its threshold."""

        def choose(main, side):
            distances = self.distances() * real
            lengths = real.sum(1)
            activation = distances.sum(1) / lengths
            if self.options["long_sequence_max"]:
                activation = torch.where(lengths > LONG_SEQUENCE, distances.max(1).values, activation)
            self.activation = activation
            takes = activation >= self.min_act * self.options["act_ratio"]
            return torch.where(takes[:, None, None], side, main)

        return choose

    @torch.no_grad()
    def predict(self, ids, real, choose):
        self.adapter.choose = choose
        best = self.model(input_ids=ids, attention_mask=real, use_cache=False).logits.argmax(-1)
        spans = [(row["promptTokens"] - 1, len(row["ids"]) - 1) for row in self.rows["probes"]]
        return [row[start:end].tolist() for row, (start, end) in zip(best, spans)]

    def score(self, _):
        started = time.perf_counter()
        ids, real = batch([row["ids"] for row in self.rows["probes"]])
        before = self.predict(ids, real, main_only)
        after = self.predict(ids, real, self.routed(real))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "activations": self.activation.tolist(), "before": before, "after": after}

    def delta(self, question):
        delta = self.adapter.side.detach() - self.adapter.original.weight
        with open(question["file"], "wb") as file:
            file.write(delta.contiguous().cpu().numpy().tobytes())
        return {}

    def memory(self, _):
        return {"peakBytes": peak_bytes()}


def peak_bytes():
    """The most memory this process has had resident."""
    if sys.platform == "linux":
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def opened(question):
    model = transformers.AutoModelForCausalLM.from_pretrained(question["model"], torch_dtype=torch.float32)
    model.eval().requires_grad_(False).to(torch.get_default_device())
    options = question["options"]
    with open(question["mask"], "rb") as file:
        bits = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    weight = model.model.layers[options["layer"]].mlp.down_proj.weight
    mask = bits.reshape(weight.shape).to(weight)
    return Reference(model, options, question["rows"], mask)


def serve(start):
    """Answers every question with the method of its name. `start` makes whose methods these are, of the first question."""
    side = None
    for line in sys.stdin:
        question = json.loads(line)
        if question["ask"] == "open":
            on_card = question["device"] == "gpu" and torch.cuda.is_available()
            if on_card:
                torch.set_default_device("cuda")
            side = start(question)
            place = torch.cuda.get_device_name() if on_card else f"CPU, {torch.get_num_threads()} threads"
            runs_on = f"PyTorch {torch.__version__}, Transformers {transformers.__version__}, {place}"
            reply = {"runsOn": runs_on, "device": "gpu" if on_card else "cpu"}
        else:
            reply = getattr(side, question["ask"])(question)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve(opened)
