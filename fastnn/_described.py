"""Descriptions: small frozen dataclasses that check, show and store themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, TypeVar

from fastnn._validation import known_name, unknown_name


@dataclass(frozen=True, repr=False)
class Described:
    """Base of what is described by its fields: a layer, an optimizer.

    `repr` shows the first field and those that differ from their defaults, and evaluates to an
    equal description; `get_config` gives all of them as plain values under a name.
    """

    name: ClassVar[str]

    def get_config(self) -> dict[str, Any]:
        """All fields and, under ``"name"``, what they describe: plain values, ready for JSON."""
        values = {field.name: _plain(getattr(self, field.name)) for field in self._fields()}
        return {"name": self.name, **values}

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for i, field in enumerate(self._fields())
            if i == 0 or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def _fields(cls) -> list[Field[Any]]:
        """The fields that the constructor takes, in its order."""
        taken = [field for field in fields(cls) if field.init]
        return sorted(taken, key=lambda field: bool(field.kw_only))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def _plain(value: Any) -> Any:
    return value.get_config() if isinstance(value, Described) else value


_D = TypeVar("_D", bound=Described)


def from_config(what: str, table: Mapping[str, type[_D]], config: object) -> _D:
    """Undo `Described.get_config`; ``what`` names the argument in errors.

    Raises
    ------
    ValueError
        If ``config`` is not what `get_config` of one of the classes in ``table`` gives.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{what} must be described by a mapping; got {type(config).__name__}")
    given = dict(config)
    name = known_name(f"name of {what}", given.pop("name", None), table)
    cls = table[name]
    known = {field.name: field.default is MISSING for field in cls._fields()}
    for key in given:
        if key not in known:
            raise unknown_name(f"field of {what} {name!r}", key, known)
    for key, required in known.items():
        if required and key not in given:
            raise ValueError(f"{what} {name!r} must have the field {key!r}; got {sorted(given)}")
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"{what} {name!r}: {error}") from error
