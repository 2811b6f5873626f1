"""The examples of docs/python-events.md."""

import os
import re
import select
import signal

import pytest
from events import await_listeners, begin_flows, enter_namespace, python

DOCS = os.path.join(os.path.dirname(__file__), "../../docs/python-events.md")
with open(DOCS) as page:
    EXAMPLES = re.findall(r"^```python\n(.*?)^```", page.read(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_prints_the_events(example):
    enter_namespace()
    process = python(example)
    try:
        await_listeners(1)
        begin_flows(3, first_port=1000)
        readable, _, _ = select.select([process.stdout], [], [], 30)
        assert readable, "it printed nothing"
        assert re.match(r"new udp 127.0.0.1 1000|[1-3] ", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert err.strip().endswith("KeyboardInterrupt")
    finally:
        process.kill()
