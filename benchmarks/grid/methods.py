"""The changes that each method makes to the fine-tuning config, and the settings among which it is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from grid.cell import BATCH, SIZE
from grid.sources import SOURCES, Source

HEAD_LR = 1e-3
"""Learning rate of the decoder, which is new in every method."""

Setting = Mapping[str, float]
Changes = dict[str, Any]
MakeTerm = Callable[[Source, Any], Changes]


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Attributes:
        changes: the changes of the config, given the source and the setting.
        settings: those tried in tuning, six each; none for a method that takes FT's setting.
        fixed: what it adds to FT's setting, or changes in it.
        trains_encoder: whether ``lr`` in its settings is the rate of a pretrained encoder, not of what is new.
    """

    changes: Callable[[Source, Setting], Changes]
    settings: Sequence[Setting] = ()
    fixed: Setting = field(default_factory=dict)
    trains_encoder: bool = True

    @property
    def tuned_as_ft(self) -> bool:
        """Whether it takes FT's setting."""
        return not self.settings

    def settings_for(self, source: str) -> list[Setting]:
        """The settings that are tried with a source."""
        factor = SOURCES[source].rate_factor if self.trains_encoder else 1
        return [{**setting, "lr": setting["lr"] * factor} for setting in self.settings]


def _grid(**values: Sequence[float]) -> list[Setting]:
    """Settings from columns of the same length."""
    return [dict(zip(values, row)) for row in zip(*values.values(), strict=True)]


RATES = _grid(lr=(1e-5, 3e-5, 6e-5, 1e-4, 2e-4, 4e-4))
# of the last stage alone, which tolerates larger ones
LAST_RATES = _grid(lr=(3e-5, 6e-5, 1e-4, 2e-4, 4e-4, 8e-4))
# of a network from scratch
SCRATCH_RATES = _grid(lr=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3))
HEAD_RATES = _grid(lr=(1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 8e-3))
# two learning rates, and for each a grid of weights over four decades; the second lies between the points of the first
WEIGHTS = _grid(lr=(1e-4, 1e-4, 1e-4, 2e-4, 2e-4, 2e-4), weight=(1e-6, 1e-4, 1e-2, 1e-5, 1e-3, 1e-2))
DOSES = (0.0005, 0.002, 0.01)
# for terms on separate photographs, where no task gradient opposes them
PHOTOGRAPH_DOSES = {"CTD-ED": (0.002, 0.01, 0.05), "LwF": (0.00002, 0.0001, 0.0005, 0.002)}
ALPHAS = (0.5, 0.75, 0.9)
PHOTOGRAPHS, PORTRAITS = "photographs", "portraits"
"""Folders of a cell with unlabelled images: of the source's task, and of the new one (people who could be labelled)."""
PORTRAIT_DOSES = {"CTD-ED": (0.01,), "LwF": (0.0001,)}
LP_FT = _grid(lr=(6e-5, 1e-4, 2e-4) * 2, until=(0.2,) * 3 + (0.5,) * 3)


def _term(source: Source, config: dict[str, Any]) -> dict[str, Any]:
    return {"student": source.last, "teacher": source.last, **config}


def _ed(source: Source, weight: Any, over: str = "flatten") -> dict[str, Any]:
    loss = {"type": "CosineAlignmentLoss", "over": over}
    return _term(source, {"name": "loss_ed", "loss": loss, "weight": weight})


def _ed_earlier(source: Source, weight: Any) -> dict[str, Any]:
    return {**_ed(source, weight), "student": source.earlier, "teacher": source.earlier}


def _attention(source: Source, weight: Any) -> dict[str, Any]:
    return _term(source, {"name": "loss_sa", "loss": {"type": "AttentionTransferLoss"}, "weight": weight})


def _class_scores(source: Source, name: str, loss: str, weight: Any) -> dict[str, Any]:
    """A term between the class scores of the source and of the student's copy of its classifier."""
    return _term(
        source,
        {
            "name": name,
            "loss": {"type": loss, "temperature": 2.0},
            "teacher": "classifier",
            "student_connector": {"type": "RetainedClassifier"},
            "weight": weight,
        },
    )


def _cd(source: Source, weight: Any) -> dict[str, Any]:
    return _class_scores(source, "loss_cd", "SoftmaxL2Loss", weight)


def _lwf(source: Source, weight: Any) -> dict[str, Any]:
    return _class_scores(source, "loss_lwf", "LwFLoss", weight)


def _l2sp(source: Source, weight: Any) -> dict[str, Any]:
    config = {"name": "loss_l2sp", "loss": {"type": "L2SPPenalty"}, "weight": weight}
    return {**config, "student": "backbone", "teacher": "backbone"}


def _constant(weight: float) -> Any:
    return weight


def _decayed(weight: float) -> Any:
    """Decays to zero over the first half of the training: it acts while the decoder is random, then ends."""
    return {"type": "LinearDecay", "start": weight, "until": 0.5}


def _balanced(ratio: float) -> Any:
    """Keeps the same ratio to the task's gradient, for any tap and any loss."""
    return {"type": "Balanced", "ratio": ratio}


