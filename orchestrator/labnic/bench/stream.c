// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * stream ADDRESS PORT send SECONDS | receive | listen
 *
 * An end of a TCP connection, in the guest: connects and sends the pattern for
 * so long, or connects, or waits for a connection, and receives the pattern
 * until the other end has no more. Ends with status 3 when a byte of it was
 * wrong. Prints the number of bytes, and of seconds from the first to the last.
 */
#include <arpa/inet.h>
#include <errno.h>
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

/* Tries to connect, 10 ms apart: the other end may not listen yet. */
#define TRIES 500

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

static uint64_t receive(int sock, bool *good, double *begin)
{
    uint64_t total = 0;
    ssize_t done;

    while ((done = read(sock, got, PATTERN)) > 0) {
        *begin = total ? *begin : now();
        *good &= memcmp(got, pattern + total % PATTERN, done) == 0;
        total += done;
    }
    if (done < 0) {
        die("read");
    }
    return total;
}

static int make_socket(void)
{
    int sock = socket(AF_INET, SOCK_STREAM, 0);

    if (sock < 0) {
        die("socket");
    }
    return sock;
}

static int connect_to(const struct sockaddr_in *to)
{
    int sock, tries;

    for (tries = 0; tries < TRIES; tries++) {
        sock = make_socket();
        if (connect(sock, (const struct sockaddr *)to, sizeof(*to)) == 0) {
            return sock;
        }
        if (errno != ECONNREFUSED) {
            break;
        }
        close(sock);
        usleep(10000);
    }
    die("connect");
    return -1;
}

static int wait_for(const struct sockaddr_in *at)
{
    int listener = make_socket(), sock, on = 1;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (const struct sockaddr *)at, sizeof(*at)) < 0 ||
        listen(listener, 1) < 0) {
        die("listen");
    }
    sock = accept(listener, NULL, NULL);
    if (sock < 0) {
        die("accept");
    }
    return sock;
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    bool sends = argc == 5 && strcmp(argv[3], "send") == 0;
    bool listens = argc == 4 && strcmp(argv[3], "listen") == 0;
    bool receives = argc == 4 && strcmp(argv[3], "receive") == 0;
    double begin = 0;
    bool good = true;
    uint64_t total;
    size_t i;
    int sock;

    if (!(sends || listens || receives) ||
        inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr,
                "usage: stream ADDRESS PORT send SECONDS | receive | listen\n");
        return 2;
    }
    to.sin_port = htons(atoi(argv[2]));
    for (i = 0; i < sizeof(pattern); i++) {
        pattern[i] = i % PATTERN * 0x9e3779b1u >> 24;
    }
    sock = listens ? wait_for(&to) : connect_to(&to);
    begin = now();
    total = sends ? send_for(sock, atof(argv[4]))
                  : receive(sock, &good, &begin);
    printf("%llu %.6f\n", (unsigned long long)total, now() - begin);
    return good ? 0 : 3;
}
