"""The receiver, on events of the real kernel."""

import contextlib
import gc
import os
import random
import signal
import socket
import threading
import time

import nlring
import pytest
from events import begin_flows, change_routes, enter_namespace, finish, make_network, ports, python


@pytest.fixture(autouse=True)
def namespace():
    enter_namespace()


def receive(receiver, count):
    """Takes items until they have this many events or lost datagrams."""
    items, seen = [], 0
    while seen < count:
        item = next(receiver)
        items.append(item)
        seen += item.count if isinstance(item, nlring.Gap) else len(item)
    return items


def test_each_event_comes_once_in_order():
    with nlring.Receiver("conntrack", timeout=10) as receiver:
        begin_flows(5000)
        batches = receive(receiver, 5000)
        assert [port for batch in batches for port in ports(batch)] == list(range(1, 5001))
        assert receiver.statistics.received == receiver.statistics.messages == 5000
        assert receiver.statistics.dropped == receiver.statistics.undecoded == 0


def test_a_flow_has_the_names_of_the_json():
    with nlring.Receiver("conntrack", timeout=10) as receiver:
        begin_flows(1, first_port=53)
        flow = next(receiver)[-1]
        assert (flow.event, flow.family, flow.proto, flow.state) == ("new", "ipv4", "udp", None)
        assert (flow.orig.src, flow.orig.dst, flow.orig.dport) == ("127.0.0.1", "127.0.0.1", 53)
        assert flow.reply.sport == 53 and flow.reply != flow.orig and flow.orig == flow.orig
        assert flow.status == ["confirmed"] and flow.status_bits == 8
        assert flow.timeout_s == 30 and flow.mark is flow.zone is flow.nat is None
        assert repr(flow).startswith("<Flow new udp 127.0.0.1:") and "53" in repr(flow.orig)
        facts = flow.to_dict()
        assert facts["orig"] == {
            "src": "127.0.0.1",
            "dst": "127.0.0.1",
            "sport": flow.orig.sport,
            "dport": 53,
        }
        assert facts["time_ns"] == flow.time_ns and abs(time.time_ns() - flow.time_ns) < 60e9
        assert flow.to_json().startswith('{"event":"new",')


@pytest.mark.parametrize("batches", ["decoded", "columns", "messages"])
def test_losses_are_items_at_their_place_and_everything_is_counted(batches):
    offered = 3000
    with nlring.Receiver("conntrack", recv_buffer_bytes=16 << 10, batches=batches, timeout=10) as receiver:
        begin_flows(offered)  # nobody reads: most of it does not fit
        items = receive(receiver, offered)
        gaps = [item for item in items if isinstance(item, nlring.Gap)]
        received = sum(len(item) for item in items if not isinstance(item, nlring.Gap))
        assert gaps and {gap.event for gap in gaps} == {"lost"}
        assert received + sum(gap.count for gap in gaps) == offered
        assert receiver.statistics.dropped == sum(gap.count for gap in gaps)
        assert receiver.statistics.received == received > 0
        for gap in gaps:
            assert 0 < gap.since_ns <= gap.until_ns
            assert "LOST" in str(gap) and gap.to_dict()["count"] == gap.count
        begin_flows(10, first_port=10_000)
        assert sum(len(batch) for batch in receive(receiver, 10)) == 10, "the stream continues"


def test_a_filter_is_evaluated_by_the_kernel():
    with nlring.Receiver("conntrack", filter="proto udp and dport 443", timeout=10) as receiver:
        begin_flows(1000)
        assert ports(next(receiver)) == [443]
        assert receiver.statistics.received == 1, "the others were not even sent"


def test_a_batch_ends_by_rows_or_by_age():
    with nlring.Receiver("conntrack", batch_rows=100, batch_seconds=60, timeout=10) as receiver:
        begin_flows(1000)
        lengths = [len(batch) for batch in receive(receiver, 1000)]
        assert min(lengths) >= 100
    with nlring.Receiver("conntrack", batch_seconds=0.2, timeout=10) as receiver:
        receiver.poll()
        threading.Timer(0.05, begin_flows, (5, 2000)).start()
        begin_flows(5, first_port=1000)
        began = time.monotonic()
        assert len(next(receiver)) == 10, "the second five came while the batch was open"
        assert time.monotonic() - began < 5


def test_a_timeout_raises_and_the_receiver_goes_on():
    with nlring.Receiver("conntrack", timeout=0.05) as receiver:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            next(receiver)
        assert 0.04 < time.monotonic() - began < 5
        begin_flows(1)
        receiver.timeout = 10
        assert receiver.timeout == 10
        assert len(next(receiver)) == 1
        assert receiver.poll() is None


