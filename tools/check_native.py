#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that pyws/_native.py and pyws/errors.py agree with ws.h, ws_http.h,
ws_cluster.h, ws_tls.h and bridge.h, and pyws/_core/openssl.py with ws_openssl.h.

    python3 tools/check_native.py [--root DIR] [--header FILE] [--bridge FILE] [--native FILE]
                                  [--errors FILE] [--enums FILE] [--openssl FILE]

Compares version and ABI, error codes, opcodes and results, structs field by field, and the
prototypes of ws.h: names, order, number and kind of parameters, which results are checked, and
which functions may block. The Python files are parsed, not imported, so no library is needed, and
size_t and uint64_t stay distinct although they are the same type on most machines.
Prints one line per difference and exits 1 if there is any.
"""

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import csource

# Kinds of values: the name of a C type, or "void". Kinds of pointers: "handle" (void *, and opaque
# structs of ws.h), "data" (const void *), "string" (NUL-terminated), "bytes" (with a separate
# length), "pointer to KIND", and "pointer(result, kinds...)" for a callback.
INTEGERS = {
    "int": "int",
    "unsigned": "uint",
    "ulong": "ulong",  # unsigned long
    "bool": "bool",
    "size_t": "size_t",
    "ptrdiff_t": "ptrdiff_t",
    "uint8_t": "uint8",
    "uint16_t": "uint16",
    "uint32_t": "uint32",
    "uint64_t": "uint64",
    "ws_conn_id": "uint64",
    "void": "void",
}
CTYPES = {
    "c_int": "int",
    "c_bool": "bool",
    "c_size_t": "size_t",
    "c_ssize_t": "ptrdiff_t",
    "c_uint8": "uint8",
    "c_uint16": "uint16",
    "c_uint32": "uint32",
    "c_uint64": "uint64",
    "c_uint": "uint",
    "c_ulong": "ulong",
    "c_void_p": "handle",
    "py_object": "handle",
    "c_char_p": "string",
    "c_char": "char",
    "chars": "bytes",  # of _native.py
}
OPAQUE = {"void", "ws_server", "ws_conn", "ws_request", "ws_tls", "ws_openssl", "struct"}
# The other parts of ws.h. Structs without a typedef of their own, as in ws_tls.h, are not mirrored.
HEADERS = ("ws_http.h", "ws_cluster.h", "ws_tls.h")
# Kinds in _native.py that are accepted for a different kind in ws.h.
FITS = {("data", "string"), ("data", "handle")}
# Structs of addresses, whose names identify the functions.
ADDRESSES = ("ws_python", "ws_openssl_functions")
# Functions whose int result has no errcheck; every other one has `check`.
UNCHECKED = {
    "ws_abi",  # a number
    "ws_server_fd",  # a descriptor
    # An exception of a callback takes precedence over the error of the loop.
    "ws_server_run",
    # WS_ESTOPPED, WS_ECLOSED and WS_ELIMIT are not exceptions there; the callers check the result.
    "ws_server_defer",
    "ws_conn_subscribe",
    "ws_conn_unsubscribe",
    "ws_conn_take_labels",
    "ws_request_respond",
    "ws_request_upgrade",
    "ws_request_defer",
    "ws_request_read_body",
    "ws_request_begin",
    "ws_request_write",
    "ws_request_finish",
    "ws_request_respond_static",
    "ws_request_respond_file",
    "ws_request_abort",
    # The hot path: calling a Python function would cost more than the comparison.
    "ws_conn_send",
    "ws_conn_send_fragment",
}
# Likewise in ws_openssl.h.
UNCHECKED_OPENSSL = {
    "ws_openssl_abi",  # a number
    "ws_openssl_load_context",  # the message is in its last argument
}
LINKED = "ws_openssl_linked"  # is for C programs alone
BLOCKING = {"ws_server_listen", "ws_server_run", "ws_server_step"}
PYTHON_ENUMS = {
    "OpCode": ("CONTINUATION", "TEXT", "BINARY", "CLOSE", "PING", "PONG"),
    "SendStatus": ("BACKPRESSURE", "SUCCESS", "DROPPED"),
}


class Field(NamedTuple):
    """A parameter, a member of a struct, or a function: its name and its kind."""

    name: str
    kind: str


Functions = List[Tuple[str, List[str]]]  # name, kinds of the result and the parameters


# ---- ws.h ---------------------------------------------------------------------------------------


class Header:
    """The declarations of ws.h, or of another header."""

    def __init__(self, text: str, name: str = "ws.h") -> None:
        self.text = csource.without_comments(text)
        self.name = name

    def define(self, name: str) -> Optional[str]:
        match = re.search(rf"^#define {name} (\S+)", self.text, re.MULTILINE)
        return match.group(1).strip('"') if match else None

    def errors(self) -> Dict[str, int]:
        pairs = re.findall(r"\bX\((\w+), (-\d+),", self.text)
        return {name: int(value) for name, value in pairs}

    def enum_values(self) -> Dict[str, int]:
        pairs = re.findall(r"\bWS_(\w+) = (-?\d+)", self.text)
        return {name: int(value) for name, value in pairs}

    def structs(self) -> Iterator[Tuple[str, List[Field]]]:
        for match in re.finditer(r"typedef struct (\w+) \{(.*?)\n\} \1;", self.text, re.DOTALL):
            items = [item for item in match.group(2).split(";") if item.strip()]
            fields = [field for item in items for field in c_fields(item)]
            names = {field.name for field in fields}
            yield (
                match.group(1),
                [
                    Field(name, "bytes" if f"{name}_length" in names else kind)
                    for name, kind in fields
                ],
            )

    def functions(self) -> Functions:
        found = []
        for match in re.finditer(r"^WS_API ([^;]*);", self.text, re.MULTILINE):
            declaration = " ".join(match.group(1).split())
            parts = re.match(r"(.*?)(ws_\w+)\((.*)\)$", declaration)
            if not parts:
                raise SystemExit(f"check_native: cannot read the prototype {declaration!r}")
            result, parameters = c_kind(parts.group(1)), c_parameters(parts.group(3))
            if result == "string" and "pointer to size_t" in parameters:
                result = "bytes"
            found.append((parts.group(2), [result, *parameters]))
        return found


def c_kind(text: str) -> str:
    """Return the kind of a C type, or of a declaration with a name after the type."""
    text = " ".join(text.split()).replace("unsigned long", "ulong")
    callback = re.match(r"(.*)\(\*\w*\)\((.*)\)$", text)
    if callback:
        kinds = [c_kind(callback.group(1)), *c_parameters(callback.group(2))]
        return f"pointer({', '.join(kinds)})".replace("string", "bytes")
    base = next(word for word in re.findall(r"\w+", text) if word != "const")
    stars = text.count("*") + text.count("[")
    return c_pointer(text, base, stars) if stars else INTEGERS.get(base, base)


def c_pointer(text: str, base: str, stars: int) -> str:
    if base == "char" and stars == 1:
        return "string"
    if base == "char":  # a list of constant strings, or the address of a result
        return f"pointer to {'string' if '*const *' in text else 'bytes'}"
    if base in OPAQUE and stars == 1:
        return "data" if text.startswith("const void") else "handle"
    return f"pointer to {'handle' if base in OPAQUE else INTEGERS.get(base, base)}"


def c_parameters(text: str) -> List[str]:
    if text.strip() == "void":
        return []
    parameters, depth, start = [], 0, 0
    for position, character in enumerate(text + ","):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parameters.append(c_kind(text[start:position]))
            start = position + 1
    return parameters


def c_fields(declaration: str) -> List[Field]:
    """Return the members that one declaration in a struct defines."""
    text = " ".join(declaration.split())
    callback = re.search(r"\(\*(\w+)\)", text)
    if callback:
        return [Field(callback.group(1), c_kind(text))]
    first, *others = text.split(",")
    name = re.search(r"(\w+)(?:\[\d+\])?$", first.strip())
    if not name:
        raise SystemExit(f"check_native: cannot read the member {text!r}")
    kind = c_kind(first)
    return [Field(name.group(1), kind), *(Field(other.strip(), kind) for other in others)]


# ---- _native.py ---------------------------------------------------------------------------------


class Native:
    """The declarations of _native.py, or of openssl.py."""

    def __init__(self, text: str, name: str = "_native.py") -> None:
        self.tree = ast.parse(text)
        self.name = name
        self.names: Dict[str, ast.expr] = dict(assignments(self.tree.body))

    def constant(self, name: str) -> str:
        return str(ast.literal_eval(self.names[name])) if name in self.names else "nothing"

    def kind(self, node: ast.expr) -> str:
        """Return the kind of a ctypes type."""
        if isinstance(node, ast.Constant) and node.value is None:
            return "void"
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.kind(self.names[node.id])
            return CTYPES.get(node.id, node.id)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):  # an array
            return f"pointer to {self.kind(node.left)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "POINTER":
                target = self.kind(node.args[0])
                return "bytes" if target == "char" else f"pointer to {target}"
            if node.func.id == "CFUNCTYPE":
                return f"pointer({', '.join(self.kind(item) for item in node.args)})"
        raise SystemExit(f"check_native: line {node.lineno}: cannot read this type")

    def structs(self) -> Iterator[Tuple[str, List[Field]]]:
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("ws_"):
                fields = dict(assignments(node.body)).get("_fields_")
                items = fields.elts if isinstance(fields, ast.List) else []
                pairs = [item.elts for item in items if isinstance(item, ast.Tuple)]
                yield (
                    node.name,
                    [Field(ast.literal_eval(name), self.kind(kind)) for name, kind in pairs],
                )

    def signatures(self) -> Iterator[Tuple[str, List[ast.expr]]]:
        """Return each name with its restype, argtypes and errcheck."""
        table = self.names.get("SIGNATURES")
        if not isinstance(table, ast.Dict):
            raise SystemExit("check_native: no SIGNATURES in the Python file")
        for key, value in zip(table.keys, table.values):
            if key is None or not isinstance(value, ast.Tuple) or len(value.elts) != 3:
                raise SystemExit(f"check_native: line {value.lineno}: not a signature")
            yield ast.literal_eval(key), value.elts

    def functions(self) -> Functions:
        found = []
        for name, (result, parameters, _) in self.signatures():
            if not isinstance(parameters, ast.Tuple):
                raise SystemExit(f"check_native: line {result.lineno}: argtypes must be a tuple")
            kinds = [self.kind(result), *(self.kind(item) for item in parameters.elts)]
            found.append((name, kinds))
        return found

    def blocking(self) -> List[str]:
        """Return the names in BLOCKING."""
        nodes = ast.walk(self.names.get("BLOCKING", ast.Constant(None)))
        names = [node.value for node in nodes if isinstance(node, ast.Constant)]
        return [name for name in names if isinstance(name, str)]


def assignments(body: List[ast.stmt]) -> Iterator[Tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def python_enums(text: str) -> Dict[str, Dict[str, int]]:
    """Return the classes of a Python file whose members are plain ints."""
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    return {
        node.name: {
            name: ast.literal_eval(value)
            for name, value in assignments(node.body)
            if isinstance(value, (ast.Constant, ast.UnaryOp))
        }
        for node in classes
    }


# ---- comparison ---------------------------------------------------------------------------------


def compare_order(
    what: str, header: Header, native: Native, ours: List[str], theirs: List[str]
) -> Iterator[str]:
    """Yield the differences of two lists of names, the first of which is the header's."""
    for name in ours:
        if name not in theirs:
            yield f"{what} {name} of {header.name} is missing in {native.name}"
    for name in theirs:
        if name not in ours:
            yield f"{what} {name} of {native.name} is not in {header.name}"
    if sorted(ours) == sorted(theirs) and ours != theirs:
        first = next(a for a, b in zip(theirs, ours) if a != b)
        yield f"{what} {first} of {native.name} is in another position than in {header.name}"


