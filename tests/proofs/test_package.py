"""A small share of `scripts/proof package`."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from proofs.package import SOURCE, missing_files, package


@pytest.mark.slow
def test_wheel_and_sdist_have_all_files_and_the_wheel_works_outside_the_tree(capfd: pytest.CaptureFixture[str]) -> None:
    assert package(small=True), capfd.readouterr().out
    assert "installed/funnelcast/__init__.py: mean p_click" in capfd.readouterr().out


def test_a_file_that_a_wheel_lacks_is_named(tmp_path: Path) -> None:
    wheel = tmp_path / "funnelcast.whl"
    with ZipFile(wheel, "w") as archive:
        for path in (SOURCE / "funnelcast").rglob("*"):
            if path.name != "py.typed":
                archive.writestr(str(path.relative_to(SOURCE)), "")
    assert missing_files(wheel) == ["funnelcast/py.typed"]
