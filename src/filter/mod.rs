//! Filters: which events a socket receives, evaluated in the kernel.
//!
//! An event that the kernel rejects costs no wake-up and no copy. A [`Filter`] is built from a family's terms
//! ([`conntrack::Term`](crate::conntrack::Term), [`route::Term`](crate::route::Term)), or from text:
//!
//! ```no_run
//! use nlring::conntrack::{Filter, Group};
//! use nlring::{Protocol, Socket};
//!
//! let filter: Filter = "proto tcp and dport 443 and not src 10.0.0.0/8".parse()?;
//! let socket = Socket::builder(Protocol::NETFILTER)
//!     .group(Group::New)
//!     .filter(&filter.program()?)
//!     .open()?;
//! # Ok::<(), nlring::Error>(())
//! ```
//!
//! A filtered event is not a loss, and no counter includes it.
//!
//! # Text
//!
//! | text | meaning |
//! |---|---|
//! | `TERM` | a term of the family: [`conntrack::Filter`](crate::conntrack::Filter), [`route::Filter`](crate::route::Filter) |
//! | `not F`, `! F` | what does not match `F` |
//! | `F and G`, `F && G` | what matches both |
//! | `F or G`, `F \|\| G` | what matches one or both |
//! | `(F)` | as `F`; `not` binds closest, then `and`, then `or` |
//! | `all` | everything |
//!
//! Numbers are decimal, or hexadecimal with `0x`. A set of numbers is one number, a range (`1024-2047`) or several of
//! both in braces (`{80, 443}`).

mod assembler;
mod compile;
mod expression;
#[allow(
    clippy::module_inception,
    reason = "its subject is the type of that name"
)]
mod filter;
mod hash;
#[cfg(any(test, fuzzing))]
pub(crate) mod interpreter;
mod numbers;
mod order;
mod part;
mod prefix;
mod program;
mod set;
mod term;
mod test;
mod text;

pub(crate) use self::compile::{Besides, Events};
pub(crate) use self::expression::Expression;
pub use self::filter::Filter;
pub(crate) use self::hash::{Hash, Hasher, Layout};
pub use self::numbers::Numbers;
pub use self::prefix::{Prefix, PrefixError};
pub use self::program::{Instruction, Program};
pub use self::term::Term;
pub(crate) use self::term::{Change, Implementation};
pub(crate) use self::test::{Field, Kernel, Path, Test};
pub use self::text::ParseError;
pub(crate) use self::text::{Words, number};
