//! The cluster as sessions see it: the driver's trait over the view's home.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::departures::Departures;
use super::rehearsal::Stage;
use crate::cluster::{Endpoint, NodeId, Observation, View, Want};
use crate::discovery::Views;
use crate::driver::{Cluster, Met};
use crate::session::Note;

pub struct Access {
    views: Views,
    bootstrap: Vec<Endpoint>,
    departures: Departures,
    stage: Arc<Stage>,
}

impl Access {
    pub fn new(views: Views, bootstrap: Vec<Endpoint>, departures: Departures, stage: Arc<Stage>) -> Access {
        Access { views, bootstrap, departures, stage }
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

    fn departed_used(&self, node: NodeId) {
        self.departures.used(node);
    }

    fn noticed(&self, note: &Note) {
        self.departures.note(note);
    }

    fn reached(&self, node: NodeId) {
        self.departures.reached(node);
    }

    fn rehearsed(&self) -> Option<NodeId> {
        self.stage.rehearsed()
    }

    fn met(&self, met: Met) {
        self.stage.met(met);
    }

    fn bootstrap(&self) -> &[Endpoint] {
        &self.bootstrap
    }
}
