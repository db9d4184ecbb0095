"""MMPose on current PyTorch: the stand-in for mmcv's operators, and what torch.load may read."""

from __future__ import annotations

import ctypes
import importlib
import io
import itertools
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray

from xtask_reg.integrations import mmengine_compat
from xtask_reg.integrations import mmpose_compat as compat

HAS_OPERATORS = not isinstance(sys.modules.get("mmcv._ext"), compat._MissingOps)


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(HAS_OPERATORS, reason="this mmcv has compiled operators")
@pytest.mark.parametrize("call", ["nms", "deform_conv_forward", "anything"])
def test_missing_operator_says_so_when_called(call):
    operator = getattr(importlib.import_module("mmcv._ext"), call)
    with pytest.raises(NotImplementedError, match=f"{call}.*full mmcv"):
        operator(torch.zeros(1), iou_threshold=0.5)


@pytest.mark.skipif(HAS_OPERATORS, reason="this mmcv has compiled operators")
def test_mmcv_operator_on_top_of_the_stand_in():
    from mmcv.ops import nms

    with pytest.raises(NotImplementedError, match="nms"):
        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0.5]), iou_threshold=0.5)


@pytest.mark.parametrize("where", ["already imported", "installed"])
def test_compiled_operators_are_left_alone(monkeypatch, where):
    compiled = types.ModuleType("mmcv._ext")
    if where == "already imported":
        monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    else:
        monkeypatch.delitem(sys.modules, "mmcv._ext")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    compat._stand_in_for_missing_ops()
    assert sys.modules.get("mmcv._ext") is (compiled if where == "already imported" else None)


def test_stand_in_where_they_are_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmcv._ext")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    compat._stand_in_for_missing_ops()
    module = sys.modules["mmcv._ext"]
    assert isinstance(module, compat._MissingOps)
    assert module.__spec__.name == "mmcv._ext"
    with pytest.raises(AttributeError):
        _ = module.__path__


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_checkpoint_as_mmengine_writes_it_is_read_safely(tmp_path):
    """Log buffers, NumPy arrays and scalars; read by torch.load's own default."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    written = {
        "meta": {"epoch": 1, "seed": np.int64(3), "score": np.float64(0.5), "name": np.str_("x")},
        "message_hub": {"log_scalars": {"train/loss": buffer}, "runtime_info": {"array": np.arange(3), "flag": True}},
        "state_dict": {"weight": torch.ones(2)},
    }
    torch.save(written, tmp_path / "c.pth")
    for read in (torch.load(tmp_path / "c.pth"), torch.load(tmp_path / "c.pth", weights_only=True)):
        found = read["message_hub"]["log_scalars"]["train/loss"]
        assert found.mean() == 1.5
        assert found.current() == 2.0
        assert found.statistics("max") == 2.0
        assert read["meta"] == written["meta"]
        np.testing.assert_array_equal(read["message_hub"]["runtime_info"]["array"], np.arange(3))


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


MARK = "hostile.txt"


def touch() -> None:
    Path(MARK).touch()


def through_getattr(owner: Any, name: str) -> Call:
    return Call(getattr, owner, name)


def interface() -> dict[str, Any]:
    """An array interface that makes NumPy treat the memory at an address as an object's array."""
    data = (ctypes.addressof(SECRET), True)
    return {"__array_interface__": {"data": data, "shape": (len(SECRET),), "typestr": "|u1", "version": 3}}


