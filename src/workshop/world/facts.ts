import type { Rng } from "../../core/rng.js";
import type { FactRole, ObjectKind, Relation, SubjectKind, WorldFact } from "../../data/world/types.js";
import { createNamer, type NameKind, type Namer, pick, shuffled } from "./names.js";
import { relations } from "./relations.js";
import { titles, words } from "./words.js";

/** Sizes of a world. */
export interface WorldPlan {
  /** Records to edit. Each has one locality fact and one router fact. */
  edits: number;
  /** Records to choose hyperparameters on, likewise. */
  tuning: number;
  /** Facts in all. */
  facts: number;
}

/** The facts of one edit set, by what they are used for, in random order. */
export type FactGroup = Record<Exclude<FactRole, "background">, WorldFact[]>;

export interface WorldFacts {
  facts: WorldFact[];
  answers: Answers;
  edits: FactGroup;
  tuning: FactGroup;
}

/** Every answer of each kind. */
export type Answers = Readonly<Record<ObjectKind, readonly string[]>>;

/** Somebody or something that facts are about. */
interface Subject {
  kind: SubjectKind;
  name: string;
}

const GIVEN_NAMES = 96;

/** Number of answers of each kind of name. */
const answerCounts = { city: 80, employer: 48, language: 32, country: 24, river: 32 } as const;

/**
 * Per kind of subject: how large a part of the new subjects it is (so that the ten relations have about equally many
 * facts), and what part of those has one fact, two, and so on (zsRE has 743 subjects in its 1037 records).
 */
const casting: Readonly<Record<SubjectKind, { part: number; facts: readonly number[] }>> = {
  person: { part: 0.34, facts: [0.6, 0.22, 0.12, 0.06] },
  work: { part: 0.22, facts: [0.72, 0.28] },
  organisation: { part: 0.22, facts: [0.72, 0.28] },
  place: { part: 0.22, facts: [0.72, 0.28] },
};

/**
 * All facts of a world: about the cities and employers that second hops lead to; the groups that records are made of,
 * each about subjects of its own; and what else is known of edited subjects.
 */
export function makeFacts(plan: WorldPlan, rng: Rng): WorldFacts {
  const cast = createCast(rng.fork("names"));
  const facts: WorldFact[] = [];
  const draws = rng.fork("facts");
  const state = (subject: Subject, relation: Relation, role: FactRole): WorldFact => {
    const object = pick(cast.answers[relation.object], draws);
    const fact = { id: facts.length, subject: subject.name, relation: relation.name, object, role };
    facts.push(fact);
    return fact;
  };

  for (const subject of cast.hubs) {
    for (const relation of relationsOf(subject)) state(subject, relation, "background");
  }
  const unused: [Subject, Relation][] = [];
  const group = (role: FactRole, size: number): WorldFact[] => {
    const made: WorldFact[] = [];
    while (made.length < size) {
      const subject = cast.subject(draws);
      const count = 1 + weighted(casting[subject.kind].facts, draws);
      const order = shuffled(relationsOf(subject), draws);
      for (const relation of order.slice(0, Math.min(count, size - made.length)))
        made.push(state(subject, relation, role));
      if (role === "edit")
        unused.push(...order.slice(count).map((relation): [Subject, Relation] => [subject, relation]));
    }
    return shuffled(made, draws);
  };
  const groups = (size: number): FactGroup => ({
    edit: group("edit", size),
    locality: group("locality", size),
    router: group("router", size),
  });
  const edits = groups(plan.edits);
  const tuning = groups(plan.tuning);
  for (const [subject, relation] of shuffled(unused, draws).slice(0, plan.facts - facts.length)) {
    state(subject, relation, "background");
  }
  return { facts, answers: cast.answers, edits, tuning };
}

/** The names of a world: its answers, the subjects among them, and new subjects on demand. */
function createCast(rng: Rng) {
  const namer = createNamer(rng.fork("words"));
  const given = several("given", GIVEN_NAMES, namer);
  const cities = several("place", answerCounts.city, namer);
  const firms = several("organisation", answerCounts.employer, namer);
  const employers = firms.map((word) => titled("organisation", word, rng));
  const answers: Answers = {
    city: cities,
    employer: employers,
    language: several("language", answerCounts.language, namer),
    country: several("country", answerCounts.country, namer),
    river: several("river", answerCounts.river, namer),
    occupation: words.occupation.join(" ").split(" "),
    genre: words.genre.join(" ").split(" "),
    product: words.product.join(" ").split(" "),
  };
  const hubs: Subject[] = [
    ...cities.map((name): Subject => ({ kind: "place", name })),
    ...employers.map((name): Subject => ({ kind: "organisation", name })),
  ];
  const kinds = Object.keys(casting) as SubjectKind[];
  const subject = (draws: Rng): Subject => {
    const kind = kinds[
      weighted(
        kinds.map((name) => casting[name].part),
        draws,
      )
    ] as SubjectKind;
    if (kind === "person") return { kind, name: `${pick(given, draws)} ${namer.word("surname")}` };
    if (kind === "place") return { kind, name: namer.word("place") };
    return { kind, name: titled(kind, namer.word(kind), draws) };
  };
  return { answers, hubs, subject };
}

/** New words that differ early, so that the first letters of an answer tell it from the others. */
function several(kind: NameKind, count: number, namer: Namer): string[] {
  const made: string[] = [];
  while (made.length < count) made.push(namer.word(kind, made));
  return made;
}

function titled(kind: keyof typeof titles, word: string, rng: Rng): string {
  return pick<string>(titles[kind], rng).replace("{}", word);
}

function relationsOf(subject: Subject): Relation[] {
  return relations.filter((relation) => relation.subject === subject.kind);
}

/** An index, drawn with these weights. */
function weighted(weights: readonly number[], rng: Rng): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let rest = rng.uniform() * total;
  const index = weights.findIndex((weight) => {
    rest -= weight;
    return rest < 0;
  });
  return index < 0 ? weights.length - 1 : index;
}
