"""What is merged, what is refused, and whether a fault is named with the file it comes from."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slicewise.config.compose import compose
from slicewise.config.folders import find_configs_dir
from slicewise.config.keys import is_text_key, known_keys
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError
from slicewise.steps import pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A copy of configs/ that a test may damage."""
    return Path(
        shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("final"))
    )


def fault_lines(overrides: list[str], folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, folder)
    return str(caught.value).splitlines()


@pytest.mark.usefixtures("merged_anew")
def test_modes_set_scale_epochs_and_model() -> None:
    quick, baseline, production = (compose([f"modes={mode}"]) for mode in ("quick", "baseline", "production"))
    assert (quick.scale.fraction, baseline.scale.fraction, production.scale.fraction) == (0.05, 0.30, 1.0)
    epochs = [
        sum(stage.epochs for stage in (c.stages["seg_warmup"], c.stages["cls_head"], c.stages["joint"]))
        for c in (quick, baseline, production)
    ]
    assert epochs == [6, 50, 100]
    assert quick.stages["joint"].epochs == 4  # what learns both tasks has most of the time
    assert (
        quick.preprocessing.image_size
        < baseline.preprocessing.image_size
        < production.preprocessing.image_size
    )


@pytest.mark.parametrize("override", ["training_mode=production", "++training_mode=quick", "~training_mode"])
def test_the_name_of_a_mode_is_not_set_without_the_mode(override: str) -> None:
    (line,) = fault_lines(["modes=baseline", override])
    assert override in line
    assert "use --training-mode" in line
    assert compose(["modes=baseline"]).training_mode == "baseline"


@pytest.mark.parametrize("data", ["phantom", "brats", "lgg"])
@pytest.mark.usefixtures("merged_anew")
def test_every_data_set_composes_with_every_mode(data: str) -> None:
    for mode in ("quick", "baseline", "production"):
        config = compose([f"modes={mode}", f"data={data}"])
        assert config.data.name == data
        assert config.data.synthetic == (data == "phantom")


@pytest.mark.usefixtures("merged_anew")
def test_augmentation_presets_grow_from_nothing_to_strong() -> None:
    presets = [
        compose([f"augmentation={name}"]).training.augmentation
        for name in ("none", "light", "standard", "strong")
    ]
    assert set(presets[0].model_dump().values()) == {0}
    assert presets[2] == compose().training.augmentation
    for key in ("rotation", "scale", "translation", "intensity"):
        values = [getattr(preset, key) for preset in presets]
        assert values == sorted(set(values)), key


@pytest.mark.usefixtures("merged_anew")
def test_the_command_line_wins_over_every_file() -> None:
    config = compose(
        ["data=lgg", "stages.joint.epochs=3", "training.optimizer.name=sgd", "data.sources.volumes.path=x/y"]
    )
    assert config.stages["joint"].epochs == 3
    assert config.training.optimizer.name == "sgd"
    assert config.data.sources["volumes"].path == "x/y"


def test_the_configuration_is_frozen() -> None:
    config = compose()
    with pytest.raises(ValueError, match="frozen"):
        config.training.batch_size = 1  # type: ignore[misc]


@pytest.mark.usefixtures("merged_anew")
def test_all_faults_are_reported_at_once_with_their_origin() -> None:
    lines = fault_lines(
        [
            "training.batch_siz=4",
            "training.precision=fp8",
            "split.val=0.5",
            "scale.min_patients=0",
            "nonsense=1",
        ]
    )
    assert lines[0] == "5 faults in the configuration:"
    text = "\n".join(lines)
    assert (
        "training.batch_siz: unknown key; did you mean training.batch_size?  "
        "[command line: training.batch_siz=4]" in text
    )
    assert "training.precision: 'fp8' is invalid" in text
    assert "split: train + val + test is 1.35, not 1  [command line: split.val=0.5]" in text
    assert "nonsense: unknown key" in text


