"""Prints the public names of a package as JSON: {module: {name: what it is}}.

    list_names.py PACKAGE

What it is: the value of a number, a text or bytes; the parameters of a function; the methods of a class.
"""

import importlib
import inspect
import json
import sys
import types


def parameters(function):
    """The parameters with their defaults, without types."""
    found = inspect.signature(function).parameters.values()
    return [
        [name.name, None if name.default is name.empty else repr(name.default)] for name in found
    ]


def describe(value):
    if isinstance(value, type):
        methods = {}
        for base in reversed(value.__mro__[:-1]):
            for name in vars(base):
                is_public = not name.startswith("_") or name in ("__init__", "__len__")
                if is_public and callable(getattr(value, name)) and base not in (list, dict):
                    methods[name] = parameters(getattr(value, name))
        return methods
    if isinstance(value, types.FunctionType):
        return parameters(value)
    return repr(value)


def main():
    package = sys.argv[1]
    names = {}
    for module_name in ("", ".nlsocket", ".message", ".attributes", ".genl"):
        module = importlib.import_module(package + module_name)
        names[module_name] = {
            name: describe(value)
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not isinstance(value, types.ModuleType)
            and getattr(value, "__module__", package).startswith(package)
        }
    print(json.dumps(names))


main()
