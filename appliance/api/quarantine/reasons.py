"""Reasons of quarantined letters, beside those of signatures; programs compare them. Pure."""

from typing import Final

SCHEMA: Final = "schema"
BAD_FORM: Final = "bad-form"
