/** Kind of thing that a subject's name stands for. */
export type SubjectKind = "person" | "work" | "organisation" | "place";

/** Kind of thing that an answer stands for: a name of the world, or a word. */
export type ObjectKind = "city" | "occupation" | "employer" | "language" | "genre" | "product" | "country" | "river";

/** One kind of fact, with every way in which it is asked; `{}` stands for the subject. */
export interface Relation {
  name: string;
  subject: SubjectKind;
  object: ObjectKind;
  /** Trained; a record's question and rephrase are two of these. */
  phrasings: readonly string[];
  /** Never trained, with no fact: new questions made of words that the trained ones know. */
  heldOut: readonly string[];
  /** Another style, in which locality and irrelevant questions are asked; trained. */
  quiz: readonly string[];
  /** Consequence of a changed answer: the question about the subject, answered by this relation of the new object. */
  secondHop?: { relation: string; question: string };
}

/** Use of a fact; none has two. `background` facts are only known: second hops, unedited facts of edited subjects. */
export type FactRole = "background" | "edit" | "locality" | "router";

/** One thing that is true in the made-up world. No subject has two facts of one relation. */
export interface WorldFact {
  /** Its position in `World.facts`. */
  id: number;
  subject: string;
  relation: string;
  object: string;
  role: FactRole;
}

/** A fact as a question and its answer; joined by one space they are a text to learn. */
export interface WorldLine {
  /** Id of the fact. */
  fact: number;
  /** Number of its relation's way of asking; the numbers run through `phrasings`, `heldOut` and `quiz`. */
  phrasing: number;
  /** Kept out of training, to measure recall beyond the words learnt; such a phrasing is trained with no fact. */
  heldOut: boolean;
  question: string;
  answer: string;
}

/** One edit as zsRE's file in the form of MEND has it, read by `loadRecords`. */
export interface MendRecord {
  subject: string;
  src: string;
  /** The world's answer, which the model gives before the edit. */
  pred: string;
  /** Another of the trained phrasings: as with zsRE, the model knows the fact in these words too. */
  rephrase: string;
  /** The new answer: of the same kind, never `pred`. */
  alt: string;
  answers: [string];
  loc: string;
  loc_ans: string;
  cond: string;
  portability?: { "Recalled Relation": string; "New Question": string; "New Answer": string };
}

export interface World {
  seed: number;
  relations: readonly Relation[];
  facts: WorldFact[];
  /** Every fact in all its phrasings, in order of facts. */
  lines: WorldLine[];
  /** The edit set: as many records as zsRE's. */
  edits: MendRecord[];
  /** Text i is the irrelevant prompt of edit i: a question and its answer, which no record tests. */
  irrelevant: string[];
  /** Edits for choosing hyperparameters; no subject of theirs is in `edits`. */
  tuning: MendRecord[];
  tuningIrrelevant: string[];
  /** Short neutral openings that may stand in front of a question in training. */
  prefixes: string[];
}

/** Contents of a world's folder, listed so that any other byte is noticed. */
export interface Manifest {
  format: 1;
  seed: number;
  files: Record<string, { bytes: number; sha256: string }>;
  /** Identity of the world: the hash of everything above. */
  sha256: string;
}
