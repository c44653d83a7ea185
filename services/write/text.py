"""What a tweet's text may be: normalised, not blank, and free of what no reader can show."""

from __future__ import annotations

import unicodedata
from typing import Final

from services.common.events import CONTENT_CHARS_MAX

# No text shrinks by more under NFC than four code points to one (a letter and three marks). Longer input is refused
# before it is normalised, because that takes quadratic time on a long run of combining marks.
_RAW_CHARS_MAX: Final = 4 * CONTENT_CHARS_MAX

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
    if len(text) > _RAW_CHARS_MAX:
        raise ValueError(f"must have at most {CONTENT_CHARS_MAX} characters")
    check_storable(text)
    content = unicodedata.normalize("NFC", text)
    if len(content) > CONTENT_CHARS_MAX:
        raise ValueError(f"must have at most {CONTENT_CHARS_MAX} characters")
    if is_blank(content):
        raise ValueError("must not be blank")
    return content


def check_storable(text: str) -> None:
    """Raise ValueError for text that cannot be encoded in UTF-8, or that C libraries would cut short."""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must not contain surrogates")


def is_blank(text: str) -> bool:
    """Whether nothing of the text is visible."""
    return all(char in _INVISIBLE or unicodedata.category(char) in _INVISIBLE_CATEGORIES for char in text)
