"""A reason of quarantined letters, beside those of signatures and schemas. Pure."""

from typing import Final

BAD_FORM: Final = "bad-form"
