//! Reads repositories: symbols, imports, sizes, complexity, and who depends on whom.
//!
//! The way of a repository: [`source`] admits it; `git` fetches and opens it, or `folder` opens it; `catalog` lists
//! its files; `batch` asks the [`index`] for what is known of their content and has the rest parsed by [`reading`],
//! [`apart`] from the process that asks, in the terms of its [`language`] and without what `elide` leaves out; `resolve`
//! finds the files that imports mean; `graph` and [`report`] say what it comes to. [`Analyzer`] goes this way.

mod address;
mod analyzer;
pub mod apart;
mod batch;
pub mod catalog;
mod elide;
pub mod error;
pub mod facts;
mod folder;
mod git;
mod graph;
pub mod index;
pub mod language;
mod parsing;
mod pool;
pub mod reading;
pub mod report;
mod resolve;
pub mod settings;
pub mod source;
mod sum;
mod tree;
mod words;

pub use analyzer::Analyzer;
pub use error::AnalysisError;
pub use graph::{Cycle, Depended, Dependencies};
pub use report::{Progress, Report};
pub use settings::Settings;
pub use source::Source;
