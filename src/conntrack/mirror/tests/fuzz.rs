//! What fuzzers drive: the model of the kernel, and events and dumps that no kernel would send.

use std::collections::BTreeSet;

use super::super::Change;
use super::super::entry::Known;
use super::super::follow::Follower;
use super::kernel::{FLOWS, Facts, Resends, Way, key_of, message_of};
use super::random::{ALL, name, run, some_steps};
use crate::conntrack::{Flow, Layer4, ProtocolState, status};
use crate::event_kind::EventKind;
use crate::message::Messages;
use crate::mirror::{Random, Slice, Table as _};

/// Runs the model in one of the ways of its tests, with their assertions.
pub(crate) fn model(mut random: Random) {
    let any = Way {
        loss: [0, 2, 3, 4, 10, 12, 40][random.index(7)],
        resends: [Resends::Never, Resends::OfOthers, Resends::Own][random.index(3)],
        has_late_updates: random.one_in(2),
        ..Way::default()
    };
    let is_reliable = random.below(8);
    let way = match is_reliable {
        0 => Way {
            loss: any.loss,
            ..Way::default()
        },
        1 => Way {
            loss: any.loss,
            holds_bytes: Some(600),
            ..Way::default()
        },
        2 => Way {
            has_late_updates: true,
            has_late_news: true,
            ..any
        },
        3 => Way {
            loss: any.loss,
            silent: 3 + random.below(8),
            ..Way::default()
        },
        4 => Way {
            resends: if any.resends == Resends::Own {
                Resends::Never
            } else {
                any.resends
            },
            has_late_updates: true,
            ..Way::default()
        },
        5 => Way {
            loss: any.loss.max(2),
            resends: Resends::Own,
            has_late_updates: true,
            has_unique_ids: true,
            frees_keys_late: true,
            ..Way::default()
        },
        6 => Way {
            resends: if any.resends == Resends::Own {
                Resends::Never
            } else {
                any.resends
            },
            only_reports_ends: true,
            has_unique_ids: true,
            ..Way::default()
        },
        _ => Way {
            loss: any.loss.max(3),
            has_unique_replies: true,
            ..Way::default()
        },
    };
    let (kernel, mirrored) = run(random, way, &ALL);
    let listener = &mirrored.listener;
    match is_reliable {
        0 => assert_eq!(mirrored.reported_drops, kernel.drops),
        4 => {
            assert_eq!(
                (listener.new_count, listener.destroy_count),
                (kernel.begun, kernel.ended)
            );
            assert!(listener.update_count <= kernel.updated);
        }
        5 | 6 => assert_eq!(listener.destroy_count, kernel.ended),
        7 => assert!(listener.new_count >= mirrored.new_event_count),
        _ => {}
    }
}

/// The flows of a table that is kept by the changes alone.
#[derive(Default)]
struct Naive(BTreeSet<String>);

impl Naive {
    fn record(&mut self, change: &Change<'_>) {
        let Change::Flow { flow, .. } = change else {
            return;
        };
        match flow.kind {
            EventKind::New => assert!(self.0.insert(name(flow)), "it begins twice: {flow:?}"),
            EventKind::Update => assert!(self.0.contains(&name(flow)), "it never began: {flow:?}"),
            EventKind::Delete => assert!(self.0.remove(&name(flow)), "it never began: {flow:?}"),
            EventKind::Entry => panic!("not by a mirror: {flow:?}"),
        }
    }
}

