//! Requests that are sent together. The first one that the kernel refuses becomes the failure.

use std::io;

use nlring::{Error, ErrorKind, Protocol, Requester};
use rustix::io::Errno;

use crate::host::privilege::{Capability, Privilege};
use crate::outcome::Failure;

/// What to do about a refusal.
pub type Remedies = &'static [(Errno, &'static str)];

pub struct Batch {
    requester: Requester,
    requests: nlring::Batch,
    operation: &'static str,
    remedies: Remedies,
}

impl Batch {
    pub fn open(
        protocol: Protocol,
        operation: &'static str,
        remedies: Remedies,
    ) -> Result<Self, Failure> {
        Ok(Self {
            requester: Requester::open(protocol)?,
            requests: nlring::Batch::new(),
            operation,
            remedies,
        })
    }

    /// The requests to send next, for the caller to add to.
    pub fn requests(&mut self) -> &mut nlring::Batch {
        &mut self.requests
    }

    /// Sends what was added, and returns when the kernel has answered every request. The failure is the first request
    /// that it refused; it has carried out the others.
    pub fn send(&mut self) -> Result<(), Failure> {
        let mut refusal = None;
        self.requests.send(&mut self.requester, |_, reply| {
            if let Err(error) = reply {
                refusal.get_or_insert(error);
            }
        })?;
        refusal.map_or(Ok(()), |error| Err(self.failure(error)))
    }

    /// A known remedy says more than the kernel does.
    fn failure(&self, error: Error) -> Failure {
        if error.kind() == ErrorKind::PermissionDenied {
            return not_permitted(self.operation);
        }
        let mut remedies = self.remedies.iter();
        let is_its = |of: Errno| error.raw_os_error() == Some(of.raw_os_error());
        let Some((of, remedy)) = remedies.find(|(of, _)| is_its(*of)) else {
            return error.during(self.operation).into();
        };
        let message = format!("{}: {}: {remedy}", self.operation, io::Error::from(*of));
        Failure::Other(message)
    }
}

/// The failure of a request that needs a capability which this process lacks.
fn not_permitted(operation: &str) -> Failure {
    let capability = Capability::NetAdmin;
    let remedy = Privilege::read().remedy(capability, "flood");
    Failure::Denied(format!(
        "{operation}: not permitted: it takes {capability}; {remedy}"
    ))
}
