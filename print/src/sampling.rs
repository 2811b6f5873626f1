//! Changes of the ratio at which flows are sampled, as lines.

use std::io::Write as _;

use nlring::conntrack::Sampling;

use crate::json;

/// Appends a change as a line that begins with ` [SAMPLING]`.
pub(crate) fn write_text(out: &mut Vec<u8>, sampling: &Sampling) {
    let Sampling {
        ratio,
        rate,
        max_rate,
        since,
        ..
    } = sampling;
    _ = if ratio.is_all() {
        write!(out, " [SAMPLING] ended at {since}, keeping all flows")
    } else {
        write!(
            out,
            " [SAMPLING] keeping {ratio} flows since {since} and leaving out the others on purpose"
        )
    };
    _ = writeln!(out, ": about {rate} events/s, the limit is {max_rate}");
}

/// Appends a change as a JSON object.
pub(crate) fn write_json(out: &mut Vec<u8>, sampling: &Sampling) {
    out.push(b'{');
    json::word(out, r#""event":"#, "sampling");
    json::number(out, r#""one_in":"#, sampling.ratio.one_in());
    json::number(out, r#""before_one_in":"#, sampling.before.one_in());
    if !sampling.ratio.is_all() {
        _ = write!(out, r#""filter":"{}","#, sampling.filter()); // it has nothing to escape
    }
    json::number(out, r#""events_per_s":"#, sampling.rate);
    json::number(out, r#""max_events_per_s":"#, sampling.max_rate);
    json::number(out, r#""since_ns":"#, sampling.since.as_ns());
    json::end_line(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::Timestamp;
    use nlring::conntrack::SamplingRatio;
    use serde_json::{Value, json};

    #[test]
    fn a_change_has_a_line_and_an_object() {
        let begins = Sampling {
            ratio: SamplingRatio::new(8).unwrap(),
            before: SamplingRatio::ALL,
            rate: 350_000,
            max_rate: 50_000,
            since: Timestamp::from_ns(1_000_000_000),
            seed: 7,
        };
        let ends = Sampling {
            ratio: begins.before,
            before: begins.ratio,
            rate: 20_000,
            ..begins
        };
        let mut lines = Vec::new();
        write_text(&mut lines, &begins);
        write_text(&mut lines, &ends);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            " [SAMPLING] keeping 1 in 8 flows since 1970-01-01T00:00:01.000000Z and leaving out the others on purpose: \
             about 350000 events/s, the limit is 50000\n \
             [SAMPLING] ended at 1970-01-01T00:00:01.000000Z, keeping all flows: \
             about 20000 events/s, the limit is 50000\n"
        );
        let object = |sampling: &Sampling| -> Value {
            let mut line = Vec::new();
            write_json(&mut line, sampling);
            serde_json::from_slice(&line).unwrap()
        };
        assert_eq!(
            object(&begins),
            json!({
                "event": "sampling", "one_in": 8, "before_one_in": 1, "filter": "share 0/8@0x7",
                "events_per_s": 350_000, "max_events_per_s": 50_000, "since_ns": 1_000_000_000
            })
        );
        assert_eq!(
            object(&ends),
            json!({
                "event": "sampling", "one_in": 1, "before_one_in": 8,
                "events_per_s": 20_000, "max_events_per_s": 50_000, "since_ns": 1_000_000_000
            })
        );
    }
}
