"""What is installed: connectors and simulators by their entry points, and the folders that are shipped."""

from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itsms_sync.connector import Plugin


class UnknownPlugin(Exception):
    """No installed plug-in has this name."""


def plugin(system: str) -> "Plugin":
    """The installed plug-in of that name. Raises ``UnknownPlugin``."""
    found = {entry.name: entry for entry in entry_points(group="itsms_sync.connectors")}
    if system not in found:
        raise UnknownPlugin(f"no plug-in {system!r} is installed; there are: {', '.join(sorted(found)) or 'none'}")
    result: Plugin = found[system].load()
    return result


def simulator(system: str) -> Callable[..., Any]:
    """The simulator of that name: ``serve(data=, host=, port=, options=)``. Raises ``UnknownPlugin``."""
    found = {entry.name: entry for entry in entry_points(group="itsms_sync.simulators")}
    if system not in found:
        raise UnknownPlugin(f"no simulator {system!r} is installed; there are: {', '.join(sorted(found)) or 'none'}")
    result: Callable[..., Any] = found[system].load()
    return result


def shipped(name: str) -> Path:
    """The folder ``mappings`` or ``config``: beside the package in a checkout, inside it when installed."""
    package = Path(str(files("itsms_sync")))
    installed = package / "share" / name
    return installed if installed.is_dir() else package.parent / name
