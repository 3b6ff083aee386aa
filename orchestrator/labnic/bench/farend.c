// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * farend FD NIC-MAC PEER-MAC
 *
 * The far end of a NIC's wire while it is measured: takes in and judges every
 * frame that the NIC sends, and sends frames to it as fast as they are taken.
 * FD is the datagram socket whose other end QEMU has. Commands come as lines on
 * the standard input, and each is answered by one line of JSON:
 *
 *   reset LENGTH            forget the counts; pktgen's frames are so long
 *   count                   the counts since then
 *   flood SECONDS LENGTH COUNT
 *                           send frames for so long, or until they are so many
 *   echo COUNT LENGTH       send frames that the guest sends back, a few at a
 *                           time, and compare each byte
 *   ping COUNT PAUSE RATE SECONDS
 *                           time COUNT frames that the guest sends back, with
 *                           PAUSE microseconds before each, beside RATE frames
 *                           a second that it does not; fewer after SECONDS
 *
 * One thread does it all: the machine's other processors belong to QEMU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Frames handed to the kernel, or taken from it, by one system call. */
#define BATCH 64
#define FRAME_MIN 60
#define FRAME_MAX 9018

/* IEEE 802's two EtherTypes for local experiments. */
#define TYPE_ECHO 0x88b5
#define TYPE_LOAD 0x88b6
#define TYPE_IPV4 0x0800

#define ETH_HEADER 14
#define IPV4_HEADER 20
#define UDP_HEADER 8
#define IP_PROTO_UDP 17

/* What pktgen puts behind the UDP header (net/core/pktgen.c). */
#define PKTGEN_AT (ETH_HEADER + IPV4_HEADER + UDP_HEADER)
#define PKTGEN_MAGIC 0xbe9be955
#define PKTGEN_HEADER 16
#define PKTGEN_PORT 9
#define FLOWS 64

#define ECHO_WINDOW 16
#define SILENCE_NS 1000000000ull
#define PINGS_MAX 100000

typedef struct Counts {
    uint64_t frames;
    uint64_t bad;
    uint64_t disorder;
    uint64_t foreign;
    uint64_t echoes;
} Counts;

static int sock;
static uint8_t nic_mac[6], peer_mac[6];
static Counts counts;
static size_t pktgen_len = FRAME_MIN;
static uint32_t flow_seq[FLOWS];
static uint32_t next_echo, next_send;
static size_t echo_len = FRAME_MIN;