def _terms(*make: MakeTerm, weight: Callable[[float], Any] = _constant) -> Callable[[Source, Setting], Changes]:
    def changes(source: Source, setting: Setting) -> Changes:
        terms = [each(source, weight(setting["weight"])) for each in make]
        return {**_rates(setting["lr"]), "terms": terms}

    return changes


def _rates(encoder: float) -> Changes:
    """Learning rates; a retained classifier has the encoder's, since it is pretrained too."""
    factor = {"lr_mult": encoder / HEAD_LR}
    keys = {"backbone": factor, "regularizer": factor}
    return {"optim_wrapper": {"optimizer": {"lr": HEAD_LR}, "paramwise_cfg": {"custom_keys": keys}}}


def _ft(source: Source, setting: Setting) -> Changes:
    return _rates(setting["lr"])


def _hg(source: Source, setting: Setting) -> Changes:
    return {"optim_wrapper": {"optimizer": {"lr": setting["lr"]}}}


def _fe(source: Source, setting: Setting) -> Changes:
    return {**_hg(source, setting), "model": {"frozen": ["backbone"]}}


def _ftp(source: Source, setting: Setting) -> Changes:
    return {**_rates(setting["lr"]), "model": {"frozen": ["backbone"], "frozen_but": [*source.last_stage]}}


def _lp_ft(source: Source, setting: Setting) -> Changes:
    hook = {"type": "FreezeUntilHook", "paths": ["backbone"], "until": setting["until"]}
    return {**_rates(setting["lr"]), "custom_hooks": [hook]}


def _on_images(make: MakeTerm, images: Changes) -> Callable[[Source, Setting], Changes]:
    """A term on unlabelled images, one for each labelled image."""

    def changes(source: Source, setting: Setting) -> Changes:
        hook = {"type": "UnlabelledImagesHook", **images, "batch_size": BATCH}
        return {**_terms(make)(source, setting), "custom_hooks": [hook]}

    return changes


def _wise_ft(source: Source, setting: Setting) -> Changes:
    return {**_rates(setting["lr"]), "custom_hooks": [{"type": "WiseFTHook", "alpha": setting["alpha"]}]}


def _at_a_tenth(make: MakeTerm) -> Method:
    """A term whose gradient is kept at a tenth of the task's; everything else as in FT."""
    return Method(_terms(make, weight=_balanced), fixed={"weight": 0.1})


def _at_doses(name: str, make: MakeTerm, weights: Sequence[float]) -> dict[str, Method]:
    """A term at several constant weights, which name the methods; everything else as in FT."""
    return {f"{name} {weight:g}": Method(_terms(make), fixed={"weight": weight}) for weight in weights}


def _on_images_at_doses(name: str, make: MakeTerm) -> dict[str, Method]:
    on = (({"folder": PHOTOGRAPHS}, PHOTOGRAPH_DOSES), ({"folder": PORTRAITS, "size": (SIZE, SIZE)}, PORTRAIT_DOSES))
    return {
        f"{name} {weight:g}, {images['folder']}": Method(_on_images(make, images), fixed={"weight": weight})
        for images, doses in on
        for weight in doses[name]
    }


METHODS = {
    "FT": Method(_ft, RATES),
    "FE": Method(_fe, HEAD_RATES, trains_encoder=False),
    "FTP": Method(_ftp, LAST_RATES),
    "HG": Method(_hg, SCRATCH_RATES, trains_encoder=False),
    "CTD-CD": Method(_terms(_cd), WEIGHTS),
    "CTD-ED": Method(_terms(_ed), WEIGHTS),
    "CTD-Com": Method(_terms(_cd, _ed), WEIGHTS),
    "CTD-ED decayed": Method(_terms(_ed, weight=_decayed), WEIGHTS),
    "L2-SP": Method(_terms(_l2sp), WEIGHTS),
    "LP-FT": Method(_lp_ft, LP_FT),
    **_at_doses("CTD-ED", _ed, DOSES),
    **_at_doses("CTD-CD", _cd, DOSES),
    **_at_doses("LwF", _lwf, DOSES),
    **_at_doses("L2-SP", _l2sp, DOSES),
    **_on_images_at_doses("CTD-ED", _ed),
    **_on_images_at_doses("LwF", _lwf),
    **{f"WiSE-FT {alpha:g}": Method(_wise_ft, fixed={"alpha": alpha}) for alpha in ALPHAS},
    "CTD-ED balanced": _at_a_tenth(_ed),
    "CTD-ED balanced, per location": _at_a_tenth(partial(_ed, over="location")),
    "CTD-ED balanced, pooled": _at_a_tenth(partial(_ed, over="pooled")),
    "CTD-ED balanced, earlier layer": _at_a_tenth(_ed_earlier),
    "AT": Method(_terms(_attention), WEIGHTS),
    "FT at the rate of L2-SP": Method(_ft, fixed={"lr": 2e-4}),
}


def changes_of(method: str, source: str, setting: Setting) -> Changes:
    """The changes that a method makes to the config of a source.

    Raises:
        KeyError: for an unknown method or source, or an incomplete setting.
    """
    return METHODS[method].changes(SOURCES[source], setting)
