"""`taps protocols`: which stacks qualify, in which order, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..connection.candidates import StackChoice, choose_stacks
from ..properties.security import Role
from .options import Declared


def choices(declared: Declared, role: Role = Role.CLIENT) -> list[StackChoice]:
    """Every protocol, those that qualify first."""
    return choose_stacks(declared.security, declared.transport, role, complete=True)


def as_json(found: Sequence[StackChoice]) -> dict[str, Any]:
    """The words of `explain()`."""
    return {"candidates": [choice.as_json() for choice in found]}
