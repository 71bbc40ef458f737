//! What a condition may say: its names must be known, its types must fit, and it must not take long.
//!
//! A mistake found here is shown when the file is read. Left to the evaluation, it would refuse an action on the night that
//! the action was needed.

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr};
use regex::Regex;

use super::calls::described;
use super::kind::{Kind, of_literal};
use super::variables::{EVIDENCE, FIELDS, SERVICE};
use super::{ConditionError, NESTED};
use crate::config::error::nearest;

/// Calls of `all`, `exists`, `exists_one`, `map` and `filter`.
const LOOPS: u32 = 2;
/// Elements of one list.
const ELEMENTS: usize = 64;
pub(super) const MACROS: &[&str] = &["all", "exists", "exists_one", "map", "filter"];

pub(super) type Checked = Result<Kind, ConditionError>;

/// Checks the whole text, and compiles the regular expressions in it.
pub(super) fn check(
    text: &str,
    program: &IdedExpr,
) -> Result<Vec<(String, Regex)>, ConditionError> {
    let mut checker = Checker {
        text,
        scope: Vec::new(),
        loops: 0,
        patterns: Vec::new(),
    };
    let kind = checker.kind(program, 0)?;
    if kind != Kind::Bool {
        let message = format!("its result is {}, and must be true or false", kind.words());
        return Err(ConditionError::new(message).help("compare it with something, as in `... > 2`"));
    }
    Ok(checker.patterns)
}

pub(super) struct Checker<'a> {
    text: &'a str,
    /// Names that `all` and its like bring in, with their types.
    scope: Vec<(&'a str, Kind)>,
    loops: u32,
    pub(super) patterns: Vec<(String, Regex)>,
}

impl<'a> Checker<'a> {
    /// A mistake at the first place where this word stands by itself.
    pub(super) fn at(&self, word: &str, message: String) -> ConditionError {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let mut places = self.text.match_indices(word).filter(|(start, _)| {
            let before = self.text.get(..*start).and_then(|text| text.chars().last());
            let after = self.text.get(start + word.len()..);
            let after = after.and_then(|text| text.chars().next());
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        });
        let mut error = ConditionError::new(message);
        error.at = places.next().map(|(start, _)| {
            let before = self.text.get(..start).unwrap_or_default();
            let column = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, column.chars().count() + 1)
        });
        error
    }

    pub(super) fn kind(&mut self, expr: &'a IdedExpr, depth: u32) -> Checked {
        if depth > u32::from(NESTED) {
            let message = format!("more than {NESTED} operators stand within each other");
            return Err(ConditionError::new(message).help("split it over several rules"));
        }
        match &expr.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) if self.in_scope(root).is_none() => {
                    self.field(root, &select.field, select.test)
                }
                _ => {
                    let message = format!("what `.{}` stands after has no fields", select.field);
                    Err(self.at(&select.field, message))
                }
            },
            Expr::List(list) => {
                if list.elements.len() > ELEMENTS {
                    let message = format!("a list has more than {ELEMENTS} elements");
                    return Err(ConditionError::new(message));
                }
                let mut of = Kind::Any;
                for element in &list.elements {
                    let kind = self.kind(element, depth + 1)?;
                    of = of.join(kind).ok_or_else(|| {
                        let (one, other) = (of.words(), kind.words());
                        ConditionError::new(format!("a list has both {one} and {other}"))
                    })?;
                }
                Ok(of.list())
            }
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(each) => self.comprehension(each, depth),
            Expr::Map(_) | Expr::Struct(_) => {
                Err(ConditionError::new("`{` has no meaning in a condition"))
            }
            Expr::Unspecified => Err(ConditionError::new("a part of it is missing")),
        }
    }

    fn in_scope(&self, name: &str) -> Option<Kind> {
        let mut scope = self.scope.iter().rev();
        scope
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    fn variable(&self, name: &str) -> Checked {
        if let Some(kind) = self.in_scope(name) {
            return Ok(kind);
        }
        if name == EVIDENCE {
            return Ok(Kind::Facts);
        }
        if let Some(field) = FIELDS.iter().find(|field| field.root == name) {
            let message = format!("`{name}` is no value by itself");
            let help = format!("name a field, such as `{name}.{}`", field.name);
            return Err(self.at(name, message).help(help));
        }
        let known = FIELDS.iter().map(|field| field.root);
        let error = self.at(name, format!("there is no variable `{name}`"));
        Err(match nearest(name, known.chain([EVIDENCE])) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("known are incident, evidence, service, host and time"),
        })
    }

    fn field(&self, root: &str, name: &str, test: bool) -> Checked {
        if root == EVIDENCE {
            return Ok(if test { Kind::Bool } else { Kind::Text });
        }
        let of_root = || FIELDS.iter().filter(|field| field.root == root);
        if of_root().next().is_none() {
            return self.variable(root);
        }
        let Some(field) = of_root().find(|field| field.name == name) else {
            let error = self.at(name, format!("`{root}` has no field `{name}`"));
            let names: Vec<&str> = of_root().map(|field| field.name).collect();
            return Err(error.help(match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{root}.{near}`?"),
                None => format!("it has {}", names.join(", ")),
            }));
        };
        if test && root != SERVICE {
            let message = format!("`has({root}.{name})` says nothing");
            let help =
                "`has()` is for `evidence` and `service`; for the time there is `time.known`";
            return Err(self.at(name, message).help(help));
        }
        Ok(if test { Kind::Bool } else { field.kind })
    }

    fn comprehension(&mut self, each: &'a ComprehensionExpr, depth: u32) -> Checked {
        self.loops += 1;
        if self.loops > LOOPS || !self.scope.is_empty() {
            let message = format!(
                "`{}` may stand in a condition {LOOPS} times in all, and not within each other",
                MACROS.join("`, `")
            );
            return Err(ConditionError::new(message));
        }
        let of = match self.kind(&each.iter_range, depth + 1)? {
            Kind::Facts => Kind::Text,
            Kind::List(of) => *of,
            other => {
                let message = format!("{} has no elements to look at", other.words());
                return Err(ConditionError::new(message));
            }
        };
        let name = each.iter_var.as_str();
        if name == EVIDENCE || FIELDS.iter().any(|field| field.root == name) {
            let message = format!("`{name}` has a meaning already");
            return Err(self.at(name, message).help("choose another name"));
        }
        let start = self.kind(&each.accu_init, depth + 1)?;
        self.scope = vec![(name, of), (&each.accu_var, start)];
        self.want(&each.loop_cond, Kind::Bool, depth)?;
        let step = self.kind(&each.loop_step, depth + 1)?;
        let accumulated = start
            .join(step)
            .ok_or_else(|| ConditionError::new(format!("{} does not fit there", step.words())))?;
        self.scope = vec![(name, of), (&each.accu_var, accumulated)];
        let result = self.kind(&each.result, depth + 1);
        self.scope.clear();
        result
    }

    pub(super) fn want(&mut self, expr: &'a IdedExpr, want: Kind, depth: u32) -> Checked {
        let kind = self.kind(expr, depth + 1)?;
        kind.join(want).ok_or_else(|| {
            let found = described(expr, kind);
            let message = format!("{found} stands where {} is wanted", want.words());
            self.near(expr, message)
        })
    }
}
