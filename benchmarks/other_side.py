"""Where PM4Py runs, for comparisons of speed and of results.

PM4Py is AGPL: it is installed into an environment of its own, ``.venv-bench``, runs in processes of its own, and is
never imported by the product or shipped with it.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.measurement import ROOT, Tell

PM4PY = "pm4py==2.7.23.11"
_ENVIRONMENT = ROOT / ".venv-bench"


def interpreter(tell: Tell) -> Path | None:
    """The interpreter that has PM4Py, installed when it is not there; ``None`` where that does not work."""
    python = _ENVIRONMENT / "bin" / "python"
    if python.exists() and _succeeds([str(python), "-c", "import pm4py"]):
        return python
    tell(f"installing {PM4PY} into {_ENVIRONMENT.name} (half a minute, once)")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PM4PY]
    if _succeeds([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)]) and _succeeds(install):
        return python
    tell(f"{PM4PY} could not be installed")
    return None


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
