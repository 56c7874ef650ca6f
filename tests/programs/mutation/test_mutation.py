"""Detected and undetected changes are distinguished, and a judged change is not judged again."""

from __future__ import annotations

import pytest

from tests.programs.mutants.run import ROOT, copy_to

from .nest import Nest
from .operators import changes
from .reach import SOURCE, Reach
from .run import Judge, mutants_of, sample

TINY = '''"""Tiny."""

LIMIT = 30  # a limit


def is_small(number: int) -> bool:
    """Whether it is."""
    return number < LIMIT
'''
TEST = """from provider_registration.tiny.tiny import is_small


def test_numbers():
    assert is_small(29)
    assert not is_small(31)
"""


def test_of_a_tiny_module_one_mutant_survives_and_the_others_are_killed(tmp_path, monkeypatch):
    python = copy_to(tmp_path)
    (tmp_path / "tests/conftest.py").write_text("")  # it would load the whole program for each verdict
    source = tmp_path / SOURCE
    for path, text in ((source / "tiny/tiny.py", TINY), (tmp_path / "tests/tiny/test_tiny.py", TEST)):
        path.parent.mkdir()
        path.write_text(text)
    mutants = {one.mutant.name: one for one in mutants_of(source, ("tiny/*.py",))}
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    Reach(tmp_path / "reach.json").gather(python, ["tiny"])
    reach = Reach(tmp_path / "reach.json")
    with Nest(python) as nest:
        judge = Judge(nest, tmp_path, reach, tmp_path / "judged.jsonl")
        verdicts = {name.partition(": ")[2]: judge.judge(one, 10) for name, one in mutants.items()}
        judge.control()

    assert verdicts == {
        "30 becomes 300 in: LIMIT = 30": "killed",
        "return number < LIMIT becomes return None in: return number < LIMIT": "killed",
        "number < LIMIT becomes (number <= LIMIT) in: return number < LIMIT": "survived",
    }
    again = Judge(nest, tmp_path, reach, tmp_path / "judged.jsonl")
    assert [again.judge(one, 10) for one in mutants.values()] == [None] * 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "def f(a, b):\n    if a and not b:\n        g()",
            {"(a or not b)", "(a)", "(not b)", "(not (a and (not b)))", "(b)", "pass"},
        ),
        ("def f(x: int = 1) -> 'a < b':\n    logger.info(1)\n    '''1'''", {"2"}),
        ('S = "SELECT a FROM b WHERE c = 1 AND d < e ORDER BY f"', {"OR", "", "true", "<=", "<>", "ORDER BY f DESC"}),
        ('S = "SELECT FROM b WHERE c BETWEEN 1 AND 2 FOR UPDATE SKIP LOCKED"', {""}),
        ('S = """UPDATE a SET b = b + 1, c = d\nWHERE NOT e"""', {"+ 0", "true", ""}),
    ],
)
def test_changes_are_these(source, expected):
    assert {change.new for change in changes(source)} == expected


def test_mutants_have_names_of_their_own_and_a_seed_chooses_the_same():
    every = list(mutants_of(ROOT / SOURCE))
    names = [one.mutant.name for one in every]

    assert len(set(names)) == len(names) > 1500
    chosen = sample(every, 1, 50)
    assert sample(reversed(every), 1, 50) == chosen != sample(every, 2, 50)
