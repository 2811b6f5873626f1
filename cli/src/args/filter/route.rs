//! The options that select routes: --filter, and a device and a table as in ip-monitor(8) and ip-route(8).

use std::cell::RefCell;
use std::collections::HashMap;

use clap::Args;
use nlring::route::{Filter, Term};

use super::names;
use crate::outcome::Failure;

/// The longest name of a device (`IFNAMSIZ` without the zero at its end).
const MOST_NAME_BYTES: usize = 15;

/// What routes must match: all of the options.
#[derive(Args, Debug)]
#[command(next_help_heading = "Filter")]
pub struct RouteFilterArguments {
    #[command(flatten)]
    terms: RouteTerms,

    /// Only routes by this device, which is followed by its index
    #[arg(long, value_name = "NAME", value_parser = parse_device, conflicts_with = "all_netns")]
    dev: Option<String>,

    /// Print which part of the filter the kernel evaluates, which part user space does, and the kernel's program; then
    /// end
    #[arg(long)]
    pub explain: bool,
}

/// The options of `nlring route` and `nlring monitor` that select routes.
#[derive(Args, Debug)]
pub struct RouteTerms {
    /// Show only routes that match this expression, such as 'dst 10.0.0.0/8 or-longer and not proto kernel'
    /// (docs/filters.md)
    #[arg(long = "filter", value_name = "TEXT", value_parser = RouteExpression::parse)]
    expressions: Vec<RouteExpression>,

    /// Show only routes of this table, by name (rt_tables) or number; --table is the file of a mirror
    #[arg(long, value_name = "ID|NAME", value_parser = parse_table)]
    in_table: Option<u32>,
}

/// An expression whose device names have not been looked up, because the namespace has not been entered yet.
#[derive(Clone, Debug)]
struct RouteExpression {
    text: String,
    devices: Vec<String>,
}

impl RouteFilterArguments {
    /// The names of devices in the options.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.terms.devices().chain(self.dev.as_deref())
    }

    /// What matches all of the options. Without options this is everything. `index` finds the index of a device.
    pub fn filter(&self, index: impl Fn(&str) -> Result<u32, Failure>) -> Result<Filter, Failure> {
        let filter = self.terms.filter(&index)?;
        match &self.dev {
            Some(name) => Ok(filter.and(Term::oif(index(name)?))),
            None => Ok(filter),
        }
    }
}

impl RouteTerms {
    /// The names of devices in the options.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let expressions = self.expressions.iter();
        expressions.flat_map(|expression| expression.devices.iter().map(String::as_str))
    }

    /// Whether there are such options.
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty() && self.in_table.is_none()
    }

    /// What matches all of the options. Without options this is everything. `index` finds the index of a device.
    pub fn filter(&self, index: impl Fn(&str) -> Result<u32, Failure>) -> Result<Filter, Failure> {
        let table = self.in_table.map(|table| Filter::from(Term::table(table)));
        let mut expressions = self.expressions.iter();
        expressions.try_fold(table.unwrap_or_default(), |all, expression| {
            Ok(all.and(expression.filter(&index)?))
        })
    }
}

impl RouteExpression {
    /// Reads an expression in which every word that can be the name of a device counts as one.
    fn parse(text: &str) -> Result<Self, String> {
        let (devices, of_routes) = (RefCell::default(), names::of_routes());
        let read = Filter::parse_with(text, |word, name| {
            if word != "oif" {
                return of_routes(word, name);
            }
            can_name_device(name).then(|| {
                Vec::push(&mut devices.borrow_mut(), name.to_owned());
                1
            })
        });
        read.map_err(|error| error.to_string())?;
        Ok(Self {
            text: text.to_owned(),
            devices: devices.into_inner(),
        })
    }

    fn filter(&self, index: impl Fn(&str) -> Result<u32, Failure>) -> Result<Filter, Failure> {
        let devices = self.devices.iter();
        let devices = devices.map(|name| Ok((name.as_str(), index(name)?)));
        let devices: HashMap<&str, u32> = devices.collect::<Result<_, Failure>>()?;
        let of_routes = names::of_routes();
        let read = Filter::parse_with(&self.text, |word, name| match word {
            "oif" => devices.get(name).copied(),
            _ => of_routes(word, name),
        });
        read.map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Whether the kernel allows the name for a device (Linux v6.18, net/core/dev.c, `dev_valid_name`).
fn can_name_device(name: &str) -> bool {
    let is_refused = |byte: u8| matches!(byte, b'/' | b':' | b' ' | b'\t'..=b'\r');
    (1..=MOST_NAME_BYTES).contains(&name.len())
        && ![".", ".."].contains(&name)
        && !name.bytes().any(is_refused)
}

/// The value of --dev.
pub fn parse_device(text: &str) -> Result<String, String> {
    if can_name_device(text) {
        Ok(text.to_owned())
    } else {
        Err("a device's name has 1 to 15 bytes, without '/', ':' and white space; ip link lists the devices".to_owned())
    }
}

fn parse_table(text: &str) -> Result<u32, String> {
    names::table(text).ok_or_else(|| {
        "there is no table of this name; give a number, or a name of /etc/iproute2/rt_tables"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let expression = RouteExpression::parse(text).unwrap();
        let index = |name: &str| match name {
            "eth0" => Ok(7),
            "wg-home.5" => Ok(8),
            _ => Err(Failure::Usage(format!("no {name}"))),
        };
        match expression.filter(index) {
            Ok(filter) => filter.to_string(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn devices_are_looked_up_after_the_text_is_read() {
        assert_eq!(
            read("dev {eth0, 3} and not oif wg-home.5"),
            "(oif 7 or oif 3) and not oif 8"
        );
        assert_eq!(read("table 5 and dev eth1"), "no eth1");
        for text in ["dev eth0/1", "dev sixteen-letters-", "dev 0", "dev eth0:1"] {
            assert!(RouteExpression::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_have_names_and_numbers() {
        for (text, table) in [("main", 254), ("local", 255), ("7", 7), ("0x10", 16)] {
            assert_eq!(parse_table(text), Ok(table), "{text}");
        }
        for text in ["", "no-such-table", "-1", "4294967296"] {
            assert!(parse_table(text).is_err(), "{text}");
        }
    }
}
