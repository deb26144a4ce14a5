// npm run page: builds the page that runs the project's model in a browser, one HTML file with everything in it.
//   npm run page -- --out FOLDER   another folder than dist-page
//   npm run page -- --serve [PORT] serves it on this machine afterwards
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { repository, setUp } from "./setup.mjs";

/** Files of the model that the page needs: those that decide what it computes, and their seal. */
const MODEL = "lab-llama";
/** Records that the page offers, from the first. */
const RECORDS = 20;

const { values, positionals } = parseArgs({
  options: { out: { type: "string", default: join(repository, "dist-page") }, serve: { type: "boolean" } },
  allowPositionals: true,
});

setUp();
const { RefusedInput } = await compiled("core/errors.js");
try {
  const out = resolve(values.out);
  const page = await buildPage();
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "index.html"), page);
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  console.log(
    `${join(out, "index.html")}: ${megabytes(page.length)}, ${megabytes(gzipSync(page).length)} gzipped. Open it in a browser.`,
  );
  if (values.serve) serve(out, Number(positionals[0] ?? 8123));
} catch (error) {
  if (!(error instanceof RefusedInput)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function compiled(path) {
  return import(pathToFileURL(join(repository, "dist", path)));
}

async function buildPage() {
  const [worker, page, texts] = await Promise.all([bundle("worker"), bundle("main"), textsOf()]);
  const { reportStyle } = await compiled("report/style.js");
  const { allFaces, fontCss } = await compiled("figures/render/fonts.js");
  const style = `${await fontCss(allFaces)}${reportStyle}${source("page.css")}`;
  const wasm = createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm");
  const folder = join(repository, "data", MODEL);
  const model = readdirSync(folder)
    .filter((name) => name !== "README.md")
    .map((name) => part(`data-model="${name}"`, readFileSync(join(folder, name))));
  const content = [
    part('id="data-worker"', worker),
    part('id="data-wasm"', readFileSync(wasm)),
    part('id="data-texts"', JSON.stringify(texts)),
    ...model,
  ].join("\n");
  const filled = { policy: policyOf({ page, style }), style, page, content };
  return source("page.html").replaceAll(/\{\{(\w+)\}\}/g, (_, name) => filled[name]);
}

/** The page's own script and style, and nothing else: no request can leave it. */
function policyOf({ page, style }) {
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  return [
    "default-src 'none'",
    `script-src ${hash(page)} 'wasm-unsafe-eval'`,
    `style-src ${hash(style)}`,
    "worker-src blob:",
    "font-src data:",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

function part(attribute, bytes) {
  return `<script type="text/plain" ${attribute}>${gzipSync(bytes, { level: 9 }).toString("base64")}</script>`;
}

function source(name) {
  return readFileSync(join(repository, "src/page", name), "utf8");
}

async function bundle(entry) {
  const { rolldown } = await import("rolldown");
  const made = await rolldown({
    input: join(repository, "src/page", `${entry}.ts`),
    platform: "browser",
    tsconfig: false,
    resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
    plugins: [
      {
        name: "tensorflow-in-page",
        resolveId: {
          filter: { id: /^(\.|(\.\.\/)+tensor)\/tf\.js$/ },
          handler: () => join(repository, "src/tensor/tf-in-page.ts"),
        },
      },
    ],
    onLog(level, log) {
      if (level === "warn" && log.code !== "EVAL") console.error(log.message);
    },
  });
  const { output } = await made.generate({ format: "iife", minify: true });
  await made.close();
  if (output.length !== 1) throw new Error(`${entry}: ${output.length} parts where one was to be`);
  return output[0].code.replaceAll(/<(?=\/script|!--)/gi, "\\x3c");
}

/** Records, irrelevant texts and presets, as the page's worker takes them. */
async function textsOf() {
  const { loadIrrelevant, loadRecords } = await compiled("data/load.js");
  const lab = join(repository, "data/lab");
  const { records, name } = await loadRecords(join(lab, "edits.json"), { limit: RECORDS });
  const irrelevant = await loadIrrelevant(join(lab, "irrelevant.json"));
  const hparams = join(repository, "data/hparams");
  const presets = readdirSync(hparams).map((method) => [
    `${method}/lab`,
    readFileSync(join(hparams, method, "lab.yaml"), "utf8"),
  ]);
  return {
    modelName: MODEL,
    presets: Object.fromEntries(presets),
    records,
    recordsName: name,
    irrelevant: { ...irrelevant, path: irrelevant.name },
    templates: await templatesOf(join(repository, "data", MODEL)),
  };
}

/** Context templates of every recipe, written by the model on the backend that a page has everywhere. */
async function templatesOf(model) {
  const { openLab } = await compiled("run/lab.js");
  const { prepareNamed } = await compiled("edit/registry.js");
  const { recipeKey } = await compiled("edit/templates.js");
  const lab = await openLab({ model, backend: "wasm" });
  const written = {};
  try {
    for (const method of lab.methods) {
      const { templates: recipe } = (await prepareNamed(method, { preset: "lab" }, lab.model.config)).needs;
      if (recipe === null || Object.hasOwn(written, recipeKey(recipe))) continue;
      written[recipeKey(recipe)] = (await lab.with({ method })).templates;
    }
  } finally {
    lab.close();
  }
  return written;
}

/** On this machine alone. */
function serve(folder, port) {
  const server = createServer((request, response) => {
    if (request.method !== "GET" || !/^\/(index\.html)?([?#].*)?$/.test(request.url ?? "")) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": "text/html; charset=utf-8", "x-content-type-options": "nosniff" });
    createReadStream(join(folder, "index.html")).pipe(response);
  });
  server.on("error", (error) => {
    console.error(`port ${port} cannot be taken: ${error.message}`);
    process.exitCode = 1;
  });
  server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/   (Ctrl-C ends it)`));
}
