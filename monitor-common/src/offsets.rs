//! The members of kernel structures that the programs read, each by a name.
//!
//! Userspace finds every byte offset in the running kernel's BTF and injects it as a read-only global of this name before
//! the programs are loaded; the verifier then sees constants and accepts direct loads. One line here is all there is to
//! add: both sides derive from the list. An offset that the kernel lacks stays [`ABSENT`]; a probe that requires it is
//! off, one that lists it as optional goes without.

/// Value of an offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One member of a kernel structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Name of the global in `monitor-ebpf`.
    pub global: &'static str,
    /// The structure.
    pub structure: &'static str,
    /// The member, through nested structures with dots; an array on the way means its first element. Where it was renamed,
    /// its names with `|` between them, newest first.
    pub path: &'static str,
    /// What of it is injected.
    pub measure: Measure,
}

/// What of a member is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes from the start of the structure to the member.
    Offset,
    /// Bytes from one element to the next of the array that the path ends in or goes through.
    Stride,
    /// Bits from the start of the structure to a bitfield of one bit.
    Bit,
}

/// Hands the list to a macro: `NAME(structure, path, measure);` for each.
#[macro_export]
macro_rules! for_each_offset {
    ($then:ident) => {
        $then! {
            TASK_PID("task_struct", "pid", Offset);
            TASK_TGID("task_struct", "tgid", Offset);
            TASK_COMM("task_struct", "comm", Offset);
            TASK_FLAGS("task_struct", "flags", Offset);
            TASK_LEADER("task_struct", "group_leader", Offset);
            TASK_PARENT("task_struct", "real_parent", Offset);
            TASK_START("task_struct", "start_boottime", Offset);
            TASK_CGROUPS("task_struct", "cgroups", Offset);
            TASK_EXIT_CODE("task_struct", "exit_code", Offset);
            TASK_SIGNAL("task_struct", "signal", Offset);
            TASK_MM("task_struct", "mm", Offset);
            TASK_MINOR_FAULTS("task_struct", "min_flt", Offset);
            TASK_MAJOR_FAULTS("task_struct", "maj_flt", Offset);
            TASK_READ_BYTES("task_struct", "ioac.read_bytes", Offset);
            TASK_WRITE_BYTES("task_struct", "ioac.write_bytes", Offset);
            TASK_CPU_TIME("task_struct", "se.sum_exec_runtime", Offset);
            TASK_CFS_RQ("task_struct", "se.cfs_rq", Offset);
            TASK_RUN_DELAY("task_struct", "sched_info.run_delay", Offset);
            TASK_LAST_QUEUED("task_struct", "sched_info.last_queued", Offset);
            TASK_STATE("task_struct", "__state|state", Offset);
            TASK_IN_IOWAIT("task_struct", "in_iowait", Bit);
            TASK_VOLUNTARY_SWITCHES("task_struct", "nvcsw", Offset);
            TASK_INVOLUNTARY_SWITCHES("task_struct", "nivcsw", Offset);
            TASK_CREDENTIALS("task_struct", "cred", Offset);
            CREDENTIALS_UID("cred", "uid.val", Offset);
            CSS_SET_CGROUP("css_set", "dfl_cgrp", Offset);
            CGROUP_NODE("cgroup", "kn", Offset);
            CGROUP_ROOT("cgroup", "root", Offset);
            CGROUP_ROOT_HIERARCHY("cgroup_root", "hierarchy_id", Offset);
            NODE_ID("kernfs_node", "id", Offset);
            CSS_SET_SUBSYSTEMS("css_set", "subsys", Offset);
            SUBSYSTEM_CGROUP("cgroup_subsys_state", "cgroup", Offset);
            MEMORY_CGROUP_USAGE("mem_cgroup", "memory.usage", Offset);
            SIGNAL_LIVE("signal_struct", "live.counter", Offset);
            SIGNAL_FLAGS("signal_struct", "flags", Offset);
            SIGNAL_GROUP_EXIT_CODE("signal_struct", "group_exit_code", Offset);
            SIGNAL_OOM_SCORE_ADJ("signal_struct", "oom_score_adj", Offset);
            SIGNAL_DEAD_CPU_TIME("signal_struct", "sum_sched_runtime", Offset);
            SIGNAL_DEAD_MINOR_FAULTS("signal_struct", "min_flt", Offset);
            SIGNAL_DEAD_MAJOR_FAULTS("signal_struct", "maj_flt", Offset);
            SIGNAL_DEAD_READ_BYTES("signal_struct", "ioac.read_bytes", Offset);
            SIGNAL_DEAD_WRITE_BYTES("signal_struct", "ioac.write_bytes", Offset);
            CFS_RQ_RQ("cfs_rq", "rq", Offset);
            CFS_RQ_GROUP("cfs_rq", "tg", Offset);
            // Time for which this queue, or one above it, was throttled; renamed in 5.19.
            CFS_RQ_THROTTLED_TIME("cfs_rq", "throttled_clock_pelt_time|throttled_clock_task_time", Offset);
            GROUP_QUOTA("task_group", "cfs_bandwidth.quota", Offset);
            RQ_CLOCK("rq", "clock", Offset);
            MM_ARGUMENTS("mm_struct", "arg_start", Offset);
            MM_ARGUMENTS_END("mm_struct", "arg_end", Offset);
            REGISTERS_SYSCALL("pt_regs", "orig_ax|syscallno", Offset);
            // The same, for who is handed the registers: the helper that finds a task's registers is not in every kernel.
            REGISTERS_CALL("pt_regs", "syscallno|orig_ax", Offset);
            // Arguments of a system call: registers by name on x86_64, numbered ones on aarch64, where these begin with the first.
            REGISTERS_SECOND("pt_regs", "si|regs", Offset);
            REGISTERS_THIRD("pt_regs", "dx|regs", Offset);
            REGISTERS_STEP("pt_regs", "regs", Stride);
            // Whether a call is one of 32 bits: `TS_COMPAT` on x86_64, the processor's mode on aarch64.
            TASK_CALL_STATUS("task_struct", "thread_info.status", Offset);
            REGISTERS_STATE("pt_regs", "pstate", Offset);
            // A counter per kind of page: atomics inside `mm_rss_stat` before 6.2, an array of `percpu_counter` since.
            MM_RSS("mm_struct", "rss_stat.count", Offset);
            MM_RSS_STRIDE("mm_struct", "rss_stat.count", Stride);
            SOCK_PROTOCOL("sock", "sk_protocol", Offset);
            SOCK_ERROR("sock", "sk_err", Offset);
            SOCK_FAMILY("sock", "__sk_common.skc_family", Offset);
            SOCK_PEER_PORT("sock", "__sk_common.skc_dport", Offset);
            SOCK_LOCAL_PORT("sock", "__sk_common.skc_num", Offset);
            SOCK_PEER_V4("sock", "__sk_common.skc_daddr", Offset);
            SOCK_LOCAL_V4("sock", "__sk_common.skc_rcv_saddr", Offset);
            SOCK_SOURCE_PORT("inet_sock", "inet_sport", Offset);
            SOCK_PEER_V6("sock", "__sk_common.skc_v6_daddr", Offset);
            SOCK_LOCAL_V6("sock", "__sk_common.skc_v6_rcv_saddr", Offset);
            SOCK_PROTOTYPE("sock", "__sk_common.skc_prot", Offset);
            SOCK_STATE("sock", "__sk_common.skc_state", Offset);
            SOCK_SOCKET("sock", "sk_socket", Offset);
            // A pointer since 5.15; before that a number whose lowest bit says that it is none.
            SOCK_CGROUP("sock", "sk_cgrp_data.cgroup", Offset);
            SOCK_CGROUP_BITS("sock", "sk_cgrp_data.val", Offset);
            SOCKET_INODE_NUMBER("socket_alloc", "vfs_inode.i_ino", Offset);
            SKB_SOCKET("sk_buff", "sk", Offset);
            SKB_DEVICE("sk_buff", "dev", Offset);
            SKB_HEAD("sk_buff", "head", Offset);
            SKB_DATA("sk_buff", "data", Offset);
            SKB_TAIL("sk_buff", "tail", Offset);
            SKB_LENGTH("sk_buff", "len", Offset);
            SKB_PAGED("sk_buff", "data_len", Offset);
            SKB_PROTOCOL("sk_buff", "protocol", Offset);
            SKB_NETWORK("sk_buff", "network_header", Offset);
            SKB_TRANSPORT("sk_buff", "transport_header", Offset);
            SOCK_NETWORK("sock", "__sk_common.skc_net.net", Offset);
            NETWORK_NUMBER("net", "ns.inum", Offset);
            SOCK_ACCEPT_QUEUE("sock", "sk_ack_backlog", Offset);
            SOCK_ACCEPT_LIMIT("sock", "sk_max_ack_backlog", Offset);
            SOCK_DROPS("sock", "sk_drops.counter", Offset);
            SOCK_RECEIVE_BUFFER("sock", "sk_rcvbuf", Offset);
            SOCK_RECEIVE_USED("sock", "sk_backlog.rmem_alloc.counter", Offset);
            SOCK_SEND_BUFFER("sock", "sk_sndbuf", Offset);
            SOCK_SEND_USED("sock", "sk_wmem_queued", Offset);
            // The connection that was queued last; begins with a `struct sock_common`, as a socket does.
            ACCEPT_QUEUE_LAST("inet_connection_sock", "icsk_accept_queue.rskq_accept_tail", Offset);
            // The device it came in by; 0 of a packet that this network namespace sends.
            SKB_INTERFACE("sk_buff", "skb_iif", Offset);
            DEVICE_INDEX("net_device", "ifindex", Offset);
            // A hash of both addresses and ports, with a secret; and both ports.
            SOCK_HASH("sock", "__sk_common.skc_hash", Offset);
            SOCK_PORTS("sock", "__sk_common.skc_portpair", Offset);
            // What lies in a received segment's `cb`.
            TCP_CB_SEQUENCE("tcp_skb_cb", "seq", Offset);
            TCP_CB_END("tcp_skb_cb", "end_seq", Offset);
            TCP_CB_FLAGS("tcp_skb_cb", "tcp_flags", Offset);
            TCP_TOTAL_RETRANSMITS("tcp_sock", "total_retrans", Offset);
            // Eight times the smoothed round-trip time, microseconds.
            TCP_SMOOTHED_RTT("tcp_sock", "srtt_us", Offset);
            TCP_TIMEOUTS("inet_connection_sock", "icsk_retransmits", Offset);
            TCP_SEGMENT_SIZE("tcp_sock", "mss_cache", Offset);
            TCP_SELECTIVE_ACKS("tcp_sock", "sacked_out", Offset);
            TCP_BYTES_ACKED("tcp_sock", "bytes_acked", Offset);
            SKB_CB("sk_buff", "cb", Offset);
            REQUEST_QUEUE("request", "q", Offset);
            REQUEST_FLAGS("request", "cmd_flags", Offset);
            REQUEST_BYTES("request", "__data_len", Offset);
            REQUEST_SECTOR("request", "__sector", Offset);
            REQUEST_START("request", "start_time_ns", Offset);
            REQUEST_BIO("request", "bio", Offset);
            // Gone in 5.17; a queue knows its disk since 5.15.
            REQUEST_DISK("request", "rq_disk", Offset);
            QUEUE_DISK("request_queue", "disk", Offset);
            DISK_MAJOR("gendisk", "major", Offset);
            DISK_MINOR("gendisk", "first_minor", Offset);
            DISK_NAME("gendisk", "disk_name", Offset);
            BIO_GROUP("bio", "bi_blkg", Offset);
            GROUP_BLKCG("blkcg_gq", "blkcg", Offset);
            BLKCG_CGROUP("blkcg", "css.cgroup", Offset);
            // Number of the next byte that is awaited; 0 until the peer has answered.
            TCP_RECEIVED("tcp_sock", "rcv_nxt", Offset);
            // What a route is looked up for; the common part is the first of both families'.
            ROUTE_KEY_OUT("flowi_common", "flowic_oif", Offset);
            ROUTE_KEY_IN("flowi_common", "flowic_iif", Offset);
            ROUTE_KEY_PROTOCOL("flowi_common", "flowic_proto", Offset);
            ROUTE_KEY_V4_FROM("flowi4", "saddr", Offset);
            ROUTE_KEY_V4_TO("flowi4", "daddr", Offset);
            // The peer's port, and behind it the local one.
            ROUTE_KEY_V4_PORTS("flowi4", "uli.ports", Offset);
            ROUTE_KEY_V6_FROM("flowi6", "saddr", Offset);
            ROUTE_KEY_V6_TO("flowi6", "daddr", Offset);
            ROUTE_KEY_V6_PORTS("flowi6", "uli.ports", Offset);
            ROUTE_V6_FOUND("fib6_result", "f6i", Offset);
            ROUTE_V6_FLAGS("fib6_result", "fib6_flags", Offset);
            ROUTE_V6_TYPE("fib6_result", "fib6_type", Offset);
            ROUTE_TABLE_V6_ID("fib6_table", "tb6_id", Offset);
            TASK_NAMESPACES("task_struct", "nsproxy", Offset);
            NAMESPACES_NET("nsproxy", "net_ns", Offset);
            NET_V6_NULL_ROUTE("net", "ipv6.fib6_null_entry", Offset);
            // Policy rules: a list in the order in which they are asked.
            NET_V4_RULES("net", "ipv4.rules_ops", Offset);
            NET_V4_DEFAULT_TABLE("net", "ipv4.fib_default", Offset);
            NET_V6_RULES("net", "ipv6.fib6_rules_ops", Offset);
            RULES_LIST("fib_rules_ops", "rules_list", Offset);
            RULE_TABLE("fib_rule", "table", Offset);
            RULE_ACTION("fib_rule", "action", Offset);
        }
    };
}

