"""Text from a dataset, made safe to look at."""

from __future__ import annotations

from markupsafe import Markup

# Characters that reorder or hide the text around them: names from a dataset show them as codes.
_DISGUISES = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x00, 0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    )
}


def visible(value: object) -> object:
    """Make text from a dataset safe to look at: no hidden or reordering characters.

    HTML is escaped later, by the template engine. Undecodable bytes of file names, which cannot be
    written as UTF-8, become codes too.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.translate(_DISGUISES).encode("utf-8", "backslashreplace").decode("utf-8")
    return value