static uint8_t out[BATCH][FRAME_MAX], in[BATCH][FRAME_MAX];
static struct iovec out_vec[BATCH], in_vec[BATCH];
static struct mmsghdr out_msg[BATCH], in_msg[BATCH];

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static void die(const char *what)
{
    fprintf(stderr, "farend: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Each place in the batch has a content of its own, made once. */
static void build(uint16_t type)
{
    size_t place, at;

    for (place = 0; place < BATCH; place++) {
        memcpy(out[place], nic_mac, 6);
        memcpy(out[place] + 6, peer_mac, 6);
        put16(out[place] + 12, type);
        for (at = ETH_HEADER + 4; at < FRAME_MAX; at++) {
            out[place][at] = place * 37 + at;
        }
    }
}

static bool ipv4_sum_good(const uint8_t *header)
{
    uint32_t sum = 0;
    size_t at;

    for (at = 0; at < IPV4_HEADER; at += 2) {
        sum += get16(header + at);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

static bool all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* Every byte of pktgen's frame is known but for its times and the IP id. */
static bool pktgen_good(const uint8_t *frame, size_t len)
{
    const uint8_t *ip = frame + ETH_HEADER, *udp = ip + IPV4_HEADER;

    return len == pktgen_len && memcmp(frame, peer_mac, 6) == 0 &&
           memcmp(frame + 6, nic_mac, 6) == 0 && ip[0] == 0x45 &&
           get16(ip + 2) == len - ETH_HEADER && ipv4_sum_good(ip) &&
           get16(udp + 2) == PKTGEN_PORT &&
           get16(udp + 4) == len - ETH_HEADER - IPV4_HEADER &&
           all_zero(frame + PKTGEN_AT + PKTGEN_HEADER,
                    len - PKTGEN_AT - PKTGEN_HEADER);
}

/* Frames of one burst share a number; a flow has a source port of its own. */
static void judge_pktgen(const uint8_t *frame, size_t len)
{
    unsigned flow = get16(frame + ETH_HEADER + IPV4_HEADER) % FLOWS;
    uint32_t seq = get32(frame + PKTGEN_AT + 4);

    counts.frames++;
    counts.bad += !pktgen_good(frame, len);
    counts.disorder += seq < flow_seq[flow];
    flow_seq[flow] = seq;
}

static void judge_echo(const uint8_t *frame, size_t len)
{
    uint32_t seq = get32(frame + ETH_HEADER);
    const uint8_t *sent = out[seq % BATCH];
    size_t body = ETH_HEADER + 4;

    counts.echoes++;
    counts.bad += len != echo_len || memcmp(frame, sent, ETH_HEADER) != 0 ||
                  memcmp(frame + body, sent + body, len - body) != 0;
    counts.disorder += seq != next_echo;
    next_echo = seq + 1;
}

static void judge(const uint8_t *frame, size_t len)
{
    if (len >= FRAME_MIN && get16(frame + 12) == TYPE_ECHO) {
        judge_echo(frame, len);
    } else if (len >= FRAME_MIN && get16(frame + 12) == TYPE_IPV4 &&
               frame[ETH_HEADER + 9] == IP_PROTO_UDP &&
               get32(frame + PKTGEN_AT) == PKTGEN_MAGIC) {
        judge_pktgen(frame, len);
    } else {
        counts.foreign++;
    }
}

/* Takes in what has come; false when there was nothing. */
static bool drain(void)
{
    bool some = false;
    int i, got;

    do {
        got = recvmmsg(sock, in_msg, BATCH, MSG_DONTWAIT, NULL);
        if (got < 0 && errno != EAGAIN && errno != EINTR) {
            die("QEMU's end is gone");
        }
        for (i = 0; i < got; i++) {
            judge(in[i], in_msg[i].msg_len);
        }
        some |= got > 0;
    } while (got == BATCH);
    return some;
}

/* Sends up to a batch of numbered frames; how many were taken. */
static unsigned send_some(size_t len, unsigned count)
{
    unsigned first = next_send % BATCH, i;
    int taken;

    if (count > BATCH - first) {
        count = BATCH - first;
    }
    for (i = first; i < first + count; i++) {
        put32(out[i] + ETH_HEADER, next_send + i - first);
        out_vec[i].iov_len = len;
    }
    taken = sendmmsg(sock, out_msg + first, count, MSG_DONTWAIT);
    if (taken < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
            die("QEMU's end is gone");
        }
        return 0;
    }
    next_send += taken;
    return taken;
}

static void wait_for(short events, uint64_t ns)
{
    struct timespec limit = { ns / 1000000000, ns % 1000000000 };
    struct pollfd wanted = { .fd = sock, .events = events };

    if (ppoll(&wanted, 1, &limit, NULL) < 0 && errno != EINTR) {
        die("poll");
    }
}

static void begin_sending(uint16_t type)
{
    build(type);
    next_send = next_echo = 0;
}

static void flood(double seconds, size_t len, uint64_t limit)
{
    uint64_t begin = now_ns(), end = begin + seconds * 1e9, now = begin;
    uint64_t before = counts.frames, sent = 0;

    begin_sending(TYPE_LOAD);
    while (now < end && sent < limit) {
        uint64_t left = limit - sent;
        unsigned taken = send_some(len, left < BATCH ? left : BATCH);

        sent += taken;
        drain();
        if (!taken) {
            wait_for(POLLIN | POLLOUT, end - now);
        }
        now = now_ns();
    }
    printf("{\"sent\": %llu, \"seconds\": %.6f, \"received\": %llu}\n",
           (unsigned long long)sent, (now - begin) / 1e9,
           (unsigned long long)(counts.frames - before));
}

static void echo(unsigned count, size_t len)
{
    uint64_t heard = now_ns();

    begin_sending(TYPE_ECHO);
    counts = (Counts) { 0 };
    echo_len = len;
    while (counts.echoes < count && now_ns() - heard < SILENCE_NS) {
        unsigned open = next_send - counts.echoes, room = 0;

        if (open < ECHO_WINDOW && next_send < count) {
            room = ECHO_WINDOW - open;
            send_some(len, room < count - next_send ? room : count - next_send);
        }
        if (drain()) {
            heard = now_ns();
        } else {
            wait_for(POLLIN, SILENCE_NS / 100);
        }
    }
    printf("{\"sent\": %u, \"echoes\": %llu, \"bad\": %llu, "
           "\"disorder\": %llu}\n", next_send,
           (unsigned long long)counts.echoes, (unsigned long long)counts.bad,
           (unsigned long long)counts.disorder);
}

/*
 * The load is sent from a copy of the last place, at its moments, while an
 * answer is waited for. What does not go out at once is left out: a load that
 * catches up would be a burst.
 */
static void keep_load(uint64_t *next, uint64_t interval)
{
    uint8_t frame[FRAME_MIN];

    if (!interval || now_ns() < *next) {
        return;
    }
    memcpy(frame, out[BATCH - 1], sizeof(frame));
    put16(frame + 12, TYPE_LOAD);
    if (send(sock, frame, sizeof(frame), MSG_DONTWAIT) < 0 &&
        errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        die("QEMU's end is gone");
    }
    *next += interval;
    if (*next < now_ns()) {
        *next = now_ns();
    }
}

/* Waits until another echo has come, or the moment; whether one has. */
static bool wait_echo(uint64_t before, uint64_t until, uint64_t *next,
                      uint64_t interval)
{
    uint64_t now, moment;

    while (counts.echoes == before) {
        keep_load(next, interval);
        now = now_ns();
        if (now >= until) {
            return false;
        }
        moment = interval && *next < until ? *next : until;
        if (!drain() && moment > now) {
            wait_for(POLLIN, moment - now);
        }
    }
    return true;
}

static void ping(unsigned count, unsigned pause_us, unsigned rate,
                 double seconds)
{
    uint64_t interval = rate ? 1000000000ull / rate : 0;
    uint64_t next = now_ns(), end = next + seconds * 1e9, before, sent;
    unsigned i, lost = 0;
    const char *comma = "";

    begin_sending(TYPE_ECHO);
    echo_len = FRAME_MIN;
    printf("{\"ns\": [");
    for (i = 0; i < count && now_ns() < end; i++) {
        before = counts.echoes;
        wait_echo(before, now_ns() + pause_us * 1000ull, &next, interval);
        before = counts.echoes;
        sent = now_ns();
        while (!send_some(FRAME_MIN, 1)) {
            wait_for(POLLOUT, SILENCE_NS / 100);
        }
        if (wait_echo(before, sent + SILENCE_NS, &next, interval)) {
            printf("%s%llu", comma, (unsigned long long)(now_ns() - sent));
            comma = ", ";
        } else {
            lost++;
        }
    }
    printf("], \"lost\": %u, \"bad\": %llu}\n", lost,
           (unsigned long long)counts.bad);
}

static void reset(size_t len)
{
    drain();
    counts = (Counts) { 0 };
    pktgen_len = len;
    memset(flow_seq, 0, sizeof(flow_seq));
    puts("{}");
}

static void count(void)
{
    drain();
    printf("{\"frames\": %llu, \"bad\": %llu, \"disorder\": %llu, "
           "\"foreign\": %llu}\n", (unsigned long long)counts.frames,
           (unsigned long long)counts.bad, (unsigned long long)counts.disorder,
           (unsigned long long)counts.foreign);
}

static bool fits(size_t len)
{
    return len >= FRAME_MIN && len <= FRAME_MAX;
}

static void obey(const char *line)
{
    unsigned number, pause, rate;
    double seconds;
    size_t len;

    if (sscanf(line, "reset %zu", &len) == 1 && fits(len)) {
        reset(len);
    } else if (strcmp(line, "count\n") == 0) {
        count();
    } else if (sscanf(line, "flood %lf %zu %u", &seconds, &len,
                      &number) == 3 &&
               seconds > 0 && seconds <= 3600 && fits(len)) {
        flood(seconds, len, number ? number : UINT64_MAX);
    } else if (sscanf(line, "echo %u %zu", &number, &len) == 2 && fits(len)) {
        echo(number, len);
    } else if (sscanf(line, "ping %u %u %u %lf", &number, &pause, &rate,
                      &seconds) == 4 &&
               number <= PINGS_MAX && rate <= 1000000 && seconds <= 3600) {
        ping(number, pause, rate, seconds);
    } else {
        puts("{\"error\": \"no such command\"}");
    }
    fflush(stdout);
}

static bool parse_mac(const char *text, uint8_t *mac)
{
    char end;

    return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0],
                  &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end) == 6;
}

static void prepare(void)
{
    size_t i;

    for (i = 0; i < BATCH; i++) {
        out_vec[i] = (struct iovec) { out[i], FRAME_MIN };
        in_vec[i] = (struct iovec) { in[i], FRAME_MAX };
        out_msg[i].msg_hdr.msg_iov = &out_vec[i];
        in_msg[i].msg_hdr.msg_iov = &in_vec[i];
        out_msg[i].msg_hdr.msg_iovlen = in_msg[i].msg_hdr.msg_iovlen = 1;
    }
}

int main(int argc, char **argv)
{
    struct pollfd wanted[2] = { { .events = POLLIN }, { .events = POLLIN } };
    char line[128];

    if (argc != 4 || !parse_mac(argv[2], nic_mac) ||
        !parse_mac(argv[3], peer_mac)) {
        fprintf(stderr, "usage: farend FD NIC-MAC PEER-MAC\n");
        return 2;
    }
    sock = atoi(argv[1]);
    prepare();
    /* Lines are looked for with poll(): none may wait in a buffer. */
    setvbuf(stdin, NULL, _IONBF, 0);
    wanted[0].fd = sock;
    for (;;) {
        if (poll(wanted, 2, -1) < 0 && errno != EINTR) {
            die("poll");
        }
        drain();
        if (wanted[1].revents) {
            if (!fgets(line, sizeof(line), stdin)) {
                return 0;
            }
            obey(line);
        }
    }
}
