//! The arguments of a receiver, turned into a socket and a choice of what to do with its messages.

use std::time::Duration;

use nlring::filter::Program;
use nlring::{Backend, Engine, EngineBuilder, Namespace, Protocol, Socket, Wait, conntrack, route};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::live::Limits;
use super::rows::{FlowFilter, MessageRows, RouteFilter, Rows};
use crate::columns::{FlowTable, RouteTable};
use crate::error::to_python;

/// The most rows of a batch. The texts of a column then have less than 2 GiB, which is the most that Arrow's type holds.
const MAX_ROWS: usize = 1 << 24;

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Conntrack,
    Route,
    Other(Protocol),
}

/// `"conntrack"`, `"route"`, or the number of a protocol.
#[derive(FromPyObject)]
pub enum SourceArgument {
    Name(String),
    Number(i32),
}

impl SourceArgument {
    fn source(&self) -> PyResult<Source> {
        match self {
            Self::Name(name) if name == "conntrack" => Ok(Source::Conntrack),
            Self::Name(name) if name == "route" => Ok(Source::Route),
            Self::Name(name) => Err(PyValueError::new_err(format!(
                "there is no source {name:?}: give \"conntrack\", \"route\" or the number of a protocol"
            ))),
            Self::Number(number) => Ok(match Protocol::from_number(*number) {
                Protocol::NETFILTER => Source::Conntrack,
                Protocol::ROUTE => Source::Route,
                protocol => Source::Other(protocol),
            }),
        }
    }
}

/// The name of a group, or its number.
#[derive(FromPyObject)]
pub enum GroupArgument {
    Number(u32),
    Name(String),
}

/// `"auto"`, `"prompt"`, `"spin"`, or how many seconds to gather.
#[derive(FromPyObject)]
pub enum WaitArgument {
    Name(String),
    Seconds(f64),
}

const FLOW_GROUPS: [(&str, conntrack::Group); 3] = [
    ("new", conntrack::Group::New),
    ("update", conntrack::Group::Update),
    ("destroy", conntrack::Group::Destroy),
];

const EXPECTATION_GROUPS: [(&str, conntrack::Group); 3] = [
    ("expect-new", conntrack::Group::ExpectNew),
    ("expect-update", conntrack::Group::ExpectUpdate),
    ("expect-destroy", conntrack::Group::ExpectDestroy),
];

const ROUTE_GROUPS: [(&str, route::Group); 3] = [
    ("ipv4-route", route::Group::Ipv4Route),
    ("ipv6-route", route::Group::Ipv6Route),
    ("mpls-route", route::Group::MplsRoute),
];

const OTHER_ROUTE_GROUPS: [(&str, route::Group); 13] = [
    ("link", route::Group::Link),
    ("neighbour", route::Group::Neighbour),
    ("ipv4-address", route::Group::Ipv4Address),
    ("ipv4-multicast-route", route::Group::Ipv4MulticastRoute),
    ("ipv4-rule", route::Group::Ipv4Rule),
    ("ipv6-address", route::Group::Ipv6Address),
    ("ipv6-multicast-route", route::Group::Ipv6MulticastRoute),
    ("ipv6-rule", route::Group::Ipv6Rule),
    ("ipv4-netconf", route::Group::Ipv4Netconf),
    ("ipv6-netconf", route::Group::Ipv6Netconf),
    ("namespace-id", route::Group::NamespaceId),
    ("mpls-netconf", route::Group::MplsNetconf),
    ("nexthop", route::Group::Nexthop),
];

impl Source {
    fn protocol(self) -> Protocol {
        match self {
            Self::Conntrack => Protocol::NETFILTER,
            Self::Route => Protocol::ROUTE,
            Self::Other(protocol) => protocol,
        }
    }

