//! A decoded flow, as Python sees it.

use std::net::IpAddr;

use nlring::conntrack::{Counters, Flow as View, Layer4, OwnedFlow, Tuple as Ends, protocol_name};
use nlring::{EventKind, Family, Timestamp};
use nlring_print::conntrack::{FlowFormat, LabelNames};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::json;

/// The protocol that has keys instead of ports.
const GRE: u8 = 47;

/// An event of a connection: it began, changed or ended.
///
/// The names are those of nlring's JSON. An attribute is None if the kernel did not report its value.
#[pyclass(frozen, module = "nlring")]
#[derive(Clone)]
pub struct Flow {
    flow: OwnedFlow,
    received_at: Timestamp,
}

impl Flow {
    #[expect(
        clippy::large_types_passed_by_value,
        reason = "it becomes an owned one"
    )]
    #[inline]
    pub fn new(flow: View<'_>, received_at: Timestamp) -> Self {
        Self {
            flow: flow.into_owned(),
            received_at,
        }
    }

    fn view(&self) -> View<'_> {
        self.flow.as_flow()
    }

    fn json(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(512);
        let (format, flow) = (FlowFormat::Json(LabelNames::default()), self.view());
        format.write_event(&mut line, &flow, self.received_at);
        line
    }
}

#[pymethods]
impl Flow {
    /// What happened: `"new"`, `"update"` or `"destroy"`; `"entry"` in the answer to a request.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        match self.view().kind {
            EventKind::New => pyo3::intern!(py, "new"),
            EventKind::Update => pyo3::intern!(py, "update"),
            EventKind::Delete => pyo3::intern!(py, "destroy"),
            EventKind::Entry => pyo3::intern!(py, "entry"),
        }
    }

    /// When it happened, in nanoseconds since 1970.
    #[getter]
    fn time_ns(&self) -> u64 {
        self.view().event_time.unwrap_or(self.received_at).as_ns()
    }

    /// Where `time_ns` comes from: `"kernel"`, or `"receive"` for the time at which it was received.
    #[getter]
    fn time_source<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        if self.view().event_time.is_some() {
            pyo3::intern!(py, "kernel")
        } else {
            pyo3::intern!(py, "receive")
        }
    }

    /// `"ipv4"` or `"ipv6"`.
    #[getter]
    fn family<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        if self.view().family == Family::INET6 {
            pyo3::intern!(py, "ipv6")
        } else {
            pyo3::intern!(py, "ipv4")
        }
    }

    /// The protocol's name such as `"tcp"`, or its number as a string.
    #[getter]
    fn proto<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match self.view().protocol() {
            6 => pyo3::intern!(py, "tcp").clone(),
            17 => pyo3::intern!(py, "udp").clone(),
            number => match protocol_name(number) {
                Some(name) => PyString::intern(py, name),
                None => PyString::new(py, &number.to_string()),
            },
        }
    }

    /// The direction of the first packet.
    #[getter]
    fn orig(&self) -> Tuple {
        let flow = self.view();
        Tuple::new(flow.orig, flow.counters_orig)
    }

    /// The direction of the answers.
    #[getter]
    fn reply(&self) -> Option<Tuple> {
        let flow = self.view();
        flow.reply
            .map(|reply| Tuple::new(reply, flow.counters_reply))
    }

    /// The original tuple of the flow that expected this one.
    #[getter]
    fn master(&self) -> Option<Tuple> {
        self.view().master.map(|master| Tuple::new(master, None))
    }

    /// The translation of the flow, as a dict with some of `src`, `sport`, `dst` and `dport`.
    #[getter]
    fn nat<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.view().nat() {
            Some(_) => self.to_dict(py)?.get_item("nat"),
            None => Ok(None),
        }
    }

    /// The protocol's state such as `"ESTABLISHED"`.
    #[getter]
    fn state(&self) -> Option<String> {
        self.view().state.map(|state| state.to_string())
    }

    /// Seconds until the flow ends if no packet arrives.
    #[getter]
    fn timeout_s(&self) -> Option<u32> {
        self.view().timeout_seconds
    }

    /// The words for the status bits, such as `["seen-reply", "assured"]`.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.view().status {
            Some(_) => self.to_dict(py)?.get_item("status"),
            None => Ok(None),
        }
    }

    /// The status bits as a number (`IPS_*`).
    #[getter]
    fn status_bits(&self) -> Option<u32> {
        self.view().status
    }

    /// The connection mark. The kernel sends it if it is not 0 or has changed.
    #[getter]
    fn mark(&self) -> Option<u32> {
        self.view().mark
    }

    /// The zone, if it is not 0.
    #[getter]
    fn zone(&self) -> Option<u16> {
        self.view().zone.map(|zone| zone.id)
    }

    /// A number that two flows may share: `orig` and the zone identify a flow.
    #[getter]
    fn id(&self) -> Option<u32> {
        self.view().id
    }

    /// When the flow began, in nanoseconds since 1970.
    #[getter]
    fn start_ns(&self) -> Option<u64> {
        self.view().start.map(Timestamp::as_ns)
    }

    /// When the flow ended, in nanoseconds since 1970.
    #[getter]
    fn stop_ns(&self) -> Option<u64> {
        self.view().stop.map(Timestamp::as_ns)
    }

    /// The name of the flow's helper.
    #[getter]
    fn helper(&self) -> Option<String> {
        let flow = self.view();
        flow.helper
            .map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// The numbers of the labels that are set, if a label changed.
    #[getter]
    fn labels(&self) -> Option<Vec<u32>> {
        let flow = self.view();
        flow.labels.map(|_| flow.label_bits().collect())
    }

    /// The netlink port ID of the program whose request caused the event.
    #[getter]
    fn port_id(&self) -> Option<u32> {
        let port_id = self.view().port_id;
        (port_id != 0).then_some(port_id)
    }

    /// Everything that the event says, as `nlring conntrack --json` writes it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::to_dict(py, &self.json())
    }

    /// The same as a line of JSON, without the newline at the end.
    fn to_json(&self) -> String {
        json::to_line(&self.json())
    }

    fn __repr__(&self) -> String {
        let flow = self.view();
        let event = match flow.kind {
            EventKind::Delete => "destroy",
            kind => kind.name(),
        };
        format!("<Flow {event} {}>", flow.orig)
    }
}

