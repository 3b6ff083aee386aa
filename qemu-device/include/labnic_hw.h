/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers and structures in memory of the labnic network controller.
 *
 * Generated from qemu-device/spec/labnic.yaml by 'make gen'; do not edit.
 *
 * Shared by the device and the driver. LABNIC_REG_* are byte offsets in BAR
 * REGS; a 64-bit register is two of 32 bits, the low half first. A field's
 * name is its mask. LABNIC_INIT_* are reset values, LABNIC_RW_* the bits that
 * keep what is written, LABNIC_W1C_* those that a one clears, LABNIC_W1S_*
 * those where a one starts something.
 */

#ifndef LABNIC_HW_H
#define LABNIC_HW_H

#include <linux/types.h>

/* Identity: PCI configuration space, and the version of this map. */
#define LABNIC_VENDOR_ID 0x1af4
#define LABNIC_DEVICE_ID 0x10f0
#define LABNIC_REVISION  0x1
#define LABNIC_PCI_CLASS 0x0200
#define LABNIC_MAP_MAJOR 1
#define LABNIC_MAP_MINOR 0

/* The registers and the doorbell page described here. */
#define LABNIC_BAR_REGS      0
#define LABNIC_BAR_REGS_SIZE 0x10000

/* The MSI-X table and pending bits. */
#define LABNIC_BAR_MSIX      4
#define LABNIC_BAR_MSIX_SIZE 0x1000

/* Queue pairs that the map has room for; LIMITS.QUEUES tells how many exist. */
#define LABNIC_MAX_QUEUES 16

/* Queue pairs of a device with default properties. */
#define LABNIC_DEFAULT_QUEUES 8

/* MSI-X vector of everything that is not a queue pair. */
#define LABNIC_VECTOR_MISC 0

/*
 * MSI-X vector of queue pair 0; queue pair n has the vector n places further.
 */
#define LABNIC_VECTOR_QUEUE0 1

/* Fewest entries of a ring; sizes are powers of two. */
#define LABNIC_RING_MIN 64

/* Most entries of a ring. */
#define LABNIC_RING_MAX 4096

/* Alignment in bytes of the address of a ring. */
#define LABNIC_RING_ALIGN 64

/* Alignment in bytes of a queue pair's status block. */
#define LABNIC_STATUS_BLOCK_ALIGN 128

/* Most descriptors of one frame. */
#define LABNIC_TX_FRAGS_MAX 48

/* Shortest receive buffer in bytes. */
#define LABNIC_RX_BUF_MIN 256

/* Shortest frame in bytes, the Ethernet header; nothing is padded. */
#define LABNIC_FRAME_MIN 14

/* Longest frame in bytes: 9000 of payload, the header and one VLAN tag. */
#define LABNIC_FRAME_MAX 9018

/*
 * Longest frame to be cut into segments; each of these is FRAME_MAX bytes long
 * at most.
 */
#define LABNIC_TSO_MAX 65535

/* Entries of the address filter. */
#define LABNIC_ADDR_SLOTS 128

/* Bytes of the RSS hash key. */
#define LABNIC_RSS_KEY_SIZE 40

/* Entries of the RSS indirection table. */
#define LABNIC_RSS_TABLE_SIZE 128

/* Bits of DEV_FEATURES and DRV_FEATURES. */

/* Received frames are spread over the queue pairs by a Toeplitz hash. */
#define LABNIC_FEATURE_RSS 0x1
/* A checksum is filled into a frame that is sent. */
#define LABNIC_FEATURE_TX_CSUM 0x2
/* The checksums of a received frame are verified. */
#define LABNIC_FEATURE_RX_CSUM 0x4
/* A frame is cut into TCP segments. */
#define LABNIC_FEATURE_TSO 0x8
/* Interrupts of queue pairs are held back as the status block says. */
#define LABNIC_FEATURE_MODERATION 0x10
/* Received TCP segments of one flow are given to the driver as one frame. */
#define LABNIC_FEATURE_RX_GRO 0x20

/* Why a queue stopped. */
enum labnic_err {
	/* The queue has not failed. */
	LABNIC_ERR_NONE = 0,
	/* The ring size is not a power of two between RING_MIN and RING_MAX. */
	LABNIC_ERR_RING_SIZE = 1,
	/* The address of a ring or status block is zero or misaligned. */
	LABNIC_ERR_RING_ADDR = 2,
	/* Guest memory could not be read. */
	LABNIC_ERR_DMA_READ = 3,
	/* Guest memory could not be written. */
	LABNIC_ERR_DMA_WRITE = 4,
	/* A descriptor has a reserved bit set. */
	LABNIC_ERR_DESC_RESERVED = 5,
	/* A transmit descriptor has length zero. */
	LABNIC_ERR_DESC_LEN = 6,
	/* A transmitted frame is shorter than FRAME_MIN. */
	LABNIC_ERR_FRAME_SHORT = 7,
	/* A transmitted frame is longer than FRAME_MAX. */
	LABNIC_ERR_FRAME_LONG = 8,
	/* A transmitted frame has more than TX_FRAGS_MAX descriptors. */
	LABNIC_ERR_FRAGS = 9,
	/* A frame begins but its last descriptor is not there. */
	LABNIC_ERR_INCOMPLETE = 10,
	/* A doorbell announces more entries than the ring has. */
	LABNIC_ERR_DOORBELL = 11,
	/* A receive buffer is shorter than RX_BUF_MIN. */
	LABNIC_ERR_BUF_LEN = 12,
	/*
	 * A transmit descriptor has fields of an offload that is not in
	 * DRV_FEATURES, that it does not ask for, or after the first of its
	 * frame.
	 */
	LABNIC_ERR_OFFLOAD = 13,
	/* The checksum to fill in is not within the frame. */
	LABNIC_ERR_CSUM_PLACE = 14,
	/*
	 * A frame to be cut into segments does not begin with whole headers of
	 * Ethernet, IP and TCP, is a fragment, or has its TCP header or
	 * checksum elsewhere than the descriptor says.
	 */
	LABNIC_ERR_TSO_HEADER = 15,
	/*
	 * The MSS is zero, or a segment of it would be longer than FRAME_MAX.
	 */
	LABNIC_ERR_TSO_MSS = 16,
	/* No value is this or more. */
	LABNIC_ERR__END = 17,
};

