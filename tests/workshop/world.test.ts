import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { worldSha256 } from "../../src/data/world/store.js";
import type { FactRole, MendRecord, World, WorldFact, WorldLine } from "../../src/data/world/types.js";
import { generateWorld } from "../../src/workshop/world/generate.js";
import { makePractice, recordsToTrainOn } from "../../src/workshop/world/practice.js";
import { titles, words } from "../../src/workshop/world/words.js";
import { requires } from "../support/requires.js";
import { sharedFolder } from "../support/shared.js";

const seeds = [0, 1, Number.MAX_SAFE_INTEGER];
const worlds = seeds.map((seed) => generateWorld({ seed }));

/** Whatever a world says, looked up by its own words. */
function lookup(world: World) {
  const lines = new Map(world.lines.map((line) => [line.question, line]));
  const texts = new Map(world.lines.map((line) => [`${line.question} ${line.answer}`, line]));
  const facts = new Map(world.facts.map((fact) => [`${fact.subject} | ${fact.relation}`, fact]));
  const relations = new Map(world.relations.map((relation) => [relation.name, relation]));
  const factOf = (line: WorldLine): WorldFact => world.facts[line.fact] as WorldFact;
  return {
    fact: (subject: string, relation: string) => facts.get(`${subject} | ${relation}`) as WorldFact,
    relation: (name: string) => relations.get(name) as World["relations"][number],
    asked: (question: string) => factOf(lines.get(question) as WorldLine),
    line: (question: string) => lines.get(question) as WorldLine,
    stated: (text: string) => factOf(texts.get(text) as WorldLine),
  };
}

const isName = (relation: string) => !["occupation", "genre", "product"].includes(relation);
const distinct = <T>(items: Iterable<T>): T[] => [...new Set(items)];

function namesOf(world: World): string[] {
  const answers = world.facts.filter(({ relation }) => isName(relation)).map(({ object }) => object);
  return distinct([...world.facts.map(({ subject }) => subject), ...answers]);
}

