"""A frozen teacher's outputs, cached on disk."""

from xtask_reg.caching.cache import TeacherCache

__all__ = ["TeacherCache"]
