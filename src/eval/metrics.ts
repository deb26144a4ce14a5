/** Share of positions, in [0, 1], at which two token sequences of one length agree (EasyEdit: `token_em`). */
export function agreement(predicted: readonly number[], wanted: readonly number[]): number {
  const right = wanted.filter((token, i) => token === predicted[i]).length;
  return right / wanted.length;
}
