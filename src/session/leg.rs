//! One upstream connection of a session, as the core sees it.

use std::collections::VecDeque;

use super::{SlotId, Target};

/// ```text
///  Down ──open──▶ Opening ──Opened──▶ Up
///   ▲                │ Failed          │ Closed, or the broker moved
///   └────────────────┴─────────────────┘
/// ```
#[derive(Debug, Default, PartialEq, Eq)]
pub enum LegState {
    #[default]
    Down,
    /// Requests for it are queued already.
    Opening(Vec<Target>),
    Up(Target),
}

#[derive(Debug, Default)]
pub struct Leg {
    pub state: LegState,
    /// Requests sent on it that wait for their response: a broker answers them in this order.
    pub outstanding: VecDeque<SlotId>,
    /// Its next response must wait for a slot of another leg, so that its reading has stopped.
    pub held: bool,
}

impl Leg {
    pub fn is_down(&self) -> bool {
        self.state == LegState::Down
    }

    pub fn target(&self) -> Option<&Target> {
        match &self.state {
            LegState::Up(target) => Some(target),
            _ => None,
        }
    }
}
