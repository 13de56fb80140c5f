"""Small changes to a module, one at a time: comparisons, bounds, operands, constants, statements left out.

A mutant is named by the function that it is in and by what it changes, not by its line: the list of survivors
stays true while the code around them moves.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Change = Callable[[], ast.AST | list[ast.AST]]  # what to put in the place of a node

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OTHER_NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
_EITHER_SIDE = (ast.Add, ast.BitOr, ast.BitAnd, ast.Mult, ast.FloorDiv, ast.LShift, ast.Sub)
# What they are given are words for people.
_QUIET = ("Mismatch", "of", "_mismatch", "_invalid", "_refused", "stale")
_ELSEWHERE = ("body", "orelse", "handlers", "cases", "annotation", "returns", "pattern", "decorator_list")
_TEXT = 90  # characters of code in a name


@dataclass(frozen=True)
class Mutant:
    """`line` is where it is now; `name` is unique in the module, and `tree` is the whole changed module."""

    name: str
    line: int
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, from top to bottom."""
    seen: Counter[str] = Counter()
    for number, (scope, line, said, _) in enumerate(_places(ast.parse(source))):
        seen[f"{scope}: {said}"] += 1
        name = f"{scope}: {said}"
        if seen[name] > 1:
            name += f" #{seen[name]}"
        tree = ast.parse(source)
        _apply(tree, number)
        if _is_code(ast.fix_missing_locations(tree)):
            yield Mutant(name, line, tree)


def _is_code(tree: ast.Module) -> bool:
    try:
        compile(tree, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _apply(tree: ast.Module, number: int) -> None:
    for at, (*_, change) in enumerate(_places(tree)):
        if at == number:
            change()
            return


Place = tuple[str, int, str, Callable[[], None]]  # function, line, what changes, and the change itself


def _places(tree: ast.Module) -> Iterator[Place]:
    yield from _in_body(tree, "module")


def _in_body(parent: ast.AST, scope: str) -> Iterator[Place]:
    """Statements of `parent`, and the expressions in them."""
    for field in ("body", "orelse", "handlers", "cases"):
        for node in list(getattr(parent, field, [])):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inner = node.name if scope == "module" else f"{scope}.{node.name}"
                if isinstance(node, ast.FunctionDef):
                    defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d]
                    for default in defaults:
                        yield from _in_expression(default, inner, node, "args")
                yield from _in_body(node, inner)
                continue
            if isinstance(node, ast.stmt):
                yield from _removed(parent, field, node, scope)
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                yield from _in_statement(node, scope)
            yield from _in_body(node, scope)


def _removed(parent: ast.AST, field: str, node: ast.stmt, scope: str) -> Iterator[Place]:
    """Leaving out one statement, where something still follows it or comes of the function without it."""
    inside = not isinstance(parent, (ast.Module, ast.ClassDef))
    call = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom))
    returns = isinstance(node, ast.Return) and not isinstance(parent, ast.FunctionDef)
    gone = isinstance(node, (ast.Raise, ast.Assign, ast.AugAssign, ast.Continue, ast.Break, ast.Delete))
    if not inside or not (call or returns or gone):
        return

    def change() -> None:
        statements = getattr(parent, field)
        statements[statements.index(node)] = ast.copy_location(ast.Pass(), node)

    yield scope, node.lineno, f"without `{_text(node)}`", change


def _in_statement(node: ast.AST, scope: str) -> Iterator[Place]:
    for field, value in ast.iter_fields(node):
        if field in _ELSEWHERE:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield from _in_expression(each, scope, node, field)
            elif isinstance(each, ast.AST):
                yield from _in_statement(each, scope)


def _in_expression(node: ast.expr, scope: str, parent: ast.AST, field: str) -> Iterator[Place]:
    """Changes of `node` itself, then of its parts."""
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    ):
        return
    if _is_type(node):
        return
    for other in _others(node):

        def change(other: ast.expr = other) -> None:
            _put(parent, field, node, ast.copy_location(other, node))

        yield scope, node.lineno, f"`{_text(node)}` -> `{_text(other)}`", change
    if isinstance(node, ast.Call) and _called(node) in _QUIET:
        return
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield from _in_expression(each, scope, node, name)
            elif isinstance(each, (ast.comprehension, ast.keyword)):
                yield from _in_statement(each, scope)


def _others(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=[op]):
            for kind in _COMPARISONS[type(op)]:
                yield ast.Compare(node.left, [kind()], node.comparators)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            for place, op in enumerate(ops):
                for kind in _COMPARISONS[type(op)]:
                    yield ast.Compare(left, [*ops[:place], kind(), *ops[place + 1 :]], rest)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
            for left_out in range(len(values)):
                kept = [value for place, value in enumerate(values) if place != left_out]
                yield kept[0] if len(kept) == 1 else ast.BoolOp(op, kept)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp(op=op) if isinstance(op, _EITHER_SIDE):
            yield node.left
            if not isinstance(op, (ast.Sub, ast.FloorDiv, ast.LShift)):
                yield node.right
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
            if value:
                yield ast.Constant(value - 1)
        case ast.Call(func=ast.Name(id=name)) if name in _OTHER_NAMES:
            yield ast.Call(ast.Name(_OTHER_NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Call(func=ast.Name(id="replace"), keywords=keywords):
            for left_out in range(len(keywords)):
                yield ast.Call(node.func, node.args, keywords[:left_out] + keywords[left_out + 1 :])
        case ast.Tuple(elts=parts) if any(isinstance(part, ast.Starred) for part in parts):
            for left_out in range(len(parts)):
                yield ast.Tuple(parts[:left_out] + parts[left_out + 1 :], ast.Load())
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for place, loop in enumerate(node.generators):
                if loop.ifs:
                    bare = copy.copy(loop)
                    bare.ifs = []
                    found = copy.copy(node)
                    found.generators = [*node.generators[:place], bare, *node.generators[place + 1 :]]
                    yield found


def _put(parent: ast.AST, field: str, old: ast.expr, new: ast.expr) -> None:
    if isinstance(parent, ast.FunctionDef) and field == "args":
        for defaults in (parent.args.defaults, parent.args.kw_defaults):
            for place, each in enumerate(defaults):
                if each is old:
                    defaults[place] = new
        return
    value = getattr(parent, field)
    if isinstance(value, list):
        value[next(place for place, each in enumerate(value) if each is old)] = new
    else:
        setattr(parent, field, new)


def _is_type(node: ast.expr) -> bool:
    """A union of classes: only the type checker reads it."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Name(id=name)):
            return (isinstance(left, ast.Name) or _is_type(left)) and name[0].isupper() and not name.isupper()
    return False


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _text(node: ast.AST) -> str:
    said = " ".join(ast.unparse(node).split())
    return said if len(said) <= _TEXT else said[: _TEXT - 3] + "..."
