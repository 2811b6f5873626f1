//! Texts that are not filters.

use nlring::route::Filter;

/// The text, with `^` before the place of the error, and a part of what was expected there.
const MALFORMED: [(&str, &str); 38] = [
    ("^", "a term"),
    ("^sport 53", "a term"),
    ("^Table main", "a term"),
    ("table main and^", "a term"),
    ("table main ^dst default", "`and`, `or` or the end"),
    ("(table main^", "`and`, `or` or `)`"),
    ("event^", "new, replace, append or delete"),
    ("event ^update", "new, replace, append or delete"),
    ("event ^destroy", "new, replace, append or delete"),
    ("family ^inet", "ipv4, ipv6 or mpls"),
    ("table^", "a table"),
    ("table ^blue", "a table"),
    ("table ^4294967296", "a table"),
    ("table {main, ^blue}", "a table"),
    ("proto ^256", "a number from 0 to 255"),
    ("proto ^frr", "a protocol such as kernel"),
    ("proto {bgp ^ospf}", "`,` or `}`"),
    ("type ^nowhere", "a type such as unicast"),
    ("type ^-1", "a type such as unicast"),
    ("scope ^300", "a scope such as global"),
    ("dst^", "default, an address"),
    ("dst ^10.0.0", "default, an address"),
    ("dst ^10.0.0.0/33", "default, an address"),
    ("dst ^fd00::/129", "default, an address"),
    ("dst ^Default", "default, an address"),
    ("dst ^or-longer", "default, an address"),
    ("dst 10.0.0.0/8 ^orlonger", "`and`, `or` or the end"),
    (
        "dst 10.0.0.0/8 or-longer ^or-shorter",
        "`and`, `or` or the end",
    ),
    ("dst default ^or-longer", "behind `default`"),
    ("dst {default, 10.0.0.0/8} ^or-shorter", "behind `default`"),
    ("via ^default", "an address"),
    ("gateway ^inet6", "an address"),
    ("oif ^0", "a device: its index"),
    ("dev ^eth0", "a device: its index"),
    ("metric ^9-1", "a number from 0 to 4294967295"),
    ("metric {1, ^x}", "a number from 0 to 4294967295"),
    ("portid ^self", "a port ID"),
    ("not portid^", "a port ID"),
];

#[test]
fn a_malformed_text_is_an_error_that_says_where_and_what() {
    for (marked, expected) in MALFORMED {
        let position = marked.find('^').expect("a mark");
        let text = marked.replace('^', "");
        let Err(error) = text.parse::<Filter>() else {
            panic!("`{text}` is no filter");
        };
        assert_eq!(error.position(), position, "{error}");
        assert!(error.expected().contains(expected), "{error}");
    }
}
