//! The cluster as sessions see it: the driver's trait over the view's home.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::{Endpoint, Observation, View, Want};
use crate::discovery::Views;
use crate::driver::Cluster;

pub struct Access {
    views: Views,
    bootstrap: Vec<Endpoint>,
}

impl Access {
    pub fn new(views: Views, bootstrap: Vec<Endpoint>) -> Access {
        Access { views, bootstrap }
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

    fn changes(&self) -> watch::Receiver<u64> {
        self.views.changes()
    }

    fn suspect(&self) {
        self.views.suspect();
    }

    fn refresh(&self, wants: Vec<Want>) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(self.views.refresh(wants))
    }

    fn bootstrap(&self) -> &[Endpoint] {
        &self.bootstrap
    }
}
