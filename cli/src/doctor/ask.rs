//! One request to conntrack, and the error number that the kernel answers.

use std::time::Duration;

use nlring::{Content, MessageBuilder, Protocol, RecvFlags, Result, Socket, flags};
use rustix::io::Errno;

/// The kernel answers at once.
const LIMIT: Duration = Duration::from_secs(1);

/// Numbers from include/uapi/linux/netfilter: subsystem 1 (`NFNL_SUBSYS_CTNETLINK`), messages `IPCTNL_MSG_CT_GET`,
/// `IPCTNL_MSG_CT_DELETE` and `IPCTNL_MSG_CT_GET_STATS`.
pub const CT_GET: u16 = 0x101;
pub const CT_DELETE: u16 = 0x102;
pub const CT_GET_STATS: u16 = 0x105;

/// Asks for something of an address family, and waits for the acknowledgement. None: the kernel did as asked.
pub fn ask(
    message_type: u16,
    family: u8,
    fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
) -> Result<Option<Errno>> {
    let socket = Socket::builder(Protocol::NETFILTER).open()?;
    socket.set_recv_timeout(Some(LIMIT))?;
    let mut request = Vec::new();
    let message = MessageBuilder::new(&mut request, message_type, flags::REQUEST | flags::ACK)
        .bytes(&[family, 0, 0, 0]); // struct nfgenmsg
    fill(message).finish()?;
    socket.send(&request)?;
    let mut answer = vec![0; Socket::buffer_size()];
    loop {
        let list = match socket.recv(&mut answer, RecvFlags::NONE) {
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => continue,
            list => list?,
        };
        for message in &list {
            if let Content::Error(answer) = message.content() {
                let number = answer.errno().filter(|number| *number != 0);
                return Ok(number.map(Errno::from_raw_os_error));
            }
        }
    }
}