/* What the RSS hash of a received frame was taken over. */
enum labnic_hash {
	/* No hash; the frame is not IP or RSS is off. */
	LABNIC_HASH_NONE = 0,
	/* IPv4 source and destination address. */
	LABNIC_HASH_IPV4 = 1,
	/* IPv4 addresses, TCP ports. */
	LABNIC_HASH_TCPV4 = 2,
	/* IPv4 addresses, UDP ports. */
	LABNIC_HASH_UDPV4 = 3,
	/* IPv6 source and destination address. */
	LABNIC_HASH_IPV6 = 4,
	/* IPv6 addresses, TCP ports. */
	LABNIC_HASH_TCPV6 = 5,
	/* IPv6 addresses, UDP ports. */
	LABNIC_HASH_UDPV6 = 6,
	/* No value is this or more. */
	LABNIC_HASH__END = 7,
};

/* What is done to a frame before it is sent. */
enum labnic_offload {
	/* It is sent as it is. */
	LABNIC_OFFLOAD_NONE = 0,
	/*
	 * The Internet checksum of the bytes from CSUM_START to the end of the
	 * frame is written to the two bytes CSUM_OFFSET after that; what these
	 * held is part of the sum: that of a pseudo header. A result of zero is
	 * written as all ones.
	 */
	LABNIC_OFFLOAD_CSUM = 1,
	/*
	 * The frame is TCP over IPv4 or IPv6, up to TSO_MAX bytes long, its TCP
	 * header at CSUM_START. Its payload is sent in segments of MSS bytes,
	 * the last with what is left. Each has the frame's headers with its own
	 * lengths and checksums, and a sequence number that goes on; the IPv4
	 * identification counts up by one; FIN and PSH are in the last alone,
	 * CWR in the first alone. The frame's TCP checksum is the sum of the
	 * pseudo header for all of its payload.
	 */
	LABNIC_OFFLOAD_TSO = 2,
	/* No value is this or more. */
	LABNIC_OFFLOAD__END = 3,
};

/* What is known of the checksums of a received frame. */
enum labnic_verdict {
	/*
	 * Nothing: RX_CSUM is off, the frame is not TCP or UDP directly over
	 * IP, is a fragment, is cut off, or has no checksum.
	 */
	LABNIC_VERDICT_NONE = 0,
	/*
	 * The checksum of TCP or UDP is right, and so is that of the IPv4
	 * header.
	 */
	LABNIC_VERDICT_GOOD = 1,
	/* One of them is wrong. */
	LABNIC_VERDICT_BAD = 2,
	/* No value is this or more. */
	LABNIC_VERDICT__END = 3,
};

/* Block GLOBAL: What concerns the whole device. */
#define LABNIC_BLOCK_GLOBAL_BASE 0x0000
#define LABNIC_BLOCK_GLOBAL_SIZE 0x1000
#define LABNIC_BLOCK_GLOBAL_USED 0x180

/*
 * ID (ro): The letters LABN, so that a driver knows that it talks to this
 * device.
 */
#define LABNIC_REG_ID  0x0000
#define LABNIC_INIT_ID 0x4e42414c
#define LABNIC_RW_ID   0x0

/* VERSION (ro): Version of this map; a driver refuses another major version. */
#define LABNIC_REG_VERSION  0x0004
#define LABNIC_INIT_VERSION 0x10000
#define LABNIC_RW_VERSION   0x0
/* Grows with each addition. */
#define LABNIC_VERSION_MINOR 0xffff
/* Grows with each incompatible change. */
#define LABNIC_VERSION_MAJOR 0xffff0000

/*
 * DEV_FEATURES (ro): Features that the device has; each can be taken away by a
 * property of the device.
 */
#define LABNIC_REG_DEV_FEATURES  0x0008
#define LABNIC_INIT_DEV_FEATURES 0x3f
#define LABNIC_RW_DEV_FEATURES   0x0

/*
 * DRV_FEATURES (rw): Features that the driver uses; a bit that the device lacks
 * stays zero.
 */
#define LABNIC_REG_DRV_FEATURES  0x000c
#define LABNIC_INIT_DRV_FEATURES 0x0
#define LABNIC_RW_DRV_FEATURES   0x3f
/* Spread received frames over the queue pairs. */
#define LABNIC_DRV_FEATURES_RSS        0x1
/* Take OFFLOAD.CSUM in a TX descriptor. */
#define LABNIC_DRV_FEATURES_TX_CSUM    0x2
/* Verify checksums; without it FLAGS.VERDICT of an RX completion is NONE. */
#define LABNIC_DRV_FEATURES_RX_CSUM    0x4
/* Take OFFLOAD.TSO in a TX descriptor. */
#define LABNIC_DRV_FEATURES_TSO        0x8
/* Look at TX_IRQ_HOLD and RX_IRQ_HOLD of the status blocks. */
#define LABNIC_DRV_FEATURES_MODERATION 0x10
/*
 * Give several TCP segments as one frame; without it COALESCED of an RX
 * completion is zero.
 */
#define LABNIC_DRV_FEATURES_RX_GRO     0x20

/* CTRL (rw): Control of the whole device. */
#define LABNIC_REG_CTRL  0x0010
#define LABNIC_INIT_CTRL 0x0
#define LABNIC_RW_CTRL   0x1
#define LABNIC_W1S_CTRL  0x2
/* While zero the device neither sends nor receives, and drops what arrives. */
#define LABNIC_CTRL_ENABLE 0x1
/*
 * Stops every queue and brings every register to its reset value, but for the
 * counters; done when the write ends.
 */
