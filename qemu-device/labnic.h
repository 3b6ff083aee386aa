/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * labnic, an Ethernet controller for the lab: the device's own state and what
 * its files call in each other.
 *
 * spec/labnic.yaml says what the hardware does; include/labnic_hw.h is made
 * from it and names every offset, bit and limit.
 *
 * All of it runs under the big QEMU lock.
 */
#ifndef LABNIC_H
#define LABNIC_H

#include "qemu/bswap.h"
#include "hw/qdev-properties.h"
#include "net/net.h"
#include "labnic_compat.h"
#include "labnic_audit.h"
#include "labnic_fault.h"
#include "labnic_offload.h"
#include "labnic_ring.h"
#include "include/labnic_hw.h"
#include "trace.h"

#define TYPE_LABNIC "labnic"
OBJECT_DECLARE_SIMPLE_TYPE(LabnicState, LABNIC)

/* tx_wait_queue when the backend holds no frame of ours; tx_cut_queue */
#define LABNIC_NO_QUEUE (-1)

/* The frame at the head of a TX ring, when its descriptors were checked */
typedef struct LabnicTxFrame {
    uint32_t descs;
    uint32_t len;
    uint32_t flags;             /* of the first descriptor */
    uint32_t mss;
} LabnicTxFrame;

/* What goes to the wire at once, in tx_frame */
typedef struct LabnicTxOut {
    uint32_t at;
    uint32_t len;
    uint32_t descs;             /* which it ends; zero with segments to come */
    uint32_t segments;          /* to become on the way; zero for one frame */
} LabnicTxOut;

/* How TX doorbells follow each other */
typedef struct LabnicPace {
    int64_t since;              /* on QEMU_CLOCK_VIRTUAL */
    uint32_t from;              /* the head then */
    uint32_t frames;            /* sent since then */
    uint32_t doorbells;         /* since then, until there is a pace */
    uint32_t ahead;             /* of the head the event is; zero for no pace */
} LabnicPace;

typedef struct LabnicTxQueue {
    LabnicRing ring;
    uint32_t reported;          /* TX_CONSUMED as last written to the guest */
    uint32_t event;             /* TX_DOORBELL_EVENT likewise */
    uint32_t event_head;        /* the head when it was written */
    uint32_t whole;             /* window slots before this end in EOP */
    uint32_t segment;           /* of the frame at the head, the next to send */
    LabnicPace pace;

    /* Registers that the hot path does not read */
    uint32_t error;
} LabnicTxQueue;

typedef struct LabnicRxQueue {
    LabnicRing ring;
    uint64_t cmpl_base;
    uint32_t reported;          /* completions that the IRQ decision has seen */

    uint32_t error;
} LabnicRxQueue;

/* The vector of a queue pair, and what its driver waits for */
typedef struct LabnicIrqHold {
    int64_t fired;              /* when it last was, on QEMU_CLOCK_VIRTUAL */
    int64_t due;                /* when it will be, while one of these is */
    bool tx;
    bool rx;
    uint32_t rx_usecs;          /* as the driver wished at the last look */
} LabnicIrqHold;

/* Received segments of a queue pair that wait for others of their flow */
typedef struct LabnicGro {
    uint32_t segments;          /* zero when there are none */
    uint32_t len;
    uint32_t mss;
    uint32_t l3;
    uint32_t l4;
    uint32_t header;            /* bytes before the payload */
    bool ipv6;
    bool finished;              /* the headers are those of all segments */
    int64_t due;                /* on QEMU_CLOCK_VIRTUAL */
    uint8_t *bytes;
} LabnicGro;

typedef enum LabnicGroResult {
    LABNIC_GRO_PASSED,          /* the frame goes to the driver by itself */
    LABNIC_GRO_TAKEN,
    LABNIC_GRO_REFUSED,         /* for want of buffers */
} LabnicGroResult;

struct LabnicState {
    PCIDevice parent_obj;

