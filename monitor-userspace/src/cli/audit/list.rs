//! The entries themselves, one by one.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::book::Book;
use super::filter::Filter;
use super::row::{COLUMNS, row};
use super::walk;
use crate::cli::render::{Paint, Table};
use crate::record::journal::Stored;

/// Rows that are put in columns together, under one heading.
const TOGETHER: usize = 1000;

/// How they are shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Tables.
    Table(Paint),
    /// As they are stored, one a line.
    Json,
}

/// Writes the entries that are asked for, the last `limit` of them, oldest first.
pub(super) fn list(
    stored: &Stored,
    mut book: Book,
    filter: &Filter,
    limit: Option<u64>,
    form: Form,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut skip = 0;
    if let Some(limit) = limit {
        // Counted first, so that none needs to be kept.
        let mut wanted: u64 = 0;
        book.rewind();
        walk(stored, |line, _| {
            let (case, act) = book.look_up(&line.entry);
            wanted += u64::from(filter.wants(line, case, act));
            ControlFlow::Continue(())
        })?;
        skip = wanted.saturating_sub(limit);
    }
    let mut rows = Rows {
        form,
        table: Table::new(COLUMNS),
        held: 0,
        shown: false,
    };
    let mut written = Ok(());
    book.rewind();
    walk(stored, |line, text| {
        let (case, act) = book.look_up(&line.entry);
        if !filter.wants(line, case, act) {
            return ControlFlow::Continue(());
        }
        if skip > 0 {
            skip -= 1;
            return ControlFlow::Continue(());
        }
        written = match form {
            Form::Json => out.write_all(text).and_then(|()| out.write_all(b"\n")),
            Form::Table(_) => {
                rows.table.row(row(line, case, act));
                rows.held += 1;
                if rows.held < TOGETHER {
                    Ok(())
                } else {
                    rows.show(out)
                }
            }
        };
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    written?;
    rows.show(out)?;
    if !rows.shown && matches!(form, Form::Table(_)) {
        out.write_all(b"no entries\n")?;
    }
    out.flush()
}

struct Rows {
    form: Form,
    table: Table,
    held: usize,
    shown: bool,
}

impl Rows {
    fn show(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.held == 0 {
            return Ok(());
        }
        let Form::Table(paint) = self.form else {
            return Ok(());
        };
        let table = std::mem::replace(&mut self.table, Table::new(COLUMNS));
        self.held = 0;
        self.shown = true;
        out.write_all(table.render(paint).as_bytes())
    }
}
