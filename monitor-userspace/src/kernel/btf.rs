//! Where members of kernel structures are, from the running kernel's own type information.
//!
//! Owns a walker over BTF (`/sys/kernel/btf/vmlinux`, `CONFIG_DEBUG_INFO_BTF`, since 5.4): (structure, "a.b.c") to a byte
//! offset, bits, enumerators, and the arguments of a tracepoint. One pass over the types, one allocation for their positions; nothing is
//! flattened, so that it takes milliseconds. Bitfields, and structures of one name whose layouts disagree, are refused:
//! a wrong offset is worse than none. Malformed input is an error, never a panic or an endless loop.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>.

use std::path::Path;

use thiserror::Error;

mod format;

use format::{
    ARRAY, CONST, ENUM, ENUM64, FLOAT, FUNC_PROTO, INT, MAGIC, PTR, RESTRICT, STRUCT, TYPE_TAG,
    TYPEDEF, Type, UNION, VOLATILE, variable_part, word,
};

/// Where the kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Longest chain of typedefs or nested anonymous structures that is followed.
const DEPTH: usize = 32;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read {VMLINUX}: {0}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, as those of current distributions are"
    )]
    Unreadable(#[source] std::io::Error),
    /// The bytes are not BTF as documented.
    #[error("the kernel's type information is malformed: {0}")]
    Malformed(&'static str),
    /// There is no such structure.
    #[error("this kernel has no struct {0}")]
    NoStructure(String),
    /// The structure has no such member.
    #[error("this kernel's struct {structure} has no member {path}")]
    NoMember {
        /// The structure.
        structure: String,
        /// What was looked for in it.
        path: String,
    },
    /// The member is not at a byte of its own.
    #[error("member {path} of this kernel's struct {structure} is a bitfield")]
    Bitfield {
        /// The structure.
        structure: String,
        /// What was looked for in it.
        path: String,
    },
    /// Several structures of this name have it at different places.
    #[error("this kernel has several struct {structure} that disagree about {path}")]
    Ambiguous {
        /// The structure.
        structure: String,
        /// What was looked for in it.
        path: String,
    },
    /// There is no such tracepoint.
    #[error("this kernel has no tracepoint {0}")]
    NoTracepoint(String),
}

/// A member, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost structure.
    pub offset: u32,
    /// Bytes from one element to the next of the last array that the path ends in or goes through; 0 without one.
    pub stride: u32,
    /// Bytes of the member itself.
    pub size: u32,
}

/// The types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    /// Position in `data` of each type, by id; id 0 is `void`.
    types: Vec<u32>,
    /// Ids of the structures and of the typedefs, the only ones looked up by name.
    named: Vec<u32>,
    strings: std::ops::Range<usize>,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Btf({} types)", self.types.len())
    }
}

impl Btf {
    /// Reads the running kernel's.
    pub fn of_kernel() -> Result<Self, BtfError> {
        let data = std::fs::read(Path::new(VMLINUX)).map_err(BtfError::Unreadable)?;
        Self::parse(data)
    }

