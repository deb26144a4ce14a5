import { afterEach, describe, expect, it, vi } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { startWise } from "../../src/edit/wise/wise.js";
import { loadModel } from "../../src/model/folder.js";
import type { LlamaModel, LoadOptions } from "../../src/model/model.js";
import { isSharded } from "../../src/model/weight.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tensorLimit } from "../../src/tensor/webgpu.js";
import { errorOf, fact, largestDifference, settingOf, tinyOptions } from "../edit/support.js";
import { TINY_MODEL } from "../run/support.js";
import { requires } from "../support/requires.js";
import { wholeLogits } from "../support/whole-model.js";

/* Bytes as float32 in tiny-llama3: a row of 64 and of 176 columns, the value matrix, the head; logits of three tokens. */
const [ROW, VALUE_ROW, VALUE, HEAD, LOGITS] = [4 * 64, 4 * 176, 4 * 64 * 176, 4 * 1024 * 64, 4 * 3 * 1024];
const LIMITS = [4, ROW - 1, ROW, VALUE_ROW - 1, VALUE_ROW, 4096, LOGITS, 20_000, VALUE - 1, VALUE, 100_000, HEAD - 1];

/** Of shards against the whole: other shapes take other programs, which add up in another order. Found: 1e-6. */
const TOLERANCE = 1e-5;

const SITE = { layer: 2, matrix: "down" } as const;

describe.runIf(requires("webgpu"))("a card that takes less in one tensor", () => {
  afterEach(() => vi.unstubAllEnvs());

  async function lower(bytes: number | "not"): Promise<void> {
    vi.stubEnv("WISE_LAB_WEBGPU_BINDING", bytes === "not" ? "" : String(bytes));
    await selectBackend("webgpu");
  }

  async function withModel<T>(options: LoadOptions, use: (model: LlamaModel) => Promise<T>): Promise<T> {
    const model = await loadModel(TINY_MODEL, options);
    try {
      return await use(model);
    } finally {
      model.dispose();
    }
  }

  /** What work gives under a limit; null where it is refused with the number, "before" a weight was read or "within" the work. */
  async function under<T>(limit: number, work: () => Promise<T>): Promise<{ value: T | null; refused?: string }> {
    await lower(limit);
    try {
      return { value: await work() };
    } catch (error) {
      expect(String(error)).toContain(`at most ${limit}`);
      if (error instanceof RefusedInput) return { value: null, refused: "before" };
      if (error instanceof LabFailure) return { value: null, refused: "within" };
      throw error;
    }
  }

  it.each(["float32", "bf16"] as const)(
    "gives the same logits from shards of rows, or refuses: %s",
    async (precision) => {
      const logits = () =>
        withModel({ precision }, async (model) => {
          const made = await wholeLogits(model, [[0, 45, 901]]);
          const values = await made.data<"float32">();
          made.dispose();
          return values;
        });
      await lower("not");
      const whole = await logits();
      for (const limit of LIMITS) {
        const { value, refused } = await under(limit, logits);
        if (limit < VALUE_ROW) expect(refused, `${limit}`).toBe("before");
        if (limit >= LOGITS) expect(refused, `${limit}`).toBeUndefined();
        if (value !== null) expect(largestDifference(value, whole), `${limit}`).toBeLessThan(TOLERANCE);
      }
      for (const limit of [HEAD, HEAD + 1]) expect((await under(limit, logits)).value).toEqual(whole);
    },
  );

  it("gives the same edit, or refuses: the edited matrix before a weight is read", async () => {
    const edit = () =>
      withModel({ sites: [SITE] }, async (model) => {
        const session = startWise(await tinyOptions("n_iter=3"), settingOf(model));
        try {
          const [trace] = await session.edit([fact(0)]);
          const { tensors } = await session.state();
          const losses = trace?.steps.map(({ loss }) => loss) ?? [];
          return [losses, ...Object.values(tensors).map(({ data }) => data)];
        } finally {
          session.dispose();
        }
      });
    await lower("not");
    const whole = await edit();
    expect(whole).toHaveLength(2);
    for (const limit of [...LIMITS, 150_000]) {
      const { value, refused } = await under(limit, edit);
      if (limit < VALUE) expect(refused, `${limit}`).toBe("before");
      if (limit >= 100_000) expect(refused, `${limit}`).toBeUndefined();
      for (const [i, found] of (value ?? []).entries()) {
        expect(largestDifference(found, whole[i] as Float32Array), `${limit}`).toBeLessThan(TOLERANCE);
      }
    }
    expect((await under(HEAD, edit)).value).toEqual(whole);
  });

  it("holds what is too large for it in shards, and names the matrix that it cannot hold", async () => {
    await lower(VALUE - 1);
    await withModel({}, async (model) => {
      expect(isSharded(model.weight(SITE))).toBe(true);
      expect(isSharded(model.weight({ ...SITE, matrix: "q" }))).toBe(false);
      expect(model.output.head.map(({ shape }) => shape[0])).toEqual([175, 175, 175, 175, 175, 149]);
      expect(() => model.matrix(SITE)).toThrow(/too large for this card/);
    });
    expect(await errorOf(loadModel(TINY_MODEL, { sites: [SITE] }))).toMatchObject({
      name: "RefusedInput",
      where: "tiny-llama3, model.layers.2.mlp.down_proj.weight",
      found: `${VALUE} bytes as float32`,
      expected: expect.stringContaining(`at most ${VALUE - 1} bytes`),
      hint: expect.stringContaining("--backend tensorflow"),
    });
  });

  it("is only ever made smaller, by a number", async () => {
    await lower("not");
    const own = tensorLimit();
    expect(own).toBeGreaterThanOrEqual(2 ** 27);
    await lower(own + 1);
    expect(tensorLimit()).toBe(own);
    vi.stubEnv("WISE_LAB_WEBGPU_BINDING", "lots");
    await expect(selectBackend("webgpu")).rejects.toThrow(/WISE_LAB_WEBGPU_BINDING is lots/);
    await lower("not");
  });
});