/// Feeds events and dumps in any order. A table that is kept by the changes alone equals the mirror's.
pub(crate) fn events(mut random: Random) {
    let mut follower = Follower::new();
    let mut naive = Naive::default();
    let mut is_synced = false;
    let mut is_reading = false;
    while random.given_count() > 0 {
        let mut f = |change: Change<'_>| naive.record(&change);
        match random.below(16) {
            0..8 => {
                let bytes = message(&mut random);
                for message in Messages::new(&bytes) {
                    follower.feed(&message, is_synced, &mut f);
                }
            }
            8..11 if is_reading => {
                let bytes = message(&mut random);
                for message in Messages::new(&bytes) {
                    follower.feed_dumped(&message);
                }
            }
            8..11 => {
                let is_ready = follower.end_holding(&mut some_steps(&mut random), &mut f)
                    && follower.clear(&mut some_steps(&mut random))
                    && !follower.is_merging();
                if is_ready {
                    follower.begin_dump();
                    is_reading = true;
                }
            }
            11 if is_reading => {
                follower.begin_merge();
                is_reading = false;
            }
            11 | 12 if follower.is_merging() => {
                if follower.merge(&mut some_steps(&mut random), &mut f) {
                    follower.finish();
                    is_synced = true;
                }
            }
            13 => {
                follower.note_loss();
                if is_reading || follower.is_merging() {
                    follower.abandon_dump();
                }
                (is_reading, is_synced) = (false, false);
            }
            14 => _ = follower.end_holding(&mut some_steps(&mut random), &mut f),
            _ if random.one_in(2) => follower.settle_answers(&mut f),
            _ => answer(&mut follower, &mut random, is_synced && !is_reading),
        }
    }
    follower.note_loss();
    let mut f = |change: Change<'_>| naive.record(&change);
    follower.end_holding(&mut Slice::endless(), &mut f);
    if is_reading {
        follower.begin_merge();
    }
    if follower.is_merging() {
        assert!(follower.merge(&mut Slice::endless(), &mut f));
        follower.finish();
    }
    assert!(follower.clear(&mut Slice::endless()));
    let flows = &follower.flows;
    let live = flows.live().map(|entry| {
        let flow = entry.to_flow(EventKind::Update, 0);
        assert_eq!(
            flows
                .find(&entry.identity())
                .live
                .map(|slot| flows.entry(slot)),
            Some(entry)
        );
        name(&flow)
    });
    let live: Vec<_> = live.collect();
    assert_eq!(live.len(), naive.0.len(), "no flow is there twice");
    assert_eq!(live.into_iter().collect::<BTreeSet<_>>(), naive.0);
    assert_eq!(follower.shown_count(), naive.0.len());
}

/// Takes the kernel's answers about contradicted flows and others: it has them, another in their place, or none.
fn answer(follower: &mut Follower, random: &mut Random, is_synced: bool) {
    if !is_synced || follower.is_merging() || !follower.is_cleared() {
        return;
    }
    let mut asked = std::mem::take(&mut follower.contradicted);
    asked.push(key_of(random.index(FLOWS)).into());
    for identity in asked {
        let bytes = message(random);
        let flow = Messages::new(&bytes).find_map(|message| Flow::decode(&message));
        follower.note_answer(&identity, flow.map(|flow| Known::of(&flow, 0)));
    }
}

/// A message of one of few flows, sometimes with a damaged byte.
fn message(random: &mut Random) -> Vec<u8> {
    let key = key_of(random.index(FLOWS));
    let mut reply = key.orig.reversed().expect("an address and ports");
    if random.one_in(3) {
        reply.layer4 = Layer4::Ports { src: 80, dst: 1 };
    }
    let kinds = [
        EventKind::New,
        EventKind::Update,
        EventKind::Delete,
        EventKind::Entry,
    ];
    let bits = [
        status::CONFIRMED,
        status::SEEN_REPLY,
        status::ASSURED,
        status::DYING,
        status::NAT_CLASH,
    ];
    let chosen = random.below(1 << bits.len());
    let set = (0..bits.len()).filter(|index| chosen >> index & 1 == 1);
    let facts = Facts {
        reply,
        id: random.below(3),
        mark: random.below(2),
        status: set.fold(0, |status, index| status | bits[index]),
        state: random
            .one_in(2)
            .then(|| ProtocolState::Tcp(random.below(4) as u8)),
    };
    let mut bytes = message_of(&key, kinds[random.index(4)], &facts, random.one_in(2));
    if random.one_in(4) {
        let place = 4 + random.index(bytes.len() - 4);
        bytes[place] = random.byte();
    }
    bytes
}
