//! A long list of changes of everything that `ip monitor` shows.

/// Commands that make changes. A kernel without a feature refuses some, which the test reports. None has options of
/// Geneve, VXLAN or ERSPAN tunnels on a route: Linux 6.18 panics over them.
pub const CHANGES: &str = "
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
ip link add v0 type veth peer name v1
ip link set v0 master br0
ip link set v0 up
ip link set v1 up
ip addr add 10.1.0.1/24 dev br0
ip addr add 10.1.0.5/24 brd + dev br0 label br0:x
ip addr add fd01::1/64 dev br0 valid_lft 3000 preferred_lft 1000
ip addr add fd01::2/64 dev br0 nodad home mngtmpaddr
ip addr add 10.9.0.1 peer 10.9.0.2/32 dev br0 metric 77
ip addr change fd01::1/64 dev br0 valid_lft 2000 preferred_lft 0
ip addr add 10.7.0.1/24 dev v1 scope link noprefixroute
ip link set v1 alias other-end
ip link property add dev v1 altname alternative
ip link set v1 mtu 1400
ip link set v1 txqueuelen 55
ip link set v1 address 02:00:00:00:00:07
ip link set v1 group 5
ip link add ifb0 type ifb
ip link set ifb0 up
ip link add link v1 name mv0 type macvlan mode bridge
ip link set mv0 up
ip link set v1 down
ip link set v1 up
ip link add vx0 type vxlan id 5 remote 10.1.0.9 dstport 4789
ip link set vx0 up
ip link add link v1 name vlan5 type vlan id 5
ip link set vlan5 up
ip link add bond0 type bond
ip link add vrf0 type vrf table 10
ip link add dummy0 type dummy
ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:99 dev br0
ip neigh change 10.1.0.77 lladdr 02:00:00:00:00:98 dev br0 nud stale
ip neigh add proxy 10.1.0.78 dev br0
ip neigh add proxy fd01::78 dev br0
ip neigh add fd01::9 lladdr 02:00:00:00:00:97 dev br0 nud noarp router
ip neigh add 10.1.0.79 dev br0 lladdr 02:00:00:00:00:96 proto 42 extern_learn
ip neigh add 10.1.0.80 dev br0 managed
ip neigh del 10.1.0.79 dev br0
ip neigh del 10.1.0.80 dev br0
ip neigh del proxy 10.1.0.78 dev br0
bridge fdb add 02:00:00:00:00:44 dev v0 master static
bridge fdb del 02:00:00:00:00:44 dev v0 master
bridge fdb append 02:00:00:00:00:55 dev vx0 dst 10.1.0.10
ip nexthop add id 5 via 10.1.0.2 dev br0
ip nexthop add id 6 via 10.1.0.3 dev br0 onlink proto 99
ip nexthop add id 7 group 5,3/6
ip nexthop add id 8 blackhole
ip nexthop add id 9 via fd01::3 dev br0
ip nexthop add id 10 encap ip id 5 dst 10.9.9.9 dev br0
ip nexthop add id 11 encap mpls 100/200 via 10.1.0.2 dev br0
ip nexthop add id 12 group 5/6 type resilient buckets 8 idle_timer 60 unbalanced_timer 300
ip nexthop replace id 12 group 5/6 type resilient buckets 8 idle_timer 61
ip nexthop add id 13 dev br0
ip nexthop add id 14 via 10.1.0.2 fdb
ip nexthop del id 8
ip route add 192.0.2.0/24 nhid 7
ip route add 192.0.3.0/24 via 10.1.0.2 table 100
ip route add 192.0.4.0/24 nexthop via 10.1.0.2 nexthop dev v1 weight 3
ip route add 2001:db8::/32 via fd01::3
ip route add 192.0.5.0/24 encap ip id 7 src 10.9.9.8 dst 10.9.9.9 ttl 3 key dev br0
ip route add 2001:db8:1::/48 encap seg6 mode encap segs fd01::7,fd01::8 dev br0
ip nexthop del id 5
ip nexthop del id 6
ip rule add from 10.1.0.0/24 to 10.2.0.0/16 table 100 priority 1000
ip rule add fwmark 0x10/0xf0 iif v1 oif nosuch lookup main suppress_prefixlength 8 priority 1001
ip rule add uidrange 5-10 ipproto tcp sport 5-9 dport 80 lookup 7 priority 1002
ip rule add not from 10.3.0.1 tos 0x10 fwmark 9 blackhole priority 1003
ip rule add goto 2000 priority 1004
ip rule add nop priority 1005
ip rule add from 10.66.0.0/16 prohibit priority 1006 protocol 77
ip rule add unreachable fwmark 7 priority 1007
ip rule add from all lookup 9 realms 3/4 priority 1008 suppress_ifgroup 5
ip rule add tun_id 77 lookup 3 priority 1009
ip rule add l3mdev priority 1010
ip -6 rule add from fd01::/64 lookup 55 priority 999
ip rule del priority 1000
ip rule add priority 2000 lookup 3
sysctl -q -w net.ipv4.conf.br0.forwarding=1
sysctl -q -w net.ipv4.conf.br0.rp_filter=2
sysctl -q -w net.ipv4.conf.br0.proxy_arp=1
sysctl -q -w net.ipv4.conf.br0.ignore_routes_with_linkdown=1
sysctl -q -w net.ipv4.conf.br0.bc_forwarding=1
sysctl -q -w net.ipv4.conf.all.rp_filter=1
sysctl -q -w net.ipv4.conf.default.forwarding=1
sysctl -q -w net.ipv4.ip_forward=1
sysctl -q -w net.ipv6.conf.all.forwarding=1
sysctl -q -w net.ipv6.conf.br0.proxy_ndp=1
MULTICAST
ip link set v0 nomaster
ip link set v0 promisc on
ip link set v0 allmulticast on
ip link set v0 arp off
ip link set v0 multicast off
ip link set vx0 protodown on
ip link set vx0 protodown_reason 3 on
ip link set vx0 protodown_reason 3 off
ip link set vx0 protodown off
AWAIT ALL
ip addr del 10.1.0.1/24 dev br0
ip addr flush dev br0
ip link del mv0
ip link set v1 down
ip link set v1 name renamed
ip link set renamed up
ip link del v0
ip link set br0 down
ip link del br0
ip link del ifb0
ip link del vx0
";
