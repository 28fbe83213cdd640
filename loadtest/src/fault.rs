//! What goes wrong on purpose: connections, processes, disks, databases.

pub mod clock;
pub mod disk;
pub mod postgres;
pub mod process;
pub mod proxy;
