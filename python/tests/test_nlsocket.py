"""Sockets: options, waiting, and failures as Python's own sockets report them."""

import errno
import os
import select
import signal
import socket
import struct
import threading
import time

import pytest
from conftest import run_python, start_python, wait_until

import nlring
from nlring.message import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NLMSG_NOOP, Message
from nlring.nlsocket import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_DROP_MEMBERSHIP,
    NETLINK_NO_ENOBUFS,
    NETLINK_PKTINFO,
    SOCKET_AUTOPID,
    Socket,
)

NETLINK_LIST_MEMBERSHIPS = 9
RTM_GETLINK = 18
RTNLGRP_LINK = 1


@pytest.fixture
def sock():
    with Socket(nlring.NETLINK_ROUTE) as opened:
        opened.bind()
        yield opened


def acknowledged(seq):
    """A request that does nothing and is acknowledged."""
    request = Message()
    request.set_type(NLMSG_NOOP)
    request.set_flags(NLM_F_REQUEST | NLM_F_ACK)
    request.set_seq(seq)
    request.add_payload(b"")
    return request


def link(index, seq=1):
    """A request for a device."""
    request = Message()
    request.set_type(RTM_GETLINK)
    request.set_flags(NLM_F_REQUEST)
    request.set_seq(seq)
    request.add_payload(struct.pack("BBHiII", 0, 0, 0, index, 0, 0))
    return request


def errno_of(call, *arguments):
    with pytest.raises(OSError) as caught:  # noqa: PT011, because callers look at the errno
        call(*arguments)
    return caught.value.errno


def test_an_answer_comes_with_the_number_and_the_port_id_of_its_request(sock):
    assert sock.send(acknowledged(0xFFFFFFFF)) == 16
    (answer,) = sock.recv()
    assert (answer.get_type(), answer.get_errno(), answer.get_errstr()) == (NLMSG_ERROR, 0, "Success")
    assert answer.seq_ok(0xFFFFFFFF)
    assert not answer.seq_ok(1)
    assert answer.portid_ok(sock.get_portid())
    assert not answer.portid_ok(sock.get_portid() + 1)


def test_a_refusal_of_the_kernel_is_the_errno_of_a_message(sock):
    sock.send(link(1_000_000))
    (answer,) = sock.recv()
    assert (answer.get_errno(), answer.get_errstr()) == (errno.ENODEV, "No such device")


def test_a_datagram_that_does_not_fit_is_an_error_and_a_peek_leaves_it(sock):
    sock.send(link(1))
    for flags in (socket.MSG_PEEK, 0):
        with pytest.raises(OSError, match="the datagram has [0-9]+ bytes") as caught:
            sock.recv(64, flags)
        assert caught.value.errno == errno.EMSGSIZE
    with pytest.raises(BlockingIOError):
        sock.recv(flags=socket.MSG_DONTWAIT)


def test_a_peek_returns_the_same_messages_as_the_receive_after_it(sock):
    sock.send(link(1))
    peeked = sock.recv(flags=socket.MSG_PEEK)
    assert peeked[0].get_binary() == sock.recv()[0].get_binary()


def test_recv_waits_as_the_time_out_of_get_sock_says(sock):
    sock.get_sock().settimeout(0.05)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        sock.recv()
    assert time.monotonic() - begin >= 0.05
    sock.get_sock().setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv()
    sock.get_sock().settimeout(None)
    sock.send(acknowledged(1))
    assert len(sock.recv()) == 1


def test_get_sock_is_the_same_netlink_socket(sock):
    shared = sock.get_sock()
    assert shared is sock.get_sock()
    assert (shared.family, shared.getsockname()) == (socket.AF_NETLINK, (sock.get_portid(), 0))
    shared.send(acknowledged(7).get_binary())
    assert select.select([sock], [], [], 10)[0] == [sock]
    assert sock.recv()[0].get_seq() == 7
    sock.close()
    assert shared.fileno() == -1


def test_groups_are_joined_by_mask_and_by_number():
    with Socket(nlring.NETLINK_ROUTE) as sock:
        assert sock.get_portid() == 0
        sock.bind(SOCKET_AUTOPID, 0x80000001)
        sock.setsockopt(NETLINK_ADD_MEMBERSHIP, 33)
        sock.setsockopt(NETLINK_ADD_MEMBERSHIP, struct.pack("I", 3))
        assert sock.get_groups() == 0x80000005
        words = sock.getsockopt(NETLINK_LIST_MEMBERSHIPS, 8)
        assert struct.unpack("II", words) == (0x80000005, 1)
        sock.setsockopt(NETLINK_DROP_MEMBERSHIP, 32)
        assert sock.get_groups() == 5


