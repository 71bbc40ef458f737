//! A question of one's own: `query = { sql = "select count(*) from orders", above = 0 }`. The first column of the first row is looked at:
//! how many there are, how fresh, how complete.

use serde::{Deserialize, Deserializer, de};

use crate::checks::wire::shown;
use crate::config::units::Span;
use crate::model::Figure;

/// Longest statement, bytes.
const LONGEST: usize = 16 << 10;

/// `query = { ... }`, or only the statement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// A `select` with one column.
    sql: String,
    /// What the value must be, as text.
    equals: Option<String>,
    /// It must be more than this.
    above: Option<f64>,
    /// It must be less than this.
    below: Option<f64>,
    /// It is a time, and must not be longer ago.
    max_age: Option<Span>,
}

/// From the statement alone, or with what is expected.
pub(super) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Query>, D::Error> {
    let query = match toml::Value::deserialize(from)? {
        toml::Value::String(sql) => Query {
            sql,
            equals: None,
            above: None,
            below: None,
            max_age: None,
        },
        other => Query::deserialize(other).map_err(|error| de::Error::custom(error.message()))?,
    };
    Ok(Some(query))
}

impl Query {
    pub(super) fn sensible(&self) -> Result<(), String> {
        let sql = self.statement();
        if sql.is_empty() || sql.len() > LONGEST || sql.contains('\0') {
            return Err(format!(
                "the `sql` of `query` must be a `select` of 1 to {LONGEST} bytes"
            ));
        }
        if self.max_age.is_some()
            && (self.equals.is_some() || self.above.is_some() || self.below.is_some())
        {
            return Err(
                "`max_age` looks at a time, `equals`, `above` and `below` at a value: write two checks"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn statement(&self) -> &str {
        self.sql.trim().trim_end_matches(';').trim_end()
    }

    /// What the server is asked for: one row with one text. On a line of its own, for a statement that ends with a comment.
    pub(super) fn asked(&self) -> String {
        let sql = self.statement();
        let value = if self.max_age.is_some() {
            "extract(epoch from clock_timestamp() - value)"
        } else {
            "value"
        };
        format!("select left(({value})::text, 4096) from (\n{sql}\n) as asked(value) limit 1")
    }

    /// Whether that is as expected; the number that it is, if it is one. `row` is none without a row, and holds none for a null.
    #[expect(
        clippy::option_option,
        reason = "no row is not the same as a row with a null"
    )]
    pub(super) fn judged(&self, row: Option<Option<&str>>) -> Result<Option<Figure>, String> {
        let asked = || shown(self.statement().as_bytes());
        let value = row.ok_or_else(|| format!("`{}` has no row", asked()))?;
        let value = value.ok_or_else(|| format!("`{}` is null", asked()))?;
        let number: Option<f64> = value.parse().ok().filter(|n: &f64| n.is_finite());
        let off = |how: &str| {
            let value = shown(value.as_bytes());
            Err(format!("`{}` is {value}, {how}", asked()))
        };
        if let Some(most) = self.max_age {
            let age = number.ok_or_else(|| format!("`{}` is no time", asked()))?;
            if age > most.0.as_secs_f64() {
                return Err(format!(
                    "`{}` is a time {age:.0} s ago, longer than `max_age`, {most}",
                    asked()
                ));
            }
            return Ok(Some(Figure::new("query_age_seconds", age)));
        }
        if let Some(expected) = &self.equals
            && expected != value
        {
            return off(&format!("not `{expected}`"));
        }
        if (self.above.is_some() || self.below.is_some()) && number.is_none() {
            return off("and should be a number");
        }
        if let (Some(above), Some(number)) = (self.above, number)
            && number <= above
        {
            return off(&format!("not above {above}"));
        }
        if let (Some(below), Some(number)) = (self.below, number)
            && number >= below
        {
            return off(&format!("not below {below}"));
        }
        Ok(number.map(|number| Figure::new("query_value", number)))
    }
}
