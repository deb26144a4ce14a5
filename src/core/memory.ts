import { readdir, readFile, stat, statfs } from "node:fs/promises";
import { freemem, platform, totalmem } from "node:os";
import { dirname, join, resolve } from "node:path";

/** A number of bytes there is, and what sets it. */
export interface Amount {
  bytes: number;
  setBy: string;
}

/** Memory of this process and its machine, in bytes; null where there is no limit. */
export interface MemoryFacts {
  /** Free for new work: what the system counts, file cache that it would give up included. */
  free: number;
  /** Limit of the control group (a container's) and what of it is free, its file cache included. */
  group: { limit: number; free: number } | null;
  /** Soft limits, as `ulimit -v` and `ulimit -d` set them. */
  limits: { addressSpace: number | null; data: number | null };
  /** Use by this process of addresses, of data and of memory proper. */
  own: { addresses: number; data: number; resident: number };
}

/**
 * Memory that this process may hold in all, what it holds already counted in: the smallest of what the machine, the
 * container and the limits of the process leave.
 */
export async function processMemory(): Promise<Amount> {
  return allowance(await readMemoryFacts());
}

/**
 * Addresses that a process takes for each byte it fills: allocators and threads reserve more than they use (measured with
 * native TensorFlow on a checkpoint of 2.5 GB: 1.4 to 1.6).
 */
const ADDRESSES_PER_BYTE = 1.6;

/** The smallest allowance that follows from the facts. */
export function allowance({ free, group, limits, own }: MemoryFacts): Amount {
  const left: Amount[] = [{ bytes: free, setBy: "free memory of the machine" }];
  if (group !== null) left.push({ bytes: group.free, setBy: `memory limit of the container, ${giga(group.limit)}` });
  if (limits.addressSpace !== null) {
    left.push({
      bytes: (limits.addressSpace - own.addresses) / ADDRESSES_PER_BYTE,
      setBy: `ulimit -v ${giga(limits.addressSpace)}, of which ${giga(own.addresses)} are taken`,
    });
  }
  if (limits.data !== null) {
    left.push({
      bytes: limits.data - own.data,
      setBy: `ulimit -d ${giga(limits.data)}, of which ${giga(own.data)} are taken`,
    });
  }
  const least = left.reduce((a, b) => (b.bytes < a.bytes ? b : a));
  return { bytes: Math.max(0, least.bytes) + own.resident, setBy: least.setBy };
}

/** Reads the facts; where a system does not tell a limit, there is none. */
export async function readMemoryFacts(): Promise<MemoryFacts> {
  const [limits, status] = await Promise.all([textOf("/proc/self/limits"), textOf("/proc/self/status")]);
  const resident = process.memoryUsage.rss();
  return {
    // macOS counts as free only what nobody has touched: it would refuse nearly everything.
    free: platform() === "darwin" ? totalmem() - resident : freemem(),
    group: await readGroup(),
    limits: parseLimits(limits ?? ""),
    own: { resident, ...parseStatus(status ?? "") },
  };
}

async function readGroup(): Promise<MemoryFacts["group"]> {
  const limit = process.constrainedMemory();
  if (limit === 0 || limit >= totalmem()) return null; // without a limit, systems say 0 or a number beyond all memory
  for (const place of groupFolders((await textOf("/proc/self/cgroup")) ?? "")) {
    const stat = await textOf(`${place}/memory.stat`);
    if (stat !== null) return { limit, free: process.availableMemory() + parseFileCache(stat) };
  }
  return { limit, free: process.availableMemory() };
}

/**
 * Soft limits from the text of /proc/self/limits (https://man7.org/linux/man-pages/man5/proc_pid_limits.5.html), bytes;
 * null for unlimited.
 */
export function parseLimits(text: string): MemoryFacts["limits"] {
  const soft = (name: string) => {
    const found = new RegExp(`^${name}\\s+(\\d+)\\s`, "m").exec(text)?.[1];
    return found === undefined ? null : Number(found);
  };
  return { addressSpace: soft("Max address space"), data: soft("Max data size") };
}

/** Sizes of a process from the text of /proc/self/status, bytes; 0 where it does not say. */
export function parseStatus(text: string): { addresses: number; data: number } {
  const size = (name: string) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return { addresses: size("VmSize"), data: size("VmData") };
}

/** Folders that may hold the memory files of a control group, by the text of /proc/self/cgroup: its own place first. */
export function groupFolders(text: string): string[] {
  const unified = /^0::(.*)$/m.exec(text)?.[1];
  const memory = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(text)?.[1];
  const places = memory !== undefined ? ["/sys/fs/cgroup/memory", memory] : ["/sys/fs/cgroup", unified ?? ""];
  const [root, own] = places as [string, string];
  return [...new Set([`${root}${own}`.replace(/\/$/, ""), root])]; // a container sees its own group as the root
}

/** File cache counted in a control group, which it gives up when memory runs short; bytes, from its memory.stat. */
export function parseFileCache(text: string): number {
  const size = (name: string) => {
    // version 1 counts subgroups under total_ names, version 2 always
    const found =
      new RegExp(`^total_${name} (\\d+)$`, "m").exec(text) ?? new RegExp(`^${name} (\\d+)$`, "m").exec(text);
    return Number(found?.[1] ?? 0);
  };
  return size("inactive_file") + size("active_file");
}

/** Free space for files under a folder that need not exist yet: that of its nearest parent. */
export async function freeDisk(folder: string): Promise<Amount> {
  const place = resolve(folder);
  try {
    const { bavail, bsize } = await statfs(place);
    return { bytes: bavail * bsize, setBy: `free space of the disk at ${place}` };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if ((code !== "ENOENT" && code !== "ENOTDIR") || dirname(place) === place) throw error;
    return freeDisk(dirname(place));
  }
}

/** Bytes of the files in a folder, not of folders in it; 0 where it does not exist. */
export async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const sizes = names.map(async (name) => {
    const found = await stat(join(folder, name)).catch(() => null); // another process may take files away
    return found?.isFile() ? found.size : 0;
  });
  return (await Promise.all(sizes)).reduce((a, b) => a + b, 0);
}

/** The text of a file that some systems have; null where this one has not. */
async function textOf(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch(() => null);
}

/** Bytes as gigabytes with one decimal, "1.5 GB". */
export function giga(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
