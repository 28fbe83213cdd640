//! What is said about warming caches: by the leader of the schedulers to workers ([`Request`], [`Answer`]), by people to the
//! leader ([`Question`], [`Status`], [`Explained`]), and by people to whoever leads ([`Pause`]).
//!
//! Requests go to [`Service::warm`](crate::subject::Service::warm) and questions to [`WARM_ASK`](crate::subject::WARM_ASK),
//! both over core NATS: no stream keeps them, and who cannot answer at once does not answer later. A pause lies in the bucket
//! [`WARM_BUCKET`](crate::subject::WARM_BUCKET), so that it holds while no scheduler runs.

mod fetch;
mod pause;
mod people;

pub use fetch::{Answer, Item, MOST_BYTES, MOST_ITEMS, Outcome, Request, Skipped, Unreadable};
pub use pause::{MAX_BY, Pause, pause, paused, resume};
pub use people::{Day, Explained, Mode, Prediction, Question, Reply, ServiceStatus, Source, State, Status};
