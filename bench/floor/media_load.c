/* Phones that talk, for the bench of relays: `media_load IFACE OWN_MAC RELAY_MAC PHONES_IP RELAY_IP WARM_UP_MS MEASURE_MS`.
 *
 * Its input has a line for each session: the caller's port, the relay's port towards it, the callee's port, the relay's
 * port towards that one. Each side sends 172 bytes of RTP every 20 ms, whatever comes back. All leave and arrive by packet
 * rings and raw frames, so that this costs little beside what is measured. It says `measuring` when the time that counts
 * begins, and at last one line of JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define PAYLOAD 172
#define HEADERS (14 + 20 + 8)
#define FRAME (HEADERS + PAYLOAD)
#define EVERY 20000000LL
/* It looks at its work so often; what is due in between leaves together, as with the interrupts of a network card. */
#define TURN 250000LL
#define BATCH 64
#define RING_FRAME 512
#define RING_BLOCK (1 << 20)
#define RING_BLOCKS 16
#define LEGS_MAX 40000
#define DRAIN 1000000000LL
/* Delays are counted in steps of 10 microseconds up to 2 s. */
#define STEP 10000LL
#define STEPS 200000

struct leg {
    uint16_t port, relay;
    uint32_t partner;
    unsigned char frame[FRAME];
};

static struct leg legs[LEGS_MAX];
static uint32_t by_port[65536], slots[LEGS_MAX], delays[STEPS];
static unsigned char mac_own[6], mac_relay[6];
static struct mmsghdr headers[BATCH];
static struct iovec vectors[BATCH];

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void mac(const char *text, unsigned char *into)
{
    unsigned m[6];
    if (sscanf(text, "%x:%x:%x:%x:%x:%x", m, m + 1, m + 2, m + 3, m + 4, m + 5) != 6)
        exit(2);
    for (int i = 0; i < 6; i++)
        into[i] = m[i];
}

static uint32_t sum(const unsigned char *bytes, int length, uint32_t so_far)
{
    for (int i = 0; i < length; i += 2)
        so_far += bytes[i] << 8 | bytes[i + 1];
    return so_far;
}

static void store(unsigned char *at, uint32_t so_far)
{
    while (so_far >> 16)
        so_far = (so_far & 0xffff) + (so_far >> 16);
    uint16_t made = htons(~so_far & 0xffff);
    memcpy(at, &made, 2);
}

static void build(struct leg *leg, uint32_t number, const char *phones, const char *relay)
{
    unsigned char *f = leg->frame, *ip = f + 14, *udp = ip + 20, *rtp = udp + 8;
    memcpy(f, mac_relay, 6);
    memcpy(f + 6, mac_own, 6);
    f[12] = 8;
    ip[0] = 0x45;
    ip[2] = (20 + 8 + PAYLOAD) >> 8, ip[3] = (20 + 8 + PAYLOAD) & 255;
    ip[8] = 64, ip[9] = 17;
    inet_pton(AF_INET, phones, ip + 12);
    inet_pton(AF_INET, relay, ip + 16);
    store(ip + 10, sum(ip, 20, 0));
    uint16_t words[3] = {htons(leg->port), htons(leg->relay), htons(8 + PAYLOAD)};
    memcpy(udp, words, 6);
    rtp[0] = 0x80;
    uint32_t name = htonl(number);
    memcpy(rtp + 8, &name, 4);
}

static void stamp(struct leg *leg, int64_t time)
{
    unsigned char *udp = leg->frame + 34, *rtp = udp + 8;
    int64_t number = time / EVERY;
    uint16_t sequence = htons(number & 0xffff);
    uint32_t sample = htonl((uint32_t)(number * 160));
    memcpy(rtp + 2, &sequence, 2);
    memcpy(rtp + 4, &sample, 4);
    memcpy(rtp + 12, &time, 8);
    udp[6] = udp[7] = 0;
    store(udp + 6, sum(leg->frame + 26, 8 + 8 + PAYLOAD, 17 + 8 + PAYLOAD));
}