def test_an_exception_in_the_loop_leaves_the_receiver_usable():
    with nlring.Receiver("conntrack", timeout=10) as receiver:
        begin_flows(10)
        with pytest.raises(ZeroDivisionError):
            for batch in receiver:
                1 / 0
        begin_flows(10, first_port=100)
        assert ports(receive(receiver, 10)[-1])[-1] == 109


@pytest.mark.parametrize("wait", ["auto", "prompt", "spin", 0, 0.002])
@pytest.mark.parametrize("backend", ["multishot", "oneshot", "recvmmsg"])
def test_each_way_to_wait_and_to_receive(wait, backend):
    try:
        receiver = nlring.Receiver("conntrack", wait=wait, backend=backend, timeout=10)
    except OSError as error:
        pytest.skip(f"SKIP: {error}")
    with receiver:
        begin_flows(100)
        assert sum(map(len, receive(receiver, 100))) == 100
        assert receiver.backend.startswith(backend) and receiver.backend_reason
        gathers = wait not in ("prompt", "spin")
        assert (receiver.longest_delay is not None) == gathers


def test_another_namespace():
    with open("/proc/thread-self/ns/net") as first:
        enter_namespace()
        path = f"/proc/{os.getpid()}/fd/{first.fileno()}"
        with nlring.Receiver("conntrack", timeout=0.1, netns=path) as receiver:
            begin_flows(3)
            with pytest.raises(TimeoutError):
                next(receiver)  # these flows are here, and not there
    with pytest.raises(FileNotFoundError):
        nlring.Receiver("conntrack", netns="no-such-namespace")


def test_stop_hands_out_what_is_queued_and_ends():
    with nlring.Receiver("conntrack", timeout=10) as receiver:
        receiver.poll()
        begin_flows(1000)
        receiver.stop()
        assert sum(len(batch) for batch in receiver) == 1000
        assert receiver.closed and list(receiver) == []
    with nlring.Receiver("conntrack") as receiver:
        threading.Timer(0.1, receiver.stop).start()
        assert list(receiver) == [], "it ends a wait in another thread"


def test_close_counts_what_was_not_read():
    receiver = nlring.Receiver("conntrack")
    receiver.poll()
    begin_flows(100)
    receiver.close()
    receiver.close()
    statistics = receiver.statistics
    assert (statistics.received + statistics.unread, statistics.dropped) == (100, 0)
    assert receiver.closed and list(receiver) == [] and receiver.poll() is None
    with pytest.raises(ValueError, match="closed"):
        receiver.fileno()


def test_only_one_thread_receives():
    failures = []

    def iterate(receiver):
        try:
            next(receiver)
        except RuntimeError as error:
            failures.append(str(error))

    with nlring.Receiver("conntrack", timeout=10) as receiver:
        receiver.poll()
        thread = threading.Thread(target=iterate, args=(receiver,))
        thread.start()
        thread.join()
        assert len(failures) == 1 and "another thread" in failures[0]
        begin_flows(1)
        assert len(next(receiver)) == 1, "the first thread goes on"


def test_a_receiver_can_be_made_here_and_used_in_another_thread():
    receiver = nlring.Receiver("conntrack", timeout=10)
    batches = []
    thread = threading.Thread(target=lambda: batches.append(next(receiver)))
    begin_flows(7)
    thread.start()
    thread.join()
    assert len(batches[0]) == 7
    assert receiver.statistics.received == 7, "every thread may read the statistics"
    receiver.close()


def test_other_threads_run_while_a_receiver_waits():
    ticks = []

    def tick():
        while len(ticks) < 20:
            ticks.append(time.monotonic())
            time.sleep(0.005)
        receiver.stop()

    with nlring.Receiver("conntrack") as receiver:
        thread = threading.Thread(target=tick)
        thread.start()
        assert list(receiver) == []
        thread.join()
    assert max(after - before for before, after in zip(ticks, ticks[1:])) < 1


def test_a_fork_gets_an_error_and_the_parent_goes_on():
    for is_started in (False, True):
        with nlring.Receiver("conntrack", timeout=10) as receiver:
            if is_started:
                receiver.poll()
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    next(receiver)
                except OSError as error:
                    status = 0 if "fork" in str(error) else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            begin_flows(3, first_port=1 + 10 * is_started)
            assert len(next(receiver)) == 3