#define LABNIC_CTRL_RESET  0x2

/* LIMITS (ro): How much of the map this device has. */
#define LABNIC_REG_LIMITS  0x0014
#define LABNIC_INIT_LIMITS 0x908
#define LABNIC_RW_LIMITS   0x0
/* Queue pairs. */
#define LABNIC_LIMITS_QUEUES  0xff
/* MSI-X vectors. */
#define LABNIC_LIMITS_VECTORS 0xff00

/* MAX_FRAME (rw): The longest frame that is received. */
#define LABNIC_REG_MAX_FRAME  0x0018
#define LABNIC_INIT_MAX_FRAME 0x5ee
#define LABNIC_RW_MAX_FRAME   0x3fff
/* In bytes; a value above FRAME_MAX counts as FRAME_MAX. */
#define LABNIC_MAX_FRAME_LEN 0x3fff

/*
 * RX_MODE (rw): What is received besides frames to the device's own address and
 * to the addresses in the filter.
 */
#define LABNIC_REG_RX_MODE  0x001c
#define LABNIC_INIT_RX_MODE 0x0
#define LABNIC_RW_RX_MODE   0x7
/* Every frame. */
#define LABNIC_RX_MODE_PROMISC   0x1
/* Every multicast frame. */
#define LABNIC_RX_MODE_ALLMULTI  0x2
/* Broadcast frames. */
#define LABNIC_RX_MODE_BROADCAST 0x4

/*
 * MAC (rw): The device's own unicast address; after a reset the permanent one.
 */
#define LABNIC_REG_MAC    0x0020
#define LABNIC_REG_MAC_HI 0x0024
#define LABNIC_RW_MAC     0xffffffffffffULL
/* The first byte on the wire is in bits 7 to 0. */
#define LABNIC_MAC_ADDR 0xffffffffffffULL

/* PERM_MAC (ro): The address that the device was made with. */
#define LABNIC_REG_PERM_MAC    0x0028
#define LABNIC_REG_PERM_MAC_HI 0x002c
#define LABNIC_RW_PERM_MAC     0x0ULL
/* The first byte on the wire is in bits 7 to 0. */
#define LABNIC_PERM_MAC_ADDR 0xffffffffffffULL

/* LINK (ro): State of the link. */
#define LABNIC_REG_LINK 0x0030
#define LABNIC_RW_LINK  0x0
/* There is a carrier. */
#define LABNIC_LINK_UP          0x1
/* Both ends may send at once. */
#define LABNIC_LINK_FULL_DUPLEX 0x2
/* In Mbit/s; zero while there is no carrier. */
#define LABNIC_LINK_SPEED       0xffffff00

/*
 * MISC_CAUSE (w1c): Why vector VECTOR_MISC fired; it fires when an enabled bit
 * goes from zero to one.
 */
#define LABNIC_REG_MISC_CAUSE  0x0034
#define LABNIC_INIT_MISC_CAUSE 0x0
#define LABNIC_RW_MISC_CAUSE   0x0
#define LABNIC_W1C_MISC_CAUSE  0x3
/* LINK has changed. */
#define LABNIC_MISC_CAUSE_LINK        0x1
/* A queue has stopped with an error; QUEUE_ERRORS tells which. */
#define LABNIC_MISC_CAUSE_QUEUE_ERROR 0x2

/* MISC_ENABLE (rw): Which causes fire vector VECTOR_MISC. */
#define LABNIC_REG_MISC_ENABLE  0x0038
#define LABNIC_INIT_MISC_ENABLE 0x0
#define LABNIC_RW_MISC_ENABLE   0x3
/* LINK has changed. */
#define LABNIC_MISC_ENABLE_LINK        0x1
/* A queue has stopped with an error. */
#define LABNIC_MISC_ENABLE_QUEUE_ERROR 0x2

/*
 * QUEUE_ERRORS (ro): The queues that have stopped with an error since they were
 * enabled.
 */
#define LABNIC_REG_QUEUE_ERRORS  0x003c
#define LABNIC_INIT_QUEUE_ERRORS 0x0
#define LABNIC_RW_QUEUE_ERRORS   0x0
/* One bit for each TX queue. */
#define LABNIC_QUEUE_ERRORS_TX 0xffff
/* One bit for each RX queue. */
#define LABNIC_QUEUE_ERRORS_RX 0xffff0000

/*
 * RSS_CTRL (rw): What the RSS hash is taken over; frames of other kinds go to
 * queue pair 0.
 */
#define LABNIC_REG_RSS_CTRL  0x0040
#define LABNIC_INIT_RSS_CTRL 0x0
#define LABNIC_RW_RSS_CTRL   0x3f
/* Addresses of IPv4 packets that no other bit covers. */
#define LABNIC_RSS_CTRL_IPV4  0x1
/* Addresses and ports of TCP over IPv4. */
#define LABNIC_RSS_CTRL_TCPV4 0x2
/* Addresses and ports of UDP over IPv4. */
#define LABNIC_RSS_CTRL_UDPV4 0x4
/* Addresses of IPv6 packets that no other bit covers. */
#define LABNIC_RSS_CTRL_IPV6  0x8
/* Addresses and ports of TCP over IPv6. */
#define LABNIC_RSS_CTRL_TCPV6 0x10
/* Addresses and ports of UDP over IPv6. */
#define LABNIC_RSS_CTRL_UDPV6 0x20

/*
 * RSS_KEY (rw): The Toeplitz key, four bytes a register; the first byte of the
 * key is in bits 7 to 0 of the first.
 */
#define LABNIC_REG_RSS_KEY(n) (0x0080 + (n) * 4)
#define LABNIC_INIT_RSS_KEY   0x0
#define LABNIC_RW_RSS_KEY     0xffffffff