int main(int count, char **words)
{
    if (count != 8)
        return 2;
    mac(words[2], mac_own);
    mac(words[3], mac_relay);
    int64_t warm_up = atoll(words[6]) * 1000000, measure = atoll(words[7]) * 1000000;
    uint32_t number = 0;
    unsigned a, b, c, d;
    while (number + 2 <= LEGS_MAX && scanf("%u %u %u %u", &a, &b, &c, &d) == 4) {
        legs[number] = (struct leg){a, b, number + 1, {0}};
        legs[number + 1] = (struct leg){c, d, number, {0}};
        number += 2;
    }
    if (!number)
        return 2;
    for (uint32_t i = 0; i < number; i++) {
        build(&legs[i], i, words[4], words[5]);
        by_port[legs[i].port] = i + 1;
        /* The two sides of a session talk ten milliseconds apart. */
        uint32_t sessions = number / 2, pair = i / 2;
        slots[i] = i % 2 ? 2 * ((pair + sessions / 2) % sessions) + 1 : 2 * pair;
    }
    prctl(PR_SET_TIMERSLACK, 1);

    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(words[1])};
    int out = socket(AF_PACKET, SOCK_RAW, 0), in = socket(AF_PACKET, SOCK_RAW, 0), yes = 1, version = TPACKET_V2;
    if (out < 0 || in < 0 || bind(out, (struct sockaddr *)&place, sizeof place))
        fail("packet socket");
    int room = 16 << 20;
    setsockopt(out, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(out, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);
    struct tpacket_req ring = {RING_BLOCK, RING_BLOCKS, RING_FRAME, RING_BLOCK / RING_FRAME * RING_BLOCKS};
    setsockopt(in, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
    if (setsockopt(in, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(in, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
        fail("packet ring");
    place.sll_protocol = htons(ETH_P_IP);
    unsigned char *map = mmap(NULL, RING_BLOCK * RING_BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0);
    if (map == MAP_FAILED || bind(in, (struct sockaddr *)&place, sizeof place))
        fail("packet ring");

    int64_t start = now(), from = start + warm_up, to = from + measure, next = 0, behind = 0;
    uint64_t sent = 0, received = 0, foreign = 0, refused = 0;
    uint32_t read = 0;
    int has_told = 0;
    for (;;) {
        int64_t at = now();
        if (at >= to + DRAIN)
            break;
        if (!has_told && at >= from) {
            puts("measuring");
            fflush(stdout);
            has_told = 1;
        } else if (has_told == 1 && at >= to) {
            puts("measured");
            fflush(stdout);
            has_told = 2;
        }
        int64_t due = start + next * EVERY / number;
        if (at >= from && at < to && at - due > behind)
            behind = at - due;
        while (due <= at) {
            int batch = 0;
            for (; batch < BATCH && due <= at; batch++, due = start + ++next * EVERY / number) {
                struct leg *leg = &legs[slots[next % number]];
                stamp(leg, at);
                vectors[batch] = (struct iovec){leg->frame, FRAME};
                headers[batch].msg_hdr = (struct msghdr){.msg_iov = &vectors[batch], .msg_iovlen = 1};
            }
            for (int gone = 0; gone < batch;) {
                int now_gone = sendmmsg(out, headers + gone, batch - gone, 0);
                if (now_gone <= 0) {
                    refused++;
                    now_gone = 1;
                }
                gone += now_gone;
            }
            if (at >= from && at < to)
                sent += batch;
        }
        for (;;) {
            struct tpacket2_hdr *header = (void *)(map + (uint64_t)read * RING_FRAME);
            if (!(__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
                break;
            unsigned char *ip = (unsigned char *)header + header->tp_net, *udp = ip + 20, *rtp = udp + 8;
            if (header->tp_snaplen == FRAME && ip[9] == 17) {
                uint32_t name, leg = by_port[udp[2] << 8 | udp[3]];
                int64_t then, arrived = header->tp_sec * 1000000000LL + header->tp_nsec;
                memcpy(&name, rtp + 8, 4);
                memcpy(&then, rtp + 12, 8);
                name = ntohl(name);
                /* What a relay that was overloaded still had of an earlier talk is nothing of this one. */
                if (then < start)
                    ;
                else if (!leg || name != legs[leg - 1].partner || (udp[0] << 8 | udp[1]) != legs[leg - 1].relay)
                    foreign++;
                else if (then >= from && then < to) {
                    int64_t step = (arrived - then) / STEP;
                    delays[step < 0 ? 0 : step >= STEPS ? STEPS - 1 : step]++;
                    received++;
                }
            }
            __atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
            read = (read + 1) % ring.tp_frame_nr;
        }
        struct timespec pause = {0, TURN};
        nanosleep(&pause, NULL);
    }
    struct tpacket_stats lost = {0};
    socklen_t length = sizeof lost;
    getsockopt(in, SOL_PACKET, PACKET_STATISTICS, &lost, &length);
    double of[3] = {0.5, 0.99, 1.0};
    int64_t found[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++)
        for (uint64_t step = 0, seen = 0; step < STEPS && found[i] < 0; step++)
            if ((seen += delays[step]) && seen >= of[i] * received)
                found[i] = step * STEP / 1000;
    printf("{\"sent\": %lu, \"received\": %lu, \"foreign\": %lu, \"refused\": %lu, \"overrun\": %u, \"behind_us\": %ld, "
           "\"median_us\": %ld, \"p99_us\": %ld, \"most_us\": %ld}\n",
           sent, received, foreign, refused, lost.tp_drops, behind / 1000, found[0], found[1], found[2]);
    return 0;
}
