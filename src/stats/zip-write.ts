import { crc32 } from "node:zlib";

/*
 * Zip archives as numpy.savez writes them: entries stored one behind the other, sizes in zip64 fields, the date of 1980.
 * Equal entries give equal bytes.
 */

/** A file to put into an archive. `chunks` is called twice: for the CRC that stands in front of the bytes, and for them. */
export interface EntryToWrite {
  name: string;
  chunks(): Iterable<Uint8Array>;
}

const VERSION = 45; // of the format: the first with zip64
const UNIX = 3;
const DATE = 0x21; // 1 January 1980
const PERMISSIONS = (0o600 << 16) >>> 0;
const NOT_HERE = 0xffffffff;

/** Largest size or place that CPython's zipfile keeps out of the zip64 fields of the directory. */
const LARGEST_SHORT = 0x7fffffff;

interface Written {
  name: Buffer;
  crc: number;
  bytes: number;
  offset: number;
}

/** The bytes of an archive, entry by entry. */
export function* zipBytes(entries: readonly EntryToWrite[]): Generator<Uint8Array> {
  const written: Written[] = [];
  let offset = 0;
  for (const entry of entries) {
    const one: Written = { name: Buffer.from(entry.name), crc: 0, bytes: 0, offset };
    for (const chunk of entry.chunks()) {
      one.crc = crc32(chunk, one.crc);
      one.bytes += chunk.length;
    }
    const header = localHeader(one);
    yield header;
    yield* entry.chunks();
    written.push(one);
    offset += header.length + one.bytes;
  }
  const directory = Buffer.concat(written.map(centralHeader));
  yield directory;
  yield endRecords({ entries: written.length, bytes: directory.length, offset });
}

function localHeader({ name, crc, bytes }: Written): Buffer {
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(VERSION, 4);
  header.writeUInt16LE(DATE, 12);
  header.writeUInt32LE(crc, 14);
  header.writeUInt32LE(NOT_HERE, 18);
  header.writeUInt32LE(NOT_HERE, 22);
  header.writeUInt16LE(name.length, 26);
  const long = longField([bytes, bytes]);
  header.writeUInt16LE(long.length, 28);
  return Buffer.concat([header, name, long]);
}

function centralHeader({ name, crc, bytes, offset }: Written): Buffer {
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt8(VERSION, 4);
  header.writeUInt8(UNIX, 5);
  header.writeUInt16LE(VERSION, 6);
  header.writeUInt16LE(DATE, 14);
  header.writeUInt32LE(crc, 16);
  const isLong = bytes > LARGEST_SHORT;
  header.writeUInt32LE(isLong ? NOT_HERE : bytes, 20);
  header.writeUInt32LE(isLong ? NOT_HERE : bytes, 24);
  header.writeUInt16LE(name.length, 28);
  const isFar = offset > LARGEST_SHORT;
  const long = longField([...(isLong ? [bytes, bytes] : []), ...(isFar ? [offset] : [])]);
  header.writeUInt16LE(long.length, 30);
  header.writeUInt32LE(PERMISSIONS, 38);
  header.writeUInt32LE(isFar ? NOT_HERE : offset, 42);
  return Buffer.concat([header, name, long]);
}

function endRecords({ entries, bytes, offset }: { entries: number; bytes: number; offset: number }): Buffer {
  const isFar = offset > LARGEST_SHORT;
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries, 8);
  end.writeUInt16LE(entries, 10);
  end.writeUInt32LE(bytes, 12);
  end.writeUInt32LE(isFar ? NOT_HERE : offset, 16);
  if (!isFar) return end;
  const long = Buffer.alloc(24);
  long.writeUInt32LE(0x06064b50, 0);
  long.writeBigUInt64LE(44n, 4); // bytes that follow
  long.writeUInt16LE(VERSION, 12);
  long.writeUInt16LE(VERSION, 14);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(offset + bytes), 8);
  locator.writeUInt32LE(1, 16); // disks
  return Buffer.concat([long, longs([entries, entries, bytes, offset]), locator, end]);
}

/** The zip64 field of a header; nothing for no numbers. */
function longField(numbers: readonly number[]): Buffer {
  if (numbers.length === 0) return Buffer.alloc(0);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(1, 0);
  head.writeUInt16LE(8 * numbers.length, 2);
  return Buffer.concat([head, longs(numbers)]);
}

/** Numbers of eight bytes each. */
function longs(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * numbers.length);
  for (const [i, value] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  return bytes;
}
