import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { Asset, EditRequest, EditSession, PreparedMethod } from "../../../src/edit/contract.js";
import { memitSolver } from "../../../src/edit/memit/memit.js";
import type { MemitOptions } from "../../../src/edit/memit/options.js";
import { behindLast, locateRequest, patchOfLayers, spread } from "../../../src/edit/memit/spread.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { type EditOwner, hashEdits } from "../../../src/edit/state.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { NullSpace } from "../../../src/stats/null-space.js";
import { refusal } from "../../model/support.js";
import { goldenMethods } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { located, romeSetting } from "../rome/support.js";
import { errorOf, loadTiny } from "../support.js";
import { sample } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

type Owner = EditOwner & { method: PreparedMethod };

const STATS = `stats_dir=${join(goldenMethods, "locate-stats")}`;

/** A method for the tiny checkpoint, three passes an edit, with its covariances. */
async function prepare(name: "memit" | "memit-mass" | "alphaedit", ...set: string[]): Promise<Owner> {
  const source = { preset: "tiny", set: [STATS, "v_num_grad_steps=3", ...set] };
  const method = await prepareNamed(name, source, model.config);
  const assets = new Map<string, Asset>();
  for (const need of method.needs.assets) assets.set(need.name, await need.open(model));
  return { method, model, assets };
}

const settingOf = ({ method, assets }: Owner) => romeSetting(model, method, { assets });

async function sessionOf(owner: Owner, blocks: readonly EditRequest[][] = []): Promise<EditSession> {
  const session = owner.method.start(settingOf(owner));
  for (const block of blocks) await session.edit(block);
  return session;
}

async function hashOf(owner: Owner, blocks: readonly EditRequest[][]): Promise<string> {
  const session = await sessionOf(owner, blocks);
  const hash = await hashEdits(session, owner);
  session.dispose();
  return hash;
}

const length = (vector: ArrayLike<number>) => Math.hypot(...Array.from(vector));

describe("the spread", () => {
  test.each([[[1]], [[0, 1, 2]], [[2, 0]]])(
    "over layers %j reaches the value where the statistics weigh little",
    async (layers) => {
      const owner = await prepare("memit", `layers=[${layers}]`, "mom2_update_weight=1e-9");
      const options = owner.method.options as MemitOptions;
      const setting = settingOf(owner);
      await expectTidy(async () => {
        const request = await locateRequest(located(0), setting, undefined);
        const last = Math.max(...layers);
        const start = await behindLast(model, request, { last, patch: [] });
        start.batch.dispose();
        const move = sample(1, start.stream.length, 5)[0] as Float64Array;
        const value = move.map((x, d) => 0.05 * x + (start.stream[d] as number));
        const given = { options: { ...options, key_mean: "flat" as const }, before: new Map() };
        const alone = { ...request, rows: { ...request.rows, templates: request.rows.templates.slice(0, 1) } };
        const edits = [{ located: alone, value }];
        const steps = await spread(setting, edits, { ...given, solve: memitSolver(options, setting) });
        expect(steps.map(({ layer }) => layer)).toEqual([...layers].sort());
        const { patch, dispose } = patchOfLayers(new Map(steps.map(({ layer, updates }) => [layer, updates])));
        const after = await behindLast(model, request, { last, patch });
        const missing = value.map((x, d) => x - (after.stream[d] as number));
        expect(length(missing) / length(steps[0]?.residuals[0] as Float64Array)).toBeLessThan(1e-3);
        for (const held of [after.batch, request.batch, { dispose }]) held.dispose();
      });
    },
  );
});