    MemoryRegion mmio;
    NICState *nic;
    NICConf conf;
    QEMUBH *tx_bh;
    QEMUBH *rx_bh;
    VMChangeStateEntry *vm_state;
    const char *name;           /* for trace events */

    /* Properties */
    uint32_t num_queues;
    uint32_t features;          /* of DEV_FEATURES, what this device has */
    uint32_t speed;             /* Mbit/s */
    bool backpressure;
    int32_t num_vectors;        /* negative: as many as are needed */
    uint32_t regs_size;         /* bytes of BAR REGS that are there */
    bool auditing;
    bool vnet_hdr;              /* hand on what the backend can do */
    bool pacing;                /* one doorbell for lone frames in succession */

    bool vnet;                  /* a vnet header goes before each frame */
    bool vnet_whole;            /* and TCP may come in one frame */
    uint8_t pm_offset;          /* of the power management capability */

    /* Registers */
    uint32_t drv_features;
    uint32_t ctrl;
    uint32_t max_frame;
    uint32_t rx_mode;
    uint64_t mac;
    uint32_t misc_cause;
    uint32_t misc_enable;
    uint32_t queue_errors;
    uint32_t rss_ctrl;
    uint8_t rss_key[LABNIC_RSS_KEY_SIZE];
    uint8_t rss_table[LABNIC_RSS_TABLE_SIZE];
    uint64_t slot[LABNIC_ADDR_SLOTS];       /* as written */
    uint64_t slot_used[LABNIC_ADDR_SLOTS];  /* as in force */
    uint64_t status_base[LABNIC_MAX_QUEUES];
    LabnicTxQueue tx[LABNIC_MAX_QUEUES];
    LabnicRxQueue rx[LABNIC_MAX_QUEUES];
    uint64_t counters[LABNIC_N_COUNTERS];
    bool link_up;

    LabnicIrqHold irq_hold[LABNIC_MAX_QUEUES];
    QEMUTimer irq_clock;        /* for the first that is due */

    QEMUTimer pace_clock;       /* runs while a TX queue has a pace */

    LabnicGro gro[LABNIC_MAX_QUEUES];
    uint32_t gro_stuck;         /* bit per queue pair: they found no buffers */
    bool gro_flushing;
    LabnicTso gro_tso;          /* of what is flushed */

    /* Of the slots in force the valid addresses, packed for the search */
    uint64_t filter[LABNIC_ADDR_SLOTS];
    uint32_t filter_len;

    /*
     * Set while the device works, so that its own DMA or MSI write into its
     * own BAR is refused instead of entering it a second time.
     */
    bool busy;

    /*
     * All queue pairs share one backend. While that holds a frame of ours no
     * queue sends; the frame stays in its ring until the backend says how it
     * ended, so that a purged frame is sent again.
     */
    int tx_wait_queue;
    LabnicTxOut tx_wait;
    uint32_t tx_kick;           /* bit per queue that the BH looks after */
    uint8_t tx_buf[LABNIC_VNET_LEN + LABNIC_TSO_MAX];
    uint8_t *tx_frame;          /* in tx_buf, behind room for a vnet header */
    LabnicVnet tx_vnet;

    /*
     * The queue whose frame at the head is in tx_frame, not all segments of it
     * sent yet, so that it need not be copied again for the others.
     */
    int tx_cut_queue;
    LabnicTso tso;

    /* Of frames that came unfinished: one's bytes, another's segments */
    uint8_t rx_bytes[LABNIC_FRAME_MAX];
    LabnicTso rx_tso;

    bool rx_held;               /* the backend holds frames for us */
    bool rx_flushing;           /* a burst: interrupts wait for its end */

    LabnicFaults faults;
    LabnicAudit *audit;         /* NULL when it is off */
};

/* labnic.c */
bool labnic_enter(LabnicState *s);
static inline void labnic_leave(LabnicState *s)
{
    s->busy = false;
}
void labnic_soft_reset(LabnicState *s);
unsigned labnic_vectors(const LabnicState *s);
void labnic_mac_changed(LabnicState *s);

