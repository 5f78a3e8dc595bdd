"""The MONAI bundle and the folder for the Hugging Face Hub, used with the programs that they are for."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from tests.fixtures.small_model import TASKS

from slicewise.core.errors import WorkspaceError
from slicewise.exporting.huggingface import write_huggingface
from slicewise.exporting.model_card import find_card
from slicewise.exporting.monai_bundle import describe_network, write_monai
from slicewise.exporting.publish import plan_upload
from slicewise.exporting.replaced_folder import replaced
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.runtime.bundle import is_bundle


def test_a_full_disk_is_that_of_the_output(tmp_path: Path) -> None:
    """Even where an exporter hides the error, and names no file."""
    folder = tmp_path / "bundle"
    with (
        pytest.raises(
            WorkspaceError, match=rf"{folder} cannot be written: the disk is full .* with --output"
        ),
        replaced(folder, is_bundle, "a bundle"),
    ):
        raise RuntimeError("not serialised") from OSError(errno.ENOSPC, "No space left on device")
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def path(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "work" / "checkpoints" / "multitask_joint" / "best_model.pth"
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture
def case(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "cases" / "P1"
    folder.mkdir(parents=True)
    for name in ("t1", "t1ce", "t2", "flair"):
        voxels = np.zeros((48, 48, 6), np.int16)
        voxels[8:40, 8:40] = rng.integers(100, 900, (32, 32, 6))
        nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 3.0, 1.0])), folder / f"P1_{name}.nii.gz")
    return folder


def python(*words: str | Path, cwd: Path) -> str:
    offline = {"HF_HUB_OFFLINE": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_monai_verifies_and_runs_the_bundle(
    path: Path, checkpoint: Checkpoint, case: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    write_monai(path, checkpoint, folder)
    words, configs = ("-m", "monai.bundle"), ("--config_file", "configs/inference.json")
    meta = ("--meta_file", "configs/metadata.json")
    schema = ("--filepath", "configs/metadata.schema.json")
    shown = python(*words, "verify_metadata", *meta, *schema, cwd=folder)
    assert "metadata is verified with no error" in shown
    shown = python(*words, "verify_net_in_out", "network", *meta, *configs, "--device", "cpu", cwd=folder)
    assert "data shape of network is verified with no error" in shown
    out = tmp_path / "out"
    python(*words, "run", *configs, "--dataset_dir", str(case), "--output_dir", str(out), cwd=folder)
    (written,) = out.glob("*.nii.gz")
    expected = Pipeline.load(path, device="cpu").predict(case).class_numbers
    assert expected is not None
    assert np.array_equal(
        np.asarray(nib.load(written).dataobj).T.astype(bool).sum(), expected.astype(bool).sum()
    )


def test_a_wrong_description_does_not_pass(path: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    import jsonschema

    folder = tmp_path / "bundle"
    write_monai(path, checkpoint, folder)
    schema = json.loads((folder / "configs" / "metadata.schema.json").read_text(encoding="utf-8"))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    del metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(metadata, schema)


def test_the_network_of_the_bundle_gives_the_probabilities_of_the_model(
    path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    write_monai(path, checkpoint, tmp_path / "bundle")
    load: Any = torch.jit.load
    with pytest.warns(FutureWarning):
        network = load(str(tmp_path / "bundle" / "models" / "model.ts"))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 4, 64, 64)).astype(np.float32)
    images[:, :, :8], images[1, 2] = 0, 0
    presence = np.ones((3, 4), np.float32)
    presence[1, 2] = 0
    masks, shares = Pipeline.load(path, device="cpu").predict_slices(images, presence)
    with torch.inference_mode():
        given = network(torch.from_numpy(images)).numpy(), network.classify(torch.from_numpy(images)).numpy()
    assert np.abs(given[0] - masks).max() < 1e-5
    assert np.abs(given[1][:, 0] - shares).max() < 1e-5


@pytest.mark.parametrize("task", TASKS.names)
def test_each_task_alone_has_one_output(checkpoint: Checkpoint, task: str) -> None:
    from dataclasses import replace

    described = describe_network(replace(checkpoint, tasks=TASKS.only((task,))))
    outputs = described["network_data_format"]["outputs"]
    assert [*outputs] == ["pred"]
    assert described["task"].startswith(task.capitalize())


def test_the_example_of_the_hub_s_folder_predicts_what_the_checkpoint_predicts(
    path: Path, checkpoint: Checkpoint, case: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    write_huggingface(path, checkpoint, folder)
    shown = python("example.py", case, tmp_path / "out", cwd=folder)
    expected = Pipeline.load(path, device="cpu").predict(case)
    assert f"verdict: {expected.verdict}" in shown
    assert f"tumour probability: {expected.tumour_probability}" in shown
    written = nib.load(tmp_path / "out" / "P1_mask.nii.gz")
    assert expected.mask is not None
    assert np.asarray(written.dataobj).astype(bool).sum() == expected.mask.sum()
    assert plan_upload(folder, "me/tumours").num_bytes > 1000


def test_a_card_without_an_evaluation_says_so(path: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_huggingface(path, checkpoint, tmp_path / "model")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.eval_results is None
    for text in ("**Not evaluated.**", "**Synthetic data.**", "Not a medical device", "| dice | 0.500 |"):
        assert text in card.text


def test_the_card_of_the_report_is_that_of_this_training_only(path: Path, checkpoint: Checkpoint) -> None:
    report = path.parents[2] / "results" / "report"
    report.mkdir(parents=True)
    (report / "model_card.md").write_text("---\nlicense: mit\n---\n\n# Scored\n", encoding="utf-8")
    steps = [
        {"name": "train.joint", "fingerprint": checkpoint.fingerprint, "metrics": {}},
        {"name": "evaluate", "fingerprint": "e", "metrics": {"stage": "joint"}},
    ]
    (report / "report.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
    assert "# Scored" in str(find_card(path, checkpoint))
    steps[0]["fingerprint"] = "another"
    (report / "report.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
    assert find_card(path, checkpoint) is None
    shutil.rmtree(report)
    assert find_card(path, checkpoint) is None