def test_a_fault_in_a_file_names_the_file(configs: Path) -> None:
    path = configs / "modes" / "quick.yaml"
    path.write_text(path.read_text().replace("encoder_depth: 4", "encodr: resnet18"))
    base = configs / "base" / "training.yaml"
    base.write_text(base.read_text().replace("clip_norm: 1.0", "clip_norm: many"))
    lines = fault_lines([], configs)
    assert any("model.encodr" in line and line.endswith("[configs/modes/quick.yaml]") for line in lines)
    assert any(
        "training.clip_norm" in line and line.endswith("[configs/base/training.yaml]") for line in lines
    )


def test_a_missing_key_names_the_section(configs: Path) -> None:
    path = configs / "base" / "model.yaml"
    path.write_text(path.read_text().replace("  head_hidden: 64\n", ""))
    (line,) = fault_lines([], configs)[1:]
    assert "model.head_hidden: missing" in line
    assert "configs/base/model.yaml" in line


def test_broken_yaml_names_the_file(configs: Path) -> None:
    (configs / "base" / "model.yaml").write_text("# @package _global_\nmodel: [")
    assert "model.yaml" in "\n".join(fault_lines([], configs))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("modes=huge", "modes/huge.yaml; there are: baseline, production, quick"),
        ("modes=[quick,huge]", "modes=huge: there is no"),
        ("data=数据", "there are: brats, class_folders, image_masks, lgg"),
        ("training", "'training' has no value; write key=value"),
        ("=3", "write key=value"),
        ("", "'' has no value; write key=value"),
        ("data=${oc..x[KEY}", "there are: brats, class_folders, image_masks, lgg"),
        ("nonsense=médecine", "nonsense: unknown key"),
        (
            "data.sources.volumes.pth=/x/数据",
            "data.sources.volumes.pth: unknown key; did you mean data.sources.volumes.path?",
        ),
        ("training.batch_size=médecine", "'training.batch_size=médecine': the value cannot be read"),
        ("training.mask_loss={bce:1", "'training.mask_loss={bce:1': the value cannot be read"),
        ("preprocessing.clip_percentiles=[数据]", "put text with other characters"),
        ("training.batch_size=4,8", "lists several values"),
        ("data.sources.volumes.path=", "give data.sources.volumes.path a path, or null"),
        ("data.sources.volumes.path=a\tb", "contains the invalid character '\\t'"),
        ("data.sources.volumes.path=caf\udce9", "convmv"),
        ("data.sources.volumes.path=" + 10001 * "a", "is too long"),
    ],
)
def test_overrides_that_cannot_be_read_say_how_to_write_them(override: str, expected: str) -> None:
    assert expected in "\n".join(fault_lines([override]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("preprocessing.image_size=100", "not a multiple of 16"),
        ("preprocessing.clip_percentiles=[90,10]", "low < high"),
        ("preprocessing.clip_percentiles=[1]", "value number 2 is missing"),
        ("serving.api_port=8602", "api_port and page_port are both 8602"),
        (
            "data.sources.volumes.path=/data",
            "kind is phantom: its patients are generated; choose the data set",
        ),
        ("data.sources.pictures.path=/data", "kind is phantom_pictures"),
        ("data.sources.pictures.train_only=[a]", "train_only is now a source of its own"),
        ("data.sources.volumes.kind=none", "kind 'none' is unknown; to leave a source out, set it to null"),
        (
            "data.sources.volumes=null",
            "no source of data.sources has masks, and tasks.segmentation needs them",
        ),
        ("data.sources.volumes.mask=x", "a source of this kind has no such key"),
        ("data.volumes.path=/data", "data.volumes is now data.sources.volumes"),
        ("stages.joint.sources.mine=0.5", "there is no such source; data.sources has volumes, pictures"),
        ("data.sources.pictures.name=phantom", "are both 'phantom'"),
        (
            "data.synthetic=false",
            "volumes and pictures are generated; set data.synthetic=true",
        ),
        ("training.mask_loss={bce:0,dice:0,iou:0,focal:0,tversky:0}", "every value is 0"),
        ("stages.joint.learning_rates={encoder:0,decoder:0,head:0}", "nothing to learn"),
        ("stages.joint.objective={segmentation:0,classification:0}", "nothing to learn"),
        ("stages.joint.sources={volumes:0,pictures:0}", "every value is 0"),
        ("training.batch_size=1", "more than one image"),
        ("training.clip_norm=inf", "finite number"),
        ("training.augmentation.noise=nan", "finite number"),
        ("preprocessing.clip_percentiles=[1,nan]", "finite number"),
        ("split.seed=99999999999999999999999", "less than or equal to 4294967295"),
        ("seed=4294967296", "less than or equal to 4294967295"),
        ("training.batch_size=9223372036854775808", "less than or equal to 2147483647"),
        ("evaluation.bootstrap_samples=2147483648", "less than or equal to 2147483647"),
        (
            "stages.cls_head.starts_from=joint",
            "joint, which is no earlier stage; set it to seg_warmup or null",
        ),
        ("stages.seg_warmup.starts_from=seg_warmup", "no earlier stage; set it to null"),
        ("stages.cls_head=null", "joint.starts_from is cls_head, which is no earlier stage"),
        (
            "stages.joints.epochs=3",
            "stages.joints: unknown, or not complete; did you mean joint? there are seg_",
        ),
        ("stages.a-b={epochs:3}", "stages.a-b: 'a-b' is invalid: string should match pattern"),
        ("stages.joint.epoch=3", "did you mean stages.joint.epochs?"),
    ],
)
def test_impossible_values_are_refused_before_any_work(override: str, expected: str) -> None:
    assert expected in "\n".join(fault_lines([override]))