static inline bool labnic_enabled(const LabnicState *s)
{
    return s->ctrl & LABNIC_CTRL_ENABLE;
}

/* Whether the device hangs or is gone: it does nothing by itself then */
static inline bool labnic_dead(const LabnicState *s)
{
    return unlikely(s->faults.hung || s->faults.gone);
}

/* The fault of this kind that strikes an event of this queue, or NULL */
static inline LabnicFault *labnic_fault(LabnicState *s,
                                        enum labnic_fault_kind kind, int queue)
{
    if (likely(!(s->faults.kinds & 1u << kind))) {
        return NULL;
    }
    return labnic_fault_strike(s, kind, queue);
}

/* A field, named by its mask, of a register or descriptor */
static inline uint32_t labnic_field(uint32_t value, uint32_t mask)
{
    return (value & mask) >> ctz32(mask);
}

/* An address as it is on the wire and as it is in a register */
static inline uint64_t labnic_addr_from_wire(const uint8_t *addr)
{
    return lduw_le_p(addr) | (uint64_t)(uint32_t)ldl_le_p(addr + 2) << 16;
}

static inline void labnic_addr_to_wire(uint8_t *addr, uint64_t reg)
{
    stw_le_p(addr, reg);
    stl_le_p(addr + 2, reg >> 16);
}

/* labnic_mmio.c */
extern const MemoryRegionOps labnic_mmio_ops;

/* labnic_tx.c */
void labnic_tx_set_enable(LabnicState *s, unsigned qi, bool enable);
void labnic_tx_doorbell(LabnicState *s, unsigned qi, uint32_t published);
void labnic_tx_kick(LabnicState *s, uint32_t queues);
void labnic_tx_kick_all(LabnicState *s);
void labnic_tx_report_again(LabnicState *s);
void labnic_tx_stop(LabnicState *s, unsigned qi);
void labnic_tx_purge(LabnicState *s);
void labnic_tx_bh(void *opaque);

/* labnic_tx_frame.c */
uint32_t labnic_tx_parse(const LabnicState *s, LabnicTxQueue *q,
                         LabnicTxFrame *frame);
uint32_t labnic_tx_prepare(LabnicState *s, unsigned qi,
                           const LabnicTxFrame *frame);

/* labnic_pace.c */
void labnic_pace_doorbell(LabnicState *s, unsigned qi);
void labnic_pace_end(LabnicTxQueue *q);
void labnic_pace_init(LabnicState *s);
void labnic_pace_exit(LabnicState *s);

/* labnic_rx.c */
void labnic_rx_set_enable(LabnicState *s, unsigned qi, bool enable);
void labnic_rx_stop(LabnicState *s, unsigned qi);
void labnic_rx_doorbell(LabnicState *s, unsigned qi, uint32_t published);
void labnic_rx_resume(LabnicState *s);
void labnic_rx_bh(void *opaque);
ssize_t labnic_rx_receive(NetClientState *nc, const uint8_t *buf, size_t size);
bool labnic_rx_frame(LabnicState *s, const uint8_t *buf, size_t size,
                     const LabnicTso *whole);
void labnic_rx_drop(LabnicState *s, size_t size, enum labnic_counter why,
                    const char *reason);

/* labnic_gro.c */
LabnicGroResult labnic_gro_receive(LabnicState *s, unsigned qi,
                                   const uint8_t *bytes, size_t len,
                                   const LabnicPacket *p, bool good);
bool labnic_gro_flush(LabnicState *s, unsigned qi);
void labnic_gro_forget(LabnicState *s, unsigned qi);
void labnic_gro_drop(LabnicState *s, unsigned qi, enum labnic_counter why);
void labnic_gro_flush_all(LabnicState *s);
void labnic_gro_end(LabnicState *s);
void labnic_gro_retry(LabnicState *s);
void labnic_gro_exit(LabnicState *s);

