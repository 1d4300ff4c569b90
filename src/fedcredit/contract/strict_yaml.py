"""Plain YAML values: a repeated key, a tag that does not fit and a forbidden character are errors, never a guess."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from fedcredit.errors import ConfigValueError, ContractSyntaxError

_UNFIT: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What the YAML library passes on from building a value, such as 2001-99-99, ``!!int ''`` or ``!!bool x``."""


def read_yaml(text: str, *, source: str) -> Any:
    """Return the value of YAML ``text``; ``source`` names it in errors.

    Raises:
        ContractSyntaxError: it is not YAML, or has a key twice.
    """
    try:
        raw = _StrictLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ContractSyntaxError(path=source, detail=f"{error.problem or 'syntax'} (line {line})") from error
    except yaml.YAMLError as error:
        raise ContractSyntaxError(path=source, detail="it holds a character that YAML forbids") from error
    except _UNFIT:
        # Python's message would quote the value.
        raise ContractSyntaxError(path=source, detail="a value does not fit its tag, or nests without end") from None
    return raw


def mapping(raw: Any, *, source: str, place: str) -> Mapping[str, Any]:
    """Return ``raw`` if it maps texts to content; anything else raises ``ConfigValueError``."""
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        raise ConfigValueError(path=source, key=place or "the file", problem="must map names to content")
    return raw


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values only, as ``yaml.safe_load``; a repeated key is an error instead of a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key stands twice", key_node.start_mark)
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return content