macro_rules! constants {
    ($($name:ident($structure:literal, $path:literal, $measure:ident);)*) => {
        $(
            #[doc = concat!("`", $structure, ".", $path, "`")]
            pub const $name: Offset = Offset {
                global: stringify!($name),
                structure: $structure,
                path: $path,
                measure: Measure::$measure,
            };
        )*

        /// All of them.
        pub const ALL: &[Offset] = &[$($name,)*];
    };
}

for_each_offset!(constants);

/// What it takes to fill in a [`crate::Task`].
pub const TASK: &[Offset] = &[TASK_PID, TASK_TGID, TASK_COMM, TASK_LEADER, TASK_START];

/// What it takes to fill in a [`crate::Task`] of the current task; helpers know the rest.
pub const CURRENT: &[Offset] = &[TASK_LEADER, TASK_START];

/// What it takes to fill in a [`crate::Flow`].
pub const FLOW: &[Offset] = &[
    SOCK_PROTOCOL,
    SOCK_FAMILY,
    SOCK_PEER_PORT,
    SOCK_LOCAL_PORT,
    SOCK_PEER_V4,
    SOCK_LOCAL_V4,
];

/// What it takes to know who connected a socket.
pub const SOCKET_OWNER: &[Offset] = &[SOCK_PROTOTYPE];

/// What adds IPv6 to a [`crate::Flow`].
pub const FLOW_V6: &[Offset] = &[SOCK_PEER_V6, SOCK_LOCAL_V6];

/// What it takes to know the cgroup whose task made a socket, one way or the other.
pub const SOCKET_CGROUP: &[Offset] = &[SOCK_CGROUP, CGROUP_NODE, NODE_ID];

/// What it takes to fill in the cgroup of a [`crate::Task`]; 0 without it.
pub const CGROUP: &[Offset] = &[TASK_CGROUPS, CSS_SET_CGROUP, CGROUP_NODE, NODE_ID];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_globals_read_the_same_member() {
        for (at, offset) in ALL.iter().enumerate() {
            let twin = ALL.iter().skip(at + 1).find(|other| {
                (other.structure, other.path, other.measure)
                    == (offset.structure, offset.path, offset.measure)
            });
            assert_eq!(twin, None, "{} is there twice", offset.global);
        }
    }
}
