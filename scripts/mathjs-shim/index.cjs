// danfojs-node requires mathjs for these five functions of a list of numbers, and nothing else of it. As mathjs has them:
// an empty list and what is no number are refused, variance and std divide by n - 1, and mode gives every value that is the most frequent.

const sum = (values) => values.reduce((total, value) => total + value, 0);

function mean(values) {
  requireValues(values, "mean");
  return sum(values) / values.length;
}

function median(values) {
  requireValues(values, "median");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function mode(values) {
  requireValues(values, "mode");
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return [...counts.keys()].filter((value) => counts.get(value) === most);
}

function variance(values) {
  const center = mean(values);
  if (values.length === 1) return 0;
  return sum(values.map((value) => (value - center) ** 2)) / (values.length - 1);
}

const std = (values) => Math.sqrt(variance(values));

function requireValues(values, name) {
  if (values.length === 0) throw new Error(`Cannot calculate the ${name} of an empty array`);
  if (values.every((value) => typeof value === "number")) return;
  throw new TypeError(`Cannot calculate the ${name} of what is no number`);
}

module.exports = { mean, median, mode, std, variance };
