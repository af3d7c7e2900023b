//! (first part)
use std::time::Duration;
#[derive(Debug, Default)]
pub struct Groups {}
impl Groups {
    pub fn next_timeout(&self) -> Option<Duration> {
        None
    }
}
impl super::cluster::Cluster {
    pub(crate) fn expire_group_timers(&mut self) {}
    pub(crate) fn unload_group(&mut self, _: &str) {}
}
