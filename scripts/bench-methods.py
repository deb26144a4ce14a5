"""The reference of `npm run bench -- --only methods`: each editing method as its released code computes it, in plain PyTorch.

The whole model runs at every step, in float32, for one edit on the untouched model: no method has earlier edits to heed.
Reads one question a line on stdin and answers each with one line of JSON on stdout, as src/workshop/bench/method-protocol.ts
describes.
"""

import importlib
import json
import sys
import time

import numpy
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file as load_tensors

wise_reference = importlib.import_module("bench-reference")


def load_file(path):
    return load_tensors(path, device=str(torch.get_default_device()))


class Lab:
    """The model, and what brings it back after an edit."""

    def __init__(self, folder):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
        self.model.eval().requires_grad_(False).to(torch.get_default_device())
        self.weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.undo = []  # what an edit hung into the model, as functions that take it out
        self.reading = False  # True when the edit is made and its answers are read

    def hook(self, module, change):
        """change(module, inputs, output) gives the output that goes on."""
        handle = module.register_forward_hook(change)
        self.undo.append(handle.remove)
        return handle

    def roll_back(self):
        while self.undo:
            self.undo.pop()()
        self.model.load_state_dict(self.weights)
        self.model.requires_grad_(False)
        self.reading = False

    def layer(self, i):
        return self.model.model.layers[i]

    def value_matrix(self, i):
        return self.layer(i).mlp.down_proj

    def logits(self, rows):
        """[B, T, V], the rows padded on the right."""
        ids, real = wise_reference.batch([row["ids"] for row in rows])
        return self.model(input_ids=ids, attention_mask=real, use_cache=False).logits


def target_of(row):
    return torch.tensor(row["ids"][row["promptTokens"] :])


def predictions(lab, row):
    """Logits that predict each token of the target after those before it. [n, V]"""
    return lab.logits([row])[0, row["promptTokens"] - 1 : -1]


def target_loss(lab, row):
    return F.cross_entropy(predictions(lab, row), target_of(row))


def descend(parameters, lr, steps, take, decay=0, bound=None):
    """Adam, at most so many passes; `take` gives the loss of one, and whether the edit ends with it, without a move.
    `bound`: how far an entry may go from where it was."""
    starts = [] if bound is None else [parameter.detach().clone() for parameter in parameters]
    adam = torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    losses = []
    for _ in range(steps):
        loss, settled = take()
        losses.append(loss.item())
        if settled:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for parameter, start in zip(parameters, starts):
                parameter.copy_(torch.clamp(parameter, start - bound, start + bound))
    return losses


# WISE: a trainable copy beside one value matrix (bench-reference.py)


def wise(lab, options, edit, steps):
    mlp = lab.layer(options["layer"]).mlp
    original = mlp.down_proj
    assert options["mask_ratio"] == 1, "no mask is drawn here"
    mask = torch.ones_like(original.weight)
    reference = wise_reference.Reference(lab.model, options, {"edit": edit["rows"]}, mask)
    lab.undo.append(lambda: setattr(mlp, "down_proj", original))
    return [step["loss"] for step in reference.edit({"steps": steps})["losses"]]


# FT-L, FT-M, FT-EWC: value matrices with Adam


def tuned(lab, layers):
    return [lab.value_matrix(layer).weight.requires_grad_() for layer in layers]


def fine_tuning(lab, options, steps, loss_of):
    def take():
        loss = loss_of()
        return loss, loss < 1e-2

    matrices = tuned(lab, options["layers"])
    return descend(matrices, options["lr"], steps, take, options["weight_decay"], options["norm_constraint"])


def ft_l(lab, options, edit, steps):
    target = target_of(edit["forced"])

    def prompt_last():
        """The last position of the prompt alone predicts every token of the target."""
        return -F.log_softmax(lab.logits(edit["rows"])[0, -1], -1)[target].mean()

    return fine_tuning(lab, options, steps, prompt_last)


def ft_m(lab, options, edit, steps):
    return fine_tuning(lab, options, steps, lambda: target_loss(lab, edit["forced"]))


def ft_ewc(lab, options, edit, steps):
    target = target_of(edit["forced"])

    def take():
        """The first edit has no penalty, and ends when all of the target is the likeliest."""
        logits = predictions(lab, edit["forced"])
        return F.cross_entropy(logits, target), bool((logits.argmax(-1) == target).all())

    return descend(tuned(lab, [options["layer"]]), options["lr"], steps, take)


