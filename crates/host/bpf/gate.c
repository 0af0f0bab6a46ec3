// The gate: frames of a virtual address pass only while the lease lasts.
//
// It sits at the interface in both directions. The guardian writes (epoch, closed, deadline); the program compares the
// kernel's own clock, which goes on during a suspend, with the absolute deadline. So a guardian that is dead, frozen or late
// opens nothing, and nothing has to run for the gate to close.
//
// In a planned hand-over it does two things more, each with a deadline of its own. The node that takes over lets frames in
// before it may send any (`admit`). The node that hands over sends what still comes to it on to the other one's hardware
// address, with the sender's IP address as it was (`pass`): datagrams at once, all else when it is closed. That is no
// answer: nothing that has a virtual address as its source leaves a closed gate.
//
// A datagram that the open gate lets in may go on at once, without user space: relay.h.
//
// Built by `cargo xtask gate` with clang for the target bpf; the object is in the tree.

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PROG_ARRAY 3
#define TC_ACT_UNSPEC -1
#define TC_ACT_SHOT 2
#define PACKET_HOST 0

#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define IPPROTO_UDP 17
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6 58
#define NEIGHBOUR_SOLICITATION 135
#define NEIGHBOUR_ADVERTISEMENT 136

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static void (*bpf_tail_call)(void *skb, void *map, __u32 index) = (void *)12;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*bpf_skb_store_bytes)(void *skb, __u32 offset, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;

struct __sk_buff {
    __u32 len;
    __u32 pkt_type;
    __u32 mark;
    __u32 queue_mapping;
    __u32 protocol;
    __u32 vlan_present;
    __u32 vlan_tci;
    __u32 vlan_proto;
    __u32 priority;
    __u32 ingress_ifindex;
    __u32 ifindex;
    __u32 tc_index;
    __u32 cb[5];
    __u32 hash;
    __u32 tc_classid;
    __u32 data;
    __u32 data_end;
    __u32 napi_id;
    __u32 family;
    __u32 remote_ip4;
    __u32 local_ip4;
    __u32 remote_ip6[4];
    __u32 local_ip6[4];
    __u32 remote_port;
    __u32 local_port;
    __u32 data_meta;
    __u64 flow_keys;
    __u64 tstamp;
    __u32 wire_len;
    __u32 gso_segs;
};

#define MAC_BYTES 6

// As `State` in gate.rs.
struct state {
    __u64 epoch;
    __u64 closed;
    __u64 deadline;
    // Until when frames come in without a lease.
    __u64 admit;
    // Until when frames are sent on to `heir`.
    __u64 pass;
    // Whether nobody rules this gate any more: when nothing is sent on it is as if it were not there.
    __u32 retired;
    __u8 heir[MAC_BYTES];
    __u8 own[MAC_BYTES];
};

struct counts {
    __u64 passed;
    __u64 dropped;
    __u64 passed_on;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct state);
} STATE SEC(".maps");

// IPv4 addresses are ::ffff:a.b.c.d here, so that one map has both.
struct address {
    __u32 words[4];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, struct address);
    __type(value, __u8);
} ADDRESSES SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct counts);
} COUNTS SEC(".maps");

// What a datagram goes on to that came in by an open gate: at 0 the relay of media (relay.h), if there is one. The kernel
// empties it when the guardian ends.
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} NEXT SEC(".maps");

static __attribute__((always_inline)) __u16 swap16(__u16 value) { return __builtin_bswap16(value); }

static __attribute__((always_inline)) int count(__u64 *counter, int action)
{
    if (counter)
        __sync_fetch_and_add(counter, 1);
    return action;
}

// Sends a frame on to the heir, unless it is for several or comes from there.
static __attribute__((always_inline)) int pass_on(struct __sk_buff *skb, struct state *state, struct counts *counts)
{
    __u8 from[MAC_BYTES];
    int is_heirs = 1;
    if (skb->pkt_type != PACKET_HOST || bpf_skb_load_bytes(skb, MAC_BYTES, from, MAC_BYTES))
        return count(&counts->dropped, TC_ACT_SHOT);
#pragma unroll
    for (int at = 0; at < MAC_BYTES; at++)
        is_heirs &= from[at] == state->heir[at];
    // The sender is this host's, or the switch would learn that the neighbour is behind this cable.
    if (is_heirs || bpf_skb_store_bytes(skb, 0, state->heir, MAC_BYTES, 0) ||
        bpf_skb_store_bytes(skb, MAC_BYTES, state->own, MAC_BYTES, 0))
        return count(&counts->dropped, TC_ACT_SHOT);
    return count(&counts->passed_on, bpf_redirect(skb->ifindex, 0));
}

