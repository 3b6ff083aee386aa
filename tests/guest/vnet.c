// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vnet INTERFACE
 *
 * Sends the frames of standard input through a packet socket, each with what
 * is left to do to it: a struct virtio_net_hdr, the frame's length in four
 * bytes in the order of this machine, the frame. Prints how many went.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX (1 << 17)

static unsigned char message[sizeof(struct virtio_net_hdr) + FRAME_MAX];

static int open_socket(const char *interface)
{
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET,
        .sll_ifindex = (int)if_nametoindex(interface),
    };
    int fd, on = 1;

    fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
        bind(fd, (struct sockaddr *)&where, sizeof(where))) {
        perror(interface);
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    size_t header = sizeof(struct virtio_net_hdr);
    unsigned long sent = 0;
    uint32_t len;
    int fd;

    if (argc != 2) {
        fprintf(stderr, "usage: vnet INTERFACE <FRAMES\n");
        return 2;
    }
    fd = open_socket(argv[1]);
    if (fd < 0) {
        return 1;
    }

    while (fread(message, header, 1, stdin) == 1) {
        if (fread(&len, sizeof(len), 1, stdin) != 1 || len > FRAME_MAX ||
            fread(message + header, len, 1, stdin) != 1) {
            fprintf(stderr, "frame %lu is cut off\n", sent);
            return 1;
        }
        if (send(fd, message, header + len, 0) != (ssize_t)(header + len)) {
            fprintf(stderr, "frame %lu of %u bytes: ", sent, len);
            perror("send");
            return 1;
        }
        sent++;
    }
    printf("%lu\n", sent);
    close(fd);
    return 0;
}
