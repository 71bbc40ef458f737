//! The types of values in a condition.

use cel::common::ast::LiteralValue;

use super::ConditionError;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    Text,
    /// The facts: text by text.
    Facts,
    /// A list of these.
    List(&'static Kind),
    /// What an empty list has.
    Any,
}

impl Kind {
    pub(super) fn list(self) -> Self {
        Self::List(match self {
            Self::Bool => &Self::Bool,
            Self::Int => &Self::Int,
            Self::Double => &Self::Double,
            Self::Text => &Self::Text,
            Self::Facts | Self::List(_) | Self::Any => &Self::Any,
        })
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Any)
    }

    /// The type that both are, if they can be one.
    pub(super) fn join(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, kind) | (kind, Self::Any) => Some(kind),
            (Self::List(one), Self::List(other)) => one.join(*other).map(Self::list),
            _ => (self == other).then_some(self),
        }
    }

    /// Whether `==` between them can ever be true.
    pub(super) fn compares(self, other: Self) -> bool {
        self.is_number() && other.is_number() || self.join(other).is_some()
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Double => "a number with a fraction",
            Self::Text => "a text",
            Self::Facts => "the evidence as a whole",
            Self::List(_) => "a list",
            Self::Any => "anything",
        }
    }
}

pub(super) fn of_literal(literal: &LiteralValue) -> Result<Kind, ConditionError> {
    Ok(match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Int(_) => Kind::Int,
        LiteralValue::Double(_) => Kind::Double,
        LiteralValue::String(_) => Kind::Text,
        LiteralValue::UInt(number) => {
            let message = format!(
                "`{}u` is a kind of number that nothing here has",
                number.inner()
            );
            return Err(ConditionError::new(message).help("leave out the `u`"));
        }
        LiteralValue::Bytes(_) => {
            let message = "`b\"...\"` is a kind of value that nothing here has";
            return Err(ConditionError::new(message).help("leave out the `b`"));
        }
        LiteralValue::Null => {
            let message = "nothing here is ever `null`";
            return Err(
                ConditionError::new(message).help("`has(evidence.x)` says whether there is one")
            );
        }
    })
}
