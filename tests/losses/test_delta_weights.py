"""The channel attention of DELTA where the answer can be written down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.losses.delta import DELTALoss, delta_loss
from xtask_reg.losses.delta_weights import delta_channel_weights

SETTINGS = [
    {},
    {"temperature": 0.5},
    {"standardize": False, "temperature": 1.0},
    {"standardize": False, "temperature": 3.0},
]


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def attention(differences: np.ndarray, temperature: float = 5.0, standardize: bool = True) -> np.ndarray:
    if standardize:
        differences = (differences - np.mean(differences)) / np.std(differences)
    return softmax(differences / temperature)


class Linear(nn.Module):
    """Features, and a number that is linear in them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.head = torch.randn(shape[1], dtype=torch.float64)
        self.inputs = torch.randn(shape, dtype=torch.float64)
        self.eval()

    def forward(self) -> Tensor:
        """One number an image."""
        features = self.features(self.inputs)
        return features.flatten(2).mean(2) @ self.head if features.ndim > 2 else features @ self.head

    def loss(self) -> float:
        return self().mean().item()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 2, 3), (2, 7, 5), (1, 1, 2, 2)])
def test_linear_loss(shape: tuple[int, ...], settings: dict) -> None:
    """Without channel j the loss is less by head_j times the mean of the channel."""
    network = Linear(shape)
    if shape[1] == 1:
        settings = {**settings, "standardize": False}
    channels = network.inputs.numpy().swapaxes(0, 1).reshape(shape[1], -1).mean(1)
    expected = attention(-network.head.numpy() * channels, **settings)
    weights = delta_channel_weights(network.features, network.loss, **settings)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-5)
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)


def test_small_differences_of_large_losses() -> None:
    network = Linear((6, 5))
    expected = delta_channel_weights(network.features, network.loss)
    found = delta_channel_weights(network.features, lambda: 1e8 + network.loss())
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5)


def test_the_channel_that_is_missed_most_weighs_most() -> None:
    """With squared error, and no error with all channels, d_j is the mean of (head_j f_j)^2."""
    network = Linear((50, 4))
    network.head = torch.tensor([0.0, 3.0, -5.0, 1.0], dtype=torch.float64)
    target = network()

    def evaluate() -> float:
        return (network() - target).square().mean().item()

    weights = delta_channel_weights(network.features, evaluate, standardize=False, temperature=10.0)
    missed = ((network.head * network.inputs) ** 2).mean(0).numpy()
    np.testing.assert_allclose(weights.numpy(), softmax(missed / 10), rtol=1e-5)
    assert weights.argsort().tolist() == [0, 3, 1, 2]


def test_switching_off_is_what_the_authors_do() -> None:
    """They set the filter of a channel to 0 in a convolution without bias, before its batch norm."""
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4)
    )
    network(torch.randn(8, 3, 5, 5))  # running statistics
    network.eval()
    images, labels = torch.randn(8, 3, 5, 5), torch.randint(4, (8,))

    def evaluate() -> float:
        return nn.functional.cross_entropy(network(images), labels).item()

    before, differences = evaluate(), []
    for channel in range(6):
        filters = network[0].weight.data.clone()
        network[0].weight.data[channel] = 0
        differences.append(evaluate() - before)
        network[0].weight.data = filters
    found = delta_channel_weights(network[0], evaluate)
    np.testing.assert_allclose(found.numpy(), attention(np.array(differences)), rtol=1e-4)


def test_channels_that_are_alike_weigh_alike() -> None:
    network = Linear((4, 5))
    weights = delta_channel_weights(network.features, lambda: float(0 * network.loss()))
    torch.testing.assert_close(weights, torch.full((5,), 0.2))


def test_nothing_stays_behind() -> None:
    network = Linear((4, 5))
    loss = network.loss()
    delta_channel_weights(network.features, network.loss)
    assert network.loss() == loss
    assert not network.features._forward_hooks


@pytest.mark.parametrize("failing", [1, 2, 4])
def test_nothing_stays_behind_an_error(failing: int) -> None:
    network, calls = Linear((4, 5)), []
    loss = network.loss()

    def evaluate() -> float:
        calls.append(network.loss())
        if len(calls) == failing:
            raise KeyboardInterrupt
        return calls[-1]

    with pytest.raises(KeyboardInterrupt):
        delta_channel_weights(network.features, evaluate)
    assert len(calls) == failing
    assert not network.features._forward_hooks
    assert network.loss() == loss


