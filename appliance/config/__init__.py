"""The settings, each defined once."""

from appliance.config.parsers import Address
from appliance.config.settings import PREFIX, Config, Setting, load, settings

__all__ = ["PREFIX", "Address", "Config", "Setting", "load", "settings"]
