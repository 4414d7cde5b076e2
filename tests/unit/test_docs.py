"""What the documentation names exists."""

import re
from pathlib import Path

import pytest

from hashshare.config import LimitSettings, ServerSettings
from hashshare.wire.problem import PROBLEM_TYPES

ROOT = Path(__file__).parents[2]
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(("page", "least"), [("attacks", 50), ("threat-model", 20)])
def test_every_attack_has_its_test(page: str, least: int) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / f"docs/{page}.md").read_text()))
    assert len(named) > least
    assert [name for name in sorted(named) if f"def {name}(" not in TESTS] == []


def test_every_setting_is_described_with_its_default() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name in ServerSettings.model_fields:
        assert f"`{name}`" in page or name == "limits"
    for name, field in LimitSettings.model_fields.items():
        assert f"| `limits.{name}` | {int(field.default)} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_problem_has_its_section() -> None:
    page = (ROOT / "docs/problems.md").read_text()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [kind.name for kind in PROBLEM_TYPES.values()]
    for kind in PROBLEM_TYPES.values():
        assert f"| [{kind.name}](#{kind.name}) | {kind.status.value} |" in page


def test_the_hostile_demo_names_checks() -> None:
    """What it expects to fail is named as the documentation names it."""
    demo = (ROOT / "scripts/demo_hostile.py").read_text()
    named = set(re.findall(r'check="([a-z-]+)"', demo))
    named |= set(re.findall(r'attacked\([^)]*, "([a-z-]+)"[,)]', demo))
    assert len(named) >= 7
    assert named <= {kind.name for kind in PROBLEM_TYPES.values()} | {"beta", "gamma"}
