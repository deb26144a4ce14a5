/** A data file that the project knows. It is not part of the project: users get it from its source. */
export interface CatalogueEntry {
  /** File name in the data folder. */
  file: string;
  sha256: string;
  bytes: number;
  records: number;
  /** Description of the file and its origin, in words. */
  source: string;
  /** Address from which the same bytes can be downloaded; null where no public one is known. */
  url: string | null;
  /** A page on which a person finds it. */
  page: string;
  /** Licence of the file, as far as it is known. */
  licence: string;
}

/** The authors' own distribution of the WISE sets, named in examples/WISE.md of zjunlp/EasyEdit; a page for a browser. */
const AUTHORS_DISTRIBUTION = "https://drive.google.com/file/d/1YtQvv4WvTa4rJyDYQR2J-uK8rnrt0kTA/view";

/** GitHub's address of one file at one commit, also where the repository keeps it in large-file storage. */
const github = (repository: string, commit: string, path: string) =>
  `https://github.com/${repository}/raw/${commit}/${path}`;

const REPAIR = ["sci-m-wang/REPAIR", "a4e4e0897d1ecf2baea8e16fdf4209be2a2a12d9"] as const;
const ROSELORA = ["ayushnangia/roselora", "e357ad1a230f8f03ac82570f9e2c1cc9c32a1221"] as const;
const ROSELORA_KNOWEDIT = ["emil2001/RoseLoRA", "e6b7a73027b69a3b4a4565ba8d48dbbd0bdfa8dc"] as const;
const REVISIT = ["WanliYoung/Revisit-Editing-Evaluation", "61ccca3c1ecdb3976c9c0924e9352f3e64cc7d48"] as const;

const ZSRE_LICENCE =
  "none stated with the file; zsRE of Levy et al. 2017 in the MEND split, locality from Natural Questions";
const SELFCHECK_LICENCE = "none stated with the file; SelfCheckGPT passages via GRACE, locality from RedPajama";
const TEMPORAL_LICENCE = "none stated with the file; Wikipedia openings and GPT-4 texts, locality from the Pile";

/** The files behind the paper's tables, and two of other forms that users bring. */
export const catalogue = {
  zsre_mend_edit: {
    file: "zsre_mend_edit.json",
    sha256: "0cf155da229b2eccae19fcfe5f7a09523363d357f5f15508d1521f495ad5ecd9",
    bytes: 842_861,
    records: 1037,
    source: "the WISE authors' zsRE edit set",
    url: github(...ROSELORA, "examples/data/ZsRE/zsre_mend_edit.json"),
    page: AUTHORS_DISTRIBUTION,
    licence: ZSRE_LICENCE,
  },
  zsre_mend_train_loc_prompts_first1000: {
    file: "zsre_mend_train_loc_prompts_first1000.json",
    sha256: "3e4ed72f9f28c792fc0c298c2435dfb465b16cf90714aec3d5191ba8f849f2bf",
    bytes: 86_467,
    records: 1000,
    source:
      "irrelevant prompts for zsRE, derived: loc and loc_ans of the first 1000 records of the authors' zsre_mend_train.json, which can be used as it is in its place",
    url: null,
    page: AUTHORS_DISTRIBUTION,
    licence: ZSRE_LICENCE,
  },
  "hallucination-edit": {
    file: "hallucination-edit.json",
    sha256: "523ce88b5299047bf58ea3ad8b7e9d12635592543df54b58c8eaf16d5e68aaaf",
    bytes: 538_052,
    records: 600,
    source: "the WISE authors' hallucination edit set",
    url: github(...REPAIR, "data/wise/hallucination/hallucination-edit.json"),
    page: AUTHORS_DISTRIBUTION,
    licence: SELFCHECK_LICENCE,
  },
  "hallucination-train": {
    file: "hallucination-train.json",
    sha256: "ef280a0ce9aa194c545e7a1c7983df181b8e48dbfb1945ffe40e1903cca0d297",
    bytes: 274_920,
    records: 306,
    source: "the WISE authors' hallucination training set, for irrelevant prompts",
    url: github(...REPAIR, "data/wise/hallucination/hallucination-train.json"),
    page: AUTHORS_DISTRIBUTION,
    licence: SELFCHECK_LICENCE,
  },
  "temporal-edit": {
    file: "temporal-edit.json",
    sha256: "3c27956224d56111762e7b56ca0595dc638cc005faaf322a01c48ecd5283aef8",
    bytes: 158_826,
    records: 75,
    source: "the WISE authors' temporal edit set",
    url: github(...REPAIR, "data/wise/temporal/temporal-edit.json"),
    page: AUTHORS_DISTRIBUTION,
    licence: TEMPORAL_LICENCE,
  },
  "temporal-train": {
    file: "temporal-train.json",
    sha256: "0ba8c40de49bd0d0ffc1da69ac17fcfce6db8c32bf36a7df5c88730b48e1172a",
    bytes: 155_949,
    records: 75,
    source: "the WISE authors' temporal training set, for irrelevant prompts",
    url: github(...REPAIR, "data/wise/temporal/temporal-train.json"),
    page: AUTHORS_DISTRIBUTION,
    licence: TEMPORAL_LICENCE,
  },
  "counterfact-edit": {
    file: "counterfact-edit.json",
    sha256: "20c225e6299b3c5b2c569bd9103aa212806e0d1e6e0c307de5c379773979b967",
    bytes: 3_850_773,
    records: 10_000,
    source: "CounterFact in EasyEdit's flat form: one rephrase and one neighbourhood prompt per record",
    url: github(...REVISIT, "data/counterfact-edit.json"),
    page: "https://github.com/WanliYoung/Revisit-Editing-Evaluation",
    licence: "host repository Apache-2.0; CounterFact comes from the ROME repository (MIT)",
  },
  "KnowEdit-ZsRE-test-all": {
    file: "KnowEdit-ZsRE-test-all.json",
    sha256: "0e0214dda853a906ef02bef58c7ce2978af5a962e91fc4a10827e0125459905c",
    bytes: 1_519_289,
    records: 1301,
    source: "the zsRE test set of KnowEdit",
    url: github(...ROSELORA_KNOWEDIT, "EasyEdit/data/ZsRE-test-all.json"),
    page: "https://huggingface.co/datasets/zjunlp/KnowEdit",
    licence: "MIT, by the data set card of zjunlp/KnowEdit",
  },
} as const satisfies Record<string, CatalogueEntry>;

export type DataName = keyof typeof catalogue;