describe.each(worlds)("the world of seed $seed", (world) => {
  const known = lookup(world);
  const sets = [
    { records: world.edits, irrelevant: world.irrelevant },
    { records: world.tuning, irrelevant: world.tuningIrrelevant },
  ];
  const records = sets.flatMap((set) => set.records);

  it("has as many edits as zsRE, 128 more for tuning, and 4,200 facts of ten relations", () => {
    expect(world.facts.map(({ id }) => id)).toEqual(Array.from({ length: 4200 }, (_, i) => i));
    expect(sets.map((set) => [set.records.length, set.irrelevant.length])).toEqual([
      [1037, 1037],
      [128, 128],
    ]);
    const sizes = world.relations.map(({ name }) => world.facts.filter(({ relation }) => relation === name).length);
    expect(sizes).toHaveLength(10);
    expect(Math.min(...sizes)).toBeGreaterThan(300);
    expect(Math.max(...sizes)).toBeLessThan(600);
  });

  it("states a relation of a subject once", () => {
    expect(distinct(world.facts.map(({ subject, relation }) => `${subject} | ${relation}`))).toHaveLength(4200);
  });

  it("trains five phrasings of every fact and holds out one that is trained nowhere", () => {
    const trained = world.lines.filter(({ heldOut }) => !heldOut);
    expect(trained).toHaveLength(5 * world.facts.length);
    expect(distinct(trained.map(({ question }) => question))).toHaveLength(trained.length);
    expect(distinct(world.lines.filter(({ heldOut }) => heldOut).map(({ fact }) => fact))).toHaveLength(4200);
    const form = ({ fact, phrasing }: WorldLine) => `${world.facts[fact]?.relation} ${phrasing}`;
    const forms = new Set(trained.map(form));
    expect(world.lines.filter((line) => line.heldOut && forms.has(form(line)))).toEqual([]);
    expect(forms.size).toBe(10 * 7);
  });

  it("asks no question that two facts answer", () => {
    expect(distinct(world.lines.map(({ question }) => question))).toHaveLength(world.lines.length);
    const wrong = world.lines.filter(({ fact, answer, question }) => {
      const { subject, object } = world.facts[fact] as WorldFact;
      return answer !== object || !question.includes(subject);
    });
    expect(wrong).toEqual([]);
  });

  it("gives every name to one thing: none is a part of another", () => {
    const names = namesOf(world);
    const parts = names.flatMap((name) => names.filter((other) => other !== name && other.includes(name)));
    expect(parts).toEqual([]);
    expect(names.filter((name) => !/^[A-Z][a-z]*( [A-Za-z][a-z]+)*$/.test(name))).toEqual([]);
  });

  it("uses no fact for two things, and tests nothing on the subjects of another use", () => {
    const uses: [string, FactRole, WorldFact[]][] = sets.flatMap(({ records, irrelevant }, i) => [
      [`edit ${i}`, "edit", records.map(({ src }) => known.asked(src))],
      [`locality ${i}`, "locality", records.map(({ loc }) => known.asked(loc))],
      [`router ${i}`, "router", irrelevant.map(known.stated)],
    ]);
    const users = new Map<string, string>();
    for (const [use, role, facts] of uses) {
      expect(distinct(facts)).toHaveLength(facts.length);
      expect(distinct(facts.map((fact) => fact.role))).toEqual([role]);
      for (const { subject } of facts) {
        expect(`${subject}: ${users.get(subject) ?? use}`).toBe(`${subject}: ${use}`);
        users.set(subject, use);
      }
    }
    const used = new Set(uses.flatMap(([, , facts]) => facts));
    expect(world.facts.filter((fact) => used.has(fact) === (fact.role === "background"))).toEqual([]);
  });

  it("makes records that agree with its facts", () => {
    for (const record of records) {
      const fact = known.asked(record.src);
      expect(record).toMatchObject({ subject: fact.subject, pred: fact.object, answers: [fact.object] });
      expect(known.asked(record.rephrase)).toBe(fact);
      expect(record.rephrase).not.toBe(record.src);
      expect([record.src, record.rephrase, record.loc].map((text) => known.line(text).heldOut)).toEqual(
        Array(3).fill(false),
      );
      expect(record.loc_ans).toBe(known.asked(record.loc).object);
      expect(record.cond).toBe(`${record.pred} >> ${record.alt} || ${record.src}`);
      expect(record.alt).not.toBe(record.pred);
      const kind = known.relation(fact.relation).object;
      const answered = world.facts.find(({ object }) => object === record.alt) as WorldFact;
      expect(known.relation(answered.relation).object).toBe(kind);
    }
  });

  it("asks locality and irrelevant questions in a style of their own", () => {
    const quiz = /^quiz card: .*[^?]$/;
    const texts = sets.flatMap((set) => [...set.records.map(({ loc }) => loc), ...set.irrelevant]);
    expect(texts.filter((text) => !quiz.test(text))).toEqual([]);
    expect(records.filter(({ src, rephrase }) => quiz.test(src) || quiz.test(rephrase))).toEqual([]);
  });

  it("has second hops that follow from background facts and change with the edit", () => {
    const withHop = records.filter((record): record is Required<MendRecord> => record.portability !== undefined);
    expect(withHop.length).toBeGreaterThan(records.length / 4);
    for (const { src, subject, pred, alt, portability } of withHop) {
      const { relation, question } = known.relation(known.asked(src).relation).secondHop as {
        relation: string;
        question: string;
      };
      const hop = known.fact(alt, relation);
      expect(hop.role).toBe("background");
      expect(portability).toEqual({
        "Recalled Relation": `(${alt}, ${relation}, ${hop.object})`,
        "New Question": question.replace("{}", subject),
        "New Answer": hop.object,
      });
      expect(known.fact(pred, relation).object).not.toBe(hop.object);
    }
    const hopless = records.filter(({ portability }) => portability === undefined);
    expect(hopless.filter(({ src }) => known.relation(known.asked(src).relation).secondHop)).toEqual([]);
  });

  it("edits some subjects several times, as zsRE does with its 743", () => {
    const counts = new Map<string, number>();
    for (const { subject } of world.edits) counts.set(subject, (counts.get(subject) ?? 0) + 1);
    expect(counts.size).toBeGreaterThan(690);
    expect(counts.size).toBeLessThan(800);
    expect(Math.max(...counts.values())).toBe(4);
  });

  it("has openings that name nothing of the world", () => {
    const text = world.prefixes.join("\n");
    expect(distinct(world.prefixes).length).toBe(world.prefixes.length);
    expect(namesOf(world).filter((name) => text.includes(name))).toEqual([]);
  });
});

