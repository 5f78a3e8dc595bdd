"""`data.path`: short for the path of the only source; and keys of pictures with masks."""

import pytest

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError


def test_it_is_the_path_of_the_only_source() -> None:
    config = compose(["data=image_masks", "data.path=my pictures/(1)"])
    assert config.data.sources["image_masks"].path == "my pictures/(1)"
    assert config.data.path is None


def test_with_volumes_and_pictures_it_is_that_of_the_volumes() -> None:
    alone = compose(["data=brats", "data.path=x"]).data.sources
    assert {key: source.path for key, source in alone.items()} == {"volumes": "x"}
    both = compose(["data=brats", "data.path=x", "data.sources.pictures.path=y"]).data.sources
    assert {key: source.path for key, source in both.items()} == {"volumes": "x", "pictures": "y"}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ["data=shapes", "+data.sources.more={kind:image_masks}", "data.path=x"],
            r"there are 2; set data\.sources\.shapes\.path or data",
        ),
        (["data=phantom", "data.path=x"], r"its patients are generated"),
        (["data=shapes", "data.path=x"], r"its patients are generated; choose .*data=image_masks"),
        (["data=lgg", "data.path=x", "data.sources.volumes.path=y"], r"set the same; leave one of them out"),
        (
            ["data=shapes", "preprocessing.channels=[flair]"],
            r"set preprocessing\.channels=\[red,",
        ),
        (["data=image_masks", "data.sources.image_masks.values={1:x}"], r"a map of mask values to labels"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        compose(words)


def test_values_are_written_as_numbers() -> None:
    config = compose(["data=image_masks", "data.sources.image_masks.values={85:1,170:2}"])
    source = config.model_dump()["data"]["sources"]["image_masks"]
    assert source["values"] == {"85": 1, "170": 2}
