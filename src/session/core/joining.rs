//! Several requests in one: what waits for a leg whose window is full but for one place goes together.
//!
//! Without it a client that sends each record for itself, with hundreds under way, would have them worked off one by one once a stuck
//! broker goes on or another takes over, each waiting for the followers anew.
//!
//! Invariant: a joint request has at most one batch of a partition, by arrival; what the answer says of each is told to its own request.
//! Not here: how frames are joined (`rewrite`), and when it is a batch's turn (`gate`).

use std::collections::HashSet;
use std::time::Instant;

use super::{Core, Surroundings};
use crate::cluster::NodeId;
use crate::rewrite::{self, join_produce, may_join};
use crate::session::gate::TopicKey;
use crate::session::produce::Opened;
use crate::session::request::Body;
use crate::session::{CloseReason, LegId, Note};

/// A joint request's bytes: as much as clients put into one by themselves.
const JOINT_MAX_BYTES: usize = 1024 * 1024;

/// What takes the last place in a leg's window: all that is ready for it, in one request.
pub(super) struct Joint {
    pub(super) leg: LegId,
    node: NodeId,
    shares: Vec<(u64, Vec<usize>)>,
    partitions: HashSet<(TopicKey, i32)>,
    bytes: usize,
}

impl Core {
    /// Which of the parts can go with those that are there: one batch of a partition (`ProduceRequest.validateRecords`), of requests that
    /// are alike. What has taken a connection with it goes alone, and the home leg has whole requests only.
    pub(super) fn joinable(&self, joint: &Joint, opened: &Opened, mut parts: Vec<usize>, is_home: bool) -> Vec<usize> {
        let first = joint.shares.first().and_then(|(number, _)| self.request(*number)).map(|request| &request.body);
        let Some(Body::Opened(first)) = first else { return Vec::new() };
        let is_well = |opened: &Opened| opened.parts.iter().all(|part| part.losses == 0);
        let fits = joint.bytes + opened.frame.len() <= JOINT_MAX_BYTES && is_well(first) && is_well(opened);
        if !fits || !may_join(&share(first, &[]), &share(opened, &[])) {
            return Vec::new();
        }
        #[cfg(test)]
        if crate::session::mutation::is_on(crate::session::mutation::Mutation::JoinTwins) {
            return parts;
        }
        let before = parts.len();
        parts.retain(|ordinal| opened.parts.get(*ordinal).is_some_and(|part| !joint.partitions.contains(&part.key.line())));
        if is_home && parts.len() < before { Vec::new() } else { parts }
    }

    pub(super) fn send_joint(&mut self, now: Instant, joint: Joint, around: &Surroundings<'_>) {
        let Joint { leg, node, mut shares, .. } = joint;
        if self.closed {
            return;
        }
        if let [(number, going)] = shares.as_mut_slice() {
            let (number, going) = (*number, std::mem::take(going));
            let Some(mut opened) = self.lend(number) else { return };
            self.put_parts(now, number, &mut opened, leg, node, going, around);
            return self.put_back(number, opened);
        }
        let opened: Vec<rewrite::Share<'_>> = shares
            .iter()
            .filter_map(|(number, going)| match self.request(*number).map(|request| &request.body) {
                Some(Body::Opened(opened)) => Some(share(opened, going)),
                _ => None,
            })
            .collect();
        let Ok(frame) = join_produce(&opened) else { return self.close(CloseReason::UpstreamViolation) };
        let Some(head) = opened.first().map(|first| *first.head) else { return };
        let bytes = frame.len();
        let end = self.leg(leg).map_or(0, |leg| leg.given_bytes) + bytes as u64;
        for (number, going) in &shares {
            let Some(mut opened) = self.lend(*number) else { continue };
            opened.was_joined = true;
            if self.mark_sent(&mut opened, leg, node, end, going, around) {
                self.note(Note::Resent { bytes: opened.frame.len() });
            }
            self.put_back(*number, opened);
        }
        let (number, parts) = shares.remove(0);
        let Some(slot) = self.slot_of(number) else { return };
        self.put_on_leg(now, leg, (number, slot, &head), bytes, Some(parts));
        if let Some(last) = self.leg_mut(leg).and_then(|leg| leg.outstanding.back_mut()) {
            last.also = shares;
        }
        self.send(leg, frame);
    }
}

/// The request's parts that are `going` take their place among the others on the leg, or are the first there.
pub(super) fn join(joints: &mut Vec<Joint>, leg: LegId, node: NodeId, number: u64, opened: &Opened, going: Vec<usize>) {
    let partitions = going.iter().filter_map(|ordinal| opened.parts.get(*ordinal)).map(|part| part.key.line()).collect();
    let bytes = opened.frame.len();
    match joints.iter_mut().find(|joint| joint.leg == leg) {
        Some(joint) => {
            joint.shares.push((number, going));
            joint.partitions.extend::<HashSet<_>>(partitions);
            joint.bytes += bytes;
        }
        None => joints.push(Joint { leg, node, shares: vec![(number, going)], partitions, bytes }),
    }
}

fn share<'a>(opened: &'a Opened, partitions: &'a [usize]) -> rewrite::Share<'a> {
    rewrite::Share { frame: &opened.frame, head: &opened.head, request: &opened.request, partitions }
}
