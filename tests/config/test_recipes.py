import pytest

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError

STAGES = ("seg_warmup", "cls_head", "joint")


@pytest.mark.parametrize(
    ("recipe", "learned", "frozen"),
    [
        ("segmentation_only", "segmentation", "head"),
        ("classification_only", "classification", None),
    ],
)
@pytest.mark.parametrize("mode", ["quick", "production"])
def test_a_single_task_spends_the_same_batches_on_it_alone(
    mode: str, recipe: str, learned: str, frozen: str | None
) -> None:
    both, alone = (compose([f"modes={mode}", f"recipes={name}"]) for name in ("multitask", recipe))
    assert alone.training == both.training
    for name in STAGES:
        ours, theirs = alone.stages[name], both.stages[name]
        assert (ours.epochs, ours.sources, ours.starts_from, ours.patience) == (
            theirs.epochs, theirs.sources, theirs.starts_from, theirs.patience,
        )  # fmt: skip
        assert {task for task, weight in ours.objective if weight} == {learned}
        assert {part for part, rate in ours.learning_rates if not rate} == ({frozen} - {None})
        assert ours.monitor == {"segmentation": "dice", "classification": "auc"}[learned]


def test_no_modality_dropout_changes_nothing_else() -> None:
    both, without = compose(), compose(["recipes=no_modality_dropout"])
    assert both.training.modality_dropout > 0
    assert without.training == both.training.model_copy(update={"modality_dropout": 0.0})
    assert without.stages == both.stages


def test_two_recipes_are_merged_in_order_and_a_fault_names_its_file() -> None:
    merged = compose(["recipes=[lgg_cpu,segmentation_only]"])
    assert merged.training.ema_decay == compose(["recipes=lgg_cpu"]).training.ema_decay
    assert merged.stages["joint"].objective.classification == 0
    with pytest.raises(ConfigError, match=r"stages\.joint: .* is invalid"):
        compose(["recipes=[lgg_cpu,segmentation_only]", "stages.joint=1"])
