"""The examples of the package's README and docstrings, and the table of docs/python-pymnl.md."""

import doctest
import importlib
import re

import pytest
from conftest import HERE, run_python
from test_pymnl import names_of

README = (HERE / "../README.md").read_text()
TABLE = (HERE / "../../docs/python-pymnl.md").read_text().partition("\n## Names\n")[2].partition("\n## ")[0]
PRINTED = ["1 lo\n", "Success\n", "nlctrl 16 {16: b'notify'}\n"]


@pytest.mark.parametrize(
    ("example", "printed"),
    list(zip(re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE), PRINTED)),
    ids=["links", "change", "family"],
)
def test_an_example_of_the_readme_prints_what_it_says(example, printed):
    assert f"`{printed.strip()}`" in README
    run = run_python("-c", example)
    assert (run.stdout, run.stderr) == (printed, "")


@pytest.mark.parametrize("name", ["constants", "nlsocket", "message", "attributes", "genl"])
def test_the_examples_of_docstrings_are_right(name):
    assert doctest.testmod(importlib.import_module(f"nlring.{name}")).failed == 0


def test_the_table_has_each_name_of_pymnl_and_no_other(pymnl):
    listed = set(re.findall(r"`(?:nlring\.)?(\w+)`", TABLE)) - {"nlring", "nlsocket", "message", "attributes", "genl"}
    names = set()
    for module in names_of("pymnl", pymnl).values():
        for name, value in module.items():
            names.add(name)
            if isinstance(value, dict):
                names |= {method for method in value if not method.startswith("__")}
    assert listed == names
