"""Mutation testing: small faults are put into `lai`, one at a time, and `tests/lai` must notice each.

    .venv/bin/python -m tools.mutate                        # every mutant of the modules below: hours
    .venv/bin/python -m tools.mutate loss --sample 40 --seed 1

One process imports torch and forks a child for each mutant, which runs the tests of the mutated module first and stops at
the first failure. Survivors are printed with their line and change. Tests marked `long` are left out.
"""

import argparse
import ast
import copy
import importlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

from tools.values import option

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "lai"
MODULES = ("factor", "gradient", "loss", "program", "schedule", "sweep")

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "sin": "cos", "cos": "sin"}

RECORD = "import json, pathlib, sys; from tools.health import record; record('mutants', json.loads(sys.argv[2]), pathlib.Path(sys.argv[3]), part=sys.argv[1])"

Change = Callable[[Any], ast.AST]


class Mutant(NamedTuple):
    line: int
    before: str
    after: str
    source: str


def negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def with_field(name: str, value: Any) -> Change:
    """The node itself with another value in a field, computed from the old one if it is a function."""

    def change(node: Any) -> ast.AST:
        setattr(node, name, value(getattr(node, name)) if callable(value) else value)
        return node

    return change


def changes(node: ast.AST) -> Iterator[Change]:
    """Every fault that a node can have."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield with_field("ops", [*ops[:i], SWAPS[type(op)](), *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield with_field("op", SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield lambda n: n.operand
        case ast.Constant(value=bool()):
            yield with_field("value", lambda value: not value)
        case ast.Constant(value=int()):
            yield with_field("value", lambda value: value + 1)
        case ast.Constant(value=float()):
            yield with_field("value", lambda value: 2 * value + 1)
        case ast.If() | ast.IfExp() | ast.While():
            yield with_field("test", negated)
        case ast.comprehension(ifs=[_, *_]):
            yield with_field("ifs", lambda ifs: [negated(ast.BoolOp(ast.And(), ifs) if len(ifs) > 1 else ifs[0])])
        case ast.Return(value=ast.expr()):
            yield with_field("value", ast.Constant(None))
        case ast.Name(id=name) if name in NAMES:
            yield with_field("id", NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield with_field("attr", NAMES[name])
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield lambda n: ast.Pass()


def executed(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Each place below a node whose change a test could see: parent, field, index in a list of nodes."""
    for name, value in ast.iter_fields(node):
        # Not: annotations, what an error says, and what only a type checker reads.
        if name in {"annotation", "returns", "exc", "cause"} or isinstance(node, ast.JoinedStr):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            ):
                continue
            yield node, name, i
            yield from executed(child)


def mutants(source: str) -> list[Mutant]:
    tree = ast.parse(source)
    found = []
    for parent, name, i in executed(tree):
        held = getattr(parent, name)
        node = held if i is None else held[i]
        for change in changes(node):
            new = change(copy.deepcopy(node))
            _put(parent, name, i, new)
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            text = ast.unparse(ast.fix_missing_locations(tree))
            found.append(Mutant(line, _first_line(node), _first_line(new), text))
            _put(parent, name, i, node)
    return found


def _put(parent: ast.AST, name: str, i: int | None, node: ast.AST) -> None:
    if i is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[i] = node


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).strip().splitlines()[0]


class Mutated(SourceFileLoader):
    """Finds and loads one module of the package, with another source."""

    def __init__(self, module: str, source: str) -> None:
        super().__init__(f"lai.{module}", str(ROOT / "lai" / f"{module}.py"))
        self.source = source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> Any:
        return compile(self.source, self.path, "exec")


