"""What the text of a tweet or a profile may be: normalised, not blank, and free of what no reader can show."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from services.common.events import CONTENT_CHARS_MAX

# No text shrinks by more under NFC than four code points to one (a letter and three marks). Longer input is refused
# before it is normalised, because that takes quadratic time on a long run of combining marks.
_RAW_CHARS_A_CHAR: Final = 4

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"})
# Unicode calls these letters, marks or symbols, and every font shows nothing for them.
_INVISIBLE: Final = frozenset(
    map(
        chr,
        (
            0x034F,  # combining grapheme joiner
            *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers
            *(0x17B4, 0x17B5),  # Khmer inherent vowels
            *range(0x180B, 0x1810),  # Mongolian selectors
            0x2800,  # Braille pattern without dots
            *range(0xFE00, 0xFE10),  # variation selectors
            *range(0xE0100, 0xE01F0),  # further variation selectors
        ),
    )
)


def tweet_content(text: str) -> str:
    """The text of a tweet as the log keeps it: in NFC. Raises ValueError for text that is no tweet."""
    content = _normalized(text, CONTENT_CHARS_MAX)
    if is_blank(content):
        raise ValueError("must not be blank")
    return content


def profile_text(text: str, chars_max: int) -> str:
    """A name or a description of oneself in NFC, empty if nothing of it is visible. Raises ValueError."""
    content = _normalized(text, chars_max)
    return "" if is_blank(content) else content


def _normalized(text: str, chars_max: int) -> str:
    if len(text) > _RAW_CHARS_A_CHAR * chars_max:
        raise ValueError(f"must have at most {chars_max} characters")
    check_storable(text)
    content = text if text.isascii() else unicodedata.normalize("NFC", text)
    if len(content) > chars_max:
        raise ValueError(f"must have at most {chars_max} characters")
    return content


def check_storable(text: str) -> None:
    """Raise ValueError for text that cannot be encoded in UTF-8, or that C libraries would cut short."""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    if not text.isascii() and _SURROGATE.search(text) is not None:
        raise ValueError("must not contain surrogates")


def is_blank(text: str) -> bool:
    """Whether nothing of the text is visible."""
    for char in text:  # not all(): most texts end here with their first character
        if char not in _INVISIBLE and unicodedata.category(char) not in _INVISIBLE_CATEGORIES:
            return False
    return True
