//! (first part)
use super::batch::BatchHeader;
use std::time::Duration;
#[derive(Debug, Default)]
pub struct Transactions {}
impl Transactions {
    pub fn next_timeout(&self) -> Option<Duration> {
        None
    }
    pub fn admit_batch(&mut self, _: Option<&str>, _: &BatchHeader, _: &str, _: i32, _: bool) -> Result<(), i16> {
        Ok(())
    }
}
impl super::cluster::Cluster {
    pub(crate) fn expire_transactions(&mut self) {}
}
