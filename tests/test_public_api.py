"""The public names with their parameters, all of which `tests/public_api.txt` lists.

Who adds, changes or removes one has that file written again, and sees in its diff what users will
see: ``python tests/test_public_api.py --write``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fastnn

LISTED = Path(__file__).with_name("public_api.txt")
# The benchmark is a command, not a library; the others are called by fastnn alone.
INTERNAL = {"backends", "benchmark", "training"}


def public_modules() -> Iterator[ModuleType]:
    """Yield fastnn and its modules that have names for users, if what they need is installed."""
    yield fastnn
    for found in pkgutil.iter_modules(fastnn.__path__):
        if found.name.startswith("_") or found.name in INTERNAL:
            continue
        try:
            module = importlib.import_module(f"fastnn.{found.name}")
        except ImportError:
            continue
        if hasattr(module, "__all__"):
            yield module


def parameters(function: object) -> str:
    """Write a signature without annotations, which are for mypy to check."""
    if inspect.isclass(function) and issubclass(function, BaseException):
        return ""
    signature = inspect.signature(function)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def is_ours(name: str) -> bool:
    """Whether a class's name is public, and none of those that scikit-learn makes for metadata."""
    return not name.startswith("_") and not (name.startswith("set_") and name.endswith("_request"))


def names_of(cls: type, others: set[type]) -> Iterator[str]:
    """Yield methods, properties and constants, but for those of bases that are listed too."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("fastnn")]
    own = [base for base in own if base is cls or base not in others]
    for name in sorted({name for base in own for name in vars(base) if is_ours(name)}):
        value = inspect.getattr_static(cls, name)
        function = getattr(value, "__func__", value)
        yield name + (parameters(function) if inspect.isfunction(function) else "")


def listing() -> list[str]:
    """Return a line for each public name, and what there is to a class where it is at home."""
    public = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in public_modules()
        for name in sorted(module.__all__)
    }
    classes = {value for value in public.values() if inspect.isclass(value)}
    lines = []
    for full, value in public.items():
        home = f"{getattr(value, '__module__', None)}.{getattr(value, '__name__', None)}"
        if home != full and home in public:
            lines.append(f"{full} = {home}")
        elif inspect.isclass(value):
            lines.append(full + parameters(value))
            lines += [f"{full}.{name}" for name in names_of(value, classes)]
        elif inspect.isfunction(value):
            lines.append(full + parameters(value))
        else:
            lines.append(full)
    return lines


def test_public_names_are_those_listed():
    here = {module.__name__ for module in public_modules()}
    listed = [
        line
        for line in LISTED.read_text().splitlines()
        if not line.startswith("fastnn.sklearn.") or "fastnn.sklearn" in here
    ]
    now = listing()
    new, gone = sorted(set(now) - set(listed)), sorted(set(listed) - set(now))
    assert (new, gone) == ([], []), (
        "the public interface changed: if it should have, tell so in CHANGELOG.md and run "
        "python tests/test_public_api.py --write"
    )
    assert now == listed


def test_what_checks_its_parameters_says_what_it_raises():
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and "__post_init__" in dir(value):
                assert "    Raises\n    ------\n" in value.__doc__, value


if __name__ == "__main__":
    text = "\n".join(listing()) + "\n"
    if sys.argv[1:] == ["--write"]:
        LISTED.write_text(text)
    else:
        print(text, end="")
