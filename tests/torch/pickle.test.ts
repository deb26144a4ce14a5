import { existsSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { Named, Opaque, type PickleValue, type PickleWorld, unpickle } from "../../src/torch/pickle.js";
import { refusal, temporaryFolder } from "../model/support.js";
import {
  BUILD,
  dict,
  EMPTY_DICT,
  EMPTY_LIST,
  EMPTY_TUPLE,
  global,
  int,
  MARK,
  NEWOBJ,
  PROTO,
  pickled,
  REDUCE,
  STOP,
  TUPLE1,
  tuple,
  unicode,
} from "./support.js";

/** A world of one class whose objects are dicts, one opaque class, and one type. */
const world: PickleWorld = {
  named(path) {
    if (path === "collections.OrderedDict") return new Named(path, () => new Map());
    if (path === "made.Config") return new Named(path, () => new Opaque(path));
    return path === "torch.FloatStorage" ? new Named(path, null) : undefined;
  },
  persistent: (id) => ["stored", id],
};

const read = (bytes: Buffer): PickleValue => unpickle(bytes, world, "made.pkl");
const orderedDict = global("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE;

describe("plain values are read", () => {
  test.each<[string, string, PickleValue]>([
    ["None, True and False", tuple("N", "\x88", "\x89"), [null, true, false]],
    ["whole numbers of every length", tuple(int(-5), "K\xff", "M\x00\x01", "\x8a\x01\xfe"), [-5, 255, 256, -2]],
    ["whole numbers beyond 53 bits", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01", 2n ** 64n],
    ["a float", "G\xbf\xf8\x00\x00\x00\x00\x00\x00", -1.5],
    ["text", unicode("häuser"), "häuser"],
    ["lists", `${EMPTY_LIST}K\x01a(K\x02K\x03e`, [1, 2, 3]],
    ["tuples", "K\x01K\x02\x86K\x03\x85\x86", [[1, 2], [3]]],
    [
      "dicts",
      `${dict({ a: "K\x01" })}(${unicode("b")}K\x02u`,
      new Map([
        ["a", 1],
        ["b", 2],
      ]),
    ],
    ["a value that is used again", `${unicode("x")}q\x07h\x07\x86`, ["x", "x"]],
    ["data outside of it", `${unicode("k")}Q`, ["stored", "k"]],
    ["an object of a class that is known", `${orderedDict}${unicode("k")}K\x01s`, new Map([["k", 1]])],
  ])("%s", (_, value, expected) => {
    expect(read(pickled(value))).toEqual(expected);
  });

  test("and the state of an object is passed over, whatever it says", () => {
    const state = dict({ __setstate__: unicode("os.system"), __class__: "K\x01" });
    expect(read(pickled(orderedDict + state + BUILD))).toEqual(new Map());
    const config = global("made", "Config") + EMPTY_TUPLE + NEWOBJ;
    expect(read(pickled(config + state + BUILD))).toEqual(new Opaque("made.Config"));
  });
});

describe("nothing is run, and it is refused by name:", () => {
  test.each<[string, (command: string) => string, found: string]>([
    ["os.system", (run) => `${global("os", "system")}${run}${TUPLE1}${REDUCE}`, "the name os.system"],
    ["posix.system", (run) => `${global("posix", "system")}${run}${TUPLE1}${REDUCE}`, "the name posix.system"],
    ["eval", (run) => `${global("builtins", "eval")}${run}${TUPLE1}${REDUCE}`, "the name builtins.eval"],
    [
      "Python 2's exec",
      (run) => `${global("__builtin__", "exec")}${run}${TUPLE1}${REDUCE}`,
      "the name __builtin__.exec",
    ],
    ["getattr", () => global("builtins", "getattr"), "the name builtins.getattr"],
    ["a name within an allowed module", () => global("torch", "load"), "the name torch.load"],
    [
      "a name within an allowed class",
      () => global("collections", "OrderedDict.fromkeys"),
      "the name collections.OrderedDict.fromkeys",
    ],
    ["a name of JavaScript", () => global("process", "exit"), "the name process.exit"],
    [
      "STACK_GLOBAL",
      (run) => `${unicode("posix")}${unicode("system")}\x93${run}${TUPLE1}${REDUCE}`,
      "opcode STACK_GLOBAL",
    ],
    ["INST", (run) => `${MARK}${run}iposix\nsystem\n`, "opcode INST"],
    ["OBJ", (run) => `${MARK}${global("collections", "OrderedDict")}${run}o`, "opcode OBJ"],
    [
      "OBJ of a class that is not allowed",
      (run) => `${MARK}${global("subprocess", "Popen")}${run}o`,
      "the name subprocess.Popen",
    ],
    ["EXT1", () => "\x82\x01", "opcode EXT1"],
    [
      "NEWOBJ of a class that is not allowed",
      (run) => `${global("subprocess", "Popen")}${run}${TUPLE1}${NEWOBJ}`,
      "the name subprocess.Popen",
    ],
    [
      "NEWOBJ of a type",
      () => `${global("torch", "FloatStorage")}${EMPTY_TUPLE}${NEWOBJ}`,
      "NEWOBJ of torch.FloatStorage",
    ],
    ["NEWOBJ_EX", () => `${global("made", "Config")}${EMPTY_TUPLE}${EMPTY_DICT}\x92`, "opcode NEWOBJ_EX"],
    [
      "REDUCE of a type",
      () => `${global("torch", "FloatStorage")}${EMPTY_TUPLE}${REDUCE}`,
      "REDUCE of torch.FloatStorage",
    ],
    ["REDUCE of text", (run) => `${run}${EMPTY_TUPLE}${REDUCE}`, "REDUCE of something that is no name"],
    ["REDUCE of an object", () => `${orderedDict}${EMPTY_TUPLE}${REDUCE}`, "REDUCE of something that is no name"],
    [
      "REDUCE with something else than arguments",
      () => `${global("made", "Config")}N${REDUCE}`,
      "REDUCE of made.Config",
    ],
    [
      "BUILD with a __setstate__ that is not allowed",
      (run) => `${orderedDict}${EMPTY_DICT}${unicode("__setstate__")}${global("os", "system")}s${run}b`,
      "the name os.system",
    ],
    ["BUILD of a type", () => `${global("torch", "FloatStorage")}${EMPTY_DICT}${BUILD}`, "BUILD of torch.FloatStorage"],
    ["BUILD of text", (run) => `${run}${EMPTY_DICT}${BUILD}`, "BUILD of a plain value"],
    ["an opcode that there is not", () => "\xff", "opcode 0xff"],
  ])("%s", async (_, hostile, found) => {
    const made = join(await temporaryFolder(), "made-by-a-pickle");
    const bytes = pickled(hostile(unicode(`touch ${made}`)));
    const refused = await refusal(() => read(bytes));
    expect(refused).toMatchObject({ message: expect.stringContaining("a pickle cannot be read"), found });
    expect(refused.where).toMatch(/^made\.pkl, byte \d+$/);
    expect(existsSync(made)).toBe(false);
  });
});

describe("a pickle that makes no sense is refused:", () => {
  test.each<[string, string, found: string]>([
    ["another protocol", "\x80\x04", "protocol 4"],
    ["a place of the memo that was never filled", "h\x05", "an unknown place 5 of the memo"],
    ["nothing at all", "", "STOP without a value"],
    ["two values", "NN", "values left behind"],
    ["a mark that stays open", `${MARK}N`, "values left behind"],
    ["a value taken from beyond a mark", `N${MARK}${TUPLE1}`, "TUPLE1 without a value"],
    ["a tuple without a mark", "Nt", "TUPLE without a mark"],
    ["an item of no list", `${EMPTY_DICT}Na`, "APPEND to something else than a list"],
    ["a key of no dict", `${EMPTY_LIST}NNs`, "SETITEM in something else than a dict"],
    ["a key without a value", `${EMPTY_DICT}${MARK}Nu`, "a key without a value"],
    ["tuples within tuples", `N${TUPLE1.repeat(200)}`, "values within values without end"],
    ["lists within lists", EMPTY_LIST.repeat(200) + "a".repeat(199), "values within values without end"],
    [
      "a list that is put into itself again and again",
      `${EMPTY_LIST}q\x00${"h\x00a".repeat(200)}`,
      "values within values without end",
    ],
    ["marks upon marks", MARK.repeat(20_000), "a stack of too many values"],
    ["values upon values", "N".repeat(20_000), "a stack of too many values"],
    ["text longer than the pickle", "X\xff\xff\xff\x7fabc", "its end at byte 11"],
    ["a name without an end", `c${"x".repeat(300)}\n\n`, "a name without an end"],
  ])("%s", async (_, value, found) => {
    expect(await refusal(() => read(pickled(value)))).toMatchObject({ found });
  });

  test("text that is no text", async () => {
    await refusal(() => read(pickled("X\x02\x00\x00\x00\xc3\x28")));
  });

  test("whatever is cut off at its end", async () => {
    const whole = pickled(tuple(dict({ a: int(1) }), `${orderedDict}${EMPTY_DICT}${BUILD}`, "\x8a\x02\x01\x02"));
    for (let length = 0; length < whole.length; length++) await refusal(() => read(whole.subarray(0, length)));
    expect(read(whole)).toEqual([new Map([["a", 1]]), new Map(), 513]);
  });

  test("any bytes give a value or a refusal, and never another error", () => {
    const opcode = fc.constantFrom(...`${MARK}${STOP}N])}RbQtasKh\x81\x85\x86\x88`, orderedDict, "q\x00", unicode("x"));
    const program = fc.array(fc.oneof(opcode, fc.integer({ min: 0, max: 255 }).map(String.fromCharCode)));
    fc.assert(
      fc.property(program, (parts) => {
        try {
          read(Buffer.from(PROTO + parts.join(""), "latin1"));
        } catch (error) {
          if (!(error instanceof RefusedInput)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });
});
