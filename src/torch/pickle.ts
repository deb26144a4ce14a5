import { RefusedInput } from "../core/errors.js";
import { decodeUtf8 } from "../core/json.js";
import { OPCODE_NAMES } from "./opcodes.js";

/*
 * Python pickles of protocol 2, as torch.save writes them, read without Python. A pickle is a program for a stack machine,
 * and Python's own machine imports and calls whatever a program names. This one knows plain values and the names that it
 * is given; any other opcode or name is refused. Nothing of a pickle is ever run.
 */

/** A value that a pickle describes. Lists and tuples are arrays, dicts are maps. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Named
  | Made;

/** A class or function that a pickle may name. */
export class Named {
  constructor(
    /** "torch.FloatStorage" */
    readonly path: string,
    /** Value of a call, or of an object of this class; null where neither is allowed. */
    readonly make: ((args: readonly PickleValue[]) => PickleValue) | null,
  ) {}
}

/** A value that a name made, such as a tensor. */
export abstract class Made {
  /** True if a pickle may set its state, which is then passed over. */
  abstract readonly stateful: boolean;
}

/** An object that is known by the name of its class alone. */
export class Opaque extends Made {
  readonly stateful = true;
  constructor(readonly path: string) {
    super();
  }
}

/** Everything that a pickle may refer to. */
export interface PickleWorld {
  /** The class or function of a name; undefined for one that is not allowed. */
  named(path: string): Named | undefined;
  /** The value of a persistent id: data that is stored outside of the pickle. */
  persistent(id: PickleValue): PickleValue;
}

/** Values on the stack at once. SETITEMS takes a thousand pairs, and nothing that torch.save writes nests deep. */
const MAX_STACK = 10_000;
const MAX_DEPTH = 100;
/** Parts of a global's name are shorter. */
const MAX_NAME_BYTES = 200;

/**
 * The value that a pickle describes.
 * @param where file and entry, for messages
 * @throws {RefusedInput} naming the opcode or name that is not allowed, or where it is cut short
 */
export function unpickle(bytes: Uint8Array, world: PickleWorld, where: string): PickleValue {
  const machine = new Machine(bytes, world, where);
  for (;;) if (machine.step()) return machine.result();
}

type Step = (machine: Machine) => void;

class Machine {
  private readonly view: DataView;
  private readonly stack: PickleValue[] = [];
  /** Heights of the stack at the marks that are open. */
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  /** Containers within each other, at most. */
  private readonly depths = new WeakMap<object, number>();
  private at = 0;
  private opcode = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly world: PickleWorld,
    private readonly where: string,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Takes one opcode. @returns true at the end */
  step(): boolean {
    this.opcode = this.bytes[this.take(1)] as number;
    const step = STEPS[this.name()];
    if (step === undefined) throw this.refuse(`opcode ${this.name()}`, "opcodes of plain values and tensors");
    step(this);
    if (this.stack.length + this.marks.length > MAX_STACK) {
      throw this.refuse("a stack of too many values", `at most ${MAX_STACK}`);
    }
    return this.name() === "STOP";
  }

  result(): PickleValue {
    const value = this.pop();
    if (this.stack.length + this.marks.length > 0) throw this.refuse("values left behind", "one value at the end");
    return value;
  }

  name(): string {
    return OPCODE_NAMES.get(this.opcode) ?? `0x${this.opcode.toString(16)}`;
  }

  refuse(found: string, expected: string): RefusedInput {
    const where = `${this.where}, byte ${this.at}`;
    return new RefusedInput("a pickle cannot be read", { where, found, expected });
  }

  /** Place of the next n bytes, which are taken. */
  take(n: number): number {
    const start = this.at;
    if (start + n > this.bytes.length) throw this.refuse(`its end at byte ${this.bytes.length}`, `${n} more bytes`);
    this.at += n;
    return start;
  }

  u8 = (): number => this.view.getUint8(this.take(1));
  u16 = (): number => this.view.getUint16(this.take(2), true);
  u32 = (): number => this.view.getUint32(this.take(4), true);
  i32 = (): number => this.view.getInt32(this.take(4), true);
  f64 = (): number => this.view.getFloat64(this.take(8));

  text(n: number): string {
    const start = this.take(n);
    return decodeUtf8(this.bytes.subarray(start, start + n), `${this.where}, byte ${start}`);
  }

  line(): string {
    const end = this.bytes.subarray(this.at, this.at + MAX_NAME_BYTES).indexOf(10);
    if (end < 0) throw this.refuse("a name without an end", `a line of at most ${MAX_NAME_BYTES} bytes`);
    const text = this.text(end);
    this.take(1);
    return text;
  }