def test_no_number_is_without_bounds() -> None:
    """Each is hashed and written into receipts: past 64 bits it cannot be read back."""
    found = list(unbounded(Config.model_json_schema()))
    assert not found, f"{', '.join(found)}: use Count, CountOrZero, Seed or a bound"


def unbounded(schema: Any) -> Iterator[str]:
    """Name the integers without a largest value, section by section."""
    for section, body in {"Config": schema, **schema["$defs"]}.items():
        for key, field in body.get("properties", {}).items():
            for kind in field.get("anyOf", [field]):
                if kind.get("type") == "integer" and "maximum" not in kind:
                    yield f"{section}.{key}"


def test_a_recipe_adds_and_removes_stages(configs: Path) -> None:
    recipe = configs / "recipes" / "longer.yaml"
    keys = (
        (configs / "stages" / "joint.yaml").read_text().partition("\n")[2].replace("cls_head", "seg_warmup")
    )
    body = "".join(f"    {line}\n" for line in keys.splitlines())
    recipe.write_text(
        f"# @package _global_\nrecipe: pets\nstages:\n  cls_head: null\n  joint: null\n  polish:\n{body}"
    )
    config = compose(["recipes=longer", "stages.polish.epochs=7"], configs)
    assert {name: stage.starts_from for name, stage in config.stages.items()} == {
        "seg_warmup": None,
        "polish": "seg_warmup",
    }
    assert (config.recipe, config.final_stage, config.stages["polish"].epochs) == ("pets", "polish", 7)
    homes = {step.name: step.homes for step in pipeline(config)}
    assert homes["train.polish"] == {"checkpoint": "checkpoints/pets_polish"}
    with pytest.raises(ConfigError, match="there is no stage"):
        compose([f"stages.{name}=null" for name in ("seg_warmup", "cls_head", "joint")])


@pytest.mark.parametrize("stage", ["seg_warmup", "cls_head", "joint"])
def test_a_stage_may_begin_with_no_other_one(stage: str) -> None:
    stages = compose([f"stages.{stage}.starts_from=null"]).stages
    assert stages[stage].starts_from is None


def test_the_folder_can_be_chosen_and_must_hold_a_config(
    configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(configs))
    assert find_configs_dir() == configs
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(configs / "nowhere"))
    with pytest.raises(ConfigError, match="set SLICEWISE_CONFIGS"):
        find_configs_dir()