def test_progress_and_gradients() -> None:
    network, seen, grads = Linear((4, 3)), [], []

    def evaluate() -> float:
        grads.append(torch.is_grad_enabled())
        return network.loss()

    delta_channel_weights(network.features, evaluate, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert grads == [False] * 3
    assert torch.is_grad_enabled()


def test_in_half_precision_and_in_place() -> None:
    """A network that overwrites the tapped output."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)).to(torch.bfloat16).eval()
    images = torch.randn(2, 3, 4, 4).to(torch.bfloat16)
    weights = delta_channel_weights(network[0], lambda: network(images).float().mean().item())
    assert weights.shape == (4,)
    assert weights.isfinite().all()


def test_weights_fit_the_loss() -> None:
    student, source = (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)) for _ in range(2)
    )
    images, labels = torch.randn(2, 3, 9, 11), torch.tensor([0, 3])
    source.eval()
    weights = delta_channel_weights(source[0], lambda: nn.functional.cross_entropy(source(images), labels).item())
    term = xr.Term(DELTALoss(weights), student="0", teacher="0", weight=1.0, name="delta")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    student(images)
    assert keep()["delta"] > 0
    assert not keep.state_dict()


def test_training_mode_is_refused() -> None:
    network = Linear((4, 5)).train()
    with pytest.raises(ValueError, match="Identity is in training mode.*eval"):
        delta_channel_weights(network.features, network.loss)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("channel", [0, 3])
def test_loss_that_is_not_finite_is_named(loss: float, channel: int) -> None:
    network, calls = Linear((4, 5)), []

    def evaluate() -> float:
        calls.append(network.loss())
        return loss if len(calls) == channel + 1 else calls[-1]

    with pytest.raises(ValueError, match=f"the loss without channel {channel} is {loss}"):
        delta_channel_weights(network.features, evaluate)


def test_module_that_is_not_called() -> None:
    with pytest.raises(RuntimeError, match=r"did not call the ReLU"):
        delta_channel_weights(nn.ReLU().eval(), lambda: 0.0)


@pytest.mark.parametrize(
    ("output", "found"),
    [((torch.ones(2, 3),), "tuple"), (torch.ones(3), r"shape \(3,\)"), (None, "NoneType")],
    ids=["tuple", "1-D", "None"],
)
def test_module_without_channels(output: object, found: str) -> None:
    class Odd(nn.Module):
        def forward(self) -> object:
            return output

    module = Odd().eval()
    with pytest.raises(TypeError, match=f"the Odd returns {found}; expected one tensor"):
        delta_channel_weights(module, lambda: module() and 0.0)
    assert not module._forward_hooks


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "5"])
def test_bad_temperature(temperature: object) -> None:
    with pytest.raises(ValueError, match="temperature"):
        delta_channel_weights(nn.Identity().eval(), lambda: 0.0, temperature=temperature)


@pytest.mark.parametrize("weights", [torch.tensor([0.5, -0.5]), torch.tensor([[0.5, 0.5]]), torch.zeros(2)])
def test_tensor_of_bad_weights(weights: Tensor) -> None:
    with pytest.raises(ValueError, match="expected one finite number"):
        DELTALoss(weights)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [torch.ones, lambda count: [1.0] * count])
def test_weights_of_other_channels(count: int, kind: Callable[[int], object]) -> None:
    with pytest.raises(ValueError, match=rf"shape \({count},\) for features of 2 channels"):
        DELTALoss(kind(count))(torch.ones(1, 2, 4), torch.zeros(1, 2, 4))


def test_weights_move_with_the_module_and_are_its_own() -> None:
    given = torch.rand(16, requires_grad=True)
    loss = DELTALoss(given)
    assert repr(loss) == "DELTALoss(channel_weights=<16 numbers>, reduction='mean')"
    assert not loss.state_dict()
    assert not list(loss.parameters())
    assert loss.to("meta").channel_weights.device.type == "meta"
    given.data.zero_()
    assert DELTALoss(torch.ones(2)).double().channel_weights.dtype == torch.float64
    features = torch.ones(1, 16, 2)
    loss = DELTALoss(shared := torch.ones(16))
    shared.zero_()
    assert loss(features, 0 * features).item() == 16


def test_weights_that_train_are_copied_without_their_graph() -> None:
    own = torch.tensor([1.0, 2.0], requires_grad=True)
    assert not DELTALoss(2 * own).channel_weights.requires_grad


def test_plain_weights_keep_their_digits_beside_float64() -> None:
    features = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert delta_loss(features, 0 * features, [0.1, 0.9]).item() == pytest.approx(0.1, rel=1e-15)
