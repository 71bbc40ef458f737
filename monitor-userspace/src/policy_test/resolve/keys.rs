//! Which keys a step may have, by what it is.

use toml::Spanned;

use super::{Mistakes, nearest};
use crate::policy_test::raw;

/// Inputs, and what belongs to each. `effects` belongs to all of them.
const INPUTS: &[(&str, &[&str])] = &[
    ("started", &[]),
    ("exited", &["status"]),
    ("start_failed", &["reason"]),
    ("raised", &["on", "severity", "facts"]),
    ("cleared", &["on", "reason"]),
    ("check", &["named", "ok", "failure", "reason", "latency"]),
    ("load", &[]),
    ("lost", &["count"]),
    ("clock", &[]),
    ("approve", &["detector", "by"]),
    ("reject", &["detector", "by"]),
    ("acknowledge", &["detector", "by"]),
    ("asked", &["on", "rule", "by"]),
    ("lifted", &["detector", "by"]),
    ("silence", &["for", "detector", "by", "reason"]),
    ("unsilence", &["by"]),
];

/// Expectations, and what belongs to each.
pub(super) const EXPECTATIONS: &[(&str, &[&str])] = &[
    ("act", &["action", "on", "rule", "detector", "undo"]),
    ("refused", &["guard", "on", "detector"]),
    ("proposed", &["action", "on", "detector"]),
    ("none", &["on"]),
    ("state", &["on", "detector", "state", "outcome", "severity"]),
];

/// What a step is: the name of its input, `expect`, or `effects` alone. None, and a mistake, when it is not one thing.
pub(super) fn head(step: &Spanned<raw::Step>, mistakes: &mut Mistakes) -> Option<&'static str> {
    let keys = step.get_ref().keys();
    let input = |name: &str| INPUTS.iter().find(|(input, _)| *input == name);
    let mut heads = keys
        .iter()
        .filter(|(name, _)| *name == "expect" || input(name).is_some());
    let Some((head, _)) = heads.next() else {
        if let [("effects", _)] = keys.as_slice() {
            return Some("effects");
        }
        let message = "this step neither says what happens nor what is expected".to_owned();
        let names: Vec<&str> = INPUTS.iter().map(|(name, _)| *name).collect();
        let help = format!("it needs one of {}, or `expect`", names.join(", "));
        mistakes.add(step.span(), message, Some(help));
        return None;
    };
    if let Some((second, span)) = heads.next() {
        let message = format!("this step has both `{head}` and `{second}`");
        let help = "make it two steps with the same `at`".to_owned();
        mistakes.add(span.clone(), message, Some(help));
        return None;
    }
    let expect = step.get_ref().expect.as_ref();
    let (words, allowed) = if let Some(expect) = expect {
        let name = mistakes.one_of(
            "expectation",
            expect,
            EXPECTATIONS.iter().map(|(name, keys)| (*name, *keys)),
        )?;
        (
            format!("`expect = \"{}\"`", expect.get_ref()),
            name.to_vec(),
        )
    } else {
        let (_, allowed) = input(head)?;
        let allowed = allowed.iter().copied().chain(["effects"]);
        (format!("`{head}`"), allowed.collect())
    };
    let mut good = true;
    for (name, span) in &keys {
        if name != head && !allowed.contains(name) {
            let message = format!("`{name}` means nothing beside {words}");
            let help = match nearest(name, allowed.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if allowed.is_empty() => "it stands alone".to_owned(),
                None => format!("what can stand there: {}", allowed.join(", ")),
            };
            mistakes.add(span.clone(), message, Some(help));
            good = false;
        }
    }
    good.then_some(head)
}
