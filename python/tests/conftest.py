"""What the tests share."""

import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

import pytest


# Where no network namespace can be made, the tests do not change the machine's own one.
HAS_NAMESPACE = "NLRING_NO_NAMESPACE" not in os.environ
CHANGE_LINKS = ("test_pymnl.py", "test_readme.py")

# A shell starts a job in the background with SIGINT ignored, and the programs of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if not HAS_NAMESPACE and item.path.name in CHANGE_LINKS:
            item.add_marker(pytest.mark.skip(reason="SKIP: needs a network namespace"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With NLRING_STRICT=1 a skip is a failure, except where no namespace can be made."""
    report = yield
    if report.skipped and HAS_NAMESPACE and os.environ.get("NLRING_STRICT") == "1":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def pymnl(tmp_path_factory):
    """A folder with pymnl's source package: the package `pymnl` with its tests, and its examples."""
    archive = os.environ.get("NLRING_PYMNL")
    assert archive, "run scripts/test-python, which downloads pymnl"
    folder = tmp_path_factory.mktemp("pymnl")
    with tarfile.open(archive) as files:
        files.extractall(folder, **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    return folder / "pymnl-0.6"


def run_python(*arguments, path=(), cwd=None, **options):
    """Runs the interpreter of these tests, and returns what it did. `path` is searched for modules first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, **options,
    )


def start_python(*arguments, path=(), cwd=None):
    """Starts the interpreter of these tests, with its output unbuffered."""
    variables = {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **variables}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def wait_until(condition, seconds=20):
    """Waits until a condition holds, and fails if it does not within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{condition.__name__} did not become true"
        time.sleep(0.01)


HERE = pathlib.Path(__file__).parent