def fits(ours: str, theirs: str) -> bool:
    return ours == theirs or (ours, theirs) in FITS


def compare_structs(header: Header, native: Native, *more: Header) -> Iterator[str]:
    ours = {name: fields for one in (header, *more) for name, fields in one.structs()}
    theirs = dict(native.structs())
    yield from compare_order("struct", header, native, list(ours), list(theirs))
    for name in ours.keys() & theirs.keys():
        names = [field.name for field in ours[name]], [field.name for field in theirs[name]]
        yield from compare_order(f"{name}:", header, native, *names)
        kinds = dict(theirs[name])
        for field in ours[name]:
            found = kinds.get(field.name, field.kind)
            if name in ADDRESSES and field.kind.startswith("pointer(") and found == "handle":
                continue
            if not fits(field.kind, found):
                yield f"{name}.{field.name} is {field.kind} in {header.name}, not {found}"


def compare_functions(header: Header, native: Native) -> Iterator[str]:
    ours, theirs = dict(header.functions()), dict(native.functions())
    ours.pop(LINKED, None)
    yield from compare_order("function", header, native, list(ours), list(theirs))
    for name in ours.keys() & theirs.keys():
        expected, found = ours[name], theirs[name]
        if len(expected) != len(found):
            counts = f"{len(expected) - 1} parameters, not {len(found) - 1}"
            yield f"{name} has {counts}"
            continue
        for number, (a, b) in enumerate(zip(expected, found)):
            if not fits(a, b):
                place = f"parameter {number}" if number else "result"
                yield f"{name}: the {place} is {a} in {header.name}, not {b}"


