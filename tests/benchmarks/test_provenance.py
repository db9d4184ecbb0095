"""What result files say of the packages that they were made with."""

from __future__ import annotations

from importlib.metadata import version

from provenance import PACKAGES, provenance


def test_versions_of_all_packages() -> None:
    """Some call themselves by underscores; all are installed for the tests."""
    assert provenance()["versions"] == {package: version(package) for package in PACKAGES}
