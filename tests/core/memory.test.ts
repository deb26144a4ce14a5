import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { platform, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  allowance,
  freeDisk,
  groupFolders,
  type MemoryFacts,
  parseFileCache,
  parseLimits,
  parseStatus,
  processMemory,
  readMemoryFacts,
} from "../../src/core/memory.js";
import { repository } from "../support/shared.js";

const limitsText = (
  data: string,
  addresses: string,
) => `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max data size             ${data.padEnd(20)} unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max address space         ${addresses.padEnd(20)} unlimited            bytes     
`;

const facts: MemoryFacts = {
  free: 20e9,
  group: null,
  limits: { addressSpace: null, data: null },
  own: { addresses: 1.2e9, data: 0.5e9, resident: 0.1e9 },
};

describe("what a process may hold", () => {
  it("is what the machine has free and what it holds already", () => {
    expect(allowance(facts)).toEqual({ bytes: 20.1e9, setBy: "free memory of the machine" });
  });

  it("is set by the container, by ulimit -v or by ulimit -d where they leave less", () => {
    const group = { limit: 8e9, free: 6e9 };
    expect(allowance({ ...facts, group })).toEqual({
      bytes: 6.1e9,
      setBy: "memory limit of the container, 8.0 GB",
    });
    expect(allowance({ ...facts, group, limits: { addressSpace: 4.4e9, data: null } })).toEqual({
      bytes: 2.1e9,
      setBy: "ulimit -v 4.4 GB, of which 1.2 GB are taken",
    });
    expect(allowance({ ...facts, group, limits: { addressSpace: 4.4e9, data: 2e9 } })).toEqual({
      bytes: 1.6e9,
      setBy: "ulimit -d 2.0 GB, of which 0.5 GB are taken",
    });
  });

  it("is what it holds when a limit is passed already", () => {
    expect(allowance({ ...facts, limits: { addressSpace: 1e9, data: null } }).bytes).toBe(0.1e9);
  });
});

describe("the files of the system", () => {
  it("give soft limits, or none", () => {
    expect(parseLimits(limitsText("unlimited", "unlimited"))).toEqual({ addressSpace: null, data: null });
    expect(parseLimits(limitsText("3221225472", "4294967296"))).toEqual({ addressSpace: 2 ** 32, data: 3 * 2 ** 30 });
    expect(parseLimits("")).toEqual({ addressSpace: null, data: null });
  });

  it("give the sizes of a process", () => {
    const text = "Name:\tnode\nVmPeak:\t 1100000 kB\nVmSize:\t 1000000 kB\nVmHWM:\t   50000 kB\nVmData:\t  120000 kB\n";
    expect(parseStatus(text)).toEqual({ addresses: 1024e6, data: 120000 * 1024 });
    expect(parseStatus("")).toEqual({ addresses: 0, data: 0 });
  });

  it("tell where a control group lies, in version 2 and in version 1", () => {
    expect(groupFolders("0::/user.slice/session-1.scope\n")).toEqual([
      "/sys/fs/cgroup/user.slice/session-1.scope",
      "/sys/fs/cgroup",
    ]);
    expect(groupFolders("0::/\n")).toEqual(["/sys/fs/cgroup"]);
    expect(groupFolders("5:devices:/\n4:memory:/docker/1\n0::/\n")).toEqual([
      "/sys/fs/cgroup/memory/docker/1",
      "/sys/fs/cgroup/memory",
    ]);
    expect(groupFolders("")).toEqual(["/sys/fs/cgroup"]);
  });

  it("tell the file cache of a control group, in version 2 and in version 1", () => {
    expect(parseFileCache("anon 5\nfile 30\ninactive_file 20\nactive_file 8\n")).toBe(28);
    expect(parseFileCache("inactive_file 1\nactive_file 2\ntotal_inactive_file 10\ntotal_active_file 20\n")).toBe(30);
    expect(parseFileCache("")).toBe(0);
  });
});

describe("this machine", () => {
  it("lets this process hold more than it does, and no more than there is", async () => {
    const { own } = await readMemoryFacts();
    const { bytes, setBy } = await processMemory();
    expect(bytes).toBeGreaterThan(own.resident);
    expect(bytes).toBeLessThanOrEqual(totalmem() + own.resident);
    expect(setBy).not.toBe("");
  });

  it.runIf(platform() === "linux")("tells a child under ulimit -v what is left of it", () => {
    const limit = 8 * 2 ** 20; // KiB
    const module = pathToFileURL(join(repository, "dist/core/memory.js")).href;
    const script = `import("${module}").then((m) => m.processMemory()).then((m) => console.log(JSON.stringify(m)))`;
    const told = execFileSync("bash", ["-c", `ulimit -v ${limit}; exec "$0" -e '${script}'`, process.execPath], {
      encoding: "utf8",
    });
    const { bytes, setBy } = JSON.parse(told) as { bytes: number; setBy: string };
    expect(setBy).toMatch(/^ulimit -v 8\.6 GB, of which \d\.\d GB are taken$/);
    expect(bytes).toBeLessThan(limit * 1024);
    expect(bytes).toBeGreaterThan((limit * 1024 - 3e9) / 1.6);
  });
});

describe("free disk space", () => {
  it("of a folder that does not exist yet is that of its nearest parent", async () => {
    const folder = await mkdtemp(join(tmpdir(), "wise-lab-disk-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const there = await freeDisk(folder);
    const later = await freeDisk(join(folder, "not", "yet", "made"));
    expect(later.setBy).toBe(`free space of the disk at ${folder}`);
    expect(later.setBy).toBe(there.setBy);
    expect(Math.abs(later.bytes - there.bytes)).toBeLessThan(1e9); // others write meanwhile
    expect(there.bytes).toBeGreaterThan(0);
  });
});
