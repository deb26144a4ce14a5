import { existsSync } from "node:fs";
import { cp, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { methodNamed } from "../../src/edit/registry.js";
import type { RecordScore } from "../../src/eval/types.js";
import { findBrowser, prepareBrowser } from "../../src/figures/browser.js";
import { casesOf } from "../../src/report/case.js";
import { reportHtml } from "../../src/report/report.js";
import { wordsOf } from "../../src/report/words.js";
import { readRun } from "../../src/run/folder.js";
import type { RunResult } from "../../src/run/types.js";
import { temporaryFolder } from "../model/support.js";
import { scratchFolder } from "../notebook/support.js";
import { openQuickLab, wiseLab } from "../run/support.js";
import { requires } from "../support/requires.js";
import {
  editedProbe,
  localityProbe,
  probe,
  reading,
  record,
  runOf,
  unreachable,
  unroutedMethod,
  unroutedRun,
} from "./sample.js";

const EVIL = `</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=2"> & "quoted" \u2028<!--`;

/** Five records, one for each cause that matters here, and one whose texts try to break out of the page. */
function mixedRun(): RunResult {
  return runOf([
    record(0),
    record(1, { rewrite: probe("main", [reading("side", [1, 2], 0.5), unreachable("memory-0", 0.1)]) }),
    record(2, { rephrase: probe("side", [reading("side", [1, 9])]) }),
    record(3, { block: 1, locality: [localityProbe("side", [reading("side", [8, 9])])] }),
    record(4, { block: 1, subject: EVIL, rewrite: { ...probe("side", [reading("side", [1, 2])]), prompt: EVIL } }),
  ]);
}

/** Edits that always answer: one right, one that changed a locality probe, one that is not right. */
function mixedUnroutedRun(): RunResult {
  return unroutedRun([
    record(0, { rewrite: editedProbe([1, 2]) }),
    record(1, {
      rewrite: editedProbe([1, 2]),
      locality: [{ ...editedProbe([1, 9], [1, 2]), preScore: null }],
    }),
    record(2, { rewrite: editedProbe([8, 9]) }),
  ]);
}

describe("reportHtml", () => {
  it("has a row for what is lost of edits that log no loss where there is such a thing, with its count", async () => {
    const run = unroutedRun([record(0, { rewrite: editedProbe([8, 9]) }), record(1)]);
    const silent = run.edits.map((edit) => ({ ...edit, steps: edit.steps.slice(0, 1) }));
    const rowsOf = async (one: RunResult) =>
      [...(await reportHtml(one, "a run", unroutedMethod)).matchAll(/<th scope="row" class="meant">([a-z -]+)</g)].map(
        ([, name]) => name,
      );
    const usual = ["over-edited", "not carried over", "forgotten", "not learned"];
    expect(await rowsOf(run)).toEqual(usual);
    expect(await rowsOf({ ...run, edits: silent })).toEqual([...usual, "forgotten or not learned"]);
    const [probe] = casesOf({ ...run, edits: silent }, unroutedMethod)[0]?.probes ?? [];
    expect(probe).toMatchObject({
      cause: "forgotten or not learned",
      why: expect.stringMatching(/after 1 later edit, and no loss/),
    });
  });

  it("says what a router left to the untouched model, and of a method without one that its edits always answer", async () => {
    const always = "has no router: its edits always answer";
    const routed = await reportHtml(mixedRun(), "routed");
    for (const part of ["Left to main", ">any edit<", "wrong edit"]) expect(routed).toContain(part);
    expect(routed).not.toContain(always);

    const page = await reportHtml(mixedUnroutedRun(), "plain", unroutedMethod);
    expect(page).toContain(`Plain ${always}.`);
    const markup = page.replace(/<(script|style)[\s\S]*?<\/\1>/g, "");
    expect(markup).not.toMatch(/Left to main|id="route"|not routed|wrong edit|value="margin"/);
    const all = page.replace(/url\(data:[^)]*\)/g, ""); // a font may spell anything
    expect(all).not.toMatch(/\b(memory|memories|side|act_ratio|WISE)\b/);
  });

  it("says what is missing from an unfinished run, and shows one without any block", async () => {
    const run = { ...mixedRun(), protocol: { ...mixedRun().protocol, records: 9 } };
    expect(await reportHtml(run, "half")).toMatch(/Not finished\.<\/strong> 5 of 9\s+records/);
    const empty = await reportHtml({ ...run, scores: [], edits: [] }, "none");
    expect(empty).toContain("No block of this run is finished yet");
  });

  it("keeps texts from a run out of the page's code", async () => {
    const page = await reportHtml({ ...mixedRun(), protocol: { ...mixedRun().protocol, data: EVIL } }, EVIL);
    expect(page.match(/<script|<\/script/g)).toHaveLength(4);
    const [markup, data] = [
      page.replace(/<script[\s\S]*?<\/script>/g, ""),
      /id="cases">([\s\S]*?)<\/script>/.exec(page)?.[1],
    ];
    expect(markup.match(/<img|<!--|(src|href)="(?!#|data:,)/)).toBeNull();
    expect(data?.match(/[<\u2028]/)).toBeNull();
    expect(JSON.parse(data ?? "").cases[4][2]).toBe(EVIL);
  });
});

describe("wise-lab report", () => {
  it("writes a page for a run, finished or not, changes nothing in its folder, and refuses what is no run", async () => {
    const folder = await temporaryFolder();
    const lab = await openQuickLab();
    await lab.run({ T: 2, out: join(folder, "run") });
    lab.close();
    const scores = await readFile(join(folder, "run", "scores.jsonl"), "utf8");

    const out = join(folder, "page.html");
    const done = await wiseLab("report", join(folder, "run"), "--out", out);
    expect(done).toMatchObject({ status: 0, stdout: `${out}: 6 records\n` });
    expect(await readFile(out, "utf8")).toContain("<h1>run</h1>");
    expect(await readFile(join(folder, "run", "scores.jsonl"), "utf8")).toBe(scores);

    await cp(join(folder, "run"), join(folder, "half"), { recursive: true });
    const blocks = await readFile(join(folder, "half", "blocks.jsonl"), "utf8");
    await truncate(join(folder, "half", "blocks.jsonl"), blocks.indexOf("\n") + 1);
    expect((await readRun(join(folder, "half"))).scores).toHaveLength(2);
    const [half, refused] = await Promise.all([
      wiseLab("report", join(folder, "half"), "--out", join(folder, "half.html")),
      wiseLab("report", folder, "--out", join(folder, "none.html")),
    ]);
    expect(half.stdout).toContain(": 2 of 6 records; the run is not finished");

    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/run\.json/);
    expect(existsSync(join(folder, "none.html"))).toBe(false);
  });
});

/** Colours of a page as "rgb(R, G, B)": of all of it, and of every kind of text and of drawing, on what it stands on. */
interface Colours {
  ink: string;
  paper: string;
  pairs: { name: string; color: string; ground: string }[];
}

const COLOURS = `(() => {
  const style = (element) => getComputedStyle(element);
  const isClear = (color) => color === "rgba(0, 0, 0, 0)";
  const groundOf = (element) => {
    while (element && isClear(style(element).backgroundColor)) element = element.parentElement;
    return style(element ?? document.documentElement).backgroundColor;
  };
  const { color: ink, backgroundColor: paper } = style(document.documentElement);
  const texts = ".note, .over, .why, .badge, .cause, .tag, .token, .readings td, .readings th, a, label, .interval, h2";
  const pairs = [...document.querySelectorAll(texts)].map((each) => ({
    name: each.className || each.tagName, color: style(each).color, ground: groundOf(each),
  }));
  const drawn = [...document.querySelectorAll("svg.loss text")].map((each) => ({
    name: each.getAttribute("class"), color: style(each).fill, ground: groundOf(each),
  }));
  return { ink, paper, pairs: [...pairs, ...drawn] };
})()`;

/** Relative luminance and contrast as WCAG 2 defines them. */
function luminance(color: string): number {
  const [r, g, b] = (color.match(/\d+/g) ?? []).slice(0, 3).map((text) => {
    const share = Number(text) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one: string, other: string): number {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

describe.runIf(requires("chromium"))("a report in a browser, offline", () => {
  const folder = scratchFolder();
  let browser: Browser;
  let page: Page;
  let address = "";
  let plainAddress = "";
  const faults: string[] = [];

  beforeAll(async () => {
    const file = join(await folder(), "report.html");
    await writeFile(file, await reportHtml(mixedRun(), "mixed"));
    address = pathToFileURL(file).href;
    const plain = join(await folder(), "plain.html");
    await writeFile(plain, await reportHtml(mixedUnroutedRun(), "plain", unroutedMethod));
    plainAddress = pathToFileURL(plain).href;
    const found = findBrowser();
    if (found === null) throw new Error("no browser");
    const { path, env } = await prepareBrowser(found);
    browser = await chromium.launch({
      executablePath: path,
      env: { ...process.env, ...env } as Record<string, string>,
    });
    const context = await browser.newContext({ offline: true, viewport: { width: 1300, height: 900 } });
    page = await context.newPage();
    page.on("console", (message) => faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("request", (request) => {
      if (!/^(file|data|about):/.test(request.url())) faults.push(request.url());
    });
  });
  afterAll(() => browser?.close());

  const open = async (hash = "") => {
    await page.goto("about:blank");
    await page.goto(address + hash);
  };
  const rows = () => page.locator("#rows tr");

  it("leads from a number of a table to its records, and from there to one in full", async () => {
    await open();
    expect(await rows().count()).toBe(5);
    await page.getByRole("row", { name: "not routed" }).getByRole("link").first().click();
    expect(await rows().count()).toBe(1);
    expect(await page.locator("#count").textContent()).toBe("1 of 5 records");
    await rows().getByRole("link").click();
    const detail = page.locator("#detail");
    expect(await detail.locator("h3").first().textContent()).toMatch(/Rewrite ✗ wrong not routed/);
    expect(await detail.locator(".why").textContent()).toContain("its margin was 0.5: 1 is needed");
    expect(await detail.locator(".tokens").first().textContent()).toMatch(/wanted␣one␣two\s*before✗ ␣no✗ ␣never/);
    expect(await detail.locator(".readings").first().textContent()).toContain("untouched answered");
    const symbols = wordsOf(methodNamed("wise")).numbers?.map(({ symbol }) => symbol) ?? [];
    const heads = ["Variant", ...symbols, "Margin", "", "Would answer", "Score"];
    expect(await detail.locator(".readings thead th").allTextContents()).toEqual(heads);
    expect(await detail.textContent()).toContain("1 more can never answer.");
    expect(await detail.locator("svg.bar").count()).toBeGreaterThan(0);
    expect(await detail.locator("svg.loss polyline").count()).toBe(2);
    expect(page.url()).toMatch(/#.*cause=not\+routed.*record=1$/);
  });

  it("filters, searches and sorts, keeps it in the address, and goes back", async () => {
    await open();
    await page.getByLabel("Outcome").selectOption("not right");
    expect(await rows().count()).toBe(3);
    await page.getByLabel("Block").selectOption("1");
    expect(await rows().count()).toBe(1);
    await page.getByLabel("Block").selectOption("");
    await page.getByLabel("Sort by").selectOption("score");
    expect(await rows().first().textContent()).toContain("1");
    const kept = page.url();
    await page.getByLabel("Search").fill("#3");
    await page.keyboard.press("Enter");
    expect(await rows().count()).toBe(1);
    await page.getByLabel("Search").fill("nothing is like this");
    expect(await page.locator("#empty").isVisible()).toBe(true);
    await page.getByRole("button", { name: "Clear" }).click();
    expect(await rows().count()).toBe(5);
    await open(new URL(kept).hash);
    expect(await rows().count()).toBe(3);
    expect(await page.getByLabel("Outcome").inputValue()).toBe("not right");
  });

  it("is used with the keyboard alone", async () => {
    await open();
    await page.keyboard.press("/");
    await page.keyboard.type("subject");
    await page.keyboard.press("Escape");
    await page.locator("#row-0").focus();
    await page.keyboard.press("Enter");
    await expectOpen("Record 0");
    await page.keyboard.press("j");
    await expectOpen("Record 1");
    await page.keyboard.press("k");
    await expectOpen("Record 0");
    await page.keyboard.press("Escape");
    expect(await page.locator("#detail").isVisible()).toBe(false);
    expect(await page.evaluate("document.activeElement.id")).toBe("row-0");
  });

  it("shows texts that would be code as the texts they are", async () => {
    await open("#record=4");
    await expectOpen("Record 4");
    expect(await page.locator("#detail .title").textContent()).toContain(EVIL);
    expect(await page.evaluate("window.hacked")).toBeUndefined();
  });

  it("takes any address, and says when it has no such record", async () => {
    await open("#record=77&cause=nonsense&order=__proto__&block=x");
    expect(await page.locator("#case").textContent()).toContain("This run has not scored it.");
    expect(await rows().count()).toBe(0);
  });

  it("fits a phone, whatever the length of a word", async () => {
    const word = "w".repeat(90);
    const [first, ...others] = mixedRun().scores as [RecordScore, ...RecordScore[]];
    const long = { ...first, rewrite: { ...first.rewrite, prompt: word, answer: word }, subject: word };
    const run = { ...mixedRun(), scores: [long, ...others] };
    const file = join(await folder(), "long.html");
    await writeFile(file, await reportHtml({ ...run, protocol: { ...run.protocol, data: word } }, word));
    for (const width of [360, 375]) {
      await page.setViewportSize({ width, height: 700 });
      for (const hash of ["", "#record=0", "#record=1"]) {
        await page.goto("about:blank");
        await page.goto(pathToFileURL(file).href + hash);
        expect(await page.evaluate("document.scrollingElement.scrollWidth"), hash).toBeLessThanOrEqual(width);
        const detail = await page.evaluate("document.querySelector('#detail').scrollWidth");
        expect(detail, hash).toBeLessThanOrEqual(width);
      }
    }
    await page.setViewportSize({ width: 1300, height: 900 });
  });

  it("shows that a table goes on to the right, until it is seen to its end", async () => {
    const scores = "document.querySelector('.wide')";
    const isMarked = () => page.evaluate(`${scores}.classList.contains("more")`);
    await open();
    expect(await isMarked()).toBe(false);
    await page.setViewportSize({ width: 375, height: 700 });
    await expect.poll(isMarked).toBe(true);
    expect(await page.evaluate(`getComputedStyle(${scores}).boxShadow`)).toContain("inset");
    await page.evaluate(`${scores}.scrollTo(999, 0)`);
    await expect.poll(isMarked).toBe(false);
    await page.setViewportSize({ width: 1300, height: 900 });
  });

  it("is light letters on dark where the reader wants it dark, and the other way round, with contrast", async () => {
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await open("#record=1");
      const { ink, paper, pairs } = (await page.evaluate(COLOURS)) as Colours;
      expect(luminance(paper) < luminance(ink)).toBe(colorScheme === "dark");
      expect(contrast(ink, paper)).toBeGreaterThan(10);
      for (const { name, color, ground } of pairs) {
        expect(contrast(color, ground), `${name} in ${colorScheme}`).toBeGreaterThan(4.5);
      }
    }
    await page.emulateMedia({ colorScheme: null });
  });

  it("shows a run of a method without a router, and nothing of routing", async () => {
    await page.goto(plainAddress);
    expect(await rows().count()).toBe(3);
    expect(await page.getByLabel("Route").count()).toBe(0);
    await page.getByLabel("Outcome").selectOption("not right");
    expect(await rows().count()).toBe(2);
    await page.getByLabel("Sort by").selectOption("loss");
    await page.locator("#row-1").click();
    const detail = page.locator("#detail");
    await expectOpen("Record 1");
    expect(await detail.locator(".why").textContent()).toContain("The edited model answered; the answer had to stay");
    expect(await detail.locator(".readings").count()).toBe(0);
    expect(await detail.textContent()).toContain("It left event new.");
    expect(await detail.locator("svg.loss polyline").count()).toBe(2);
    expect(await detail.locator("svg.loss text:first-child").allTextContents()).toEqual(["cross entropy", "decay"]);
  });

  it("asked for nothing and met no fault", () => expect(faults).toEqual([]));

  const expectOpen = (record: string) => page.locator("#detail .over", { hasText: `${record} ` }).waitFor();
});
