"""What a careful colleague would check before a long run of an MMPose config, by one training batch."""

from xtask_reg.integrations.mmpose.doctor.examine import examine
from xtask_reg.integrations.mmpose.doctor.facts import Examination, Risk
from xtask_reg.integrations.mmpose.doctor.show import show, to_json
from xtask_reg.integrations.mmpose.doctor.start import parse_options

__all__ = ["Examination", "Risk", "examine", "parse_options", "show", "to_json"]
