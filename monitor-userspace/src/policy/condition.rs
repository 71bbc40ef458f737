//! Conditions of rules, in CEL (Common Expression Language): `incident.tries < 2 && host.cpu_some < 90.0`.
//!
//! [`Condition::compile`] finds every mistake that can be found without an incident: syntax, names, types, and what would take
//! long. [`Condition::holds`] asks for those values only that the text names, so that it costs microseconds on the hot thread.
//! What it cannot answer is an error, and the caller refuses to act. `variables.rs` says what a text may name, `check.rs` what it
//! may say, `calls.rs` which types go with which.

mod calls;
mod check;
mod kind;
mod variables;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::extractors::This;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, ParseErrors, Value};
use regex::Regex;

use crate::model::{Incident, Time, World};
use variables::Values;

/// Longest text, bytes.
pub const LONGEST: usize = 1024;
/// Brackets, calls and operators within each other. A sum nests to the left, one level a term. The evaluation takes some 45 KiB of stack
/// a level where nothing is optimised, of the 2 MiB that a thread has.
const NESTED: u16 = 24;
/// Parts of the parsed text.
const PARTS: usize = 1024;

/// What is wrong with the text of a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", Place(*.at), Help(.help.as_deref()))]
pub struct ConditionError {
    /// Line and column in the text, from 1, where they can be told.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

struct Place(Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, column)) = self.0 else {
            return Ok(());
        };
        write!(f, "line {line}, column {column}: ")
    }
}

struct Help<'a>(Option<&'a str>);

impl fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl ConditionError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            at: None,
            message: message.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn from_parser(errors: &ParseErrors) -> Self {
        let Some(first) = errors.errors.first() else {
            return Self::new("it cannot be read");
        };
        let place = |number| usize::try_from(number).ok().filter(|number| *number > 0);
        let (line, column) = first.pos;
        let text = first.msg.strip_prefix("Syntax error: ");
        Self {
            at: place(line).zip(place(column)),
            message: text.unwrap_or(&first.msg).to_owned(),
            help: None,
        }
    }
}

/// The functions of the language. Those that a text may call stand in `calls.rs`.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A condition that has been found to be in order.
#[derive(Clone)]
pub struct Condition {
    text: String,
    program: Arc<IdedExpr>,
    patterns: Patterns,
}

/// The regular expressions of a text, by how they are written there.
type Patterns = Arc<[(String, Regex)]>;

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Condition {
    /// Reads a condition; the error says what is wrong with it and where.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            let message = format!("it is {} bytes long, of {LONGEST} at most", text.len());
            return Err(ConditionError::new(message).help("split it over several rules"));
        }
        if text.trim().is_empty() {
            return Err(ConditionError::new("it is empty").help("leave the key out"));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(NESTED)
            .max_expression_node_count(PARTS)
            .error_reporting_limit(1)
            .error_recovery_limit(1);
        let program = parser
            .parse(text)
            .map_err(|errors| ConditionError::from_parser(&errors))?;
        let patterns = check::check(text, &program)?;
        LazyLock::force(&LANGUAGE);
        Ok(Self {
            text: text.to_owned(),
            program: Arc::new(program),
            patterns: patterns.into(),
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds for this incident now. The error says why that cannot be told: then it must not be acted.
    pub fn holds(&self, incident: &Incident, world: &World, now: Time) -> Result<bool, String> {
        let values = Values {
            incident,
            world,
            now,
        };
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.set_variable_resolver(&values);
        if !self.patterns.is_empty() {
            let patterns = Arc::clone(&self.patterns);
            let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
                let mut known = patterns.iter();
                known.any(|(written, regex)| *written == *pattern && regex.is_match(&text))
            };
            let added = context.add_function("matches", matches);
            added.map_err(|error| self.unknown(&error.to_string()))?;
        }
        let result = Value::resolve_val(&self.program, &context);
        let value = result.map_err(|error| self.unknown(&in_words(&error)))?;
        let holds = value.downcast_ref::<CelBool>().map(|holds| *holds.inner());
        holds.ok_or_else(|| self.unknown("its result is neither true nor false"))
    }

    fn unknown(&self, why: &str) -> String {
        format!(
            "it cannot be told whether the condition `{}` holds: {why}",
            self.text
        )
    }
}

fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) | ExecutionError::UndeclaredReference(key) => {
            format!("there is no `{key}` now")
        }
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "it divides by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number grows too large".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than asked for".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
