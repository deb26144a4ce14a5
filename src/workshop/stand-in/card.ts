import type { StandInModel } from "../../model/known.js";

/** The README.md of a stand-in: that it knows nothing, what it is for, what is as in the real model and what is not. */
export function standInCard({ source, config }: StandInModel, seed: number): string {
  return `# A stand-in for ${source}

**The weights are random.** This model knows nothing, and its answers and scores mean nothing. It is made for measuring
and testing what does not depend on the values: loading, memory, the time of an edit.

As in the real model: the names, shapes and dtype of all tensors, their division among files, and what config.json says
of the computation. Layers: ${config.num_hidden_layers}.

Not as in it:

- every weight is drawn from a normal distribution with standard deviation ${config.initializer_range}, from seed ${seed} (2^16 equally likely
  values, none beyond 4.3 standard deviations); the weights of norms are 1;
- the tokenizer turns every byte of a text into one token, so that a text has several times as many tokens as with
  the real one, and takes longer; the rest of its vocabulary is padding. There is no chat template.

stand-in.json has the sha256 of every file. No part of the real model is in this folder.
`;
}