    /// The groups whose events are flows or routes: all of their names and numbers.
    fn decoded_groups(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Conntrack => FLOW_GROUPS
                .map(|(name, group)| (name, group.number()))
                .into(),
            Self::Route => ROUTE_GROUPS
                .map(|(name, group)| (name, group.number()))
                .into(),
            Self::Other(_) => Vec::new(),
        }
    }

    fn other_groups(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Conntrack => EXPECTATION_GROUPS
                .map(|(name, group)| (name, group.number()))
                .into(),
            Self::Route => OTHER_ROUTE_GROUPS
                .map(|(name, group)| (name, group.number()))
                .into(),
            Self::Other(_) => Vec::new(),
        }
    }

    fn group(self, argument: &GroupArgument) -> PyResult<u32> {
        match argument {
            GroupArgument::Number(0) => Err(PyValueError::new_err("groups are numbered from 1")),
            GroupArgument::Number(number) => Ok(*number),
            GroupArgument::Name(name) => {
                let groups = [self.decoded_groups(), self.other_groups()].concat();
                let found = groups.iter().find(|(known, _)| known == name);
                found.map(|(_, number)| *number).ok_or_else(|| {
                    let known: Vec<_> = groups.iter().map(|(known, _)| *known).collect();
                    PyValueError::new_err(format!(
                        "there is no group {name:?}: give a number, or one of: {}",
                        known.join(", ")
                    ))
                })
            }
        }
    }
}

/// What the constructor of a receiver was called with.
pub struct Arguments<'a> {
    pub source: SourceArgument,
    pub groups: Option<Vec<GroupArgument>>,
    pub batches: Option<&'a str>,
    pub filter: Option<&'a str>,
    pub wait: WaitArgument,
    pub recv_buffer_bytes: usize,
    pub batch_rows: usize,
    pub batch_seconds: f64,
    pub netns: Option<&'a str>,
    pub backend: &'a str,
    pub reliable: bool,
}

/// A socket that listens, and how to receive from it.
pub struct Opened {
    pub socket: Socket,
    pub engine: EngineBuilder,
    pub rows: Rows,
    pub limits: Limits,
}

impl Arguments<'_> {
    pub fn open(&self) -> PyResult<Opened> {
        let source = self.source.source()?;
        let groups = self.group_numbers(source)?;
        let (rows, program) = self.rows(source, &groups)?;
        let engine = Engine::builder()
            .backend(backend(self.backend)?)
            .wait(wait(&self.wait)?);
        let age = seconds("batch_seconds", self.batch_seconds)?;
        if !(1..=MAX_ROWS).contains(&self.batch_rows) {
            return Err(PyValueError::new_err(format!(
                "batch_rows must be from 1 to {MAX_ROWS}"
            )));
        }
        let mut builder = Socket::builder(source.protocol())
            .groups(groups)
            .recv_buffer_bytes(self.recv_buffer_bytes)
            .no_enobufs(true)
            .reliable(self.reliable);
        if let Some(program) = &program {
            builder = builder.filter(program);
        }
        if let Some(name) = self.netns {
            builder = builder.namespace(&namespace(name)?);
        }
        if self.backend != "auto" {
            engine.build().map_err(|error| to_python(&error))?; // to report it here, where its reason is in sight
        }
        let socket = builder.open().map_err(|error| to_python(&error))?;
        let limits = Limits {
            rows: self.batch_rows,
            age,
        };
        Ok(Opened {
            socket,
            engine,
            rows,
            limits,
        })
    }

    fn group_numbers(&self, source: Source) -> PyResult<Vec<u32>> {
        let numbers: Vec<_> = if let Some(groups) = &self.groups {
            let numbers = groups.iter().map(|group| source.group(group));
            numbers.collect::<PyResult<_>>()?
        } else {
            let groups = source.decoded_groups();
            groups.into_iter().map(|(_, number)| number).collect()
        };
        if numbers.is_empty() {
            return Err(PyValueError::new_err("give at least one group"));
        }
        Ok(numbers)
    }

    /// What collects the messages, and the program that the kernel filters them with.
    fn rows(&self, source: Source, groups: &[u32]) -> PyResult<(Rows, Option<Program>)> {
        let batches = match (self.batches, source) {
            (Some(batches), _) => batches,
            (None, Source::Other(_)) => "messages",
            (None, _) => "decoded",
        };
        if !["messages", "decoded", "columns"].contains(&batches) {
            return Err(PyValueError::new_err(format!(
                "there are no batches of {batches:?}: give \"messages\", \"decoded\" or \"columns\""
            )));
        }
        if batches != "messages" {
            check_groups(source, groups, batches)?;
        }
        match source {
            Source::Conntrack => {
                let (filter, program) = self.flow_filter()?;
                let rows = match batches {
                    "decoded" => Rows::Flows(Vec::new(), filter),
                    "columns" => Rows::FlowColumns(Box::new(FlowTable::new()), filter),
                    _ => messages(filter.is_some())?,
                };
                Ok((rows, program))
            }
            Source::Route => {
                let (filter, program) = self.route_filter()?;
                let rows = match batches {
                    "decoded" => Rows::Routes(Vec::new(), filter),
                    "columns" => Rows::RouteColumns(Box::new(RouteTable::new()), filter),
                    _ => messages(filter.is_some())?,
                };
                Ok((rows, program))
            }
            Source::Other(_) if self.filter.is_some() => Err(PyValueError::new_err(
                "only \"conntrack\" and \"route\" have filters",
            )),
            Source::Other(_) => Ok((messages(false)?, None)),
        }
    }

    fn flow_filter(&self) -> PyResult<(FlowFilter, Option<Program>)> {
        let Some(text) = self.filter else {
            return Ok((None, None));
        };
        let filter: conntrack::Filter = text.parse().map_err(|error| not_a_filter(&error))?;
        let program = filter.program().map_err(|error| to_python(&error))?;
        let rest = filter.needs_user_space().then_some(filter);
        Ok((rest, Some(program)))
    }

    fn route_filter(&self) -> PyResult<(RouteFilter, Option<Program>)> {
        let Some(text) = self.filter else {
            return Ok((None, None));
        };
        let filter: route::Filter = text.parse().map_err(|error| not_a_filter(&error))?;
        let program = filter.program().map_err(|error| to_python(&error))?;
        let rest = filter.needs_user_space().then_some(filter);
        Ok((rest, Some(program)))
    }
}

