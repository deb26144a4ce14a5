import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A disk of few bytes; `release` takes it away with all that is on it. */
export interface SmallDisk {
  path: string;
  release(): void;
}

/** Mounts a small disk. Needs Linux and root. */
export function mountSmallDisk(kilobytes = 128): SmallDisk {
  const path = mkdtempSync(join(tmpdir(), "wise-lab-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${kilobytes}k`, "tmpfs", path], { stdio: "ignore" });
  return {
    path,
    release() {
      execFileSync("umount", [path]);
      rmSync(path, { recursive: true });
    },
  };
}

/** True if a small disk can be mounted here. */
export function canMountSmallDisk(): boolean {
  try {
    mountSmallDisk().release();
    return true;
  } catch {
    return false;
  }
}
