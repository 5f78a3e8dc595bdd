import pytest
import torch

from slicewise.models.head import ClassHead


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_head_maps_any_map_size_to_one_fp32_logit_per_slice(hidden: int) -> None:
    head = ClassHead((4, 6, 8, 10), hidden=hidden, dropout=0.0).eval()
    features = [
        torch.randn(3, channels, size, size) for channels, size in ((4, 32), (6, 16), (8, 8), (10, 4))
    ]

    with torch.autocast("cpu", torch.bfloat16):
        logits = head([level.bfloat16() for level in features])

    assert logits.shape == (3,)
    assert logits.dtype == torch.float32


def test_a_small_bright_spot_is_not_averaged_away() -> None:
    torch.manual_seed(0)
    head = ClassHead((4, 4, 4), hidden=0, dropout=0.0).eval()
    plain = [torch.zeros(1, 4, 8, 8) for _ in range(3)]
    spot = [level.clone() for level in plain]
    spot[0][0, 2, 5, 5] = 10

    with torch.no_grad():
        assert (head(spot) - head(plain)).abs().item() > 0.1
