// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * stream ADDRESS PORT send SECONDS | receive
 *
 * The guest's end of a TCP connection that is measured at the other end: sends
 * the pattern for so long, or receives it until the other end has no more, and
 * ends with status 3 when a byte of it is wrong. Prints the number of bytes.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* As in tcp.py: the pattern repeats after so many bytes. */
#define PATTERN 65536

static uint8_t pattern[2 * PATTERN], got[PATTERN];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static uint64_t send_for(int sock, double seconds)
{
    double end = now() + seconds;
    uint64_t total = 0;
    ssize_t done;

    while (now() < end) {
        done = write(sock, pattern + total % PATTERN, PATTERN);
        if (done < 0) {
            die("write");
        }
        total += done;
    }
    shutdown(sock, SHUT_WR);
    /* Its end tells that the other end has everything. */
    if (read(sock, got, 1) < 0) {
        die("read");
    }
    return total;
}

static uint64_t receive(int sock, bool *good)
{
    uint64_t total = 0;
    ssize_t done;

    while ((done = read(sock, got, PATTERN)) > 0) {
        *good &= memcmp(got, pattern + total % PATTERN, done) == 0;
        total += done;
    }
    if (done < 0) {
        die("read");
    }
    return total;
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    bool good = true, sends = argc == 5 && strcmp(argv[3], "send") == 0;
    uint64_t total;
    size_t i;
    int sock;

    if ((!sends && !(argc == 4 && strcmp(argv[3], "receive") == 0)) ||
        inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: stream ADDRESS PORT send SECONDS | receive\n");
        return 2;
    }
    to.sin_port = htons(atoi(argv[2]));
    for (i = 0; i < sizeof(pattern); i++) {
        pattern[i] = i % PATTERN * 0x9e3779b1u >> 24;
    }
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof(to)) < 0) {
        die("connect");
    }
    total = sends ? send_for(sock, atof(argv[4])) : receive(sock, &good);
    printf("%llu\n", (unsigned long long)total);
    return good ? 0 : 3;
}
