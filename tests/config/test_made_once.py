"""The tests' memory of merged files gives what the program merges."""

import pytest
from tests.conftest import TINY
from tests.fixtures import made_once

from slicewise.config import compose as composition
from slicewise.config.compose import compose


@pytest.mark.parametrize(
    "words",
    [
        (),
        TINY,
        ("modes=production", "data=lgg", "seed=3", "scale={fraction:0.5}"),
        ("modes=[quick]", "augmentation=strong", "training.mask_loss={bce:0,dice:0,iou:2}"),
        ("recipes=binary", "evaluation.explanations=[gradcam]", "training.optimizer.name=sgd"),
        ("stages.cls_head=null", "stages.joint.starts_from=seg_warmup", "data.sources.pictures=null"),
        ("~data.sources.pictures", "training.precision='fp32'", "stages.joint.learning_rates.head=1e-4"),
        ("data.sources.volumes.labels={1:3,2:1,3:1,4:2}", "data=brats", "model.encoder_weights=null"),
    ],
    ids=" ".join,
)
def test_the_memory_gives_what_the_program_merges(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = compose(words), compose(words)
    monkeypatch.setattr(composition, "_merge", made_once.merge)
    assert first == second == compose(words)
    assert first.model_dump_json() == compose(words).model_dump_json()
