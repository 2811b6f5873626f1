//! Columns: batches in the memory format of Apache Arrow.
//!
//! Python takes them through the Arrow C interface (<https://arrow.apache.org/docs/format/CDataInterface.html>), wrapped
//! in capsules, so nlring depends on no package of Python.

mod column;
mod flows;
mod routes;

use std::sync::Arc;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::{Array as _, RecordBatch, StructArray};
use arrow_schema::{ArrowError, Schema};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

pub use column::Column;
pub use flows::FlowTable;
pub use routes::RouteTable;

/// The columns of a table as a record batch.
fn record_batch(
    columns: &mut [&mut dyn Column],
    row_count: usize,
) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<_> = columns.iter().map(|column| column.field()).collect();
    let arrays = columns.iter_mut().map(|column| column.take(row_count));
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        arrays.collect::<Result<_, _>>()?,
    )
}

/// A batch of events as columns, one row for each event.
///
/// `pyarrow.record_batch(columns)` and `polars.DataFrame(columns)` take it without a copy, and so does every
/// library that knows the Arrow PyCapsule interface.
#[pyclass(frozen, module = "nlring")]
pub struct Columns {
    batch: RecordBatch,
}

impl Columns {
    pub fn new(batch: RecordBatch) -> Self {
        Self { batch }
    }
}

#[pymethods]
impl Columns {
    /// The number of rows.
    #[getter]
    fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The names of the columns, in their order.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        let schema = self.batch.schema();
        schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    }

    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    fn __repr__(&self) -> String {
        let (rows, columns) = (self.batch.num_rows(), self.batch.num_columns());
        format!("Columns(num_rows={rows}, num_columns={columns})")
    }

    /// The schema as a capsule, for libraries that read Arrow.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.batch.schema().as_ref())
            .map_err(|error| to_python(&error))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    /// The schema and the rows as two capsules, for libraries that read Arrow. The schema is always that of
    /// `__arrow_c_schema__`, whatever is requested.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema; // the interface lets a producer that cannot convert ignore it
        let rows = StructArray::from(self.batch.clone());
        let array = FFI_ArrowArray::new(&rows.to_data());
        let array = PyCapsule::new_with_value(py, array, c"arrow_array")?;
        Ok((self.__arrow_c_schema__(py)?, array))
    }
}

fn to_python(error: &ArrowError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