/* labnic_vnet.c */
void labnic_vnet_init(LabnicState *s);
void labnic_vnet_update(LabnicState *s);
bool labnic_vnet_receive(LabnicState *s, const uint8_t *buf, size_t size);
bool labnic_vnet_cut(LabnicState *s, const uint8_t *bytes, size_t size,
                     const LabnicTso *tso);

/* labnic_filter.c */
bool labnic_filter_wants(const LabnicState *s, const uint8_t *frame);
void labnic_filter_rebuild(LabnicState *s);
unsigned labnic_rss_steer(const LabnicState *s, const uint8_t *frame,
                          size_t size, const LabnicPacket *p, uint32_t *hash,
                          uint32_t *type);

/* labnic_irq.c */
void labnic_irq_send(LabnicState *s, unsigned vector);
void labnic_irq_misc(LabnicState *s, uint32_t cause);
void labnic_irq_misc_set_enable(LabnicState *s, uint32_t enable);
void labnic_irq_event(LabnicState *s, bool tx, unsigned qi, uint32_t before,
                      uint32_t after);
void labnic_irq_wake_at(LabnicState *s, int64_t due);
void labnic_irq_resume(LabnicState *s);
void labnic_irq_forget(LabnicState *s, bool tx, unsigned qi);
void labnic_irq_init(LabnicState *s);
void labnic_irq_exit(LabnicState *s);
void labnic_queue_error(LabnicState *s, bool tx, unsigned qi, uint32_t error);

/* labnic_link.c */
uint32_t labnic_link_reg(const LabnicState *s);
void labnic_link_update(LabnicState *s);
void labnic_link_changed(NetClientState *nc);

/* labnic_stats.c */
static inline void labnic_count(LabnicState *s, enum labnic_counter counter)
{
    s->counters[counter]++;
}
void labnic_count_frames(LabnicState *s, enum labnic_counter frames,
                         const uint8_t *frame, uint32_t n, uint64_t bytes);
uint32_t labnic_counter_reg(const LabnicState *s, uint32_t offset);

/* labnic_vmstate.c */
extern const VMStateDescription labnic_vmstate;

/*
 * DMA. False when guest memory did not take or give the bytes; traced and
 * counted here.
 */
bool labnic_dma_read(LabnicState *s, uint64_t addr, void *buf, size_t len);
bool labnic_dma_write(LabnicState *s, uint64_t addr, const void *buf,
                      size_t len);

/* Address of a word of the status block of queue pair qi */
#define LABNIC_STATUS_ADDR(s, qi, word) \
    ((s)->status_base[qi] + offsetof(struct labnic_status_block, word))

/*
 * What the audit wants to know. A ring is named by its direction and queue.
 * Its entries are looked at when there may be new ones, and are consumed
 * before the driver can know of it.
 */
static inline void labnic_audit_look(LabnicState *s, bool tx, unsigned qi)
{
    if (s->audit) {
        labnic_audit_look_slow(s, tx, qi);
    }
}

static inline void labnic_audit_consume(LabnicState *s, bool tx, unsigned qi,
                                        uint32_t n)
{
    if (s->audit) {
        labnic_audit_consume_slow(s, tx, qi, n);
    }
}

static inline void labnic_audit_start(LabnicState *s, bool tx, unsigned qi)
{
    if (s->audit) {
        labnic_audit_start_slow(s, tx, qi);
    }
}

static inline void labnic_audit_stop(LabnicState *s, bool tx, unsigned qi)
{
    if (s->audit) {
        labnic_audit_stop_slow(s, tx, qi);
    }
}

static inline void labnic_audit_doorbell(LabnicState *s, bool tx, unsigned qi,
                                         uint32_t published)
{
    if (s->audit) {
        labnic_audit_doorbell_slow(s, tx, qi, published);
    }
}

/* The device has done what the driver could not foresee */
static inline void labnic_audit_excuse(LabnicState *s, bool tx, unsigned qi)
{
    if (s->audit) {
        labnic_audit_excuse_slow(s, tx, qi);
    }
}

#endif
