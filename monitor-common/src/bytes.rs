//! Long byte arrays of records in recordings: as a list that ends with the last byte that is not 0.

use core::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};

/// Writes the bytes up to the last that is not 0.
pub(crate) fn serialize<S: Serializer, const N: usize>(
    bytes: &[u8; N],
    to: S,
) -> Result<S::Ok, S::Error> {
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default().serialize(to)
}

/// Reads at most as many bytes as there is room for.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    from: D,
) -> Result<[u8; N], D::Error> {
    struct Bytes<const N: usize>;
    impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {N} bytes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<[u8; N], A::Error> {
            let mut bytes = [0; N];
            let mut slots = bytes.iter_mut();
            while let Some(byte) = list.next_element::<u8>()? {
                match slots.next() {
                    Some(slot) => *slot = byte,
                    None => return Err(serde::de::Error::invalid_length(N + 1, &self)),
                }
            }
            Ok(bytes)
        }
    }
    from.deserialize_seq(Bytes::<N>)
}
