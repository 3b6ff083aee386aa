// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ioctl INTERFACE REQUEST [value|pointer BYTES]
 *
 * One request to a network interface, as old programs make them. BYTES, in
 * hexadecimal, stand in the struct ifreq behind the name (value), or where it
 * points to (pointer). Prints the error number, 0 for success, and what stands
 * there afterwards.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define DATA_MAX 64

static size_t parse(const char *text, unsigned char *data, size_t max)
{
    size_t len = 0;

    while (len < max && sscanf(text + 2 * len, "%2hhx", &data[len]) == 1) {
        len++;
    }
    return len;
}

int main(int argc, char **argv)
{
    unsigned char data[DATA_MAX] = { 0 };
    size_t i, len = 0;
    struct ifreq ifr;
    int fd, err;

    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: ioctl INTERFACE REQUEST [value|pointer BYTES]\n");
        return 2;
    }

    memset(&ifr, 0, sizeof(ifr));
    strncpy(ifr.ifr_name, argv[1], IFNAMSIZ - 1);
    if (argc == 5) {
        len = parse(argv[4], data, sizeof(data));
        if (strcmp(argv[3], "pointer") == 0) {
            ifr.ifr_data = (char *)data;
        } else {
            len = len < sizeof(ifr.ifr_ifru) ? len : sizeof(ifr.ifr_ifru);
            memcpy(&ifr.ifr_ifru, data, len);
        }
    }

    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) {
        perror("socket");
        return 1;
    }
    err = ioctl(fd, strtoul(argv[2], NULL, 0), &ifr) ? errno : 0;
    if (argc == 5 && strcmp(argv[3], "pointer") != 0) {
        memcpy(data, &ifr.ifr_ifru, len);
    }

    printf("%d ", err);
    for (i = 0; i < len; i++) {
        printf("%02x", data[i]);
    }
    printf("\n");
    return 0;
}
