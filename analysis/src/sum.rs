//! What batches add up to, in whatever order they end.

use crate::batch::{Outcome, Tops};
use crate::catalog::{Catalog, Skipped, shown};
use crate::graph::{Dependencies, Edge};
use crate::report::{Measured, MeasuredFunction, Report};
use crate::settings::Settings;

/// What batches have added up to.
pub(crate) struct Sum {
    pub(crate) report: Report,
    skipped: Skipped,
    pub(crate) reached: Vec<&'static str>,
    tops: Tops,
    pub(crate) edges: Vec<Edge>,
}

impl Sum {
    pub(crate) fn new(catalog: &Catalog, settings: &Settings) -> Self {
        Self {
            report: Report::default(),
            skipped: catalog.skipped.clone(),
            reached: catalog.reached.clone(),
            tops: Tops::new(settings.top),
            edges: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, outcome: Outcome, most_edges: usize, catalog: &Catalog) {
        let report = &mut self.report;
        report.parsed += outcome.parsed;
        report.reused += outcome.reused;
        for (language, totals) in &outcome.languages {
            report.languages.entry(*language).or_default().add(totals);
            report.totals.add(totals);
        }
        let [resolved, external, unresolved] = outcome.imports;
        let told = &mut report.dependencies;
        told.imports += resolved + external + unresolved;
        told.resolved += resolved;
        told.external += external;
        told.unresolved += unresolved;
        for (reason, file) in outcome.skipped {
            self.skipped.add(reason, || shown(&catalog.path(file)));
        }
        if let Some(setting) = outcome.stopped
            && !self.reached.contains(&setting)
        {
            self.reached.push(setting);
        }
        let room = most_edges.saturating_sub(self.edges.len());
        self.edges.extend(outcome.edges.into_iter().take(room));
        self.tops.merge(outcome.tops);
    }

    /// Files of the catalog that were looked at and passed over.
    pub(crate) fn passed_over(&self, catalog: &Catalog) -> u64 {
        let all = |skipped: &Skipped| skipped.0.values().map(|passed| passed.count).sum::<u64>();
        all(&self.skipped) - all(&catalog.skipped)
    }

    pub(crate) fn into_report(self, catalog: &Catalog, measured: Dependencies) -> Report {
        let path = |file: u32| shown(&catalog.path(file));
        let files = |list: Vec<(u64, std::cmp::Reverse<u32>)>| {
            list.into_iter()
                .map(|(value, file)| Measured {
                    value,
                    path: path(file.0),
                })
                .collect()
        };
        let counted = self.report.dependencies;
        Report {
            complete: self.reached.is_empty(),
            reached: self.reached.iter().map(|setting| (*setting).to_owned()).collect(),
            entries: catalog.entries as u64,
            skipped: self.skipped,
            largest: files(self.tops.largest.into_list()),
            most_complex: files(self.tops.complex.into_list()),
            most_complex_functions: self
                .tops
                .functions
                .into_list()
                .into_iter()
                .map(|(complexity, file, line, name)| MeasuredFunction {
                    complexity,
                    path: path(file.0),
                    line: line.0,
                    name,
                })
                .collect(),
            dependencies: Dependencies {
                imports: counted.imports,
                resolved: counted.resolved,
                external: counted.external,
                unresolved: counted.unresolved,
                ..measured
            },
            ..self.report
        }
    }
}
