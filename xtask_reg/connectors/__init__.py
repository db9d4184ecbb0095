"""Connectors: small networks between a tap and a loss, one per file."""

from xtask_reg.connectors.channels_first import ChannelsFirst
from xtask_reg.connectors.channels_last import ChannelsLast
from xtask_reg.connectors.class_token import ClassToken
from xtask_reg.connectors.pooled_classifier import PooledClassifier, retained_classifier
from xtask_reg.connectors.projection import Projection, inverted_projection
from xtask_reg.connectors.resize import Resize
from xtask_reg.connectors.tokens_to_map import TokensToMap

__all__ = [
    "ChannelsFirst",
    "ChannelsLast",
    "ClassToken",
    "PooledClassifier",
    "Projection",
    "Resize",
    "TokensToMap",
    "inverted_projection",
    "retained_classifier",
]
