//! A table of aligned columns; on a screen it never grows wider than that.

use super::{Paint, Style, WIDTH, clean};

/// Spaces between columns.
const GAP: usize = 2;

/// A column is not made narrower than this to save room.
const NARROWEST: usize = 8;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Column {
    name: &'static str,
    right: bool,
}

impl Column {
    /// Of words.
    pub(in crate::cli) const fn left(name: &'static str) -> Self {
        Self { name, right: false }
    }

    /// Of numbers.
    pub(in crate::cli) const fn right(name: &'static str) -> Self {
        Self { name, right: true }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// In a style.
    pub(in crate::cli) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: clean(text.as_ref()),
            style: Some(style),
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: clean(text.as_ref()),
            style: None,
        }
    }
}

/// Rows under headings.
#[derive(Debug)]
pub(in crate::cli) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty one.
    pub(in crate::cli) const fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; a cell for each column.
    pub(in crate::cli) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// As text, with a heading.
    pub(in crate::cli) fn render(&self, paint: Paint) -> String {
        let widths = self.widths(paint.cut);
        let heading = self
            .columns
            .iter()
            .map(|column| Cell::styled(column.name, Style::Dim))
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            // Spaces are only written before something: no line ends in them.
            let mut owed = 0;
            for ((cell, column), width) in row.iter().zip(self.columns).zip(&widths) {
                let text = shorten(&cell.text, *width);
                let spare = width.saturating_sub(text.chars().count());
                let (before, after) = if column.right { (spare, 0) } else { (0, spare) };
                if text.is_empty() {
                    owed += before;
                } else {
                    line.extend(std::iter::repeat_n(' ', owed + before));
                    owed = 0;
                    match cell.style {
                        Some(style) => line.push_str(&paint.apply(style, &text)),
                        None => line.push_str(&text),
                    }
                }
                owed += after + GAP;
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// As wide as their widest entry; on a screen, the widest ones give way where that is too much.
    fn widths(&self, cut: bool) -> Vec<usize> {
        let mut widths: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let entries = self.rows.iter().filter_map(|row| row.get(at));
                let widest = entries.map(|cell| cell.text.chars().count()).max();
                widest.unwrap_or(0).max(column.name.len())
            })
            .collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while cut && widths.iter().sum::<usize>() + gaps > WIDTH {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::left("NAME"),
        Column::right("PID"),
        Column::left("WHY"),
    ];

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_spaces() {
        let mut table = Table::new(COLUMNS);
        table.row(vec!["auth".into(), "1".into(), "".into()]);
        table.row(vec!["payment".into(), "4242".into(), "x".into()]);
        let lines = "NAME      PID  WHY\nauth        1\npayment  4242  x\n";
        assert_eq!(table.render(Paint::none()), lines);
    }

    #[test]
    fn a_long_text_gives_way_and_the_rest_stays() {
        let mut table = Table::new(COLUMNS);
        table.row(vec!["n".into(), "12345".into(), "w".repeat(500).into()]);
        for line in table.render(Paint::none()).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(table.render(Paint::none()).contains("12345"));
        let piped = table.render(Paint::piped());
        assert!(piped.contains(&"w".repeat(500)), "{piped}");
    }
}
