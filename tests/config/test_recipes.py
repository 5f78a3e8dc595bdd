import pytest

from slicewise.config.compose import compose
from slicewise.config.schema.sources import ClassFoldersSettings
from slicewise.core.errors import ConfigError
from slicewise.steps import pipeline

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
    both, alone = (compose([f"modes={mode}", f"recipes={name}"]) for name in ("tumour", recipe))
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


@pytest.mark.parametrize("mode", ["quick", "production"])
@pytest.mark.parametrize(
    ("recipe", "task", "activation", "num_channels"),
    [
        ("binary", "segmentation", "sigmoid", 1),
        ("multiclass", "segmentation", "softmax", 5),
        ("tumour_types", "classification", "softmax", 4),
    ],
)
def test_a_recipe_of_one_task_has_one_stage_that_trains_it(
    mode: str, recipe: str, task: str, activation: str, num_channels: int
) -> None:
    data = ["data=class_folders", "data.path=/pictures"] if recipe == "tumour_types" else []
    config = compose([f"modes={mode}", f"recipes={recipe}", *data])
    (stage,) = config.stages.values()
    settings = getattr(config.tasks, task)
    assert config.recipe == recipe
    assert [*config.tasks.names] == [*stage.trained_tasks] == [task]
    assert (settings.activation, settings.num_channels) == (activation, num_channels)
    assert set(stage.monitors) <= set(settings.monitors)
    assert stage.starts_from is None
    assert 0 < stage.patience < stage.epochs
    assert [step.name for step in pipeline(config) if step.group == "train"] == ["train.train"]


def test_regions_are_trained_in_the_stages_of_the_tumour_and_each_can_be_monitored() -> None:
    whole, regions = compose(), compose(["recipes=tumour_regions"])
    assert regions.stages == whole.stages
    assert regions.tasks.classification == whole.tasks.classification
    assert regions.tasks.segmentation is not None
    assert regions.tasks.segmentation.num_channels == 3
    monitored = compose(["recipes=tumour_regions", "stages.joint.monitor=dice_enhancing_tumour+auc"])
    assert monitored.stages["joint"].monitors == ("dice_enhancing_tumour", "auc")


def test_the_optimisers_and_losses_are_those_that_the_recipes_promise() -> None:
    binary, several = compose(["recipes=binary"]).training, compose(["recipes=multiclass"]).training
    assert (binary.optimizer.name, binary.mask_loss) == ("adam", {"bce": 1.0, "dice": 1.0})
    assert (several.optimizer.name, several.scheduler.name, several.clip_norm) == ("adamw", "cosine", 1.0)
    assert {name for name, weight in several.mask_loss.items() if weight} == {"ce", "dice", "focal", "iou"}


def named_classes(*overrides: str) -> tuple[str, ...] | None:
    (source,) = (s for s in compose(overrides).data.sources.values() if isinstance(s, ClassFoldersSettings))
    return source.classes


def test_the_classes_of_a_slice_decide_on_folders_and_threshold() -> None:
    types = ("recipes=tumour_types", "data=class_folders", "data.path=/pictures")
    assert named_classes(*types) == ("glioma", "meningioma", "none", "pituitary")
    assert compose(types).evaluation.class_threshold is None
    two = (*types, "tasks.classification.classes=[cat,dog]", "stages.train.monitor=auc")
    assert named_classes(*two) == ("cat", "dog")
    assert compose(two).evaluation.class_threshold == 0.5
    assert named_classes() == ("no_tumour", "tumour")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipes=tumour_types"], r"4 classes, and data\.sources\.volumes has masks.*data=class_folders"),
        (["evaluation.class_threshold=null"], "there are two classes; set it to 0.5"),
        (["data.sources.pictures.classes=[a,b,c]"], "names 3 classes, and tasks.classification has 2"),
        (["model.head_input=encoder"], "leaves out the decoder, which tasks.segmentation needs"),
        (["tasks.classification.classes=[a,b,c]"], "set tasks.classification.activation=softmax"),
    ],
)
def test_classes_without_their_data_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)
