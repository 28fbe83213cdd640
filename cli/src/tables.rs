//! Tables for people: no frames, numbers to the right, as wide as the terminal at most.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};

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

    /// Makes the last column alone give way where the terminal is too narrow: its texts are cut, the others whole.
    pub(crate) fn cut_last(mut self) -> Self {
        let last = self.right.len().saturating_sub(1);
        for column in self.table.column_iter_mut().take(last) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        for row in self.table.row_iter_mut() {
            row.max_height(1);
        }
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_whole_and_the_last_column_is_cut() {
        let mut columns = Columns::new(&["#seq", "id", "reason"]);
        let id = "github:01a1fd88-95e2-76d1-828c-eb1d8f7ee17b";
        columns.row(["1", id, &"what went wrong ".repeat(10)]);
        columns.table.set_width(100);
        let text = columns.cut_last().text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(id), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
