"""Runs pymnl's own tests, and prints as JSON which of them passed: {name: null or the traceback}.

    run_suite.py [--padded-lengths]    from a folder whose pymnl/tests has the tests

With --padded-lengths, nlring's attributes state their lengths as pymnl's do: with the padding.
"""

import importlib
import json
import struct
import sys
import unittest


def state_padded_lengths():
    from nlring.attributes import Attr

    def get_binary(self):
        return struct.pack("HH", len(self), self._type) + self._value.ljust(len(self) - 4, b"\0")

    Attr.get_binary = get_binary


def main():
    sys.path.insert(0, "")
    if "--padded-lengths" in sys.argv:
        state_padded_lengths()
    suite = unittest.TestSuite()
    for name in ("attributes", "genl", "message", "nlsocket"):
        module = importlib.import_module(f"pymnl.tests.{name}")
        suite.addTests(unittest.TestLoader().loadTestsFromModule(module))
    tests = [test.id() for group in suite for test in group]
    result = unittest.TestResult()
    suite.run(result)
    outcomes = dict.fromkeys(tests)
    outcomes.update((test.id(), traceback) for test, traceback in result.failures + result.errors)
    print(json.dumps({name.replace("pymnl.tests.", ""): value for name, value in outcomes.items()}))


main()
