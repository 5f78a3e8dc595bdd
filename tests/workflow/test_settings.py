"""What decides an output, as plain values."""

import json

from slicewise.config.compose import compose
from slicewise.workflow.settings import select_settings


def test_sections_are_spelled_out_and_leaves_stand_alone() -> None:
    config = compose(["preprocessing.image_size=64"])
    picked = select_settings(config, "preprocessing", "seed", without=("preprocessing.crop_margin",))

    assert picked["preprocessing.image_size"] == 64
    assert picked["seed"] == config.seed
    assert "preprocessing.crop_margin" not in picked


def test_a_receipt_that_was_read_equals_what_is_wanted() -> None:
    """A tuple came back as a list, and the plan named it as a change beside the real one."""
    config = compose(
        ["data=brats", "preprocessing.clip_percentiles=[1,99]", "data.sources.pictures.path='/some where'"]
    )
    keys = (
        "preprocessing.clip_percentiles",
        "data.sources.pictures.path",
        "data",
        "training",
        "evaluation",
        "stages.joint",
    )

    for key in keys:
        picked = select_settings(config, key)
        assert json.loads(json.dumps(picked)) == picked
    assert select_settings(config, "preprocessing.clip_percentiles") == {
        "preprocessing.clip_percentiles": [1, 99]
    }
