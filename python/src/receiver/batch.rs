//! Batches, as Python sees them: sequences whose items are made when they are asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use nlring::Timestamp;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::flow::Flow;
use super::route::Route;

/// The place of an index in a sequence. A negative index counts from the end.
fn place(index: isize, length: usize) -> PyResult<usize> {
    let place = match usize::try_from(index) {
        Ok(place) => Some(place),
        Err(_) => length.checked_sub(index.unsigned_abs()),
    };
    place
        .filter(|place| *place < length)
        .ok_or_else(|| PyIndexError::new_err("the batch has fewer items"))
}

/// A batch of flows: a sequence of `Flow`.
#[pyclass(frozen, sequence, module = "nlring")]
pub struct Flows(Vec<Flow>);

impl Flows {
    pub fn new(flows: Vec<Flow>) -> Self {
        Self(flows)
    }
}

#[pymethods]
impl Flows {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Flow> {
        Ok(self.0[place(index, self.0.len())?].clone())
    }

    fn __iter__(slf: Py<Self>) -> FlowIterator {
        FlowIterator {
            flows: slf,
            next: AtomicUsize::new(0),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Flows: {} events>", self.0.len())
    }
}

#[pyclass(frozen)]
pub struct FlowIterator {
    flows: Py<Flows>,
    next: AtomicUsize,
}

#[pymethods]
impl FlowIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Flow> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.flows.get().0.get(place).cloned()
    }
}

/// A batch of routes: a sequence of `Route`.
#[pyclass(frozen, sequence, module = "nlring")]
pub struct Routes(Vec<Route>);

impl Routes {
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }
}

#[pymethods]
impl Routes {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Route> {
        Ok(self.0[place(index, self.0.len())?].clone())
    }

    fn __iter__(slf: Py<Self>) -> RouteIterator {
        RouteIterator {
            routes: slf,
            next: AtomicUsize::new(0),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Routes: {} events>", self.0.len())
    }
}

#[pyclass(frozen)]
pub struct RouteIterator {
    routes: Py<Routes>,
    next: AtomicUsize,
}

#[pymethods]
impl RouteIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Route> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.routes.get().0.get(place).cloned()
    }
}

/// A batch of messages: a sequence of `bytes`, each one message with its header.
///
/// `nlring.message.Message(message)` reads one.
#[pyclass(frozen, sequence, module = "nlring")]
pub struct Messages {
    /// All messages, one after the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    received_at: Timestamp,
}

impl Messages {
    pub fn new(bytes: Vec<u8>, ends: Vec<usize>, received_at: Timestamp) -> Self {
        Self {
            bytes,
            ends,
            received_at,
        }
    }

    fn get<'py>(&self, py: Python<'py>, place: usize) -> Option<Bound<'py, PyBytes>> {
        let end = *self.ends.get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(PyBytes::new(py, &self.bytes[start..end]))
    }
}

#[pymethods]
impl Messages {
    /// When the first of them was received, in nanoseconds since 1970.
    #[getter]
    fn time_ns(&self) -> u64 {
        self.received_at.as_ns()
    }

    fn __len__(&self) -> usize {
        self.ends.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyBytes>> {
        let place = place(index, self.ends.len())?;
        Ok(self.get(py, place).unwrap_or_else(|| PyBytes::new(py, &[])))
    }

    fn __iter__(slf: Py<Self>) -> MessageIterator {
        MessageIterator {
            messages: slf,
            next: AtomicUsize::new(0),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Messages: {} messages>", self.ends.len())
    }
}

#[pyclass(frozen)]
pub struct MessageIterator {
    messages: Py<Messages>,
    next: AtomicUsize,
}

#[pymethods]
impl MessageIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.messages.get().get(py, place)
    }
}
