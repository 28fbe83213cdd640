//! Every scenario, by what is broken.

mod connections;
mod databases;
mod disks;
mod kills;
mod messages;
mod nats;
mod processes;
mod publisher;
mod upstream;

use super::Scenario;

/// All of them, in the table's order.
pub fn all() -> Vec<Scenario> {
    [
        kills::all(),
        processes::all(),
        nats::all(),
        connections::all(),
        databases::all(),
        disks::all(),
        upstream::all(),
        messages::all(),
        publisher::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
