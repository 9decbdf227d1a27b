"""What griffe does not read by itself, for the API pages: fields, doctests, names with one description."""

import re

from griffe import (
    Attribute,
    Class,
    Extension,
    Function,
    Module,
    Object,
    Parameter,
    ParameterKind,
    Parameters,
)

BUILT_FROM_FIELDS = ("nn.Module", "nn.RNNCellBase", "NamedTuple")
TOGETHER = re.compile(r"^( +)(\w+)((?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)  # "    one, other: what"


DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)  # one that stands in no section Examples


class Docstrings(Extension):
    """Makes "one, other: what they are" two items of a docstring's section, and doctests blocks of code."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring:
            text = DOCTEST.sub("```pycon\n\\g<0>\n```", obj.docstring.value)
            obj.docstring.value = TOGETHER.sub(_one_by_one, text)


def _one_by_one(found: re.Match[str]) -> str:
    indent, name, others, text = found.groups()
    rest = "".join(f"\n{indent}{other}: see `{name}`." for other in others.split(", ")[1:])
    return f"{indent}{name}: {text}{rest}"


class FieldSignatures(Extension):
    """Gives such a class an `__init__` with its fields and their defaults, those of its parents first."""

    def on_package(self, *, pkg: Module, **_: object) -> None:
        for module in _modules(pkg):
            for found in module.classes.values():
                if not found.is_alias and "__init__" not in found.members and _is_built_from_fields(found):
                    found.set_member("__init__", _init(found))


def _modules(package: Module) -> list[Module]:
    inner = [module for module in package.modules.values() if not module.is_alias]
    return [package, *(deep for module in inner for deep in _modules(module))]


def _is_built_from_fields(found: Class) -> bool:
    return any(str(base) in BUILT_FROM_FIELDS for one in [found, *found.mro()] for base in one.bases)


def _init(found: Class) -> Function:
    # Types are in the section Attributes, if the class has one.
    typed = not any("Attributes:" in one.docstring.value for one in [found, *found.mro()] if one.docstring)
    fields = {
        name: Parameter(
            name,
            annotation=field.annotation if typed else None,
            kind=ParameterKind.positional_or_keyword,
            default=field.value,
        )
        for one in [*reversed(found.mro()), found]
        for name, field in one.members.items()
        if isinstance(field, Attribute) and field.annotation is not None and "property" not in field.labels
    }
    own = Parameter("self", kind=ParameterKind.positional_or_keyword)
    return Function("__init__", parent=found, parameters=Parameters(own, *fields.values()))
