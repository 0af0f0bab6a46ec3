// The relay's fast path: RTP of streams that have latched is sent on in the kernel.
//
// The gate calls this for a datagram to a virtual address that it has just let in, so the lease is valid, and what leaves passes
// the gate once more on its way out. The engine, which has no rights, writes which streams there are. It can not do more by
// that than by its sockets: what leaves has a virtual address as its source and leaves by this interface, and nothing but UDP between
// ports that need no right is taken.
//
// Only plain RTP of the very sender that user space has latched on to is sent on. All else is left to user space: RTCP, STUN,
// DTLS, strangers, fragments, options, noise.

#define BPF_F_NO_PREALLOC 1
#define BPF_F_PSEUDO_HDR 16
#define BPF_F_MARK_MANGLED_0 32
#define ETHERNET_BYTES 14
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define UDP_BYTES 8
#define RTP_BYTES 12
#define UNPRIVILEGED_PORT 1024
#define SECOND 1000000000ULL
// As in media::figures.
#define DROPOUT_MAX 3000
#define MISORDER_MAX 100
#define RATES 8
#define HAS_RESTART 0x10000

static __s32 (*bpf_csum_diff)(const void *from, __u32 from_size, const void *to, __u32 to_size, __u32 seed) = (void *)28;
static long (*bpf_l4_csum_replace)(void *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) = (void *)11;
static long (*bpf_skb_pull_data)(void *skb, __u32 len) = (void *)39;
static long (*bpf_redirect_neigh)(__u32 ifindex, void *params, int length, __u64 flags) = (void *)152;

// Both ends of a datagram, as on the wire.
struct ends {
    struct address to;
    struct address from;
    __u16 to_port;
    __u16 from_port;
};

// As `Count` in kernel_relay.rs; the same numbers as media::figures::Reception has.
struct heard {
    __u64 packets;
    __u64 octets;
    __u64 lost_before;
    // By the clock of the gate.
    __u64 at;
    __u64 received;
    __u64 cycles;
    __u32 ssrc;
    __u32 transit;
    __u32 jitter;
    __u32 rate;
    // HAS_RESTART and the number, or 0.
    __u32 restart;
    __u16 base;
    __u16 highest;
    __u8 has_source;
    __u8 has_transit;
    __u8 transit_payload;
    __u8 unused[5];
};

// As `Entry` in kernel_relay.rs.
struct way {
    struct ends leaves;
    __u8 tos;
    __u8 unused[3];
    __u32 rates[RATES];
    __u8 payloads[RATES];
    struct heard heard;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct ends);
    __type(value, struct way);
} STREAMS SEC(".maps");

struct rtp {
    __u8 payload;
    __u16 sequence;
    __u32 timestamp;
    __u32 ssrc;
};

// RFC 3551 §6: those that need no a=rtpmap and are in use.
static __attribute__((always_inline)) __u32 known_rate(__u8 payload)
{
    switch (payload) {
    case 0: case 3: case 4: case 5: case 7: case 8: case 9: case 12: case 13: case 15: case 18:
        return 8000;
    case 6:
        return 16000;
    case 10: case 11:
        return 44100;
    case 16:
        return 11025;
    case 17:
        return 22050;
    case 14: case 25: case 26: case 28: case 31: case 32: case 33: case 34:
        return 90000;
    default:
        return 0;
    }
}

static __attribute__((always_inline)) __u64 lost(struct heard *heard)
{
    __u64 expected = heard->cycles * 65536 + heard->highest + 1 - heard->base;
    return expected > heard->received && expected < 1ULL << 63 ? expected - heard->received : 0;
}

// RFC 3550 §A.8.
static __attribute__((always_inline)) void measure(struct way *way, struct rtp *rtp, __u64 now)
{
    struct heard *heard = &way->heard;
    __u32 rate = 0;
#pragma unroll
    for (int at = 0; at < RATES; at++)
        if (way->payloads[at] == rtp->payload)
            rate = way->rates[at];
    if (!rate)
        rate = known_rate(rtp->payload);
    if (!rate)
        return;
    __u32 arrival = now / SECOND * rate + now % SECOND * rate / SECOND;
    __u32 transit = arrival - rtp->timestamp;
    if (heard->has_transit && heard->transit_payload == rtp->payload) {
        __u32 difference = transit - heard->transit;
        if (difference >> 31)
            difference = -difference;
        if (difference > rate)
            difference = rate;
        __u64 before = heard->jitter;
        __u64 less = (before + 8) >> 4;
        __u64 jitter = before + difference - (less < before ? less : before);
        heard->jitter = jitter > 0xffffffffULL ? 0xffffffffU : jitter;
    }
    heard->has_transit = 1;
    heard->transit_payload = rtp->payload;
    heard->transit = transit;
    heard->rate = rate;
}

