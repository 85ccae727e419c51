"""The code of the programs that `appliance run` starts, to be loaded once for all of them."""

import importlib
import pkgutil
from collections.abc import Collection
from types import ModuleType
from typing import Final

import appliance
from appliance.config import Config

#: Packages that no program uses, or only for a short time.
_LEFT_OUT: Final = {"appliance.__main__", "appliance.cli", "appliance.doctor", "appliance.drill"}
#: Of the command line, the programs' part.
_COMMANDS: Final = ("appliance.cli.commands.processes", "appliance.cli.composition")


def load(config: Config) -> None:
    """Import every module that a program may use with these settings."""
    other_engine = "sqlite" if config.database_url else "postgresql"
    _load_package(appliance, {*_LEFT_OUT, f"appliance.store.{other_engine}"})
    for name in _COMMANDS:
        importlib.import_module(name)


def _load_package(package: ModuleType, left_out: Collection[str]) -> None:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name not in left_out:
            module = importlib.import_module(found.name)
            if found.ispkg:
                _load_package(module, left_out)
