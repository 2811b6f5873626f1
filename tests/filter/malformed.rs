//! Texts that are not filters.

use nlring::conntrack::Filter;

/// The text, with `^` before the place of the error, and a part of what was expected there.
const MALFORMED: [(&str, &str); 68] = [
    ("^", "a term"),
    ("   ^", "a term"),
    ("^and", "a term"),
    ("^or proto tcp", "a term"),
    ("^)", "a term"),
    ("(^)", "a term"),
    ("(^", "a term"),
    ("not^", "a term"),
    ("!^", "a term"),
    ("not not^", "a term"),
    ("proto tcp and^", "a term"),
    ("proto tcp or^", "a term"),
    ("proto tcp and ^and nat", "a term"),
    ("proto tcp ^nat", "`and`, `or` or the end"),
    ("proto tcp ^& nat", "`and`, `or` or the end"),
    ("proto tcp^)", "`and`, `or` or the end"),
    ("nat ^not nat", "`and`, `or` or the end"),
    ("(proto tcp^", "`and`, `or` or `)`"),
    ("(proto tcp ^nat)", "`and`, `or` or `)`"),
    ("((nat)^", "`and`, `or` or `)`"),
    ("^Proto tcp", "a term"),
    ("^tcp", "a term"),
    ("^443", "a term"),
    ("^{80}", "a term"),
    ("proto^", "a protocol"),
    ("proto ^256", "a protocol"),
    ("proto ^-1", "a protocol"),
    ("proto ^and nat", "a protocol"),
    ("proto {tcp^", "`,` or `}`"),
    ("proto {tcp ^udp}", "`,` or `}`"),
    ("proto {^}", "a protocol"),
    ("proto {tcp,^}", "a protocol"),
    ("event ^gone", "new, update or destroy"),
    ("family ^ipx", "ipv4 or ipv6"),
    ("src^", "an address"),
    ("src ^10.0.0", "an address"),
    ("src ^10.0.0.0/33", "an address"),
    ("src ^fd00::/129", "an address"),
    ("src ^10.0.0.0/+8", "an address"),
    ("reply^", "src, dst, host"),
    ("reply ^proto tcp", "src, dst, host"),
    ("any ^mark 7", "src, dst, host"),
    ("orig ^(src 10.0.0.1)", "src, dst, host"),
    ("dport ^http", "a number from 0 to 65535"),
    ("dport ^65536", "a number from 0 to 65535"),
    ("dport ^443-80", "a number from 0 to 65535"),
    ("dport ^1-2-3", "a number from 0 to 65535"),
    ("dport ^0x", "a number from 0 to 65535"),
    ("dport {80 ^443}", "`,` or `}`"),
    ("dport {80, ^x}", "a number from 0 to 65535"),
    ("icmp-type ^256", "a number from 0 to 255"),
    ("mark ^0x10/", "a mark"),
    ("mark ^4294967296", "a mark"),
    ("zone ^65536", "a zone"),
    ("status ^sleeping", "a bit of the status"),
    ("status ^0", "a bit of the status"),
    ("state ^OPENED", "a state"),
    ("snat ^nowhere", "an address"),
    ("label ^128", "a label"),
    ("id ^x", "an id"),
    ("share^", "a share"),
    ("share ^3", "a share"),
    ("share ^8/8", "a share"),
    ("share ^0/0", "a share"),
    ("share ^2..1/8", "a share"),
    ("share ^0..9/8", "a share"),
    ("share ^0/8@", "a share"),
    ("share ^4294967295/4294967295", "a share"),
];

#[test]
fn malformed_texts_are_reported_with_place_and_expectation() {
    for (marked, expected) in MALFORMED {
        let position = marked.find('^').expect("a mark");
        let text = marked.replacen('^', "", 1);
        let error = text.parse::<Filter>().expect_err(&text);
        assert_eq!(error.position(), position, "{marked}: {error}");
        assert!(error.expected().contains(expected), "{marked}: {error}");
        assert!(
            text[position..].starts_with(error.found()),
            "{marked}: {error}"
        );
        assert_eq!(error.found().is_empty(), position == text.len(), "{marked}");
    }
}

#[test]
fn the_caret_stands_below_the_place() {
    let error = "proto tcp and „dport“ 80".parse::<Filter>().unwrap_err();
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "  proto tcp and „dport“ 80");
    assert_eq!(lines[2], format!("  {}^", " ".repeat(14)));
    let error = "src 10.0.0.1\nand\tdst x".parse::<Filter>().unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().nth(1), Some("  src 10.0.0.1 and dst x"));
    assert_eq!(text.lines().nth(2), Some("                       ^"));
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for (before, after) in [("(", ")"), ("not ", ""), ("!(", ")")] {
        let text = |depth| format!("{}nat{}", before.repeat(depth), after.repeat(depth));
        text(20).parse::<Filter>().expect("it is not deep");
        let error = text(100_000).parse::<Filter>().expect_err("it is deep");
        assert!(
            error.expected().contains("at most 64"),
            "{}",
            error.expected()
        );
    }
}

#[test]
fn a_filter_that_is_too_large_says_what_to_do() {
    let ports: Vec<_> = (0..5000).map(|port| (2 * port).to_string()).collect();
    let filter: Filter = format!("dport {{{}}}", ports.join(",")).parse().unwrap();
    let error = filter.program().unwrap_err().to_string();
    assert!(error.contains("at most 4096"), "{error}");
    assert!(error.contains("use prefixes and ranges"), "{error}");
}