# LoRA: W + scale B A or, of adalora, W + scale B diag(E) A


def lora(lab, options, edit, steps):
    start = load_file(edit["files"]["start"])
    adaptive = options["lora_type"] == "adalora"
    scale = options["lora_alpha"] / (options["init_r"] + 1e-5 if adaptive else options["rank"])
    trained = []

    def beside(A, B, E=1):
        def add(_, inputs, output):
            x = F.dropout(inputs[0], options["lora_dropout"], training=not lab.reading)
            return output + scale * (x @ (A * E).T @ B.T)

        return add

    for i in range(lab.model.config.num_hidden_layers):
        for name in options["target_modules"]:
            factors = [start[f"layers.{i}.{name[0]}.{part}"].requires_grad_() for part in ("ABE" if adaptive else "AB")]
            lab.hook(getattr(lab.layer(i).self_attn, name), beside(*factors))
            trained.append(factors)

    def take():
        off = []  # how far A A' and B' B are from the identity
        for A, B, *_ in trained:
            off += [torch.norm(gram - torch.eye(len(gram))) for gram in (A @ A.T, B.T @ B)]
        return target_loss(lab, edit["forced"]) + options["orth_reg_weight"] * sum(off) / len(off), False

    return descend([part for factors in trained for part in factors], options["lr"], steps, take)


# GRACE: a codebook beside one value matrix


def grace(lab, options, edit, steps):
    matrix, row = lab.value_matrix(options["layer"]), edit["forced"]
    at = row["promptTokens"] - 1  # the key token
    seen = {}

    def look(_, inputs, output):
        seen.update(key=inputs[0][:, at], value=output[:, at])

    handle = lab.hook(matrix, look)
    with torch.no_grad():
        target_loss(lab, row)
    handle.remove()
    assert options["val_init"] == "warm", "no value is drawn here"
    value = seen["value"].clone().requires_grad_()  # the output that it stands in for, [1, D]

    def answer(_, inputs, output):
        near = torch.cdist(inputs[0][:, at], seen["key"]) <= options["eps"]  # [1, 1]
        output = output.clone()
        output[:, at] = torch.where(near, value, output[:, at])
        return output

    lab.hook(matrix, answer)
    return descend([value], options["edit_lr"], steps, lambda: (target_loss(lab, row), False))


# DEFER: a gate and a value beside one value matrix


def defer(lab, options, edit, steps):
    module = {name: part.requires_grad_() for name, part in load_file(edit["files"]["start"]).items()}

    def answer(_, inputs, output):
        q = inputs[0][:, -1]  # [1, M]
        value = (q @ module["A"].T + module["c"])[:, None].expand_as(output)
        if lab.reading:
            return value
        gate = torch.sigmoid(q @ module["a"].T + module["b"])
        return gate * value + (1 - gate) * output

    lab.hook(lab.value_matrix(options["layer"]), answer)
    parts = [module[name] for name in "abAc"]
    return descend(parts, options["edit_lr"], steps, lambda: (target_loss(lab, edit["forced"]), False))


# MEND, UltraEdit: an update from one gradient


def gradient_factors(lab, modules, row):
    """The loss, and each matrix' inputs x and gradients of outputs delta, [T, in] and [T, out]."""
    seen = {}

    def keep(module, inputs, output):
        output.retain_grad()
        seen[module] = inputs[0], output

    handles = [lab.hook(module, keep) for module in modules]
    for module in modules:
        module.weight.requires_grad_()
    loss = target_loss(lab, row)
    loss.backward()
    for handle in handles:
        handle.remove()
    lab.model.requires_grad_(False)
    return loss.item(), [(seen[module][0][0].detach(), seen[module][1].grad[0]) for module in modules]


