import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

/** A Slurm of one node with two processors, in a folder of its own. */
export interface SlurmCluster {
  /** Environment in which its programs find it. */
  env: NodeJS.ProcessEnv;
  stop(): Promise<void>;
}

const DAEMONS = ["slurmd", "slurmctld", "munged"] as const;

/** Starts one, as root. */
export async function startSlurm(folder: string): Promise<SlurmCluster> {
  const [controller, node] = [await freePort(), await freePort()];
  const file = (name: string) => join(folder, name);
  for (const name of ["state", "spool", "munge"]) mkdirSync(file(name), { mode: 0o700 });
  chmodSync(folder, 0o755);
  chmodSync(file("munge"), 0o755);
  writeFileSync(file("munge/munge.key"), randomBytes(1024), { mode: 0o400 });
  const host = hostname().split(".")[0];
  writeFileSync(
    file("slurm.conf"),
    [
      "ClusterName=lab",
      `SlurmctldHost=${host}(127.0.0.1)`,
      `SlurmctldPort=${controller}`,
      `SlurmdPort=${node}`,
      "SlurmUser=root",
      "AuthType=auth/munge",
      `AuthInfo=socket=${file("munge/socket")},cred_expire=5`, // a requeued task waits so long before it starts again
      "ProctrackType=proctrack/linuxproc",
      "TaskPlugin=task/none",
      "SelectType=select/cons_tres",
      "SelectTypeParameters=CR_Core",
      "ReturnToService=2",
      "SchedulerParameters=sched_interval=2,batch_sched_delay=0",
      `StateSaveLocation=${file("state")}`,
      `SlurmdSpoolDir=${file("spool")}`,
      ...["Slurmctld", "Slurmd"].flatMap((name) => [
        `${name}PidFile=${file(`${name.toLowerCase()}.pid`)}`,
        `${name}LogFile=${file(`${name.toLowerCase()}.log`)}`,
      ]),
      `NodeName=${host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=${Math.floor(totalmem() / 2 ** 20)} State=UNKNOWN`,
      "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
      "",
    ].join("\n"),
  );
  const env = { ...process.env, SLURM_CONF: file("slurm.conf"), PATH: `${process.env.PATH}:/usr/sbin` };
  const munge = ["key", "pid", "log", "seed"].map((name) => `--${name}-file=${file(`munge/munge.${name}`)}`);
  execFileSync(
    "munged",
    [
      "--force",
      `--socket=${file("munge/socket")}`,
      ...munge.filter((word) => !/pid/.test(word)),
      `--pid-file=${file("munged.pid")}`,
    ],
    { env },
  );
  spawn("slurmctld", ["-D"], { env, stdio: "ignore" });
  spawn("slurmd", ["-D"], { env, stdio: "ignore" });
  const sinfo = () => spawnSync("sinfo", ["--noheader", "--format=%T"], { env, encoding: "utf8" });
  while (!/idle/.test(sinfo().stdout)) await wait(200);
  return {
    env,
    async stop() {
      spawnSync("scancel", ["--me"], { env });
      for (const name of DAEMONS) {
        const pid = Number(readFileSync(file(`${name}.pid`), "utf8"));
        process.kill(pid);
        while (isAlive(pid)) await wait(50);
      }
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
