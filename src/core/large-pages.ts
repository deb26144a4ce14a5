import { existsSync, readFileSync } from "node:fs";

/*
 * Linux hands out memory in pages of 4 kB, each at its first touch: half a million of them for one layer of LLaMA-3-8B.
 * glibc asks for pages of 2 MB when the environment tells it to as a program starts. In that shape the frozen part takes
 * 20 s with them and 60 s without (measured).
 */

const TUNABLE = "glibc.malloc.hugetlb";
const GIVEN_ON_REQUEST = "[madvise]";
const SETTING = "/sys/kernel/mm/transparent_hugepage/enabled";

/** The variable that asks for large pages, beside what the user has set. */
export function largePages(env: NodeJS.ProcessEnv = process.env): { GLIBC_TUNABLES: string } {
  const own = env.GLIBC_TUNABLES;
  const asks = own?.includes(TUNABLE);
  return { GLIBC_TUNABLES: asks ? (own as string) : [...(own ? [own] : []), `${TUNABLE}=1`].join(":") };
}

/** True for a process that Linux would give large pages if it had asked. */
export function lacksLargePages(): boolean {
  if (process.env.GLIBC_TUNABLES?.includes(TUNABLE) || !existsSync(SETTING)) return false;
  return readFileSync(SETTING, "utf8").includes(GIVEN_ON_REQUEST);
}
