"""The table of OWASP's requirements; `python -m tests.asvs` writes its last column from the tests' markers.

A test that verifies a requirement names it: `@pytest.mark.asvs("V6.2.1")`. The other columns are written by hand.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS / "asvs.md"

# How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has; they come first, those of level 3 after them.
SECTIONS = """
1.1=2 1.2=9 1.3=11 1.4=3 1.5=2
2.1=3 2.2=3 2.3=4 2.4=1
3.2=2 3.3=4 3.4=6 3.5=5 3.7=2
4.1=3 4.2=1 4.3=2 4.4=4
5.1=1 5.2=3 5.3=2 5.4=3
6.1=3 6.2=12 6.3=4 6.4=4 6.5=5 6.6=3 6.8=4
7.1=3 7.2=4 7.3=2 7.4=5 7.5=2 7.6=2
8.1=2 8.2=3 8.3=1 8.4=1
9.1=3 9.2=4
10.1=2 10.2=2 10.3=4 10.4=11 10.5=5 10.6=2 10.7=3
11.1=2 11.2=3 11.3=3 11.4=4 11.5=1 11.6=1
12.1=3 12.2=2 12.3=4
13.1=1 13.2=5 13.3=2 13.4=5
14.1=2 14.2=4 14.3=3
15.1=3 15.2=3 15.3=7
16.1=1 16.2=5 16.3=4 16.4=3 16.5=3
17.1=1 17.2=4 17.3=2
"""
REQUIREMENTS = frozenset(
    f"V{name}.{number}"
    for name, _, count in (one.partition("=") for one in SECTIONS.split())
    for number in range(1, int(count) + 1)
)
API_TOP_10 = frozenset(f"API{number}" for number in range(1, 11))
ITEM = re.compile(r"`((?:V|API)[\d.]+)`")
ROW = re.compile(r"(\| `(?:V|API)\d.*\|)[^|]*\|")


def markers() -> dict[str, list[str]]:
    """Tests by the items of their markers."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for test in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
                for item in _marked(test):
                    found[item].append(f"{path.relative_to(TESTS.parent)}::{test.name}")
    return found


def _marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.asvs":
            yield from (ast.literal_eval(item) for item in decorator.args)


def with_tests(text: str) -> str:
    """The text of the table with the tests of each row."""
    tests = markers()

    def row(match: re.Match[str]) -> str:
        items = ITEM.findall(match[1].split("|")[1])
        named = dict.fromkeys(f"`{test}`" for item in items for test in tests[item])
        return f"{match[1]} {', '.join(named)}{' ' if named else ''}|"

    return re.sub(rf"(?m)^{ROW.pattern}$", row, text)


if __name__ == "__main__":
    TABLE.write_text(with_tests(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
