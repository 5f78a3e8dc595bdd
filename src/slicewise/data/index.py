"""The index of the data: the cases of all sources, their groups, and the problems."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.data.cases import CaseFiles, relative_name
from slicewise.data.problems import SEVERITIES, Problem, describe_problems

FORMAT: Final = 2


@dataclass(frozen=True)
class CaseIndex:
    """The cases of all sources."""

    known: Mapping[str, tuple[str, ...]]
    """Every group of each source, also those not on disk yet (virtual patients)."""
    cases: tuple[CaseFiles, ...]
    """The usable ones, sorted by key."""
    problems: tuple[Problem, ...] = ()
    roots: Mapping[str, Path] = field(default_factory=dict)
    """The folder of each source, to which its stored paths are relative."""
    sizes: Mapping[Path, int] = field(default_factory=dict)
    """Bytes of each file when the index was made."""

    @classmethod
    def of(
        cls,
        roots: Mapping[str, Path],
        cases: Iterable[CaseFiles],
        problems: Iterable[Problem] = (),
        known: Mapping[str, Iterable[str]] | None = None,
    ) -> "CaseIndex":
        """Return the index of cases on disk; `known` adds groups that are not there yet.

        Raises:
            ValueError: two cases have the same key.
        """
        ordered = tuple(sorted(cases, key=lambda case: case.key))
        if len({case.key for case in ordered}) < len(ordered):
            raise ValueError("two cases have the same key")
        groups: dict[str, set[str]] = {source: set(names) for source, names in (known or {}).items()}
        for case in ordered:
            groups.setdefault(case.key.source, set()).add(case.group)
        sizes = {path: path.stat().st_size for case in ordered for path in case.files}
        sorted_groups = {source: tuple(sorted(groups[source])) for source in sorted(groups)}
        return cls(sorted_groups, ordered, tuple(problems), dict(roots), sizes)

    @classmethod
    def read(cls, path: Path, base: Path = Path()) -> "CaseIndex":
        """Return a written index; `base` is the present folder of the workspace that it was written for.

        Raises:
            WorkspaceError: the file is damaged or of another version.
        """
        value = read_json(path)
        try:
            return cls._from_json(value, base)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkspaceError(
                f"{path} is not a case index of this version ({error!r}); move it aside and run again"
            ) from error

    def write(self, path: Path, base: Path = Path()) -> None:
        """Write JSON. Roots below `base` are stored relative to it, so that the workspace may move."""
        write_json(path, self._to_json(base))

    def of_source(self, source: str) -> tuple[CaseFiles, ...]:
        """Return the cases of one source."""
        return tuple(case for case in self.cases if case.key.source == source)

    def moved_to(self, roots: Mapping[str, Path]) -> "CaseIndex":
        """Return the index with its sources in other folders."""
        moved = {name: root.absolute() for name, root in roots.items()}
        if moved == self.roots:
            return self
        stored = {name: root.as_posix() for name, root in moved.items()}
        return self._from_json({**self._to_json(Path()), "roots": stored}, Path())

    def changed_files(self) -> tuple[Problem, ...]:
        """Return the files that are missing or have another size than when the index was made."""
        problems = []
        for path, size in self.sizes.items():
            if not path.is_file():
                problems.append(Problem(path, "missing since the data was indexed"))
            elif path.stat().st_size != size:
                problems.append(Problem(path, "changed since indexing"))
        return tuple(problems)

    def report(self) -> str:
        """Return a text for `problems.txt`: the counts of each source, then every problem."""
        lines = []
        for source, groups in self.known.items():
            cases = self.of_source(source)
            labels = [case.label for case in cases if case.label is not None]
            tumour = f", {sum(labels)} with a tumour" if labels else ""
            if max(labels, default=0) > 1:
                tumour = f", by class {' + '.join(f'{labels.count(each):,}' for each in sorted({*labels}))}"
            known = f"{len(groups)} patients or picture families are known"
            lines.append(f"{source}: {len(cases)} cases{tumour}; {known}")
        return "\n".join([*lines, "", describe_problems(self.problems, shown=None)])

    def _to_json(self, base: Path) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "roots": {name: relative_name(root, base) for name, root in self.roots.items()},
            "known": {source: list(groups) for source, groups in self.known.items()},
            "cases": [
                case.to_json(self.roots.get(case.key.source, Path("/")), self.sizes) for case in self.cases
            ],
            "problems": [{**asdict(each), "path": relative_name(each.path, base)} for each in self.problems],
        }

    @classmethod
    def _from_json(cls, value: dict[str, Any], base: Path) -> "CaseIndex":
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}")
        roots = {name: base / text for name, text in value["roots"].items()}
        cases, sizes = [], {}
        for entry in value["cases"]:
            root = roots.get(entry["source"], Path("/"))
            cases.append(CaseFiles.from_json(entry, root))
            named = {**entry["images"], **entry["masks"]}
            sizes.update({root / name: size for name, size in named.items() if size is not None})
        problems = tuple(Problem(**{**entry, "path": base / entry["path"]}) for entry in value["problems"])
        for problem in problems:
            if problem.severity not in SEVERITIES or not isinstance(problem.what, str):
                raise ValueError(f"{problem} is no problem")
        known = {source: tuple(groups) for source, groups in value["known"].items()}
        return cls(known, tuple(cases), problems, roots, sizes)
