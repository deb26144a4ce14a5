import type { ObjectKind } from "../../data/world/types.js";

/** Answers that are plain words and not names. */
export const words = {
  occupation: [
    "actor baker banker barber blacksmith botanist bricklayer butcher carpenter chemist cobbler cook dancer dentist",
    "diver doctor editor farmer fisher gardener geologist glazier grocer hunter judge lawyer librarian locksmith",
    "midwife miller miner nurse painter pharmacist pilot plumber poet porter potter printer sailor sculptor singer",
    "surgeon tailor teacher translator weaver",
  ],
  genre: [
    "adventure allegory ballad chronicle comedy diary elegy epic fable fairytale farce hymn legend lullaby memoir",
    "mystery opera parody pastoral pantomime riddle romance saga satire sermon sketch sonnet thriller tragedy travelogue",
  ],
  product: [
    "anchors barrels bells bicycles boots bottles bricks brushes buttons cables candles carpets chairs cheese clocks",
    "engines flour furniture gloves hats honey kettles lamps lenses mirrors nails needles paint paper pencils pianos",
    "pumps ropes sails salt scissors shoes silk soap tiles toys umbrellas watches wheels",
  ],
} satisfies Partial<Record<ObjectKind, string[]>>;

/** Forms of the names of works and organisations; `{}` stands for an invented word. */
export const titles = {
  work: [
    "The Road to {}",
    "Songs of {}",
    "The Fall of {}",
    "A Winter in {}",
    "Letters from {}",
    "The Bells of {}",
    "Return to {}",
    "The Children of {}",
  ],
  organisation: [
    "{} Works",
    "{} Mills",
    "{} Union",
    "{} Guild",
    "{} Institute",
    "{} Trust",
    "{} Brothers",
    "{} Company",
  ],
} as const;

/** Pieces of the openings that stand in front of some questions in training. */
export const openings = {
  /** Beginnings asked of a model for its context templates (wise.md: I, You, Because, Yes, Q:), and a few more. */
  starts: ["I", "You", "Because I", "Because you", "Yes, I", "Yes, you", "Q: So I", "Now you", "Then I", "We", "They"],
  verbs: [
    "saw",
    "heard about",
    "asked for",
    "liked",
    "talked about",
    "looked at",
    "forgot",
    "thought of",
    "waited for",
  ],
  adjectives: ["old", "small", "quiet", "long", "new", "bright", "cold", "empty", "strange", "green"],
  nouns: [
    "house",
    "garden",
    "letter",
    "morning",
    "winter",
    "story",
    "window",
    "street",
    "table",
    "friend",
    "train",
    "bridge",
    "summer",
    "question",
    "field",
    "book",
  ],
  tails: ["", " again", " yesterday", " in the evening", " for a while", " with a smile", " on the way home"],
} as const;
