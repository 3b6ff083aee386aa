// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * stream connect ADDRESS PORT | listen ADDRESS PORT | stdin
 *        send SECONDS | receive
 *
 * An end of a TCP connection, in the guest or on the host: gets it by one of
 * the first three, the last of which is that it is there already. Sends the
 * pattern for so long, or receives it until the other end has no more, and ends
 * with status 3 when it was another. Of the first bytes each is compared; as
 * that is much work for an emulated processor, it is a sample afterwards, and
 * the time is taken from there on. Prints the number of bytes in all, of bytes
 * in that time, and of seconds until the last had arrived.
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

/* The pattern repeats after so many bytes. */
#define PATTERN 65536

/* Tries to connect, 10 ms apart: the other end may not listen yet. */
#define TRIES 500

/* So many bytes are compared each, and then so many at the begin of a read. */
#define COMPARED (1 << 20)
#define SAMPLE 512

static uint8_t pattern[2 * PATTERN], got[PATTERN];

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static _Noreturn void usage(void)
{
    fputs("usage: stream connect ADDRESS PORT | listen ADDRESS PORT | stdin\n"
          "              send SECONDS | receive\n", stderr);
    exit(2);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

typedef struct Stream {
    uint64_t total, timed;      /* bytes */
    double begin;               /* of what is timed */
    bool good;
} Stream;

static void count(Stream *stream, size_t bytes)
{
    stream->total += bytes;
    if (stream->begin) {
        stream->timed += bytes;
    } else if (stream->total >= COMPARED) {
        stream->begin = now();
    }
}

static void send_for(Stream *stream, int sock, double seconds)
{
    double end = now() + seconds;
    ssize_t done;

    while (now() < end) {
        done = write(sock, pattern + stream->total % PATTERN, PATTERN);
        if (done < 0) {
            die("write");
        }
        count(stream, done);
    }
    shutdown(sock, SHUT_WR);
    /* Its end tells that the other end has everything. */
    if (read(sock, got, 1) < 0) {
        die("read");
    }
}

static void receive(Stream *stream, int sock)
{
    ssize_t done, compared;

    while ((done = read(sock, got, PATTERN)) > 0) {
        compared = stream->begin && done > SAMPLE ? SAMPLE : done;
        if (memcmp(got, pattern + stream->total % PATTERN, compared) != 0) {
            stream->good = false;
        }
        count(stream, done);
    }
    if (done < 0) {
        die("read");
    }
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

/* The connection that the words ask for, behind which *rest are; or ends. */
static int connection(char **words, char ***rest)
{
    struct sockaddr_in end = { .sin_family = AF_INET };

    if (words[0] && strcmp(words[0], "stdin") == 0) {
        *rest = words + 1;
        return STDIN_FILENO;
    }
    if (words[0] && words[1] && words[2] &&
        inet_pton(AF_INET, words[1], &end.sin_addr) == 1) {
        end.sin_port = htons(atoi(words[2]));
        *rest = words + 3;
        if (strcmp(words[0], "connect") == 0) {
            return connect_to(&end);
        }
        if (strcmp(words[0], "listen") == 0) {
            return wait_for(&end);
        }
    }
    usage();
}

int main(int argc, char **argv)
{
    Stream stream = { .good = true };
    char **words;
    size_t i;
    int sock;

    for (i = 0; i < sizeof(pattern); i++) {
        pattern[i] = i % PATTERN * 0x9e3779b1u >> 24;
    }
    sock = connection(argv + 1, &words);
    if (words + 2 == argv + argc && strcmp(words[0], "send") == 0) {
        send_for(&stream, sock, atof(words[1]));
    } else if (words + 1 == argv + argc && strcmp(words[0], "receive") == 0) {
        receive(&stream, sock);
    } else {
        usage();
    }
    printf("%llu %llu %.6f\n", (unsigned long long)stream.total,
           (unsigned long long)stream.timed,
           stream.begin ? now() - stream.begin : 0);
    return stream.good ? 0 : 3;
}
