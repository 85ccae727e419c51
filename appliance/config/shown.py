"""The settings in force as people may see them: where each comes from, and no secret."""

from pathlib import Path
from typing import Final, NamedTuple

from appliance.config.settings import Config, settings

#: Stands for a secret.
MASK: Final = "********"


class ShownSetting(NamedTuple):
    """One setting.

    `value` is the value in force (sizes in bytes, times in seconds), `text` as it was written,
    `shown` what a person should read: as it was written, but for paths, which are as in force.
    """

    name: str
    value: str
    text: str
    shown: str
    source: str
    default: str
    help: str
    secret: bool


def shown(config: Config) -> list[ShownSetting]:
    """Return every setting, in the order of `Config`."""
    return [
        _shown(config, setting.name, setting.attribute, setting.default, setting.help)
        if not setting.secret
        else _masked(config, setting.name, setting.default, setting.help)
        for setting in settings()
    ]


def _shown(config: Config, name: str, attribute: str, default: str, text: str) -> ShownSetting:
    value, written = getattr(config, attribute), config.texts[name]
    in_force = "" if value is None else str(value)
    readable = str(value) if isinstance(value, Path) else written
    source = config.sources[name]
    return ShownSetting(name, in_force, written, readable, source, default, text, secret=False)


def _masked(config: Config, name: str, default: str, text: str) -> ShownSetting:
    mask = MASK if config.texts[name] else ""
    return ShownSetting(name, mask, mask, mask, config.sources[name], default, text, secret=True)
