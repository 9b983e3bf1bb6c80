"""Looks up the known weaknesses of all that is installed beside this Python, by pip-audit.

The exit status is 1 where there is one. A registry that does not tell fails nothing: how many
packages it did not know is said instead.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

TOOL = "pip-audit==2.10.1"
PATIENCE = 180
"""Seconds for getting the tool, and for asking."""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        try:
            report = ask(Path(name))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"Not audited: {error}")
            return 0
    return tell(report["dependencies"])


def ask(folder: Path) -> Any:
    """What pip-audit reports, from an environment of its own."""
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    installed = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    pinned = [line for line in installed.splitlines() if "==" in line]
    (folder / "installed.txt").write_text("\n".join(pinned))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", TOOL], check=True, timeout=PATIENCE)
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    audit = [python, "-m", "pip_audit", "-r", folder / "installed.txt", *options]
    # Its own exit status is 1 for a weakness, and for a registry that cannot be reached.
    done = subprocess.run(audit, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return json.loads(done.stdout)


def tell(packages: list[dict[str, Any]]) -> int:
    """Print what is known; 1 where there is a weakness."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for weakness in package["vulns"]:
            fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {weakness['id']}, mended in {fixed}")
    print(
        f"Audited: {len(packages) - len(unknown)} of {len(packages)} packages; of the others the "
        f"registry tells nothing."
    )
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