  /** A whole number of n bytes, two's complement. */
  long(n: number): number | bigint {
    const start = this.take(n);
    const digits = this.bytes.subarray(start, start + n);
    const value = digits.reduceRight((sum, digit) => (sum << 8n) | BigInt(digit), 0n);
    const signed = BigInt.asIntN(8 * n, value);
    return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
  }

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  /** The last value; a mark in front of it may not be crossed. */
  pop(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) throw this.refuse(`${this.name()} without a value`, "a value");
    return this.stack.pop() as PickleValue;
  }

  top(): PickleValue {
    const value = this.pop();
    this.push(value);
    return value;
  }

  mark(): void {
    this.marks.push(this.stack.length);
  }

  /** The values since the last mark, which goes. */
  sinceMark(): PickleValue[] {
    const height = this.marks.pop();
    if (height === undefined) throw this.refuse(`${this.name()} without a mark`, "a mark");
    return this.stack.splice(height);
  }

  put(index: number): void {
    this.memo.set(index, this.top());
  }

  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.refuse(`an unknown place ${index} of the memo`, "one that was filled before");
    this.push(value);
  }

  tuple(items: PickleValue[]): void {
    this.into(items, items);
    this.push(items);
  }

  append(items: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.refuse(`${this.name()} to something else than a list`, "a list");
    this.into(list, items);
    list.push(...items);
  }

  setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) throw this.refuse(`${this.name()} in something else than a dict`, "a dict");
    if (items.length % 2 !== 0) throw this.refuse("a key without a value", "pairs");
    this.into(dict, items);
    for (let i = 0; i < items.length; i += 2) dict.set(items[i] as PickleValue, items[i + 1] as PickleValue);
  }

  /** Counts how deep a container is with these items in it. */
  private into(container: object, items: readonly PickleValue[]): void {
    const inner = items.map((item) => (typeof item === "object" && item !== null ? (this.depths.get(item) ?? 0) : 0));
    const depth = inner.reduce((most, each) => Math.max(most, each), (this.depths.get(container) ?? 1) - 1) + 1;
    if (depth > MAX_DEPTH) throw this.refuse("values within values without end", `at most ${MAX_DEPTH} levels`);
    this.depths.set(container, depth);
  }

  global(): void {
    const path = `${this.line()}.${this.line()}`;
    const named = this.world.named(path);
    if (named === undefined) throw this.refuse(`the name ${path}`, "names of tensors and plain values alone");
    this.push(named);
  }

  /** The value of a class or function with arguments. */
  call(): void {
    const args = this.pop();
    const named = this.pop();
    if (!(named instanceof Named) || named.make === null || !Array.isArray(args)) {
      const what = named instanceof Named ? named.path : "something that is no name";
      throw this.refuse(
        `${this.name()} of ${what}`,
        "a function that makes tensors or plain values, and its arguments",
      );
    }
    this.push(named.make(args));
  }

  /** Passes over the state of an object that may have one. */
  build(): void {
    this.pop();
    const target = this.top();
    if (target instanceof Map || (target instanceof Made && target.stateful)) return;
    throw this.refuse(
      `${this.name()} of ${target instanceof Named ? target.path : "a plain value"}`,
      "an object with a state",
    );
  }

  persistent(): void {
    this.push(this.world.persistent(this.pop()));
  }

  protocol(): void {
    const version = this.u8();
    if (version !== 2) throw this.refuse(`protocol ${version}`, "protocol 2, as torch.save writes it");
  }
}

const few = (n: number): Step => {
  return (m) => m.tuple(Array.from({ length: n }, () => m.pop()).reverse());
};

/** All that is allowed. */
const STEPS: Readonly<Record<string, Step | undefined>> = {
  PROTO: (m) => m.protocol(),
  STOP: () => {},
  MARK: (m) => m.mark(),
  POP: (m) => void m.pop(),
  NONE: (m) => m.push(null),
  NEWTRUE: (m) => m.push(true),
  NEWFALSE: (m) => m.push(false),
  BININT: (m) => m.push(m.i32()),
  BININT1: (m) => m.push(m.u8()),
  BININT2: (m) => m.push(m.u16()),
  LONG1: (m) => m.push(m.long(m.u8())),
  BINFLOAT: (m) => m.push(m.f64()),
  BINUNICODE: (m) => m.push(m.text(m.u32())),
  EMPTY_LIST: (m) => m.tuple([]),
  EMPTY_TUPLE: (m) => m.tuple([]),
  EMPTY_DICT: (m) => m.push(new Map()),
  TUPLE: (m) => m.tuple(m.sinceMark()),
  TUPLE1: few(1),
  TUPLE2: few(2),
  TUPLE3: few(3),
  APPEND: (m) => m.append([m.pop()]),
  APPENDS: (m) => m.append(m.sinceMark()),
  SETITEM: (m) => m.setItems([m.pop(), m.pop()].reverse()),
  SETITEMS: (m) => m.setItems(m.sinceMark()),
  BINPUT: (m) => m.put(m.u8()),
  LONG_BINPUT: (m) => m.put(m.u32()),
  BINGET: (m) => m.get(m.u8()),
  LONG_BINGET: (m) => m.get(m.u32()),
  GLOBAL: (m) => m.global(),
  REDUCE: (m) => m.call(),
  NEWOBJ: (m) => m.call(),
  BUILD: (m) => m.build(),
  BINPERSID: (m) => m.persistent(),
};
