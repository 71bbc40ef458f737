//! Questions and answers of DNS (RFC 1035, section 4). Whatever comes, reading ends: pointers of names lead back only, and names have their longest.

use super::record::Kind;

/// The longest name there can be, in bytes as written here.
const NAME: usize = 253;
/// Most records that are looked at.
const RECORDS: u16 = 512;
const HEADER: usize = 12;
const INTERNET: u16 = 1;

/// One question, to be answered by asking others too.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, String> {
    let plain = name.strip_suffix('.').unwrap_or(name);
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    // The root itself has no label.
    for label in plain.split('.').filter(|_| !plain.is_empty()) {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|it| (1..64).contains(it));
        let fits = plain.len() <= NAME && label.bytes().all(|byte| byte.is_ascii_graphic());
        let length = length.filter(|_| fits).ok_or_else(|| {
            format!(
                "`{name}` is no name to ask for (letters outside of ASCII are written as \"xn--…\")"
            )
        })?;
        packet.push(length);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.number().to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    Ok(packet)
}

/// Whether a packet answers this question, as far as its first bytes show.
pub(super) fn answers(packet: &[u8], question: &[u8]) -> bool {
    let is_answer = packet.get(2).is_some_and(|flags| flags & 0x80 != 0);
    packet.len() >= HEADER && packet.get(..2) == question.get(..2) && is_answer
}

/// Whether not all of the answer fitted.
pub(super) fn is_cut(packet: &[u8]) -> bool {
    packet.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) rcode: u8,
    /// Of the kind that was asked for, sorted.
    pub(super) records: Vec<String>,
    /// How long they may be kept, the shortest, in seconds.
    pub(super) ttl: u32,
}

impl Message {
    /// From a packet that [`answers`] the question.
    pub(super) fn read(packet: &[u8], question: &[u8], kind: Kind) -> Result<Self, &'static str> {
        let mut reader = Reader { packet, at: 2 };
        let short = "it ends in the middle";
        let flags = reader.u16().ok_or(short)?;
        let (questions, answers) = (reader.u16().ok_or(short)?, reader.u16().ok_or(short)?);
        reader.at = HEADER;
        let rcode = flags.to_be_bytes()[1] & 0xf;
        // Some refuse without repeating the question.
        if questions == 1 {
            let asked = question.get(HEADER..).unwrap_or_default();
            let repeated = reader.take(asked.len()).ok_or(short)?;
            if !repeated.eq_ignore_ascii_case(asked) {
                return Err("it answers another question");
            }
        } else if questions != 0 || rcode == 0 {
            return Err("it does not repeat the question");
        }
        let mut records = Vec::new();
        let mut ttl = u32::MAX;
        for _ in 0..answers.min(RECORDS) {
            reader.name().ok_or("a name in it does not end")?;
            let (found, class) = (reader.u16().ok_or(short)?, reader.u16().ok_or(short)?);
            let lasts = reader.u32().ok_or(short)?;
            let length = usize::from(reader.u16().ok_or(short)?);
            let start = reader.at;
            let end = start + length;
            if end > packet.len() {
                return Err(short);
            }
            if found == kind.number() && class == INTERNET {
                let data = Reader {
                    packet: packet.get(..end).unwrap_or_default(),
                    at: start,
                };
                records.push(
                    kind.show(data)
                        .ok_or("a record in it is not as its kind is")?,
                );
                ttl = ttl.min(lasts);
            }
            reader.at = end;
        }
        records.sort_unstable();
        records.dedup();
        let ttl = if records.is_empty() { 0 } else { ttl };
        Ok(Self {
            rcode,
            records,
            ttl,
        })
    }
}

/// Reads on from a place in a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.packet.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.take(self.packet.len().saturating_sub(self.at))
            .unwrap_or_default()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A name, in small letters, without the dot at its end; the root is a dot.
    pub(super) fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut reader = *self;
        // A pointer leads to before where the name, or the part of it before the pointer, began.
        let mut before = self.at;
        let mut jumped = false;
        loop {
            let length = reader.u8()?;
            match length {
                0 => break,
                1..=63 => {
                    for byte in reader.take(usize::from(length))? {
                        let c = char::from(*byte).to_ascii_lowercase();
                        name.push(if c.is_ascii_graphic() { c } else { '?' });
                    }
                    name.push('.');
                    if name.len() > NAME + 1 {
                        return None;
                    }
                }
                0xc0.. => {
                    let to = usize::from(length & 0x3f) << 8 | usize::from(reader.u8()?);
                    if !jumped {
                        self.at = reader.at;
                        jumped = true;
                    }
                    if to >= before {
                        return None;
                    }
                    before = to;
                    reader.at = to;
                }
                _ => return None,
            }
        }
        if !jumped {
            self.at = reader.at;
        }
        if name.pop().is_none() {
            name.push('.');
        }
        Some(name)
    }
}

/// What a name server means by its answer's code (RFC 1035, 2136).
pub(super) fn rcode(code: u8) -> String {
    let words = match code {
        1 => "the question is malformed (FORMERR)",
        2 => "it failed, or those that it asked did (SERVFAIL)",
        3 => "there is no such name (NXDOMAIN)",
        4 => "such questions are not known to it (NOTIMP)",
        5 => "it does not answer us (REFUSED)",
        6 => "the name should not be there (YXDOMAIN)",
        9 => "it is not responsible for this zone (NOTAUTH)",
        _ => return format!("code {code}"),
    };
    words.to_owned()
}
