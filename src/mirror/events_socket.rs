//! Whether a mirror's socket receives all events that the mirror needs.

use std::fmt::{Debug, Write as _};

use crate::error::{Error, ErrorKind, Result};
use crate::socket::{Namespace, Socket};

/// The socket that was found to be in all groups. Its cookie identifies it, because the kernel gives no other socket
/// the same one, whereas the number of a descriptor is reused (socket(7), `SO_COOKIE`, Linux 4.6; net/core/sock_diag.c,
/// `__sock_gen_cookie`).
#[derive(Debug, Default)]
pub(super) struct EventsSocket {
    cookie: Option<u64>,
    namespace: Option<Namespace>,
}

impl EventsSocket {
    /// The namespace that the last accepted socket was opened in. None: that of the thread that opened it.
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// Refuses a socket that is not in all of these groups. An accepted socket may leave them later, at its end.
    pub(super) fn check<G>(&mut self, groups: &[G], events: &Socket) -> Result<()>
    where
        G: Copy + Debug + Into<u32>,
    {
        let cookie = cookie(events);
        if cookie.is_some() && cookie == self.cookie {
            return Ok(());
        }
        let joined = events.groups()?;
        let mut missing = String::new();
        for &group in groups {
            if !joined.contains(&group.into()) {
                let comma = if missing.is_empty() { "" } else { ", " };
                _ = write!(missing, "{comma}{group:?}");
            }
        }
        if missing.is_empty() {
            self.cookie = cookie;
            self.namespace = events.namespace().cloned();
            return Ok(());
        }
        let text = format!("its socket is not in the groups {missing}");
        Err(
            Error::explained("mirror a table", ErrorKind::InvalidInput, text)
                .with_remedy("open it with SocketBuilder::groups(Mirror::GROUPS)"),
        )
    }
}

fn cookie(socket: &Socket) -> Option<u64> {
    let mut value = [0; 8];
    let length = socket.option(libc::SOL_SOCKET, libc::SO_COOKIE, &mut value);
    (length.ok()? == value.len()).then(|| u64::from_ne_bytes(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Protocol;
    use crate::{conntrack, route};

    #[test]
    fn a_socket_is_refused_until_it_is_in_all_groups() {
        let socket = Socket::builder(Protocol::ROUTE)
            .group(route::Group::Link)
            .open()
            .unwrap();
        let mut events = EventsSocket::default();
        let error = events.check(&route::Mirror::GROUPS, &socket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains("Ipv4Route, Ipv6Route, MplsRoute, Ipv4Address, Ipv6Address, Nexthop;"),
            "{text}"
        );
        for group in route::Mirror::GROUPS {
            socket.add_membership(group).unwrap();
        }
        events.check(&route::Mirror::GROUPS, &socket).unwrap();
    }

    #[test]
    fn a_socket_may_leave_its_groups_later_and_another_may_not_take_its_place() {
        let open = || {
            Socket::builder(Protocol::ROUTE)
                .groups(route::Mirror::GROUPS)
                .open()
                .unwrap()
        };
        let (one, other) = (open(), open());
        let mut events = EventsSocket::default();
        events.check(&route::Mirror::GROUPS, &one).unwrap();
        for socket in [&one, &other] {
            socket.drop_membership(route::Group::Nexthop).unwrap();
        }
        events.check(&route::Mirror::GROUPS, &one).unwrap();
        let error = events.check(&route::Mirror::GROUPS, &other).unwrap_err();
        assert!(error.to_string().contains("groups Nexthop;"), "{error}");
    }

    #[test]
    fn groups_of_another_protocol_are_none() {
        let socket = Socket::open(Protocol::NETFILTER).unwrap();
        let error = EventsSocket::default()
            .check(&conntrack::Mirror::GROUPS, &socket)
            .unwrap_err();
        assert!(
            error.to_string().contains("New, Update, Destroy;"),
            "{error}"
        );
    }
}
