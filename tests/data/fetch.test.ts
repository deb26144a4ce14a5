import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { type CatalogueEntry, catalogue } from "../../src/data/catalogue.js";
import { catalogueEntry, dataFolder, fetchData, fetchEntry, locateData, recordsAt } from "../../src/data/fetch.js";
import { loadIrrelevant, loadRecords, wrapsAround } from "../../src/data/load.js";
import { requires } from "../support/requires.js";
import { repository, sharedFolder } from "../support/shared.js";

const content = '["one", "two"]';
const folder = mkdtempSync(join(tmpdir(), "wise-lab-fetch-"));
let server: Server;
let mirror: string;

beforeAll(async () => {
  server = createServer((request, response) => {
    const served: Record<string, string> = { "/good/small.json": content, "/bad/small.json": '["one"]' };
    const body = served[request.url ?? ""];
    response.writeHead(body === undefined ? 404 : 200).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

const entry = (url: string | null): CatalogueEntry => ({
  file: "small.json",
  sha256: sha256Bytes(content),
  bytes: content.length,
  records: 2,
  source: "made up for this test",
  url,
  page: "https://example.org/small",
  licence: "none",
});
const freshFolder = () => mkdtempSync(join(folder, "to-"));

describe("fetching a data file", () => {
  it("downloads it from its address, or from a mirror, and keeps it the second time", async () => {
    const to = freshFolder();
    expect(await fetchEntry(entry(`${mirror}/good/small.json`), { to })).toEqual({
      path: join(to, "small.json"),
      how: "downloaded",
    });
    expect(readFileSync(join(to, "small.json"), "utf8")).toBe(content);
    expect((await fetchEntry(entry(null), { to })).how).toBe("already there");
    expect((await fetchEntry(entry(null), { to: freshFolder(), mirror: `${mirror}/good/` })).how).toBe("downloaded");
  });

  it("refuses other bytes and leaves nothing", async () => {
    const to = freshFolder();
    const fetching = fetchEntry(entry(`${mirror}/bad/small.json`), { to });
    await expect(fetching).rejects.toThrow(RefusedInput);
    await expect(fetching).rejects.toThrow(sha256Bytes('["one"]'));
    expect(readdirSync(to)).toEqual([]);
  });

  it("copies a file on disk after the same check", async () => {
    const from = join(folder, "on-disk.json");
    writeFileSync(from, content);
    const to = join(freshFolder(), "new");
    expect((await fetchEntry(entry(null), { to, from })).how).toBe("copied");
    expect(readFileSync(join(to, "small.json"), "utf8")).toBe(content);
    writeFileSync(from, `${content}\n`);
    const other = freshFolder();
    await expect(fetchEntry(entry(null), { to: other, from })).rejects.toThrow(from);
    expect(readdirSync(other)).toEqual([]);
  });

  it("never replaces a file of the same name", async () => {
    const to = freshFolder();
    writeFileSync(join(to, "small.json"), "mine");
    await expect(fetchEntry(entry(`${mirror}/good/small.json`), { to })).rejects.toThrow(
      "is not the one it is named for",
    );
    expect(readFileSync(join(to, "small.json"), "utf8")).toBe("mine");
  });

  it("says how to bring it by hand when there is no network, no file on the server, or no address", async () => {
    const port = await closedPort();
    for (const url of [`http://127.0.0.1:${port}/small.json`, `${mirror}/none/small.json`, null]) {
      const fetching = fetchEntry(entry(url), { to: freshFolder() });
      await expect(fetching).rejects.toThrow(RefusedInput);
      await expect(fetching).rejects.toThrow("from https://example.org/small");
      await expect(fetching).rejects.toThrow("wise-lab data fetch small --from FILE");
    }
    await expect(fetchEntry(entry(`${mirror}/none/small.json`), { to: freshFolder() })).rejects.toThrow("404");
    await expect(fetchEntry(entry(`http://127.0.0.1:${port}/x`), { to: freshFolder() })).rejects.toThrow(
      "ECONNREFUSED",
    );
  });
});

describe("the catalogue", () => {
  it("names each file by its key", () => {
    for (const [name, { file, sha256 }] of Object.entries(catalogue)) {
      expect(file).toBe(`${name}.json`);
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
  });

  it("knows a name with or without its ending, and suggests the nearest", async () => {
    expect(catalogueEntry("zsre_mend_edit.json")).toBe(catalogueEntry("zsre_mend_edit"));
    await expect(fetchData("zsre_mend_edlt")).rejects.toThrow("try: zsre_mend_edit");
    expect(catalogueEntry("temporal-e")).toBe(catalogueEntry("temporal-edit"));
    await expect(fetchData("zsre")).rejects.toThrow("try: zsre_mend_edit or zsre_mend_train_loc_prompts_first1000");
    await expect(fetchData("constructor")).rejects.toThrow("an unknown data set");
  });

  it("finds a records file by its bare name where it was fetched to, and names the command where it was not", async () => {
    const before = process.env.WISE_LAB_DATA;
    onTestFinished(() => {
      if (before === undefined) delete process.env.WISE_LAB_DATA;
      else process.env.WISE_LAB_DATA = before;
    });
    const fetched = mkdtempSync(join(tmpdir(), "wise-lab-data-"));
    process.env.WISE_LAB_DATA = fetched;
    await expect(recordsAt("zsre_mend_edit.json")).rejects.toThrow("try: wise-lab data fetch zsre_mend_edit");
    writeFileSync(join(fetched, "zsre_mend_edit.json"), "[]");
    for (const name of ["zsre_mend_edit.json", "zsre_mend_edit"]) {
      expect(await recordsAt(name)).toBe(join(fetched, "zsre_mend_edit.json"));
    }
    for (const other of ["elsewhere/zsre_mend_edit.json", "own.json"]) expect(await recordsAt(other)).toBe(other);
    rmSync(fetched, { recursive: true });
  });

  it("locates a file in the folder that WISE_LAB_DATA names, else in the project", async () => {
    const before = process.env.WISE_LAB_DATA;
    onTestFinished(() => {
      if (before === undefined) delete process.env.WISE_LAB_DATA;
      else process.env.WISE_LAB_DATA = before;
    });
    delete process.env.WISE_LAB_DATA;
    expect(dataFolder()).toBe(join(repository, "data/downloads"));
    const own = freshFolder();
    process.env.WISE_LAB_DATA = own;
    expect(await locateData("temporal-edit")).toBeNull();
    writeFileSync(join(own, "temporal-edit.json"), "[]");
    expect(await locateData("temporal-edit")).toBe(join(own, "temporal-edit.json"));
  });
});

const kinds = {
  zsre_mend_edit: "zsre",
  "hallucination-edit": "hallucination",
  "hallucination-train": "hallucination",
  "temporal-edit": "temporal",
  "temporal-train": "temporal",
  "counterfact-edit": "counterfact",
  "KnowEdit-ZsRE-test-all": "knowedit",
} as const;

describe.runIf(requires("shared"))("the real files", () => {
  const path = (name: string) => join(sharedFolder() as string, "data", `${name}.json`);

  it.each(Object.entries(kinds))("%s is copied, checked and loaded as %s", async (name, kind) => {
    const copy = await fetchData(name, { from: path(name), to: freshFolder() });
    expect(existsSync(copy.path)).toBe(true);
    const dataset = await loadRecords(copy.path);
    const { records, sha256 } = catalogueEntry(name);
    expect(dataset).toMatchObject({ name, kind, sha256 });
    expect(dataset.records).toHaveLength(records);
    expect(dataset.records.every(({ locality }) => locality.length > 0)).toBe(true);
  });

  it("KnowEdit keeps all of its probes", async () => {
    const { records } = await loadRecords(path("KnowEdit-ZsRE-test-all"));
    const raw = JSON.parse(readFileSync(path("KnowEdit-ZsRE-test-all"), "utf8")) as Record<
      string,
      Record<string, []>
    >[];
    for (const side of ["locality", "portability"] as const) {
      const inFile = raw.flatMap((record) => Object.values(record[side] ?? {}).flat()).length;
      expect(records.flatMap((record) => record[side])).toHaveLength(inFile);
    }
  });

  it("the irrelevant lists load, and 1037 records wrap around 1000 prompts", async () => {
    const list = await loadIrrelevant(path("zsre_mend_train_loc_prompts_first1000"));
    expect(list.prompts).toHaveLength(1000);
    expect(wrapsAround(list, catalogue.zsre_mend_edit.records)).toBe(true);
    expect((await loadIrrelevant(path("hallucination-train"))).prompts).toHaveLength(306);
    const train = await loadIrrelevant(path("temporal-train"));
    const first = JSON.parse(readFileSync(path("temporal-train"), "utf8"))[0];
    expect(train.prompts[0]).toBe(`${first.locality_prompt} ${first.locality_ground_truth}`);
  });
});

/** A port that nothing listens on: one that a server has just given back. */
async function closedPort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
