"""A setting as it is typed: a number, true, false, none, or a word."""

from __future__ import annotations

WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}

Literal = bool | int | float | str | None


def literal(text: str) -> Literal:
    """What `text` stands for: `"3"` is 3, `"1e-3"` is 0.001, `"true"` is True, `"none"` is None, `"ggn"` is itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