/*
 * RSS_TABLE (rw): The indirection table, four entries of 8 bits a register; an
 * entry that names no enabled RX queue counts as 0.
 */
#define LABNIC_REG_RSS_TABLE(n) (0x0100 + (n) * 4)
#define LABNIC_INIT_RSS_TABLE   0x0
#define LABNIC_RW_RSS_TABLE     0xffffffff

/* Block FILTER: The address filter, unicast and multicast alike. */
#define LABNIC_BLOCK_FILTER_BASE 0x1000
#define LABNIC_BLOCK_FILTER_SIZE 0x1000
#define LABNIC_BLOCK_FILTER_USED 0x400

/*
 * ADDR_SLOT (rw): One address that is received; the write of the high half puts
 * the slot in force.
 */
#define LABNIC_REG_ADDR_SLOT(n)    (0x1000 + (n) * 8)
#define LABNIC_REG_ADDR_SLOT_HI(n) (0x1004 + (n) * 8)
#define LABNIC_INIT_ADDR_SLOT      0x0ULL
#define LABNIC_RW_ADDR_SLOT        0x1ffffffffffffULL
/* The first byte on the wire is in bits 7 to 0. */
#define LABNIC_ADDR_SLOT_ADDR  0xffffffffffffULL
/* The slot is used. */
#define LABNIC_ADDR_SLOT_VALID 0x1000000000000ULL

/*
 * Block COUNTERS: Counters of 64 bits, read-only, the low half first; only a
 * reset of the PCI function clears them. To read one without tearing, read the
 * high half, the low half, and the high half again until both agree.
 */
#define LABNIC_BLOCK_COUNTERS_BASE 0x2000
#define LABNIC_BLOCK_COUNTERS_SIZE 0x1000
#define LABNIC_BLOCK_COUNTERS_USED 0xf0

/* Offset of counter n, and of its high half. */
#define LABNIC_REG_COUNTER(n)    (0x2000 + (n) * 8)
#define LABNIC_REG_COUNTER_HI(n) (0x2004 + (n) * 8)

/* The counters. */
enum labnic_counter {
	/* Frames given to the driver. */
	LABNIC_COUNTER_RX_FRAMES,
	/* Bytes of these frames. */
	LABNIC_COUNTER_RX_BYTES,
	/* Multicast frames among them. */
	LABNIC_COUNTER_RX_MULTICAST,
	/* Broadcast frames among them. */
	LABNIC_COUNTER_RX_BROADCAST,
	/* Frames that no filter wanted. */
	LABNIC_COUNTER_RX_FILTERED,
	/* Frames dropped because the ring had no buffer. */
	LABNIC_COUNTER_RX_NO_BUFFER,
	/* Frames longer than MAX_FRAME. */
	LABNIC_COUNTER_RX_TOO_LONG,
	/* Frames shorter than FRAME_MIN. */
	LABNIC_COUNTER_RX_TOO_SHORT,
	/* Frames that came while the device or the queue was disabled. */
	LABNIC_COUNTER_RX_DISABLED,
	/* Frames lost because guest memory could not be read or written. */
	LABNIC_COUNTER_RX_DMA_ERRORS,
	/* Frames sent to the link. */
	LABNIC_COUNTER_TX_FRAMES,
	/* Bytes of these frames. */
	LABNIC_COUNTER_TX_BYTES,
	/* Multicast frames among them. */
	LABNIC_COUNTER_TX_MULTICAST,
	/* Broadcast frames among them. */
	LABNIC_COUNTER_TX_BROADCAST,
	/* Frames dropped because there was no carrier. */
	LABNIC_COUNTER_TX_NO_LINK,
	/* Times that a queue stopped with an error. */
	LABNIC_COUNTER_QUEUE_ERRORS,
	/* Times that the carrier came or went. */
	LABNIC_COUNTER_LINK_CHANGES,
	/* Interrupts of queue vectors. */
	LABNIC_COUNTER_IRQ_QUEUE,
	/* Interrupts of vector VECTOR_MISC. */
	LABNIC_COUNTER_IRQ_MISC,
	/* Writes of a TX doorbell. */
	LABNIC_COUNTER_TX_DOORBELLS,
	/* Writes of an RX doorbell. */
	LABNIC_COUNTER_RX_DOORBELLS,
	/* Reads of any register. */
	LABNIC_COUNTER_MMIO_READS,
	/* Writes of any register, doorbells included. */
	LABNIC_COUNTER_MMIO_WRITES,
	/* Reads of guest memory. */
	LABNIC_COUNTER_DMA_READS,
	/* Writes of guest memory. */
	LABNIC_COUNTER_DMA_WRITES,
	/* Frames into which a checksum was filled. */
	LABNIC_COUNTER_TX_CSUM,
	/*
	 * Frames that were cut into segments, each of which counts in
	 * tx_frames.
	 */
	LABNIC_COUNTER_TX_TSO,
	/* Frames given to the driver with VERDICT GOOD. */
	LABNIC_COUNTER_RX_CSUM_GOOD,
	/* Frames given to the driver with VERDICT BAD. */
	LABNIC_COUNTER_RX_CSUM_BAD,
	/*
	 * Frames given to the driver that are several segments, each of which
	 * counts in rx_frames.
	 */
	LABNIC_COUNTER_RX_GRO,
	/* How many there are. */
	LABNIC_N_COUNTERS,
};

/* Calls X(name) for every counter, in the order of the numbers above. */
#define LABNIC_COUNTERS(X) \
	X(rx_frames) \
	X(rx_bytes) \
	X(rx_multicast) \
	X(rx_broadcast) \
	X(rx_filtered) \
	X(rx_no_buffer) \
	X(rx_too_long) \
	X(rx_too_short) \
	X(rx_disabled) \
	X(rx_dma_errors) \
	X(tx_frames) \
	X(tx_bytes) \
	X(tx_multicast) \
	X(tx_broadcast) \
	X(tx_no_link) \
	X(queue_errors) \
	X(link_changes) \
	X(irq_queue) \
	X(irq_misc) \
	X(tx_doorbells) \
	X(rx_doorbells) \
	X(mmio_reads) \
	X(mmio_writes) \
	X(dma_reads) \
	X(dma_writes) \
	X(tx_csum) \
	X(tx_tso) \
	X(rx_csum_good) \
	X(rx_csum_bad) \
	X(rx_gro)

