import pytest

from slicewise.config.compose import compose
from slicewise.domain.wording import wording
from slicewise.reporting.model import describe_model, describe_preparation
from slicewise.workflow.settings import recipe_wording


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["recipes=tumour"],
            "An encoder, a decoder that segments brain tumours in axial MRI slices and a head that "
            "classifies whether a slice shows one.",
        ),
        (
            ["recipes=multiclass", "data=shapes_multiclass"],
            "An encoder and a decoder that segments pictures into background, circle, ellipse, rectangle and "
            "polygon.",
        ),
        (
            ["recipes=tumour_types", "data=class_folders", "data.path=here"],
            "An encoder and a head that classifies pictures as glioma, meningioma, none or pituitary.",
        ),
    ],
)
def test_a_model_is_described_by_its_tasks(words: list[str], said: str) -> None:
    config = compose(words)
    with recipe_wording(config):
        assert describe_model(config.tasks.model_dump(mode="json")) == said


def test_the_preparation_names_the_channels_of_the_recipe() -> None:
    config = compose(
        ["recipes=binary", "data=shapes", "preprocessing.fit=tile", "preprocessing.image_size=96"]
    )
    with wording(config.preprocessing.channels, ["object"]):
        text = describe_preparation(config.preprocessing.model_dump(mode="json"))
    assert "cut into tiles of 96 × 96 pixels" in text
    assert text.endswith("The input has 3 channels (red, green, blue).")
