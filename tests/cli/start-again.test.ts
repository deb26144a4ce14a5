import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, test } from "vitest";
import { lacksLargePages, largePages } from "../../src/core/large-pages.js";
import { temporaryFolder } from "../model/support.js";
import { startProgram, WISE_LAB } from "../run/support.js";

test("large pages are asked for beside what the user has set, and once", () => {
  const asks = "glibc.malloc.hugetlb=1";
  expect(largePages({})).toEqual({ GLIBC_TUNABLES: asks });
  expect(largePages({ GLIBC_TUNABLES: "glibc.malloc.check=1" })).toEqual({
    GLIBC_TUNABLES: `glibc.malloc.check=1:${asks}`,
  });
  for (const own of [asks, "glibc.malloc.hugetlb=0"]) {
    expect(largePages({ GLIBC_TUNABLES: own })).toEqual({ GLIBC_TUNABLES: own });
  }
});

/** A model's folder with no more than its size, and a module that every Node loads before the command. */
async function setting(hiddenSize: number, module: string): Promise<{ folder: string; preload: string }> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, "config.json"), JSON.stringify({ hidden_size: hiddenSize }));
  const file = join(folder, "preload.mjs");
  await writeFile(file, module);
  return { folder, preload: pathToFileURL(file).href };
}

const start = ({ folder, preload }: { folder: string; preload: string }, ...args: string[]) =>
  startProgram(process.execPath, "--import", preload, WISE_LAB[1], "run", "--T", "1", `--model=${folder}`, ...args);

const TELLS = "console.log('started with', process.env.GLIBC_TUNABLES ?? 'nothing');";
const starts = (stdout: string) => stdout.split("\n").filter((line) => line.startsWith("started with"));

// A Linux that gives large pages to those that ask, seen from a process that has not.
describe.skipIf(!lacksLargePages())("a command with a large model", { timeout: 60_000 }, () => {
  it("is started again in large pages, and ends as it would", async () => {
    const { status, stdout, stderr } = await start(await setting(4096, TELLS)).ended;
    expect(starts(stdout)).toEqual(["started with nothing", "started with glibc.malloc.hugetlb=1"]);
    expect(status).toBe(1);
    expect(stderr.match(/wise-lab: /g)).toHaveLength(1);
  });

  it("is not with a small one, nor to show help", async () => {
    const small = await start(await setting(256, TELLS)).ended;
    expect([small.status, starts(small.stdout).length]).toEqual([1, 1]);
    const help = await start(await setting(4096, TELLS), "--help").ended;
    expect([help.status, starts(help.stdout).length]).toEqual([0, 1]);
  });

  const WAITS = `if (process.env.GLIBC_TUNABLES) {
    let heard = 0;
    process.on("SIGINT", () => { heard += 1; setTimeout(() => { console.log("heard " + heard); process.exit(130); }, 200); });
    process.once("disconnect", () => process.exit(1));
    console.log("waits as " + process.pid);
    await new Promise((resolve) => setTimeout(resolve, 50_000));
  }`;
  const untilItWaits = async ({ child }: ReturnType<typeof start>): Promise<number> => {
    let text = "";
    for await (const more of child.stdout as AsyncIterable<string>) {
      text += more;
      const pid = /waits as (\d+)/.exec(text)?.[1];
      if (pid !== undefined) return Number(pid);
    }
    throw new Error(text);
  };

  it("hears one Ctrl-C once", async () => {
    const started = start(await setting(4096, WAITS));
    let text = "";
    started.child.stdout?.on("data", (more: string) => {
      text += more;
      if (/waits as \d+\n$/.test(text)) started.child.kill("SIGINT");
    });
    expect(await started.ended).toMatchObject({ status: 130, stdout: expect.stringMatching(/heard 1\n$/) });
  });

  it("goes when what started it was killed", async () => {
    const started = start(await setting(4096, WAITS));
    const pid = await untilItWaits(started);
    started.child.kill("SIGKILL");
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 30_000 }).toBe(false);
  });
});
