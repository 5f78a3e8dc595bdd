import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slicewise.compute.device import choose_precision
from slicewise.config.schema import Config
from slicewise.core.errors import UsageError
from slicewise.training.learner import make_fabric
from slicewise.training.stage import deterministic_kernels

MakeConfig = Callable[..., Config]


def test_precision_decides_what_a_convolution_is_computed_in(make_config: MakeConfig) -> None:
    runtime = make_config().runtime
    layer, image = torch.nn.Conv2d(1, 1, 3), torch.randn(1, 1, 8, 8)
    found = []
    for precision in ("fp32", "bf16"):
        with make_fabric(runtime, precision).autocast():
            found.append(layer(image).dtype)

    assert found == [torch.float32, torch.bfloat16]


def test_fp16_is_for_gpus(make_config: MakeConfig) -> None:
    assert choose_precision("fp16", "cuda").precision == "fp16"
    precision = choose_precision("fp16", "cpu").precision
    assert precision in ("bf16", "fp32")
    assert make_fabric(make_config().runtime, precision).device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_named(make_config: MakeConfig) -> None:
    with pytest.raises(UsageError, match=r"runtime\.device is cuda"):
        make_fabric(make_config("runtime.device=cuda").runtime, "fp32")


def test_threads_are_those_asked_for_and_are_given_back(make_config: MakeConfig) -> None:
    before = torch.get_num_threads()
    with deterministic_kernels(make_config("runtime.num_threads=3").runtime):
        assert torch.get_num_threads() == 3
        assert torch.backends.cudnn.deterministic
    with deterministic_kernels(make_config("runtime.num_threads=0").runtime):
        assert torch.get_num_threads() >= 1
    assert torch.get_num_threads() == before


CLUSTERS = {
    "in salloc": {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NODELIST": "n[1-2]"},
    "in salloc --ntasks-per-node": {
        "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_NAME": "mri",
    },
    "in an interactive job": {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive", "SLURM_PROCID": "0"},
    "in bash under srun": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "bash",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    },
    "under srun": {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
    "with odd numbers": {"SLURM_NTASKS": "4(x2)", "SLURM_JOB_ID": "7_1", "SLURM_NTASKS_PER_NODE": "2(x2)"},
    "under torchrun": {"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
    "in a Kubeflow pod": {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere", "MASTER_PORT": "x"},
    "in an LSF job": {"LSB_JOBID": "5", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_LOCAL_RANK": "1"},
    "under mpirun": {
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_RANK": "3",
        "PMI_SIZE": "4",
        "PMI_RANK": "3",
    },
    "under fabric run": {
        "LT_CLI_USED": "1",
        "LT_ACCELERATOR": "cuda",
        "LT_STRATEGY": "ddp",
        "LT_DEVICES": "2",
        "LT_NUM_NODES": "2",
        "LT_PRECISION": "16-true",
        "RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "9",
    },
    "with devices of Fabric alone": {"LT_DEVICES": "2", "LT_CLI_USED": "yes"},
}


@pytest.mark.parametrize("variables", CLUSTERS.values(), ids=CLUSTERS)
def test_a_clusters_environment_does_not_change_a_plain_run(
    variables: dict[str, str], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srun = tmp_path / "srun"  # as on a login node
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    fabric = make_fabric(make_config().runtime, "fp32")
    layer = fabric.setup(torch.nn.Linear(2, 1))
    fabric.backward(layer(torch.ones(1, 2)).sum())
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank) == (1, 0, 0)
    assert not torch.distributed.is_initialized()
    assert layer.weight.dtype == torch.float32
    assert dict(os.environ) == before
