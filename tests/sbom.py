"""Print the image's Python packages as CycloneDX JSON: `make sbom`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"(?m)^([\w.-]+)==([^\s;]+)( ; [^\\\n]+?)? *\\?$")
UV = Path(sys.executable).with_name("uv")


def pins() -> list[tuple[str, str, str]]:
    """Name, version and marker of every package in requirements/runtime.txt."""
    return PIN.findall((ROOT / "requirements/runtime.txt").read_text())


def bill_of_materials() -> str:
    """The export of uv for a lock with the versions of requirements/runtime.txt.

    Raises:
        RuntimeError: it has other packages than that file.
    """
    constraints = [f"{name}=={version}{marker}" for name, version, marker in pins()]
    with TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        with (Path(folder) / "pyproject.toml").open("a") as project:
            project.write(f"\n[tool.uv]\nconstraint-dependencies = {json.dumps(constraints)}\n")
        command = [UV, "export", "--quiet", "--no-dev", "--format", "cyclonedx1.5", "--project", folder]
        exported = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    check(exported)
    return exported


def check(exported: str) -> None:
    """Check that an SBOM has exactly the packages of requirements/runtime.txt."""
    listed = {(one["name"], one["version"]) for one in json.loads(exported)["components"]}
    wanted = {(name, version) for name, version, _ in pins()}
    if listed != wanted:
        raise RuntimeError(f"not in one of the bill and requirements/runtime.txt: {sorted(listed ^ wanted)}")


if __name__ == "__main__":
    sys.stdout.write(bill_of_materials())
