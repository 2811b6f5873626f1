//! A bucket of a resilient nexthop group (ip's function `print_nexthop_bucket`).

use nlring::EventKind;
use nlring::route::NexthopBucket;

use crate::json::optional;
use crate::route::json::write_flags;
use crate::route::text::Line;

impl Line<'_> {
    pub(crate) fn nexthop_bucket(&mut self, bucket: &NexthopBucket) {
        if bucket.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        if let Some(id) = bucket.group_id {
            self.number("id ", id);
        }
        if let Some(index) = bucket.index {
            self.number("index ", index);
        }
        if let Some(idle_time) = bucket.idle_time {
            self.hundredths("idle_time ", idle_time);
        }
        if let Some(id) = bucket.nexthop_id {
            self.number("nhid ", id);
        }
        self.flags(bucket.flags);
        self.text("\n");
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, bucket: &NexthopBucket) {
    optional(out, r#""id":"#, bucket.group_id);
    optional(out, r#""index":"#, bucket.index);
    let idle_ms = bucket.idle_time.map(|time| time.saturating_mul(10));
    optional(out, r#""idle_ms":"#, idle_ms);
    optional(out, r#""nhid":"#, bucket.nexthop_id);
    write_flags(out, bucket.flags);
}
