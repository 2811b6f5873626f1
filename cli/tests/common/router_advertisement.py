"""Sends one router advertisement out of a device: DEVICE MTU HOP_LIMIT PREFERENCE (0 medium, 1 high, 3 low)."""

import socket, struct, sys

device, mtu, hop_limit, preference = sys.argv[1], *map(int, sys.argv[2:5])
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
header = struct.pack("!BBHBBHII", 134, 0, 0, hop_limit, preference << 3, 1800, 0, 0)
mtu_option = struct.pack("!BBHI", 5, 1, 0, mtu)
s.sendto(header + mtu_option, ("ff02::1", 0, 0, socket.if_nametoindex(device)))