static __attribute__((always_inline)) void begin_anew(struct heard *heard, struct rtp *rtp)
{
    if (heard->has_source)
        heard->lost_before += lost(heard);
    heard->has_source = 1;
    heard->ssrc = rtp->ssrc;
    heard->base = rtp->sequence;
    heard->highest = rtp->sequence;
    heard->cycles = 0;
    heard->received = 1;
    heard->restart = 0;
    heard->has_transit = 0;
    heard->jitter = 0;
    heard->rate = 0;
}

// RFC 3550 §A.1, as in media::figures.
static __attribute__((always_inline)) void hear(struct way *way, struct rtp *rtp, __u32 octets)
{
    struct heard *heard = &way->heard;
    __u64 now = bpf_ktime_get_boot_ns();
    __sync_fetch_and_add(&heard->packets, 1);
    __sync_fetch_and_add(&heard->octets, octets);
    heard->at = now;
    __u16 step = rtp->sequence - heard->highest;
    if (!heard->has_source || heard->ssrc != rtp->ssrc) {
        begin_anew(heard, rtp);
    } else if (step < DROPOUT_MAX) {
        if (rtp->sequence < heard->highest)
            heard->cycles += 1;
        heard->highest = rtp->sequence;
        heard->restart = 0;
        heard->received += 1;
    } else if (step <= 65535 - MISORDER_MAX) {
        if (heard->restart == (HAS_RESTART | rtp->sequence))
            begin_anew(heard, rtp);
        else
            heard->restart = HAS_RESTART | (__u16)(rtp->sequence + 1);
    } else {
        heard->received += 1;
    }
    measure(way, rtp, now);
}

// Whether this is RTP, and what of it is counted; RFC 5761 §4 tells it from RTCP.
static __attribute__((always_inline)) int read_rtp(const __u8 *bytes, __u32 length, struct rtp *rtp)
{
    if (length > 65535 || bytes[0] >> 6 != 2 || (bytes[1] >= 192 && bytes[1] <= 223) || length < RTP_BYTES + 4 * (bytes[0] & 15U))
        return 0;
    rtp->payload = bytes[1] & 0x7f;
    rtp->sequence = swap16(*(__u16 *)(bytes + 2));
    rtp->timestamp = __builtin_bswap32(*(__u32 *)(bytes + 4));
    rtp->ssrc = __builtin_bswap32(*(__u32 *)(bytes + 8));
    return 1;
}

static __attribute__((always_inline)) int is_same(const struct address *one, const struct address *other)
{
    return one->words[0] == other->words[0] && one->words[1] == other->words[1] &&
           one->words[2] == other->words[2] && one->words[3] == other->words[3];
}

static __attribute__((always_inline)) int is_v4(const struct address *address)
{
    return !address->words[0] && !address->words[1] && address->words[2] == __builtin_bswap32(0xffff);
}

// The way of a datagram, if the engine has given one that it may give.
static __attribute__((always_inline)) struct way *find(struct ends *came, int version)
{
    struct way *way = bpf_map_lookup_elem(&STREAMS, came);
    if (!way)
        return 0;
    if (is_v4(&way->leaves.to) != (version == 4) || is_v4(&way->leaves.from) != (version == 4))
        return 0;
    if (swap16(came->to_port) < UNPRIVILEGED_PORT || swap16(way->leaves.from_port) < UNPRIVILEGED_PORT)
        return 0;
    // Nearly always it leaves by the address that it came to, and that is a virtual one.
    if (!is_same(&way->leaves.from, &came->to) && !bpf_map_lookup_elem(&ADDRESSES, &way->leaves.from))
        return 0;
    return way;
}

// A sum of 16 bits with one word in another one's place (RFC 1624).
static __attribute__((always_inline)) __u32 replaced(__u32 sum, __u32 old, __u32 new)
{
    old = ~old;
    return sum + (old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16);
}

// Mends the checksum of UDP, which may be one that the network card has yet to make.
static __attribute__((always_inline)) int mend(struct __sk_buff *skb, __u32 offset, struct ends *came, struct ends *leaves)
{
    __s32 addresses = bpf_csum_diff(&came->to, 32, &leaves->to, 32, 0);
    __s32 ports = bpf_csum_diff(&came->to_port, 4, &leaves->to_port, 4, 0);
    return bpf_l4_csum_replace(skb, offset, 0, addresses, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) ||
           bpf_l4_csum_replace(skb, offset, 0, ports, BPF_F_MARK_MANGLED_0);
}

