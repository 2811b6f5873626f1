//! Changes in a random order, of everything that `ip monitor` shows.

use nlring_testing::Random;

/// Makes lines for `ip -batch`. Many are refused, because what they need is not there, which changes nothing.
pub struct RandomChanges {
    random: Random,
}

impl RandomChanges {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
        }
    }

    /// Lines that create the devices, of which a kernel without a feature refuses some.
    pub fn devices() -> Vec<String> {
        let lines = "\
link add br0 type bridge
link add br1 type bridge vlan_filtering 1
link add v0 type veth peer name w0
link add v1 type veth peer name w1
link add v2 type veth peer name w2
link add ifb0 type ifb
link add link w0 name mv0 type macvlan mode bridge
link add link w1 name vlan7 type vlan id 7
link add vx0 type vxlan id 5 remote 10.1.0.9 dstport 4789
link add bond0 type bond mode active-backup
link add dummy0 type dummy
link set lo up
link set br0 up
link set br1 up
link set w0 up
link set w1 up
link set v0 up
link set v1 up
link set v2 up
link set w2 up
link set ifb0 up
link set mv0 up
link set vx0 up";
        lines.lines().map(str::to_owned).collect()
    }

    /// The next change. It deletes and renames no device, because ip prints such a device by what the kernel says later.
    pub fn next(&mut self) -> String {
        match self.random.below(7) {
            0 => self.of_device(),
            1 => self.of_address(),
            2 => self.of_neighbour(),
            3 => self.of_rule(),
            4 => self.of_nexthop(),
            _ => self.of_route(),
        }
    }

    /// A device to delete, and the line that creates it again.
    pub fn next_deletion(&mut self) -> [&'static str; 2] {
        self.one_of(&[
            ["link del v0", "link add v0 type veth peer name w0"],
            ["link del br1", "link add br1 type bridge"],
            [
                "link del vx0",
                "link add vx0 type vxlan id 6 dstport 4790 nolearning",
            ],
            [
                "link del mv0",
                "link add link w0 name mv0 type macvlan mode private",
            ],
        ])
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.index(all.len())]
    }

    fn device(&mut self) -> &'static str {
        self.one_of(&[
            "br0", "br1", "v0", "w0", "v1", "w1", "v2", "w2", "ifb0", "mv0", "vlan7", "vx0",
            "bond0", "dummy0",
        ])
    }

    fn number(&mut self, below: u32) -> u32 {
        self.random.below(below)
    }

    fn of_device(&mut self) -> String {
        let number = self.number(100);
        let change = match self.random.below(12) {
            0 | 1 => "up".to_owned(),
            2 => self.one_of(&["up", "up", "down"]).to_owned(),
            3 => format!("mtu {}", 1280 + number),
            4 => format!("master {}", self.one_of(&["br0", "br1", "bond0"])),
            5 => "nomaster".to_owned(),
            6 => format!("address 02:00:00:00:00:{number:02}"),
            7 => format!("alias alias-{number}"),
            8 => format!("group {number}"),
            9 => format!("txqueuelen {number}"),
            10 => format!(
                "{} {}",
                self.one_of(&["promisc", "allmulticast", "arp", "multicast"]),
                self.one_of(&["on", "off"])
            ),
            _ => {
                let (verb, device) = (self.one_of(&["add", "del"]), self.device());
                return format!("link property {verb} dev {device} altname alt{number}");
            }
        };
        format!("link set {} {change}", self.device())
    }

    fn of_address(&mut self) -> String {
        let (verb, device) = (
            self.one_of(&["add", "add", "replace", "del"]),
            self.device(),
        );
        let number = self.number(4);
        match self.random.below(4) {
            0 => format!("address {verb} 10.{number}.0.1/24 dev {device}"),
            1 => format!(
                "address {verb} 10.{number}.1.1/24 brd + dev {device} label {device}:{number}"
            ),
            2 => format!(
                "address {verb} 10.9.0.{number} peer 10.9.1.{number} dev {device} metric 77"
            ),
            _ => format!(
                "address {verb} fd0{number}::1/64 dev {device} nodad valid_lft 3000 preferred_lft 1000"
            ),
        }
    }

    fn of_neighbour(&mut self) -> String {
        let (verb, device) = (
            self.one_of(&["add", "replace", "replace", "del"]),
            self.device(),
        );
        let (number, state) = (
            self.number(4),
            self.one_of(&["permanent", "noarp", "stale"]),
        );
        let address = self.one_of(&["10.0.0.", "10.1.0.", "fd00::", "fd01::"]);
        match self.random.below(3) {
            0 => format!("neigh {verb} proxy {address}{number} dev {device}"),
            _ if verb == "del" => format!("neigh del {address}{number} dev {device}"),
            _ => format!(
                "neigh {verb} {address}{number} lladdr 02:00:00:00:01:0{number} dev {device} nud {state}"
            ),
        }
    }

    fn of_rule(&mut self) -> String {
        let (verb, priority) = (self.one_of(&["add", "add", "del"]), 1000 + self.number(20));
        let from = self.one_of(&["", "from 10.0.0.0/8", "from fd01::/64"]);
        if verb == "del" {
            return format!("rule del {from} priority {priority}");
        }
        let what = match self.random.below(6) {
            0 => format!("iif {} lookup {}", self.device(), 100 + self.number(3)),
            1 => format!(
                "oif {} fwmark {}/0xff unreachable",
                self.device(),
                self.number(200)
            ),
            2 => "uidrange 5-10 ipproto tcp sport 5-9 dport 80 lookup main".to_owned(),
            3 => format!("not fwmark {} blackhole", self.number(200)),
            4 => format!(
                "lookup {} suppress_prefixlength {}",
                100 + self.number(3),
                self.number(32)
            ),
            _ => format!("goto {}", 1020 + self.number(3)),
        };
        format!("rule add {from} {what} priority {priority}")
    }

    fn of_nexthop(&mut self) -> String {
        let (verb, id) = (
            self.one_of(&["add", "add", "replace", "del"]),
            1 + self.number(12),
        );
        if verb == "del" {
            return format!("nexthop del id {id}");
        }
        let (device, number) = (self.device(), self.number(4));
        let [first, second] = [1 + self.number(12), 1 + self.number(12)];
        match self.random.below(7) {
            0 => format!("nexthop {verb} id {id} via 10.{number}.0.2 dev {device} onlink"),
            1 => format!("nexthop {verb} id {id} via fd0{number}::2 dev {device} onlink proto 99"),
            2 => format!("nexthop {verb} id {id} blackhole"),
            3 => format!("nexthop {verb} id {id} dev {device}"),
            4 => format!("nexthop {verb} id {id} encap ip id {number} dst 10.9.9.9 dev {device}"),
            5 => format!(
                "nexthop {verb} id {id} group {first},{}/{second}",
                1 + number
            ),
            _ => format!(
                "nexthop {verb} id {id} group {first}/{second} type resilient buckets 8 idle_timer {}",
                1 + number
            ),
        }
    }

    fn of_route(&mut self) -> String {
        let (verb, number) = (
            self.one_of(&["add", "replace", "append", "del"]),
            self.number(6),
        );
        let (device, table) = (self.device(), self.one_of(&["main", "100", "101"]));
        if verb == "del" {
            return format!("route del 192.0.{number}.0/24 table {table}");
        }
        match self.random.below(8) {
            0 => format!("route {verb} 192.0.{number}.0/24 dev {device} table {table}"),
            1 => format!(
                "route {verb} 192.0.{number}.0/24 nhid {} table {table}",
                1 + self.number(12)
            ),
            2 => format!(
                "route {verb} 192.0.{number}.0/24 via 10.{number}.0.2 dev {device} onlink mtu 1400 table {table}"
            ),
            3 => format!(
                "route {verb} 192.0.{number}.0/24 nexthop dev {device} nexthop dev {} weight 3",
                self.device()
            ),
            4 => format!(
                "route {verb} 2001:db8:{number}::/48 dev {device} metric {} table {table}",
                10 + number
            ),
            5 => format!(
                "route {verb} 192.0.{number}.0/24 encap ip id 7 dst 10.9.9.9 ttl 3 dev {device} table {table}"
            ),
            6 => format!(
                "route {verb} {} 192.0.{number}.0/24 table {table}",
                self.one_of(&["blackhole", "prohibit"])
            ),
            _ => format!(
                "route {verb} 2001:db8:{number}::/48 encap seg6 mode encap segs fd01::7,fd01::8 dev {device}"
            ),
        }
    }
}