/*
 * Block QUEUE: One queue pair. Addresses and sizes take effect when the queue
 * is enabled, and are not to be written while it is.
 */
#define LABNIC_BLOCK_QUEUE_BASE   0x4000
#define LABNIC_BLOCK_QUEUE_SIZE   0x1000
#define LABNIC_BLOCK_QUEUE_STRIDE 0x100
#define LABNIC_BLOCK_QUEUE_COUNT  16
#define LABNIC_BLOCK_QUEUE_USED   0x48

/* TX_BASE (rw): Address of the TX descriptor ring; a multiple of RING_ALIGN. */
#define LABNIC_REG_TX_BASE(q)    (0x4000 + (q) * 0x100)
#define LABNIC_REG_TX_BASE_HI(q) (0x4004 + (q) * 0x100)
#define LABNIC_INIT_TX_BASE      0x0ULL
#define LABNIC_RW_TX_BASE        0xffffffffffffffffULL

/* TX_SIZE (rw): Size of the TX ring. */
#define LABNIC_REG_TX_SIZE(q) (0x4008 + (q) * 0x100)
#define LABNIC_INIT_TX_SIZE   0x0
#define LABNIC_RW_TX_SIZE     0xffff
/* A power of two from RING_MIN to RING_MAX. */
#define LABNIC_TX_SIZE_ENTRIES 0xffff

/* TX_CTRL (rw): Control of the TX queue. */
#define LABNIC_REG_TX_CTRL(q) (0x400c + (q) * 0x100)
#define LABNIC_INIT_TX_CTRL   0x0
#define LABNIC_RW_TX_CTRL     0x1
/*
 * Going to one starts the queue at index 0 and phase 1, or fails with an error
 * and stays zero; going to zero ends all its DMA before the write ends.
 */
#define LABNIC_TX_CTRL_ENABLE 0x1

/* TX_STATUS (ro): State of the TX queue. */
#define LABNIC_REG_TX_STATUS(q) (0x4010 + (q) * 0x100)
#define LABNIC_INIT_TX_STATUS   0x0
#define LABNIC_RW_TX_STATUS     0x0
/* Why the queue stopped, an ERR value; the next enabling clears it. */
#define LABNIC_TX_STATUS_ERROR 0xff

/* TX_HEAD (ro): Descriptors consumed since the queue was enabled. */
#define LABNIC_REG_TX_HEAD(q) (0x4014 + (q) * 0x100)
#define LABNIC_INIT_TX_HEAD   0x0
#define LABNIC_RW_TX_HEAD     0x0

/* RX_BUF_BASE (rw): Address of the RX buffer ring; a multiple of RING_ALIGN. */
#define LABNIC_REG_RX_BUF_BASE(q)    (0x4020 + (q) * 0x100)
#define LABNIC_REG_RX_BUF_BASE_HI(q) (0x4024 + (q) * 0x100)
#define LABNIC_INIT_RX_BUF_BASE      0x0ULL
#define LABNIC_RW_RX_BUF_BASE        0xffffffffffffffffULL

/*
 * RX_CMPL_BASE (rw): Address of the RX completion ring; a multiple of
 * RING_ALIGN.
 */
#define LABNIC_REG_RX_CMPL_BASE(q)    (0x4028 + (q) * 0x100)
#define LABNIC_REG_RX_CMPL_BASE_HI(q) (0x402c + (q) * 0x100)
#define LABNIC_INIT_RX_CMPL_BASE      0x0ULL
#define LABNIC_RW_RX_CMPL_BASE        0xffffffffffffffffULL

/* RX_SIZE (rw): Size of the RX buffer ring and of the RX completion ring. */
#define LABNIC_REG_RX_SIZE(q) (0x4030 + (q) * 0x100)
#define LABNIC_INIT_RX_SIZE   0x0
#define LABNIC_RW_RX_SIZE     0xffff
/* A power of two from RING_MIN to RING_MAX. */
#define LABNIC_RX_SIZE_ENTRIES 0xffff

/* RX_CTRL (rw): Control of the RX queue. */
#define LABNIC_REG_RX_CTRL(q) (0x4034 + (q) * 0x100)
#define LABNIC_INIT_RX_CTRL   0x0
#define LABNIC_RW_RX_CTRL     0x1
/*
 * Going to one starts both rings at index 0 and phase 1, or fails with an error
 * and stays zero; going to zero ends all their DMA before the write ends.
 */
#define LABNIC_RX_CTRL_ENABLE 0x1

/* RX_STATUS (ro): State of the RX queue. */
#define LABNIC_REG_RX_STATUS(q) (0x4038 + (q) * 0x100)
#define LABNIC_INIT_RX_STATUS   0x0
#define LABNIC_RW_RX_STATUS     0x0
/* Why the queue stopped, an ERR value; the next enabling clears it. */
#define LABNIC_RX_STATUS_ERROR 0xff

/* RX_HEAD (ro): Buffers consumed since the queue was enabled. */
#define LABNIC_REG_RX_HEAD(q) (0x403c + (q) * 0x100)
#define LABNIC_INIT_RX_HEAD   0x0
#define LABNIC_RW_RX_HEAD     0x0

/*
 * STATUS_BASE (rw): Address of the status block of the queue pair; a multiple
 * of STATUS_BLOCK_ALIGN. Both queues need it.
 */
