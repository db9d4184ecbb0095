"""The package versions in result files."""

from __future__ import annotations

from importlib.metadata import version

from provenance import PACKAGES, provenance


def test_versions_of_all_packages() -> None:
    """Some names have underscores; all packages are installed for the tests."""
    assert provenance()["versions"] == {package: version(package) for package in PACKAGES}
