//! A hand-made blob, its ruins, and the running kernel's types.

use super::*;

fn length(of: &[impl Sized]) -> u32 {
    u32::try_from(of.len()).expect("a small blob")
}

/// Types and strings, put together as the format wants them.
#[derive(Default)]
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Blob {
    fn new() -> Self {
        Self {
            strings: vec![0],
            ..Self::default()
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = length(&self.strings);
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, info: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        let words = [name, info, size_or_type];
        self.types
            .extend(words.iter().chain(rest).flat_map(|word| word.to_ne_bytes()));
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, INT << 24, size, &[size * 8])
    }

    /// Members are (name, type, place).
    fn composite(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let rest: Vec<u32> = members
            .iter()
            .flat_map(|(name, of, place)| [self.name(name), *of, *place])
            .collect();
        self.add(name, kind | length(members), size, &rest)
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(STRUCT << 24, name, size, members)
    }

    fn bytes(&self) -> Vec<u8> {
        let types = length(&self.types);
        let strings = length(&self.strings);
        let mut bytes = Vec::from(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).expect("a well-formed blob")
    }
}

/// `struct outer { u32 first; union { u64 wide; struct inner inner; }; struct inner many[4]; }`
fn sample() -> Blob {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let long = blob.int("long", 8);
    let alias = blob.add("u64", TYPEDEF << 24, long, &[]);
    let inner = blob.structure("inner", 8, &[("low", int, 0), ("high", int, 32)]);
    let either = blob.composite(
        UNION << 24,
        "",
        8,
        &[("wide", alias, 0), ("inner", inner, 0)],
    );
    let many = blob.add("", ARRAY << 24, 0, &[inner, int, 4]);
    blob.structure(
        "outer",
        48,
        &[("first", int, 0), ("", either, 64), ("many", many, 128)],
    );
    blob
}

#[test]
fn a_path_goes_through_nested_and_anonymous_structures() {
    let btf = sample().parse();
    let at = |path| btf.member("outer", path).map(|member| member.offset).ok();
    assert_eq!(at("first"), Some(0));
    assert_eq!(at("wide"), Some(8));
    assert_eq!(at("inner.high"), Some(12));
    assert_eq!(
        at("many.high"),
        Some(20),
        "an array stands for its first element"
    );
    let many = btf.member("outer", "many.high").unwrap();
    assert_eq!((many.stride, many.size), (8, 4));
}

#[test]
fn what_is_missing_is_named() {
    let btf = sample().parse();
    let text = |structure, path| btf.member(structure, path).unwrap_err().to_string();
    assert_eq!(
        text("outer", "last"),
        "this kernel's struct outer has no member last"
    );
    assert_eq!(
        text("outer", "first.low"),
        "this kernel's struct outer has no member first.low"
    );
    assert_eq!(text("other", "first"), "this kernel has no struct other");
    assert_eq!(
        btf.tracepoint("nothing").unwrap_err().to_string(),
        "this kernel has no tracepoint nothing"
    );
}

#[test]
fn a_bitfield_is_refused() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let packed = STRUCT << 24 | 1 << 31;
    blob.composite(
        packed,
        "flags",
        4,
        &[("bit", int, 1 << 24 | 3), ("whole", int, 32)],
    );
    let btf = blob.parse();
    assert!(matches!(
        btf.member("flags", "bit"),
        Err(BtfError::Bitfield { .. })
    ));
    assert_eq!(btf.member("flags", "whole").unwrap().offset, 4);
}

#[test]
fn two_structures_of_one_name_must_agree() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.structure("twin", 8, &[("same", int, 0), ("moved", int, 32)]);
    blob.structure("twin", 12, &[("same", int, 0), ("moved", int, 64)]);
    let btf = blob.parse();
    assert_eq!(btf.member("twin", "same").unwrap().offset, 0);
    assert!(matches!(
        btf.member("twin", "moved"),
        Err(BtfError::Ambiguous { .. })
    ));
}

#[test]
fn a_tracepoint_tells_its_arguments() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let task = blob.structure("task_struct", 8, &[("pid", int, 0)]);
    let pointer = blob.add("", PTR << 24, task, &[]);
    let function = blob.add("", FUNC_PROTO << 24 | 3, 0, &[0, 0, 0, pointer, 0, int]);
    let function = blob.add("", PTR << 24, function, &[]);
    blob.add("btf_trace_mark", TYPEDEF << 24, function, &[]);
    let arguments = blob.parse();
    assert_eq!(
        arguments.tracepoint("mark").unwrap(),
        [Some("task_struct"), None]
    );
}

#[test]
fn circles_end() {
    let mut blob = Blob::new();
    blob.add("a", TYPEDEF << 24, 2, &[]);
    blob.add("b", TYPEDEF << 24, 1, &[]);
    blob.structure("holder", 4, &[("", 1, 0), ("x", 2, 0)]);
    blob.structure("own", 4, &[("", 4, 0)]);
    let btf = blob.parse();
    assert!(btf.member("holder", "x").is_err());
    assert!(btf.member("own", "x").is_err());
}

#[test]
fn ruins_are_errors_and_not_panics() {
    let whole = sample().bytes();
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap().to_vec();
        assert!(
            Btf::parse(cut).is_err(),
            "{length} bytes of {} passed",
            whole.len()
        );
    }
    // Any one byte replaced: an answer or an error, but an end.
    for at in 0..whole.len() {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            if let Ok(btf) = Btf::parse(broken) {
                for path in ["first", "wide", "inner.high", "many.high", "absent"] {
                    let _ = btf.member("outer", path);
                }
            }
        }
    }
}

/// Host test: needs a kernel with `CONFIG_DEBUG_INFO_BTF`, as every supported one has.
#[test]
fn the_running_kernel_answers() {
    let btf = Btf::of_kernel().expect("the running kernel shows its types");
    let comm = btf.member("task_struct", "comm").unwrap();
    assert_eq!((comm.size, comm.stride), (16, 1));
    let pid = btf.member("task_struct", "pid").unwrap();
    assert_eq!(pid.size, 4);
    assert_eq!(
        btf.member("task_struct", "tgid").unwrap().offset,
        pid.offset + 4
    );
    let arguments = btf.tracepoint("sched_switch").unwrap();
    assert!(arguments.len() >= 3, "{arguments:?}");
    assert_eq!(arguments.get(1), Some(&Some("task_struct")));
}