#define LABNIC_REG_STATUS_BASE(q)    (0x4040 + (q) * 0x100)
#define LABNIC_REG_STATUS_BASE_HI(q) (0x4044 + (q) * 0x100)
#define LABNIC_INIT_STATUS_BASE      0x0ULL
#define LABNIC_RW_STATUS_BASE        0xffffffffffffffffULL

/*
 * Block DOORBELL: A page of its own, so that a doorbell can become an eventfd;
 * what is written is a hint that is checked, not trusted.
 */
#define LABNIC_BLOCK_DOORBELL_BASE   0x8000
#define LABNIC_BLOCK_DOORBELL_SIZE   0x1000
#define LABNIC_BLOCK_DOORBELL_STRIDE 0x8
#define LABNIC_BLOCK_DOORBELL_COUNT  16
#define LABNIC_BLOCK_DOORBELL_USED   0x8

/* TX_DOORBELL (wo): TX descriptors published since the queue was enabled. */
#define LABNIC_REG_TX_DOORBELL(q) (0x8000 + (q) * 0x8)
#define LABNIC_INIT_TX_DOORBELL   0x0
#define LABNIC_RW_TX_DOORBELL     0x0

/* RX_DOORBELL (wo): RX buffers published since the queue was enabled. */
#define LABNIC_REG_RX_DOORBELL(q) (0x8004 + (q) * 0x8)
#define LABNIC_INIT_RX_DOORBELL   0x0
#define LABNIC_RW_RX_DOORBELL     0x0

/*
 * One piece of a frame to send. The driver writes the first descriptor's word
 * with the phase bit last, so that a frame is there whole or not at all. The
 * fields of an offload are those of the first descriptor; in the others, and
 * where none is asked for, they are zero.
 */
struct labnic_tx_desc {
	/* Address of the bytes, low half. */
	__le32 addr_lo;
	/* Address of the bytes, high half. */
	__le32 addr_hi;
	/* How much there is. */
	__le32 len;
	/* Kind and ownership. */
	__le32 flags;
};

#define LABNIC_TX_DESC_SIZE 16

/* Word len of struct labnic_tx_desc. */

/* Bytes at the address. */
#define LABNIC_TX_DESC_LEN_BYTES 0xffff
/* For OFFLOAD.TSO: bytes of payload of each segment but the last. */
#define LABNIC_TX_DESC_LEN_MSS   0x3fff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_TX_DESC_LEN__ALL  0x3fffffff

/* Word flags of struct labnic_tx_desc. */

/*
 * The descriptor is the device's when this equals the lap: one in the first,
 * and flipped at each wrap.
 */
#define LABNIC_TX_DESC_FLAGS_PHASE       0x1
/* Last descriptor of the frame. */
#define LABNIC_TX_DESC_FLAGS_EOP         0x2
/* An OFFLOAD value. */
#define LABNIC_TX_DESC_FLAGS_OFFLOAD     0xc
/* For OFFLOAD.TSO: each segment has the IPv4 identification of the frame. */
#define LABNIC_TX_DESC_FLAGS_FIXED_ID    0x10
/* Bytes from CSUM_START to the checksum: 16 for TCP, 6 for UDP. */
#define LABNIC_TX_DESC_FLAGS_CSUM_OFFSET 0xff00
/* Bytes of the frame before the first that the checksum covers. */
#define LABNIC_TX_DESC_FLAGS_CSUM_START  0x3fff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_TX_DESC_FLAGS__ALL        0x3fffff1f

/* One buffer for received bytes. */
struct labnic_rx_buf {
	/* Address of the buffer, low half. */
	__le32 addr_lo;
	/* Address of the buffer, high half. */
	__le32 addr_hi;
	/* How much room there is and how the completion names it. */
	__le32 len_id;
	/* Ownership. */
	__le32 flags;
};

#define LABNIC_RX_BUF_SIZE 16

/* Word len_id of struct labnic_rx_buf. */

/* Bytes at the address; RX_BUF_MIN or more. */
#define LABNIC_RX_BUF_LEN_ID_BYTES 0xffff
/* Given back in the completion. */
#define LABNIC_RX_BUF_LEN_ID_ID    0xffff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_RX_BUF_LEN_ID__ALL  0xffffffff

/* Word flags of struct labnic_rx_buf. */

/*
 * The buffer is the device's when this equals the lap: one in the first, and
 * flipped at each wrap.
 */
#define LABNIC_RX_BUF_FLAGS_PHASE 0x1
/* Every bit that is defined; the others are zero. */
#define LABNIC_RX_BUF_FLAGS__ALL  0x1

/*
 * One filled buffer. The device writes the word with the phase bit last. A
 * frame that needs several buffers has one completion for each, and the last
 * has EOP.
 */
struct labnic_rx_cmpl {
	/* RSS hash of the frame; zero when FLAGS.HASH_TYPE is NONE. */
	__le32 hash;
	/*
	 * Zero for a frame as it came. Else the frame is several TCP segments,
	 * up to TSO_MAX bytes long: the headers are those of the first with the
	 * lengths of all, and its TCP checksum is the sum of the pseudo header
	 * for all of the payload. The same in each completion of a frame.
	 */
	__le32 coalesced;
	/* What was filled. */
	__le32 len_id;
	/* Kind and ownership. */
	__le32 flags;
};

#define LABNIC_RX_CMPL_SIZE 16

/* Word coalesced of struct labnic_rx_cmpl. */

/* Bytes of payload of each segment but the last. */
#define LABNIC_RX_CMPL_COALESCED_MSS       0x3fff
/* TCP over IPv6; zero for IPv4. */
#define LABNIC_RX_CMPL_COALESCED_IPV6      0x8000
/* Bytes of the frame before the TCP header. */
#define LABNIC_RX_CMPL_COALESCED_TCP_START 0x3fff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_RX_CMPL_COALESCED__ALL      0x3fffbfff

/* Word len_id of struct labnic_rx_cmpl. */

