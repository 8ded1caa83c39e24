//! Where the running kernel keeps the fields that the programs read: one list, used by both sides.
//!
//! User space resolves each path in the kernel's BTF and passes the result as a read-only constant, which the verifier folds
//! into the instructions. A field that the kernel lacks is [`ABSENT`], and the verifier drops the branch that would read it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Structure, as BTF names it.
    pub structure: &'static str,
    /// Path of members; anonymous structures and unions are looked through.
    pub path: &'static str,
    /// Without it the programs cannot work.
    pub required: bool,
}

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $need:ident $structure:literal $path:literal;)*) => {
        /// Byte offsets within kernel structures; [`ABSENT`] where the kernel has no such field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            /// What each word of the structure stands for, in order.
            pub const FIELDS: [Field; size_of::<Self>() / 4] = [$(Field {
                structure: $structure,
                path: $path,
                required: offsets!(@ $need),
            },)*];

            /// No field is known.
            pub const NONE: Self = Self { $($name: ABSENT,)* };
        }
    };
    (@ required) => { true };
    (@ optional) => { false };
}

offsets! {
    /// IPv4 peer address, network byte order.
    sock_daddr = required "sock" "__sk_common.skc_daddr";
    /// IPv4 local address, network byte order.
    sock_rcv_saddr = required "sock" "__sk_common.skc_rcv_saddr";
    /// Peer port, network byte order.
    sock_dport = required "sock" "__sk_common.skc_dport";
    /// Bound port, host byte order; zero again once the port was given back.
    sock_num = required "sock" "__sk_common.skc_num";
    /// AF_INET or AF_INET6.
    sock_family = required "sock" "__sk_common.skc_family";
    /// TCP state.
    sock_state = required "sock" "__sk_common.skc_state";
    /// struct net *.
    sock_net = required "sock" "__sk_common.skc_net.net";
    /// IPv6 peer address.
    sock_v6_daddr = optional "sock" "__sk_common.skc_v6_daddr";
    /// IPv6 local address.
    sock_v6_rcv_saddr = optional "sock" "__sk_common.skc_v6_rcv_saddr";
    /// int, whether a process is within a call on it.
    sock_lock_owned = required "sock" "sk_lock.owned";
    /// unsigned long of `enum sock_flags` bits.
    sock_flags = required "sock" "__sk_common.skc_flags";
    /// u16, IP protocol.
    sock_protocol = required "sock" "sk_protocol";
    /// u16, SOCK_STREAM and so on.
    sock_type = required "sock" "sk_type";
    /// struct socket *: null before it was accepted, and once no process has it any more.
    sock_socket = required "sock" "sk_socket";
    /// u32, longest accept queue; accepted sockets have their listener's.
    sock_max_ack_backlog = required "sock" "sk_max_ack_backlog";
    /// int, positive errno.
    sock_err = required "sock" "sk_err";
    /// int, positive errno that did not (yet) end the connection.
    sock_err_soft = required "sock" "sk_err_soft";
    /// kuid_t of the creator; a listener's is inherited.
    sock_uid = required "sock" "sk_uid";
    /// struct cgroup * of the creator, its lowest bit set when it is something else; inherited too.
    sock_cgroup = optional "sock" "sk_cgrp_data";
    /// The byte of SOCK_*_LOCK bits; before 6.3 they are a bit field within it.
    sock_userlocks = optional "sock" "sk_userlocks";
    /// u8 of RCV_SHUTDOWN and SEND_SHUTDOWN.
    sock_shutdown = optional "sock" "sk_shutdown";
    /// struct bpf_local_storage *; null: no program keeps anything with the socket.
    sock_storage = optional "sock" "sk_bpf_storage";
    /// u32, parts of an unfinished datagram.
    sock_write_queue_length = required "sock" "sk_write_queue.qlen";
    /// int, AF_INET or AF_INET6 while a datagram is unfinished.
    udp_pending = optional "udp_sock" "pending";
    /// u16, bytes of an unfinished datagram, its header included.
    udp_len = required "udp_sock" "len";
    /// u16, what `UDP_SEGMENT` was set to.
    udp_gso_size = optional "udp_sock" "gso_size";
    /// unsigned int, what `UDP_CORK` was set to (before 6.7) …
    udp_corkflag = optional "udp_sock" "corkflag";
    /// … or unsigned long of `UDP_FLAGS_*` bits.
    udp_flags = optional "udp_sock" "udp_flags";
    /// IPv4 destination of an unfinished datagram.
    cork_daddr = optional "inet_sock" "cork.fl.u.ip4.daddr";
    /// Its port, network byte order.
    cork_dport = optional "inet_sock" "cork.fl.u.ip4.uli.ports.dport";
    /// IPv6 destination of an unfinished datagram.
    cork_v6_daddr = optional "inet_sock" "cork.fl.u.ip6.daddr";
    /// Its port, network byte order.
    cork_v6_dport = optional "inet_sock" "cork.fl.u.ip6.uli.ports.dport";
    /// Local port, network byte order; stays when the port is given back.
    inet_sport = required "inet_sock" "inet_sport";
    /// Payload bytes handed down, those sent again and those refused on their way out included.
    tcp_bytes_sent = required "tcp_sock" "bytes_sent";
    /// Payload bytes sent again.
    tcp_bytes_retrans = required "tcp_sock" "bytes_retrans";
    /// Bytes acknowledged, SYN and FIN counted as one each.
    tcp_bytes_acked = required "tcp_sock" "bytes_acked";
    /// u32, the first sequence number that is not acknowledged.
    tcp_snd_una = required "tcp_sock" "snd_una";
    /// u32, the next sequence number that is to be sent.
    tcp_snd_nxt = required "tcp_sock" "snd_nxt";
    /// u32, the next sequence number that is to come in.
    tcp_rcv_nxt = required "tcp_sock" "rcv_nxt";
    /// u32, segments sent; zero while not even a SYN was.
    tcp_segs_out = required "tcp_sock" "segs_out";
    /// Bytes received in order, a FIN counted as one.
    tcp_bytes_received = required "tcp_sock" "bytes_received";
    /// bool, a subflow of Multipath TCP.
    tcp_is_mptcp = optional "tcp_sock" "is_mptcp";
    /// void *: struct mptcp_subflow_context of a subflow.
    icsk_ulp_data = optional "inet_connection_sock" "icsk_ulp_data";
    /// struct sock *: the struct mptcp_sock.
    subflow_conn = optional "mptcp_subflow_context" "conn";
    /// struct sock * of the first subflow, or of the listener.
    mptcp_first = optional "mptcp_sock" "first";
    /// Segments sent again.
    tcp_total_retrans = required "tcp_sock" "total_retrans";
    /// Smoothed round-trip time, eighths of a microsecond.
    tcp_srtt_us = required "tcp_sock" "srtt_us";
    /// Mean deviation, quarters of a microsecond.
    tcp_mdev_us = required "tcp_sock" "mdev_us";
    /// u32, the next sequence number; zero until a SYN was to be sent.
    tcp_write_seq = required "tcp_sock" "write_seq";
    /// Inode number of the namespace.
    net_inum = required "net" "ns.inum";
    /// struct sock * of a struct socket.
    socket_sk = required "socket" "sk";
    /// struct file *; null for a socket of the kernel.
    socket_file = required "socket" "file";
    /// const struct cred * of who opened it.
    file_cred = required "file" "f_cred";
    /// struct inode *.
    file_inode = required "file" "f_inode";
    /// void *: struct socket * for sockets.
    file_private_data = required "file" "private_data";
    /// u16, type and permissions.
    inode_mode = required "inode" "i_mode";
    /// unsigned long.
    inode_number = required "inode" "i_ino";
    /// Thread.
    task_pid = required "task_struct" "pid";
    /// Process.
    task_tgid = required "task_struct" "tgid";
    /// `char[16]`.
    task_comm = required "task_struct" "comm";
    /// struct task_struct * of the first thread.
    task_group_leader = required "task_struct" "group_leader";
    /// struct files_struct *.
    task_files = required "task_struct" "files";
    /// u32 of PF_* bits.
    task_flags = required "task_struct" "flags";
    /// const struct cred *.
    task_cred = required "task_struct" "cred";
    /// struct css_set *.
    task_cgroups = optional "task_struct" "cgroups";
    /// struct task_struct *; the first task of all is its own.
    task_real_parent = optional "task_struct" "real_parent";
    /// struct nsproxy *.
    task_nsproxy = optional "task_struct" "nsproxy";
    /// struct net *.
    nsproxy_net_ns = optional "nsproxy" "net_ns";
    /// kuid_t, the real user.
    cred_uid = required "cred" "uid";
    /// struct cgroup * of the default (v2) hierarchy.
    css_set_cgroup = optional "css_set" "dfl_cgrp";
    /// int, how many ancestors it has.
    cgroup_level = optional "cgroup" "level";
    /// `struct cgroup *[]`, from the root to itself (6.1 and later) …
    cgroup_ancestors = optional "cgroup" "ancestors";
    /// … or `u64[]`, their numbers.
    cgroup_ancestor_ids = optional "cgroup" "ancestor_ids";
    /// struct kernfs_node *.
    cgroup_kn = optional "cgroup" "kn";
    /// u64, the inode number.
    kernfs_id = optional "kernfs_node" "id";
    /// void *: sockaddr of a kernel-side message.
    msghdr_name = optional "msghdr" "msg_name";
    /// int, its length.
    msghdr_namelen = optional "msghdr" "msg_namelen";
    /// void *: control messages.
    msghdr_control = optional "msghdr" "msg_control";
    /// Their length.
    msghdr_controllen = optional "msghdr" "msg_controllen";
    /// unsigned int, flags of the call.
    msghdr_flags = optional "msghdr" "msg_flags";
    /// unsigned char *: start of a packet's memory.
    skb_head = optional "sk_buff" "head";
    /// u32, how many hold the datagram.
    skb_users = optional "sk_buff" "users";
    /// u16 from `head`.
    skb_network_header = optional "sk_buff" "network_header";
    /// u16 from `head`.
    skb_transport_header = optional "sk_buff" "transport_header";
    /// u32 from `head`: struct skb_shared_info.
    skb_end = optional "sk_buff" "end";
    /// u16, bytes of one datagram of a batch; their number, u16, follows.
    skb_gso_size = optional "skb_shared_info" "gso_size";
    /// Number of the running system call (x86_64).
    regs_call = optional "pt_regs" "orig_ax";
    /// Second argument of the running system call (x86_64).
    regs_argument2 = optional "pt_regs" "si";
    /// Third argument of the running system call (x86_64).
    regs_argument3 = optional "pt_regs" "dx";
    /// Fourth argument of the running system call (x86_64).
    regs_argument4 = optional "pt_regs" "r10";
    /// Fifth argument of the running system call (x86_64).
    regs_argument5 = optional "pt_regs" "r8";
}

impl Offsets {
    /// How many fields there are.
    pub const WORDS: usize = Self::FIELDS.len();

    /// From words in the order of [`Self::FIELDS`].
    #[must_use]
    pub fn from_words(words: [u32; Self::WORDS]) -> Self {
        zerocopy::transmute!(words)
    }

    /// As words, for the loader.
    #[must_use]
    pub fn words(&self) -> [u32; Self::WORDS] {
        zerocopy::transmute!(*self)
    }
}