/// Rows of messages as they are. A filter that the kernel cannot evaluate alone needs decoded messages.
fn messages(needs_user_space: bool) -> PyResult<Rows> {
    if needs_user_space {
        return Err(PyValueError::new_err(
            "the kernel cannot evaluate all of this filter: use batches of \"decoded\" or \"columns\"",
        ));
    }
    Ok(Rows::Messages(MessageRows::default()))
}

/// Refuses groups whose events would not be in the batches.
fn check_groups(source: Source, groups: &[u32], batches: &str) -> PyResult<()> {
    let decoded = source.decoded_groups();
    let is_known = |group: &u32| decoded.iter().any(|(_, number)| number == group);
    match groups.iter().find(|group| !is_known(group)) {
        None => Ok(()),
        Some(group) => Err(PyValueError::new_err(format!(
            "batches of {batches:?} hold flows or routes only, and group {group} has other events: use batches of \
             \"messages\""
        ))),
    }
}

fn not_a_filter(error: &nlring::filter::ParseError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn wait(argument: &WaitArgument) -> PyResult<Wait> {
    match argument {
        WaitArgument::Name(name) => match name.as_str() {
            "auto" => Ok(Wait::Auto),
            "prompt" => Ok(Wait::Prompt),
            "spin" => Ok(Wait::Spin),
            _ => Err(PyValueError::new_err(format!(
                "there is no wait policy {name:?}: give \"auto\", \"prompt\", \"spin\" or a number of seconds"
            ))),
        },
        WaitArgument::Seconds(number) => Ok(Wait::Batch(seconds("wait", *number)?)),
    }
}

fn backend(name: &str) -> PyResult<Backend> {
    let depth = Backend::DEFAULT_DEPTH;
    match name {
        "auto" => Ok(Backend::Auto),
        "multishot" => Ok(Backend::Multishot),
        "oneshot" => Ok(Backend::Oneshot { depth }),
        "recvmmsg" => Ok(Backend::Recvmmsg),
        _ => Err(PyValueError::new_err(format!(
            "there is no backend {name:?}: give \"auto\", \"multishot\", \"oneshot\" or \"recvmmsg\""
        ))),
    }
}

/// A name of `ip netns`, or a path.
fn namespace(name: &str) -> PyResult<Namespace> {
    let found = if name.contains('/') {
        Namespace::from_path(name)
    } else {
        Namespace::from_name(name)
    };
    found.map_err(|error| to_python(&error))
}

/// A time of an argument, up to a thousand years.
pub fn seconds(name: &str, number: f64) -> PyResult<Duration> {
    const LONGEST: f64 = 3e10;
    if number.is_nan() || number < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{name} must be a number of seconds from 0 on"
        )));
    }
    Ok(Duration::from_secs_f64(number.min(LONGEST)))
}
