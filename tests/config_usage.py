"""The fields of the configuration that the source reads, by static analysis.

Annotations, assignments and loops show which section a name holds; an attribute counts as read only on a
section that has it. So `scores.mean()` does not read a key `evaluation.mean`.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

Sections = frozenset[type[BaseModel]]
Field = tuple[type[BaseModel], str]

_NO_SECTIONS: Sections = frozenset()


def sections_below(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a section and all sections in it."""
    yield root
    for field in root.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections_below(field.annotation)


def fields_read(sources: Iterable[str], root: type[BaseModel]) -> set[Field]:
    """Return (section, field) of every read in the texts of some modules."""
    trees = [ast.parse(text) for text in sources]
    finder = _Finder({section.__name__: section for section in sections_below(root)})
    finder.aliases = {
        target.id: set(re.findall(r"\w+", ast.unparse(value)))
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(value := node.value, ast.BinOp)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for _ in range(2):  # attributes of one module may be annotated in a later one
        finder.reads.clear()
        for tree in trees:
            finder.visit(tree)
    return finder.reads


class _Finder(ast.NodeVisitor):
    """Visits modules; the sections of attributes and return values are kept between them."""

    def __init__(self, sections: dict[str, type[BaseModel]]) -> None:
        self.sections = sections
        self.aliases: dict[str, set[str]] = {}
        self.reads: set[Field] = set()
        self.attributes: defaultdict[str, Sections] = defaultdict(frozenset)
        self.returns: defaultdict[str, Sections] = defaultdict(frozenset)
        self.names: dict[str, Sections] = {}

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside, self.names = self.names, dict(self.names)
        self.returns[node.name] |= self._annotated_sections(node.returns)
        for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            self.names[arg.arg] = self._annotated_sections(arg.annotation)
        self.generic_visit(node)
        self.names = outside

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                self.attributes[line.target.id] |= self._annotated_sections(line.annotation)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, node.iter)
        self.generic_visit(node)

    def visit(self, node: ast.AST) -> None:
        """Bind the names of a comprehension first: its element comes before its loops."""
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            for loop in node.generators:
                self._bind(loop.target, loop.iter)
        super().visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._record_read(node.value, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_getattr(node):
            name = node.args[1]
            for field in [name.value] if isinstance(name, ast.Constant) else self._field_names(node.args[0]):
                self._record_read(node.args[0], str(field))
        self.generic_visit(node)

    def _record_read(self, value: ast.expr, field: str) -> None:
        self.reads |= {
            (section, field) for section in self._sections_in(value) if field in section.model_fields
        }

    def _field_names(self, value: ast.expr) -> set[str]:
        return {field for section in self._sections_in(value) for field in section.model_fields}

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for name, part in zip(target.elts, value.elts, strict=False):  # a starred name takes several
                self._bind(name, part)
        elif isinstance(target, ast.Tuple):
            for name in target.elts:
                self._bind(name, value)
        elif isinstance(target, ast.Name):
            self.names[target.id] = self._sections_in(value)
        elif isinstance(target, ast.Attribute):
            self.attributes[target.attr] |= self._sections_in(value)

    def _annotated_sections(self, annotation: ast.expr | None) -> Sections:
        """Return the sections in an annotation, by their name or that of a base with fields."""
        words = set(re.findall(r"\w+", ast.unparse(annotation))) if annotation else set()
        words |= {word for alias in words & {*self.aliases} for word in self.aliases[alias]}
        return frozenset(section for section in self.sections.values() if words & _names(section))

    def _sections_in(self, value: ast.expr) -> Sections:
        """Return the sections that an expression may evaluate to or contain."""
        match value:
            case ast.Name(name):
                return self.names.get(name, _NO_SECTIONS)
            case ast.Attribute(inner, field):
                return self._field_sections(self._sections_in(inner), field)
            case ast.Call(ast.Name("getattr"), [inner, *_]):
                return _union(
                    self._field_sections(self._sections_in(inner), field)
                    for field in self._field_names(inner)
                )
            case ast.Call(ast.Attribute(inner, "model_copy")):
                return self._sections_in(inner)
            case ast.Call(ast.Attribute(inner, "model_validate_json")):
                return self._annotated_sections(inner)
            case ast.Call(ast.Name(name)) | ast.Call(ast.Attribute(_, name)):
                return self.returns.get(name, _NO_SECTIONS)
            case ast.IfExp() | ast.BoolOp() | ast.Tuple() | ast.List() | ast.Starred() | ast.Subscript():
                inside = [node for node in ast.iter_child_nodes(value) if isinstance(node, ast.expr)]
                return _union(map(self._sections_in, inside))
        return _NO_SECTIONS

    def _field_sections(self, sections_held: Sections, field: str) -> Sections:
        """Return what an attribute holds: part of a section, `config` of a context, or what modules say."""
        kinds = {
            section.model_fields[field].annotation
            for section in sections_held
            if field in section.model_fields
        }
        if kinds:
            return frozenset(section for section in self.sections.values() if section in kinds)
        return (sections_held if field == "config" else _NO_SECTIONS) or self.attributes.get(
            field, _NO_SECTIONS
        )


def _names(section: type[BaseModel]) -> set[str]:
    bases = (base for base in section.__mro__ if issubclass(base, BaseModel) and base.model_fields)
    return {base.__name__ for base in bases}


def _union(parts: Iterable[Sections]) -> Sections:
    return _NO_SECTIONS.union(*parts)


def _is_getattr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1
