"""Alternating measurements."""

from slicewise.inference.speed import alternate


def test_each_measurement_follows_calls_of_its_own() -> None:
    made: list[str] = []
    measured = alternate([lambda: made.append("a"), lambda: made.append("b")], 2, "it", settling=1)
    assert "".join(made) == "ab" + "aabb" + "aabb"
    assert [len(times) for times in measured] == [2, 2]
    assert all(each >= 0 for times in measured for each in times)