def compare_errchecks(header: Header, native: Native, unchecked: Set[str]) -> Iterator[str]:
    """Check that all functions have the errcheck that they need."""
    results = {name: kinds[0] for name, kinds in header.functions()}
    for name, (_, _, node) in native.signatures():
        found = node.id if isinstance(node, ast.Name) else str(ast.literal_eval(node))
        may_fail = results.get(name) in ("int", "ptrdiff_t")
        wanted = "check" if may_fail and name not in unchecked else "None"
        if found != wanted:
            yield f"{name}: the errcheck is {found}, not {wanted}"
    for name in sorted(unchecked - results.keys()):
        yield f"{name} is on the list of functions without errcheck but not in {header.name}"


def compare_blocking(native: Native) -> Iterator[str]:
    found = native.blocking()
    if sorted(found) != sorted(BLOCKING):
        yield f"BLOCKING is {sorted(found)}, not {sorted(BLOCKING)}"


def compare_values(
    what: str, ours: Dict[str, int], theirs: Dict[str, int], names: Tuple[str, ...]
) -> Iterator[str]:
    for name in names:
        if ours.get(name) != theirs.get(name):
            yield f"{what}.{name} is {ours.get(name)} in ws.h, not {theirs.get(name)}"


def compare(
    header: Header, bridge: Header, native: Native, errors: str, enums: str
) -> Iterator[str]:
    for ours, theirs in (("WS_VERSION", "VERSION"), ("WS_ABI", "ABI")):
        if header.define(ours) != native.constant(theirs):
            yield f"{ours} is {header.define(ours)}, {theirs} is {native.constant(theirs)}"
    codes = python_enums(errors).get("ErrorCode", {})
    names = tuple(dict.fromkeys([*header.errors(), *codes]))
    yield from compare_values("ErrorCode", header.errors(), codes, names)
    for name, members in PYTHON_ENUMS.items():
        values = python_enums(enums).get(name, {})
        yield from compare_values(name, header.enum_values(), values, members)
    yield from compare_structs(header, native, bridge)
    yield from compare_functions(header, native)
    yield from compare_errchecks(header, native, UNCHECKED)
    yield from compare_blocking(native)


