//! The cluster as sessions see it: the driver's trait over the view's home and its refresher.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::{Endpoint, Observation, View};
use crate::discovery::{Refresher, Views};
use crate::driver::Cluster;

pub struct Access {
    views: Views,
    refresher: Refresher,
    bootstrap: Vec<Endpoint>,
}

impl Access {
    pub fn new(views: Views, bootstrap: Vec<Endpoint>) -> Access {
        Access { refresher: views.refresher(), views, bootstrap }
    }
}

impl Cluster for Access {
    fn view(&self) -> Arc<View> {
        self.views.current()
    }

    fn generations(&self) -> watch::Receiver<u64> {
        self.views.subscribe()
    }

    fn observe(&self, observation: Observation) {
        self.views.observe(observation);
    }

    fn refresh(&self) {
        // It is on its way with the call; nobody here waits for it.
        drop(self.refresher.refresh(&[]));
    }

    fn bootstrap(&self) -> &[Endpoint] {
        &self.bootstrap
    }
}
