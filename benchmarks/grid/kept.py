"""Tests the source's task, face recognition, on a network that has learned landmarks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpose.models import TopdownPoseEstimator
from scipy.stats import mannwhitneyu
from torch import Tensor

from grid import identities
from grid.places import Places
from grid.sources import SOURCES, weights_file
from xtask_reg.connectors import PooledClassifier
from xtask_reg.sources import load_weights


def kept(model: TopdownPoseEstimator, source: str, places: Places, of_strangers: bool = False) -> dict[str, float]:
    """How well the encoder recognises people in images that no classifier saw.

    Args:
        model: the trained model; it is put into eval mode.
        source: the source from which it was trained, with a classifier of the people of lfw158; if that was trained
            together with the encoder, only images that neither saw are used.
        places: the folders of that classifier and of the images.
        of_strangers: whether to test only on those people whom :func:`grid.identities.seen` can leave out.

    Returns:
        ``accuracy`` of the source's own classifier on the encoder; ``verification_auc``: how often two images of one
        person are more similar, by the cosine of their averaged features, than two of different people;
        ``accuracy_of_copy`` of the classifier that a term has trained with the encoder, if there is one.
    """
    known = identities.read(places.data_root)
    asked = known.held_out & identities.strangers(known) if of_strangers else known.held_out
    if every := SOURCES[source].holds_out:
        asked = asked & (torch.arange(len(asked)) % every == 0)
    images, labels = known.images[asked], known.labels[asked]
    preprocessor = model.eval().data_preprocessor
    features = identities.pooled(
        lambda batch: model.backbone((batch - preprocessor.mean) / preprocessor.std)[-1],
        images.to(preprocessor.mean.device),
    ).cpu()
    weights = load_weights(weights_file(source, places.prepared))
    found = {
        "accuracy": _part_right(F.linear(features, weights["fc.weight"], weights["fc.bias"]), labels),
        "verification_auc": round(verification_auc(features, labels), 4),
    }
    for copy in _copies(model):
        found["accuracy_of_copy"] = _part_right(copy.cpu()(features), labels)
    return found


def _copies(model: TopdownPoseEstimator) -> list[PooledClassifier]:
    """The terms' copies of the source's classifier."""
    terms = model.regularizer.terms.values() if model.regularizer else ()
    return [term.student_connector for term in terms if isinstance(term.student_connector, PooledClassifier)]


@torch.no_grad()
def _part_right(logits: Tensor, labels: Tensor) -> float:
    return round((logits.argmax(1) == labels).double().mean().item(), 4)


def verification_auc(features: Tensor, labels: Tensor) -> float:
    """The area under the ROC curve by which the cosine of two images predicts whether they show the same person.

    Args:
        features: shape ``(N, C)``.
        labels: shape ``(N,)``.
    """
    directions = F.normalize(features.double())
    first, second = torch.triu_indices(len(labels), len(labels), 1)
    cosine = (directions @ directions.T)[first, second]
    same = labels[first] == labels[second]
    pairs = int(same.sum()) * int((~same).sum())
    return float(mannwhitneyu(cosine[same], cosine[~same]).statistic) / pairs
