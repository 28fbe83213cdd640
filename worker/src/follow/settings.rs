//! `WEIR_RULES` and `WEIR_RULES_HOPS`.

use std::path::PathBuf;

use rules::{HOPS, MAX_HOPS, Rules};
use shared::config::Reader;
use shared::subject::Service;

/// Rules and how far they may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    /// The rules.
    pub rules: Rules,
    /// Most events that may follow one from the other.
    pub hops: usize,
    /// The file that they stand in, where they do.
    pub file: Option<PathBuf>,
}

impl Book {
    /// Reads it, for a fleet of these services.
    pub fn read(reader: &mut Reader<'_>, services: &[Service]) -> Self {
        let mut problems = Vec::new();
        let rules = reader.with(
            "WEIR_RULES",
            Rules::default(),
            |text| {
                Ok(Rules::read(text, Some(services)).unwrap_or_else(|all| {
                    problems = all;
                    Rules::default()
                }))
            },
            |rules| {
                let names = rules.all().iter().map(|rule| rule.name.as_str());
                names.collect::<Vec<_>>().join(",")
            },
        );
        for problem in problems {
            reader.problem("WEIR_RULES", problem);
        }
        let hops = reader.number("WEIR_RULES_HOPS", HOPS as u64, 1..=MAX_HOPS as u64) as usize;
        Self {
            rules,
            hops,
            file: reader.raw_path("WEIR_RULES_FILE"),
        }
    }

    /// The rules on the events of one service; `None` where there are none.
    pub fn of(&self, service: &Service) -> Option<Self> {
        let rules = self.rules.of(service);
        (!rules.is_empty()).then_some(Self {
            rules,
            hops: self.hops,
            file: None,
        })
    }
}
