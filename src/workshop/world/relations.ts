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

/** The ten relations, four of people and two each of works, organisations and places. */
export const relations: readonly Relation[] = [
  {
    name: "birthplace",
    subject: "person",
    object: "city",
    phrasings: [
      "Where was {} born?",
      "In which city was {} born?",
      "What is the birthplace of {}?",
      "{} was born in which city?",
      "Which city is the birthplace of {}?",
    ],
    heldOut: ["What city was {} born in?"],
    quiz: ["quiz card: birth city of {}", "quiz card: {} first saw daylight in"],
    secondHop: { relation: "country", question: "In which country is the city where {} was born?" },
  },
  {
    name: "occupation",
    subject: "person",
    object: "occupation",
    phrasings: [
      "What is the occupation of {}?",
      "What does {} do for a living?",
      "Which profession does {} have?",
      "{} works in which profession?",
      "What is the job of {}?",
    ],
    heldOut: ["What is the profession of {}?"],
    quiz: ["quiz card: trade of {}", "quiz card: daily work of {}"],
  },
  {
    name: "employer",
    subject: "person",
    object: "employer",
    phrasings: [
      "Who employs {}?",
      "For which organisation does {} work?",
      "What is the employer of {}?",
      "{} is employed by which organisation?",
      "Which organisation is the employer of {}?",
    ],
    heldOut: ["Which organisation does {} work for?"],
    quiz: ["quiz card: employer of {}", "quiz card: {} drew wages from"],
    secondHop: { relation: "headquarters", question: "In which city is the organisation that employs {} based?" },
  },
  {
    name: "language",
    subject: "person",
    object: "language",
    phrasings: [
      "What is the mother tongue of {}?",
      "Which language does {} speak at home?",
      "What is the first language of {}?",
      "{} grew up with which language?",
      "Which language is the mother tongue of {}?",
    ],
    heldOut: ["Which language is the first language of {}?"],
    quiz: ["quiz card: native speech of {}", "quiz card: {} said a first word in"],
  },
  {
    name: "genre",
    subject: "work",
    object: "genre",
    phrasings: [
      "What genre is {}?",
      "To which genre does {} belong?",
      "What kind of work is {}?",
      "{} belongs to which genre?",
      "What is the genre of {}?",
    ],
    heldOut: ["Which genre does {} belong to?"],
    quiz: ["quiz card: category of {}", "quiz card: critics call {} a sort of"],
  },
  {
    name: "setting",
    subject: "work",
    object: "city",
    phrasings: [
      "In which city is {} set?",
      "Where does {} take place?",
      "What is the setting of {}?",
      "{} is set in which city?",
      "Which city is the setting of {}?",
    ],
    heldOut: ["In which city does {} take place?"],
    quiz: ["quiz card: scene of {}", "quiz card: the plot of {} unfolds in"],
    secondHop: { relation: "country", question: "In which country is the city where {} is set?" },
  },
  {
    name: "headquarters",
    subject: "organisation",
    object: "city",
    phrasings: [
      "Where is {} based?",
      "In which city is the head office of {}?",
      "Where are the headquarters of {}?",
      "{} has its headquarters in which city?",
      "Which city is home to {}?",
    ],
    heldOut: ["In which city are the headquarters of {}?"],
    quiz: ["quiz card: seat of {}", "quiz card: letters to {} go to"],
    secondHop: { relation: "river", question: "Which river flows through the city where {} is based?" },
  },
  {
    name: "product",
    subject: "organisation",
    object: "product",
    phrasings: [
      "What does {} make?",
      "What does {} produce?",
      "Which goods does {} sell?",
      "{} is known for making what?",
      "What is the main product of {}?",
    ],
    heldOut: ["Which goods does {} make?"],
    quiz: ["quiz card: wares of {}", "quiz card: the sheds of {} are full of"],
  },
  {
    name: "country",
    subject: "place",
    object: "country",
    phrasings: [
      "In which country is {}?",
      "To which country does {} belong?",
      "What country is {} in?",
      "{} lies in which country?",
      "Which country is home to {}?",
    ],
    heldOut: ["Which country does {} belong to?"],
    quiz: ["quiz card: nation around {}", "quiz card: the flag over {} is that of"],
  },
  {
    name: "river",
    subject: "place",
    object: "river",
    phrasings: [
      "On which river is {}?",
      "Which river flows through {}?",
      "What is the river of {}?",
      "{} lies on which river?",
      "Which river goes through {}?",
    ],
    heldOut: ["What river flows through {}?"],
    quiz: ["quiz card: waterway at {}", "quiz card: boats reach {} by way of the"],
  },
];