    /// Takes bytes as documented.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        const SHORT: BtfError = BtfError::Malformed("it ends early");
        let header = |at| word(&data, at).ok_or(SHORT);
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()[..]) {
            return Err(BtfError::Malformed(
                "it does not begin with BTF's magic number",
            ));
        }
        let start = header(4)? as usize;
        let section = |offset: u32, length: u32| {
            let begin = start.checked_add(offset as usize).ok_or(SHORT)?;
            let end = begin.checked_add(length as usize).ok_or(SHORT)?;
            if end <= data.len() {
                Ok(begin..end)
            } else {
                Err(SHORT)
            }
        };
        let types_at = section(header(8)?, header(12)?)?;
        let strings = section(header(16)?, header(20)?)?;
        let mut btf = Self {
            types: Vec::with_capacity(types_at.len() / 24),
            named: Vec::with_capacity(types_at.len() / 192),
            data,
            strings,
        };
        btf.types.push(0);
        let mut at = types_at.start;
        while at < types_at.end {
            let found = Type::read(&btf.data, at).ok_or(SHORT)?;
            let length = variable_part(found.kind, found.count).ok_or(BtfError::Malformed(
                "it has a kind of type that this version does not know",
            ))?;
            if matches!(found.kind, STRUCT | TYPEDEF) && found.name != 0 {
                btf.named
                    .push(u32::try_from(btf.types.len()).map_err(|_| SHORT)?);
            }
            btf.types.push(u32::try_from(at).map_err(|_| SHORT)?);
            at = found.rest + length;
        }
        Ok(btf)
    }

    /// Where a member is. The path goes through nested structures with dots; anonymous ones are not named in it, and an
    /// array on the way stands for its first element.
    pub fn member(&self, structure: &str, path: &str) -> Result<Member, BtfError> {
        let missing = || BtfError::NoMember {
            structure: structure.into(),
            path: path.into(),
        };
        let mut answer: Option<Result<Member, Refusal>> = None;
        for id in self.ids(STRUCT, structure) {
            let this = self.walk(id, path);
            match answer {
                Some(before) if before != this => {
                    return Err(BtfError::Ambiguous {
                        structure: structure.into(),
                        path: path.into(),
                    });
                }
                _ => answer = Some(this),
            }
        }
        match answer {
            None => Err(BtfError::NoStructure(structure.into())),
            Some(Ok(member)) => Ok(member),
            Some(Err(Refusal::Missing)) => Err(missing()),
            Some(Err(Refusal::Bitfield)) => Err(BtfError::Bitfield {
                structure: structure.into(),
                path: path.into(),
            }),
            Some(Err(Refusal::Malformed)) => Err(BtfError::Malformed("a type refers to none")),
        }
    }

    /// Where a bitfield of one bit is: bits from the start of the structure. The path is a single name.
    pub fn bit(&self, structure: &str, name: &str) -> Result<u32, BtfError> {
        let mut answer: Option<Result<u64, Refusal>> = None;
        for id in self.ids(STRUCT, structure) {
            let this = match self.find(id, name, DEPTH, true) {
                Ok(found) if found.width == 1 => Ok(found.bits),
                Ok(_) => Err(Refusal::Missing),
                Err(refusal) => Err(refusal),
            };
            if answer.is_some_and(|before| before != this) {
                return Err(BtfError::Ambiguous {
                    structure: structure.into(),
                    path: name.into(),
                });
            }
            answer = Some(this);
        }
        match answer {
            None => Err(BtfError::NoStructure(structure.into())),
            Some(Ok(bits)) => {
                u32::try_from(bits).map_err(|_| BtfError::Malformed("a bit is far out"))
            }
            Some(Err(Refusal::Malformed)) => Err(BtfError::Malformed("a type refers to none")),
            Some(Err(_)) => Err(BtfError::NoMember {
                structure: structure.into(),
                path: name.into(),
            }),
        }
    }

    /// The value of a name of an enumeration of 32 bits; none where either is missing. Goes through all types.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let mut all = self.enumerators(enumeration);
        all.find_map(|(its, value)| (its == name).then_some(value))
    }

    /// Every name of the enumerations of 32 bits of this name, with its value. Goes through all types.
    pub fn enumerators<'a>(
        &'a self,
        enumeration: &'a str,
    ) -> impl Iterator<Item = (&'a str, u32)> + 'a {
        let all = self.types.iter().skip(1);
        let all = all.filter_map(|at| Type::read(&self.data, *at as usize));
        let all = all.filter(move |of| of.kind == ENUM && self.is_named(of.name, enumeration));
        all.flat_map(move |of| {
            (0..of.count).filter_map(move |index| {
                let at = of.rest + index * 8;
                Some((self.name(word(&self.data, at)?)?, word(&self.data, at + 4)?))
            })
        })
    }

    /// For each argument of a tracepoint, the structure that it points to, if it does.
    pub fn tracepoint(&self, name: &str) -> Result<Vec<Option<&str>>, BtfError> {
        const BROKEN: BtfError = BtfError::Malformed("a tracepoint is not a function");
        let id = self
            .ids(TYPEDEF, &format!("btf_trace_{name}"))
            .next()
            .ok_or_else(|| BtfError::NoTracepoint(name.into()))?;
        let pointer = self
            .bare(id)
            .map(|id| self.get(id))
            .ok_or(BROKEN)?
            .ok_or(BROKEN)?;
        let function = self.get(pointer.operand).ok_or(BROKEN)?;
        if pointer.kind != PTR || function.kind != FUNC_PROTO {
            return Err(BROKEN);
        }
        // The first parameter is the tracer's own.
        (1..function.count)
            .map(|index| {
                let id = word(&self.data, function.rest + index * 8 + 4).ok_or(BROKEN)?;
                Ok(self.structure_behind(id))
            })
            .collect()
    }

    fn structure_behind(&self, id: u32) -> Option<&str> {
        let pointer = self.get(self.bare(id)?)?;
        if pointer.kind != PTR {
            return None;
        }
        let target = self.get(self.bare(pointer.operand)?)?;
        (target.kind == STRUCT)
            .then(|| self.name(target.name))
            .flatten()
    }

    fn walk(&self, structure: u32, path: &str) -> Result<Member, Refusal> {
        let mut id = structure;
        let mut bits = 0_u64;
        let mut stride = 0;
        let mut size = None;
        for name in path.split('.') {
            let found = self.find(id, name, DEPTH, false)?;
            bits += found.bits;
            size = self.size(found.target, DEPTH);
            id = self.bare(found.target).ok_or(Refusal::Malformed)?;
            let mut of = self.get(id).ok_or(Refusal::Malformed)?;
            for _ in 0..DEPTH {
                if of.kind != ARRAY {
                    break;
                }
                let element = word(&self.data, of.rest).ok_or(Refusal::Malformed)?;
                stride = self.size(element, DEPTH).ok_or(Refusal::Malformed)?;
                id = self.bare(element).ok_or(Refusal::Malformed)?;
                of = self.get(id).ok_or(Refusal::Malformed)?;
            }
        }
        Ok(Member {
            offset: u32::try_from(bits / 8).map_err(|_| Refusal::Malformed)?,
            stride,
            size: size.ok_or(Refusal::Malformed)?,
        })
    }

    /// A member by its name, in a structure or in the anonymous ones inside it.
    fn find(
        &self,
        structure: u32,
        name: &str,
        depth: usize,
        bitfields: bool,
    ) -> Result<Found, Refusal> {
        let depth = depth.checked_sub(1).ok_or(Refusal::Malformed)?;
        let of = self.get(structure).ok_or(Refusal::Malformed)?;
        if !matches!(of.kind, STRUCT | UNION) {
            return Err(Refusal::Missing);
        }
        for index in 0..of.count {
            let at = of.rest + index * 12;
            let read = |past| word(&self.data, at + past).ok_or(Refusal::Malformed);
            let (member_name, of_type, place) = (read(0)?, read(4)?, read(8)?);
            let (bits, width) = if of.packed {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            if member_name == 0 {
                let inner = self.bare(of_type).ok_or(Refusal::Malformed)?;
                match self.find(inner, name, depth, bitfields) {
                    Err(Refusal::Missing) => {}
                    Ok(found) => {
                        return Ok(Found {
                            bits: u64::from(bits) + found.bits,
                            ..found
                        });
                    }
                    refusal => return refusal,
                }
            } else if self.is_named(member_name, name) {
                if !bitfields && (width != 0 || bits % 8 != 0) {
                    return Err(Refusal::Bitfield);
                }
                return Ok(Found {
                    bits: u64::from(bits),
                    width,
                    target: of_type,
                });
            }
        }
        Err(Refusal::Missing)
    }

    /// Ids of the types of this kind and name.
    fn ids<'a>(&'a self, kind: u32, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        self.named.iter().copied().filter(move |id| {
            self.get(*id)
                .is_some_and(|of| of.kind == kind && self.is_named(of.name, name))
        })
    }

    /// The type behind typedefs and qualifiers; none in a circle of them.
    fn bare(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            let of = self.get(id)?;
            if !matches!(of.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(id);
            }
            id = of.operand;
        }
        None
    }

    fn size(&self, id: u32, depth: usize) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let of = self.get(self.bare(id)?)?;
        match of.kind {
            INT | STRUCT | UNION | ENUM | ENUM64 | FLOAT => Some(of.operand),
            PTR => u32::try_from(size_of::<usize>()).ok(),
            ARRAY => {
                let (element, length) =
                    (word(&self.data, of.rest)?, word(&self.data, of.rest + 8)?);
                self.size(element, depth)?.checked_mul(length)
            }
            _ => None,
        }
    }

    /// A type by its id; none for `void`.
    fn get(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        Type::read(&self.data, *self.types.get(id as usize)? as usize)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        self.text(offset)
            .and_then(|text| text.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn text(&self, offset: u32) -> Option<&[u8]> {
        self.data.get(self.strings.clone())?.get(offset as usize..)
    }

    fn name(&self, offset: u32) -> Option<&str> {
        let name = self.text(offset)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(name.get(..end)?).ok()
    }
}

struct Found {
    bits: u64,
    /// Of a bitfield; 0 for any other member.
    width: u32,
    target: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Missing,
    Bitfield,
    Malformed,
}

#[cfg(test)]
#[path = "btf/tests.rs"]
mod tests;
