"""The settings, each defined once."""

from appliance.config.parsers import Address
from appliance.config.settings import PREFIX, SHARD_NUMBERS, Config, Setting, load, settings

__all__ = ["PREFIX", "SHARD_NUMBERS", "Address", "Config", "Setting", "load", "settings"]