static __attribute__((always_inline)) int relay_v4(struct __sk_buff *skb)
{
    struct ends came;
    struct rtp rtp;
    __u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
    if (data + ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES + RTP_BYTES > end)
        return TC_ACT_UNSPEC;
    __u32 *ip = (__u32 *)(data + ETHERNET_BYTES);
    __u16 *shorts = (__u16 *)ip;
    __u16 *udp = (__u16 *)(data + ETHERNET_BYTES + IPV4_BYTES);
    __u32 octets = swap16(udp[2]);
    // Without options, no fragment, and as long as it says.
    if (*(__u8 *)ip != 0x45 || (shorts[3] & swap16(0x3fff)) || ((__u8 *)ip)[9] != IPPROTO_UDP ||
        swap16(shorts[1]) != octets + IPV4_BYTES || skb->len < ETHERNET_BYTES + IPV4_BYTES + octets ||
        !read_rtp((__u8 *)udp + UDP_BYTES, octets - UDP_BYTES, &rtp))
        return TC_ACT_UNSPEC;
    volatile __u32 *words = came.to.words;
    words[0] = words[1] = words[4] = words[5] = 0;
    words[2] = words[6] = __builtin_bswap32(0xffff);
    came.to.words[3] = ip[4];
    came.from.words[3] = ip[3];
    came.to_port = udp[1];
    came.from_port = udp[0];
    struct way *way = find(&came, 4);
    if (!way)
        return TC_ACT_UNSPEC;
    hear(way, &rtp, octets - UDP_BYTES);
    __u32 sum = (__u16)~shorts[5];
    __u32 first = ip[0], third = ip[2];
    ((__u8 *)ip)[1] = way->tos;
    ((__u8 *)ip)[8] = 64;
    // The sum is within the third word, and is no part of itself.
    sum = replaced(sum, first, ip[0]);
    sum = replaced(sum, third & 0xffff, ip[2] & 0xffff);
    sum = replaced(sum, ip[3], way->leaves.from.words[3]);
    sum = replaced(sum, ip[4], way->leaves.to.words[3]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    shorts[5] = ~sum;
    ip[3] = way->leaves.from.words[3];
    ip[4] = way->leaves.to.words[3];
    udp[0] = way->leaves.from_port;
    udp[1] = way->leaves.to_port;
    if (mend(skb, ETHERNET_BYTES + IPV4_BYTES + 6, &came, &way->leaves))
        return TC_ACT_SHOT;
    return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

static __attribute__((always_inline)) int relay_v6(struct __sk_buff *skb)
{
    struct ends came;
    struct rtp rtp;
    __u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
    if (data + ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES + RTP_BYTES > end)
        return TC_ACT_UNSPEC;
    __u32 *ip = (__u32 *)(data + ETHERNET_BYTES);
    __u16 *udp = (__u16 *)(data + ETHERNET_BYTES + IPV6_BYTES);
    __u32 octets = swap16(udp[2]);
    if (*(__u8 *)ip >> 4 != 6 || ((__u8 *)ip)[6] != IPPROTO_UDP || swap16(((__u16 *)ip)[2]) != octets ||
        skb->len < ETHERNET_BYTES + IPV6_BYTES + octets || !udp[3] ||
        !read_rtp((__u8 *)udp + UDP_BYTES, octets - UDP_BYTES, &rtp))
        return TC_ACT_UNSPEC;
    __builtin_memcpy(&came.from, &ip[2], 16);
    __builtin_memcpy(&came.to, &ip[6], 16);
    came.to_port = udp[1];
    came.from_port = udp[0];
    struct way *way = find(&came, 6);
    if (!way)
        return TC_ACT_UNSPEC;
    hear(way, &rtp, octets - UDP_BYTES);
    ip[0] = __builtin_bswap32(0x60000000 | (__u32)way->tos << 20);
    ((__u8 *)ip)[7] = 64;
    __builtin_memcpy(&ip[2], &way->leaves.from, 16);
    __builtin_memcpy(&ip[6], &way->leaves.to, 16);
    udp[0] = way->leaves.from_port;
    udp[1] = way->leaves.to_port;
    if (mend(skb, ETHERNET_BYTES + IPV6_BYTES + 6, &came, &way->leaves))
        return TC_ACT_SHOT;
    return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

SEC("classifier/relay")
int relay(struct __sk_buff *skb)
{
    // What is for others, and several datagrams in one, are for the stack.
    if (skb->pkt_type != PACKET_HOST || skb->vlan_present || skb->gso_segs > 1)
        return TC_ACT_UNSPEC;
    __u32 headers = ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES + RTP_BYTES;
    if (skb->len < headers)
        headers = skb->len;
    // A card may have put headers elsewhere than where they can be read.
    if ((__u8 *)(long)skb->data + headers > (__u8 *)(long)skb->data_end && bpf_skb_pull_data(skb, headers))
        return TC_ACT_UNSPEC;
    if (skb->protocol == swap16(ETH_P_IP))
        return relay_v4(skb);
    if (skb->protocol == swap16(ETH_P_IPV6))
        return relay_v6(skb);
    return TC_ACT_UNSPEC;
}
