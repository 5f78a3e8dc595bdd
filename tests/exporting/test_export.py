"""Export to a bundle, its proof, and predictions from it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.fixtures.processors import needs_avx2
from tests.fixtures.small_model import MODEL, SIDE

from slicewise.cli.main import main
from slicewise.config.schema import Tasks
from slicewise.core.errors import CheckpointError, UsageError
from slicewise.domain.labels import MODALITIES
from slicewise.exporting.examples import Example, generate
from slicewise.exporting.folder import export
from slicewise.exporting.graph import Calibrations, ExportedGraph
from slicewise.exporting.parity import Inputs, Parity, ParityError, compare, prove
from slicewise.inference.calibration import Scaling
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.runtime.bundle import BUNDLE_NAME, read_bundle
from slicewise.runtime.graphs import Onnx
from slicewise.runtime.rotation import rotate

COUNT = 30


def saved(checkpoint: Checkpoint, workspace: Path) -> Path:
    path = workspace / "checkpoints" / "multitask_joint" / "best_model.pth"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, checkpoint)
    return path


def exported(path: Path, folder: Path, *formats: str) -> Path:
    pipeline = Pipeline.load(path, backend="torch", device="cpu")
    return export(pipeline, formats or ("onnx",), folder, Inputs(count=COUNT))


@pytest.fixture(scope="module")
def workspace(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a checkpoint and its export."""
    folder = tmp_path_factory.mktemp("exported")
    path = saved(checkpoint, folder)
    assert main(["export", "joint", "--workspace", str(folder), "--parity", str(COUNT)]) == 0
    assert path.is_file()
    return folder


@pytest.fixture
def model(workspace: Path) -> Path:
    return workspace / "checkpoints" / "multitask_joint" / "best_model.pth"


@pytest.fixture
def bundle(workspace: Path) -> Path:
    return workspace / "exports" / "multitask_joint"


def test_a_bundle_tells_what_it_is_and_how_far_it_agrees(bundle: Path) -> None:
    content = json.loads((bundle / BUNDLE_NAME).read_text())
    assert content["graphs"]["onnx"]["details"] == {"opset": 20, "free": ["batch", "size"]}
    parity = content["graphs"]["onnx"]["parity"]
    assert parity["passed"]
    assert (parity["inputs"], parity["differing_verdicts"]) == (COUNT, 0)
    assert parity["largest_difference"] < 1e-4
    assert content["model"]["preprocessing"]["channels"] == ["t1", "t1ce", "t2", "flair"]
    assert "/" not in content["source"]["name"]
    assert f"slicewise predict --checkpoint {bundle.name}" in (bundle / "README.md").read_text()


def test_the_graph_names_no_folder_of_this_machine(bundle: Path) -> None:
    assert str(Path(torch.__file__).parents[1]).encode() not in (bundle / "model.onnx").read_bytes()


def test_the_graph_of_onnx_takes_other_sizes_and_enlarges_by_stated_factors(
    bundle: Path, checkpoint: Checkpoint
) -> None:
    graph = ExportedGraph(checkpoint).eval()
    images, presence = torch.randn(3, 4, 2 * SIDE, SIDE + 16), torch.ones(3, 4)
    with torch.inference_mode():
        expected = dict(zip(graph.outputs, graph(images, presence), strict=True))
    found = Onnx(bundle / "model.onnx", 1)(images.numpy(), presence.numpy())
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name].numpy(), atol=1e-5)
    nodes = [node for node in onnx.load(bundle / "model.onnx").graph.node if node.op_type == "Resize"]
    assert len(nodes) == MODEL.encoder_depth
    assert {len(node.input) for node in nodes} == {3}  # image, region, factors; without a size of the result


def test_a_bundle_predicts_a_picture_and_a_volume_as_its_checkpoint(
    bundle: Path, model: Path, picture_path: Path, volume_path: Path
) -> None:
    plain = Pipeline.load(model, backend="torch", device="cpu", flips=True, rotation=5.0)
    other = Pipeline.load(bundle, flips=True, rotation=5.0)
    for path in (picture_path, volume_path):
        expected, found = (each.predict(path, channels="flair") for each in (plain, other))
        np.testing.assert_allclose(found.mask_probability, expected.mask_probability, atol=1e-5)
        np.testing.assert_allclose(found.class_probability, expected.class_probability, atol=1e-5)
        assert expected.masks is not None
        assert found.masks is not None
        assert np.count_nonzero(found.masks != expected.masks) <= found.masks.size * 1e-4
    assert other.to_json()["fingerprint"] == plain.fingerprint


