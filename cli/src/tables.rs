//! Tables for people: no frames, numbers to the right, as wide as the terminal at most.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

/// A table with a heading; names that begin with `#` head columns of numbers.
pub(crate) struct Columns {
    table: Table,
    right: Vec<bool>,
}

impl Columns {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic);
        let mut columns = Self {
            table,
            right: names.iter().map(|name| name.starts_with('#')).collect(),
        };
        let heading = columns.cells(
            names
                .iter()
                .map(|name| name.trim_start_matches('#').to_uppercase()),
        );
        columns.table.set_header(heading);
        columns
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl ToString>) {
        let row = self.cells(cells.into_iter().map(|cell| cell.to_string()));
        self.table.add_row(row);
    }

    pub(crate) fn text(&self) -> String {
        self.table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn cells(&self, texts: impl Iterator<Item = String>) -> Vec<Cell> {
        let place = |right: &bool| {
            if *right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            }
        };
        texts
            .zip(&self.right)
            .map(|(text, right)| Cell::new(text).set_alignment(place(right)))
            .collect()
    }
}
