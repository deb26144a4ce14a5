import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findBrowsers } from "../../src/figures/browser.js";
import { savedEditsFile } from "../../src/run/folder-files.js";
import { requires } from "../support/requires.js";
import { repository } from "../support/shared.js";

const MINUTES = 60_000;
/** The edit that the page offers first, and what it asks beside. */
const FACT = { prompt: "Nudren Zilkett is employed by which organisation?", target: "Skisod Mills" };
const UNRELATED = "quiz card: seat of Tusturn Guild";

/** A link that carries the edit, made with these settings: few steps are quick. */
const linkTo = (set: string[]) =>
  `#edit=${encodeURIComponent(JSON.stringify({ method: "wise", set, ...FACT, irrelevant: null }))}`;

function node(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: repository, encoding: "utf8" });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}

const command = (...args: string[]) => node("dist/cli.js", ...args, "--backend", "wasm");

/** What a page asked of the world, and said of faults. */
interface Watched {
  page: Page;
  requests: string[];
  faults: string[];
}

describe.runIf(requires("chromium"))("the page in a browser, from a disk", () => {
  const folder = mkdtempSync(join(tmpdir(), "wise-lab-page-"));
  const file = join(folder, "index.html");
  let browser: Browser;

  const launch = (...args: string[]) =>
    chromium.launch({ executablePath: findBrowsers()[0]?.path as string, args: ["--no-sandbox", ...args] });

  beforeAll(async () => {
    node("scripts/page.mjs", "--out", folder);
    browser = await launch();
  }, 5 * MINUTES);
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  async function open(
    address = "",
    { on = browser, ...options }: BrowserContextOptions & { on?: Browser } = {},
  ): Promise<Watched> {
    const context = await on.newContext({ offline: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(20 * MINUTES);
    const watched: Watched = { page, requests: [], faults: [] };
    page.on("request", (request) => watched.requests.push(request.url().slice(0, 100)));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) watched.faults.push(message.text());
    });
    page.on("pageerror", (error) => watched.faults.push(error.message));
    await page.goto(pathToFileURL(file).href + address);
    await page.waitForSelector("html[data-ready]");
    return watched;
  }

  /** Asked nothing of the world beyond itself and its worker, without a fault. */
  function expectQuiet({ requests, faults }: Watched): void {
    expect(requests.filter((url) => !/^(blob|data):/.test(url) && !url.startsWith(pathToFileURL(file).href))).toEqual(
      [],
    );
    expect(faults).toEqual([]);
  }

  const row = (page: Page, question: string) => page.locator(".answers tr", { hasText: question }).innerText();
  const idle = (page: Page) => page.waitForSelector("#edit button[type=submit]:not([disabled])");

  async function write(page: Page): Promise<void> {
    await page.click("#edit button[type=submit]");
    await page.waitForSelector("html[data-edits='1']");
    await idle(page);
  }

  it(
    "answers, is edited, answers otherwise and leaves the rest, and is rolled back",
    async () => {
      const watched = await open();
      const { page } = watched;
      expect(await page.textContent("#status")).toMatch(/^lab-llama, 7\.3 million parameters, on WebAssembly/);
      expect(await row(page, FACT.prompt)).toContain("Genix Institute");
      const unrelated = await row(page, UNRELATED);
      await write(page);
      expect(await page.textContent("#edited")).toMatch(/^Written in 10 steps/);
      expect(await row(page, FACT.prompt)).toMatch(
        /Genix Institute\s+Skisod Mills\s+the side memory\s+Δ [\d.]+, .*threshold/,
      );
      expect(await row(page, UNRELATED)).toMatch(/Broltomb\s+Broltomb\s+the untouched model/);
      expect(await page.getAttribute("#curves svg >> nth=0", "aria-label")).toMatch(/^Loss after 10 steps/);
      expect(await page.getAttribute("#curves svg >> nth=1", "aria-label")).toMatch(
        /^Routing activation Δ after 10 steps/,
      );
      await page.click("#rollback");
      await page.waitForSelector("html[data-edits='0']");
      expect(await page.textContent("#edited")).toBe("Rolled back: word for word the answers of before.");
      expect(await row(page, UNRELATED)).toBe(unrelated);
      expectQuiet(watched);
      await page.context().close();
    },
    20 * MINUTES,
  );

  it(
    "saves edits that the command line restores with the same hash, and restores those of a run",
    async () => {
      const watched = await open();
      const { page } = watched;
      await write(page);
      const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
      const saved = join(folder, "edits.safetensors");
      await download.saveAs(saved);
      const sha256 = (await page.getAttribute("html", "data-sha256")) as string;
      const said = command("edits", saved, "--ask", FACT.prompt, "--ask", UNRELATED);
      expect(said).toContain(`1 edit of WISE on lab-llama, sha256 ${sha256}`);
      expect(said).toMatch(/organisation\? {2}Skisod Mills {3}\(from the side memory\)/);
      expect(said).toMatch(/Guild {2}Broltomb {3}\(from the untouched model\)/);

      const run = join(folder, "run");
      command("run", "--T", "2", "--limit", "2", "--processes", "1", "--save-edits", "--out", run);
      const edits = savedEditsFile(run, 0);
      const [ofRun] = /[0-9a-f]{64}/.exec(command("edits", edits)) as RegExpExecArray;
      await idle(page);
      await page.setInputFiles("#file", edits);
      await page.waitForSelector("html[data-edits='2']");
      expect(await page.getAttribute("html", "data-sha256")).toBe(ofRun);
      await idle(page);
      expect(await row(page, FACT.prompt)).toMatch(/Skisod Mills\s+the side memory/);

      const damaged = readFileSync(edits);
      damaged[damaged.length - 1] = (damaged.at(-1) as number) ^ 1;
      await page.setInputFiles("#file", { name: "damaged.safetensors", mimeType: "", buffer: damaged });
      await page.waitForSelector("#kept.refused");
      expect(await page.textContent("#kept")).toContain("saved edits are not as they were written");
      expect(await page.getAttribute("html", "data-sha256")).toBe(ofRun);
      expectQuiet(watched);
      await page.context().close();
    },
    20 * MINUTES,
  );

  it(
    "runs T = 1 and T = 10 as the command line does, and decides them anew at other values of act_ratio",
    async () => {
      const watched = await open(linkTo(["n_iter=3"]));
      const { page } = watched;
      await page.click("#run");
      await page.waitForSelector("#slider:not([hidden])");
      await idle(page);
      const run = join(folder, "ten");
      command("run", "--T", "10", "--limit", "10", "--set", "n_iter=3", "--processes", "1", "--out", run);
      const [head, line] = node("dist/cli.js", "table", run, "--format", "csv").trim().split("\n");
      const [names, values] = [(head as string).split(","), (line as string).split(",")];
      const scores = ["rewrite", "rephrase", "locality"].map((name) => Number(values[names.indexOf(name)]));
      const shown = (await page.innerText("#table tbody tr:nth-child(2)")).split(/\s+/).slice(3, 6).map(Number);
      for (const [i, score] of scores.entries()) expect(shown[i]).toBeCloseTo(score, 3);
      expect(await page.getAttribute("#dots svg", "aria-label")).toContain("unrelated: 0 of 10");
      await page.focus("#value");
      await page.keyboard.press("Home");
      await page.waitForSelector("#dots svg[aria-label*='unrelated: 10 of 10']");
      await page.keyboard.press("End");
      await page.waitForSelector("#dots svg[aria-label*='edited question: 0 of 10']");
      expectQuiet(watched);
      await page.context().close();
    },
    20 * MINUTES,
  );

  it(
    "edits with every method that it offers",
    async () => {
      const watched = await open();
      const { page } = watched;
      const names = await page.$$eval("#method option", (all) => all.map((option) => option.getAttribute("value")));
      expect(names).toEqual(["wise", "grace", "defer", "ft-l", "ft-m", "ft-ewc", "lora", "ultraedit"]);
      for (const name of names.slice(1)) {
        await page.selectOption("#method", name);
        await page.waitForSelector("html[data-edits='0']");
        await idle(page);
        await write(page);
        expect(await page.textContent("#edited"), String(name)).toMatch(/^Written in/);
      }
      expectQuiet(watched);
      await page.context().close();
    },
    20 * MINUTES,
  );

  it(
    "makes the edit that a link carries, and refuses in words what cannot be had",
    async () => {
      const watched = await open(linkTo(["n_iter=3"]));
      const { page } = watched;
      expect(await page.textContent("#edited")).toMatch(/^Written in 3 steps/);
      await page.click("summary");
      await page.fill("#set", "n_itre=3");
      await page.click("#edit button[type=submit]");
      await page.waitForSelector("#edited.refused");
      expect(await page.textContent("#edited")).toContain("the nearest is n_iter");
      expect(await page.getAttribute("html", "data-edits")).toBe("1");
      expectQuiet(watched);
      await page.context().close();
      const strange = await open(`#edit=${encodeURIComponent("<img src=x onerror=alert(1)>")}`);
      expect(await strange.page.textContent("#answers")).toContain("Genix Institute");
      expectQuiet(strange);
      await strange.page.context().close();
    },
    20 * MINUTES,
  );

  it.each([
    { width: 375, colorScheme: "dark" },
    { width: 1280, colorScheme: "light" },
  ] as const)(
    "fits a screen of $width pixels, $colorScheme, with a name for every control",
    async ({ width, colorScheme }) => {
      const watched = await open(linkTo(["n_iter=2"]), { viewport: { width, height: 800 }, colorScheme });
      const { page } = watched;
      await page.waitForSelector("html[data-edits='1']");
      await page.click("#run");
      await page.waitForSelector("#slider:not([hidden])");
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
      expect(
        await page.evaluate(
          "document.querySelector('#table').scrollWidth <= document.querySelector('#table').clientWidth",
        ),
      ).toBe(true);
      const paper = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
      expect(paper).toBe(colorScheme === "dark" ? "rgb(21, 24, 28)" : "rgb(255, 255, 255)");
      const nameless = await page.$$eval("input, select, button, [role=region], [role=img]", (all) =>
        all
          .filter((each) => {
            const { labels = [] } = each as unknown as { labels?: ArrayLike<unknown> };
            return !labels?.length && !each.getAttribute("aria-label") && !each.textContent?.trim();
          })
          .map(({ id }) => id),
      );
      expect(nameless).toEqual([]);
      expectQuiet(watched);
      await page.context().close();
    },
    20 * MINUTES,
  );

  it(
    "computes on WebGPU where it is named, and never takes a program that plays a card by itself",
    async () => {
      const link = linkTo(["n_iter=2"]);
      const card = await launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader");
      try {
        const wasm = await open(link, { on: card });
        expect(await wasm.page.textContent("#status")).toContain("on WebAssembly");
        const there = await wasm.page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => adapter !== null)");
        if (there !== true && !process.env.WISE_LAB_REQUIRE?.includes("chromium")) {
          console.info("skipped here: this browser plays no graphics card");
          return;
        }
        const webgpu = await open(`?backend=webgpu${link}`, { on: card });
        expect(await webgpu.page.textContent("#status")).toContain("on WebGPU");
        const numbers = async ({ page }: Watched) => {
          const labels = await page.$$eval("#curves svg", (all) =>
            all.map((svg) => svg.getAttribute("aria-label") ?? ""),
          );
          return labels
            .join()
            .match(/[\d.]+(?=,|$)/g)
            ?.map(Number) as number[];
        };
        const [ours, theirs] = [await numbers(webgpu), await numbers(wasm)];
        expect(ours.length).toBeGreaterThan(3);
        for (const [i, value] of ours.entries())
          expect(Math.abs(value - (theirs[i] as number))).toBeLessThan(0.01 * value + 0.01);
        expect(await row(webgpu.page, UNRELATED)).toMatch(/Broltomb\s+Broltomb/);
        for (const each of [wasm, webgpu]) expectQuiet(each);
      } finally {
        await card.close();
      }
    },
    40 * MINUTES,
  );
});
