"""Results of Hugging Face Transformers with a model folder, in float32: the reference for transformers.test.ts.

Needs torch and transformers 4.56 or newer. Whenever data/lab-llama changes, its committed reference is made again, from
the root of the repository:

    python3 tests/support/transformers_reference.py data/lab-llama tests/fixtures/transformers/prompts.json \
        > tests/fixtures/transformers/lab.json

With a number of tokens behind these, it prints the greedy answers alone, of at most so many tokens and with the end token.
"""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the folder

import torch
import transformers

MAX_NEW_TOKENS = 16
DIGITS = 7  # what float32 holds


def main(folder, prompts_file, answer_tokens=None):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with open(prompts_file, encoding="utf-8") as file:
        prompts = json.load(file)
    if answer_tokens is not None:
        print(json.dumps([greedy(prompt, tokenizer, model, int(answer_tokens)) for prompt in prompts]))
        return
    head = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "weights": sha256(os.path.join(folder, "model.safetensors")),
    }
    lines = ",\n".join(json.dumps(reference(prompt, tokenizer, model)) for prompt in prompts)
    print(f'{json.dumps(head)[:-1]}, "prompts": [\n{lines}\n]}}')


def reference(prompt, tokenizer, model):
    """Token ids of a prompt, the logits [V] behind its last token, and the greedy answer up to the end token."""
    encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**encoded).logits[0, -1]
        made = model.generate(**encoded, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
    ids = encoded["input_ids"][0].tolist()
    tokens = made[0, len(ids) :].tolist()
    if tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()
    return {
        "prompt": prompt,
        "ids": ids,
        "logits": [float(f"{logit:.{DIGITS}g}") for logit in logits.tolist()],
        "tokens": tokens,
        "text": tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False),
    }


def greedy(prompt, tokenizer, model, max_new_tokens):
    """The tokens that the model writes behind a prompt."""
    encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        made = model.generate(**encoded, do_sample=False, max_new_tokens=max_new_tokens)
    return made[0, encoded["input_ids"].shape[1] :].tolist()


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
