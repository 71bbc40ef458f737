//! Every probe, by number. Adding one: a file in `probes/`, a line here, a file of the same stem in `monitor-ebpf`.
//!
//! The numbers are the `kind` of a record and the index into the kernel's counters; recordings keep them, so they are
//! never used again for something else. A number given twice does not compile.

use crate::spec::ProbeSpec;

mod sealed {
    /// Only the records listed here: whoever reads them from bytes relies on their being integers without gaps.
    pub trait Sealed {}
}

/// A record that a ring or the iterator carries: integers without gaps, so that any bytes of its size are one.
pub trait Record: sealed::Sealed + Copy + 'static {
    /// Its number.
    const KIND: Kind;
}

/// Something that can be read as a record of any type, if its size is right.
pub trait ReadRecord {
    /// The record, unless the bytes are not as many as it has.
    fn read<T: Record>(&self) -> Option<T>;
}

/// Something that takes a record of any type.
pub trait WriteRecord {
    /// Takes it.
    fn write<T: Record>(&mut self, record: &T);
}

macro_rules! probes {
    ($($id:literal => $variant:ident($module:ident),)*) => {
        $(pub mod $module;)*

        /// What a record in a ring is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
        #[repr(u16)]
        pub enum Kind {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $variant = $id,)*
        }

        impl Kind {
            /// Every probe, in the order of its number.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The kind with this number, if there is one.
            pub const fn from_number(number: u16) -> Option<Kind> {
                match number {
                    $($id => Some(Kind::$variant),)*
                    _ => None,
                }
            }

            /// What the loader must know of it.
            pub const fn spec(self) -> &'static ProbeSpec {
                match self {
                    $(Kind::$variant => &$module::SPEC,)*
                }
            }

            /// Bytes of its record.
            pub const fn size(self) -> usize {
                match self {
                    $(Kind::$variant => size_of::<$module::$variant>(),)*
                }
            }
        }

        $(impl sealed::Sealed for $module::$variant {})*
        $(impl Record for $module::$variant {
            const KIND: Kind = Kind::$variant;
        })*

        /// A decoded record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(tag = "probe", rename_all = "snake_case"))]
        pub enum Event {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $variant($module::$variant),)*
        }

        impl Event {
            /// Reads a record of this kind.
            #[inline]
            pub fn read(kind: Kind, from: &impl ReadRecord) -> Option<Event> {
                match kind {
                    $(Kind::$variant => from.read().map(Event::$variant),)*
                }
            }

            /// Hands the record on, as what it is.
            #[inline]
            pub fn write(&self, to: &mut impl WriteRecord) {
                match self {
                    $(Event::$variant(event) => to.write(event),)*
                }
            }

            /// Its first bytes.
            pub const fn header(&self) -> &crate::Header {
                match self {
                    $(Event::$variant(event) => &event.header,)*
                }
            }

            /// Which probe emitted it.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Event::$variant(_) => Kind::$variant,)*
                }
            }

            /// When the kernel saw it: `CLOCK_MONOTONIC`, nanoseconds.
            pub const fn time_ns(&self) -> u64 {
                match self {
                    $(Event::$variant(event) => event.header.time_ns,)*
                }
            }

            /// Its first bytes, for who reads it from elsewhere than a ring.
            pub const fn header_mut(&mut self) -> &mut crate::Header {
                match self {
                    $(Event::$variant(event) => &mut event.header,)*
                }
            }

            /// Who it is about.
            pub const fn task(&self) -> &crate::Task {
                match self {
                    $(Event::$variant(event) => &event.task,)*
                }
            }

            /// The same, for who finds it out afterwards.
            pub const fn task_mut(&mut self) -> &mut crate::Task {
                match self {
                    $(Event::$variant(event) => &mut event.task,)*
                }
            }
        }
    };
}

probes! {
    1 => ProcessExec(process_exec),
    2 => ProcessFork(process_fork),
    3 => ProcessExit(process_exit),
    4 => RunQueueLatency(run_queue_latency),
    5 => TaskSnapshot(task_snapshot),
    6 => OomKill(oom_kill),
    7 => DirectReclaim(direct_reclaim),
    8 => TcpConnect(tcp_connect),
    9 => ProcessSignal(process_signal),
    10 => ForkStorm(fork_storm),
    11 => MemoryCeiling(memory_ceiling),
    12 => OffCpu(off_cpu),
    13 => CgroupChange(cgroup_change),
    14 => EventThrottle(event_throttle),
    15 => BenchLoad(bench_load),
    16 => BenchEmpty(bench_empty),
    17 => TcpReset(tcp_reset),
    18 => TcpRetransmit(tcp_retransmit),
    22 => RouteFailure(route_failure),
    23 => SocketError(socket_error),
    24 => ConnectError(connect_error),
    19 => PacketDrop(packet_drop),
    20 => ListenOverflow(listen_overflow),
    21 => SocketOverflow(socket_overflow),
    25 => BlockIo(block_io),
    26 => DnsQuery(dns_query),
    27 => ServiceLatency(service_latency),
}

impl Event {
    /// Number of the inode of the socket that it is about, where the kernel could not say whose it is.
    pub const fn socket_inode(&self) -> Option<u64> {
        let inode = match self {
            Event::SocketError(event) => event.inode,
            Event::TcpReset(event) => event.inode,
            Event::TcpRetransmit(event) => event.inode,
            Event::PacketDrop(event) => event.inode,
            Event::ListenOverflow(event) => event.inode,
            Event::SocketOverflow(event) => event.inode,
            Event::DnsQuery(event) => event.inode,
            _ => 0,
        };
        if inode != 0 && self.task().pid == 0 {
            Some(inode)
        } else {
            None
        }
    }
}

impl Kind {
    /// Length of a table indexed by kind; number 0 is none.
    pub const TABLE: usize = 32;

    /// Its number: the `kind` of a header, and the index into the kernel's counters.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Its name: file stem, configuration key and metric label.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }
}

const _: () = {
    let mut at = 0;
    while at < Kind::ALL.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "in a constant: out of range does not compile"
        )]
        let kind = Kind::ALL[at];
        assert!((kind as usize) < Kind::TABLE);
        at += 1;
    }
};
