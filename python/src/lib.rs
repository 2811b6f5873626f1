//! The native part of the Python package `nlring`: the module `nlring._nlring`.

mod columns;
mod error;
mod receiver;
mod socket;
mod split;

use pyo3::prelude::*;

/// The native part of nlring. Use the names of the package `nlring` instead.
#[pymodule]
mod _nlring {
    #[pymodule_export]
    use crate::buffer_size;
    #[pymodule_export]
    use crate::columns::Columns;
    #[pymodule_export]
    use crate::receiver::{Flow, Flows, Gap, Messages, Receiver, Route, Routes, Statistics, Tuple};
    #[pymodule_export]
    use crate::socket::Socket;
    #[pymodule_export]
    use crate::split::{split_attributes, split_messages};
}

/// The size in bytes of a buffer that holds any answer except a dump: the smaller of 8 KiB and the page size.
#[pyfunction]
fn buffer_size() -> usize {
    nlring::Socket::buffer_size()
}