def test_options_are_numbers_or_bytes(sock):
    assert sock.getsockopt(NETLINK_PKTINFO) == 0
    sock.setsockopt(NETLINK_PKTINFO, 1)
    assert sock.getsockopt(NETLINK_PKTINFO) == 1
    sock.setsockopt(NETLINK_PKTINFO, bytearray(4))
    assert sock.getsockopt(NETLINK_PKTINFO, 4) == bytes(4)


def test_an_overrun_is_enobufs_once_and_the_socket_goes_on(sock):
    sock.get_sock().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for seq in range(100):
        sock.send(acknowledged(seq))
    assert errno_of(sock.recv) == errno.ENOBUFS
    received = 0
    with pytest.raises(BlockingIOError):
        while True:
            received += len(sock.recv(flags=socket.MSG_DONTWAIT))
    assert 0 < received < 100
    sock.setsockopt(NETLINK_NO_ENOBUFS, 1)
    for seq in range(100):
        sock.send(acknowledged(seq))
    assert len(sock.recv()) == 1


def test_failures_are_those_of_pythons_own_sockets(sock):
    assert errno_of(Socket, 31) == errno.EPROTONOSUPPORT
    with Socket(nlring.NETLINK_ROUTE) as other:
        assert errno_of(other.bind, sock.get_portid()) == errno.EADDRINUSE
    assert errno_of(sock.setsockopt, NETLINK_ADD_MEMBERSHIP, 1_000_000) == errno.EINVAL
    assert errno_of(sock.setsockopt, 77, 1) == errno.ENOPROTOOPT
    assert errno_of(sock.getsockopt, 77) == errno.ENOPROTOOPT
    assert errno_of(sock.send, bytes(1 << 20)) == errno.EMSGSIZE
    for call, error in [
        (lambda: Socket(1 << 40), OverflowError),
        (lambda: Socket("route"), TypeError),
        (lambda: sock.bind(-1), OverflowError),
        (lambda: sock.bind(0, 1 << 32), OverflowError),
        (lambda: sock.recv(-1), ValueError),
        (lambda: sock.recv(flags=1 << 31), OverflowError),
        (lambda: sock.send("text"), TypeError),
        (lambda: sock.send(None), TypeError),
        (lambda: sock.setsockopt(NETLINK_PKTINFO, 1 << 31), OverflowError),
        (lambda: sock.setsockopt(NETLINK_PKTINFO, "on"), TypeError),
        (lambda: sock.getsockopt(NETLINK_PKTINFO, -1), OSError),
        (lambda: sock.getsockopt(NETLINK_PKTINFO, 1025), OSError),
    ]:
        with pytest.raises(error):
            call()


def in_child(function):
    """Runs a function in a forked process, and returns its exit code: 0 if it returned."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_group_without_the_right_to_it_is_a_permission_error_that_names_the_capability():
    def join_as_nobody():
        os.setuid(65534)
        with Socket(nlring.NETLINK_NETFILTER) as sock:
            with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
                sock.bind(0, 1)
            with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
                sock.setsockopt(NETLINK_ADD_MEMBERSHIP, 1)

    with open("/proc/self/uid_map") as uid_map:
        users = int(uid_map.read().split()[2])
    if os.getuid() != 0 or users <= 65534:
        pytest.skip("SKIP: only root can become another user")
    assert in_child(join_as_nobody) == 0


def test_a_closed_socket_is_ebadf_and_a_second_close_does_nothing():
    sock = Socket(nlring.NETLINK_ROUTE)
    sock.close()
    sock.close()
    assert (sock.fileno(), repr(sock)) == (-1, "<nlring.nlsocket.Socket closed>")
    for call in [
        sock.bind, sock.get_portid, sock.get_groups, sock.recv, sock.get_sock,
        lambda: sock.send(b"1234"),
        lambda: sock.getsockopt(NETLINK_PKTINFO),
        lambda: sock.setsockopt(NETLINK_PKTINFO, 1),
    ]:
        assert errno_of(call) == errno.EBADF


def test_close_ends_the_receives_that_wait_in_other_threads():
    sock = Socket(nlring.NETLINK_ROUTE)
    sock.bind()
    ends = []
    threads = [start_thread(lambda: ends.append(errno_of(sock.recv))) for _ in range(4)]
    wait_until(lambda: all(sleeps_in_poll(thread) for thread in threads))
    sock.close()
    for thread in threads:
        thread.join(timeout=20)
    assert ends == [errno.EBADF] * 4


def start_thread(function, *arguments):
    """A thread that does not keep the tests from ending."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def sleeps_in_poll(thread):
    """Whether a thread waits in poll(2)."""
    with open(f"/proc/self/task/{thread.native_id}/wchan") as file:
        return "poll" in file.read()


