//! Options that select flows, for both programs.

/// Options of conntrack, and those with which nlring selects the rest of what `base` selects.
pub struct Row {
    /// What both programs have in addition. conntrack knows some options only beside a protocol.
    pub base: &'static str,
    pub options: &'static str,
    /// The options with the opposite meaning.
    pub opposite: &'static str,
}

const fn row(base: &'static str, options: &'static str, opposite: &'static str) -> Row {
    Row {
        base,
        options,
        opposite,
    }
}

/// Both programs select the same.
pub const SAME: &[Row] = &[
    row("", "-p tcp", "-p !tcp"),
    row("", "-p 17", "-p !17"),
    row("", "--proto ICMPV6", "--protonum !icmpv6"),
    row("", "-f ipv4", "-f !ipv4"),
    row("", "-f ipv6", "--family !ipv6"),
    row("", "-s 10.0.0.1", "-s !10.0.0.1"),
    row("", "--orig-src 10.1.0.0/16", "--orig-src !10.1.0.0/16"),
    row("", "--src fd00:1::/32", "--src !fd00:1::/32"),
    row(
        "",
        "-s 10.1.2.3 --mask-src 255.255.0.0",
        "-s !10.1.2.3 --mask-src 255.255.0.0",
    ),
    row(
        "",
        "-s fd00:1::9 --mask-src ffff:ffff::",
        "-s !fd00:1::9 --mask-src ffff:ffff::",
    ),
    row("", "-d 127.0.0.1", "-d !127.0.0.1"),
    row("", "--dst 198.51.100.0/24", "--orig-dst !198.51.100.0/24"),
    row("", "-d ::1", "-d !::1"),
    row(
        "",
        "-d 198.51.100.9 --mask-dst 255.255.255.0",
        "-d !198.51.100.0/24",
    ),
    row("", "-r 198.51.100.1", "-r !198.51.100.1"),
    row("", "--reply-src fd00:2::1", "--reply-src !fd00:2::1"),
    row("", "-q 203.0.113.1", "-q !203.0.113.1"),
    row("", "--reply-dst 10.0.0.1", "--reply-dst !10.0.0.1"),
    row("-p udp", "--sport 1001", "--sport !1001"),
    row("-p udp", "--orig-port-dst 2001", "--orig-port-dst !2001"),
    row("-p tcp", "--dport 443", "--dport !443"),
    row("-p udp", "--reply-port-src 2001", "--reply-port-src !2001"),
    row("-p udp", "--reply-port-dst 1001", "--reply-port-dst !1001"),
    row("-p icmp", "--icmp-type 8", "--icmp-type !8"),
    row("-p icmp", "--icmp-code 1", "--icmp-code !1"),
    row("", "-m 0x11", "-m !0x11"),
    row("", "-m 0x10/0xf0", "--mark !0x10/0xf0"),
    row("-p tcp", "-n", "-n !"),
    row("-p tcp", "-g", "-g !"),
    row("-p tcp", "-j", "-j !"),
    row("-p udp", "-n", "--src-nat !"),
    row("", "-n 203.0.113.1", "--src-nat !203.0.113.1"),
    row("", "-g 192.0.2.9", "--dst-nat !192.0.2.9"),
    row("", "-j 203.0.113.1", "--any-nat !203.0.113.1"),
    row("", "-n 203.0.113.1:40000", "-n !203.0.113.1:40000"),
    row("", "-g 192.0.2.9:8080", "-g !192.0.2.9:8080"),
    row("", "-w 5", "-w !5"),
    row("", "--orig-zone 6", "--orig-zone !6"),
    row("", "--reply-zone 7", "--reply-zone !7"),
    row("-p tcp", "--state ESTABLISHED", "--state !ESTABLISHED"),
    row("-p tcp", "--state SYN_SENT", "--state !SYN_SENT"),
    row("", "-l web", "-l !web"),
    row("-l web", "-l bulk", "-l !bulk"),
    row("-p tcp -f ipv4", "-s 10.0.0.0/8", "-s !10.0.0.0/8"),
];

/// conntrack refuses --status with -E.
pub const SAME_LISTED: &[Row] = &[
    row("", "-u ASSURED", "-u !ASSURED"),
    row("", "--status SEEN_REPLY", "--status UNREPLIED"),
    row("", "-u ASSURED,SEEN_REPLY", "-u !ASSURED"),
];

/// Options that conntrack 1.4.7 reads in another way, and what nlring selects.
pub struct Difference {
    pub options: &'static str,
    /// Which lines nlring shows.
    pub wanted: fn(&str) -> bool,
    pub reason: &'static str,
}

const fn difference(
    options: &'static str,
    wanted: fn(&str) -> bool,
    reason: &'static str,
) -> Difference {
    Difference {
        options,
        wanted,
        reason,
    }
}

/// Of events. docs/filter-options.md has the same list.
pub const DIFFERENT: &[Difference] = &[
    difference(
        "-m 0",
        |line| !line.contains("mark=") || line.contains("mark=0"),
        "an event without a mark has mark 0; conntrack shows none of them",
    ),
    difference(
        "-j -p icmp",
        |_| false,
        "conntrack takes the type of an ICMP message for a port, so that every echo looks translated",
    ),
    difference(
        "-n 203.0.113.1:1009",
        |line| line.contains("dst=203.0.113.1 sport=80 dport=1009"),
        "a port that NAT keeps is the port of the translated source; conntrack wants another port",
    ),
    difference(
        "-n fd00:3::9",
        |_| false,
        "conntrack does not compare IPv6 addresses of NAT, and shows all translated flows",
    ),
];
