"""Training a source network, on images whose class shows in every pixel."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from xtask_reg import InputConvention
from xtask_reg.inputs import PIXELS
from xtask_reg.sources.classification import accuracy, read_identities, train_classifier


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))


def coloured(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, brighter in the channel with the label's index."""
    labels = torch.arange(count) % 3
    images = torch.randint(0, 100, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    images[torch.arange(count), labels] += 100
    return images.to(torch.uint8), labels


def test_learns_and_reports_falling_losses():
    images, labels = coloured(60)
    net = network()
    losses = list(train_classifier(net, images, labels, InputConvention(), epochs=8, lr=1e-2))
    assert len(losses) == 8
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(net, *coloured(30), InputConvention()) == 1.0


def test_trains_by_the_stated_procedure():
    """Again without the library: the same steps of the optimizer on the batches that the network was given."""
    images, labels = coloured(10)
    net, seen = network(), []
    again = copy.deepcopy(net)
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    losses = list(train_classifier(net, images, labels, PIXELS, epochs=4, lr=3e-3, batch_size=4))

    def found(given: torch.Tensor) -> tuple[int, bool]:
        """Which image it is, and whether it is mirrored."""
        pairs = [(number, mirrored) for number in range(10) for mirrored in (False, True)]
        (pair,) = [pair for pair in pairs if given.equal(images[pair[0]].float().flip([2] * pair[1]))]
        return pair

    optimizer = torch.optim.Adam(again.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=12)
    epochs = []
    for start in range(0, 12, 3):
        batches, total = [[found(image) for image in batch] for batch in seen[start : start + 3]], 0.0
        assert sorted(number for batch in batches for number, _ in batch) == list(range(10))
        for given, batch in zip(seen[start : start + 3], batches, strict=True):
            chosen = [number for number, _ in batch]
            again.zero_grad()
            each = -again(given).log_softmax(1)[torch.arange(len(chosen)), labels[chosen]]
            each.mean().backward()
            optimizer.step()
            schedule.step()
            total += each.sum().item()
        assert losses[start // 3] == pytest.approx(total / 10, rel=1e-5)
        epochs.append(batches)
    assert len({str(batches) for batches in epochs}) == 4  # shuffled anew
    assert 10 < sum(mirrored for batches in epochs for batch in batches for _, mirrored in batch) < 30
    for trained, expected in zip(net.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(trained, expected)


def test_seed_decides_everything():
    images, labels = coloured(60)
    runs = [list(train_classifier(network(), images, labels, PIXELS, epochs=2, seed=seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(9, 4, [4, 5]), (64, 32, [32, 32]), (10, 4, [4, 4, 2]), (3, 8, [3])]
)
def test_no_batch_is_left_with_one_image(count, batch_size, sizes):
    """Batch norm after pooling refuses a single image."""
    images, labels = coloured(count)
    seen = []
    net = nn.Sequential(*network(), nn.BatchNorm1d(3))
    net.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    list(train_classifier(net, images, labels, PIXELS, epochs=1, batch_size=batch_size))
    assert seen == sizes


def test_evaluating_between_the_epochs_does_not_end_the_training_of_batch_norms():
    images, labels = coloured(12)
    net = nn.Sequential(nn.BatchNorm2d(3), *network())
    for epoch, _ in enumerate(train_classifier(net, images, labels, PIXELS, epochs=3, batch_size=4), start=1):
        assert net[0].num_batches_tracked == 3 * epoch
        accuracy(net, images, labels, PIXELS)


def test_accuracy_counts_hits():
    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            return torch.eye(3)[0].expand(len(images), 3)

    images, labels = coloured(9)
    assert accuracy(Says(), images, labels, PIXELS) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("start", "between"), [("", ","), ("\ufeff", ","), ("\ufeffsep=;\n", ";")])
def test_read_identities(tmp_path, start, between):
    for name, value in (("a.png", 10), ("b.png", 20)):
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., 0] = value  # OpenCV's first channel is blue
        cv2.imwrite(str(tmp_path / name), image)
    table = tmp_path / "identities.csv"
    lines = "file,identity\na.png,zoe\nb.png,adam\n"
    table.write_text(start + lines.replace(",", between), encoding="utf-8")
    images, labels, identities = read_identities(str(table))
    assert identities == ["adam", "zoe"]
    assert labels.tolist() == [1, 0]
    assert images[0, :, 0, 0].tolist() == [0, 0, 10]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("file,person\na.png,1\n", ValueError, "'file' and 'identity'"),
        ("file,identity\n", ValueError, "no lines after its header"),
        ("file,identity\na.png,1\nb.png\n", ValueError, "line 3: 1 cells"),
        ("file,identity\na.png,1\nb.png,\n", ValueError, "line 3: the column 'identity' is empty"),
        ("file,identity\nmissing.png,1\n", ValueError, "missing.png"),
    ],
)
def test_bad_tables(tmp_path, text, error, says):
    table = tmp_path / "identities.csv"
    table.write_text(text)
    with pytest.raises(error, match=says):
        read_identities(table)


def test_images_of_several_sizes_are_refused(tmp_path):
    for name, size in (("a.png", 8), ("b.png", 9)):
        cv2.imwrite(str(tmp_path / name), np.zeros((size, size, 3), np.uint8))
    table = tmp_path / "identities.csv"
    table.write_text("file,identity\na.png,1\nb.png,2\n")
    with pytest.raises(ValueError, match="different shapes"):
        read_identities(table)
