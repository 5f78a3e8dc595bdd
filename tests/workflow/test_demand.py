"""Estimates are honest: what was written is as much as was expected, within a factor of two."""

from pathlib import Path

import pytest
from tests.conftest import TINY, Pipeline
from tests.fixtures.made_once import WHOLE_PATIENT

from slicewise.config.compose import compose
from slicewise.data.index import CaseIndex
from slicewise.data.phantom.patients import BYTES_PER_PATIENT
from slicewise.data.preprocess import estimate_bytes


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_disk_was_estimated_within_a_factor_of_two(trained: Pipeline) -> None:
    data = trained.workspace / "data"
    index = CaseIndex.read(data / "index" / "index.json", trained.workspace)
    volumes = [case for case in index.of_source("phantom") if case.key.case == WHOLE_PATIENT]
    assert 0.5 < BYTES_PER_PATIENT / size(data / "raw" / "phantom" / WHOLE_PATIENT) < 2
    estimated = sum(estimate_bytes(case, compose(TINY).preprocessing) for case in volumes)
    names = {case.key.case for case in volumes}
    entries = [e for e in (data / "slices" / "phantom").iterdir() if e.name.rpartition("-")[0] in names]
    assert 0.5 < estimated / sum(map(size, entries)) < 2
