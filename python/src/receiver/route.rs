//! A decoded route, as Python sees it.

use std::sync::LazyLock;

use nlring::Timestamp;
use nlring::route::{OwnedRoute, Route as View};
use nlring_print::route::{DeviceNames, IprouteNames, RouteFormat};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::json;

/// iproute2's names of tables and protocols on this host, read once.
static FORMAT: LazyLock<RouteFormat> =
    LazyLock::new(|| RouteFormat::Json(Box::new(IprouteNames::load())));

/// An event of a route: it was added, replaced or deleted.
///
/// The names are those of nlring's JSON. An attribute is None if the kernel did not report its value. `to_dict()` has
/// all of them.
#[pyclass(frozen, module = "nlring")]
#[derive(Clone)]
pub struct Route {
    route: OwnedRoute,
    received_at: Timestamp,
}

impl Route {
    #[expect(
        clippy::large_types_passed_by_value,
        reason = "it becomes an owned one"
    )]
    pub fn new(route: View<'_>, received_at: Timestamp) -> Self {
        Self {
            route: route.into_owned(),
            received_at,
        }
    }

    fn view(&self) -> View<'_> {
        self.route.as_route()
    }

    fn json(&self) -> Vec<u8> {
        let (mut line, devices) = (Vec::with_capacity(512), DeviceNames::default());
        FORMAT.write_event(&mut line, &self.view(), &devices, self.received_at);
        line
    }

    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.to_dict(py)?.get_item(name)
    }
}

#[pymethods]
impl Route {
    /// What happened: `"new"` or `"delete"`; `"entry"` in the answer to a request.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::intern(py, self.view().kind.name())
    }

    /// When it was received, in nanoseconds since 1970.
    #[getter]
    fn time_ns(&self) -> u64 {
        self.received_at.as_ns()
    }

    /// `"ipv4"`, `"ipv6"` or `"mpls"`.
    #[getter]
    fn family(&self) -> String {
        self.view().family.to_string()
    }

    /// The type such as `"unicast"`.
    #[getter]
    fn r#type<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "type")
    }

    /// The destination with its prefix length, such as `"10.0.0.0/8"`.
    #[getter]
    fn dst<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "dst")
    }

    /// The source that the route applies to, with its prefix length.
    #[getter]
    fn src<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "src")
    }

    /// The number of the routing table; 254 is the main one.
    #[getter]
    fn table(&self) -> u32 {
        self.view().table
    }

    /// What ip calls `metric`.
    #[getter]
    fn priority(&self) -> Option<u32> {
        self.view().priority
    }

    /// Who created it, such as `"kernel"` or `"bgp"`.
    #[getter]
    fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "protocol")
    }

    /// `"global"`, `"site"`, `"link"`, `"host"` or `"nowhere"`.
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "scope")
    }

    /// Where packets go next.
    #[getter]
    fn gateway(&self) -> Option<String> {
        self.view().hop.gateway.map(|gateway| gateway.to_string())
    }

    /// The index of the outgoing device.
    #[getter]
    fn oif(&self) -> Option<u32> {
        self.view().oif
    }

    /// The number of the nexthop object that it uses.
    #[getter]
    fn nexthop_id(&self) -> Option<u32> {
        self.view().nexthop_id
    }

    /// The hops of a multipath route, as a list of dicts.
    #[getter]
    fn nexthops<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "nexthops")
    }

    /// The metrics, as a dict.
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(py, "metrics")
    }

    /// The netlink port ID of the program whose request caused the event. None: the kernel.
    #[getter]
    fn port_id(&self) -> Option<u32> {
        let port_id = self.view().port_id;
        (port_id != 0).then_some(port_id)
    }

    /// Everything that the event says, as `nlring route --json` writes it, but without the names of devices.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::to_dict(py, &self.json())
    }

    /// The same as a line of JSON, without the newline at the end.
    fn to_json(&self) -> String {
        json::to_line(&self.json())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let route = self.view();
        let dst = self.dst(py)?.map(|dst| dst.to_string()).unwrap_or_default();
        let hop = match (route.hop.gateway, route.oif) {
            (Some(gateway), _) => format!(" via {gateway}"),
            (None, Some(oif)) => format!(" oif {oif}"),
            (None, None) => String::new(),
        };
        Ok(format!(
            "<Route {} {dst}{hop} table {}>",
            route.kind, route.table
        ))
    }
}
