//! A program that does nothing at `sched_switch`: the floor under every one that does something.
//!
//! The object is written here by hand (two instructions, one symbol), so that the floor has no map, no helper and no code of ours,
//! and so that the shipped object holds no program for the bench alone. The kernel's own types say where it attaches.

use anyhow::{Context as _, Result};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};

const NAME: &str = "bench_empty";
const HOOK: &str = "sched_switch";

/// Attached until it is dropped.
pub(super) fn attach() -> Result<Ebpf> {
    let mut object = Ebpf::load(&object()).context("the empty program does not load")?;
    let types = Btf::from_sys_fs().context("no types of the kernel")?;
    let program = object.program_mut(NAME).context("no empty program")?;
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(HOOK, &types)?;
    program.attach()?;
    Ok(object)
}

/// Sections by number: none, the program, symbols, names.
fn object() -> Vec<u8> {
    const HEADER: u64 = 64;
    /// `r0 = 0; exit`
    const PROGRAM: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let section = format!("tp_btf/{HOOK}");
    let names = format!("\0{section}\0.symtab\0.strtab\0{NAME}\0");
    let name_offset = |name: &str| u32::try_from(names.find(name).unwrap_or(0)).unwrap_or(0);

    let mut symbols = vec![0; 24];
    symbols.extend(name_offset(NAME).to_le_bytes());
    // A global function, of section 1, at its begin, of its size.
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend(0_u64.to_le_bytes());
    symbols.extend(16_u64.to_le_bytes());

    let mut body = PROGRAM.to_vec();
    let symbols_at = HEADER + length(&body);
    body.extend(&symbols);
    let names_at = HEADER + length(&body);
    body.extend(names.as_bytes());
    body.resize(body.len().next_multiple_of(8), 0);
    let table_at = HEADER + length(&body);

    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Relocatable, for BPF, version 1.
    bytes.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    for word in [0, 0, table_at] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0; 4]);
    // Sizes of headers, four sections, names in the last.
    for half in [64_u16, 0, 0, 64, 4, 3] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(body);
    bytes.resize(bytes.len() + 64, 0);
    let names_size = u64::try_from(names.len()).unwrap_or(0);
    // Name, kind, flags, place, size, link, info, alignment, size of an entry.
    let sections = [
        (section.as_str(), 1, 6, HEADER, 16, 0, 0, 8, 0),
        (".symtab", 2, 0, symbols_at, 48, 3, 1, 8, 24),
        (".strtab", 3, 0, names_at, names_size, 0, 0, 1, 0),
    ];
    for (name, kind, flags, at, size, link, info, align, entry) in sections {
        for word in [name_offset(name), kind] {
            bytes.extend(word.to_le_bytes());
        }
        for long in [flags, 0_u64, at, size] {
            bytes.extend(long.to_le_bytes());
        }
        for word in [link, info] {
            let word: u32 = word;
            bytes.extend(word.to_le_bytes());
        }
        for long in [align, entry] {
            let long: u64 = long;
            bytes.extend(long.to_le_bytes());
        }
    }
    bytes
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(0)
}
