"""The image network (spec of Janda et al., tests 3 and 9 for its encoder)."""

from __future__ import annotations

import pytest
import torch

from condense_ros.errors import CheckpointError, TrainingError
from condense_training.networks.pixel_unet import build_pixel_network, load_encoder


def test_features_have_input_resolution() -> None:
    network = build_pixel_network("resnet34").eval()
    with torch.no_grad():
        out = network(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert out.shape == (1, 16, 224, 224)


def test_resnet34_has_the_published_size() -> None:
    encoder = build_pixel_network("resnet34").encoder
    # torchvision's resnet34 has 21,797,672 parameters, 513,000 of them in the classifier
    assert sum(p.numel() for p in encoder.parameters()) == 21_797_672 - 513_000
    names = set(encoder.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer3.5.conv2.weight"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"} <= names


@pytest.mark.parametrize("size", [(100, 128), (128, 33), (0, 32)])
def test_odd_sizes_are_rejected(size) -> None:
    with pytest.raises(TrainingError, match="multiples of 32"):
        build_pixel_network("small")(torch.zeros(1, 3, *size, dtype=torch.uint8))


def test_every_parameter_learns() -> None:
    network = build_pixel_network("small")
    network(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_encoder_weights_load_by_torchvision_names(tmp_path) -> None:
    source = build_pixel_network("small").encoder
    weights = {**source.state_dict(), "fc.weight": torch.zeros(3, 3)}
    torch.save(weights, tmp_path / "encoder.pth")
    network = build_pixel_network("small")
    report = load_encoder(network, tmp_path / "encoder.pth")
    assert report.unused == ("fc.weight",)
    assert not report.missing
    assert not report.mismatched
    for name, tensor in network.encoder.state_dict().items():
        torch.testing.assert_close(tensor, weights[name])


def test_foreign_weights_are_refused(tmp_path) -> None:
    network = build_pixel_network("small")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no tensor of this image encoder"):
        load_encoder(network, tmp_path / "other.pth")
    (tmp_path / "code.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match="plain tensor file"):
        load_encoder(network, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="no image encoder weights"):
        load_encoder(network, tmp_path / "absent.pth")
