import pytest
import torch

from slicewise.models.heads import ClassHead


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("size", [4, 33])
def test_the_head_maps_any_map_size_to_one_fp32_logit_per_slice(hidden: int, size: int) -> None:
    head = ClassHead(6, hidden=hidden, dropout=0.5)

    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(3, 6, size, size).bfloat16())

    assert logits.shape == (3,)
    assert logits.dtype == torch.float32


def test_a_small_bright_spot_is_not_averaged_away() -> None:
    torch.manual_seed(0)
    head = ClassHead(4, hidden=0, dropout=0.0).eval()
    plain = torch.zeros(1, 4, 128, 128)
    spot = plain.clone()
    spot[0, 2, 5, 5] = 10

    with torch.no_grad():
        assert (head(spot) - head(plain)).abs().item() > 0.05


def test_the_head_reads_mean_and_maximum_of_each_channel() -> None:
    torch.manual_seed(0)
    head = ClassHead(5, hidden=0, dropout=0.0)
    decoded = torch.randn(3, 5, 17, 17).to(memory_format=torch.channels_last).requires_grad_()

    logits = head(decoded)
    logits.sum().backward()
    found, decoded.grad = decoded.grad, None
    pooled = torch.cat([decoded.mean((2, 3)), decoded.amax((2, 3))], 1)
    head.layers(pooled).sum().backward()

    torch.testing.assert_close(logits, head.layers(pooled)[:, 0])
    torch.testing.assert_close(found, decoded.grad)
