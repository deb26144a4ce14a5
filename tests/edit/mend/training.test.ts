import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import type { EditRecord } from "../../../src/data/records.js";
import { createAdam } from "../../../src/edit/adam.js";
import { slotsOf, trainedShapes } from "../../../src/edit/mend/network.js";
import { type MendOptions, sitesOf } from "../../../src/edit/mend/options.js";
import { noStatistics, statisticsValues } from "../../../src/edit/mend/statistics.js";
import { trainingExample } from "../../../src/edit/mend/train.js";
import { exampleGradient, meanGradient, newNetwork, stepped } from "../../../src/edit/mend/training.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal } from "../../model/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { largestDifference, loadTiny } from "../support.js";
import { MIXED, mendOptions, onDevice, records, someNetwork } from "./support.js";

let model: LlamaModel;
let options: MendOptions;
beforeAll(async () => {
  model = await loadTiny();
  options = await mendOptions(MIXED, "rank=3", "cedit=0.7", "cloc=0.9");
});
afterAll(() => model.dispose());

const record = (i: number): EditRecord => records[i] as EditRecord;

function place() {
  const slots = slotsOf(options, model.config);
  return { model, cuts: createCutStore(model, cutBefore(sitesOf(options))), slots, options };
}

/** A network away from its start, without its statistics. */
function trained(): Record<string, tf.Tensor> {
  const { slots } = place();
  const values = someNetwork(slots, options.rank, 1);
  const names = [...trainedShapes(slots, options.rank).keys()];
  return onDevice(
    Object.fromEntries(names.map((name) => [name, values[name] as NonNullable<(typeof values)[string]>])),
  );
}

describe("an example's gradient", () => {
  test("in every tensor of the network is the slope that finite differences see", async () => {
    const example = trainingExample(record(0), model, options);
    const surroundings = place();
    const network = trained();
    const at = async (own: Record<string, tf.Tensor>) => {
      const statistics = noStatistics(surroundings.slots);
      return exampleGradient(surroundings, own, { example, statistics });
    };
    const { loss, gradients } = await at(network);
    expect(loss.total).toBeCloseTo(0.7 * loss.edit + 0.9 * loss.loc, 4);
    expect(loss.loc).toBeGreaterThan(1e-3);
    for (const [i, [name, tensor]] of Object.entries(network).entries()) {
      const gradient = gradients[i] as tf.Tensor;
      const norm = (await tf.norm(gradient).data<"float32">())[0] as number;
      expect(norm, name).toBeGreaterThan(0);
      // Along the gradient the slope is its norm. The step changes the loss by about 0.002.
      const unit = tf.div(gradient, norm);
      const h = 0.001 / norm;
      const along = async (step: number) => {
        const moved = tf.add(tensor, tf.mul(unit, step));
        const { loss, gradients } = await at({ ...network, [name]: moved });
        tf.dispose([moved, gradients]);
        return loss.total;
      };
      const slope = ((await along(h)) - (await along(-h))) / (2 * h);
      expect(slope / norm, name).toBeGreaterThan(0.97);
      expect(slope / norm, name).toBeLessThan(1.03);
      unit.dispose();
    }
    tf.dispose([network, gradients]);
  });

  test("of a network at its start is not 0 in u, though all of u is", async () => {
    const surroundings = place();
    const network = newNetwork(surroundings.slots, options, createRng(0));
    const statistics = noStatistics(surroundings.slots);
    const example = trainingExample(record(1), model, options);
    const { gradients } = await exampleGradient(surroundings, network, { example, statistics });
    for (const [i, name] of Object.keys(network).entries()) {
      if (!name.endsWith(".u")) continue;
      expect((await tf.norm(gradients[i] as tf.Tensor).data<"float32">())[0], name).toBeGreaterThan(0);
    }
    tf.dispose([network, gradients]);
  });

  test("of several is their mean, with statistics that run on from one to the next", async () => {
    const surroundings = place();
    const network = trained();
    const examples = [0, 2].map((i) => trainingExample(record(i), model, options));
    const [apart, together] = [noStatistics(surroundings.slots), noStatistics(surroundings.slots)];
    await expectTidy(async () => {
      const single: Float32Array[] = [];
      for (const example of examples) {
        const { gradients } = await exampleGradient(surroundings, network, { example, statistics: apart });
        single.push(await (gradients[1] as tf.Tensor).data<"float32">());
        tf.dispose(gradients);
      }
      const { losses, gradients } = await meanGradient(surroundings, network, { examples, statistics: together });
      expect(losses).toHaveLength(2);
      const mean = (single[0] as Float32Array).map((value, i) => (value + (single[1]?.[i] as number)) / 2);
      expect(largestDifference(await (gradients[1] as tf.Tensor).data<"float32">(), mean)).toBeLessThan(1e-5);
      tf.dispose(gradients);
    });
    const valuesOf = (all: typeof apart) => [...all].map(([shape, own]) => statisticsValues(shape, own));
    expect(valuesOf(together)).toEqual(valuesOf(apart));
    tf.dispose(network);
  });
});

describe("a step", () => {
  const toy = () => ({ a: tf.tensor1d([1, 2]), b: tf.tensor1d([3]) });
  const gradients = () => [tf.tensor1d([3, 0]), tf.tensor1d([4])];

  test.each([
    [100, [1, 0, 1]],
    [0.5, [1, 0, 1]],
  ])("tells the gradient's norm before it is cut to %d", async (limit, moves) => {
    const adams = [createAdam(0.1), createAdam(0.1)];
    const { network, norm } = await stepped(toy(), { gradients: gradients(), adams, limit });
    expect(norm).toBeCloseTo(5, 5);
    // Adam's first step goes by its step size, however long the gradient is.
    const values = [...(await (network.a as tf.Tensor).data()), ...(await (network.b as tf.Tensor).data())];
    [1, 2, 3].forEach((was, i) => {
      expect(values[i]).toBeCloseTo(was - 0.1 * (moves[i] as number), 5);
    });
    const [first] = (adams[0] as (typeof adams)[number]).state().moments ?? [];
    expect((await first?.data<"float32">())?.[0]).toBeCloseTo((0.1 * 3 * Math.min(5, limit)) / 5, 5);
    tf.dispose(network);
    for (const adam of adams) adam.dispose();
  });
});

describe("a record that cannot be trained on is refused:", () => {
  test.each<[string, Partial<EditRecord>, found: string]>([
    ["one without a rephrase", { rephrase: null }, "no rephrase"],
    ["one without an unrelated question", { locality: [] }, "no unrelated question"],
    ["one with a blank target", { target: " " }, '" "'],
  ])("%s", async (_, change, found) => {
    const refused = await refusal(() => trainingExample({ ...record(3), ...change }, model, options));
    expect(refused).toMatchObject({ found });
  });

  test("released, the question afterwards is the edit's own, and no rephrase is asked for", async () => {
    const released = await mendOptions("variant=released");
    const { edit, outer } = trainingExample({ ...record(3), rephrase: null }, model, released);
    expect(outer).toEqual(edit);
    expect(edit.tokens[0]).toBe(model.tokenizer.bosId);
  });
});
