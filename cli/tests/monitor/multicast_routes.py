"""Adds multicast routes between the devices br0 and v1, as a multicast routing daemon does, and deletes some of them
(include/uapi/linux/mroute.h and mroute6.h)."""
import socket
import struct

ADD_VIF, ADD_MFC, DELETE_MFC = 202, 204, 205  # and the same numbers for IPv6
BY_INDEX = 8  # VIFF_USE_IFINDEX
indexes = [socket.if_nametoindex(name) for name in ("br0", "v1")]

ipv4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
ipv4.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT
for number, index in enumerate(indexes):
    vif = struct.pack("@HBBIiI", number, BY_INDEX, 1, 0, index, 0)
    ipv4.setsockopt(socket.IPPROTO_IP, ADD_VIF, vif)


def ipv4_route(option, origin, group, ttl):
    entry = socket.inet_aton(origin) + socket.inet_aton(group) + struct.pack("@H", 0)
    entry += bytes([0, ttl] + [0] * 30) + struct.pack("=xxIIIi", 0, 0, 0, 0)
    ipv4.setsockopt(socket.IPPROTO_IP, option, entry)


ipv4_route(ADD_MFC, "10.1.0.9", "239.1.1.1", 1)
ipv4_route(ADD_MFC, "10.1.0.9", "239.1.1.2", 5)
ipv4_route(DELETE_MFC, "10.1.0.9", "239.1.1.1", 1)

ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
ipv6.setsockopt(socket.IPPROTO_IPV6, 200, 1)  # MRT6_INIT
for number, index in enumerate(indexes):
    ipv6.setsockopt(socket.IPPROTO_IPV6, ADD_VIF, struct.pack("@HBBHI", number, 0, 1, index, 0))


def ipv6_route(option, origin, group):
    address = lambda text: struct.pack("@HHI", 10, 0, 0) + socket.inet_pton(socket.AF_INET6, text) + struct.pack("@I", 0)
    entry = address(origin) + address(group) + struct.pack("@HH8I", 0, 0, 2, *[0] * 7)
    ipv6.setsockopt(socket.IPPROTO_IPV6, option, entry)


ipv6_route(ADD_MFC, "fd01::9", "ff0e::1")
ipv6_route(ADD_MFC, "fd01::9", "ff0e::2")
ipv6_route(DELETE_MFC, "fd01::9", "ff0e::1")
print("added", flush=True)
input()  # the routes live as long as the sockets
