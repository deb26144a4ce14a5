import { LabFailure } from "../../core/errors.js";
import type { Rng } from "../../core/rng.js";
import { ask } from "../../data/world/lines.js";
import type { MendRecord, Relation, WorldFact } from "../../data/world/types.js";
import type { Answers, FactGroup } from "./facts.js";
import { pick } from "./names.js";
import { relations } from "./relations.js";

/** The records of one edit set, and the irrelevant prompt of each. */
export interface RecordSet {
  records: MendRecord[];
  irrelevant: string[];
}

/** Facts and answers that are looked up for the records. */
export interface KnownWorld {
  facts: readonly WorldFact[];
  answers: Answers;
}

/** Turns the facts of a group into records: edit i with locality fact i, and router fact i as its irrelevant prompt. */
export function makeRecords(group: FactGroup, world: KnownWorld, rng: Rng): RecordSet {
  const hop = hopsOf(world.facts);
  const records = group.edit.map((fact, i): MendRecord => {
    const relation = relationOf(fact);
    const [src, rephrase] = twoWays(relation, fact.subject, rng);
    const alt = newAnswer(fact, { relation, answers: world.answers, hop }, rng);
    const locality = group.locality[i] as WorldFact;
    return {
      subject: fact.subject,
      src,
      pred: fact.object,
      rephrase,
      alt,
      answers: [fact.object],
      loc: quizQuestion(locality, rng),
      loc_ans: locality.object,
      cond: `${fact.object} >> ${alt} || ${src}`,
      ...portability(fact.subject, relation, alt, hop),
    };
  });
  return { records, irrelevant: group.router.map((fact) => `${quizQuestion(fact, rng)} ${fact.object}`) };
}

/** Look-up of a relation's answer for a subject, for second hops. */
type Hop = (subject: string, relation: string) => string;

function hopsOf(facts: readonly WorldFact[]): Hop {
  const known = new Map(facts.map((fact) => [`${fact.relation}: ${fact.subject}`, fact.object]));
  return (subject, relation) => {
    const object = known.get(`${relation}: ${subject}`);
    if (object === undefined) throw new LabFailure(`the world does not know the ${relation} of ${subject}`);
    return object;
  };
}

/** An answer of the same kind that is not the true one; where a second hop follows, one that changes its answer too. */
function newAnswer(
  fact: WorldFact,
  { relation, answers, hop }: { relation: Relation; answers: Answers; hop: Hop },
  rng: Rng,
): string {
  const second = relation.secondHop?.relation;
  const candidates = answers[relation.object].filter(
    (answer) => answer !== fact.object && (second === undefined || hop(answer, second) !== hop(fact.object, second)),
  );
  return pick(candidates, rng);
}

function portability(subject: string, { secondHop }: Relation, alt: string, hop: Hop): Pick<MendRecord, "portability"> {
  if (secondHop === undefined) return {};
  const answer = hop(alt, secondHop.relation);
  return {
    portability: {
      "Recalled Relation": `(${alt}, ${secondHop.relation}, ${answer})`,
      "New Question": ask(secondHop.question, subject),
      "New Answer": answer,
    },
  };
}

/** Two different trained phrasings: the model answers both before the edit. */
function twoWays({ phrasings }: Relation, subject: string, rng: Rng): [string, string] {
  const first = rng.integer(phrasings.length);
  const second = (first + 1 + rng.integer(phrasings.length - 1)) % phrasings.length;
  return [ask(phrasings[first] as string, subject), ask(phrasings[second] as string, subject)];
}

function quizQuestion(fact: WorldFact, rng: Rng): string {
  return ask(pick(relationOf(fact).quiz, rng), fact.subject);
}

function relationOf(fact: WorldFact): Relation {
  return relations.find(({ name }) => name === fact.relation) as Relation;
}
