import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, LabFailure } from "../../../src/core/errors.js";
import type { EditRequest, EditSession } from "../../../src/edit/contract.js";
import { forcedRow } from "../../../src/edit/rows.js";
import { type EditState, hashEdits } from "../../../src/edit/state.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { refusal } from "../../model/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, fact, facts, largestDifference, loadTiny } from "../support.js";
import { prepareUltraedit, ultraeditSetting } from "./support.js";

let model: LlamaModel;
let owner: Owner;
beforeAll(async () => {
  model = await loadTiny();
  owner = await prepareUltraedit(model);
});
afterAll(() => model.dispose());

type Owner = Awaited<ReturnType<typeof prepareUltraedit>>;

const start = ({ method }: Owner, saved?: EditState) => method.start(ultraeditSetting(model, method), saved);
const factsOf = (...records: number[]) => records.map(fact);
const tokensOf = (requests: readonly EditRequest[]) =>
  requests.reduce((sum, request) => {
    const { ids, promptTokens } = forcedRow(request, model.tokenizer);
    return sum + ids.length - promptTokens;
  }, 0);

/** A session in which requests were edited, those of a list together. */
async function sessionOf(of: Owner, ...calls: readonly EditRequest[][]): Promise<EditSession> {
  const session = start(of);
  for (const requests of calls) await session.edit(requests);
  return session;
}

/** sha256 of what edits leave. @param as whose they shall be taken to be */
async function hashOf(of: Owner, calls: readonly EditRequest[][], as: Owner = of): Promise<string> {
  const session = await sessionOf(of, ...calls);
  const hash = await hashEdits(session, as);
  session.dispose();
  return hash;
}

async function stateOf(of: Owner, ...calls: readonly EditRequest[][]): Promise<EditState> {
  const session = await sessionOf(of, ...calls);
  const state = await session.state();
  session.dispose();
  return state;
}

/** The change of a matrix of a state, [out, in]. */
function changeIn({ tensors }: EditState, name: string): number[] {
  const whole = tensors[name];
  if (whole !== undefined) return [...whole.data];
  const [left, right] = ["left", "right"].map((side) => tensors[`${name}.${side}`]) as [Tensor, Tensor];
  const [out, n] = left.shape as [number, number];
  const [inner] = right.shape as [number];
  return Array.from({ length: out * inner }, (_, k) => {
    const [i, j] = [Math.floor(k / inner), k % inner];
    let sum = 0;
    for (let t = 0; t < n; t++) sum += (left.data[i * n + t] as number) * (right.data[j * n + t] as number);
    return sum;
  });
}
type Tensor = EditState["tensors"][string];

describe("a block", () => {
  test("of more than batch_size requests is the same as its batches one after another", async () => {
    const pairs = await prepareUltraedit(model, "batch_size=2");
    const batches = [factsOf(0, 1), factsOf(2, 3), factsOf(4)];
    const inTwos = await hashOf(pairs, [factsOf(0, 1, 2, 3, 4)], owner);
    expect(inTwos).toBe(await hashOf(owner, batches));
    expect(inTwos).not.toBe(await hashOf(owner, [factsOf(0, 1, 2, 3, 4)]));
    const single = await prepareUltraedit(model, "batch_size=1");
    expect(await hashOf(single, [factsOf(3, 1)], owner)).toBe(await hashOf(owner, [factsOf(3), factsOf(1)]));
  });

  test("is put in order by length, and tells every request of its own micro-batch", async () => {
    const small = await prepareUltraedit(model, "batch_size_once=2");
    const sizes = [0, 1, 2].map((i) => [i, forcedRow(fact(i), model.tokenizer).ids.length] as const);
    const [longest, middle, shortest] = sizes.sort(([, a], [, b]) => b - a).map(([i]) => i) as [number, number, number];
    expect(new Set(sizes.map(([, length]) => length)).size).toBe(3);
    const session = start(small);
    const shown: number[] = [];
    const traces = await session.edit(factsOf(0, 1, 2), { onStep: ({ loss }) => shown.push(loss) });
    session.dispose();
    expect(traces.map(({ record, steps }) => [record, steps.length])).toEqual([0, 1, 2].map((i) => [i, 1]));
    const losses = traces.map(({ steps }) => steps[0]?.loss);
    expect(losses[longest]).toBe(losses[middle]);
    expect(losses[shortest]).not.toBe(losses[middle]);
    expect(shown).toEqual([longest, middle, shortest].map((i) => losses[i]));
    expect(await hashOf(small, [factsOf(2, 0, 1)])).toBe(await hashOf(small, [factsOf(0, 1, 2)]));
  });

  test("without requests changes nothing", async () => {
    const session = await sessionOf(owner, factsOf(0), []);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [factsOf(0)]));
    session.dispose();
  });

  test("with a blank target among others is refused, and none of them is edited", async () => {
    const session = await sessionOf(owner, factsOf(0));
    await expectTidy(async () => {
      const error = await refusal(() => session.edit([fact(1), { ...fact(2), target: " " }]));
      expect(error.where).toBe(`edit of ${JSON.stringify(fact(2).prompt)}`);
    });
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [factsOf(0)]));
    session.dispose();
  });

  test("interrupted after its first micro-batch or its first batch, it leaves the session as before", async () => {
    for (const set of [["batch_size_once=1"], ["batch_size=1"]]) {
      const slow = await prepareUltraedit(model, ...set);
      const session = await sessionOf(slow, factsOf(0));
      await expectTidy(async () => {
        const controller = new AbortController();
        const { signal } = controller;
        let steps = 0;
        const onStep = () => {
          steps += 1;
          if (steps === 2) controller.abort();
        };
        const error = await errorOf(session.edit(factsOf(1, 2, 3), { signal, onStep }));
        expect(error).toBeInstanceOf(Interrupted);
      });
      expect(await hashEdits(session, slow)).toBe(await hashOf(slow, [factsOf(0)]));
      session.dispose();
    }
  });
});