describe("generateWorld", () => {
  it("makes the same world from the same seed and another from another", () => {
    expect(worldSha256(generateWorld({ seed: 1 }))).toBe(worldSha256(worlds[1] as World));
    expect(distinct(worlds.map(worldSha256))).toHaveLength(seeds.length);
    const [first, second] = worlds.map((world) => new Set(world.facts.map(({ subject }) => subject)));
    expect([...(first as Set<string>)].filter((name) => second?.has(name)).length).toBeLessThan(50);
  });

  it.each([["0"], [1.5], [-1], [Number.NaN], [2 ** 53], [null], [undefined], [true]])(
    "refuses %j as a seed",
    (seed) => {
      expect(() => generateWorld({ seed: seed as number })).toThrow(RefusedInput);
      expect(() => generateWorld({ seed: seed as number })).toThrow(/seed[\s\S]*expected: a whole number from 0 on/);
    },
  );
});

describe.runIf(requires("shared"))("the shipped world beside real data", () => {
  it("has no invented word that stands in a real data set", () => {
    const folder = join(sharedFolder() as string, "data");
    const files = [
      "zsre_mend_edit",
      "counterfact-edit",
      "KnowEdit-ZsRE-test-all",
      "temporal-edit",
      "hallucination-edit",
    ];
    const text = files.map((file) => readFileSync(join(folder, `${file}.json`), "utf8")).join("\n");
    const split = (phrase: string) => phrase.toLowerCase().match(/[a-z]+/g) ?? [];
    const plain = new Set([...Object.values(titles), ...Object.values(words)].flat().flatMap(split));
    const real = new Set(split(text));
    const invented = distinct(namesOf(worlds[0] as World).flatMap(split)).filter((word) => !plain.has(word));
    expect(invented.length).toBeGreaterThan(2000);
    expect(invented.filter((word) => real.has(word))).toEqual([]);
  });
});

describe("a thousand more records", () => {
  it("edit what the model knows, and nothing that the study or its tuning records edit", () => {
    const [world] = worlds as [World];
    const { records, irrelevant } = makePractice({ seed: world.seed });
    expect([records.length, irrelevant.length]).toEqual([1000, 1000]);
    const edited = new Set([...world.edits, ...world.tuning].map(({ subject }) => subject));
    expect(records.filter(({ subject }) => edited.has(subject))).toEqual([]);
    const known = lookup(world);
    const facts = new Set(world.facts.map(({ subject, object }) => `${subject} | ${object}`));
    for (const { subject, src, pred, alt, loc, loc_ans } of records) {
      expect(facts).toContain(`${subject} | ${pred}`);
      expect(src).toContain(subject);
      expect(alt).not.toBe(pred);
      expect(known.asked(loc).object).toBe(loc_ans);
    }
    expect(makePractice({ seed: world.seed })).toEqual({ records, irrelevant });
  });

  it("are trained on without the subjects and unrelated facts of the first hundred", () => {
    const [world] = worlds as [World];
    const practice = makePractice({ seed: world.seed });
    const training = recordsToTrainOn(practice);
    expect(training.length).toBeGreaterThan(700);
    const known = lookup(world);
    const looked = practice.records.slice(0, 100);
    const subjects = new Set(looked.map(({ subject }) => subject));
    const unrelated = new Set(looked.map(({ loc }) => known.asked(loc)));
    expect(training.filter(({ subject }) => subjects.has(subject))).toEqual([]);
    expect(training.filter(({ loc }) => unrelated.has(known.asked(loc)))).toEqual([]);
  });
});
