//! Connections to brokers that are kept from one request to the next, so that a burst of requests costs a connect per broker at most.
//!
//! A broker that answered and did not know what is wanted lags behind the controller, and may go on to: the next request goes to another.
//!
//! Invariant: at most one to a broker, and none beyond its life. Deliberately absent: asking.

use tokio::time::Instant;

use super::flight::Line;
use crate::cluster::Endpoint;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By their last use, the oldest first.
    open: Vec<Line>,
}

impl Lines {
    /// When the first of them has lived long enough.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.open.iter().map(Line::ends).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.open.retain(|line| line.ends() > now);
    }

    pub(super) fn keep(&mut self, line: Line) {
        self.open.retain(|known| known.endpoint() != line.endpoint());
        self.open.push(line);
    }

    pub(super) fn leads_to(&self, endpoint: &Endpoint) -> bool {
        self.open.iter().any(|line| line.endpoint() == endpoint)
    }

    /// The one to ask over; `None`: a broker that none leads to is better. `brokers`: those to ask, all without any; `best`: those of
    /// them that know most. `elsewhere`: not the one that answered last, if there is another.
    pub(super) fn take(&mut self, brokers: &[Endpoint], best: &[Endpoint], elsewhere: bool) -> Option<Line> {
        self.expire(Instant::now());
        self.open.retain(|line| brokers.is_empty() || brokers.contains(line.endpoint()));
        if !elsewhere && best.is_empty() {
            return self.open.pop();
        }
        if !elsewhere {
            let at = self.open.iter().position(|line| best.contains(line.endpoint()))?;
            return Some(self.open.remove(at));
        }
        let is_new = brokers.iter().any(|broker| !self.leads_to(broker));
        if is_new || self.open.is_empty() { None } else { Some(self.open.remove(0)) }
    }
}