def test_the_fastest_proven_graph_stands_for_its_checkpoint(
    bundle: Path, model: Path, picture_path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    chosen = Pipeline.load(model, device="cpu")
    assert chosen.backend == "onnx"
    assert chosen.model.settings == MODEL  # of its checkpoint, for Grad-CAM
    weights = {name: tensor + 0 for name, tensor in checkpoint.weights.items()}
    weights["class_head.layers.0.bias"] = weights["class_head.layers.0.bias"] + 1
    other = saved(replace(checkpoint, weights=weights), tmp_path)
    (tmp_path / "exports").symlink_to(bundle.parent)
    assert Pipeline.load(other, device="cpu").backend == "torch"
    with pytest.raises(UsageError, match=r"nothing was exported from .*`slicewise export .* --format onnx"):
        Pipeline.load(other, device="cpu", backend="onnx")
    with pytest.raises(UsageError, match=r"is a bundle, which torch does not run"):
        Pipeline.load(bundle, backend="torch")


def test_a_proof_of_another_processor_counts_only_there(
    bundle: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slicewise.runtime.bundle.machine_kind", lambda: "another one")
    assert read_bundle(bundle).fastest() is None
    assert Pipeline.load(model, device="cpu").backend == "torch"
    assert Pipeline.load(bundle).backend == "onnx"


@pytest.mark.parametrize("damage", ["model.onnx", BUNDLE_NAME])
def test_a_damaged_bundle_is_named(bundle: Path, tmp_path: Path, damage: str) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = (tmp_path / damage).read_bytes()
    (tmp_path / damage).write_bytes(data[: len(data) // 2])
    with pytest.raises(Exception, match=rf"{damage} is damaged"):
        Pipeline.load(tmp_path)


def test_an_export_that_predicts_otherwise_is_refused_and_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportedGraph, "_classes", lambda _self, logits, _scaling: 0 * logits[:, 0])
    with pytest.raises(ParityError, match=r"nothing was written: .*generated input \d+ .*the verdict is"):
        exported(model, tmp_path / "bundle", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_cannot_run_is_an_error_with_a_way_out(bundle: Path) -> None:
    images, presence = np.zeros((1, 1, SIDE, SIDE), np.float32), np.ones((1, 1), np.float32)
    with pytest.raises(CheckpointError, match=r"cannot run the graph here .*; take another backend"):
        Onnx(bundle / "model.onnx")(images, presence)


@needs_avx2
def test_torchscript_and_openvino_agree_too(model: Path, tmp_path: Path, picture_path: Path) -> None:
    bundle = read_bundle(exported(model, tmp_path / "bundle", "torchscript", "openvino"))
    assert all(each.parity["passed"] for each in bundle.graphs.values())
    fastest = bundle.fastest()
    assert fastest is not None
    assert fastest.name == "openvino"  # the other one needs torch
    found = Pipeline.load(bundle.folder, backend="openvino").predict(picture_path)
    assert found.verdict == Pipeline.load(model, backend="torch").predict(picture_path).verdict


def test_several_classes_of_pixels_and_slices_are_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    tasks = Tasks.model_validate(
        {
            "segmentation": {"classes": ("core", "oedema"), "labels": None, "activation": "softmax"},
            "classification": {"classes": ("none", "glioma", "other"), "activation": "softmax"},
        }
    )
    torch.manual_seed(1)
    weights = MultitaskModel(MODEL, tasks).state_dict()
    path = saved(replace(checkpoint, weights=weights, tasks=tasks), tmp_path)
    folder = exported(path, tmp_path / "bundle")
    assert read_bundle(folder).graphs["onnx"].parity["passed"]


def test_calibration_is_in_the_graph(checkpoint: Checkpoint) -> None:
    scaling = Scaling(2.0, 0.5)
    graph = ExportedGraph(checkpoint, Calibrations(volume=scaling)).eval()
    assert graph.outputs == ("mask_probability", "class_probability", "volume_probability")
    with torch.inference_mode():
        _, raw, calibrated = graph(torch.randn(2, 4, SIDE, SIDE), torch.ones(2, 4))
    np.testing.assert_allclose(calibrated.numpy(), scaling(raw.numpy()), rtol=1e-5)


def test_rotation_is_that_of_torchvision() -> None:
    from torchvision.transforms.functional import InterpolationMode
    from torchvision.transforms.functional import rotate as expected

    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    for degrees in (0.0, 5.0, -10.0):
        turned = expected(torch.from_numpy(images), degrees, InterpolationMode.BILINEAR)
        np.testing.assert_allclose(rotate(images, degrees), turned.numpy(), atol=2e-5)


def test_probabilities_at_a_threshold_are_ties(bundle: Path, picture_path: Path) -> None:
    pipeline = Pipeline.load(bundle)
    one = pipeline.predict(picture_path)
    assert one.tumour_probability is not None
    near = replace(one.point.postprocessing, class_threshold=one.tumour_probability, uncertain_band=0.0)
    point = replace(one.point, postprocessing=near)
    first = replace(one, point=point)
    other = replace(first, class_probability=first.class_probability - np.float32(1e-6))
    assert first.verdict != other.verdict
    parity = Parity()
    parity.add(Example("it", first.slices.images), first, other)
    assert (parity.ties, parity.passed) == (1, True)
    parity.add(
        Example("it", first.slices.images), first, replace(other, class_probability=0 * one.class_probability)
    )
    assert not parity.passed
    assert "it: the verdict is" in parity.worst


def test_both_refuse_what_cannot_be_predicted(bundle: Path) -> None:
    pipeline = Pipeline.load(bundle)
    flat = Example("flat", np.full((32, 32), 7.0, np.float32))
    parity = compare(pipeline, {"it": pipeline}, [flat])["it"]
    assert (parity.refused, parity.passed) == (1, True)


def test_processes_share_the_inputs_and_find_what_one_finds(
    bundle: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parity = "slicewise.exporting.parity"
    monkeypatch.setattr(f"{parity}._GROUP", 10)
    monkeypatch.setattr(f"{parity}._WHOLE", 20)  # with others the preparation is shared
    inputs = Inputs(count=40)
    alone = prove(model, bundle, ["onnx"], inputs)["onnx"]
    monkeypatch.setattr(f"{parity}._JOBS_PER_WORKER", 2)
    shared = prove(model, bundle, ["onnx"], inputs)["onnx"]
    for found in (alone, shared):
        assert (found.inputs, found.differing_verdicts, found.passed) == (40, 0, True)
    assert alone.without_augmentation == 0  # the model has none
    assert (alone.pixels, alone.verdicts, alone.refused) == (shared.pixels, shared.verdicts, shared.refused)


def test_the_worst_input_is_kept_where_numbers_are_joined() -> None:
    first, second = Parity(inputs=2, pixels=9, differing_pixels=1, worst="a", worst_pixels=1), Parity(1)
    second.worst, second.worst_pixels, second.pixels, second.differing_pixels = "b", 3, 9, 3
    first.merge(second)
    assert (first.inputs, first.share, first.worst) == (3, 4 / 18, "b")
    first.merge(Parity(inputs=1, without_augmentation=1, verdicts=1, differing_verdicts=1, worst="c"))
    first.merge(second)
    assert (first.differing_verdicts, first.worst, first.passed) == (1, "c", False)
    assert "on 5 inputs (1 of them without test-time augmentation)" in first.describe()


def test_each_subset_of_modalities_is_among_the_examples() -> None:
    made = [*generate(MODALITIES, SIDE, 60)]
    assert len({each.options["channels"] for each in made if each.options}) == 15
    assert {each.case.dtype.kind for each in made} == {"u", "i", "f"}  # type: ignore[union-attr]
    again = [*generate(MODALITIES, SIDE, 60)]
    np.testing.assert_array_equal(made[-1].case, again[-1].case)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onx"], "did you mean onnx"),
        (["--parity", "0"], "at least 1 input"),
        (["nonsense"], "nonsense is no file, and no trained stage"),
    ],
)
def test_wrong_words_are_explained(
    workspace: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--workspace", str(workspace), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_with_something_else_stays(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else than a bundle"):
        exported(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_older_version_is_named(bundle: Path, tmp_path: Path) -> None:
    content = json.loads((bundle / BUNDLE_NAME).read_text())
    (tmp_path / BUNDLE_NAME).write_text(json.dumps({**content, "version": 0}))
    with pytest.raises(CheckpointError, match="format version 0, expected 1"):
        Pipeline.load(tmp_path)