def compare_openssl(header: Header, native: Native) -> Iterator[str]:
    for ours, theirs in (
        ("WS_OPENSSL_TICKET_KEYS", "TICKET_KEYS"),
        ("WS_OPENSSL_ERROR_SIZE", "ERROR_SIZE"),
    ):
        if header.define(ours) != native.constant(theirs):
            yield f"{ours} is {header.define(ours)}, {theirs} is {native.constant(theirs)}"
    yield from compare_structs(header, native)
    yield from compare_functions(header, native)
    yield from compare_errchecks(header, native, UNCHECKED_OPENSSL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare pyws/_native.py with csrc/ws.h.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--header", type=Path)
    parser.add_argument("--bridge", type=Path)
    parser.add_argument("--native", type=Path)
    parser.add_argument("--errors", type=Path)
    parser.add_argument("--enums", type=Path)
    parser.add_argument("--openssl", type=Path)
    args = parser.parse_args()
    package = args.root / "pyws"
    header = Header(
        csource.read(args.header or args.root / "csrc" / "ws.h")
        + "".join(csource.read(args.root / "csrc" / name) for name in HEADERS)
    )
    bridge = Header(csource.read(args.bridge or args.root / "csrc" / "bridge.h"))
    native = Native(csource.read(args.native or package / "_native.py"))
    errors = csource.read(args.errors or package / "errors.py")
    enums = csource.read(args.enums or package / "enums.py")
    openssl = (
        Header(csource.read(args.root / "csrc" / "ws_openssl.h"), "ws_openssl.h"),
        Native(csource.read(args.openssl or package / "_core" / "openssl.py"), "openssl.py"),
    )
    differences = [*compare(header, bridge, native, errors, enums), *compare_openssl(*openssl)]
    for difference in differences:
        print(f"check_native: {difference}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