/* Bytes written to this buffer. */
#define LABNIC_RX_CMPL_LEN_ID_BYTES 0xffff
/* ID of the buffer. */
#define LABNIC_RX_CMPL_LEN_ID_ID    0xffff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_RX_CMPL_LEN_ID__ALL  0xffffffff

/* Word flags of struct labnic_rx_cmpl. */

/*
 * The completion is the driver's when this equals the lap: one in the first,
 * and flipped at each wrap.
 */
#define LABNIC_RX_CMPL_FLAGS_PHASE     0x1
/* Last buffer of the frame. */
#define LABNIC_RX_CMPL_FLAGS_EOP       0x2
/* A HASH value; the same in each completion of a frame. */
#define LABNIC_RX_CMPL_FLAGS_HASH_TYPE 0xf0
/* A VERDICT value; the same in each completion of a frame. */
#define LABNIC_RX_CMPL_FLAGS_VERDICT   0x300
/* Every bit that is defined; the others are zero. */
#define LABNIC_RX_CMPL_FLAGS__ALL      0x3f3

/*
 * What a queue pair's two sides tell each other without a register. Counts run
 * freely through 32 bits; an event is a count, and it is passed when the count
 * at its side goes beyond it: of a step from old to new, when (new - event - 1)
 * < (new - old) in unsigned 32 bits. Each side publishes its event, makes it
 * visible with a full barrier, and looks again for work before it rests. With
 * MODERATION an interrupt that was asked for comes at once when the queue
 * pair's vector has been silent for the time that the driver wrote beside the
 * event. Otherwise it waits until that time is over or the count has gone far
 * enough beyond the event, and does not come at all when the driver has moved
 * the event to the count or beyond by then.
 */
struct labnic_status_block {
	/* Written by the device, once per burst: TX descriptors consumed. */
	__le32 tx_consumed;
	/*
	 * Written by the device: ring the TX doorbell when the count of
	 * published descriptors passes this. While frames come in quick
	 * succession it is ahead of TX_CONSUMED, and the device looks by itself
	 * for those that do not reach it.
	 */
	__le32 tx_doorbell_event;
	/*
	 * Written by the device when it has run out of buffers: ring the RX
	 * doorbell when the count of published buffers passes this.
	 */
	__le32 rx_doorbell_event;
	/* The rest of the line that the device writes. */
	__le32 device_reserved[13];
	/* Written by the driver: interrupt when TX_CONSUMED passes this. */
	__le32 tx_irq_event;
	/*
	 * Written by the driver: interrupt when the count of RX completions
	 * passes this.
	 */
	__le32 rx_irq_event;
	/*
	 * Written by the driver: how the interrupt for TX_IRQ_EVENT is held
	 * back.
	 */
	__le32 tx_irq_hold;
	/*
	 * Written by the driver: how the interrupt for RX_IRQ_EVENT is held
	 * back.
	 */
	__le32 rx_irq_hold;
	/* The rest of the line that the driver writes. */
	__le32 driver_reserved[12];
};

#define LABNIC_STATUS_BLOCK_SIZE 128

/* Word tx_irq_hold of struct labnic_status_block. */

/*
 * Microseconds from the vector's last interrupt, in which it waits; zero for
 * none.
 */
#define LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_USECS 0xffff
/* So far beyond the event it waits no longer; zero for however far. */
#define LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_COUNT 0xffff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_STATUS_BLOCK_TX_IRQ_HOLD__ALL  0xffffffff

/* Word rx_irq_hold of struct labnic_status_block. */

/*
 * Microseconds from the vector's last interrupt, in which it waits; zero for
 * none.
 */
#define LABNIC_STATUS_BLOCK_RX_IRQ_HOLD_USECS 0xffff
/* So far beyond the event it waits no longer; zero for however far. */
#define LABNIC_STATUS_BLOCK_RX_IRQ_HOLD_COUNT 0xffff0000
/* Every bit that is defined; the others are zero. */
#define LABNIC_STATUS_BLOCK_RX_IRQ_HOLD__ALL  0xffffffff

/* Kinds of faults. */
enum labnic_fault_kind {
	/*
	 * Consumed descriptors are not reported: TX_CONSUMED stays as it is and
	 * no interrupt comes, but frames are sent. The first report after the
	 * fault has all of them.
	 */
	LABNIC_FAULT_TX_WITHHOLD,
	/*
	 * A wrong count is written to TX_CONSUMED; the next report has the
	 * right one.
	 */
	LABNIC_FAULT_TX_CONSUMED,
	/* An interrupt does not come. */
	LABNIC_FAULT_IRQ_LOSE,
	/*
	 * An interrupt comes later. One of the same vector that comes while it
	 * waits is merged into it.
	 */
	LABNIC_FAULT_IRQ_DELAY,
	/* An interrupt comes several times. */
	LABNIC_FAULT_IRQ_REPEAT,
	/*
	 * An interrupt comes for no reason. Without queue and misc it is the
	 * misc vector's.
	 */
	LABNIC_FAULT_IRQ_SPURIOUS,
	/*
	 * A received frame finds no buffer, whatever the ring has: it is held,
	 * or dropped by a device without backpressure. A held frame is tried
	 * again at once where the fault has a count, and when the fault is
	 * cleared where it has none.
	 */
	LABNIC_FAULT_RX_STALL,
	/* A completion has a wrong length. */
	LABNIC_FAULT_RX_LENGTH,
	/* A completion names another buffer. */
	LABNIC_FAULT_RX_INDEX,
	/*
	 * A completion has the phase bit of the lap before, so that it seems
	 * not to be there.
	 */
	LABNIC_FAULT_RX_PHASE,
	/* A completion has a wrong verdict on the checksums. */
	LABNIC_FAULT_RX_VERDICT,
	/* A completion has a wrong COALESCED word. */
	LABNIC_FAULT_RX_COALESCED,
	/* A read of guest memory fails. */
	LABNIC_FAULT_DMA_READ,
	/* A write of guest memory fails. */
	LABNIC_FAULT_DMA_WRITE,
	/*
	 * The device stands still: registers keep their values, writes are
	 * ignored, nothing is sent, received, or interrupts. When it is cleared
	 * the device goes on; but when a write other than of a doorbell was
	 * ignored, it comes back as after CTRL.RESET.
	 */
	LABNIC_FAULT_HANG,
	/*
	 * The function is not there: every read of a register, of the MSI-X
	 * table and of configuration space gives all ones, writes are ignored,
	 * and there is neither DMA nor an interrupt. When it is cleared the
	 * function comes back as after a reset of its own.
	 */
	LABNIC_FAULT_GONE,
	/*
	 * The carrier goes, and comes back: each time for as long as value
	 * says.
	 */
	LABNIC_FAULT_LINK_FLAP,
	/* A read of a register gives a wrong value. */
	LABNIC_FAULT_REGISTER,
	/* How many there are. */
	LABNIC_N_FAULTS,
};

