"""What a frozen teacher gave, kept on disk."""

from xtask_reg.caching.cache import TeacherCache

__all__ = ["TeacherCache"]