describe("a session", () => {
  test("MEMIT-MASS with blocks of one is MEMIT; of several it is another edit, in any order nearly the same", async () => {
    const [one, mass] = [await prepare("memit"), await prepare("memit-mass")];
    const tensorsOf = async (owner: Owner, blocks: EditRequest[][]) => {
      const session = await sessionOf(owner, blocks);
      const { tensors } = await session.state();
      session.dispose();
      return tensors;
    };
    const singly = [[located(0)], [located(1)]];
    expect(await tensorsOf(mass, singly)).toEqual(await tensorsOf(one, singly));
    expect(await tensorsOf(mass, [[located(0), located(1)]])).not.toEqual(await tensorsOf(one, singly));
  });

  test("an empty block changes nothing", async () => {
    const owner = await prepare("memit-mass");
    const session = await sessionOf(owner, [[located(0)]]);
    expect(await session.edit([])).toEqual([]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [[located(0)]]));
    session.dispose();
  });

  test("a block in which one request is bad is refused whole, and leaves the session as before", async () => {
    const owner = await prepare("memit-mass");
    const session = await sessionOf(owner, [[located(0)]]);
    const bad = { ...located(2), subject: "Nobody" };
    const error = await expectTidy(() => refusal(() => session.edit([located(1), bad])));
    expect(error.message).toContain("Nobody, which is not there");
    const twice = { ...located(2), prompt: `${located(2).prompt} and ${located(2).subject}` };
    expect((await refusal(() => session.edit([located(1), twice]))).message).toContain("2 times");
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [[located(0)]]));
    session.dispose();
  });

  test("a loss that is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const wild = await prepare("memit", "v_lr=1e38", "clamp_norm_factor=1e38");
    const session = await sessionOf(wild);
    const error = await expectTidy(() => errorOf(session.edit([located(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller v_lr/);
    expect(await hashEdits(session, wild)).toBe(await hashOf(wild, []));
    session.dispose();
  });
});

describe("AlphaEdit", () => {
  test("batches of a block are told apart from single edits, and the last one may be smaller", async () => {
    const pairs = await prepare("alphaedit", "batch_size=2");
    expect(pairs.method.together).toBe("block");
    const block = [located(0), located(1), located(2)];
    expect(await hashOf(pairs, [block])).toBe(await hashOf(pairs, [[located(0), located(1)], [located(2)]]));
    const single = await prepare("alphaedit");
    expect(single.method.together).toBe(1);
    expect(single.method.needs.assets.map(({ name }) => name)).toEqual(
      [0, 1, 2].map((layer) => `null space layers.${layer}.down`),
    );
  });

  test("an earlier edit's keys belong to its block: after a rollback an edit is that of a fresh session", async () => {
    const owner = await prepare("alphaedit");
    const updateAfter = async (before: EditRequest[]) => {
      const session = await sessionOf(owner, [before]);
      await session.edit([located(1)]);
      const { tensors } = await session.state();
      session.dispose();
      return tensors["layers.0.down.right"]?.data.slice(-model.config.intermediateSize);
    };
    expect(await updateAfter([located(0)])).not.toEqual(await updateAfter([]));
    expect(await updateAfter([])).toEqual(await updateAfter([]));
  });

  test("an update lies in the null space", async () => {
    const owner = await prepare("alphaedit", "layers=[1]");
    const session = await sessionOf(owner, [[located(0)]]);
    const { tensors } = await session.state();
    session.dispose();
    const right = Float64Array.from(tensors["layers.1.down.right"]?.data as Float32Array);
    const space = owner.assets.get("null space layers.1.down")?.value as NullSpace;
    const outside = right.map((x, i) => x - (space.project(right)[i] as number));
    expect(length(outside) / length(right)).toBeLessThan(1e-5);
  });
});

test("layers that the model lacks, and statistics that are not there, are refused with the way out", async () => {
  expect(await refusal(() => prepare("memit", "layers=[1, 4]"))).toMatchObject({
    expected: expect.stringContaining("3"),
  });
  const missing = await refusal(() => prepare("memit", "layers=[3]"));
  expect(missing).toMatchObject({ found: "no such file", hint: expect.stringContaining("wise-lab stats") });
});

test("the plan names a covariance for each layer, and counts factors and statistics", async () => {
  const { method } = await prepare("memit", "layers=[2, 0]");
  expect(method.cut).toEqual({ layer: 0, at: "mlpIn" });
  expect(method.together).toBe(1);
  expect((await prepare("memit-mass")).method.together).toBe("block");
  expect(method.needs.assets.map(({ name }) => name)).toEqual(["covariance layers.0.down", "covariance layers.2.down"]);
  const [D, M] = [model.config.hiddenSize, model.config.intermediateSize];
  expect(method.bytes(3, 9).kept).toBe(2 * (3 * 4 * (D + M) + 12 * M * M));
});
