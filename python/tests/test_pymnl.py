"""pymnl's own tests and examples run on nlring with only the import changed, and its names are nlring's.

pymnl itself runs beside nlring wherever both can, so that the comparison is with what it does, not with what it says.
"""

import json
import re
import shutil
import signal

import pytest
from conftest import HERE, run_python, start_python, wait_until

TOOLS = HERE / "pymnl"

# The tests of pymnl that cannot pass, because each expects an attribute to state its length with the padding. The
# kernel wants it without (include/uapi/linux/netlink.h, struct nlattr).
STATE_PADDED_LENGTHS = {
    "attributes.TestAttributes.test_strz",
    "attributes.TestAttributes.test_u16",
    "attributes.TestAttributes.test_u8",
}


def change_imports(folder):
    """Lets each file of a folder import nlring instead of pymnl. The names of the tests' own package stay."""
    for file in folder.rglob("*"):
        if file.suffix == ".py":
            file.write_text(re.sub(r"\bpymnl\b(?![./]tests)", "nlring", file.read_text()))
        elif file.suffix == ".pickled":
            file.write_bytes(re.sub(rb"\bcpymnl\b", b"cnlring", file.read_bytes()))


@pytest.fixture(scope="module")
def suite(pymnl, tmp_path_factory):
    """A folder with pymnl's tests for nlring, without pymnl itself."""
    folder = tmp_path_factory.mktemp("suite")
    shutil.copytree(pymnl / "pymnl/tests", folder / "pymnl/tests")
    (folder / "pymnl/__init__.py").touch()
    change_imports(folder)
    return folder


@pytest.fixture(scope="module")
def examples(pymnl, tmp_path_factory):
    """A folder with pymnl's examples for nlring."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(pymnl / "examples", folder)
    change_imports(folder)
    return folder


def outcomes(folder, *options):
    run = run_python(TOOLS / "run_suite.py", *options, cwd=folder)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_all_49_of_its_tests_pass_on_pymnl(pymnl):
    found = outcomes(pymnl)
    assert len(found) == 49
    assert not [name for name, traceback in found.items() if traceback]


def test_its_tests_pass_on_nlring_except_those_that_expect_padded_lengths(suite):
    found = outcomes(suite)
    assert len(found) == 49
    failed = {name: traceback for name, traceback in found.items() if traceback}
    assert failed.keys() == STATE_PADDED_LENGTHS
    for traceback in failed.values():
        assert "binary value does not match expected value" in traceback


def test_its_tests_all_pass_on_nlring_when_attributes_state_padded_lengths(suite):
    found = outcomes(suite, "--padded-lengths")
    assert {name: traceback for name, traceback in found.items() if traceback} == {}


def example(folder, path, name, *arguments):
    """What an example prints, the last line of its errors, and its exit code. Its own folder is left out."""
    program = [TOOLS / "run_example.py", folder / name, *arguments]
    run = run_python(*program, path=[folder / "rtnl", *path])
    return run.stdout.replace(f"{folder}/", ""), run.stderr.splitlines()[-1:], run.returncode


@pytest.mark.parametrize("call", [
    "genl/genl-family-get.py nlctrl",
    "genl/genl-family-get.py there-is-none",
    "genl/genl-family-get.py",
    "rtnl/rtnl-link-dump3.py",
    "rtnl/rtnl-link-set.py lo up",
    "rtnl/rtnl-link-dump3.py",
    "rtnl/rtnl-link-set.py lo down",
    "rtnl/rtnl-link-set.py there-is-none up",
    "rtnl/rtnl-route-add.py lo 192.0.2.0 24",  # struct.error on both, because it takes a long for 4 bytes
    "rtnl/rtnl-route-dump.py",  # TypeError on both, because it takes a slice of a Payload
])
def test_an_example_does_the_same_as_on_pymnl(pymnl, examples, call):
    on_pymnl = example(pymnl / "examples", [pymnl], *call.split())
    assert example(examples, [], *call.split()) == on_pymnl


def test_the_examples_of_routes_do_the_same_when_they_are_corrected(pymnl, examples, tmp_path):
    calls = [
        "rtnl/rtnl-link-set.py lo up",
        "rtnl/rtnl-route-add.py lo 192.0.2.0 24",
        "rtnl/rtnl-route-dump.py",
        "rtnl/rtnl-link-set.py lo down",  # which deletes the route
    ]
    printed = {}
    for name, original, path in (("pymnl", pymnl / "examples", [pymnl]), ("nlring", examples, [])):
        folder = shutil.copytree(original, tmp_path / name)
        for file in folder.glob("rtnl/rtnl-route-*.py"):
            text = file.read_text().replace('pack("L"', 'pack("I"')
            file.write_text(text.replace("=msg.get_payload())", "=msg.get_payload().get_binary())"))
        printed[name] = [example(folder, path, *call.split()) for call in calls]
    assert printed["nlring"] == printed["pymnl"]
    output, errors, code = printed["nlring"][2]
    assert "dst=192.0.2.0 oif=1" in output and not errors and code == 0


def listens_to_links():
    """Whether a socket of this namespace is in the group of links."""
    with open("/proc/net/netlink") as table:
        rows = [line.split() for line in table][1:]
    return any(protocol == "0" and int(groups, 16) & 1 for _, protocol, _, groups, *_ in rows)


def heard(folder, path):
    """What the example that listens prints when the loopback device is switched on and off, until Ctrl-C."""
    listener = start_python(folder / "rtnl/rtnl-link-event.py", path=[folder / "rtnl", *path])
    try:
        wait_until(listens_to_links)
        for state in ("up", "down"):
            example(folder, path, "rtnl/rtnl-link-set.py", "lo", state)
        lines = [listener.stdout.readline() for _ in range(2)]
        listener.send_signal(signal.SIGINT)
        assert listener.wait(timeout=20) == 0, listener.stderr.read()
        return lines
    finally:
        listener.kill()
        listener.communicate()


def test_the_example_that_listens_hears_the_same_as_on_pymnl_and_ends_at_ctrl_c(pymnl, examples):
    lines = heard(examples, [])
    assert all("name=b'lo'" in line for line in lines)
    assert heard(pymnl / "examples", [pymnl]) == lines


def names_of(package, *path):
    run = run_python(TOOLS / "list_names.py", package, path=path)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# Names of pymnl whose values differ, with the reason.
OTHER_VALUES = {
    (".message", "header_format"): "the fields have no sign",
}


def test_each_name_is_there_with_its_value_and_its_parameters(pymnl):
    theirs, ours = names_of("pymnl", pymnl), names_of("nlring")
    different = {}
    for module, names in theirs.items():
        for name, value in names.items():
            own = ours[module].get(name)
            if isinstance(value, dict) and isinstance(own, dict):
                own = {method: parameters for method, parameters in own.items() if method in value}
            if own != value:
                different[module, name] = (value, own)
    assert different.keys() == OTHER_VALUES.keys(), different