/*
 * Calls X(ID, name, takes, value, min, max, default) for every kind, in the
 * order of the numbers above. In takes bit 0 is a queue, bit 1 the misc vector,
 * bit 2 a register; bit 3 says that it has no count. value is 0 where the kind
 * has none, 1 where it has a default, 2 where it must be given.
 */
#define LABNIC_FAULTS(X) \
	X(TX_WITHHOLD, "tx-withhold", 1, 0, 0, 0, 0) \
	X(TX_CONSUMED, "tx-consumed", 1, 2, -2147483648, 2147483647, 0) \
	X(IRQ_LOSE, "irq-lose", 3, 0, 0, 0, 0) \
	X(IRQ_DELAY, "irq-delay", 3, 2, 1, 60000000, 0) \
	X(IRQ_REPEAT, "irq-repeat", 3, 1, 1, 1000, 1) \
	X(IRQ_SPURIOUS, "irq-spurious", 3, 1, 10, 60000000, 1000) \
	X(RX_STALL, "rx-stall", 1, 0, 0, 0, 0) \
	X(RX_LENGTH, "rx-length", 1, 2, 0, 65535, 0) \
	X(RX_INDEX, "rx-index", 1, 1, 1, 65535, 1) \
	X(RX_PHASE, "rx-phase", 1, 0, 0, 0, 0) \
	X(RX_VERDICT, "rx-verdict", 1, 2, 0, 3, 0) \
	X(RX_COALESCED, "rx-coalesced", 1, 2, 0, 4294967295, 0) \
	X(DMA_READ, "dma-read", 0, 0, 0, 0, 0) \
	X(DMA_WRITE, "dma-write", 0, 0, 0, 0, 0) \
	X(HANG, "hang", 8, 0, 0, 0, 0) \
	X(GONE, "gone", 8, 0, 0, 0, 0) \
	X(LINK_FLAP, "link-flap", 0, 2, 1, 60000, 0) \
	X(REGISTER, "register", 4, 2, 0, 4294967295, 0)

/* Rules of the audit. */
enum labnic_audit_rule {
	/* Rings a doorbell that announces more entries than the ring has. */
	LABNIC_AUDIT_DOORBELL_RANGE,
	/* Rings a doorbell for entries that are not published. */
	LABNIC_AUDIT_DOORBELL_EARLY,
	/* Rings the doorbell of a queue that it has not enabled. */
	LABNIC_AUDIT_DOORBELL_STOPPED,
	/* Changes a descriptor or a buffer's entry while it is the device's. */
	LABNIC_AUDIT_DESCRIPTOR_CHANGED,
	/* Posts an RX buffer at an address that is the device's already. */
	LABNIC_AUDIT_BUFFER_TWICE,
	/* Gives the device a ring or a descriptor that it must refuse. */
	LABNIC_AUDIT_BAD_DESCRIPTOR,
	/*
	 * Writes the address or the size of a ring while its queue is enabled.
	 */
	LABNIC_AUDIT_RING_MOVED,
	/*
	 * Writes a register while bus mastering is off, other than a zero or
	 * CTRL.RESET.
	 */
	LABNIC_AUDIT_WRITE_DISABLED,
	/* Reads or writes a register while the function is not in D0. */
	LABNIC_AUDIT_ACCESS_ASLEEP,
	/* Lets the device reach for memory while bus mastering is off. */
	LABNIC_AUDIT_DMA_OFF,
	/* Gives the device an address where there is no memory. */
	LABNIC_AUDIT_DMA_NOWHERE,
	/* Takes bus mastering or D0 away while a queue is enabled. */
	LABNIC_AUDIT_STOP_RUNNING,
	/*
	 * Arms an interrupt again and again for completions that it was shown
	 * before: in the middle of a poll.
	 */
	LABNIC_AUDIT_EVENT_STALE,
	/* How many there are. */
	LABNIC_N_AUDITS,
};

/* Calls X(ID, name) for every rule, in the order of the numbers above. */
#define LABNIC_AUDITS(X) \
	X(DOORBELL_RANGE, "doorbell-range") \
	X(DOORBELL_EARLY, "doorbell-early") \
	X(DOORBELL_STOPPED, "doorbell-stopped") \
	X(DESCRIPTOR_CHANGED, "descriptor-changed") \
	X(BUFFER_TWICE, "buffer-twice") \
	X(BAD_DESCRIPTOR, "bad-descriptor") \
	X(RING_MOVED, "ring-moved") \
	X(WRITE_DISABLED, "write-disabled") \
	X(ACCESS_ASLEEP, "access-asleep") \
	X(DMA_OFF, "dma-off") \
	X(DMA_NOWHERE, "dma-nowhere") \
	X(STOP_RUNNING, "stop-running") \
	X(EVENT_STALE, "event-stale")

#endif /* LABNIC_HW_H */
