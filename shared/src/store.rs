//! What two or more of Weir's processes speak of Postgres: pools, migrations, partitions, and what people ask of the past.
//!
//! Workers write over [`pool::write`] and look up what is done on the same, the primary: a replica that is a second behind
//! would call an event open that is done. What people ask goes over [`reads::Reads`], to a replica as long as it keeps up.

pub mod history;
pub mod lag;
pub mod metrics;
pub mod migrate;
pub mod partitions;
pub mod pool;
pub mod query_cache;
pub mod reads;
pub mod report;
pub mod settings;
