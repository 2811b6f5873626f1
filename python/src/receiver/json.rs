//! Lines of JSON, as Python takes them.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The dict that a line of JSON is.
pub fn to_dict<'py>(py: Python<'py>, line: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let dict = py.import("json")?.call_method1("loads", (line,))?;
    Ok(dict.cast_into()?)
}

/// A line without its newline.
pub fn to_line(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}
