"""Every target with a fixed number of malformed inputs; `make fuzz` tries many more."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.mutate import damaged, forged
from tests.fuzz.targets import TARGETS

RECORDS = ("receipt", "index", "split", "entry", "states", "kaggle-json")
SLOW = {"states": 15, "config-file": 12, "override": 12, "api-body": 25, "api-file": 20, "api-address": 30}
EXAMPLES = 60

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # decoders warn about damage; outside tests warnings are no errors
    pytest.mark.usefixtures("merged_anew"),
]


@pytest.mark.parametrize("name", TARGETS)
def test_malformed_bytes_are_an_error_with_a_message_or_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    valid = target.seeds()
    malformed = st.one_of(damaged(valid), forged(valid)) if name in RECORDS else damaged(valid)

    @settings(
        max_examples=SLOW.get(name, EXAMPLES),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(malformed)
    def check(data: bytes) -> None:
        target.check(data, tmp_path)

    check()


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("kaggle-json", "override")])
def test_a_target_reads_valid_input(name: str, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    target = TARGETS[name]
    assert any(_accepted(name, data, tmp_path) for data in target.seeds())


def _accepted(name: str, data: bytes, box: Path) -> bool:
    return TARGETS[name].check(data, box)