def mend(lab, options, edit, steps):
    net = load_file(edit["files"]["network"])
    modules = [lab.model.get_submodule(name.removesuffix(".weight")) for name in options["inner_params"]]
    loss, factors = gradient_factors(lab, modules, edit["forced"])
    seen = []  # shapes of the matrices so far: the mode is the place among those of one shape
    for i, (module, (x, delta)) in enumerate(zip(modules, factors)):
        shape = f"({x.shape[1]}, {delta.shape[1]})"
        mode = seen.count(shape)
        seen.append(shape)
        part = lambda name: net[f"{shape}.{name}"]
        moving = (x != 0).any(1) & (delta != 0).any(1)
        x = (x[moving] - part("u_mean")) / (part("u_std") + 1e-7)
        delta = (delta[moving] - part("v_mean")) / (part("v_std") + 1e-7)
        h = torch.cat([x, delta], 1)
        for layer in ("layers.0.", "layers.1."):
            z = h @ part(layer + "v").T @ part(layer + "u").T + part(layer + "bias")
            h = h + F.relu(z * part(layer + "scale")[mode] + part(layer + "shift")[mode])
        x, delta = h.split([x.shape[1], delta.shape[1]], 1)
        module.weight += net["edit_lrs"][i] * delta.T @ x
    return [loss]


class Normaliser:
    """Mean and spread of the pairs (h, g) of all matrices of one shape."""

    def __init__(self):
        self.n, self.mean, self.var = 0, 0, 0

    def see(self, x):
        n, mean = len(x), x.mean(0)
        own = n * x.var(0) if n > 1 else torch.zeros_like(mean)
        shift = mean - self.mean
        total = self.n + n
        self.var = self.var + own + self.n * n * shift**2 / total
        self.mean = self.mean + n * shift / total
        self.n = total

    def __call__(self, x):
        eps = torch.finfo(torch.float32).eps
        return (x - self.mean) / (torch.sqrt(self.var / (self.n - 1 + eps)) + eps)


def ultraedit(lab, options, edit, steps):
    modules = [lab.model.get_submodule(name.removesuffix(".weight")) for name in options["inner_params"]]
    loss, factors = gradient_factors(lab, modules, edit["forced"])
    predicting = slice(edit["forced"]["promptTokens"] - 1, -1)
    pairs = [(h[predicting], g[predicting]) for h, g in factors]
    normalisers = {}
    for h, g in pairs:
        normalisers.setdefault((h.shape[1], g.shape[1]), Normaliser()).see(torch.cat([h, g], 1))
    for module, (h, g) in zip(modules, pairs):
        normal = normalisers[h.shape[1], g.shape[1]](torch.cat([h, g], 1))
        h_normal, g_normal = normal.split([h.shape[1], g.shape[1]], 1)
        values = -options["lr"] * h_normal.square().sum(1, keepdim=True) * g_normal
        module.weight += values.T @ torch.linalg.solve(h @ h.T + torch.eye(len(h)), h)
    return [loss]


# ROME, MEMIT, AlphaEdit: a value is searched, and written at the subject's key


def search(lab, options, edit, steps, module):
    """v0, the output of a module at the bare prompt's look-up, v* - v0, and the losses."""
    rows, targets = edit["rows"], target_of(edit["forced"])  # the last row: "<subject> is a"
    lookups = [row["lookup"] for row in rows]
    seen = {}
    delta = torch.zeros(lab.model.config.hidden_size, requires_grad=True)

    def add(_, inputs, output):
        seen.setdefault("v0", output[0, lookups[0]].detach().clone())
        output = output.clone()
        output[range(len(rows)), lookups] += delta
        return output

    handle = lab.hook(module, add)
    adam = torch.optim.Adam([delta], lr=options["v_lr"])
    losses = []
    for step in range(steps):
        log_p = F.log_softmax(lab.logits(rows), -1)
        nll = 0
        for row, own in zip(rows[:-1], log_p):
            first = row["promptTokens"] - 1
            nll = nll - own[range(first, first + len(targets)), targets].mean() / (len(rows) - 1)
        there = log_p[-1, lookups[-1] if options["kl_at"] == "lookup" else len(rows[-1]["ids"]) - 1]
        seen.setdefault("first", there.detach().clone())
        kl = options["kl_factor"] * (there.exp() * (there - seen["first"])).sum()
        size = seen["v0"].norm()
        loss = nll + kl + options["v_weight_decay"] * delta.norm() / size**2
        losses.append(loss.item())
        if losses[-1] < options["stop"] or step == steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            delta *= min(1, options["clamp_norm_factor"] * size / delta.norm())
    handle.remove()
    return seen["v0"], delta.detach(), losses


