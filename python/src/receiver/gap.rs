//! A gap in the stream of events, as Python sees it.

use nlring::Event;
use nlring_print::{Gap as Written, Style};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::json;

/// Something that is missing from the stream of events, in its place in the stream.
///
/// Older datagrams may still be queued when a loss is noticed. So later events may be older than the gap.
#[pyclass(frozen, module = "nlring")]
pub struct Gap {
    line: String,
    text: String,
    /// How many datagrams are missing. None: the number is unknown.
    #[pyo3(get)]
    count: Option<u64>,
}

impl Gap {
    /// The gap that an event of the engine reports. None if nothing is missing.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        let gap = Written::of(event)?;
        let count = match gap {
            Written::Lost(loss) => Some(loss.count),
            Written::Truncated { .. } => Some(1),
            _ => None,
        };
        let (mut line, mut text) = (Vec::new(), Vec::new());
        Style::Json.write_gap(&mut line, &gap);
        Style::Text.write_gap(&mut text, &gap);
        Some(Self {
            line: json::to_line(&line),
            text: String::from_utf8_lossy(&text).trim().to_owned(),
            count,
        })
    }
}

#[pymethods]
impl Gap {
    /// `"lost"`: the kernel dropped `count` datagrams, because the receive buffer was full. `"delayed"`: deliveries to
    /// a reliable receiver failed, and may be retried. `"truncated"`, `"malformed"`: a datagram, or its end, cannot be
    /// read. `"missing"`: something else is missing; `to_dict()["detail"]` says what.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.to_dict(py)?.get_item("event")
    }

    /// Of a loss: when the kernel's counter was last read without it, in nanoseconds since 1970.
    #[getter]
    fn since_ns<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.to_dict(py)?.get_item("since_ns")
    }

    /// Of a loss: when the kernel's counter was read with it, in nanoseconds since 1970.
    #[getter]
    fn until_ns<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.to_dict(py)?.get_item("until_ns")
    }

    /// Everything that is known, with the names of nlring's JSON.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::to_dict(py, self.line.as_bytes())
    }

    /// The same as a line of JSON, without the newline at the end.
    fn to_json(&self) -> &str {
        &self.line
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<Gap {}>", self.text)
    }
}