def test_threads_that_share_a_socket_receive_each_answer_once(sock):
    count, received = 100, []  # so few that the receive queue holds them all

    def receive():
        while True:
            (answer,) = sock.recv()
            received.append(answer.get_seq())
            if len(received) == count:
                sock.close()

    def receive_until_closed():
        assert errno_of(receive) == errno.EBADF

    def send(first):
        for seq in range(first, count, 2):
            sock.send(acknowledged(seq))

    threads = [start_thread(receive_until_closed) for _ in range(4)]
    threads += [start_thread(send, first) for first in range(2)]
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(received) == list(range(count))


def test_a_signal_that_is_handled_does_not_end_a_receive(sock):
    def send_later(_signal, _frame):
        sock.send(acknowledged(5))

    previous = signal.signal(signal.SIGALRM, send_later)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert sock.recv()[0].get_seq() == 5
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_ctrl_c_ends_a_receive_at_once(tmp_path):
    program = tmp_path / "receive.py"
    program.write_text("import nlring.nlsocket as n\ns = n.Socket(0)\ns.bind()\nprint('ready')\ns.recv()\n")
    receiver = start_python(program)
    try:
        assert receiver.stdout.readline() == "ready\n"
        receiver.send_signal(signal.SIGINT)
        _, errors = receiver.communicate(timeout=20)
    finally:
        receiver.kill()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert receiver.returncode == -signal.SIGINT


def test_after_a_fork_both_processes_have_the_socket(sock):
    def ask():
        sock.send(acknowledged(11))
        assert sock.recv()[0].get_seq() == 11

    assert in_child(ask) == 0
    ask()


def test_a_child_that_closes_its_copy_does_not_end_the_wait_of_its_parent(sock):
    received = []
    thread = start_thread(lambda: received.append(sock.recv()[0].get_seq()))
    wait_until(lambda: sleeps_in_poll(thread))
    for _ in range(3):
        assert in_child(sock.close) == 0
    assert thread.is_alive()
    sock.send(acknowledged(12))
    thread.join(timeout=20)
    assert received == [12]


def test_close_ends_a_receive_that_waits_in_a_child(sock):
    def close_while_waiting():
        ends = []
        thread = start_thread(lambda: ends.append(errno_of(sock.recv)))
        wait_until(lambda: sleeps_in_poll(thread))
        sock.close()
        thread.join(timeout=20)
        assert ends == [errno.EBADF]

    assert in_child(close_while_waiting) == 0
    sock.send(acknowledged(13))
    assert sock.recv()[0].get_seq() == 13


@pytest.mark.parametrize("body", [
    "sock.get_sock()",
    "threading.Thread(target=sock.recv, daemon=True).start()",
    # Answers arrive while the interpreter ends.
    "def work():\n"
    "  while True:\n"
    "    sock.send(request)\n"
    "    sock.recv()\n"
    "for _ in range(4): threading.Thread(target=work, daemon=True).start()\n"
    "time.sleep(0.05)",
], ids=["idle", "waiting", "busy"])
def test_the_interpreter_ends_quietly_while_a_socket_is_in_use(tmp_path, body):
    program = tmp_path / "end.py"
    program.write_text(
        "import threading, time, nlring\n"
        "from nlring.nlsocket import Socket\n"
        f"request = {acknowledged(1).get_binary()!r}\n"
        "sock = Socket(nlring.NETLINK_ROUTE)\n"
        "sock.bind()\n" + body
    )
    for _ in range(5):
        run = run_python(program)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_thousand_sockets_leave_no_descriptors_behind():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for number in range(1000):
        sock = Socket(nlring.NETLINK_ROUTE)
        if number % 2:
            sock.get_sock()
            sock.close()
    del sock
    assert descriptors() == before
