import pytest

from slicewise.domain.labels import COLOURS, MODALITIES, NOTICE, SYNTHETIC_WARNING
from slicewise.domain.wording import is_of_objects, is_of_pictures, reword, wording

SAID = {
    "6 slices and 4 patients failed": ("6 pictures and 4 pictures failed", "6 tiles and 4 pictures failed"),
    "a_1, slice 0: missed": ("a_1: missed", "a_1, tile 0: missed"),
    "slice 3   Dice 0.93": ("Dice 0.93", "tile 3   Dice 0.93"),
    "score per patient, all slices pooled; black": (
        "score per picture; black",
        "score per picture, all tiles together; black",
    ),
    "each of 4 patients has a tumour": ("each of 4 pictures has an object",) * 2,
    "Slices of one patient resemble each other: few patients prove little.": ("Few pictures prove little.",)
    * 2,
    NOTICE: ("Research use only.",) * 2,
    SYNTHETIC_WARNING: (
        "The model was trained on generated pictures only. Do not expect it to do well on others.",
    )
    * 2,
    "see slices.csv and patients.csv of patient-1, num_patients": (
        "see slices.csv and patients.csv of patient-1, num_patients",
    )
    * 2,
}


@pytest.mark.parametrize("tiles", [False, True])
def test_pictures_with_objects_have_words_of_their_own(tiles: bool) -> None:
    with wording(COLOURS, ["cell"], tiles=tiles):
        assert is_of_pictures()
        assert is_of_objects()
        assert {text: reword(text) for text in SAID} == {text: said[tiles] for text, said in SAID.items()}
    assert {reword(text) for text in SAID} == {*SAID}


def test_pictures_of_tumours_keep_those_of_medicine() -> None:
    with wording(MODALITIES, (), pictures=True):
        assert reword("2 patients with tumour") == "2 pictures with tumour"
        assert reword(NOTICE) == NOTICE
        assert not is_of_objects()


@pytest.mark.parametrize(("channels", "classes"), [(MODALITIES, ["tumour"]), (COLOURS, ["tumor_core"])])
def test_volumes_and_tumours_keep_the_words_of_the_tumour_recipe(
    channels: tuple[str, ...], classes: list[str]
) -> None:
    with wording(channels, classes):
        assert {reword(text) for text in SAID} == {*SAID}
