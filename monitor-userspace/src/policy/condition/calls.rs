//! Operators, functions and methods: which types go with which, and what comes of it.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use regex::RegexBuilder;

use super::check::{Checked, Checker, MACROS};
use super::kind::Kind;
use super::variables::{FIELDS, Field};
use super::{ConditionError, NESTED};
use crate::config::error::nearest;

/// Bytes of a regular expression as it is written, and as it is compiled.
const PATTERN: usize = 256;
const PATTERN_COMPILED: usize = 256 << 10;

const METHODS: &[&str] = &["contains", "startsWith", "endsWith", "matches", "size"];
const FUNCTIONS: &[&str] = &["size", "int", "double", "string", "has"];

impl<'a> Checker<'a> {
    pub(super) fn call(&mut self, call: &'a CallExpr, depth: u32) -> Checked {
        let name = call.func_name.as_str();
        match (&call.target, call.args.as_slice()) {
            (None, [one]) => self.unary(name, one, depth),
            (None, [one, other]) => self.binary(name, one, other, depth),
            (None, [condition, one, other]) if name == operators::CONDITIONAL => {
                self.want(condition, Kind::Bool, depth)?;
                let kind = self.kind(one, depth + 1)?;
                self.want(other, kind, depth)
            }
            (Some(target), args) => self.method(name, target, args, depth),
            _ => Err(self.no_function(name, FUNCTIONS)),
        }
    }

    fn no_function(&self, name: &str, known: &[&str]) -> ConditionError {
        let error = self.at(name, format!("there is no function `{name}` of this shape"));
        let listed = || format!("known are {}", known.join(", "));
        error.help(match nearest(name, known.iter().copied()) {
            Some(near) if near != name => format!("did you mean `{near}`?"),
            _ => listed(),
        })
    }

    fn unary(&mut self, name: &'a str, one: &'a IdedExpr, depth: u32) -> Checked {
        match name {
            operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE => {
                return self.want(one, Kind::Bool, depth);
            }
            operators::NEGATE | "size" | "int" | "double" | "string" => {}
            _ => return Err(self.no_function(name, FUNCTIONS)),
        }
        let kind = self.kind(one, depth + 1)?;
        let result = match (name, kind) {
            (operators::NEGATE, Kind::Int | Kind::Double) => Some(kind),
            ("size", Kind::Text | Kind::List(_) | Kind::Facts)
            | ("int", Kind::Int | Kind::Double | Kind::Text) => Some(Kind::Int),
            ("double", Kind::Int | Kind::Double | Kind::Text) => Some(Kind::Double),
            ("string", Kind::Bool | Kind::Int | Kind::Double | Kind::Text) => Some(Kind::Text),
            _ => None,
        };
        result.ok_or_else(|| {
            let name = name.trim_matches('_');
            let found = described(one, kind);
            self.near(one, format!("`{name}` does not go with {found}"))
        })
    }

