//! The numbers of network namespaces: nsid.

use std::os::fd::{AsFd as _, AsRawFd as _};

use super::kernel::message_type;
use super::request::Requests;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageBuilder};
use crate::request::Dump;
use crate::socket::Namespace;

/// Size of `struct rtgenmsg`, with its padding.
const FIXED_BYTES: usize = 4;

/// `NETNSA_*` (include/uapi/linux/net_namespace.h).
mod netnsa {
    pub const NSID: u16 = 1;
    pub const FD: u16 = 3;
}

/// Ids of network namespaces. A namespace assigns an id to each other namespace that it knows, for example because a
/// device of one has a peer in the other. Two namespaces may assign different ids to a third one.
///
/// ```
/// use nlring::{Namespace, route};
///
/// let mut requests = route::Requests::open()?;
/// let own = Namespace::current()?;
/// match requests.namespace_id(&own)? {
///     Some(nsid) => println!("this namespace has given itself the id {nsid}"),
///     None => println!("this namespace has given itself no id"),
/// }
/// println!("ids in use: {:?}", requests.namespace_ids()?.items);
/// # Ok::<(), nlring::Error>(())
/// ```
impl Requests {
    /// The id that the namespace of these requests has assigned to another one: the number that
    /// [`MessageList::nsid`](crate::MessageList::nsid) reports for the other one's events. None: it has none. Needs no
    /// capability. Available since Linux 4.0.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`](crate::Requester::ask).
    pub fn namespace_id(&mut self, namespace: &Namespace) -> Result<Option<i32>> {
        const OPERATION: &str = "ask for the id of a network namespace";
        let mut replies = self
            .requester()
            .send(message_type::GET_NAMESPACE_ID, 0, |message| {
                put_namespace(message.bytes(&[0; FIXED_BYTES]), namespace)
            })?;
        let mut answer = None;
        while let Some(message) = replies
            .next_message()
            .map_err(|error| error.during(OPERATION))?
        {
            answer = answer.or(decode(&message));
        }
        match answer {
            Some(nsid) => Ok((nsid >= 0).then_some(nsid)),
            None => Err(Error::with_kind(OPERATION, ErrorKind::UnexpectedReply)),
        }
    }

    /// All ids that the namespace of these requests has assigned. Needs no capability. Available since Linux 4.0.
    ///
    /// The kernel does not say which namespace has an id. [`namespace_id`](Self::namespace_id) finds the id of a
    /// namespace that is known.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`](crate::Requester::dump).
    pub fn namespace_ids(&mut self) -> Result<Dump<Vec<i32>>> {
        self.requester().dump(
            message_type::GET_NAMESPACE_ID,
            |message| message.bytes(&[0; FIXED_BYTES]),
            |ids: &mut Vec<_>, message| ids.extend(decode(message)),
        )
    }

    /// Assigns an id, from 0 up, to another namespace. None: the kernel chooses one. From then on a socket with
    /// [`listen_all_nsid`](crate::SocketBuilder::listen_all_nsid) receives the other one's events. The id cannot be
    /// removed or changed. Needs `CAP_NET_ADMIN`. Available since Linux 4.0.
    ///
    /// # Errors
    ///
    /// - `EEXIST`: the namespace already has an id, or another one has this id.
    /// - Otherwise those of [`Requester::ask`](crate::Requester::ask).
    pub fn set_namespace_id(&mut self, namespace: &Namespace, nsid: Option<i32>) -> Result<()> {
        let asked = self
            .requester()
            .ask(message_type::NEW_NAMESPACE_ID, 0, |message| {
                let message = message.bytes(&[0; FIXED_BYTES]);
                let nsid = nsid.unwrap_or(-1).cast_unsigned();
                put_namespace(message.attribute_u32(netnsa::NSID, nsid), namespace)
            });
        asked.map_err(|error| error.during("give a network namespace an id"))
    }
}

/// Appends the descriptor of a namespace, which the kernel looks up in this process while it handles the request.
fn put_namespace<'a>(message: MessageBuilder<'a>, namespace: &Namespace) -> MessageBuilder<'a> {
    let number = namespace.as_fd().as_raw_fd().cast_unsigned();
    message.attribute_u32(netnsa::FD, number)
}

/// The id in a message; -1 (`NETNSA_NSID_NOT_ASSIGNED`) if the namespace has none.
fn decode(message: &Message<'_>) -> Option<i32> {
    if message.message_type() != message_type::NEW_NAMESPACE_ID {
        return None;
    }
    let nsid = message.attributes(FIXED_BYTES).get(netnsa::NSID)?;
    nsid.as_u32().map(u32::cast_signed)
}
