//! The numbers and the fixed parts of BTF: <https://docs.kernel.org/bpf/btf.html>.

pub(super) const MAGIC: u16 = 0xeb9f;
pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const RESTRICT: u32 = 11;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const FLOAT: u32 = 16;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;

/// The fixed part of a type.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// Where its variable part begins.
    pub(super) rest: usize,
    pub(super) name: u32,
    pub(super) kind: u32,
    /// Members, parameters or values.
    pub(super) count: usize,
    /// Members state offset and width in one number.
    pub(super) packed: bool,
    /// Its size in bytes, or the id of the type it refers to.
    pub(super) operand: u32,
}

impl Type {
    /// The type at this position; none past the end.
    pub(super) fn read(data: &[u8], at: usize) -> Option<Self> {
        let info = word(data, at + 4)?;
        Some(Self {
            rest: at + 12,
            name: word(data, at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            packed: info >> 31 != 0,
            operand: word(data, at + 8)?,
        })
    }
}

/// Four bytes as a number; none past the end.
pub(super) fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Bytes that follow the fixed part of a type; none for an unknown kind.
pub(super) fn variable_part(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, qualifiers, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // structure, union, variables of a section, 64-bit enumeration
        4 | 5 | 15 | 19 => 12 * count,
        // enumeration, parameters
        6 | 13 => 8 * count,
        _ => return None,
    })
}
