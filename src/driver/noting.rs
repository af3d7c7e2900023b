//! Counting what the core says happened.

use super::Environment;
use crate::session::Note;

impl Environment {
    pub(super) fn note(&self, note: &Note) {
        tracing::trace!(?note, "detour");
    }
}
