//! Flows that outlive their messages.

use super::flow::Flow;

/// A flow that owns all its parts: it outlives the message, and can be kept or sent to another thread.
///
/// [`Flow::into_owned`] creates one, and [`as_flow`](Self::as_flow) returns the flow.
///
/// ```
/// use nlring::conntrack::{Flow, OwnedFlow, cta, message_type};
/// use nlring::{MessageBuilder, MessageList};
///
/// fn first_flow(bytes: &[u8]) -> Option<OwnedFlow> {
///     let list = MessageList::new(bytes);
///     list.iter().find_map(|message| Flow::decode(&message)).map(Flow::into_owned)
/// }
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, message_type::CT_NEW, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0])
///     .nested(cta::TUPLE_ORIG, |tuple| {
///         tuple.nested(1 /* CTA_TUPLE_IP */, |ip| {
///             ip.attribute(1, &[10, 0, 0, 1]).attribute(2, &[9, 9, 9, 9])
///         })
///     })
///     .nested(cta::HELP, |help| help.attribute_str_nul(1 /* CTA_HELP_NAME */, "ftp"))
///     .finish()?;
/// let owned = first_flow(&bytes).expect("it is a flow");
/// drop(bytes);
/// assert_eq!(owned.as_flow().helper, Some(&b"ftp"[..]));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFlow {
    /// The flow without its borrowed parts.
    flow: Flow<'static>,
    secctx: Option<Box<[u8]>>,
    labels: Option<Box<[u8]>>,
    helper: Option<Box<[u8]>>,
}

impl OwnedFlow {
    /// The flow. This copies about 300 bytes and allocates nothing.
    #[inline]
    pub fn as_flow(&self) -> Flow<'_> {
        Flow {
            secctx: self.secctx.as_deref(),
            labels: self.labels.as_deref(),
            helper: self.helper.as_deref(),
            ..self.flow
        }
    }
}

impl Flow<'_> {
    /// The same flow with its own parts. This allocates only for a security context, labels and a helper's name, which
    /// few flows have.
    #[inline]
    #[must_use]
    pub fn into_owned(self) -> OwnedFlow {
        let owned = |bytes: Option<&[u8]>| bytes.map(Box::from);
        OwnedFlow {
            secctx: owned(self.secctx),
            labels: owned(self.labels),
            helper: owned(self.helper),
            flow: Flow {
                secctx: None,
                labels: None,
                helper: None,
                ..self
            },
        }
    }
}

impl From<Flow<'_>> for OwnedFlow {
    fn from(flow: Flow<'_>) -> Self {
        flow.into_owned()
    }
}

/// Serializes like [`Flow`].
#[cfg(feature = "serde")]
impl serde::Serialize for OwnedFlow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_flow().serialize(serializer)
    }
}
