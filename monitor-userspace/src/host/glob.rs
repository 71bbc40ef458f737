//! Patterns for names of files, on bytes: `*`, `?`, `[abc]`, `[a-z]`, `[!a-z]`. As in a shell, a dot at the beginning of a name is matched
//! only by a dot. Takes time in proportion to pattern times name at most.

/// Whether a name matches a pattern.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (pattern, name);
    // Where to go on when what follows the last `*` does not match: behind that `*`, one byte later.
    let mut back: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', rest)) = p.split_first() {
            back = Some((rest, n));
            p = rest;
            continue;
        }
        match (one(p), n.split_first()) {
            (None, None) => return true,
            (Some((takes, rest)), Some((byte, behind))) if takes.matches(*byte) => {
                (p, n) = (rest, behind);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = back else {
            return false;
        };
        let Some((_, later)) = from.split_first() else {
            return false;
        };
        back = Some((after, later));
        (p, n) = (after, later);
    }
}

/// What one byte of a name can be.
enum One<'a> {
    Any,
    Is(u8),
    In { set: &'a [u8], not: bool },
}

impl One<'_> {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Is(is) => *is == byte,
            Self::In { set, not } => is_in(set, byte) != *not,
        }
    }
}

fn is_in(mut set: &[u8], byte: u8) -> bool {
    loop {
        match set {
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                set = rest;
            }
            [is, rest @ ..] => {
                if *is == byte {
                    return true;
                }
                set = rest;
            }
            [] => return false,
        }
    }
}

/// What the pattern begins with, other than `*`, and what follows. A `[` without its end is a plain one.
fn one(pattern: &[u8]) -> Option<(One<'_>, &[u8])> {
    let (first, rest) = pattern.split_first()?;
    let found = match first {
        b'?' => (One::Any, rest),
        b'[' => {
            let not = matches!(rest.first(), Some(b'!' | b'^'));
            let inside = rest.get(usize::from(not)..).unwrap_or_default();
            // A `]` at the very beginning belongs to the set.
            let end = inside.iter().skip(1).position(|byte| *byte == b']');
            let parts = end.and_then(|end| Some((inside.get(..=end)?, inside.get(end + 2..)?)));
            match parts {
                Some((set, behind)) => (One::In { set, not }, behind),
                None => (One::Is(b'['), rest),
            }
        }
        plain => (One::Is(*plain), rest),
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_match_in_a_shell() {
        let yes = [
            ("*", "a"),
            ("*.log.*", "shop.log.1"),
            ("*.log.*", "a.log.b.log.2"),
            ("core.*", "core.12"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]x]", "]"),
            ("[", "["),
            ("a**b", "ab"),
            (".*", ".hidden"),
            ("", ""),
        ];
        for (pattern, name) in yes {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        let no = [
            ("*", ".hidden"),
            ("?hidden", ".hidden"),
            ("[.]hidden", ".hidden"),
            ("*.log.*", "shop.log"),
            ("core.*", "score.1"),
            ("a?c", "ac"),
            ("[a-c]x", "dx"),
            ("[!a-c]x", "bx"),
            ("", "a"),
            ("a", ""),
        ];
        for (pattern, name) in no {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        assert!(
            matches(b"*\n*", b"new\nline"),
            "a newline is a byte like any"
        );
        assert!(matches(b"\xff*", b"\xff\xfe"));
    }

    #[test]
    fn a_hostile_name_costs_no_more_than_pattern_times_name() {
        let pattern = "*a".repeat(100) + "b";
        let name = "a".repeat(255);
        assert!(!matches(pattern.as_bytes(), name.as_bytes()));
    }
}
