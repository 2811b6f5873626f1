//! Requests to `nlctrl`, the family that knows all families.

use super::{GenericFamily, HEADER_BYTES, attribute};
use crate::error::{Error, ErrorKind, Result};
use crate::request::{Dump, Requester};
use crate::socket::{Namespace, Protocol};

/// `GENL_ID_CTRL`: the number of the family `nlctrl`.
const CONTROL: u16 = 16;
/// `struct genlmsghdr` of the command `CTRL_CMD_GETFAMILY`, version 1.
const GET_FAMILY: [u8; HEADER_BYTES] = [3, 1, 0, 0];
/// `GENL_NAMSIZ`: the size of a name in bytes, with the NUL at its end.
const NAME_BYTES: usize = 16;

/// Asks the kernel for families of generic netlink. Needs no privileges.
///
/// ```
/// use nlring::{ErrorKind, generic};
///
/// let mut requests = generic::Requests::open()?;
/// let family = requests.get("nlctrl")?;
/// println!("{}: id {}, groups {:?}", family.name, family.id, family.groups);
///
/// let error = requests.get("none").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Requests {
    requester: Requester,
}

impl Requests {
    /// Opens a socket for requests.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open`].
    pub fn open() -> Result<Self> {
        let requester = Requester::open(Protocol::GENERIC)?;
        Ok(Self { requester })
    }

    /// Opens a socket for requests in another network namespace. They concern the families of that namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open_in`].
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        let requester = Requester::open_in(Protocol::GENERIC, namespace)?;
        Ok(Self { requester })
    }

    /// The requester that sends the requests. Use it to set the time-out, and for requests to a family.
    pub fn requester(&mut self) -> &mut Requester {
        &mut self.requester
    }

    /// Looks up a family by its name. The kernel may load the module of the family to answer.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`]: the kernel has no family of this name.
    /// - Otherwise those of [`Requester::ask`].
    pub fn get(&mut self, name: &str) -> Result<GenericFamily> {
        if name.len() >= NAME_BYTES || name.contains('\0') {
            return Err(not_found(name));
        }
        let mut replies = self.requester.send(CONTROL, 0, |request| {
            request
                .bytes(&GET_FAMILY)
                .attribute_str_nul(attribute::FAMILY_NAME, name)
        })?;
        let mut family = None;
        loop {
            match replies.next_message() {
                Ok(Some(message)) => family = family.or(GenericFamily::decode(&message)),
                Ok(None) => return family.ok_or_else(|| not_found(name)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    return Err(not_found(name));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Dumps all families that are registered in this network namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn dump(&mut self) -> Result<Dump<Vec<GenericFamily>>> {
        self.requester.dump(
            CONTROL,
            |request| request.bytes(&GET_FAMILY),
            |families: &mut Vec<_>, message| families.extend(GenericFamily::decode(message)),
        )
    }
}

fn not_found(name: &str) -> Error {
    let text = format!("this kernel has no family {name:?}");
    Error::explained(
        "find a family of generic netlink",
        ErrorKind::NotFound,
        text,
    )
    .with_remedy("load the module that has it")
}
