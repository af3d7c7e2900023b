//! The real binary in front of the simulated cluster, as clients and operators meet it.

mod addresses;
mod bad_clients;
mod bounds;
mod ending;
mod rehearsal;
mod rig;
mod topology;