    fn binary(
        &mut self,
        name: &'a str,
        one: &'a IdedExpr,
        other: &'a IdedExpr,
        depth: u32,
    ) -> Checked {
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            self.want(one, Kind::Bool, depth)?;
            return self.want(other, Kind::Bool, depth);
        }
        let sign = name.trim_matches(['_', '@']);
        if name.chars().next().is_some_and(char::is_alphabetic) {
            return Err(self.no_function(name, FUNCTIONS));
        }
        let kinds = (self.kind(one, depth + 1)?, self.kind(other, depth + 1)?);
        let both = kinds.0.join(kinds.1);
        let numbers = kinds.0.is_number() && kinds.1.is_number();
        let result = match name {
            operators::EQUALS | operators::NOT_EQUALS => {
                self.known_word(one, other)?;
                self.known_word(other, one)?;
                kinds.0.compares(kinds.1).then_some(Kind::Bool)
            }
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => {
                (numbers || both == Some(Kind::Text)).then_some(Kind::Bool)
            }
            operators::ADD => both.filter(|kind| !matches!(kind, Kind::Bool | Kind::Facts)),
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE => {
                both.filter(|kind| kind.is_number())
            }
            operators::MODULO => both.filter(|kind| *kind == Kind::Int),
            operators::IN => match kinds.1 {
                Kind::Facts => (kinds.0 == Kind::Text).then_some(Kind::Bool),
                Kind::List(of) => {
                    if let Expr::List(list) = &other.expr {
                        for element in &list.elements {
                            self.known_word(one, element)?;
                        }
                    }
                    kinds.0.compares(*of).then_some(Kind::Bool)
                }
                _ => None,
            },
            operators::INDEX => match kinds {
                (Kind::Facts, Kind::Text) => Some(Kind::Text),
                (Kind::List(of), Kind::Int) => Some(*of),
                _ => None,
            },
            _ => return Err(self.no_function(sign, FUNCTIONS)),
        };
        result.ok_or_else(|| {
            let (left, right) = (described(one, kinds.0), described(other, kinds.1));
            let error = self.near(one, format!("`{sign}` does not go with {left} and {right}"));
            match kinds {
                (Kind::Int, Kind::Double) | (Kind::Double, Kind::Int) => {
                    error.help("write `2.0` for 2, or make it one with `double(...)`")
                }
                (Kind::Text, Kind::Int | Kind::Double) | (Kind::Int | Kind::Double, Kind::Text) => {
                    error.help("texts are written in quotes; `int(...)` and `double(...)` read one")
                }
                _ => error,
            }
        })
    }

    fn method(
        &mut self,
        name: &'a str,
        target: &'a IdedExpr,
        args: &'a [IdedExpr],
        depth: u32,
    ) -> Checked {
        let known = METHODS.contains(&name) && args.len() == usize::from(name != "size");
        if !known {
            let all: Vec<&str> = METHODS.iter().chain(MACROS).copied().collect();
            return Err(self.no_function(name, &all));
        }
        let kind = self.kind(target, depth + 1)?;
        let Some(argument) = args.first() else {
            let sized = matches!(kind, Kind::Text | Kind::List(_) | Kind::Facts);
            let error = || {
                let found = described(target, kind);
                self.at(name, format!("{found} has no size"))
            };
            return if sized { Ok(Kind::Int) } else { Err(error()) };
        };
        if kind.join(Kind::Text).is_none() {
            let found = described(target, kind);
            return Err(self.at(name, format!("`{name}` is for texts, not for {found}")));
        }
        self.want(argument, Kind::Text, depth)?;
        if name == "matches" {
            self.pattern(argument)?;
        }
        Ok(Kind::Bool)
    }

    fn pattern(&mut self, argument: &IdedExpr) -> Result<(), ConditionError> {
        let Expr::Literal(LiteralValue::String(pattern)) = &argument.expr else {
            let message = "the pattern of `matches` must be written out, in quotes";
            return Err(self.at("matches", message.to_owned()));
        };
        let pattern = pattern.inner();
        if pattern.len() > PATTERN {
            let message = format!("the pattern of `matches` is longer than {PATTERN} bytes");
            return Err(self.at("matches", message));
        }
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_COMPILED)
            .nest_limit(u32::from(NESTED))
            .build();
        let regex = regex.map_err(|error| {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            let last = last.trim_start_matches("error: ");
            self.at(
                "matches",
                format!("the pattern `{pattern}` does not read: {last}"),
            )
        })?;
        self.patterns.push((pattern.to_owned(), regex));
        Ok(())
    }

    /// A text that is compared with a field of few values must be one of them.
    fn known_word(&self, one: &IdedExpr, other: &IdedExpr) -> Result<(), ConditionError> {
        let (Some(field), Expr::Literal(LiteralValue::String(word))) = (field_of(one), &other.expr)
        else {
            return Ok(());
        };
        if field.words.is_empty() || field.words.contains(&word.inner()) {
            return Ok(());
        }
        let path = format!("{}.{}", field.root, field.name);
        let message = format!("`{path}` is never `{}`", word.inner());
        let help = format!("it is one of {}", field.words.join(", "));
        Err(self.at(word.inner(), message).help(help))
    }

    /// A mistake at what this part of the text begins with, where that can be told.
    pub(super) fn near(&self, expr: &IdedExpr, message: String) -> ConditionError {
        match &expr.expr {
            Expr::Ident(name) => self.at(name, message),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) => self.at(&format!("{root}.{}", select.field), message),
                _ => ConditionError::new(message),
            },
            Expr::Literal(LiteralValue::Int(number)) => {
                self.at(&number.inner().to_string(), message)
            }
            Expr::Literal(LiteralValue::String(text)) => self.at(text.inner(), message),
            _ => ConditionError::new(message),
        }
    }
}

/// This part of the text, for a message: as it is written where it is short, and its type.
pub(super) fn described(expr: &IdedExpr, kind: Kind) -> String {
    let kind = kind.words();
    match (&expr.expr, field_of(expr)) {
        (_, Some(field)) => format!("`{}.{}` ({kind})", field.root, field.name),
        (Expr::Literal(LiteralValue::String(text)), _) => {
            format!("`{}` ({kind})", text.inner())
        }
        (Expr::Literal(LiteralValue::Int(number)), _) => {
            format!("`{}` ({kind})", number.inner())
        }
        _ => kind.to_owned(),
    }
}

fn field_of(expr: &IdedExpr) -> Option<&'static Field> {
    let Expr::Select(select) = &expr.expr else {
        return None;
    };
    let Expr::Ident(root) = &select.operand.expr else {
        return None;
    };
    let mut fields = FIELDS.iter();
    fields.find(|field| field.root == root && field.name == select.field && !select.test)
}
