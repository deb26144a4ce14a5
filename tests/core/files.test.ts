import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { readJsonFile, requireWritableFolder, writeFileAtomic } from "../../src/core/files.js";
import { openJsonl, readJsonl } from "../../src/core/jsonl.js";
import { asOrdinaryUser } from "../support/ordinary-user.js";

const folder = mkdtempSync(join(tmpdir(), "wise-lab-files-"));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true }));

function readOnlyFolder(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, "old.txt"), "old");
  chmodSync(path, 0o555);
  return path;
}

describe("writeFileAtomic", () => {
  it("makes missing folders, replaces a file, and leaves nothing beside it", async () => {
    const path = join(folder, "a", "b", "result.json");
    await writeFileAtomic(path, "first");
    await writeFileAtomic(path, new TextEncoder().encode("second"));
    expect(readFileSync(path, "utf8")).toBe("second");
    expect(readdirSync(join(folder, "a", "b"))).toEqual(["result.json"]);
  });

  it("writes pieces one after another", async () => {
    const path = join(folder, "pieces");
    const pieces = function* () {
      for (const text of ["one ", "two ", "three"]) yield new TextEncoder().encode(text);
    };
    await writeFileAtomic(path, pieces());
    expect(readFileSync(path, "utf8")).toBe("one two three");
  });

  it("names the path when the folder is read-only, and keeps the older file", async () => {
    const path = join(readOnlyFolder("read-only-atomic"), "old.txt");
    await asOrdinaryUser(async () => {
      await expect(writeFileAtomic(path, "new")).rejects.toThrow(LabFailure);
      await expect(writeFileAtomic(path, "new")).rejects.toThrow(path);
    });
    expect(readFileSync(path, "utf8")).toBe("old");
  });
});

describe("requireWritableFolder", () => {
  it.runIf(existsSync("/proc/self"))("refuses a folder that its file system does not make", async () => {
    await expect(requireWritableFolder("/proc/wise-lab/run")).rejects.toThrow(
      /cannot be written to[\s\S]*\/proc\/wise-lab/,
    );
  });

  it("makes the folder and leaves it empty", async () => {
    const path = join(folder, "out", "run");
    await requireWritableFolder(path);
    expect(readdirSync(path)).toEqual([]);
  });

  it("refuses a read-only folder", async () => {
    const path = readOnlyFolder("read-only");
    await asOrdinaryUser(async () => {
      await expect(requireWritableFolder(path)).rejects.toThrow(RefusedInput);
      expect(() => openJsonl(join(path, "edits.jsonl"))).toThrow(RefusedInput);
    });
    expect(readdirSync(path)).toEqual(["old.txt"]);
  });

  it("refuses a path that is a file", async () => {
    const path = join(folder, "plain");
    writeFileSync(path, "");
    await expect(requireWritableFolder(path)).rejects.toThrow(/where: .*plain/);
  });
});

describe.runIf(process.platform === "linux" && canMount())("a small disk", () => {
  it("keeps its whole lines when it fills up, and is refused as an output folder afterwards", async () => {
    const disk = mountSmallDisk();
    try {
      await requireWritableFolder(disk);
      const path = join(disk, "edits.jsonl");
      const file = openJsonl(path);
      let appended = 0;
      const fill = () => {
        for (; ; appended++) file.append({ appended, text: "x".repeat(1000) });
      };
      expect(fill).toThrow(/cannot append to .*edits\.jsonl: (ENOSPC|disk full).*the lines before it are whole/);
      file.close();
      const { values, torn } = await readJsonl(path);
      expect(torn).toBe(false);
      expect(values).toHaveLength(appended);
      await expect(requireWritableFolder(disk)).rejects.toThrow(RefusedInput);
      await expect(writeFileAtomic(join(disk, "state"), new Uint8Array(50_000))).rejects.toThrow("ENOSPC");
      expect(readdirSync(disk)).toEqual(["edits.jsonl"]);
    } finally {
      execFileSync("umount", [disk]);
    }
  });
});

describe("readJsonFile", () => {
  const write = (content: string | Uint8Array) => {
    const path = join(folder, "value.json");
    writeFileSync(path, content);
    return path;
  };

  it("reads JSON, with or without a byte order mark", async () => {
    expect(await readJsonFile(write('{"a": [1, "two"]}'))).toEqual({ a: [1, "two"] });
    expect(await readJsonFile(write("\uFEFF[1]"))).toEqual([1]);
  });

  it.each([
    ["not JSON", "[1,", "a text is not JSON"],
    ["not UTF-8", new Uint8Array([0x22, 0xff, 0x22]), "a text is not UTF-8"],
    ["a key twice", '[{"a": 1},\n {"a": {"b": "{\\"b\\":1}", "b": 3}}]', "line 2"],
    ["a key twice, once escaped", '{"a": 1, "\\u0061": 2}', '"a" twice'],
  ])("refuses %s by its path", async (_, content, message) => {
    const path = write(content);
    await expect(readJsonFile(path)).rejects.toThrow(RefusedInput);
    await expect(readJsonFile(path)).rejects.toThrow(message);
    await expect(readJsonFile(path)).rejects.toThrow(path);
  });

  it("takes equal keys of different objects, and colons inside strings", async () => {
    const text = '[{"a": "b", "c": "a\\": "}, {"a": {"a": [{"a": ""}]}}]';
    expect(await readJsonFile(write(text))).toEqual(JSON.parse(text));
  });

  it("refuses a missing file", async () => {
    await expect(readJsonFile(join(folder, "missing.json"))).rejects.toThrow("a file cannot be read");
  });
});

function canMount(): boolean {
  try {
    execFileSync("umount", [mountSmallDisk()]);
    return true;
  } catch {
    console.info("skipped: a small tmpfs cannot be mounted here (needs root); /dev/full stands in for a full disk");
    return false;
  }
}

function mountSmallDisk(): string {
  const path = mkdtempSync(join(folder, "disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", path], { stdio: "ignore" });
  return path;
}
