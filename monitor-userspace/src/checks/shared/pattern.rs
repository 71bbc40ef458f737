//! A regular expression of the configuration, over bytes: of what is in files, not all is text.

use serde::Deserialize;

/// Bytes that a compiled one may take: a few hundred alternatives, no more.
const LARGEST: usize = 1 << 20;

/// See the module. Takes time in proportion to the text, whatever it is.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) regex::bytes::Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let built = regex::bytes::RegexBuilder::new(&text)
            .size_limit(LARGEST)
            .multi_line(true)
            .build();
        built.map(Self).map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is no regular expression: {error}"))
        })
    }
}