def array(shape: tuple[int, ...], dtype: Any, content: Any) -> Call:
    return Call(multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


def text_state(size: int, *more: Any) -> tuple[Any, ...]:
    return (3, "<", None, None, None, size, 4, 0, *more)


SECRET = ctypes.create_string_buffer(b"secret")
HOSTILE = {
    "os.system": lambda: Call(__import__("os").system, f"touch {MARK}"),
    "eval": lambda: Call(eval, f"open({MARK!r}, 'w')"),
    "exec": lambda: Call(exec, f"open({MARK!r}, 'w')"),
    "open": lambda: Call(open, MARK, "w"),
    "function of a module": lambda: Call(touch),
    "getattr of a dunder": lambda: through_getattr(HistoryBuffer, "__init__"),
    "getattr of globals": lambda: through_getattr(HistoryBuffer, "register_statistics"),
    "getattr of a tensor": lambda: through_getattr(torch.Tensor, "numpy_T"),
    "getattr of an instance": lambda: through_getattr(HistoryBuffer([1.0], [1]), "mean"),
    "getattr of dtype": lambda: through_getattr(np.dtype, "__reduce__"),
    "getattr by name subclass": lambda: through_getattr(HistoryBuffer, "statistics"),
    "numpy load": lambda: Call(np.load, MARK),
    "array of an object's word": lambda: Call(HistoryBuffer, [Call(HistoryBuffer, state=interface())], [1]),
    "array of a list": lambda: Call(HistoryBuffer, [1.0], [1]),
    "array of nothing": lambda: Call(np.ndarray, (2**20,)),
    "array of other bytes": lambda: array((2,), np.dtype("f8"), bytes(8)),
    "array of a shape below 0": lambda: array((-1, -1), np.dtype("f8"), bytes(8)),
    "array of objects": lambda: array((1,), np.dtype("O"), [1]),
    "text that is none": lambda: array((1,), np.dtype("U1"), b"AAAA"),
    "type of a size below 0": lambda: array((1,), Call(np.dtype, "U1", state=text_state(-4)), bytes(4)),
    "scalar of other bytes": lambda: Call(multiarray.scalar, np.dtype("f8"), bytes(4)),
    "scalar of an object": lambda: Call(multiarray.scalar, np.dtype("O"), 1),
    "state of a buffer": lambda: {"b": Call(HistoryBuffer, state={"_statistics_methods": {"x": Call(eval, "1")}})},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("weights_only", [None, True])
def test_hostile_checkpoint_is_refused(tmp_path, monkeypatch, name, weights_only):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": HOSTILE[name]()}, "c.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load("c.pth", weights_only=weights_only)
    assert not Path(MARK).exists()


def test_an_array_does_not_grow_with_its_type(tmp_path):
    """It would grow into memory that is not its own, if its dtype got another size after it is built."""
    kind = Call(np.dtype, "U2", False, True)
    content = "ab".encode("utf-32-le")
    kind.call = (*kind.call, text_state(400, {"array": array((1,), kind, content)}))
    torch.save({"kind": kind, "array": kind.call[2][-1]["array"]}, tmp_path / "c.pth")
    found = torch.load(tmp_path / "c.pth", weights_only=True)["array"]
    assert found.tobytes() == content


def test_statistics_of_all_buffers_stay_what_they_are(tmp_path):
    buffer = HistoryBuffer([1.0], [1])
    buffer._statistics_methods = {"mean": HistoryBuffer.max}
    torch.save({"b": buffer}, tmp_path / "c.pth")
    assert type(torch.load(tmp_path / "c.pth")["b"]) is HistoryBuffer
    assert HistoryBuffer([1.0, 3.0], [1, 1]).statistics("mean") == 2


def test_what_was_read_is_written_as_numpy_writes_it(tmp_path):
    arrays = [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(2, 3)), np.zeros((0, 3)), np.array(3)]
    arrays += [np.array(["ab", "é"]), np.arange(3, dtype=">f4"), np.array([True, False])]
    torch.save({"arrays": arrays, "buffer": HistoryBuffer([1.0], [1]), "empty": np.str_("")}, tmp_path / "c.pth")
    torch.save(torch.load(tmp_path / "c.pth"), tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=False)
    for found, expected in zip(again["arrays"], arrays, strict=True):
        assert type(found) is np.ndarray
        assert found.flags.f_contiguous == expected.flags.f_contiguous
        np.testing.assert_array_equal(found, expected)
    assert (type(again["buffer"]._log_history), again["empty"]) == (np.ndarray, "")


def test_history_buffer_statistic_is_not_getattr():
    """The stand-in for getattr returns the four statistics of a log buffer and nothing else."""
    assert mmengine_compat._history_statistic(HistoryBuffer, "mean") is HistoryBuffer.mean
    for owner, name in [(HistoryBuffer, "__globals__"), (HistoryBuffer, "data"), (str, "mean"), (torch, "load")]:
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            mmengine_compat._history_statistic(owner, name)


def test_allowed_globals_are_only_these():
    allowed = {item if not isinstance(item, tuple) else item[0] for item in torch.serialization.get_safe_globals()}
    assert getattr not in allowed
    assert not {eval, exec, open, __import__} & allowed
    assert not {HistoryBuffer, np.ndarray, multiarray._reconstruct, multiarray.scalar} & allowed, "NumPy trusts a state"


def test_default_of_torch_load_is_not_loosened():
    """A type that nobody allowed is refused without naming weights_only."""
    content = io.BytesIO()
    torch.save({"path": types.SimpleNamespace(a=1)}, content)
    content.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="SimpleNamespace"):
        torch.load(content)


@pytest.mark.parametrize("theirs", list(itertools.product([False, True], repeat=2)))
def test_beside_another_library_that_allows_numpy(theirs, monkeypatch) -> None:
    """As transformers' Trainer does for random states; whose function or class counts is left to a set's order."""
    from torch import _weights_only_unpickler as unpickler

    numpys = [multiarray._reconstruct, np.ndarray]
    allowed = [*torch.serialization.get_safe_globals(), type(np.dtype(np.uint32))]
    for own, last in zip(numpys, theirs, strict=True):
        allowed = [*allowed, own] if last else [own, *allowed]
    monkeypatch.setattr(unpickler, "_marked_safe_globals_set", allowed)
    file, state = io.BytesIO(), np.random.get_state()
    torch.save(state, file)
    file.seek(0)
    np.testing.assert_array_equal(torch.load(file, weights_only=True)[1], state[1])