def tests_of(module: str) -> list[str]:
    """The tests of the module itself, its examples, then what else could notice.

    Those of a sweep take long and notice nothing of the other modules that these do not; a sweep's own faults show nowhere
    else. Those of the wheel build it from what is on disk.
    """
    own = [TESTS / f"test_{module}.py", ROOT / "lai" / f"{module}.py"]
    side_by_side = [TESTS / "test_sweep.py", TESTS / "test_program.py"]
    if module in ("program", "sweep"):
        return [str(path) for path in dict.fromkeys([*own, *side_by_side, TESTS / "test_bad_inputs.py"])]
    others = sorted(set(TESTS.glob("test_*.py")) - {*own, *side_by_side, TESTS / "test_package.py"})
    return [str(path) for path in (*own, *others)]


def start(module: str, source: str) -> int:
    """A child that runs the tests on a mutant and exits with what pytest says."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    status = 1
    try:
        import pytest

        sys.meta_path.insert(0, Mutated(module, source))
        importlib.import_module("lai")  # now, since pytest has a loader of its own for modules with examples
        options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not long"]
        status = int(pytest.main([*options, "--doctest-modules", *tests_of(module)]))
    finally:
        os._exit(status)  # whatever was raised was noticed


def outcomes(module: str, sources: list[str], limit: float, jobs: int) -> Iterator[tuple[int, int]]:
    """(index, exit status) of each, as they end; a child that is out of time is ended, with status -9."""
    waiting = list(enumerate(sources))[::-1]
    running: dict[int, tuple[int, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                i, source = waiting.pop()
                running[start(module, source)] = i, time.monotonic() + limit
            for child, (i, until) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() > until:
                    os.killpg(child, signal.SIGKILL)
                    done, status = os.waitpid(child, 0)
                if done:
                    del running[child]
                    yield i, os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
    finally:  # each has a session of its own, which Ctrl-C does not reach
        for child in running:
            os.killpg(child, signal.SIGKILL)


def score(module: str, sample: int | None, seed: int, jobs: int) -> tuple[int, int]:
    """How many mutants of a module were killed, of how many; prints those that survived."""
    source = (ROOT / "lai" / f"{module}.py").read_text()
    began = time.monotonic()
    ((_, status),) = outcomes(module, [source], limit=1800, jobs=1)
    took = time.monotonic() - began
    if status != 0:
        sys.exit(f"error: the tests fail on lai/{module}.py as it is (pytest exits with {status})")
    found = mutants(source)
    if sample is not None and sample < len(found):
        found = random.Random(seed).sample(found, sample)
    print(f"{module}: {len(found)} mutants; all tests take {took:.0f} s", flush=True)
    survived = 0
    for i, status in outcomes(module, [m.source for m in found], limit=3 * took + 30, jobs=jobs):
        if status == 0:
            survived += 1
            print(f"  lai/{module}.py:{found[i].line}: {found[i].before}  ->  {found[i].after}", flush=True)
    killed = len(found) - survived
    print(f"{module}: {killed} of {len(found)} killed ({killed / len(found):.0%})", flush=True)
    return killed, len(found)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=[], choices=(*MODULES, []), metavar="module", help="default: all")
    parser.add_argument(
        "--sample", type=option("sample"), help="so many mutants of each module, drawn at random; default: all"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=option("n_jobs"), default=2, help="how many at a time")
    parser.add_argument("--file", type=Path, default=ROOT / "book" / "health.json", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    prepare()
    scores = {}
    for module in given.modules or MODULES:
        scores[module] = killed, tried = score(module, given.sample, given.seed, given.jobs)
        found = {"killed": killed, "tried": tried, "sample": given.sample, "seed": given.seed}
        # In a process of its own, since it imports lai, which each child does by itself.
        subprocess.run(
            [sys.executable, "-c", RECORD, module, json.dumps(found), str(given.file.resolve())], check=True, cwd=ROOT
        )
    if any(killed < 0.9 * of for killed, of in scores.values()):
        sys.exit("error: of a module fewer than 90 % were killed")


def prepare() -> None:
    """What every child needs, once."""
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    import hypothesis  # what takes long to import; a child imports lai itself
    import pytest  # noqa: F401
    import torch
    import torch.fx.experimental.proxy_tensor  # noqa: F401

    torch.set_num_threads(1)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")


if __name__ == "__main__":
    main()
