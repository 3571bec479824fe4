"""The suite is complete, and knows no protocol."""

from __future__ import annotations

import re
from pathlib import Path

from taps_security.protocols import registry
from tests.conformance.subject import SUBJECTS
from tests.conformance.toys import TOYS


def test_every_registered_version_and_every_toy_is_a_subject() -> None:
    tested = {(subject.descriptor.name, subject.version) for subject in SUBJECTS}
    registered = {(protocol.name, version) for protocol, version in registry.allowed(())}
    assert tested == registered | {(toy.name, version) for toy in TOYS for version in toy.versions}


def test_no_test_asks_for_a_protocol_by_its_name() -> None:
    names = "|".join(re.escape(subject.descriptor.name) for subject in SUBJECTS)
    named = re.compile(rf"[\"'](?:{names})[\"'/+]")
    suite = [path for path in Path(__file__).parent.glob("*.py") if path.name != "toys.py"]
    assert not [path.name for path in suite if named.search(path.read_text(encoding="utf-8"))]
