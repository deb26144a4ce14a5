/** Names of the opcodes of Python's pickles, by their byte (CPython, Lib/pickletools.py). */
export const OPCODE_NAMES: ReadonlyMap<number, string> = new Map([
  ...named(
    "(MARK .STOP 0POP 1POP_MARK 2DUP FFLOAT IINT JBININT KBININT1 LLONG MBININT2 NNONE PPERSID QBINPERSID RREDUCE",
  ),
  ...named(
    "SSTRING TBINSTRING USHORT_BINSTRING VUNICODE XBINUNICODE aAPPEND bBUILD cGLOBAL dDICT }EMPTY_DICT eAPPENDS",
  ),
  ...named("gGET hBINGET iINST jLONG_BINGET lLIST ]EMPTY_LIST oOBJ pPUT qBINPUT rLONG_BINPUT sSETITEM tTUPLE"),
  ...named(")EMPTY_TUPLE uSETITEMS GBINFLOAT BBINBYTES CSHORT_BINBYTES"),
  ...numbered(0x80, "PROTO NEWOBJ EXT1 EXT2 EXT4 TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 SHORT_BINUNICODE"),
  ...numbered(
    0x8d,
    "BINUNICODE8 BINBYTES8 EMPTY_SET ADDITEMS FROZENSET NEWOBJ_EX STACK_GLOBAL MEMOIZE FRAME BYTEARRAY8",
  ),
  ...numbered(0x97, "NEXT_BUFFER READONLY_BUFFER"),
]);

/** Opcodes whose byte is a printable character, which stands before the name. */
function named(list: string): [number, string][] {
  return list.split(" ").map((entry) => [entry.charCodeAt(0), entry.slice(1)]);
}

function numbered(first: number, list: string): [number, string][] {
  return list.split(" ").map((name, i) => [first + i, name]);
}
