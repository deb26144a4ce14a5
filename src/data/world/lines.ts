import type { Relation, WorldFact, WorldLine } from "./types.js";

/** Number of its relation's plain phrasings that train a fact also asked in quiz style: five lines in all. */
const PLAIN_BESIDE_QUIZ = 3;

/** A phrasing with the subject put in. */
export function ask(phrasing: string, subject: string): string {
  return phrasing.replace("{}", () => subject);
}

/**
 * Every fact in all its phrasings: five that are trained, then those held out. Facts that test locality or train the
 * router are trained with the two quiz phrasings and three of the plain ones (which three goes round with the fact's
 * id), all others with the five plain ones.
 */
export function linesOf(facts: readonly WorldFact[], relations: readonly Relation[]): WorldLine[] {
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  return facts.flatMap((fact) => {
    const relation = byName.get(fact.relation) as Relation;
    const line = (phrasing: number, heldOut: boolean): WorldLine => {
      const text = phrasingsOf(relation)[phrasing] as string;
      return { fact: fact.id, phrasing, heldOut, question: ask(text, fact.subject), answer: fact.object };
    };
    const heldOut = relation.heldOut.map((_, i) => relation.phrasings.length + i);
    return [...trained(fact, relation).map((i) => line(i, false)), ...heldOut.map((i) => line(i, true))];
  });
}

function phrasingsOf(relation: Relation): string[] {
  return [...relation.phrasings, ...relation.heldOut, ...relation.quiz];
}

function trained(fact: WorldFact, relation: Relation): number[] {
  const plain = relation.phrasings.map((_, i) => i);
  if (fact.role !== "locality" && fact.role !== "router") return plain;
  const some = plain.slice(0, PLAIN_BESIDE_QUIZ).map((i) => (fact.id + i) % plain.length);
  const firstQuiz = relation.phrasings.length + relation.heldOut.length;
  return [...some, ...relation.quiz.map((_, i) => firstQuiz + i)];
}
