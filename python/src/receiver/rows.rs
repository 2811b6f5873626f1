//! What the engine's callback collects between two batches, and the batch that Python gets.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use nlring::{MessageList, Timestamp, conntrack, route};
use pyo3::prelude::*;

use super::batch::{Flows, Messages, Routes};
use super::flow::Flow;
use super::route::Route;
use crate::columns::{Columns, FlowTable, RouteTable};

/// What a batch holds: one variant for each kind.
pub enum Rows {
    Messages(MessageRows),
    Flows(Vec<Flow>, FlowFilter),
    Routes(Vec<Route>, RouteFilter),
    FlowColumns(Box<FlowTable>, FlowFilter),
    RouteColumns(Box<RouteTable>, RouteFilter),
}

/// Messages as they are.
#[derive(Default)]
pub struct MessageRows {
    /// All messages, one after the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// When the first of them was received.
    received_at: Option<Timestamp>,
}

impl MessageRows {
    fn add(&mut self, list: &MessageList<'_>, received_at: Timestamp) {
        self.received_at.get_or_insert(received_at);
        for message in list {
            self.bytes.extend_from_slice(message.bytes());
            self.ends.push(self.bytes.len());
        }
    }
}

/// The part of a filter that the kernel cannot evaluate. None: it evaluates all of it.
pub type FlowFilter = Option<conntrack::Filter>;
pub type RouteFilter = Option<route::Filter>;

impl Rows {
    /// Adds the messages of a list. Returns how many of them are neither flows nor routes.
    pub fn add(&mut self, list: &MessageList<'_>) -> u64 {
        let received_at = list.received_at().unwrap_or_else(Timestamp::now);
        match self {
            Self::Messages(messages) => {
                messages.add(list, received_at);
                0
            }
            Self::Flows(flows, filter) => each_flow(list, filter.as_ref(), |flow| {
                flows.push(Flow::new(flow, received_at));
            }),
            Self::FlowColumns(table, filter) => {
                each_flow(list, filter.as_ref(), |flow| table.add(&flow, received_at))
            }
            Self::Routes(routes, filter) => each_route(list, filter.as_ref(), |route| {
                routes.push(Route::new(route, received_at));
            }),
            Self::RouteColumns(table, filter) => each_route(list, filter.as_ref(), |route| {
                table.add(&route, received_at);
            }),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.ends.len(),
            Self::Flows(flows, _) => flows.len(),
            Self::Routes(routes, _) => routes.len(),
            Self::FlowColumns(table, _) => table.row_count(),
            Self::RouteColumns(table, _) => table.row_count(),
        }
    }

    /// Takes the batch. The rows are empty again.
    pub fn take(&mut self) -> Result<Batch, ArrowError> {
        Ok(match self {
            Self::Messages(messages) => Batch::Messages(std::mem::take(messages)),
            Self::Flows(flows, _) => Batch::Flows(take_rows(flows)),
            Self::Routes(routes, _) => Batch::Routes(take_rows(routes)),
            Self::FlowColumns(table, _) => Batch::Columns(table.take()?),
            Self::RouteColumns(table, _) => Batch::Columns(table.take()?),
        })
    }
}

/// Takes the rows. The next batch begins with room for as many.
fn take_rows<T>(rows: &mut Vec<T>) -> Vec<T> {
    let room = rows.len();
    std::mem::replace(rows, Vec::with_capacity(room))
}

fn each_flow(
    list: &MessageList<'_>,
    filter: Option<&conntrack::Filter>,
    mut add: impl FnMut(conntrack::Flow<'_>),
) -> u64 {
    let mut undecoded = 0;
    for message in list {
        match conntrack::Flow::decode(&message) {
            Some(flow) if filter.is_none_or(|filter| filter.matches(&flow)) => add(flow),
            Some(_) => {}
            None => undecoded += 1,
        }
    }
    undecoded
}

fn each_route(
    list: &MessageList<'_>,
    filter: Option<&route::Filter>,
    mut add: impl FnMut(route::Route<'_>),
) -> u64 {
    let mut undecoded = 0;
    for message in list {
        match route::Route::decode(&message) {
            Some(route) if filter.is_none_or(|filter| filter.matches(&route)) => add(route),
            Some(_) => {}
            None => undecoded += 1,
        }
    }
    undecoded
}

/// A batch on its way to Python.
pub enum Batch {
    Messages(MessageRows),
    Flows(Vec<Flow>),
    Routes(Vec<Route>),
    Columns(RecordBatch),
}

impl Batch {
    pub fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Messages(rows) => {
                let received_at = rows.received_at.unwrap_or_else(Timestamp::now);
                Py::new(py, Messages::new(rows.bytes, rows.ends, received_at))?.into_any()
            }
            Self::Flows(flows) => Py::new(py, Flows::new(flows))?.into_any(),
            Self::Routes(routes) => Py::new(py, Routes::new(routes))?.into_any(),
            Self::Columns(batch) => Py::new(py, Columns::new(batch))?.into_any(),
        })
    }
}
