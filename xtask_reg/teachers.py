"""Several teachers at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.submodules import may_be_child
from xtask_reg.teacher import FrozenTeacher


class FrozenTeachers(nn.Module):
    """Several source networks by name; a path in one of them begins with its name, as in ``"faces.layer4"``.

    Args:
        teachers: the frozen source networks by name. Each has its own input adapter, and runs only if a path in it is
            wanted.

    Raises:
        ValueError: if there are none, or a name has a dot.
        TypeError: if this is not a mapping, or one of its values is not a :class:`FrozenTeacher`.
    """

    def __init__(self, teachers: Mapping[str, FrozenTeacher]) -> None:
        super().__init__()
        check_kind(teachers, Mapping, "the argument teachers", "frozen source networks in a dict by name")
        if not teachers or not all(map(may_be_child, teachers)):
            raise ValueError(
                f"teachers named {list(teachers)}; expected at least one, and non-empty names without dots that "
                "nn.ModuleDict does not use"
            )
        for name, teacher in teachers.items():
            check_kind(teacher, FrozenTeacher, f"the teacher {name!r}", "xr.FrozenTeacher(source)")
        self.teachers: nn.ModuleDict = nn.ModuleDict(teachers)

    @property
    def network(self) -> nn.ModuleDict:
        """The source networks under their names."""
        return nn.ModuleDict({name: self._teacher(name).network for name in self.teachers})

    def features(self, images: Tensor, paths: Iterable[str], rarely: Iterable[str] = ()) -> dict[str, Tensor]:
        """Like :meth:`FrozenTeacher.features`, for all teachers that the paths name."""
        wanted, others = _by_teacher(paths), _by_teacher(rarely)
        return {
            f"{name}.{path}": features
            for name in wanted | others
            for path, features in self._teacher(name)
            .features(images, wanted.get(name, ()), others.get(name, ()))
            .items()
        }

    def _teacher(self, name: str) -> FrozenTeacher:
        if name not in self.teachers:
            raise ValueError(f"there is no teacher {name!r}; the teachers are {list(self.teachers)}")
        teacher = self.teachers[name]
        assert isinstance(teacher, FrozenTeacher)
        return teacher


def _by_teacher(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths within each teacher, by its name."""
    found: dict[str, list[str]] = {}
    for path in paths:
        name, _, inner = path.partition(".")
        found.setdefault(name, []).append(inner)
    return found