def test_ctrl_c_ends_a_wait_at_once():
    script = """
import nlring, time
receiver = nlring.Receiver("conntrack")
print("ready", flush=True)
try:
    next(receiver)
except KeyboardInterrupt:
    print(time.monotonic_ns())
"""
    for pause in (0.02, 0.07, 0.2):
        process = python(script)
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)  # so that the signal comes at different moments of the wait
        sent_at = time.monotonic_ns()
        process.send_signal(signal.SIGINT)
        assert int(finish(process)) - sent_at < 100e6


@pytest.mark.parametrize(
    "script",
    [
        "receiver = nlring.Receiver('conntrack')",
        "receiver = nlring.Receiver('conntrack'); receiver.poll()",
        "receiver = nlring.Receiver('conntrack'); receiver.fileno()",
        "items = [nlring.Receiver('conntrack')]; items[0].poll(); items.append(items)",
        "import threading\n"
        "receiver = nlring.Receiver('conntrack')\n"
        "threading.Thread(target=lambda: next(receiver), daemon=True).start()",
        "import threading\n"
        "receiver = nlring.Receiver('conntrack')\n"
        "thread = threading.Thread(target=receiver.poll); thread.start(); thread.join()",
        "import atexit\nreceiver = nlring.Receiver('conntrack'); atexit.register(receiver.poll)",
    ],
)
def test_the_interpreter_ends_with_a_live_receiver(script):
    assert finish(python("import nlring\n" + script)) == ""


def descriptor_count():
    return len(os.listdir("/proc/self/fd"))


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_receiver_that_is_dropped_closes_its_socket():
    nlring.Receiver("conntrack").poll()  # the first one may keep something
    gc.collect()
    before = descriptor_count()
    receiver = nlring.Receiver("conntrack")
    for _ in range(3):
        receiver.poll()
    assert descriptor_count() > before
    del receiver
    gc.collect()
    assert descriptor_count() == before
    receiver = nlring.Receiver("conntrack", timeout=10)
    thread = threading.Thread(target=receiver.poll)
    thread.start()
    thread.join()
    del receiver
    gc.collect()
    assert descriptor_count() == before, "also one of a thread that has ended"


def test_a_thousand_receivers_leave_nothing_behind():
    def use():
        with nlring.Receiver("conntrack") as receiver:
            receiver.poll()

    for _ in range(100):
        use()
    descriptors, memory = descriptor_count(), resident_bytes()
    for _ in range(1000):
        use()
    assert descriptor_count() == descriptors
    assert resident_bytes() - memory < 4 << 20


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (("contrack",), {}, ValueError, "there is no source"),
        ((None,), {}, TypeError, ""),
        ((2.5,), {}, TypeError, ""),
        ((77,), {"groups": [1]}, OSError, ""),
        ((2,), {}, ValueError, "at least one group"),
        (("conntrack", ["neu"]), {}, ValueError, "new, update, destroy"),
        (("conntrack", [0]), {}, ValueError, "from 1"),
        (("conntrack", []), {}, ValueError, "at least one group"),
        (("conntrack", [-1]), {}, (TypeError, OverflowError), ""),
        (("conntrack", "new"), {}, (TypeError, ValueError), ""),
        (("conntrack", 1), {}, TypeError, ""),
        (("conntrack", [1_000_000]), {"batches": "messages"}, OSError, ""),
        (("conntrack", ["expect-new"]), {}, ValueError, "messages"),
        (("route", ["link"]), {"batches": "columns"}, ValueError, "messages"),
        (("conntrack",), {"batches": "rows"}, ValueError, "decoded"),
        (("conntrack",), {"filter": "dport http"}, ValueError, "expected a number"),
        (("conntrack",), {"filter": 443}, TypeError, ""),
        ((2, [1]), {"filter": "dport 443"}, ValueError, "have filters"),
        (("conntrack",), {"wait": "soon"}, ValueError, "prompt"),
        (("conntrack",), {"wait": -1}, ValueError, "wait"),
        (("conntrack",), {"wait": float("nan")}, ValueError, "wait"),
        (("conntrack",), {"timeout": -0.1}, ValueError, "timeout"),
        (("conntrack",), {"timeout": "1"}, TypeError, ""),
        (("conntrack",), {"recv_buffer_bytes": 0}, ValueError, ""),
        (("conntrack",), {"recv_buffer_bytes": -1}, OverflowError, ""),
        (("conntrack",), {"recv_buffer_bytes": 1 << 40}, ValueError, ""),
        (("conntrack",), {"batch_rows": 0}, ValueError, "batch_rows"),
        (("conntrack",), {"batch_rows": 1 << 30}, ValueError, "batch_rows"),
        (("conntrack",), {"batch_seconds": -1}, ValueError, "batch_seconds"),
        (("conntrack",), {"backend": "epoll"}, ValueError, "multishot"),
        (("conntrack",), {"netns": "/etc/passwd"}, ValueError, ""),
        (("conntrack",), {"netns": "/no/such/file"}, FileNotFoundError, ""),
        (("conntrack",), {"colour": "blue"}, TypeError, ""),
        ((), {}, TypeError, ""),
    ],
)
def test_bad_arguments(arguments, keywords, error, text):
    with pytest.raises(error, match=text or None):
        nlring.Receiver(*arguments, **keywords)


