//! The real binary in front of the simulated cluster, as clients and operators meet it.

mod addresses;
mod bad_clients;
mod bounds;
mod departures;
mod ending;
mod rehearsal;
mod rig;
mod silent_host;
mod topology;
mod writer;