describe("changes", () => {
  test("are kept as factors until their product is smaller; both go on from a saved state", async () => {
    const [out, inner] = [model.config.intermediateSize, model.config.hiddenSize];
    const most = Math.floor((out * inner) / (out + inner)); // tokens that factors are smaller for
    const calls = [facts, factsOf(5, 4), factsOf(3)];
    const tokens = calls.map(tokensOf);
    expect(tokens[0]).toBeLessThan(most);
    expect((tokens[0] as number) + (tokens[1] as number)).toBeLessThanOrEqual(most);
    const before = await stateOf(owner, ...calls.slice(0, 2));
    expect(Object.keys(before.tensors)).toContain("layers.1.gate.left");
    const more = [...calls, facts];
    const whole = await stateOf(owner, ...more);
    expect(whole.tensors["layers.1.gate"]?.shape).toEqual([out, inner]);
    expect(whole.json).toEqual({ tokens: tokensOf(more.flat()) });
    for (const made of [1, 2, 3]) {
      const session = start(owner, structuredClone(await stateOf(owner, ...more.slice(0, made))));
      for (const requests of more.slice(made)) await session.edit(requests);
      expect(await session.state()).toEqual(whole);
      session.dispose();
    }
  });

  test("of a batch do not depend on the form that the earlier ones are kept in", async () => {
    const state = await stateOf(owner, factsOf(0, 1, 2));
    const next = await stateOf(owner, factsOf(0, 1, 2), factsOf(3, 4, 5));
    const names = ["layers.1.gate", "layers.2.up", "layers.3.down"];
    for (const name of names) {
      expect(largestDifference(changeIn(state, name), changeIn(next, name))).toBeGreaterThan(0.01);
      const left = state.tensors[`${name}.left`]?.data as Float32Array;
      const both = next.tensors[`${name}.left`] as Tensor;
      const n = left.length / (both.shape[0] as number);
      const columns = [...left.keys()].map((k) => both.data[Math.floor(k / n) * (both.shape[1] as number) + (k % n)]);
      expect(columns).toEqual([...left]);
    }
  });
});

describe("one target token alone", () => {
  const one = (): EditRequest => ({ ...fact(4), target: "born" });

  test("has no spread: the matrix is not changed, in its normaliser stands its mean, and later edits go on from it", async () => {
    expect(tokensOf([one()])).toBe(1);
    const alone = await stateOf(owner, [one()]);
    for (const { data } of Object.values(alone.tensors)) expect(data.every(Number.isFinite)).toBe(true);
    expect(changeIn(alone, "layers.3.down").every((x) => Math.abs(x) === 0)).toBe(true);
    expect(alone.tensors["stat.64x176.var"]?.data.every((x) => x === 0)).toBe(true);
    expect(alone.tensors["stat.64x176.mean"]?.data.some((x) => x !== 0)).toBe(true);
    const later = await stateOf(owner, [one()], factsOf(1));
    expect(later.tensors["layers.3.down.left"]?.data.every(Number.isFinite)).toBe(true);
    expect(changeIn(later, "layers.3.down").some((x) => x !== 0)).toBe(true);
  });

  test("changes matrices of one shape: what they saw is one spread of two", async () => {
    const alone = await stateOf(owner, [one()]);
    for (const name of ["layers.1.gate", "layers.2.up"]) {
      expect(changeIn(alone, name).some((x) => x !== 0)).toBe(true);
    }
  });
});

test("a change that is not finite fails with a word on what to change, and leaves the session as before", async () => {
  const wild = await prepareUltraedit(model, "lr=1e38");
  const session = start(wild);
  const error = await expectTidy(() => errorOf(session.edit(factsOf(2))));
  expect(error).toBeInstanceOf(LabFailure);
  expect(error.message).toMatch(/not finite: a smaller lr/);
  expect(await hashEdits(session, wild)).toBe(await hashOf(wild, []));
  session.dispose();
});

test("a loss that is not finite fails with a word on what to change, and leaves the session as before", async () => {
  const state = await stateOf(owner, factsOf(2));
  state.tensors["layers.2.up.left"]?.data.fill(Number.NaN);
  const session = start(owner, structuredClone(state));
  const error = await expectTidy(() => errorOf(session.edit(factsOf(1))));
  expect(error).toBeInstanceOf(LabFailure);
  expect(error.message).toMatch(/loss .* became NaN at step 0 .*smaller lr/);
  expect(await session.state()).toEqual(state);
  session.dispose();
});

test("a state without the number of its target tokens is refused", async () => {
  const state = await stateOf(owner, factsOf(0, 1));
  for (const json of [null, {}, { tokens: 1 }, { tokens: 2.5 }, { tokens: "9" }]) {
    const error = await expectTidy(() => refusal(async () => start(owner, { ...structuredClone(state), json })));
    expect(error).toMatchObject({ where: "target tokens of the saved edits", found: json });
    expect(error.expected).toContain("at least 2");
  }
});

test("the plan takes a block at once, and cuts the model before its first matrix", async () => {
  const { method } = owner;
  expect(method).toMatchObject({ together: "block", inStep: 10, cut: { layer: 1, at: "input" }, sites: [] });
  expect(method.needs).toEqual({ templates: null, irrelevant: false, subject: false, assets: [] });
  const down = await prepareUltraedit(model, "inner_params=[model.layers.2.mlp.down_proj]", "batch_size=4");
  expect(down.method).toMatchObject({ inStep: 4, cut: { layer: 2, at: "mlpIn" } });
});
