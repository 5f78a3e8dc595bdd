"""What messages never advise."""

import re

from tests.conftest import ROOT


def test_no_message_advises_to_delete() -> None:
    """Data, masks and trained weights are the user's: a message says what to set aside or to save again."""
    advice = re.compile(r'"[^"\n]*(?:[;,:] |\bor )(?:delete|remove)\b(?!s)[^"\n]*"')
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for match in advice.finditer(path.read_text().replace('"""', ""))
    ]
    assert found == []