/// One direction of a flow: who sends to whom.
#[pyclass(frozen, eq, hash, module = "nlring")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    ends: Ends,
    counters: Option<Counters>,
}

impl Tuple {
    fn new(ends: Ends, counters: Option<Counters>) -> Self {
        Self { ends, counters }
    }

    fn ports(&self) -> Option<(u16, u16)> {
        self.ends.ports().filter(|_| self.ends.protocol != GRE)
    }

    fn keys(&self) -> Option<(u16, u16)> {
        self.ends.ports().filter(|_| self.ends.protocol == GRE)
    }

    fn icmp(&self) -> Option<(u8, u8, u16)> {
        match self.ends.layer4 {
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => Some((icmp_type, code, id)),
            _ => None,
        }
    }
}

#[pymethods]
impl Tuple {
    /// The source address as text. `ipaddress.ip_address(tuple.src)` converts it to an object.
    #[getter]
    fn src<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        address(py, self.ends.src)
    }

    /// The destination address as text.
    #[getter]
    fn dst<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        address(py, self.ends.dst)
    }

    /// The source port.
    #[getter]
    fn sport(&self) -> Option<u16> {
        self.ports().map(|(src, _)| src)
    }

    /// The destination port.
    #[getter]
    fn dport(&self) -> Option<u16> {
        self.ports().map(|(_, dst)| dst)
    }

    /// The ICMP type.
    #[getter]
    fn r#type(&self) -> Option<u8> {
        self.icmp().map(|(icmp_type, ..)| icmp_type)
    }

    /// The ICMP code.
    #[getter]
    fn code(&self) -> Option<u8> {
        self.icmp().map(|(_, code, _)| code)
    }

    /// The ICMP identifier.
    #[getter]
    fn id(&self) -> Option<u16> {
        self.icmp().map(|(.., id)| id)
    }

    /// The source key of GRE.
    #[getter]
    fn srckey(&self) -> Option<u16> {
        self.keys().map(|(src, _)| src)
    }

    /// The destination key of GRE.
    #[getter]
    fn dstkey(&self) -> Option<u16> {
        self.keys().map(|(_, dst)| dst)
    }

    /// The packets of this direction: in `destroy`, if `net.netfilter.nf_conntrack_acct` is 1.
    #[getter]
    fn packets(&self) -> Option<u64> {
        self.counters.map(|counters| counters.packets)
    }

    /// The bytes of this direction, under the same condition.
    #[getter]
    fn bytes(&self) -> Option<u64> {
        self.counters.map(|counters| counters.bytes)
    }

    fn __repr__(&self) -> String {
        format!("<Tuple {}>", self.ends)
    }
}

fn address(py: Python<'_>, ip: IpAddr) -> Bound<'_, PyString> {
    let mut text = Vec::with_capacity(40);
    nlring_print::text::write_ip(&mut text, ip);
    PyString::new(py, &String::from_utf8_lossy(&text))
}
