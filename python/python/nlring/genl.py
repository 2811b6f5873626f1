"""Generic netlink: its extra header, and a parser for what its controller says about a family.

`GENL_ID_CTRL` is the type of messages to the controller, `CTRL_CMD_*` are its commands, and `CTRL_ATTR_*` are the types
of its attributes, also inside operations (`CTRL_ATTR_OP_*`) and multicast groups (`CTRL_ATTR_MCAST_GRP_*`).
`GENL_NAMSIZ` is the size in bytes of the longest name of a family, with its NUL.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from nlring._binary import HasBinary, is_unsigned
from nlring.attributes import Attr, AttrParser
from nlring.message import NLMSG_MIN_TYPE

GENL_NAMSIZ = 16

GENL_MIN_ID = NLMSG_MIN_TYPE
GENL_MAX_ID = 1023

GENL_ADMIN_PERM = 0x01
GENL_CMD_CAP_DO = 0x02
GENL_CMD_CAP_DUMP = 0x04
GENL_CMD_CAP_HASPOL = 0x08

GENL_ID_GENERATE = 0
GENL_ID_CTRL = NLMSG_MIN_TYPE

CTRL_CMD_UNSPEC = 0
CTRL_CMD_NEWFAMILY = 1
CTRL_CMD_DELFAMILY = 2
CTRL_CMD_GETFAMILY = 3
CTRL_CMD_NEWOPS = 4
CTRL_CMD_DELOPS = 5
CTRL_CMD_GETOPS = 6
CTRL_CMD_NEWMCAST_GRP = 7
CTRL_CMD_DELMCAST_GRP = 8
CTRL_CMD_GETMCAST_GRP = 9
CTRL_CMD_MAX = 10

CTRL_ATTR_UNSPEC = 0
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2
CTRL_ATTR_VERSION = 3
CTRL_ATTR_HDRSIZE = 4
CTRL_ATTR_MAXATTR = 5
CTRL_ATTR_OPS = 6
CTRL_ATTR_MCAST_GROUPS = 7
CTRL_ATTR_MAX = 8

CTRL_ATTR_OP_UNSPEC = 0
CTRL_ATTR_OP_ID = 1
CTRL_ATTR_OP_FLAGS = 2
CTRL_ATTR_OP_MAX = 3

CTRL_ATTR_MCAST_GRP_UNSPEC = 0
CTRL_ATTR_MCAST_GRP_NAME = 1
CTRL_ATTR_MCAST_GRP_ID = 2
CTRL_ATTR_MCAST_GRP_MAX = 3


class GenlMessageHeader:
    """The extra header of a message of generic netlink: a command, and the version of the family's interface.

    >>> GenlMessageHeader(CTRL_CMD_GETFAMILY, 1).get_binary()
    b'\\x03\\x01\\x00\\x00'
    """

    def __init__(self, command: int | None = None, version: int | None = None) -> None:
        """Makes a header. What is None here must be set before `get_binary()`."""
        self._command = command
        self._version = version

    def __len__(self) -> int:
        """The size in bytes, which is 4."""
        return 4

    def __repr__(self) -> str:
        return f"GenlMessageHeader(command={self._command}, version={self._version})"

    def set_command(self, command: int) -> None:
        """Sets the command, a number from 0 to 255 that the family defines."""
        self._command = command

    def set_version(self, version: int) -> None:
        """Sets the version, a number from 0 to 255."""
        self._version = version

    def get_binary(self) -> bytes:
        """The header as it is sent. Raises ValueError unless command and version are numbers from 0 to 255."""
        for name, number in (("command", self._command), ("version", self._version)):
            if number is None or not is_unsigned(number, 8):
                raise ValueError(f"the {name} is a number from 0 to 255, not {number}")
        return pack("BBH", self._command, self._version, 0)


class GenlFamilyAttrParser(AttrParser):
    """Reads what the controller says about a family of generic netlink, the answer to `CTRL_CMD_GETFAMILY`.

    The result is a dictionary. A key is missing if its attribute is.

    - `id`, `version`, `hdrsize`, `maxattr`: numbers
    - `name`: bytes, without the NUL
    - `ops`: a dictionary from the numbers of operations to their flags, `GENL_*`
    - `groups`: a dictionary from the numbers of multicast groups to their names, in bytes
    - `unmatched`: a list of the other attributes
    """

    def __init__(self, data_obj: HasBinary | None = None, offset: int = 0) -> None:
        """Parses `data_obj` at once if there is one, as `parse` does; `get_attrs()` then has the result."""
        super().__init__()
        self._attributes: dict[str, Any] = {"unmatched": []}
        self._cb = {
            CTRL_ATTR_FAMILY_ID: self.ctrl_attr_family_id,
            CTRL_ATTR_FAMILY_NAME: self.ctrl_attr_family_name,
            CTRL_ATTR_VERSION: self.ctrl_attr_version,
            CTRL_ATTR_HDRSIZE: self.ctrl_attr_hdrsize,
            CTRL_ATTR_MAXATTR: self.ctrl_attr_maxattr,
            CTRL_ATTR_OPS: self.ctrl_attr_ops,
            CTRL_ATTR_MCAST_GROUPS: self.ctrl_attr_mcast_groups,
        }
        if data_obj:
            self.parse(data_obj, offset)

    def ctrl_attr_family_id(self, attr: Attr) -> None:
        """Keeps the family's number."""
        self._attributes["id"] = attr.get_u16()

    def ctrl_attr_family_name(self, attr: Attr) -> None:
        """Keeps the family's name."""
        self._attributes["name"] = attr.get_str_stripped()

    def ctrl_attr_version(self, attr: Attr) -> None:
        """Keeps the version of the family's interface."""
        self._attributes["version"] = attr.get_u32()

    def ctrl_attr_hdrsize(self, attr: Attr) -> None:
        """Keeps the size of the family's own header, in bytes."""
        self._attributes["hdrsize"] = attr.get_u32()

    def ctrl_attr_maxattr(self, attr: Attr) -> None:
        """Keeps the highest type of the family's attributes."""
        self._attributes["maxattr"] = attr.get_u32()

    def ctrl_attr_ops(self, attr: Attr) -> None:
        """Keeps the operations with their flags. One without a number is left out."""
        no_flags = Attr.new_u32(CTRL_ATTR_OP_FLAGS, 0)
        operations = {}
        for operation in self._entries(attr):
            if CTRL_ATTR_OP_ID in operation:
                flags = operation.get(CTRL_ATTR_OP_FLAGS, no_flags)
                operations[operation[CTRL_ATTR_OP_ID].get_u32()] = flags.get_u32()
        self._attributes["ops"] = operations

    def ctrl_attr_mcast_groups(self, attr: Attr) -> None:
        """Keeps the multicast groups with their names. One without a number or a name is left out."""
        groups = {}
        for group in self._entries(attr):
            if CTRL_ATTR_MCAST_GRP_ID in group and CTRL_ATTR_MCAST_GRP_NAME in group:
                name = group[CTRL_ATTR_MCAST_GRP_NAME].get_str_stripped()
                groups[group[CTRL_ATTR_MCAST_GRP_ID].get_u32()] = name
        self._attributes["groups"] = groups

    def _entries(self, attr: Attr) -> list[dict[int, Attr]]:
        """The attributes of each entry of a nested list, by type."""
        entries = self.parse_nested(attr)
        return [{inner.get_type(): inner for inner in self.parse_nested(entry)} for entry in entries]

    def parse(self, data_obj: HasBinary, offset: int = 0) -> dict[str, Any]:
        """Reads the attributes of a payload, and returns the dictionary.

        data_obj: an object with attributes and `get_binary()`, such as the `Payload` of an answer.
        offset: where its attributes begin, which is `len(GenlMessageHeader())`.
        """
        self._attributes["unmatched"] += super().parse(data_obj, offset)
        return self._attributes