def at_lookups(lab, module, rows, what):
    """Inputs or outputs of a module at the look-ups of rows. [B, D]"""
    seen = {}
    handle = lab.hook(module, lambda _, inputs, output: seen.update(inputs=inputs[0], outputs=output))
    with torch.no_grad():
        lab.logits(rows)
    handle.remove()
    return seen[what][range(len(rows)), [row["lookup"] for row in rows]]


def rome(lab, options, edit, steps):
    matrix = lab.value_matrix(options["layers"][0])
    keys = at_lookups(lab, matrix, edit["rows"][:-1], "inputs")  # [templates, M], the bare prompt's first
    u = keys.mean(0)
    u = u / u.norm()
    _, delta, losses = search(lab, options, edit, steps, matrix)
    matrix.weight += torch.outer(delta / (keys[0] @ u), u)
    return losses


def spread(lab, options, edit, steps, update):
    """The value goes into several layers, from the lowest up. `update` of a layer, for a key and what is missing there."""
    layers = sorted(options["layers"])
    last = lab.layer(layers[-1])
    v0, delta, losses = search(lab, options, edit, steps, last)
    templates = edit["rows"][:-1]
    for i, layer in enumerate(layers):
        keys = at_lookups(lab, lab.value_matrix(layer), templates, "inputs")
        key = (keys[0] + keys[1:].mean(0)) / 2 if options["key_mean"] == "grouped" else keys.mean(0)
        now = at_lookups(lab, last, templates[:1], "outputs")[0]
        missing = (v0 + delta - now) / (len(layers) - i)
        lab.value_matrix(layer).weight += update(layer, key, missing)
    return losses


def memit(lab, options, edit, steps):
    def update(layer, key, missing):
        """R K^T (lambda C + K K^T)^-1 by a system of m x m, in float64, as released."""
        key = key.double()[:, None]  # [M, 1]
        system = options["mom2_update_weight"] * edit["covariances"][layer] + key @ key.T
        return (missing.double()[:, None] @ torch.linalg.solve(system, key).T).float()

    return spread(lab, options, edit, steps, update)


def alphaedit(lab, options, edit, steps):
    def update(layer, key, missing):
        """X of [P K K^T + L2 I] X = P K R^T, of m x m, in float32, as released; no keys of earlier edits."""
        P, key = edit["projections"][layer], key[:, None]
        system = P @ (key @ key.T) + options["L2"] * torch.eye(len(P))
        return torch.linalg.solve(system, P @ key @ missing[None]).T

    return spread(lab, options, edit, steps, update)


METHODS = {
    "wise": wise,
    "grace": grace,
    "defer": defer,
    "ft-l": ft_l,
    "ft-m": ft_m,
    "ft-ewc": ft_ewc,
    "lora": lora,
    "mend": mend,
    "rome": rome,
    "memit": memit,
    "memit-mass": memit,  # a batch of one
    "alphaedit": alphaedit,
    "ultraedit": ultraedit,
}


def covariance_of(path):
    with numpy.load(path) as file:
        moment = file["mom2.mom2"].astype(numpy.float64) / file["mom2.count"]
        return torch.from_numpy(moment).to(torch.get_default_device())


def null_space_of(covariance, threshold):
    values, vectors = torch.linalg.eigh(covariance)
    small = vectors[:, values < threshold]
    return (small @ small.T).float()


class Reference:
    """Answers questions; what is read and made before an edit is not part of its seconds."""

    def __init__(self, question):
        self.lab = Lab(question["model"])

    def prepare(self, question):
        self.question = question
        paths = question["files"]["covariances"]
        self.beside = {"files": question["files"]}
        self.beside["covariances"] = {int(layer): covariance_of(path) for layer, path in paths.items()}
        threshold = question["options"].get("nullspace_threshold")
        if threshold is not None:
            made = {layer: null_space_of(C, threshold) for layer, C in self.beside["covariances"].items()}
            self.beside["projections"] = made
        return {}

    def edit(self, question):
        self.lab.roll_back()
        method = METHODS[self.question["name"]]
        self.made = {**self.question["edits"][question["edit"]], **self.beside}
        started = time.perf_counter()
        losses = method(self.lab, self.question["options"], self.made, question["steps"])
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started, "frozen": None, "losses": losses}

    @torch.no_grad()
    def after(self, _):
        self.lab.reading = True
        return {"loss": target_loss(self.lab, self.made["forced"]).item()}


if __name__ == "__main__":
    wise_reference.serve(Reference)
