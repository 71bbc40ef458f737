//! What a pattern of names asks for: `*`, `?`, `[a-z]`.

/// What counts as the end of a class, and whether a `\` makes what follows it plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Of names of files, as in a shell, without `\`.
    Files,
    /// Of keys of Redis (`KEYS`): with `\`, and a `]` ends a class wherever it stands.
    Redis,
}

/// Whether some character of a pattern stands for itself; where none does, it means everything or nearly so. None where a class has no end.
pub fn has_literal(pattern: &str, syntax: Syntax) -> Option<bool> {
    let redis = syntax == Syntax::Redis;
    let mut found = false;
    let mut rest = pattern.chars();
    while let Some(one) = rest.next() {
        match one {
            '*' | '?' => {}
            '[' => {
                let not = |c: char| c == '^' || (c == '!' && !redis);
                let mut class = rest.clone();
                if class.next().is_some_and(not) {
                    rest.next();
                }
                skip_class(&mut rest, redis)?;
            }
            '\\' if redis => {
                rest.next();
                found = true;
            }
            _ => found = true,
        }
    }
    Some(found)
}

/// Goes behind the `]` of a class; none where it has none.
fn skip_class(rest: &mut std::str::Chars<'_>, redis: bool) -> Option<()> {
    if !redis {
        // A `]` at the very beginning belongs to the class.
        rest.next()?;
        return rest.find(|c| *c == ']').map(|_| ());
    }
    loop {
        match rest.next()? {
            '\\' => {
                rest.next()?;
            }
            ']' => return Some(()),
            _ => {
                // Whatever ends a range belongs to it.
                if let Some(behind) = rest.as_str().strip_prefix('-')
                    && !behind.is_empty()
                {
                    rest.next();
                    rest.next();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_everything_has_no_character_of_its_own() {
        use Syntax::{Files, Redis};
        for (pattern, syntax, has) in [
            ("*", Files, Some(false)),
            ("**?", Files, Some(false)),
            ("[!a]*", Files, Some(false)),
            ("[^~]*", Files, Some(false)),
            ("[]x]*", Files, Some(false)),
            ("[!]]*", Files, Some(false)),
            ("[a][b]", Files, Some(false)),
            ("*.log.*", Files, Some(true)),
            ("core.[0-9]*", Files, Some(true)),
            ("]", Files, Some(true)),
            ("[", Files, None),
            ("a[b", Files, None),
            ("[]", Files, None),
            ("[!]", Files, None),
            ("[^a]*", Redis, Some(false)),
            ("[\\]a]*", Redis, Some(false)),
            ("[a-]x]*", Redis, Some(false)),
            ("[]x", Redis, Some(true)),
            ("\\*", Redis, Some(true)),
            ("limit:*", Redis, Some(true)),
            ("a[b", Redis, None),
            ("[\\", Redis, None),
        ] {
            assert_eq!(has_literal(pattern, syntax), has, "{pattern}");
        }
    }
}
