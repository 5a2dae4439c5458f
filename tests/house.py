"""Counts that tell in what state the code is: sizes, names, circles of imports, docs.

    python tests/house.py [FOLDER] [--list]

FOLDER holds src/ and tests/operators.txt (default: this repository). --list names the places too. Comments and strings are
masked first; test modules (`#[cfg(test)]`) and files that are nothing else do not count. Lines are as they stand: format
with rustfmt's defaults before comparing two states. Circles and reachable items are found by resolving paths and
re-exports as far as text allows, so those two figures are estimates.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 7
OWNERS = ("ops", "run")  # rooms that may name operators
TOKEN = re.compile(r'//[^\n]*|/\*|b?r(#*)"|b?"(?:\\.|[^"\\])*"|b?\'(?:\\(?:u\{[^}]*\}|x..|.)|[^\'\\\n])\'', re.S)
IDENT = r"[A-Za-z_][A-Za-z0-9_]*"
ITEM = re.compile(rf"^(\s*)pub (?:const |async |unsafe )*(?:fn|struct|enum|trait|type|const|static|union) ({IDENT})", re.M)


# --- Reading ---------------------------------------------------------------------------------------------


def masked(text):
    """The text with comments and literals blanked, of the same length, and its string literals as (offset, contents)."""
    out, strings, at = [], [], 0
    while match := TOKEN.search(text, at):
        start, end = match.span()
        if match[0] == "/*":
            depth = 1
            while depth and (next_mark := re.compile(r"/\*|\*/").search(text, end)):
                depth += 1 if next_mark[0] == "/*" else -1
                end = next_mark.end()
        elif match[1] is not None:
            close = text.find('"' + match[1], end)
            strings.append((start, text[end:close]))
            end = close + 1 + len(match[1])
        elif match[0].endswith('"'):
            strings.append((start, match[0].removeprefix("b")[1:-1]))
        out.append(text[at:start] + re.sub(r"[^\n]", " ", text[start:end]))
        at = end
    return "".join(out) + text[at:], strings


def closing(text, at, pairs="{}"):
    """The offset behind the bracket that closes the one at `at`."""
    depth = 0
    for offset in range(at, len(text)):
        depth += (text[offset] == pairs[0]) - (text[offset] == pairs[1])
        if depth == 0:
            return offset + 1
    return len(text)


def without_tests(code):
    """The masked code with every item under `#[cfg(test)]` blanked, and the names of test modules in files of their own."""
    files = []
    for match in reversed(list(re.finditer(r"#\[cfg\(test\)\]", code))):
        stop = re.compile(r"[;{]").search(code, match.end())
        if not stop:
            continue
        end = closing(code, stop.start()) if stop[0] == "{" else stop.end()
        if declared := re.search(rf"\bmod ({IDENT});", code[match.end() : end]):
            files.append(declared[1])
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code, files


class Source:
    """One file: its text, and the same with comments, literals and tests masked."""

    def __init__(self, path, src):
        self.path, self.name = path, str(path.relative_to(src))
        parts = list(path.relative_to(src).with_suffix("").parts)
        self.module = tuple(parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts)
        self.text = path.read_text()
        plain, strings = masked(self.text)
        self.code, self.test_files = without_tests(plain)
        self.strings = [found for at, found in strings if plain[:at].count("\n") in self.live_lines(plain)]

    def live_lines(self, plain):
        """Numbers of the lines that no test item covers."""
        if not hasattr(self, "_live"):
            pairs = zip(plain.splitlines(), self.code.splitlines())
            self._live = {number for number, (left, right) in enumerate(pairs) if left == right}
        return self._live

    def lines(self):
        """Lines outside tests."""
        plain = masked(self.text)[0].splitlines()
        return sum(left == right for left, right in zip(plain, self.code.splitlines()))


def read(folder):
    """All files of src that are no tests."""
    src = folder / "src"
    sources = [Source(path, src) for path in sorted(src.rglob("*.rs"))]
    tests = {(*source.module, name) for source in sources for name in source.test_files}
    return [
        source
        for source in sources
        if not any(source.module[: n + 1] in tests for n in range(len(source.module)))
        and source.module[-1:] not in (("tests",),)
    ]


# --- Counts ----------------------------------------------------------------------------------------------


def functions(source):
    """(name, line, lines, parameters) of every function with a body."""
    for match in re.finditer(rf"\bfn ({IDENT})", source.code):
        at = match.end()
        if source.code[at : at + 1] == "<":
            generics = re.sub("->", "  ", source.code[at:])
            at += closing(generics, 0, "<>")
        opened = source.code.find("(", at)
        closed = closing(source.code, opened, "()")
        stop = re.compile(r"[;{]").search(source.code, closed)
        if not stop or stop[0] == ";":
            continue
        parameters = parts(source.code[opened + 1 : closed - 1])
        line = source.code[: match.start()].count("\n") + 1
        lines = source.code[match.start() : closing(source.code, stop.start())].count("\n") + 1
        yield match[1], line, lines, len(parameters)


def parts(text):
    """What the commas outside of brackets separate."""
    depth, found, last = 0, [], 0
    text = text.replace("->", "  ")
    for at, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            found.append(text[last:at])
            last = at + 1
    return [part for part in [*found, text[last:]] if part.strip()]


def operator_names(folder):
    """Names of all operators that onnx and ONNX Runtime define."""
    rows = (folder / "tests" / "operators.txt").read_text().splitlines()
    return {row.split()[1] for row in rows if row and not row.startswith("#")}


def string_errors(source):
    """Lines with a `Result<_, String>`."""
    for match in re.finditer(r"\bResult<", source.code):
        text = source.code[match.end() - 1 :].replace("->", "  ")
        inner = parts(text[1 : closing(text, 0, "<>") - 1])
        if len(inner) == 2 and inner[1].strip() == "String":
            yield source.code[: match.start()].count("\n") + 1


def doctests(source):
    """Lines on which a code block of a doc comment begins that rustdoc runs."""
    inside = False
    for number, line in enumerate(source.text.splitlines(), 1):
        match = re.match(r"\s*//[/!] ?(.*)", line)
        if not match:
            inside = False
        elif match[1].lstrip().startswith("```"):
            words = {word for word in re.split(r"[,\s]+", match[1].strip().removeprefix("```")) if word}
            if not inside and words <= {"rust", "no_run", "should_panic", "compile_fail", "edition2024"}:
                yield number
            inside = not inside


# --- Imports ---------------------------------------------------------------------------------------------


def expanded(tree, prefix=()):
    """The paths of a `use` tree."""
    tree = tree.strip()
    if "{" in tree:
        head, _, rest = tree.partition("{")
        head = tuple(part.strip() for part in head.split("::") if part.strip())
        for part in parts(rest[: rest.rfind("}")]):
            yield from expanded(part, prefix + head)
    else:
        yield prefix + tuple(part.strip() for part in tree.split(" as ")[0].split("::") if part.strip())


class Crate:
    """Who declares and who re-exports what."""

    def __init__(self, sources):
        self.sources = {source.module: source for source in sources if source.name not in ("main.rs",)}
        self.exports = defaultdict(dict)
        for module, source in self.sources.items():
            for match in re.finditer(r"\bpub(?:\([^)]*\))? use ([^;]+);", source.code):
                for path in expanded(match[1]):
                    if target := self.absolute(path, module):
                        self.exports[module][path[-1]] = target

    def absolute(self, path, module):
        """A path as seen in `module`, from the root of the crate; None for paths that leave it."""
        if path and path[0] == "crate":
            return path[1:]
        if path and path[0] in ("self", "super"):
            while path and path[0] in ("self", "super"):
                module = module[:-1] if path[0] == "super" else module
                path = path[1:]
            return module + path
        return module + path if path and module + path[:1] in self.sources else None

    def owner(self, path, depth=0):
        """The module whose file declares what the path names."""
        if path in self.sources or depth > 8:
            return path if path in self.sources else None
        for length in range(len(path) - 1, -1, -1):
            if path[:length] in self.sources:
                target = self.exports[path[:length]].get(path[length])
                if target and target != path:
                    return self.owner(target + path[length + 1 :], depth + 1) or path[:length]
                return path[:length]
        return None

    def edges(self):
        """{module: modules that it uses}; what it only re-exports does not count."""
        found = defaultdict(set)
        for module, source in self.sources.items():
            code = re.sub(r"\bpub(?:\([^)]*\))? use [^;]+;", "", source.code)
            paths = [path for match in re.finditer(r"\buse ([^;]+);", code) for path in expanded(match[1])]
            code = re.sub(r"\buse [^;]+;", "", code)
            paths += [tuple(match[0].split("::")) for match in re.finditer(rf"\b(?:crate|super|self|{IDENT})(?:::{IDENT})+", code)]
            for path in paths:
                target = self.absolute(path, module)
                owner = target is not None and self.owner(target)
                if owner and owner != module:
                    found[module].add(owner)
        return found


def circles(edges):
    """Strongly connected components of two and more."""
    order, seen = [], set()
    backwards = defaultdict(set)
    for node, targets in edges.items():
        for target in targets:
            backwards[target].add(node)

    def walk(graph, start, done):
        stack = [(start, iter(sorted(graph.get(start, ()))))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((other for other in rest if other not in seen), None)
            if following is None:
                done.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(sorted(graph.get(following, ())))))

    for node in sorted(set(edges) | set(backwards)):
        if node not in seen:
            walk(edges, node, order)
    seen.clear()
    for node in reversed(order):
        if node not in seen:
            component = []
            walk(backwards, node, component)
            if len(component) > 1:
                yield sorted(component)


def reachable(crate):
    """Public items of public modules: declared there, re-exported there, and public methods of such types."""
    public, hidden = [()], r"#\[doc\(hidden\)\]\s*(?:#\[[^\]]*\]\s*)*"
    for module in public:
        source = crate.sources[module]
        concealed = set(re.findall(rf"{hidden}pub mod ({IDENT});", source.code))
        names = set(re.findall(rf"\bpub mod ({IDENT});", source.code)) - concealed
        public += [(*module, name) for name in sorted(names) if (*module, name) in crate.sources]
    items = set()
    for module in public:
        source = crate.sources[module]
        items |= {(*module, match[2]) for match in ITEM.finditer(source.code) if not match[1].strip("\n")}
        for match in re.finditer(r"^pub use ([^;]+);", source.code, re.M):
            for path in expanded(match[1]):
                target = crate.absolute(path, module)
                owner = target and crate.owner(target)
                items.add((*(owner if owner is not None else module), path[-1]))
    for module, source in crate.sources.items():
        for match in re.finditer(rf"^impl(?:<[^{{]*?>)? ({IDENT})[^{{]*{{", source.code, re.M):
            shown = any(item[-1] == match[1] and item[:1] == module[:1] for item in items)
            if shown and " for " not in match[0]:
                body = source.code[match.end() : closing(source.code, match.end() - 1)]
                items |= {(*module, match[1], found[2]) for found in ITEM.finditer(body)}
    return sorted(items)


# --- The page --------------------------------------------------------------------------------------------


def counts(folder):
    """(what, [places]) for every figure."""
    sources = read(folder)
    names, crate = operator_names(folder), Crate(sources)
    every = [(source, *found) for source in sources for found in functions(source)]
    types = defaultdict(list)
    for source in sources:
        for match in re.finditer(rf"^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|union|type) ({IDENT})", source.code, re.M):
            types[match[1]].append(source.name)
    edges = crate.edges()
    files, rooms = defaultdict(set), defaultdict(set)
    for module, targets in edges.items():
        for target in targets:
            if module and target and module[0] == target[0]:
                # A door (mod.rs) holds what its files share, and calls them.
                if module[: len(target)] != target and target[: len(module)] != module:
                    files[module].add(target)
            elif module and target:
                rooms[module[0]].add(target[0])
    show = "::".join
    yield f"files over {FILE_LINES} lines", [f"{s.name} {s.lines()}" for s in sources if s.lines() > FILE_LINES]
    long = [f"{s.name}:{line} {name} {lines}" for s, name, line, lines, _ in every if lines > FUNCTION_LINES]
    yield f"functions over {FUNCTION_LINES} lines", long
    wide = [f"{s.name}:{line} {name} {count}" for s, name, line, _, count in every if count >= PARAMETERS]
    yield f"functions of {PARAMETERS} and more parameters", wide
    strangers = [source for source in sources if source.module[:1] not in {(owner,) for owner in OWNERS}]
    found = [f"{source.name} {text}" for source in strangers for text in source.strings if text in names]
    yield "operator names outside src/ops and src/run", found
    yield "  files with such names", sorted({place.split()[0] for place in found})
    yield "circles of imports in a room (doors left out)", [f"{len(c)}: {', '.join(map(show, c))}" for c in circles(files)]
    yield "circles of imports between rooms", [", ".join(c) for c in circles(rooms)]
    yield "type names used for two and more things", [f"{n}: {', '.join(w)}" for n, w in sorted(types.items()) if len(w) > 1]
    yield "doctests", [f"{s.name}:{line}" for s in sources for line in doctests(s)]
    yield "public items reachable from lib.rs (estimate)", [show(item) for item in reachable(crate)]
    yield "Result<_, String>", [f"{s.name}:{line}" for s in sources for line in string_errors(s)]
    yield "lines outside tests", range(sum(source.lines() for source in sources))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=Path(__file__).resolve().parent.parent, type=Path)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    for what, places in counts(arguments.folder):
        print(f"{what:50} {len(places):6}")
        if arguments.list and not isinstance(places, range):
            print("".join(f"    {place}\n" for place in places), end="")


if __name__ == "__main__":
    sys.exit(main())