def test_hostile_arguments_raise_what_python_expects():
    draw = random.Random(20_251)
    numbers = [0, 1, -1, 12, 2**31, 2**32, 2**63, 2**64, 1.5, float("nan"), float("inf"), 1e300, True]
    texts = ["", "route", "new", "\ud800", "proto tcp and", "(" * 500, "dport 1", "/", "auto", "recvmmsg", "columns"]
    values = [*numbers, *texts, None, b"x", [], [1], ["new"], [1, "x"], {}, object(), (1, 2)]
    names = ["groups", "batches", "filter", "wait", "timeout", "netns"]
    names += ["recv_buffer_bytes", "batch_rows", "batch_seconds"]
    expected = (OSError, ValueError, TypeError, OverflowError)
    made = 0
    for _ in range(3000):
        source = draw.choice(["conntrack", "route", draw.choice(values)])
        keywords = {name: draw.choice(values) for name in draw.sample(names, draw.randrange(4))}
        with contextlib.suppress(*expected), nlring.Receiver(source, **keywords) as receiver:
            made += 1
            receiver.poll()
            receiver.fileno()
            receiver.timeout = draw.choice(values)
    assert made > 300


def test_without_the_capability_it_is_a_permission_error():
    script = """
import ctypes, nlring
libc = ctypes.CDLL(None)
assert libc.prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP: CAP_NET_ADMIN
import os, sys
os.execv(sys.executable, [sys.executable, "-c", '''
import nlring
try:
    nlring.Receiver("conntrack")
except PermissionError as error:
    assert error.errno in (1, 13) and "CAP_NET_ADMIN" in str(error)
    print("denied")
nlring.Receiver("route").poll()
'''])
"""
    assert finish(python(script)) == "denied\n"


def test_messages_of_any_protocol():
    with nlring.Receiver(2, [5], batches="messages", timeout=0.2) as receiver:  # NETLINK_USERSOCK
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) as sender:
            sender.bind((0, 0))
            header = (20).to_bytes(4, "little") + bytes(12)
            with contextlib.suppress(ConnectionRefusedError):  # the kernel delivers it nevertheless
                sender.sendto(header + b"data", (0, 1 << 4))
        with pytest.raises(TimeoutError):
            next(receiver)
        assert receiver.statistics.foreign == 1, "a sender that is not the kernel"
    with nlring.Receiver("conntrack", batches="messages", timeout=10) as receiver:
        begin_flows(3)
        batch = receive(receiver, 3)[0]
        assert all(len(message) == int.from_bytes(message[:4], "little") for message in batch)
        assert batch[0] == next(iter(batch)) and batch[-1] == list(batch)[-1]
        assert batch.time_ns > 0
        with pytest.raises(IndexError):
            batch[len(batch)]
        with pytest.raises(IndexError):
            batch[-len(batch) - 1]


def test_routes():
    make_network()
    with nlring.Receiver("route", ["ipv4-route"], timeout=10) as receiver:
        change_routes()
        routes = [route for batch in receive(receiver, 3) for route in batch]
        added, multipath, deleted = routes
        assert (added.event, added.dst, added.gateway) == ("new", "10.1.0.0/16", "10.0.0.2")
        assert added.metrics == {"mtu": 1400} and added.table == 254 and added.protocol == "boot"
        assert [hop["gateway"] for hop in multipath.nexthops] == ["10.0.0.2", "10.0.0.3"]
        assert multipath.table == 1000 and multipath.nexthop_id is None
        assert (deleted.event, deleted.dst) == ("delete", "10.1.0.0/16")
        assert repr(added) == "<Route new 10.1.0.0/16 via 10.0.0.2 table 254>"
        assert added.to_dict()["type"] == added.type == "unicast"