// `outward` is a constant of each program below.
static __attribute__((always_inline)) int verdict(struct __sk_buff *skb, int outward, int is_datagram)
{
    __u32 zero = 0;
    struct state *state = bpf_map_lookup_elem(&STATE, &zero);
    struct counts *counts = bpf_map_lookup_elem(&COUNTS, &zero);
    if (!state || !counts)
        return TC_ACT_SHOT;
    __u64 now = bpf_ktime_get_boot_ns();
    int is_open = state->epoch > state->closed && now < state->deadline;
    if (now < state->pass) {
        if (!outward && (is_datagram || !is_open))
            return pass_on(skb, state, counts);
    } else if (state->retired) {
        return TC_ACT_UNSPEC;
    }
    if (is_open || (!outward && now < state->admit)) {
        count(&counts->passed, TC_ACT_UNSPEC);
        if (is_open && !outward && is_datagram)
            bpf_tail_call(skb, &NEXT, 0);
        return TC_ACT_UNSPEC;
    }
    return count(&counts->dropped, TC_ACT_SHOT);
}

static __attribute__((always_inline)) int has_v4(struct __sk_buff *skb, __u32 offset)
{
    struct address address;
    // One by one and volatile, or the compiler makes a constant in a section of its own.
    volatile __u32 *words = address.words;
    words[0] = 0;
    words[1] = 0;
    words[2] = __builtin_bswap32(0xffff);
    words[3] = 0;
    if (bpf_skb_load_bytes(skb, offset, &address.words[3], 4))
        return 0;
    return bpf_map_lookup_elem(&ADDRESSES, &address) != 0;
}

static __attribute__((always_inline)) int has_v6(struct __sk_buff *skb, __u32 offset)
{
    struct address address;
    if (bpf_skb_load_bytes(skb, offset, &address, 16))
        return 0;
    return bpf_map_lookup_elem(&ADDRESSES, &address) != 0;
}

static __attribute__((always_inline)) int gate(struct __sk_buff *skb, int outward)
{
    __u32 offset = 14;
    __u16 kind = 0;
    if (bpf_skb_load_bytes(skb, 12, &kind, 2))
        return TC_ACT_UNSPEC;
    kind = swap16(kind);
#pragma unroll
    for (int tag = 0; tag < 2; tag++) {
        if (kind == ETH_P_8021Q || kind == ETH_P_8021AD) {
            if (bpf_skb_load_bytes(skb, offset + 2, &kind, 2))
                return TC_ACT_UNSPEC;
            kind = swap16(kind);
            offset += 4;
        }
    }
    int ours = 0;
    int is_datagram = 0;
    __u8 next = 0;
    if (kind == ETH_P_IP) {
        // Each fragment of a datagram says so.
        is_datagram = !bpf_skb_load_bytes(skb, offset + 9, &next, 1) && next == IPPROTO_UDP;
        ours = has_v4(skb, offset + (outward ? 12 : 16));
    } else if (kind == ETH_P_ARP) {
        // What claims the address goes out; what asks for it comes in.
        ours = has_v4(skb, offset + (outward ? 14 : 24));
    } else if (kind == ETH_P_IPV6) {
        __u8 icmp = 0;
        int has_next = !bpf_skb_load_bytes(skb, offset + 6, &next, 1);
        is_datagram = has_next && (next == IPPROTO_UDP || next == IPPROTO_FRAGMENT);
        ours = has_v6(skb, offset + (outward ? 8 : 24));
        if (!ours && has_next && next == IPPROTO_ICMPV6 &&
            !bpf_skb_load_bytes(skb, offset + 40, &icmp, 1) &&
            icmp == (outward ? NEIGHBOUR_ADVERTISEMENT : NEIGHBOUR_SOLICITATION))
            ours = has_v6(skb, offset + 48);
    }
    return ours ? verdict(skb, outward, is_datagram) : TC_ACT_UNSPEC;
}

SEC("classifier/gate_out")
int gate_out(struct __sk_buff *skb) { return gate(skb, 1); }

SEC("classifier/gate_in")
int gate_in(struct __sk_buff *skb) { return gate(skb, 0); }

#include "relay.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
