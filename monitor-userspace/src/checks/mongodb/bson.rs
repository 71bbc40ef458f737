//! Documents of MongoDB (BSON), as far as its answers are read here. What does not read is refused; depth and number of values are bounded.

/// Bounds of a document: documents within documents, and values in all.
const DEPTH: u32 = 16;
const VALUES: usize = 20_000;

/// A value; numbers, truths and times (milliseconds since 1970) are numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Text(String),
    Document(Document),
    Other,
}

/// Names and values, in their order; those of a list have numbers as names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document(pub(super) Vec<(String, Value)>);

impl Document {
    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn document(&self, name: &str) -> Option<&Self> {
        match self.get(name)? {
            Value::Document(document) => Some(document),
            _ => None,
        }
    }

    /// From the bytes of one, all of them.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { bytes, values: 0 };
        let document = reader.document(0)?;
        if reader.bytes.is_empty() {
            Ok(document)
        } else {
            Err("something follows its answer".to_owned())
        }
    }
}

/// One with these numbers, and the database that it is for.
pub(super) fn command(names: &[&str]) -> Vec<u8> {
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        all.push(0x10);
        all.extend_from_slice(name.as_bytes());
        all.push(0);
        // The first is the command; the others are what is not wanted.
        all.extend(i32::from(at == 0).to_le_bytes());
    }
    all.extend_from_slice(b"\x02$db\0\x06\0\0\0admin\0\0");
    let length = i32::try_from(all.len() + 4).unwrap_or(i32::MAX);
    [&length.to_le_bytes(), all.as_slice()].concat()
}

struct Reader<'a> {
    bytes: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let split = self.bytes.split_at_checked(bytes);
        let (taken, rest) = split.ok_or("a document is cut off")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "cut off".to_owned())
    }

    fn length(&mut self) -> Result<usize, String> {
        let length = i32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| "a length is below zero".to_owned())
    }

    fn name(&mut self) -> Result<String, String> {
        let end = self.bytes.iter().position(|byte| *byte == 0);
        let name = self.take(end.ok_or("a name has no end")?)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn document(&mut self, depth: u32) -> Result<Document, String> {
        if depth > DEPTH {
            return Err("its answer has too many documents in documents".to_owned());
        }
        let length = self.length()?;
        let whole = self.take(length.checked_sub(4).ok_or("a length is too short")?)?;
        let mut within = Reader {
            bytes: whole,
            values: self.values,
        };
        let mut all = Vec::new();
        loop {
            let [kind] = within.array()?;
            if kind == 0 {
                break;
            }
            within.values += 1;
            if within.values > VALUES {
                return Err(format!("its answer has more than {VALUES} values"));
            }
            let name = within.name()?;
            all.push((name, within.value(kind, depth)?));
        }
        self.values = within.values;
        if within.bytes.is_empty() {
            Ok(Document(all))
        } else {
            Err("a document is longer than what is in it".to_owned())
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<Value, String> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts and times need no exactness beyond 2^53"
        )]
        let wide = |bytes: [u8; 8]| Value::Number(i64::from_le_bytes(bytes) as f64);
        let skipped = match kind {
            0x01 => return Ok(Value::Number(f64::from_le_bytes(self.array()?))),
            0x02 => {
                let length = self.length()?;
                let text = self.take(length)?;
                let text = text.strip_suffix(&[0]).ok_or("a text has no end")?;
                return Ok(Value::Text(String::from_utf8_lossy(text).into_owned()));
            }
            0x03 | 0x04 => return Ok(Value::Document(self.document(depth + 1)?)),
            0x08 => return Ok(Value::Number(f64::from(self.array::<1>()?[0]))),
            0x09 | 0x12 => return Ok(wide(self.array()?)),
            0x10 => return Ok(Value::Number(i32::from_le_bytes(self.array()?).into())),
            0x05 => self.length()?.saturating_add(1),
            0x07 => 12,
            0x11 => 8,
            0x13 => 16,
            0x06 | 0x0a | 0x7f | 0xff => 0,
            0x0b => {
                self.name()?;
                self.name()?;
                0
            }
            other => return Err(format!("a value of the unknown kind {other}")),
        };
        self.take(skipped)?;
        Ok(Value::Other)
    }
}