PATHS = (
    "/x/archive (1)/BraTS",
    "médecine",
    "数据",
    "a#b",
    "it's",
    'a "b" c',
    "$HOME/x",
    "${data.name}",
    "${oc.env:HOME}",
    "a=b",
    "a,b",
    "trailing  ",
    " leading",
    "~/x",
    "~",
    "[a",
    "{b}",
    "C:\\Users\\me\\",
    "a:b",
    "a!b&c|d;e",
    "*?",
    "a\u3000b\u00a0c",
    "12",
    "1e3",
    "true",
    "none",
    "%20",
    "-x",
    "@x",
    "((((((((((((((((((((((((",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_stands(path: str) -> None:
    config = compose(
        ["data=brats", f"data.sources.volumes.path={path}", f"++data.sources.pictures.path={path}"]
    )
    assert (config.data.sources["volumes"].path, config.data.sources["pictures"].path) == (path, path)
    assert compose([f"training.start_from={path}"]).training.start_from == Path(path)
    assert compose([f"tracking.uri=sqlite:///{path}"]).tracking.uri == f"sqlite:///{path}"


def test_every_path_of_the_schema_is_taken_as_it_stands() -> None:
    paths = [key for key in known_keys() if key.rpartition(".")[2] in ("path", "file", "start_from", "uri")]
    assert {"data.sources.SOURCE.path", "training.start_from", "tracking.uri"} <= {*paths}
    assert all(is_text_key(key) for key in paths)
    assert not is_text_key("training.batch_size")
    assert not is_text_key("training.precision")


@pytest.mark.parametrize(
    ("text", "value"),
    [("null", None), ("'a b'", "a b"), ('"~/a,b"', "~/a,b"), ("'it\\'s'", "it's"), ("'null'", "null")],
)
def test_null_and_quotes_around_a_whole_path_keep_their_meaning(text: str, value: str | None) -> None:
    assert compose(["data=brats", f"data.sources.volumes.path={text}"]).data.sources["volumes"].path == value


def test_the_last_of_several_texts_wins_and_is_named(tmp_path: Path) -> None:
    config = compose(["data=lgg", "data.sources.volumes.path=first", "data.sources.volumes.path=/last (1)"])
    assert config.data.sources["volumes"].path == "/last (1)"
    assert fault_lines(["data.sources.volumes.name=a b", "data=lgg"])[1].endswith(
        "[command line: data.sources.volumes.name=a b]"
    )
    assert (
        "data.sources.volumes: 3 is invalid"
        in fault_lines(["data.sources.volumes=3", "data.sources.volumes.path=x"])[1]
    )


def test_a_source_is_left_out_or_added_on_the_command_line() -> None:
    for without in ("data.sources.pictures=null", "~data.sources.pictures"):
        assert [*compose(["data=brats", without]).data.sources] == ["volumes"]
    mine = ("data.sources.mine.kind=class_folders", "data.sources.mine.path=/x/my (1)")
    config = compose(["data=brats", *mine, "stages.joint.sources.mine=0.5"])
    assert [*config.data.sources] == ["volumes", "pictures", "mine"]
    assert (config.data.sources["mine"].name, config.data.sources["mine"].path) == ("mine", "/x/my (1)")
    assert "set stages.joint.sources.mine, 0 if that is meant" in fault_lines(["data=brats", *mine])[1]


def test_the_map_of_labels_can_be_given_on_the_command_line() -> None:
    config = compose(["data=brats", "data.sources.volumes.labels={1:3,2:1}"])
    assert config.model_dump()["data"]["sources"]["volumes"]["labels"] == {"1": 3, "2": 1}


def test_pictures_alone_will_do_where_there_are_no_masks_to_learn() -> None:
    words = ["recipes=classification_only", "data.sources.volumes=null", "tasks.segmentation=null"]
    assert [*compose(words).data.sources] == ["pictures"]
    for empty in ("data.sources.pictures=null", "~data.sources.pictures"):
        assert "data.sources is empty" in "\n".join(fault_lines([*words, empty]))
