"""What a translation must carry over as it is: format directives, template variables, tags.

printf and Python: `%s`, `%(name)s`, `%1$d`, `%%`; braces: `{}`, `{name}`, `{0:.2f}`, `{{ variable }}`,
`{% tag %}`; markup: `<b>`, `</a>`, `<br/>`, of which the name counts and not the attributes.
"""

from __future__ import annotations

import re
from collections import Counter

_PLACEHOLDER = re.compile(
    r"(%%"
    r"|%(?:\([^()\s]{1,60}\)|[0-9]{1,2}\$)?[-+#0]{0,3}(?:[0-9]{1,3}|\*)?(?:\.[0-9]{1,3})?(?:hh?|ll?|[Lzjt])?[diouxXeEfFgGcrsa](?![A-Za-z])"
    r"|\{\{[^{}]{0,80}\}\}|\{%[^{}]{0,80}%\}|\{[^{}\s]{0,60}\}"
    r"|</?[A-Za-z][A-Za-z0-9-]{0,20}(?=[\s/>])[^<>]{0,300}>)"
)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)")
_WIDE = str.maketrans({"％": "%", "｛": "{", "｝": "}", "＜": "<", "＞": ">", "＄": "$"})
_WIDE_PARENTHESES = re.compile(r"%（([^（）()\s]{1,60})）")
_SPACED = re.compile(r"%\s+(?=\(?[A-Za-z(])")


def split_placeholders(text: str) -> tuple[list[str], list[str]]:
    """What stands around the placeholders, one part more than there are placeholders, and these."""
    parts = _PLACEHOLDER.split(text)
    return parts[::2], parts[1::2]


def placeholders(text: str) -> Counter[str]:
    """Each placeholder and how often it occurs."""
    return Counter(map(placeholder_name, split_placeholders(text)[1]))


def same_placeholders(source: str, target: str) -> bool:
    """Whether both hold the same, in any order."""
    return placeholders(source) == placeholders(target)


def mend_placeholders(source: str, target: str) -> str:
    """The target with full-width or spaced placeholders as the source has them; as it is, where that mends nothing."""
    if same_placeholders(source, target):
        return target
    narrow = _WIDE_PARENTHESES.sub(r"%(\1)", target.translate(_WIDE))
    for mended in (narrow, _SPACED.sub("%", narrow)):
        if same_placeholders(source, mended):
            return mended
    return target


def placeholder_name(placeholder: str) -> str:
    """What is the same in a text and its translation: of a tag no attributes, of a variable no white space."""
    tag = _TAG.match(placeholder)
    if tag is not None:
        return f"<{tag[1]}{tag[2].lower()}>"
    return "".join(placeholder.split()) if placeholder.startswith("{") else placeholder
