import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";
import { covarianceArrays } from "../../src/stats/covariance.js";
import { writeNpz } from "../../src/stats/npz.js";
import { temporaryFolder } from "../model/support.js";
import { goldenMethods } from "../support/shared.js";

/** Folder of statistics with the covariances of the golden checkpoint's layers 0 to 2, as EasyEdit stores them. */
export const GOLDEN_STATS = join(goldenMethods, "locate-stats");

/** The texts behind them, and what else is known of them. */
export const goldenStats = JSON.parse(readFileSync(join(goldenMethods, "locate-stats.json"), "utf8")) as {
  texts: string[];
  count: number;
  eigenvalues: Record<string, [least: number, median: number, largest: number]>;
};

/** Inner size of the golden checkpoint's MLPs. */
export const GOLDEN_SIZE = 176;

export function goldenFile(layer: number): string {
  return join(GOLDEN_STATS, `tiny-llama3/lab_stats/model.layers.${layer}.mlp.down_proj_float32_mom2_64.npz`);
}

/** Entry of a made-up archive, with what it says of itself; by default the truth. */
export interface MadeEntry {
  name: string;
  data: Uint8Array;
  method?: number;
  flags?: number;
  crc?: number;
  bytes?: number;
  packedBytes?: number;
}

/** An archive as other programs write it: entries deflated unless told, and sizes in zip64 fields where asked for. */
export function madeZip(entries: readonly MadeEntry[], { zip64 = false, comment = "" } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const { method = 8, flags = 0 } = entry;
    const packed = Buffer.from(method === 8 ? deflateRawSync(entry.data) : entry.data);
    const name = Buffer.from(entry.name);
    const { crc = crc32(entry.data), bytes = entry.data.length, packedBytes = packed.length } = entry;
    const local = fields([4, 0x04034b50], [2, 45], [2, flags], [2, method], [4, 0], [4, crc], [4, packed.length]);
    parts.push(local, fields([4, entry.data.length], [2, name.length], [2, 0]), name, packed);
    const long = zip64 ? fields([2, 1], [2, 24], [8, bytes], [8, packedBytes], [8, offset]) : Buffer.alloc(0);
    const short = (value: number) => (zip64 ? 0xffffffff : value);
    const head = fields([4, 0x02014b50], [2, 45], [2, 45], [2, flags], [2, method], [4, 0], [4, crc]);
    const sizes = fields([4, short(packedBytes)], [4, short(bytes)], [2, name.length], [2, long.length], [2, 0]);
    directory.push(head, sizes, fields([4, 0], [4, 0], [4, short(offset)]), name, long);
    offset += local.length + 8 + name.length + packed.length;
  }
  const central = Buffer.concat(directory);
  const count = entries.length;
  const far = zip64
    ? [
        fields([4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count]),
        fields([8, central.length], [8, offset], [4, 0x07064b50], [4, 0], [8, offset + central.length], [4, 1]),
      ]
    : [];
  const short = (value: number) => (zip64 ? 0xffffffff : value);
  const end = fields([4, 0x06054b50], [4, 0], [2, count], [2, count], [4, short(central.length)], [4, short(offset)]);
  return Buffer.concat([...parts, central, ...far, end, fields([2, comment.length]), Buffer.from(comment)]);
}

function fields(...values: readonly [bytes: number, value: number][]): Buffer {
  return Buffer.concat(
    values.map(([bytes, value]) => {
      const field = Buffer.alloc(8);
      field.writeBigUInt64LE(BigInt(value));
      return field.subarray(0, bytes);
    }),
  );
}

/** The bytes of a .npy file with this header. */
export function madeNpy(header: string, values: Uint8Array, version: 1 | 2 = 1): Buffer {
  const length = version === 1 ? fields([2, header.length]) : fields([4, header.length]);
  return Buffer.concat([
    Buffer.from([0x93]),
    Buffer.from("NUMPY"),
    Buffer.from([version, 0]),
    length,
    Buffer.from(header),
    values,
  ]);
}

/** A file of these bytes, in a folder that goes away. */
export async function madeFile(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, bytes);
  return path;
}

/** A covariance file over `count` tokens, of a matrix given by its rows. */
export async function madeCovariance(rows: readonly (readonly number[])[], count = 1000): Promise<string> {
  const path = join(await temporaryFolder(), "made.npz");
  const sum = Float32Array.from(rows.flat(), (value) => value * count);
  await writeNpz(path, covarianceArrays({ sum, size: rows.length, count, sampleSize: 10 }));
  return path;
}
