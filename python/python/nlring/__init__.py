"""Linux netlink for Python: pymnl's API on nlring's sockets, and events without silent losses."""
